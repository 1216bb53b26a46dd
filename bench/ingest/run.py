"""Ingest of a real folder, end to end: parse in the pool, guard, chunk, MiniLM, one transaction per group of documents.

    python bench/ingest/run.py FOLDER [--state DIR] [--include PATTERN ...] [--upgrade]

Starts its own embedded PostgreSQL in a temporary folder (or in --state, which a second run may reuse). Prints chunks
and 128-token equivalents per CPU-second of all processes together, failures with reasons, and the time of an
unchanged second listing; with --upgrade, also of reading everything again as after a change of parsers. CPU time is
that of this process, its parser workers and PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from roadbed.guard.gate import Guard
from roadbed.knowledge.embed import EmbeddingWorker, MiniLmEmbedder
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.parse.pool import ParserPool
from roadbed.knowledge.parse.versions import older_names
from roadbed.knowledge.service import Knowledge
from roadbed.sources.manifest import FilesSource
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate
from roadbed.store.objects import ObjectStore

TICKS = os.sysconf("SC_CLK_TCK")
UNIT_TOKENS = 128
LOOK_S = 0.5


def cpu_s_of_all() -> float:
    """CPU seconds of this process and of every process below it, those that ended included."""
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(entry.name)
        parents.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(map(int, fields[11:15])) / TICKS  # own and reaped children's, user and system
    total, waiting = 0.0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        total += used.get(pid, 0.0)
        waiting += parents.get(pid, [])
    return total


async def measure(folder: Path, state: Path, include: Sequence[str], *, upgrade: bool = False) -> None:
    """Ingest the folder once and list it again."""
    async with EmbeddedPostgres(state / "state") as postgres:
        database = await Database.open(postgres.dsn, "bench")
        await migrate(database, workspace_id="bench")
        model = MiniLmEmbedder()
        model.warm()
        embedder, parsers = EmbeddingWorker(model), ParserPool()
        guard = Guard.open(state / "guard")
        guard.warm_up()
        jobs = Jobs(database)
        objects = ObjectStore.in_memory()
        knowledge = Knowledge(database, jobs, objects, guard, embedder, parsers, workspace=folder)
        knowledge.register_jobs()
        await knowledge.start()
        stop = asyncio.Event()
        running = asyncio.create_task(jobs.run(stop, is_only_worker=True))
        cpu_s, started_s = cpu_s_of_all(), time.perf_counter()
        source = FilesSource(path=str(folder), include=tuple(include))
        declared = {"docs": source}, {"all": CollectionConfig(sources=["docs"])}
        await knowledge.configure(*declared)
        await knowledge.wait_until_settled()
        wall_s, cpu_s = time.perf_counter() - started_s, cpu_s_of_all() - cpu_s
        await report(knowledge, database, model, wall_s, cpu_s)
        started_s = time.perf_counter()
        listing = await knowledge.sync_now("docs")
        await knowledge.wait_until_settled()
        print(f"again, {listing.unchanged} unchanged files: {time.perf_counter() - started_s:.2f} s")
        if upgrade:
            await database.execute("UPDATE document SET parser = $1 WHERE state = 'indexed'", older_names()[0])
            cpu_s, started_s = cpu_s_of_all(), time.perf_counter()
            await knowledge.configure(*declared)
            while (await knowledge.source_states())[0].outdated:  # noqa: ASYNC110 - rows tell
                await asyncio.sleep(LOOK_S)
            wall_s, cpu_s = time.perf_counter() - started_s, cpu_s_of_all() - cpu_s
            print(f"read again after an upgrade: wall {wall_s:.1f} s, CPU {cpu_s:.1f} s")
        stop.set()
        await running
        await knowledge.aclose()
        await parsers.close()
        await embedder.aclose()
        await database.close()


async def report(knowledge: Knowledge, database: Database, model: MiniLmEmbedder, wall_s: float, cpu_s: float) -> None:
    """Print what came in and what it took."""
    (state,) = await knowledge.source_states()
    rows = await database.fetch("SELECT text, heading_path FROM chunk")
    tokens = sum(model.token_count(" > ".join(row["heading_path"]) + "\n" + row["text"]) for row in rows)
    units = tokens / UNIT_TOKENS
    print(f"{state.indexed} documents indexed, {state.failed} failed, {len(state.not_taken)} not taken")
    reasons: dict[str, int] = {}
    for failure in state.failures:
        reasons[failure.reason] = reasons.get(failure.reason, 0) + 1
    print("  failures:", ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "none")
    print(f"{len(rows)} chunks of {tokens / max(1, len(rows)):.0f} tokens; {units:.0f} units of {UNIT_TOKENS} tokens")
    print(f"wall {wall_s:.1f} s, CPU {cpu_s:.1f} s of all processes")
    print(f"per CPU-second: {len(rows) / cpu_s:.1f} chunks, {units / cpu_s:.1f} units of {UNIT_TOKENS} tokens")


def main() -> None:
    """Parse arguments, print conditions, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--state", type=Path, help="keep the database here instead of in a temporary folder")
    parser.add_argument("--include", nargs="*", default=["**/*"])
    parser.add_argument("--upgrade", action="store_true", help="then read everything again, as after an upgrade")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one embedding thread")
    if arguments.state is not None:
        arguments.state.mkdir(parents=True, exist_ok=True)
        asyncio.run(
            measure(arguments.folder.resolve(), arguments.state.resolve(), arguments.include, upgrade=arguments.upgrade)
        )
        return
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as folder:
        asyncio.run(measure(arguments.folder.resolve(), Path(folder), arguments.include, upgrade=arguments.upgrade))


if __name__ == "__main__":
    main()
