"""What the audit costs and how fast it is verified, with the conditions it was measured under.

    python bench/guard/audit.py [--records 200000]

Prints: the encoder beside rfc8785, the ledger writer's cost per request, records written per second by COPY into the
embedded PostgreSQL (durable, on this disk), checkpoints, and records verified per second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import rfc8785

from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import Principal
from roadbed.ledger.audit import QUEUE_RECORDS_MAX, Audit
from roadbed.ledger.audit_checkpoint import Checkpointer
from roadbed.ledger.audit_export import AuditReader
from roadbed.ledger.audit_record import Pseudonyms, encode_event, event_of, request_event
from roadbed.ledger.audit_tree import Signer
from roadbed.ledger.audit_verify import verify_export
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace, Usage
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.migrate import migrate

CALLER = Principal("key-1", "support")


def finished() -> Trace:
    """A request as a route answers it."""
    trace = Trace("smart", CALLER, "f" * 64)
    trace.rung = "full"
    trace.usage.append(Usage("first", "alpha", "smart", 300, 0, 0, 20, cost_microusd=120))
    return trace


def each_us(count: int, function: object) -> float:
    """Microseconds of CPU per call."""
    assert callable(function)
    started = time.process_time()
    for _ in range(count):
        function()
    return (time.process_time() - started) / count * 1e6


async def measure(records: int) -> None:
    """All of it."""
    print(
        f"python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {records} records"
    )
    names, trace, shard = Pseudonyms(b"k" * 32), finished(), new_id()
    event = request_event(trace, names)
    record = encode_event(event, shard, 1, 1)
    print(f"record of a request: {len(record)} bytes")
    print(f"encode: {each_us(20_000, lambda: encode_event(event, shard, 1, 1)):.2f} us")
    plain = json.loads(record)
    print(f"rfc8785.dumps of the same: {each_us(2_000, lambda: rfc8785.dumps(plain)):.2f} us")
    print(f"request_event (in the ledger's writer): {each_us(20_000, lambda: request_event(trace, names)):.2f} us")
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as name:
        folder = Path(name)
        async with EmbeddedPostgres(folder / "state") as server, await Database.open(server.dsn, "bench") as database:
            await migrate(database, workspace_id="bench")
            await measure_log(database, folder, names, records)


async def measure_log(database: Database, folder: Path, names: Pseudonyms, records: int) -> None:
    """Writing, checkpoints, export and verification."""
    audit = Audit(database, folder / "spool", Metrics(), names, host="bench")
    await audit.start()
    started, used = time.perf_counter(), time.process_time()
    for left in range(records, 0, -QUEUE_RECORDS_MAX // 2):
        for _ in range(min(left, QUEUE_RECORDS_MAX // 2)):
            audit.note_trace(finished())
        await audit.act(event_of("bench.wait"))
    took, cpu = time.perf_counter() - started, time.process_time() - used
    print(f"written: {records / took:,.0f} records/s, {cpu / records * 1e6:.1f} us of CPU each in this process")
    started = time.perf_counter()
    for _ in range(20):
        await audit.act(event_of("bench.act"))
    print(f"an act alone: {(time.perf_counter() - started) / 20 * 1000:.1f} ms until it is durable")
    await audit.close()
    checkpointer = Checkpointer(database, Signer.open("roadbed/bench", "", folder, folder / "key"), folder / "key")
    started = time.perf_counter()
    made = await checkpointer.run()
    print(f"{len(made)} checkpoints: {made[-1].size / (time.perf_counter() - started):,.0f} records/s")
    out = folder / "export"
    out.mkdir()
    files: dict[str, object] = {}
    async for file_name, piece in AuditReader(database).files("roadbed/bench"):
        with (out / file_name).open("ab") as file:
            file.write(piece)
        files[file_name] = None
    for processes in (1, os.cpu_count() or 1):
        started, used = time.perf_counter(), sum(os.times()[:4])
        report = verify_export(out, [checkpointer.public], processes=processes)
        took, cpu = time.perf_counter() - started, sum(os.times()[:4]) - used
        assert report.is_whole, report.faults[:3]
        print(
            f"verified with {processes} processes: {report.proven / took:,.0f} records/s;"
            f" {cpu / report.proven * 1e6:.2f} us of CPU each, {report.proven / cpu:,.0f} a second and core"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=200_000)
    asyncio.run(measure(parser.parse_args().records))
