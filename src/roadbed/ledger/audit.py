"""`Audit`: one process's shard of the tamper-evident record: sequenced, chained, stored in groups, never reordered.

`act` is for privileged acts, before they are done: it returns when the record is durable, in PostgreSQL or in the
fsynced spool, and raises `AuditUnavailable` when it can be in neither. `note` is for decisions on requests, off their
path: it never waits and never raises. The invariant: a record that was given its place keeps it, through any failure,
and what `act` has returned for is found after any crash, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from roadbed.kernel.errors import RoadbedError, Unavailable
from roadbed.kernel.ids import new_id
from roadbed.ledger.audit_record import (
    BOOT,
    GAP,
    STOP,
    AuditEvent,
    Pseudonyms,
    RequestEvent,
    encode_event,
    event_of,
    request_event,
)
from roadbed.ledger.audit_verify import CHAIN_START, chained
from roadbed.ledger.copying import insert_new, insert_unknown
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.spool import Spool, SpoolFull
from roadbed.ledger.trace import Trace
from roadbed.store.database import Database

log = logging.getLogger("roadbed.audit")

GROUP_S = 0.05
GROUP_RECORDS = 1_000
TURN_RECORDS = 100
BATCH_RECORDS_MAX = 2_000
QUEUE_RECORDS_MAX = 50_000
RETRY_S = 1.0
STORE_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 15.0
SPOOL_BYTES_MAX = 256 * 1024 * 1024
COLUMNS: Final = ("shard", "seq", "at", "action", "actor", "record", "chain")
_KEY: Final = "shard, seq"


class AuditUnavailable(Unavailable):
    """The audit record of a privileged act cannot be made durable, so the act is not done."""

    code = "audit.unavailable"
    hint = "bring PostgreSQL back, or free space in the state folder; requests go on meanwhile"


class Batch(msgspec.Struct, array_like=True):
    """Sequenced records as COPY takes them, and whose they are."""

    shard: str
    host: str
    slot: int
    first: int
    last: int
    lines: bytes


_Waiting = asyncio.Future[None]


class Audit:
    """One process's shard. `start` it, and `close` it after all that it records."""

    def __init__(
        self,
        database: Database,
        spool_folder: Path,
        metrics: Metrics,
        names: Pseudonyms,
        *,
        host: str,
        slot: int = 0,
        is_owner: bool = True,
        spool_bytes_max: int = SPOOL_BYTES_MAX,
    ) -> None:
        self.names = names
        self.shard = new_id()
        self._database = database
        self._spool = Spool(spool_folder, spool_bytes_max, is_shared=not is_owner)
        self._metrics = metrics
        self._host, self._slot, self._is_owner = host, slot, is_owner
        self._seq, self._head = 0, CHAIN_START
        self._queue: deque[tuple[AuditEvent | RequestEvent, _Waiting | None]] = deque()
        self._stuck: Batch | None = None
        self._lost = 0
        self._wake, self._is_full = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        metrics.declare("roadbed_audit_records_total", "counter", "audit records that are durable")
        metrics.declare("roadbed_audit_lost_total", "counter", "decisions on requests that could not be recorded")
        metrics.gauge_from("roadbed_audit_spool_bytes", "bytes of audit waiting on disk", self._spool_bytes)

    def _spool_bytes(self) -> float:
        return float(self._spool.size_bytes)

    async def start(self, **boot: str | int | bool) -> None:
        """Store what was left on disk, find the head before, and begin the shard with its boot record."""
        if self._is_owner:
            self.adopt_spools()
            await self._store_spool()
        before = await self._head_before()
        self._task = asyncio.create_task(self._write_loop(), name="audit-writer")
        self._task.add_done_callback(_report_crash)
        facts: Any = {"host": self._host, "slot": self._slot, **before, **boot}
        await self.act(event_of(BOOT, actor="system", **facts))

    async def close(self) -> None:
        """End the shard with its stop record, stored or spooled."""
        task, self._task = self._task, None
        if task is not None:
            self.note(event_of(STOP, actor="system"))
            self._stopping = True
            self._wake.set()
            self._is_full.set()
            try:
                await asyncio.wait_for(task, CLOSE_TIMEOUT_S)
            except TimeoutError:
                log.error(
                    "the audit's writer did not end within %g s; its last records may be missing", CLOSE_TIMEOUT_S
                )
        self._spool.close()

    def adopt_spools(self) -> None:
        """Take over what processes that have ended left on disk; in the owner alone."""
        try:
            self._spool.adopt()
        except OSError as error:
            log.error("spooled audit records of ended processes cannot be taken over: %s", error.strerror)
        self._wake.set()

    # -- recording ----------------------------------------------------------------------------------------------------

    async def act(self, event: AuditEvent) -> None:
        """Record an act before it is done; returns when that is durable. `AuditUnavailable`."""
        if self._stuck is not None or self._stopping or self._task is None or len(self._queue) >= QUEUE_RECORDS_MAX:
            raise AuditUnavailable(f"{event.action} cannot be recorded, so it is not done")
        waiting: _Waiting = asyncio.get_running_loop().create_future()
        self._put(event, waiting)
        await waiting

    def note(self, event: AuditEvent | RequestEvent) -> None:
        """Record what has happened, without waiting; over `QUEUE_RECORDS_MAX` it is counted as lost."""
        if len(self._queue) >= QUEUE_RECORDS_MAX or self._stopping:
            self._lost += 1
            self._metrics.add("roadbed_audit_lost_total")
            return
        self._put(event, None)

    def note_trace(self, trace: Trace) -> None:
        """Record the decision on a finished request. Called by the ledger's writer, never on a request's path."""
        try:
            event = request_event(trace, self.names)
            queue = self._queue
            if queue and len(queue) < GROUP_RECORDS and not self._stopping:
                queue.append((event, None))  # whoever writes was woken for the first, and waits for this many
            else:
                self.note(event)
        except (ValueError, TypeError, OverflowError) as error:
            self._metrics.add("roadbed_audit_lost_total")
            log.error("a request could not be recorded in the audit (%s)", type(error).__name__)

    def _put(self, event: AuditEvent | RequestEvent, waiting: _Waiting | None) -> None:
        self._queue.append((event, waiting))
        self._wake.set()
        if len(self._queue) >= GROUP_RECORDS:
            self._is_full.set()

    # -- writing ------------------------------------------------------------------------------------------------------

    async def _write_loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), RETRY_S)
            self._wake.clear()
            if self._queue and not self._stopping:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_full.wait(), GROUP_S)
            self._is_full.clear()
            if self._stuck is not None:
                await self._store_stuck()
            while self._queue and self._stuck is None:
                await self._store_group()
            await self._store_spool()
            if self._stopping:
                return

    async def _store_group(self) -> None:
        """Give the records that wait their places, and make them durable together."""
        if self._lost:
            lost, self._lost = self._lost, 0
            self._queue.appendleft((event_of(GAP, actor="system", outcome="lost", lost=lost), None))
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_RECORDS_MAX))]
        batch = await self._place([event for event, _ in taken])
        is_durable = await self._make_durable(batch)
        for _, waiting in taken:
            if waiting is not None and not waiting.done():
                if is_durable:
                    waiting.set_result(None)
                else:
                    waiting.set_exception(AuditUnavailable("an act cannot be recorded, so it is not done"))

    async def _place(self, events: Sequence[AuditEvent | RequestEvent]) -> Batch:
        """Give records their places, a few at a time: a record takes 10 us, and requests wait meanwhile."""
        parts = []
        for start in range(0, len(events), TURN_RECORDS):
            if start:
                await asyncio.sleep(0)
            parts.append(self._sequence(events[start : start + TURN_RECORDS]))
        if len(parts) == 1:
            return parts[0]
        lines = b"".join([part.lines for part in parts])
        return Batch(self.shard, self._host, self._slot, parts[0].first, self._seq, lines)

    def _sequence(self, events: Sequence[AuditEvent | RequestEvent]) -> Batch:
        first, shard, at_us = self._seq + 1, self.shard, time.time_ns() // 1000
        at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(at_us // 1_000_000))}.{at_us % 1_000_000:06d}+00"
        records = [encode_event(event, shard, seq, at_us) for seq, event in enumerate(events, first)]
        _, heads = chained(self._head, [record.encode() for record in records])
        lines = []
        for seq, (event, record, head) in enumerate(zip(events, records, heads, strict=True), first):
            text = record.replace("\\", "\\\\") if "\\" in record else record
            lines.append(f"{shard}\t{seq}\t{at}\t{event.action}\t{event.actor}\t{text}\t\\\\x{head.hex()}\n")
        self._seq, self._head = first + len(events) - 1, heads[-1]
        return Batch(shard, self._host, self._slot, first, self._seq, "".join(lines).encode())

    async def _make_durable(self, batch: Batch) -> bool:
        """In PostgreSQL, else in the spool; else it is kept in hand, and nothing more is given a place."""
        if self._database.is_available and await self._store(batch, is_new=True):
            return self._count(batch)
        try:
            await asyncio.to_thread(self._spool.write, msgspec.msgpack.encode(batch))
        except SpoolFull as error:
            log.error("privileged acts are refused: %s", error.message)
            self._stuck = batch
            return False
        return self._count(batch)

    def _count(self, batch: Batch) -> bool:
        self._metrics.add("roadbed_audit_records_total", amount=batch.last - batch.first + 1)
        return True

    async def _store_stuck(self) -> None:
        batch = self._stuck
        assert batch is not None
        if await self._store(batch, is_new=False):
            self._stuck = None
            self._count(batch)
            return
        with contextlib.suppress(SpoolFull):
            await asyncio.to_thread(self._spool.write, msgspec.msgpack.encode(batch))
            self._stuck = None
            self._count(batch)

    async def _store_spool(self) -> None:
        """Store what waits on disk, oldest first."""
        if not self._spool.size_bytes:
            return
        for path in self._spool.batches():
            try:
                body = await asyncio.to_thread(self._spool.read, path)
                batch = msgspec.msgpack.decode(body, type=Batch) if body is not None else None
            except (OSError, msgspec.DecodeError) as error:
                log.error("the spooled audit records in %s cannot be read (%s)", path.name, type(error).__name__)
                continue
            if batch is None:
                log.error("a damaged file of spooled audit records was set aside: %s", path.name)
            elif not await self._store(batch, is_new=False):
                return
            else:
                self._spool.remove(path)
            if len(self._queue) >= GROUP_RECORDS:
                return

    async def _store(self, batch: Batch, *, is_new: bool) -> bool:
        """False when PostgreSQL does not take it just now, for whatever reason."""
        insert = insert_new if is_new else insert_unknown
        try:
            # One COPY is a transaction in itself, and takes half the round trips of one inside a transaction.
            is_alone = is_new and batch.first > 1
            scope = self._database.connection() if is_alone else self._database.transaction()
            async with asyncio.timeout(STORE_TIMEOUT_S), scope as connection:
                if batch.first == 1:
                    await connection.execute(
                        "INSERT INTO audit_shard (shard, host, slot) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                        *(batch.shard, batch.host, batch.slot),
                    )
                await insert(connection, "audit_record", COLUMNS, _KEY, batch.lines)
        except (TimeoutError, RoadbedError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if not isinstance(error, TimeoutError | Unavailable):
                log.error("audit records are kept for later (%s)", type(error).__name__)
            return False
        return True

    async def _head_before(self) -> dict[str, str | int]:
        """The last record of the shard before this one, of this host and place."""
        row = await self._database.fetchrow(
            "SELECT s.shard, coalesce(r.seq, s.placed_seq) AS seq, coalesce(r.chain, s.placed_head) AS head"
            " FROM audit_shard s LEFT JOIN LATERAL (SELECT seq, chain FROM audit_record r WHERE r.shard = s.shard"
            " ORDER BY seq DESC LIMIT 1) r ON true WHERE host = $1 AND slot = $2 ORDER BY s.shard DESC LIMIT 1",
            *(self._host, self._slot),
        )
        if row is None:
            return {}
        return {"before": row["shard"], "before_seq": row["seq"], "before_head": bytes(row["head"]).hex()}


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("%s has ended: nothing is audited any more", task.get_name(), exc_info=task.exception())
