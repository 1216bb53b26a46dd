"""A bulkhead: so many places for work on one source, and a bounded queue before them.

Each source has its own, so that one whose database hangs fills its own places and queue and nobody else's. First come,
first served, each caller until its own deadline. The invariant: whoever returned from `Bulkhead.enter` holds one place
until `Bulkhead.leave`, and whoever got an error holds none.
"""

from __future__ import annotations

import asyncio

from roadbed.kernel.deadline import Deadline
from roadbed.sources.errors import SourceBusy


class Bulkhead:
    """``places`` at once and ``waiting_max`` in the queue, for the source ``name``."""

    def __init__(self, name: str, places: int, waiting_max: int) -> None:
        self.in_use = 0
        self.waiting = 0
        self._name = name
        self._waiting_max = waiting_max
        self._places = asyncio.Semaphore(places)
        self._empty = asyncio.Event()
        self._empty.set()

    async def enter(self, deadline: Deadline) -> None:
        """Take a place, waiting for it until the deadline. `SourceBusy`."""
        if self._places.locked():
            await self._wait(deadline)
        else:
            await self._places.acquire()  # which waits for nothing, so no clock is needed around it
        self.in_use += 1
        self._empty.clear()

    async def _wait(self, deadline: Deadline) -> None:
        if self.waiting >= self._waiting_max:
            raise SourceBusy(f"{self.waiting} callers wait for a connection to {self._name} already")
        self.waiting += 1
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                await self._places.acquire()
        except TimeoutError:
            raise SourceBusy(f"no connection to {self._name} was free before the deadline") from None
        finally:
            self.waiting -= 1

    def leave(self) -> None:
        """Give the place to whoever waits longest."""
        self.in_use -= 1
        if self.in_use == 0:
            self._empty.set()
        self._places.release()

    async def wait_until_empty(self) -> None:
        """Return when no place is taken."""
        await self._empty.wait()
