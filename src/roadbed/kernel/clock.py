"""Time as a seam: whoever needs "now" takes a ``Clock``, so that tests and the simulator own time.

Monotonic seconds (`monotonic_s`) order events and carry deadlines; wall time (`wall`) is only for people and records.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic_s(self) -> float:
        """Seconds that never go back; the unit of every deadline."""
        ...

    def wall(self) -> datetime:
        """The time of day, in UTC, for records and people."""
        ...


class SystemClock:
    """The clock of the machine."""

    monotonic_s = staticmethod(time.monotonic)  # asked several times a request: without a frame of its own
    """Seconds since an arbitrary start."""

    def wall(self) -> datetime:
        """The machine's time of day in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()
