"""Fixtures for every room: one embedded PostgreSQL per test process, a fresh database per test, and the leak check.

`database` is a pool on a migrated schema of its own database (a copy of a template, about 15 ms). `empty_dsn` is the
same without schema. A test that leaves a task, a thread or a child process behind fails.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest
from tests.processes import children

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
LEAVE_S = 1.0

LONGEST = "tests/e2e/test_office.py"

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
def postgres() -> Iterator[EmbeddedPostgres]:
    """The embedded server of this test process, with a migrated template database. Do not stop it: make your own."""
    with (
        tempfile.TemporaryDirectory(prefix="roadbed-tests-") as folder,
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        server = EmbeddedPostgres(Path(folder) / "state", settings=FAST)
        runner.run(_start(server))
        try:
            yield server
        finally:
            runner.run(server.stop())


async def _start(server: EmbeddedPostgres) -> None:
    await server.start()
    await _create(server, TEMPLATE, APPLICATION_DATABASE)
    async with await Database.open(_dsn(server, TEMPLATE), SCHEMA) as database:
        await migrate(database, workspace_id=WORKSPACE_ID)


async def _create(server: EmbeddedPostgres, name: str, template: str) -> None:
    async with server.superuser("postgres") as connection:
        await connection.execute(
            f'CREATE DATABASE "{name}" OWNER "{APPLICATION_ROLE}" TEMPLATE "{template}" STRATEGY file_copy'
        )


async def _drop(server: EmbeddedPostgres, name: str) -> None:
    async with server.superuser("postgres") as connection:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _dsn(server: EmbeddedPostgres, name: str) -> str:
    return server.dsn.replace(f"/{APPLICATION_DATABASE}?", f"/{name}?")


@pytest.fixture
async def empty_dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The connection string of a fresh database that has pgvector and nothing else."""
    name = f"test_{next(_numbers)}"
    await _create(postgres, name, APPLICATION_DATABASE)
    yield _dsn(postgres, name)
    await _drop(postgres, name)


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no process is left alone with it at the end; and the leak checks before the
    test's other own fixtures, so that they are torn down last.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
    for item in items:
        if isinstance(item, pytest.Function):
            position = _first_own_fixture(item)
            if inspect.iscoroutinefunction(inspect.unwrap(item.obj)):
                item.fixturenames.insert(position, "no_leaked_tasks")
            item.fixturenames.insert(position, "no_leaked_threads_or_processes")


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
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()]
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
    processes = sorted(name for pid, name in children().items() if pid not in before)
    if processes:
        pytest.fail(f"leaked processes: {', '.join(processes)}")
