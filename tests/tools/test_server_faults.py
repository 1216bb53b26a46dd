"""A whole database server stopped, killed or frozen under its tools: typed failures, others served, soon back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest
from tests.stopwatch import Stopwatch

from roadbed.guard.gate import Guard
from roadbed.sources.manifest import SourceConfig
from roadbed.sources.pool import PoolSettings
from roadbed.sources.registry import Sources
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.types import Failed, Ok, Outcome

from .conftest import ID, Box

pytestmark = pytest.mark.services  # whole servers, stopped and killed: too long for `make test`

BACK_S = 5.0
STREET = "SELECT street FROM parcels WHERE id = :id"
FAST = {"fsync": "off", "full_page_writes": "off"}
AWAY = {"sources.unavailable", "sources.deadline_exceeded", "sources.busy", "deadline_exceeded"}


def tool(source: str) -> ToolConfig:
    return ToolConfig(source=source, description="d", sql=STREET, parameters={"id": ID})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(tmp_path / "state", settings=FAST) as running:
        yield running


@pytest.fixture
async def box(tmp_path: Path, guard: Guard, server: EmbeddedPostgres) -> AsyncIterator[Box]:
    """Tools on the server and on a file, with the pools as they are in service."""
    database = await server.create_database("town")
    owner = await asyncpg.connect(database.owner_dsn)
    await owner.execute(
        "CREATE TABLE parcels AS SELECT n AS id, 'Street ' || n AS street FROM generate_series(1, 99) n"
    )
    await owner.close()
    made = Box(tmp_path, guard)
    made.sources = Sources(tmp_path, None, PoolSettings())
    sources: dict[str, SourceConfig] = {
        "db": made.postgres("db", database.reader_dsn),
        "file": made.sqlite("file.sqlite"),
    }
    long = ToolConfig(source="db", description="d", sql="SELECT pg_sleep(30)")
    await made.take(sources, {"street": tool("db"), "beside": tool("file"), "long": long})
    assert isinstance(await made.call("street", id=1), Ok)
    assert isinstance(await made.call("beside", id=1), Ok)
    yield made
    await made.sources.close()


async def away(box: Box, seconds: float) -> None:
    """Calls fail typed and in time, whether they find a dead connection, none, or the breaker."""
    for _ in range(5):
        watch = Stopwatch()
        failed = await box.call("street", seconds=seconds, id=1)
        assert watch.elapsed_s() < seconds + 0.6
        assert isinstance(failed, Failed), failed
        assert (failed.code in AWAY, failed.source, failed.is_retryable) == (True, "db", True), failed
        assert isinstance(await box.call("beside", id=2), Ok)


async def is_back(box: Box) -> None:
    watch = Stopwatch()
    outcome: Outcome | None = None
    while not isinstance(outcome, Ok):
        assert watch.elapsed_s() < BACK_S, outcome
        await asyncio.sleep(0.02)
        outcome = await box.call("street", seconds=1.0, id=1)


async def test_a_server_that_was_stopped_is_back_within_five_seconds(box: Box, server: EmbeddedPostgres) -> None:
    await server.stop()
    await away(box, 1.0)
    state = next(found for found in box.sources.states() if found.name == "db")
    assert not state.is_well
    assert state.pool is not None
    assert state.pool.last_failure
    await server.start()
    await is_back(box)


async def test_a_server_that_is_killed_under_a_call_is_back_within_five_seconds(
    box: Box, server: EmbeddedPostgres
) -> None:
    running = asyncio.create_task(box.call("long", seconds=20))
    while box.sources.states()[0].pool.in_use == 0:  # type: ignore[union-attr]  # noqa: ASYNC110 - it has no event
        await asyncio.sleep(0.01)
    restarts, pid = server.restarts, server.pid
    assert pid is not None
    with frozen(pid):
        processes = family(pid)
        for process in processes:
            os.kill(process, signal.SIGKILL)
    failed = await running
    assert isinstance(failed, Failed)
    assert (failed.code, failed.source) == ("sources.unavailable", "db")
    async with asyncio.timeout(60):
        while server.restarts == restarts:  # noqa: ASYNC110 - its supervisor starts it again
            await asyncio.sleep(0.02)
    await is_back(box)


async def test_a_frozen_server_holds_up_nobody_else_and_is_back_within_five_seconds(
    box: Box, server: EmbeddedPostgres
) -> None:
    assert server.pid is not None
    with frozen(server.pid):
        await away(box, 0.5)
    await is_back(box)


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A server none of whose processes runs meanwhile."""
    stopped = family(pid)
    for process in stopped:
        with suppress(ProcessLookupError):  # a session that ended by itself
            os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
