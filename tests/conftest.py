"""Fixtures for every room: one PostgreSQL per test process, a fresh database per test, and the leak check.

`database` is a pool on a migrated schema of its own database (a copy of a template, about 15 ms). `empty_dsn` is the
same without schema. A test that leaves a task, a thread or a child process behind fails.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from tests.processes import children
from tests.services.older_postgres import OlderPostgres, older_postgres

from roadbed.guard.gate import Guard
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.embedded_roles import APPLICATION_DATABASE, APPLICATION_ROLE
from roadbed.store.migrate import migrate
from roadbed.wire.direct import new_loop

# The same examples each time, so that a change is judged by its own faults; ROADBED_EXPLORE=1 looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, print_blob=True)
hypothesis.settings.load_profile("explore" if os.environ.get("ROADBED_EXPLORE") else "repeatable")

SCHEMA = "roadbed_test"
WORKSPACE_ID = "test"
TEMPLATE = "template_migrated"
# The data of a test outlives no crash of the machine, so nothing is forced to the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# How long what a test has stopped may take to end. It ends in milliseconds where the machine has time for it.
LEAVE_S = float(os.environ.get("ROADBED_LEAVE_S", "20"))
# Names a folder with the programs of another PostgreSQL, which the tests run against then (tests/services).
OTHER_POSTGRES = "ROADBED_TEST_POSTGRES"

# First, so that no process is left alone with one of them at the end.
LONGEST = (
    "tests/e2e/test_office.py",
    "tests/knowledge/test_sync.py",
    "tests/store/test_jobs.py",
    "tests/tools/sql/test_attacks.py",
    "tests/store/test_database.py",
    "tests/e2e/test_rungs.py",
)
SERVICES = re.compile(r"^pytestmark = .*pytest\.mark\.services", re.MULTILINE)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

_numbers = itertools.count(1)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
    """Tests run on the loop that serves; those of the wire also on the one that is used where ours cannot be."""
    both = {"direct": new_loop, "asyncio": asyncio.new_event_loop}
    return both if "wire" in item.path.parts else {"direct": new_loop}


@pytest.fixture(scope="session")
def guard() -> Guard:
    """The real guard, as the manifest leaves it when it says nothing of it."""
    made = Guard.open()
    made.warm_up()
    return made


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres | OlderPostgres]:
    """The embedded server of this test process, with a migrated template database. Do not stop it: make your own."""
    if install := os.environ.get(OTHER_POSTGRES):
        with older_postgres(Path(install), FAST) as other:
            asyncio.run(_prepare(other))
            yield other
        return
    with (
        tempfile.TemporaryDirectory(prefix="roadbed-tests-") as folder,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        server = EmbeddedPostgres(Path(folder) / "state", settings=FAST)
        runner.run(server.start())
        try:
            runner.run(_prepare(server))
            yield server
        finally:
            runner.run(server.stop())


async def _prepare(server: EmbeddedPostgres | OlderPostgres) -> None:
    await _create(server, TEMPLATE, APPLICATION_DATABASE)
    async with await Database.open(_dsn(server, TEMPLATE), SCHEMA) as database:
        await migrate(database, workspace_id=WORKSPACE_ID)


async def _create(server: EmbeddedPostgres | OlderPostgres, name: str, template: str) -> None:
    async with server.superuser("postgres") as connection:
        await connection.execute(
            f'CREATE DATABASE "{name}" OWNER "{APPLICATION_ROLE}" TEMPLATE "{template}" STRATEGY file_copy'
        )


async def _drop(server: EmbeddedPostgres | OlderPostgres, name: str) -> None:
    async with server.superuser("postgres") as connection:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _dsn(server: EmbeddedPostgres | OlderPostgres, name: str) -> str:
    return server.dsn.replace(f"/{APPLICATION_DATABASE}?", f"/{name}?")


@pytest.fixture
async def empty_dsn(postgres: EmbeddedPostgres | OlderPostgres) -> AsyncIterator[str]:
    """The connection string of a fresh database that has pgvector and nothing else."""
    name = f"test_{next(_numbers)}"
    await _create(postgres, name, APPLICATION_DATABASE)
    yield _dsn(postgres, name)
    await _drop(postgres, name)


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres | OlderPostgres) -> AsyncIterator[str]:
    """The connection string of a fresh database whose schema `SCHEMA` is migrated."""
    name = f"test_{next(_numbers)}"
    await _create(postgres, name, TEMPLATE)
    yield _dsn(postgres, name)
    await _drop(postgres, name)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on a fresh, migrated schema."""
    async with await Database.open(dsn, SCHEMA, max_size=5, application_name="test") as opened:
        yield opened


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Each process of a run imports what it collects: no file of which the run takes nothing."""
    wanted = {"services": True, "not services": False}.get(config.option.markexpr)
    if wanted is None or not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text(encoding="utf-8")
    is_left_out = "mark.services" not in text if wanted else SERVICES.search(text) is not None
    return True if is_left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; and the leak checks before the test's other own fixtures, so that they are torn down
    last.
    """
    items.sort(key=_place)
    for item in items:
        if isinstance(item, pytest.Function):
            position = _first_own_fixture(item)
            if inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
                item.fixturenames.insert(position, "no_leaked_tasks")
            item.fixturenames.insert(position, "no_leaked_threads_or_processes")


def _place(item: pytest.Item) -> int:
    path = item.nodeid.partition("::")[0]
    return LONGEST.index(path) if path in LONGEST else len(LONGEST)


def _first_own_fixture(item: pytest.Function) -> int:
    """Where the fixtures of function scope begin; those before are shared, and what they hold is no leak."""
    definitions = item._fixtureinfo.name2fixturedefs
    for position, name in enumerate(item.fixturenames):
        if name not in definitions or definitions[name][-1].scope == "function":
            return position
    return len(item.fixturenames)


@pytest.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fail when a task of the test still runs at its end."""
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if ending := [task for task in left if task.cancelling()]:
        await asyncio.wait(ending, timeout=LEAVE_S)
        left = {task for task in left if not task.done()}
    if left:
        pytest.fail(f"leaked tasks: {', '.join(sorted(task.get_name() for task in left))}")


@pytest.fixture
def no_leaked_threads_or_processes() -> Iterator[None]:
    """Fail when a thread or a child process of the test still lives at its end."""
    threads, before = set(threading.enumerate()), children()
    yield
    left = set(threading.enumerate()) - threads
    for thread in left:
        thread.join(LEAVE_S)
    names = sorted(thread.name for thread in left if thread.is_alive())
    if names:
        pytest.fail(f"leaked threads: {', '.join(names)}")
    until_s = time.monotonic() + LEAVE_S
    while (processes := _other_children(before)) and time.monotonic() < until_s:
        time.sleep(0.01)
    if processes:
        pytest.fail(f"leaked processes: {', '.join(processes)}")


def _other_children(before: Collection[int]) -> list[str]:
    return sorted(name for pid, name in children().items() if pid not in before)
