"""An event loop whose time is a number: it jumps to the next timer when nothing else is to be done.

Hours of waits, deadlines and rests pass in milliseconds and in the same order on every run, so that a simulation with
a seed can be repeated. Nothing in it may wait for a socket, a thread or a process. The invariant: time moves only when
every callback that was due has run, and never backwards.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
BEGAN_S = 1000.0
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(RuntimeError):
    """Everybody waits and no timer is set: nothing could ever happen again."""


class _NoWaiting(selectors.DefaultSelector):
    """A selector that lets time pass instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = BEGAN_S

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Nothing, ever: the time moves on by ``timeout`` instead."""
        if timeout is None:
            raise Stuck("everybody waits and no timer is set")
        self.now_s += max(timeout, 0.0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The loop, and a `Clock` that says its time."""

    def __init__(self) -> None:
        self._virtual = _NoWaiting()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds; a loop begins at `BEGAN_S`."""
        return self._virtual.now_s

    def monotonic_s(self) -> float:
        """As `time`: the unit of deadlines."""
        return self._virtual.now_s

    def wall(self) -> datetime:
        """The time of day that belongs to it."""
        return BEGINNING + timedelta(seconds=self._virtual.now_s)


def run_virtual(main: Coroutine[Any, Any, T], loop: VirtualTimeLoop | None = None) -> T:
    """Run to the end of ``main``. `Stuck` when it can never end."""
    with asyncio.Runner(loop_factory=lambda: loop or VirtualTimeLoop()) as runner:
        return runner.run(main)
