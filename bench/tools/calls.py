"""Cost of a tool call on this machine: CPU of one call on SQLite, and what the rules add to the query alone.

``python bench/tools/calls.py``. In process, without HTTP: the toolbox with its guard, a declared tool of one parameter
on a file of 10,000 rows, one row a result. Three figures: CPU time of a call; the median of wall times of calls, one
after the other, less the median of the same query through `Sources.query`; and how much slower a tool of one source is
while another source hangs. Exit 1 over 600 us CPU, 2 ms added, or a factor of 1.1 (of the medians) by the hung one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.sources.manifest import SqliteSource
from roadbed.sources.registry import Sources
from roadbed.tools.building import build_tools
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Ok, Outcome, Tool, ToolRequest

CALLS = 2_000
ROWS = 10_000
CPU_US_MAX = 600.0
ADDED_MS_MAX = 2.0
HUNG_FACTOR_MAX = 1.1
HUNG_CALLS = 64
WHO = Principal(id="bench", team="bench")
SQL = "SELECT id, street, area FROM parcels WHERE id = :id"
ONE = ToolConfig(
    source="db", description="One parcel.", sql=SQL, parameters={"id": ParameterConfig(type="integer", minimum=1)}
)


def make_file(path: Path) -> None:
    """The file that is asked."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE parcels (id integer PRIMARY KEY, street text, area real)")
        rows = [(number, f"Street {number}", number / 2) for number in range(1, ROWS + 1)]
        connection.executemany("INSERT INTO parcels VALUES (?, ?, ?)", rows)


async def calls(box: ToolBox, number: int) -> list[float]:
    """Wall seconds of so many calls, one after the other."""
    taken = []
    for place in range(number):
        started = time.perf_counter()
        outcome = await box.call("one", {"id": place % ROWS + 1}, principal=WHO, deadline=Deadline.after(10))
        taken.append(time.perf_counter() - started)
        assert isinstance(outcome, Ok), outcome
    return taken


async def queries(sources: Sources, number: int) -> list[float]:
    """Wall seconds of the same queries without the toolbox."""
    taken = []
    sql = SQL.replace(":id", "?1")
    for place in range(number):
        started = time.perf_counter()
        await sources.query("db", sql, (place % ROWS + 1,), deadline=Deadline.after(10))
        taken.append(time.perf_counter() - started)
    return taken


async def hang(request: ToolRequest) -> Outcome:
    """A source that never answers."""
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets")


async def beside_hung(box: ToolBox) -> float:
    """The median of calls while `HUNG_CALLS` calls of another source hang, as a factor of the median without them."""
    waiting: list[asyncio.Task[Outcome]] = []
    alone, beside = [], []
    for _ in range(4):
        alone += await calls(box, CALLS // 4)
        for _ in range(HUNG_CALLS):
            hung = box.call("hung", {}, principal=WHO, deadline=Deadline.after(300))
            waiting.append(asyncio.ensure_future(hung))
        beside += await calls(box, CALLS // 4)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        waiting.clear()
    return statistics.median(beside) / statistics.median(alone)


async def measure(folder: Path) -> tuple[float, float, float]:
    """CPU microseconds of a call, added milliseconds, and the factor beside a source that hangs."""
    make_file(folder / "db.sqlite")
    config = {"db": SqliteSource(path="db.sqlite")}
    sources, guard = Sources(folder, None), Guard.open(folder / "guard")
    guard.warm_up()
    await sources.use(config)
    box = ToolBox(lambda: guard, Metrics(), b"k" * 32)
    box.take([*build_tools(config, {"one": ONE}, sources, b"k" * 32), Tool("hung", "d", "away", hang, timeout_s=300.0)])
    try:
        await calls(box, 200)
        started = time.process_time()
        await calls(box, CALLS)
        cpu_us = (time.process_time() - started) / CALLS * 1e6
        through, bare = [], []
        for _ in range(4):
            through += await calls(box, CALLS // 4)
            bare += await queries(sources, CALLS // 4)
        added_ms = (statistics.median(through) - statistics.median(bare)) * 1e3
        return cpu_us, added_ms, await beside_hung(box)
    finally:
        await sources.close()


def main() -> int:
    """Print the figures; 1 when one is over its bound."""
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as folder:
        cpu_us, added_ms, factor = asyncio.run(measure(Path(folder)))
    print(f"CPU of a call on SQLite      {cpu_us:7.0f} us   (at most {CPU_US_MAX:.0f})")
    print(f"added over the query, p50    {added_ms:7.3f} ms   (at most {ADDED_MS_MAX:g})")
    print(f"beside a source that hangs   {factor:7.2f} x    (at most {HUNG_FACTOR_MAX:g})")
    return int(cpu_us > CPU_US_MAX or added_ms > ADDED_MS_MAX or factor > HUNG_FACTOR_MAX)


if __name__ == "__main__":
    sys.exit(main())
