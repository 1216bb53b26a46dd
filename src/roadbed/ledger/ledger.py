"""`Ledger`: takes finished traces off the request path and brings them into PostgreSQL exactly once.

`finish` never waits and never raises: it puts the trace into a bounded queue, whose traces are soon written down as
rows, a few at a time. While requests come faster than that, each that ends writes some down itself, so that a busy
process gets slower and loses nothing. One writer task stores the rows in batches by COPY, all tables in one
transaction. When PostgreSQL is away or too slow, batches go to the disk spool, which is emptied in order once it is
back, by a way that skips known keys: a batch whose commit nobody saw may have been stored. What PostgreSQL takes longer
for than `PATIENCE_S` is written to the spool beside it, and all that comes meanwhile: a process that dies loses its
last seconds, however slow PostgreSQL is. The invariant: a row that `finish` accepted is in the queue, in the spool or
in the table, and after any retry it is in the table once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import asyncpg

from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, RoadbedError, Unavailable
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import Principal
from roadbed.ledger.copying import insert_new, insert_unknown
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.request_metrics import RequestMetrics
from roadbed.ledger.rows import TABLES, Lines, decode_batch, encode_batch, lines_of
from roadbed.ledger.spool import SPOOL_BYTES_MAX, Spool, SpoolFull
from roadbed.ledger.trace import OK, Trace
from roadbed.store.database import Database

log = logging.getLogger("roadbed.ledger")

QUEUE_TRACES_MAX = 50_000
QUEUE_BYTES_MAX = 256 * 1024 * 1024
BATCH_TRACES_MAX = 2_000
BATCH_BYTES_MAX = 4 * 1024 * 1024
SOON_TRACES = 16
LATE_TRACES = 512
SPOOLED_BYTES_MIN = 12 * 1024 * 1024
TURN_S = 0.001
FLUSH_INTERVAL_S = 0.2
RETRY_INTERVAL_S = 1.0
STORE_TIMEOUT_S = 20.0
PATIENCE_S = 1.0
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
        self._written: deque[Lines] = deque()
        self._written_bytes = 0
        self._is_writing_soon = False
        self._uncounted: list[Trace] = []
        self._measured = RequestMetrics(metrics)
        self._wake = asyncio.Event()
        self._stored = asyncio.Condition()
        self._in_hand = 0
        self._late: asyncio.Task[None] | None = None  # what waits for a batch that PostgreSQL takes long for
        self._unreadable: set[Path] = set()
        self._export: Callable[[Trace], None] | None = None
        self._audit: Callable[[Trace], None] | None = None
        self._lets: Callable[[Trace, Literal["record", "export"]], bool] = lambda trace, sink: True
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        metrics.declare("roadbed_ledger_lost_total", "counter", "traces that could neither be stored nor spooled")
        metrics.before_showing(self._count)
        metrics.before_showing(self._measured.fold)
        metrics.gauge_from("roadbed_ledger_queue", "finished traces waiting in memory", lambda: float(self._waiting))
        metrics.gauge_from("roadbed_ledger_spool_bytes", "bytes waiting on disk", lambda: float(self._spool.size_bytes))

    def start(self) -> None:
        """Start the writer and, in the owner, the sweep of old traces."""
        self._tasks = [asyncio.create_task(self._write_loop(), name="ledger-writer")]
        if self._is_owner:
            self.adopt_spools()
            self._tasks.append(asyncio.create_task(self._sweep_loop(), name="ledger-sweep"))
        for task in self._tasks:
            task.add_done_callback(_report_crash)

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

    def export_to(self, export: Callable[[Trace], None]) -> None:
        """Offer every finished trace to ``export``, which must not wait, when its batch is written."""
        self._export = export

    def audit_to(self, note: Callable[[Trace], None]) -> None:
        """Tell ``note``, which must neither wait nor raise, of every finished trace, when its batch is written."""
        self._audit = note

    def content_by(self, lets: Callable[[Trace, Literal["record", "export"]], bool]) -> None:
        """Ask ``lets`` whether question and answer of a trace with a label may be recorded, and exported."""
        self._lets = lets

    def start_trace(self, app: str, principal: Principal, release: str = "") -> Trace:
        """A new trace for a request that begins now."""
        return Trace(app, principal, release)

    def finish(self, trace: Trace, *, status: str = OK, rung: str = "", error_code: str = "") -> None:
        """Take a finished trace. Returns at once; where too many wait (`QUEUE_TRACES_MAX`, `QUEUE_BYTES_MAX`) the
        trace is counted as lost.
        """
        trace.duration_us = trace.now_us()
        if trace.ticket is not None:
            trace.ticket.close(trace)
        trace.status = status
        if rung:
            trace.rung = rung
        if error_code:
            trace.error_code = error_code
        queue = self._queue
        if len(queue) + len(self._written) >= QUEUE_TRACES_MAX or self._written_bytes >= QUEUE_BYTES_MAX:
            self.metrics.add("roadbed_ledger_lost_total")
            return
        queue.append(trace)
        self._uncounted.append(trace)
        if len(queue) >= LATE_TRACES:
            self._write_down()
        elif len(queue) >= SOON_TRACES and not self._is_writing_soon:
            self._write_soon()

    @property
    def _waiting(self) -> int:
        return len(self._queue) + len(self._written)

    def _write_soon(self) -> None:
        self._is_writing_soon = True
        asyncio.get_running_loop().call_soon(self._write_down_soon)

    def _write_down_soon(self) -> None:
        self._is_writing_soon = False
        self._write_down()
        if len(self._queue) >= SOON_TRACES and not self._is_writing_soon:
            self._write_soon()

    def _write_down(self) -> None:
        """Make rows of what waits, for a turn at most: an answer full of numbers alone takes the guard 2 ms."""
        self._count()
        turn_ends_s = time.perf_counter() + TURN_S
        queue, written = self._queue, self._written
        while queue:
            lines = self._lines(queue.popleft())
            if lines is not None:
                written.append(lines)
                self._written_bytes += _size(lines)
            if time.perf_counter() >= turn_ends_s:
                break
        if len(written) >= BATCH_TRACES_MAX or self._written_bytes >= BATCH_BYTES_MAX:
            self._wake.set()

    def _count(self) -> None:
        """Count what was finished: before each batch, and before the metrics are shown."""
        traces, self._uncounted = self._uncounted, []
        self._measured.count(traces)

    async def flush(self) -> None:
        """Wait until all that was finished so far is stored or spooled."""
        self._wake.set()
        async with self._stored:
            await self._stored.wait_for(lambda: not self._waiting and not self._in_hand)

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
            if self._database.is_available and self._late is None:
                await self._store_spool()
            async with self._stored:
                self._stored.notify_all()
            if self._stopping and not self._waiting:
                if self._late is not None:
                    await self._late
                return

    async def _store_queue(self) -> None:
        """Store what waits now. What comes meanwhile waits for the next turn, so that the spool gets one under load."""
        due = self._waiting
        while due:
            most = min(due, BATCH_TRACES_MAX)
            while self._queue and len(self._written) < most and self._written_bytes < BATCH_BYTES_MAX:
                if not self._is_writing_soon:
                    self._write_down()
                await asyncio.sleep(0)
            is_behind = self._late is not None or self._written_bytes >= SPOOLED_BYTES_MIN
            batch = self._take_batch(most)
            self._in_hand = len(batch)
            due = min(due - len(batch), self._waiting)
            try:
                if batch:
                    await self._keep_batch(batch, is_behind=is_behind)
            except SpoolFull as error:
                self.metrics.add("roadbed_ledger_lost_total", amount=len(batch))
                log.error("traces are being lost: %s", error.message)
            finally:
                self._in_hand = 0

    def _take_batch(self, most: int) -> list[Lines]:
        """The first that are written down: ``most`` and `BATCH_BYTES_MAX` at most, but one where there is one."""
        if len(self._written) <= most and self._written_bytes <= BATCH_BYTES_MAX:
            batch, self._written_bytes = list(self._written), 0
            self._written.clear()
            return batch
        batch = []
        room = BATCH_BYTES_MAX
        while self._written and len(batch) < most and room > 0:
            lines = self._written.popleft()
            batch.append(lines)
            room -= (size := _size(lines))
            self._written_bytes -= size
        return batch

    async def _keep_batch(self, batch: Sequence[Lines], *, is_behind: bool) -> None:
        """Into PostgreSQL, else into the spool; the other way round while too much waits, or something waits too long.
        `SpoolFull` for neither.
        """
        if is_behind:
            with contextlib.suppress(SpoolFull):
                await self._spool_batch(batch)
                return
        storing = asyncio.create_task(self._store_or_drop(batch, is_new=True))
        if self._late is None and not await _ends_soon(storing):
            with contextlib.suppress(SpoolFull):
                self._wait_on(storing, await self._spool_batch(batch))
                return
        if not await storing:
            await self._spool_batch(batch)

    async def _spool_batch(self, batch: Sequence[Lines]) -> Path:
        return await asyncio.to_thread(self._spool.write, encode_batch(batch))

    def _wait_on(self, storing: asyncio.Task[bool], path: Path) -> None:
        """Let a batch be stored in its own time: when it is, its file in the spool is not needed."""

        async def wait() -> None:
            try:
                if await storing:
                    self._forget(path)
            finally:
                self._late = None
                self._wake.set()

        self._late = asyncio.create_task(wait(), name="ledger-late")
        self._late.add_done_callback(_report_crash)

    def _lines(self, trace: Trace) -> Lines | None:
        """The trace's rows; one that cannot be written down is counted as lost, alone. Never raises."""
        lines = None
        try:
            if self._audit is not None:
                self._audit(trace)
            is_free = trace.label is PUBLIC
            keep_content = self._keep_content and (is_free or self._lets(trace, "record"))
            lines = lines_of(trace, keep_content=keep_content)
            if self._export is not None:
                if not is_free and not self._lets(trace, "export"):
                    trace.drop_content()
                self._export(trace)
        except Exception as error:
            if lines is None:
                self.metrics.add("roadbed_ledger_lost_total")
            what = "written down was dropped" if lines is None else "exported goes into the ledger alone"
            log.error("a trace that cannot be %s (%s)", what, type(error).__name__)
        return lines

    async def _store_spool(self) -> None:
        """Store what waits on disk, until as much waits in memory: a long spool must not fill the queue."""
        for path in self._spool.batches():
            if self._waiting >= BATCH_TRACES_MAX:
                return
            try:
                body = await asyncio.to_thread(self._spool.read, path)
                if body is None:
                    log.error("a damaged spool file was set aside: %s", path.name)
                    continue
            except OSError as error:
                self._is_unreadable(path, error)
                continue
            storing = asyncio.create_task(self._store_or_drop(decode_batch(body), is_new=False))
            if not await _ends_soon(storing):
                self._wait_on(storing, path)
                return
            if not storing.result():
                return
            self._forget(path)

    def _forget(self, path: Path) -> None:
        """A batch is stored: its file can go."""
        try:
            self._spool.remove(path)
        except OSError as error:
            self._is_unreadable(path, error)

    def _is_unreadable(self, path: Path, error: OSError) -> None:
        if path not in self._unreadable:
            self._unreadable.add(path)
            log.error("the spool file %s cannot be read or removed: %s", path.name, error.strerror)

    async def _store_or_drop(self, batch: Sequence[Lines], *, is_new: bool) -> bool:
        """Store a batch; a trace that can never be stored is dropped and counted. False when to be tried again."""
        try:
            return await self._store(batch, is_new=is_new)
        except _REFUSALS:
            pass
        for one in batch:
            try:
                if not await self._store([one], is_new=False):
                    return False
            except _REFUSALS as error:
                self.metrics.add("roadbed_ledger_lost_total")
                log.error("a trace that cannot be stored was dropped (%s)", type(error).__name__)
        return True

    async def _store(self, batch: Sequence[Lines], *, is_new: bool) -> bool:
        """False when PostgreSQL is away or full, whatever it is that keeps it; an error that would recur is raised."""
        insert = insert_new if is_new else insert_unknown
        try:
            async with asyncio.timeout(STORE_TIMEOUT_S), self._database.transaction() as connection:
                for (table, columns, key), lines in zip(TABLES, zip(*batch, strict=True), strict=True):
                    rows = b"".join(lines)
                    if rows:
                        await insert(connection, table, columns, key, rows)
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


async def _ends_soon(storing: asyncio.Task[bool]) -> bool:
    """Whether a task ends within `PATIENCE_S`; it goes on if not."""
    done, _ = await asyncio.wait((storing,), timeout=PATIENCE_S)
    return bool(done)


def _size(lines: Lines) -> int:
    return len(lines[0]) + len(lines[1]) + len(lines[2])


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("%s has ended: traces are no longer stored", task.get_name(), exc_info=task.exception())
