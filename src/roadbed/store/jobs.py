"""Durable jobs in PostgreSQL: enqueued in the caller's transaction, run at least once, never twice at a time.

Rooms register a handler per job name; `roadbed up` or a `work` process calls `run`. A job's payload holds ids, never
content. The invariant: a job is taken under a lease with a growing fence, and only the holder of the newest fence may
finish, retry or release it. A handler that must act exactly once does so in one transaction with `Job.finish`.
Why this is not PgQueuer: `docs/design/0002-jobs.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import msgspec

from roadbed.kernel.errors import RoadbedError, TooLarge
from roadbed.kernel.ids import new_id
from roadbed.store.database import ACQUIRE_TIMEOUT_S, Connection, Database
from roadbed.store.errors import JobLost, StoreDiskFull, StoreTimeout, StoreUnavailable

PAYLOAD_BYTES_MAX = 16 * 1024
LEASE_S = 15.0
POLL_S = 1.0
DRAIN_S = 3.0
JOB_TIMEOUT_S = 900.0
ATTEMPTS_MAX = 5
BACKOFF_S_MIN = 1.0
BACKOFF_S_MAX = 300.0
FULL_PAUSE_S = 10.0
AGAIN_S = 5.0
SETTLE_S_MAX = 3600.0
SETTLE_TRIES = 3
CONCURRENCY_MAX = 64
ERROR_LENGTH_MAX = 500
CHANNEL = "job"

Payload = dict[str, Any]
State = Literal["queued", "running", "failed"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """One taken job, as its handler sees it. ``attempt`` counts from 1."""

    id: int
    name: str
    payload: Payload
    dedupe_key: str | None
    attempt: int
    fence: int

    async def confirm(self, connection: Connection) -> None:
        """Hold the job for the rest of the transaction; `JobLost` when another worker has taken it over."""
        sql = "SELECT 1 FROM job WHERE id = $1 AND fence = $2 AND state = 'running' FOR UPDATE"
        if await connection.fetchval(sql, self.id, self.fence) is None:
            raise JobLost(f"the job {self.name} was taken over by another worker")

    async def finish(self, connection: Connection) -> None:
        """Finish the job with the caller's transaction, so that its effect happens exactly once. `JobLost`."""
        sql = "DELETE FROM job WHERE id = $1 AND fence = $2 AND state = 'running' RETURNING 1"
        if await connection.fetchval(sql, self.id, self.fence) is None:
            raise JobLost(f"the job {self.name} was taken over by another worker")


@dataclass(frozen=True, slots=True)
class FailedJob:
    """A job that used up its attempts, for the console. ``error`` is a code and a message, never content."""

    id: int
    name: str
    dedupe_key: str | None
    attempt: int
    error: str


Handler = Callable[[Job], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Registration:
    handler: Handler
    concurrency: int
    attempts_max: int
    timeout_s: float


class Jobs:
    """The queue of one schema: `enqueue` from anywhere, `register` and `run` in a worker process."""

    def __init__(
        self,
        database: Database,
        *,
        lease_s: float = LEASE_S,
        poll_s: float = POLL_S,
        backoff_s: float = BACKOFF_S_MIN,
        full_pause_s: float = FULL_PAUSE_S,
    ) -> None:
        self._database = database
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._backoff_s = backoff_s
        self._full_pause_s = full_pause_s
        self._is_full = False
        self._worker = f"{os.getpid()}-{new_id()}"
        self._registrations: dict[str, _Registration] = {}
        self._running: dict[int, tuple[Job, asyncio.Task[None]]] = {}
        self._wake = asyncio.Event()
        self._is_draining = False

    @property
    def waits_for_disk(self) -> bool:
        """Whether the last job found the disk of the database full: jobs wait, and are tried again by themselves."""
        return self._is_full

    def register(
        self,
        name: str,
        handler: Handler,
        *,
        concurrency: int = 1,
        attempts_max: int = ATTEMPTS_MAX,
        timeout_s: float = JOB_TIMEOUT_S,
    ) -> None:
        """Let this process run the jobs called ``name``, at most ``concurrency`` at a time.

        An error that is a `RoadbedError` and not retryable fails a job at once; any other is tried again, with a
        growing pause, until ``attempts_max``. A full disk is no fault of the job: it waits until there is room.
        """
        if name in self._registrations:
            raise ValueError(f"the job {name} has a handler already")
        if not 1 <= concurrency <= CONCURRENCY_MAX:
            raise ValueError(f"concurrency is 1 to {CONCURRENCY_MAX}")
        self._registrations[name] = _Registration(handler, concurrency, attempts_max, timeout_s)

    # -- enqueueing ---------------------------------------------------------------------------------------------------

    async def enqueue(
        self,
        connection: Connection | None,
        name: str,
        payload: Payload,
        dedupe_key: str | None = None,
        *,
        priority: int = 0,
        delay_s: float = 0.0,
    ) -> bool:
        """Queue one job, in the caller's transaction when it gives its connection.

        False when one with the same name and ``dedupe_key`` waits already (its payload stays). One that runs does not
        count: the new one runs after it.
        """
        return (
            await self.enqueue_many(connection, name, [(payload, dedupe_key)], priority=priority, delay_s=delay_s) > 0
        )

    async def enqueue_many(
        self,
        connection: Connection | None,
        name: str,
        items: Sequence[tuple[Payload, str | None]],
        *,
        priority: int = 0,
        delay_s: float = 0.0,
    ) -> int:
        """Queue many jobs (payload, dedupe key) of one name in one statement; how many were new."""
        for payload, _ in items:
            if len(msgspec.json.encode(payload)) > PAYLOAD_BYTES_MAX:
                raise TooLarge(f"the payload of a job {name} is over {PAYLOAD_BYTES_MAX} bytes")
        if connection is None:
            async with self._database.transaction() as own:
                return await self.enqueue_many(own, name, items, priority=priority, delay_s=delay_s)
        sql = """
            INSERT INTO job (name, payload, dedupe_key, priority, run_after)
            SELECT $1, item.payload, item.dedupe_key, $4, now() + make_interval(secs => $5)
            FROM unnest($2::jsonb[], $3::text[]) AS item (payload, dedupe_key)
            ON CONFLICT (name, dedupe_key) WHERE state = 'queued' DO NOTHING
            RETURNING 1
        """
        payloads, keys = [payload for payload, _ in items], [key for _, key in items]
        count = len(await connection.fetch(sql, name, payloads, keys, priority, delay_s))
        if count:
            await self._database.notify(CHANNEL, connection=connection)
        return count

    # -- looking ------------------------------------------------------------------------------------------------------

    async def counts(self, name: str | None = None) -> dict[State, int]:
        """How many jobs are queued, running and failed, of one name or of all."""
        sql = "SELECT state, count(*) AS count FROM job WHERE $1::text IS NULL OR name = $1 GROUP BY state"
        found = {row["state"]: row["count"] for row in await self._database.fetch(sql, name)}
        return {"queued": found.get("queued", 0), "running": found.get("running", 0), "failed": found.get("failed", 0)}

    async def failures(self, limit: int = 100) -> list[FailedJob]:
        """The latest failed jobs, newest first."""
        sql = """
            SELECT id, name, dedupe_key, attempt, last_error AS error FROM job
            WHERE state = 'failed' ORDER BY changed_at DESC LIMIT $1
        """
        return [FailedJob(**dict(row)) for row in await self._database.fetch(sql, limit)]

    async def retry_failed(self, name: str) -> int:
        """Queue the failed jobs of a name again; how many. Those that wait again already are dropped."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "DELETE FROM job WHERE state = 'failed' AND name = $1 RETURNING payload, dedupe_key", name
            )
            return await self.enqueue_many(connection, name, [(row["payload"], row["dedupe_key"]) for row in rows])

    # -- running ------------------------------------------------------------------------------------------------------

    async def keep_running(self, stop: asyncio.Event) -> None:
        """`run` as the only worker until ``stop`` is set, begun again after a fault that nobody foresaw."""
        while not stop.is_set():
            try:
                await self.run(stop, is_only_worker=True)
            except Exception:
                logger.critical("jobs have stopped, and are begun again in %g s", AGAIN_S, exc_info=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), AGAIN_S)

    async def run(self, stop: asyncio.Event, *, is_only_worker: bool = False, drain_s: float = DRAIN_S) -> None:
        """Take and run jobs until ``stop`` is set; then wait ``drain_s`` for those running and give back the rest.

        With ``is_only_worker`` (the holder of the state lock) what an earlier process left running is taken over at
        once, else when its lease ends. While PostgreSQL is away, it waits.
        """
        self._is_draining = False
        beat = asyncio.create_task(self._keep_leases(), name="job-heartbeat")
        try:
            while not stop.is_set():
                try:
                    await self._take_until(stop, is_only_worker)
                except (StoreUnavailable, StoreTimeout):
                    await self._pause(stop, self._poll_s)
        finally:
            self._is_draining = True
            try:
                await self._drain(drain_s)
            finally:
                beat.cancel()
                await asyncio.gather(beat, return_exceptions=True)

    async def _take_until(self, stop: asyncio.Event, is_only_worker: bool) -> None:
        subscription = await self._database.listen(CHANNEL, lambda payload: self._wake.set())
        try:
            if is_only_worker:
                sql = "UPDATE job SET lease_until = now() WHERE state = 'running' AND worker <> $1"
                await self._database.execute(sql, self._worker)
            while not stop.is_set():
                self._wake.clear()
                for row in await self._database.fetch(_DUE_SQL, list(self._registrations)):
                    await self._take(row["name"])
                await self._pause(stop, self._poll_s)
        finally:
            await subscription.close()

    async def _pause(self, stop: asyncio.Event, limit_s: float) -> None:
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _take(self, name: str) -> None:
        registration = self._registrations[name]
        free = registration.concurrency - sum(job.name == name for job, _ in self._running.values())
        if free <= 0:
            return
        try:
            rows = await self._database.fetch(_TAKE_SQL, name, free, self._worker, self._lease_s)
        except asyncpg.UniqueViolationError:
            return  # another worker took one with the same key in the same moment
        for row in rows:
            job = Job(**dict(row))
            task = asyncio.create_task(self._run_one(job, registration), name=f"job-{name}")
            self._running[job.id] = (job, task)
            task.add_done_callback(lambda _, job_id=job.id: self._forget(job_id))  # type: ignore[misc]

    def _forget(self, job_id: int) -> None:
        self._running.pop(job_id, None)
        self._wake.set()

    async def _run_one(self, job: Job, registration: _Registration) -> None:
        error: str | None = None
        is_final = False
        try:
            if job.attempt > registration.attempts_max:
                raise JobLost("its worker was lost each time")
            async with asyncio.timeout(registration.timeout_s):
                await registration.handler(job)
        except asyncio.CancelledError:
            if self._is_draining:
                await self._settle(_RELEASE_SQL, job.id, job.fence, 0.0)
            raise
        except StoreDiskFull:
            self._tell_full(True)
            await self._settle(_RELEASE_SQL, job.id, job.fence, self._full_pause_s)
            return
        except JobLost as lost:
            if job.attempt <= registration.attempts_max:
                return  # the new holder settles it
            error, is_final = f"{lost.code}: {lost.message}", True
        except RoadbedError as failure:
            error, is_final = f"{failure.code}: {failure.message}", not failure.retryable
        except Exception as failure:  # the boundary between a room's handler and the queue: recorded, tried again
            error = type(failure).__name__  # an unknown error's text may hold content
            logger.error("a job %s failed with %s", job.name, error)
        if error is None:
            self._tell_full(False)
            await self._settle("DELETE FROM job WHERE id = $1 AND fence = $2 AND state = 'running'", job.id, job.fence)
        elif is_final or job.attempt >= registration.attempts_max:
            await self._settle(_FAIL_SQL, job.id, job.fence, error[:ERROR_LENGTH_MAX])
        else:
            delay_s = min(BACKOFF_S_MAX, self._backoff_s * 2.0 ** (job.attempt - 1)) * random.uniform(0.8, 1.2)
            await self._settle(_RETRY_SQL, job.id, job.fence, error[:ERROR_LENGTH_MAX], delay_s)

    def _tell_full(self, is_full: bool) -> None:
        """Say once that jobs wait for room on the disk, and once that they go on."""
        if is_full and not self._is_full:
            logger.error("the disk of the database is full: jobs wait, changed documents are not read")
        elif self._is_full and not is_full:
            logger.warning("there is room on the disk of the database again: jobs go on")
        self._is_full = is_full

    async def _settle(self, sql: str, *arguments: Any) -> None:
        """Write a job's outcome, as soon as there is room for it.

        When PostgreSQL stays away longer than the lease, the job simply runs again.
        """
        tries, until_s = SETTLE_TRIES, time.monotonic() + SETTLE_S_MAX
        while tries and time.monotonic() < until_s:
            try:
                await self._database.execute(sql, *arguments)
                return
            except asyncpg.UniqueViolationError:
                # The same key was queued meanwhile, and does this one's work.
                sql, arguments = "DELETE FROM job WHERE id = $1 AND fence = $2", arguments[:2]
                tries -= 1
            except StoreDiskFull:
                # Left alone it would be taken for lost, again and again, until it has no attempts left.
                self._tell_full(True)
                if self._is_draining:
                    return
                await asyncio.sleep(self._poll_s)
            except (StoreUnavailable, StoreTimeout):
                tries -= 1
                with contextlib.suppress(StoreUnavailable):
                    await self._database.wait_until_available(ACQUIRE_TIMEOUT_S if self._is_draining else self._lease_s)

    async def _keep_leases(self) -> None:
        """Extend the leases of what runs here, and cancel what another worker has taken over."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            held = dict(self._running)
            if not held:
                continue
            fences = [job.fence for job, _ in held.values()]
            with contextlib.suppress(StoreUnavailable, StoreTimeout):
                rows = await self._database.fetch(_EXTEND_SQL, list(held), fences, self._lease_s)
                kept = {row["id"] for row in rows}
                for job_id, (_, task) in held.items():
                    if job_id not in kept and self._running.get(job_id, (None, None))[1] is task:
                        await self._cancel_if_lost(job_id, task)

    async def _cancel_if_lost(self, job_id: int, task: asyncio.Task[None]) -> None:
        """A missing row may also mean that the handler just finished it in its own transaction: that one is let be."""
        if await self._database.fetchval("SELECT 1 FROM job WHERE id = $1", job_id) is not None:
            task.cancel()

    async def _drain(self, drain_s: float) -> None:
        tasks = [task for _, task in self._running.values()]
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=drain_s)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_DUE_SQL = """
    SELECT known.name FROM unnest($1::text[]) AS known (name)
    WHERE EXISTS (
        SELECT FROM job WHERE job.name = known.name
        AND (state = 'queued' AND run_after <= now() OR state = 'running' AND lease_until <= now()))
"""
_TAKE_SQL = """
    WITH next AS (
        SELECT id FROM job
        WHERE name = $1
          AND (state = 'queued' AND run_after <= now() OR state = 'running' AND lease_until <= now())
          AND (state = 'running' OR dedupe_key IS NULL OR NOT EXISTS (
              SELECT 1 FROM job AS other
              WHERE other.name = job.name AND other.dedupe_key = job.dedupe_key AND other.state = 'running'))
        ORDER BY priority DESC, id
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    UPDATE job SET state = 'running', attempt = attempt + 1, fence = fence + 1, worker = $3,
        lease_until = now() + make_interval(secs => $4), changed_at = now()
    FROM next WHERE job.id = next.id
    RETURNING job.id, job.name, job.payload, job.dedupe_key, job.attempt, job.fence
"""
_EXTEND_SQL = """
    UPDATE job SET lease_until = now() + make_interval(secs => $3)
    FROM unnest($1::bigint[], $2::bigint[]) AS held (id, fence)
    WHERE job.id = held.id AND job.fence = held.fence AND state = 'running'
    RETURNING job.id
"""
_FAIL_SQL = """
    UPDATE job SET state = 'failed', last_error = $3, worker = NULL, lease_until = NULL, changed_at = now()
    WHERE id = $1 AND fence = $2 AND state = 'running'
"""
_RETRY_SQL = """
    UPDATE job SET state = 'queued', last_error = $3, worker = NULL, lease_until = NULL, changed_at = now(),
        run_after = now() + make_interval(secs => $4)
    WHERE id = $1 AND fence = $2 AND state = 'running'
"""
# A job that was given back was not at fault: the attempt is not counted.
_RELEASE_SQL = """
    UPDATE job SET state = 'queued', attempt = attempt - 1, worker = NULL, lease_until = NULL, changed_at = now(),
        run_after = now() + make_interval(secs => $3)
    WHERE id = $1 AND fence = $2 AND state = 'running'
"""
