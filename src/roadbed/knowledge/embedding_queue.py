"""Which texts the embedding model takes next: those that somebody waits for, then documents.

`choose` decides, purely; `EmbeddingQueue` runs what it chose on threads. A question is searched before anybody's
sentences are ranked, sentences go question by question so that the first ones are whole soon, and documents wait while
people do. The invariant: a piece of a document that has waited `DOCUMENT_WAIT_S_MAX` is next on the documents' thread,
whoever asks, so that questions without end hold ingest up and never stop it.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Kind = Literal["query", "sentences", "document"]

PEOPLE_THREADS = 2
"""The model lets go of the interpreter while it computes, so two questions are answered on two cores."""
DOCUMENT_WAIT_S_MAX = 1.0
DOCUMENT_NICENESS = 10
_FIRST: Mapping[Kind, int] = {"query": 0, "sentences": 1, "document": 2}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of one call. ``order`` is the call's place among all, ``since`` when it began to wait, in seconds."""

    kind: Kind
    order: int
    since: float


def choose(
    waiting: Sequence[Piece], running: Mapping[Kind, int], now: float, document_wait_s: float = DOCUMENT_WAIT_S_MAX
) -> Piece | None:
    """What to begin now beside what is running; None where nothing may begin yet."""
    people = [piece for piece in waiting if piece.kind != "document"]
    busy = running.get("query", 0) + running.get("sentences", 0)
    if people and busy < PEOPLE_THREADS:
        return min(people, key=lambda piece: (_FIRST[piece.kind], piece.order))
    documents = [piece for piece in waiting if piece.kind == "document"]
    if not documents or running.get("document", 0):
        return None
    oldest = min(documents, key=lambda piece: (piece.since, piece.order))
    if people or busy:
        return oldest if now - oldest.since >= document_wait_s else None
    return oldest


@dataclass(eq=False, slots=True)
class _Waiting:
    piece: Piece
    work: Callable[[], Any]
    done: asyncio.Future[Any]


class EmbeddingQueue:
    """Runs pieces of work for the callers of one event loop, in the order of `choose`."""

    def __init__(self) -> None:
        self.document_wait_s = DOCUMENT_WAIT_S_MAX
        self._people = ThreadPoolExecutor(PEOPLE_THREADS, thread_name_prefix="embed-query")
        self._documents = ThreadPoolExecutor(1, thread_name_prefix="embed-ingest", initializer=_yield_to_people)
        self.waiting: list[_Waiting] = []
        self._running: Counter[Kind] = Counter()
        self._calls = 0
        self._look_again: asyncio.TimerHandle | None = None

    async def run(self, kind: Kind, works: Sequence[Callable[[], T]]) -> list[T]:
        """What the pieces of one call gave, in order; of a cancelled call, no further piece is begun."""
        self._calls += 1
        order = self._calls
        if kind == "document":  # piece by piece, so that callers take turns
            return [await self._put(kind, order, work) for work in works]
        pieces = [self._put(kind, order, work) for work in works]
        try:
            return list(await asyncio.gather(*pieces))
        finally:
            for piece in pieces:
                piece.cancel()

    def _put(self, kind: Kind, order: int, work: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        waiting = _Waiting(Piece(kind, order, loop.time()), work, loop.create_future())
        self.waiting.append(waiting)
        self._begin_what_may()
        return waiting.done

    def _begin_what_may(self) -> None:
        loop = asyncio.get_running_loop()
        self.waiting = [waiting for waiting in self.waiting if not waiting.done.done()]
        while chosen := self._chosen(loop.time()):
            waiting = next(waiting for waiting in self.waiting if waiting.piece is chosen)
            self.waiting.remove(waiting)
            self._running[chosen.kind] += 1
            pool = self._documents if chosen.kind == "document" else self._people
            loop.run_in_executor(pool, waiting.work).add_done_callback(partial(self._ended, waiting))
        if self._look_again is None and any(waiting.piece.kind == "document" for waiting in self.waiting):
            self._look_again = loop.call_later(self.document_wait_s, self._look)

    def _chosen(self, now: float) -> Piece | None:
        return choose([waiting.piece for waiting in self.waiting], self._running, now, self.document_wait_s)

    def _look(self) -> None:
        self._look_again = None
        self._begin_what_may()

    def _ended(self, waiting: _Waiting, work: asyncio.Future[Any]) -> None:
        self._running[waiting.piece.kind] -= 1
        if work.cancelled():
            waiting.done.cancel()
        elif error := work.exception():
            if not waiting.done.done():
                waiting.done.set_exception(error)
        elif not waiting.done.done():
            waiting.done.set_result(work.result())
        self._begin_what_may()

    async def aclose(self) -> None:
        """End the threads; what the model has already is finished first, what waits is dropped."""
        if self._look_again is not None:
            self._look_again.cancel()
        for waiting in self.waiting:
            waiting.done.cancel()
        for pool in (self._people, self._documents):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._people, self._documents):
            await asyncio.to_thread(pool.shutdown, wait=True)


def _yield_to_people() -> None:
    """Let the system run the other threads first: on Linux, niceness belongs to the thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), DOCUMENT_NICENESS)
