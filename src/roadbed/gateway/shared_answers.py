"""`SharedAnswers`: the answers that all processes of a workspace give again, in the table ``cached_answer``.

It stands behind the memory of each process. Reading is bounded by `LOOKUP_S` and left out for `AWAY_S` after a
failure, so that a database that is away holds up no request; writing happens in one task, and what does not fit its
queue is not kept. The owner's task deletes what has expired and what passes the bounds. The invariant: a text is
stored only when the guard found nothing in it, so that what is read is what was answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

from roadbed.gateway.cache import CachedAnswer
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.guarded import Guarded
from roadbed.store.database import Database

ROWS_MAX = 100_000
BYTES_MAX = 256 * 1024 * 1024
LOOKUP_S = 0.05
LOOKUPS_MAX = 32
AWAY_S = 5.0
WAITING_MAX = 1000
BATCH_MAX = 100
SWEEP_S = 60.0
SWEEP_TIMEOUT_S = 30.0

_GET = (
    "SELECT answer, reasoning, endpoint, model, extract(epoch FROM now() - made)::float8 AS age_s"
    " FROM cached_answer WHERE key = $1 AND expires > now()"
)
_PUT = (
    "INSERT INTO cached_answer (key, answer, reasoning, endpoint, model, size_bytes, made, expires)"
    " VALUES ($1, $2, $3, $4, $5, $6, now() - make_interval(secs => $7), now() + make_interval(secs => $8))"
    " ON CONFLICT (key) DO UPDATE SET answer = excluded.answer, reasoning = excluded.reasoning,"
    " endpoint = excluded.endpoint, model = excluded.model, size_bytes = excluded.size_bytes, made = excluded.made,"
    " expires = excluded.expires"
)
_EXPIRE = "DELETE FROM cached_answer WHERE expires <= now()"
_BOUND = (
    "DELETE FROM cached_answer WHERE key IN (SELECT key FROM (SELECT key, row_number() OVER newest AS place,"
    " sum(size_bytes) OVER newest AS bytes FROM cached_answer"
    " WINDOW newest AS (ORDER BY made DESC, key ROWS UNBOUNDED PRECEDING)) ranked WHERE place > $1 OR bytes > $2)"
)

log = logging.getLogger("roadbed.gateway")


class SharedAnswers:
    """One per process. ``keeps_content`` says whether texts of requests may be stored at all."""

    def __init__(
        self,
        database: Database,
        guard: Callable[[], Guard],
        monotonic_s: Callable[[], float],
        *,
        is_owner: bool = True,
        rows_max: int = ROWS_MAX,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._database = database
        self._guard = guard
        self._monotonic_s = monotonic_s
        self.keeps_content = True
        self._is_owner = is_owner
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[bytes, Guarded, Guarded, CachedAnswer, float]] = deque()
        self._is_waiting = asyncio.Event()
        self._away_until_s = 0.0
        self._lookups = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the writer and, in the owner, the sweeper."""
        self._tasks.append(asyncio.create_task(self._write_loop(), name="answer-cache-writer"))
        if self._is_owner:
            self._tasks.append(asyncio.create_task(self._sweep_loop(), name="answer-cache-sweeper"))

    async def close(self) -> None:
        """Write what waits, and stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        with contextlib.suppress(RoadbedError, TimeoutError):
            async with asyncio.timeout(1.0):
                while self._waiting:
                    await self.write()

    async def get(self, key: bytes, age_s_max: float) -> CachedAnswer | None:
        """The answer under a key; None also when the database does not say so at once."""
        now_s = self._monotonic_s()
        if now_s < self._away_until_s or self._lookups >= LOOKUPS_MAX or not self.keeps_content:
            return None
        self._lookups += 1
        try:
            async with asyncio.timeout(LOOKUP_S):
                row = await self._database.fetchrow(_GET, key)
        except (RoadbedError, TimeoutError):
            self._away_until_s = now_s + AWAY_S
            return None
        finally:
            self._lookups -= 1
        if row is None or row["age_s"] >= age_s_max:
            return None
        return CachedAnswer(row["answer"], row["reasoning"], row["endpoint"], row["model"], now_s - row["age_s"])

    def put(self, key: bytes, answer: CachedAnswer, keep_s: float) -> None:
        """Keep an answer for all processes, soon. One in which the guard finds anything stays where it is."""
        if not self.keeps_content or len(self._waiting) >= WAITING_MAX or "\0" in answer.text + answer.reasoning:
            return
        guard = self._guard()
        text, reasoning = guard.for_record(answer.text), guard.for_record(answer.reasoning)
        if text.masked_count or reasoning.masked_count:
            return
        self._waiting.append((key, text, reasoning, answer, keep_s))
        self._is_waiting.set()

    async def write(self) -> None:
        """Write what waits, `BATCH_MAX` at most. Raises `RoadbedError` while the database is away: then it is lost."""
        now_s = self._monotonic_s()
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        rows = [
            (
                *(key, text.text, reasoning.text, answer.endpoint, answer.model, answer.size_bytes),
                *(max(0.0, now_s - answer.made_s), keep_s),
            )
            for key, text, reasoning, answer, keep_s in batch
        ]
        if rows:
            await self._database.executemany(_PUT, rows)

    async def sweep(self) -> None:
        """Delete what has expired, and the oldest beyond the bounds. Raises `RoadbedError`."""
        await self._database.execute(_EXPIRE, timeout_s=SWEEP_TIMEOUT_S)
        await self._database.execute(_BOUND, self._rows_max, self._bytes_max, timeout_s=SWEEP_TIMEOUT_S)

    async def _write_loop(self) -> None:
        while True:
            await self._is_waiting.wait()
            self._is_waiting.clear()
            while self._waiting:
                try:
                    await self.write()
                except RoadbedError as error:
                    log.warning("answers were not kept for other processes: %s", error.code)
                    self._away_until_s = self._monotonic_s() + AWAY_S
                    await asyncio.sleep(AWAY_S)

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with contextlib.suppress(RoadbedError):
                await self.sweep()
