"""Whether a database that hangs slows other tools: p50 and p99 of a tool on SQLite, alone and beside it.

``python bench/tools/hung.py [--rounds N]``. In process, without HTTP, over a PostgreSQL of its own. `ASKERS` callers
ask a tool of it without pause, each with `ASKED_S`; its table is locked by another session (``lock``), or every process
of the server is stopped (``frozen``). Windows of `WINDOW_S` with and without them follow each other in random order, so
that what else the machine does falls on both alike; ``alone/alone`` compares two halves of the windows without them,
which is how much of a factor is noise. Exit 1 when a factor of the p99 is over 1.1 and over the noise.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
from calls import ONE, ROWS, WHO, make_file

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.ledger.metrics import Metrics
from roadbed.sources.manifest import PostgresSource, SqliteSource
from roadbed.sources.registry import Sources
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.building import build_tools
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Failed, Ok

ASKERS = 64
WINDOW_S = 1.0
SETTLE_S = 0.3
ASKED_S = 2.0
FACTOR_MAX = 1.1
SLOW = ToolConfig(source="away", description="d", sql="SELECT count(*) FROM parcels")


async def window(box: ToolBox) -> list[float]:
    """Wall seconds of the calls of one window, one after the other."""
    taken = []
    until = time.perf_counter() + WINDOW_S
    while (started := time.perf_counter()) < until:
        outcome = await box.call("one", {"id": len(taken) % ROWS + 1}, principal=WHO, deadline=Deadline.after(10))
        taken.append(time.perf_counter() - started)
        assert isinstance(outcome, Ok), outcome
    return taken


@asynccontextmanager
async def askers(box: ToolBox, failures: list[str]) -> AsyncIterator[None]:
    """`ASKERS` callers of the tool whose database hangs."""

    async def ask() -> None:
        await asyncio.sleep(random.uniform(0, ASKED_S))
        while True:
            outcome = await box.call("slow", {}, principal=WHO, deadline=Deadline.after(ASKED_S))
            assert isinstance(outcome, Failed), outcome
            failures.append(outcome.code)
            await asyncio.sleep(random.uniform(0.1, 0.5))

    tasks = [asyncio.create_task(ask()) for _ in range(ASKERS)]
    try:
        await asyncio.sleep(ASKED_S + SETTLE_S)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(SETTLE_S)


@asynccontextmanager
async def locked(owner_dsn: str, _server: EmbeddedPostgres) -> AsyncIterator[None]:
    """The table locked by another session."""
    owner = await asyncpg.connect(owner_dsn)
    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE parcels IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await owner.close()


def family_of(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@asynccontextmanager
async def frozen(_owner_dsn: str, server: EmbeddedPostgres) -> AsyncIterator[None]:
    """No process of the server runs."""
    pid = server.pid
    assert pid is not None
    family = family_of(pid)
    for process in family:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


async def compare(box: ToolBox, hang: Callable[[], Any], rounds: int) -> tuple[list[list[float]], list[list[float]]]:
    """Windows alone and windows beside the database that hangs."""
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    failures: list[str] = []
    for _ in range(rounds):
        for is_hung in random.sample((False, True, False), 3):
            if is_hung:
                async with hang(), askers(box, failures):
                    beside.append(await window(box))
            else:
                alone.append(await window(box))
    assert failures, "the database did not hang"
    return alone, beside


def quantiles(windows: list[list[float]]) -> tuple[float, float]:
    """p50 and p99 over all calls, milliseconds."""
    cuts = statistics.quantiles([taken for window in windows for taken in window], n=100)
    return cuts[49] * 1e3, cuts[98] * 1e3


async def measure(folder: Path, rounds: int) -> bool:
    """Print the figures; whether they hold."""
    make_file(folder / "db.sqlite")
    async with EmbeddedPostgres(folder / "state") as server:
        database = await server.create_database("town")
        owner = await asyncpg.connect(database.owner_dsn)
        await owner.execute("CREATE TABLE parcels AS SELECT generate_series(1, 100) AS id")
        await owner.close()
        (folder / "dsn").write_text(database.reader_dsn)
        config = {"db": SqliteSource(path="db.sqlite"), "away": PostgresSource(dsn="file:dsn")}
        sources, guard = Sources(folder, None), Guard.open(folder / "guard")
        guard.warm_up()
        await sources.use(config)
        box = ToolBox(lambda: guard, Metrics(), b"k" * 32)
        box.take(build_tools(config, {"one": ONE, "slow": SLOW}, sources, b"k" * 32))
        holds = True
        try:
            await window(box)
            for name, kind in (("lock", locked), ("frozen", frozen)):
                alone, beside = await compare(box, lambda kind=kind: kind(database.owner_dsn, server), rounds)  # type: ignore[misc]
                (p50, p99), (p50_b, p99_b) = quantiles(alone), quantiles(beside)
                noise = quantiles(alone[1::2])[1] / quantiles(alone[::2])[1]
                noise = max(noise, 1 / noise)
                calls = sum(map(len, alone)), sum(map(len, beside))
                print(f"{name:7} alone p50 {p50:.3f} p99 {p99:.3f} ms, beside p50 {p50_b:.3f} p99 {p99_b:.3f} ms")
                print(
                    f"{'':7} factors p50 {p50_b / p50:.2f} p99 {p99_b / p99:.2f}, alone/alone p99 {noise:.2f}", end=""
                )
                print(f" ({calls[0]} and {calls[1]} calls)")
                holds = holds and p99_b / p99 <= max(FACTOR_MAX, noise)
        finally:
            await sources.close()
    return holds


def main() -> int:
    """Measure and print; 1 when a factor is over its bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as folder:
        return int(not asyncio.run(measure(Path(folder), arguments.rounds)))


if __name__ == "__main__":
    sys.exit(main())
