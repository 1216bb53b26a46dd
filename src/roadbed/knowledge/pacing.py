"""How work of no hurry is paced: in small batches with rests between, so that questions and fresh documents go first.

Rereading after an upgrade and building the next generation beside the serving one use it. The invariant: nothing paced
holds a job's slot while it rests, and it goes on where it was after a restart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

BATCH_DOCUMENTS = 32
CONCURRENCY = 2
PAUSE_S_MAX = 60.0  # between batches it rests as long as the last one took
BUSY_PAUSE_S = 5.0  # at least, while fresh documents wait to be read

T = TypeVar("T")


async def has_fresh(database: Any) -> bool:
    """Whether documents that are new or changed wait to be read."""
    return bool(await database.fetchval("SELECT EXISTS (SELECT FROM document WHERE state = 'pending')"))


async def paced(ids: Sequence[str], work: Callable[[str], Awaitable[T]]) -> tuple[list[T | BaseException], float]:
    """What became of each, worked on `CONCURRENCY` at a time; and how long to rest after it."""
    began = time.monotonic()
    free = asyncio.Semaphore(CONCURRENCY)

    async def one(document_id: str) -> T:
        async with free:
            return await work(document_id)

    outcomes = await asyncio.gather(*map(one, ids), return_exceptions=True)
    return outcomes, min(time.monotonic() - began, PAUSE_S_MAX)
