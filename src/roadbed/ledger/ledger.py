"""`Ledger`: takes finished traces off the request path and brings them into PostgreSQL exactly once.

`finish` never waits and never raises: it puts the trace into a bounded queue. One writer task stores batches by COPY
into a temporary table and an insert that skips known keys, all in one transaction. When PostgreSQL is away the batch
goes to the disk spool, which is emptied in order once it is back. The invariant: a row that `finish` accepted is in
the queue, in the spool or in the table, and after any retry it is in the table once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, RoadbedError, Unavailable
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.rows import TABLES, Batch, Row, decode_batch, encode_batch, merge, rows_of, split
from roadbed.ledger.spool import SPOOL_BYTES_MAX, Spool, SpoolFull
from roadbed.ledger.trace import OK, Trace
from roadbed.store.database import Database

log = logging.getLogger("roadbed.ledger")

QUEUE_TRACES_MAX = 50_000
BATCH_TRACES_MAX = 2_000
FLUSH_INTERVAL_S = 0.2
RETRY_INTERVAL_S = 1.0
STORE_TIMEOUT_S = 20.0
SWEEP_INTERVAL_S = 3600.0
# What PostgreSQL or the encoding of a row says when it will not take it today or tomorrow.
_REFUSALS = (
    InvalidRequest,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    ValueError,
    TypeError,
    OverflowError,
)


class Ledger:
    """The writing side of traces and usage. `start` starts the writer; `close` stores or spools what is left.

    One ledger of a deployment is its owner's: it sweeps old traces and takes over spools whose process has ended. The
    others have a folder each below its, and a share of its bytes.
    """

    def __init__(
        self,
        database: Database,
        spool_folder: Path,
        metrics: Metrics,
        *,
        keep: timedelta,
        content: str,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
        is_owner: bool = True,
    ) -> None:
        self.metrics = metrics
        self._database = database
        self._spool = Spool(spool_folder, spool_bytes_max, is_shared=not is_owner)
        self._is_owner = is_owner
        self._keep = keep
        self._keep_content = content != "off"
        self._queue: deque[Trace] = deque()
        self._wake = asyncio.Event()
        self._stored = asyncio.Condition()
        self._in_hand = 0
        self._unreadable: set[Path] = set()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        metrics.declare("roadbed_requests_total", "counter", "finished requests", "app", "status", "rung")
        metrics.declare("roadbed_request_seconds", "histogram", "time from admission to last byte", "app")
        metrics.declare("roadbed_tokens_total", "counter", "tokens used", "app", "direction")
        metrics.declare("roadbed_cost_microusd_total", "counter", "cost of model calls", "app")
        metrics.declare("roadbed_ledger_lost_total", "counter", "traces that could neither be stored nor spooled")
        metrics.gauge_from("roadbed_ledger_queue", "finished traces waiting in memory", lambda: float(len(self._queue)))
        metrics.gauge_from("roadbed_ledger_spool_bytes", "bytes waiting on disk", lambda: float(self._spool.size_bytes))

    def start(self) -> None:
        """Start the writer and, in the owner, the sweep of old traces."""
        self._tasks = [asyncio.create_task(self._write_loop(), name="ledger-writer")]
        if self._is_owner:
            self.adopt_spools()
            self._tasks.append(asyncio.create_task(self._sweep_loop(), name="ledger-sweep"))

    def adopt_spools(self) -> None:
        """Take over what processes that have ended left on disk; in the owner alone."""
        try:
            count = self._spool.adopt()
        except OSError as error:
            log.error("spools of ended processes cannot be taken over: %s", error.strerror)
        else:
            if count:
                log.info("%d spooled batches of ended processes were taken over", count)

    def configure(self, *, keep: timedelta, content: str) -> None:
        """Take a changed ``traces`` section into use."""
        self._keep = keep
        self._keep_content = content != "off"

    def start_trace(self, app: str, principal: Principal, release: str = "") -> Trace:
        """A new trace for a request that begins now."""
        return Trace(app, principal, release)

    def finish(self, trace: Trace, *, status: str = OK, rung: str = "", error_code: str = "") -> None:
        """Take a finished trace. Returns at once; over `QUEUE_TRACES_MAX` the trace is counted as lost."""
        trace.duration_us = trace.now_us()
        trace.status, trace.rung, trace.error_code = status, rung or trace.rung, error_code or trace.error_code
        metrics = self.metrics
        metrics.add("roadbed_requests_total", (trace.app, trace.status, trace.rung))
        metrics.observe("roadbed_request_seconds", trace.duration_us / 1e6, (trace.app,))
        for usage in trace.usage:
            metrics.add("roadbed_tokens_total", (trace.app, "input"), usage.input_tokens)
            metrics.add("roadbed_tokens_total", (trace.app, "output"), usage.output_tokens)
            metrics.add("roadbed_cost_microusd_total", (trace.app,), usage.cost_microusd)
        if len(self._queue) >= QUEUE_TRACES_MAX:
            metrics.add("roadbed_ledger_lost_total")
            return
        self._queue.append(trace)
        if len(self._queue) >= BATCH_TRACES_MAX:
            self._wake.set()

    async def flush(self) -> None:
        """Wait until all that was finished so far is stored or spooled."""
        self._wake.set()
        async with self._stored:
            await self._stored.wait_for(lambda: not self._queue and not self._in_hand)

    async def close(self) -> None:
        """Stop, after the queue is stored or spooled."""
        self._stopping = True
        self._wake.set()
        if self._tasks:
            writer, *sweep = self._tasks
            for task in sweep:
                task.cancel()
            await asyncio.gather(writer, *sweep, return_exceptions=True)
            self._tasks = []
        self._spool.close()

    async def _write_loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_INTERVAL_S)
            self._wake.clear()
            await self._store_queue()
            if self._database.is_available:
                await self._store_spool()
            async with self._stored:
                self._stored.notify_all()
            if self._stopping and not self._queue:
                return

    async def _store_queue(self) -> None:
        while self._queue:
            traces = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_TRACES_MAX))]
            self._in_hand = len(traces)
            batch = merge(rows_of(trace, keep_content=self._keep_content) for trace in traces)
            try:
                if not await self._store_or_drop(batch):
                    await asyncio.to_thread(self._spool.write, encode_batch(batch))
            except SpoolFull as error:
                self.metrics.add("roadbed_ledger_lost_total", amount=len(traces))
                log.error("traces are being lost: %s", error.message)
            finally:
                self._in_hand = 0

    async def _store_spool(self) -> None:
        for path in self._spool.batches():
            try:
                body = await asyncio.to_thread(self._spool.read, path)
                if body is None:
                    log.error("a damaged spool file was set aside: %s", path.name)
                elif await self._store_or_drop(decode_batch(body)):
                    self._spool.remove(path)
                else:
                    return
            except OSError as error:
                if path not in self._unreadable:
                    self._unreadable.add(path)
                    log.error("the spool file %s cannot be read or removed: %s", path.name, error.strerror)

    async def _store_or_drop(self, batch: Batch) -> bool:
        """Store a batch; a trace that can never be stored is dropped and counted. False when to be tried again."""
        try:
            return await self._store(batch)
        except _REFUSALS:
            pass
        for one in split(batch):
            try:
                if not await self._store(one):
                    return False
            except _REFUSALS as error:
                self.metrics.add("roadbed_ledger_lost_total")
                log.error("a trace that cannot be stored was dropped (%s)", type(error).__name__)
        return True

    async def _store(self, batch: Batch) -> bool:
        """False when PostgreSQL is away or full, whatever it is that keeps it; an error that would recur is raised."""
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), self._database.transaction() as connection:
                for table, (columns, key) in TABLES.items():
                    if batch.get(table):
                        await _insert_new(connection, table, columns, key, batch[table])
        except TimeoutError:
            return False
        except _REFUSALS:
            raise
        except (RoadbedError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not isinstance(error, Unavailable):
                log.error("a ledger batch is kept for later (%s)", type(error).__name__)
            return False
        return True

    async def _sweep_loop(self) -> None:
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                await self.sweep()
            await asyncio.sleep(SWEEP_INTERVAL_S)

    async def sweep(self) -> None:
        """Delete traces older than ``traces.keep``; usage rows stay."""
        for table in ("span", "trace"):
            await self._database.execute(f"DELETE FROM {table} WHERE started < now() - $1::interval", self._keep)  # noqa: S608


async def _insert_new(connection: Any, table: str, columns: tuple[str, ...], key: str, rows: list[Row]) -> None:
    """COPY rows into a temporary table, then insert those whose key is new. JSON travels as text (COPY is binary)."""
    incoming = f"incoming_{table}"
    names = ", ".join(columns)
    as_text = names.replace("attributes", "attributes::text AS attributes")
    as_json = names.replace("attributes", "attributes::jsonb")
    shape = f"SELECT {as_text} FROM {table} WITH NO DATA"  # noqa: S608
    await connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {incoming} ON COMMIT DELETE ROWS AS {shape}")
    await connection.copy_records_to_table(incoming, records=rows, columns=columns)
    await connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {as_json} FROM {incoming} ON CONFLICT ({key}) DO NOTHING"  # noqa: S608
    )
