"""`Flight`: one upstream answer that everybody reads who asked the same while it is under way.

It belongs to its readers: the first one pays (the attempts stand in its trace), the next one when that leaves, and
when the last one leaves the upstream connection is closed at once. Its events are kept until it ends, within the bound
of an answer. The invariant: what the attempts used is in the trace of exactly one reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from roadbed.gateway.answer_stream import AnswerStream
from roadbed.gateway.types import Event, Outcome
from roadbed.kernel.deadline import Deadline
from roadbed.ledger.trace import Trace


class Reader(Protocol):
    """Who reads a flight."""

    @property
    def trace(self) -> Trace | None:
        """Where what it used is noted."""


class Flight:
    """Made by its first reader, on the loop. ``on_end`` is called once, before any reader learns that it ended.
    ``is_whole`` where it is recovered when its answer breaks off, because nothing of it is given before it is whole.
    """

    def __init__(
        self,
        stream: AnswerStream,
        deadline: Deadline,
        carrier: Trace,
        on_end: Callable[[Flight], None],
        *,
        is_whole: bool = False,
    ) -> None:
        self.deadline = deadline
        self.is_whole = is_whole
        self.events: list[Event] = []
        self.is_over = False
        self.error: BaseException | None = None
        self._stream = stream
        self._carrier: Trace | None = carrier
        self._on_end = on_end
        self._readers: list[Reader] = []
        self._waiters: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._fly(), name="flight")
        self._task.add_done_callback(self._landed)

    @property
    def outcome(self) -> Outcome:
        """What became of the call; final when the flight is over."""
        return self._stream.outcome

    def join(self, reader: Reader) -> None:
        """Read along, from the first event on."""
        self._readers.append(reader)

    def leave(self, reader: Reader) -> None:
        """Read no more. The last one to leave ends the flight."""
        if reader not in self._readers:
            return
        if len(self._readers) == 1 and not self.is_over:
            self.is_over = True
            self._stream.close()
            self._settle()
            self._task.cancel()
            self._on_end(self)
        self._readers.remove(reader)

    async def read(self, number: int) -> Event | None:
        """The event with this number; None after the last one. Raises what ended the answer."""
        while number >= len(self.events):
            if self.is_over:
                if self.error is not None:
                    raise self.error
                return None
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)
        return self.events[number]

    async def _fly(self) -> None:
        async with self._stream:
            async for event in self._stream:
                self.events.append(event)
                self._wake()

    def _landed(self, task: asyncio.Task[None]) -> None:
        if self.is_over:  # its last reader left
            return
        self.is_over = True
        self.error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._settle()
        self._on_end(self)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _settle(self) -> None:
        carrier, self._carrier = self._carrier, None
        payer = self._readers[0].trace if self._readers else None
        if carrier is not None and payer is not None:
            payer.absorb(carrier)
