"""One absolute deadline per request, from which every wait, retry and rung is cut.

A step is given a point in time, never a duration: nested timeouts cannot add up to more than the caller agreed to.
"""

from __future__ import annotations

import msgspec

from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import DeadlineExceeded

DEADLINE_S_MAX = 600.0


class Deadline(msgspec.Struct, frozen=True):
    """A point on a monotonic clock."""

    at_s: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        """The deadline ``seconds`` from now, capped at `DEADLINE_S_MAX`."""
        return cls(clock.monotonic_s() + min(seconds, DEADLINE_S_MAX), clock)

    def remaining_s(self) -> float:
        """Seconds left; zero when it has passed."""
        return max(0.0, self.at_s - self.clock.monotonic_s())

    def has_passed(self) -> bool:
        """Whether no time is left."""
        return self.clock.monotonic_s() >= self.at_s

    def share(self, fraction: float, *, at_most_s: float = DEADLINE_S_MAX) -> Deadline:
        """An earlier deadline: this fraction of what is left, and no more than ``at_most_s`` from now."""
        now = self.clock.monotonic_s()
        return Deadline(min(self.at_s, now + min(self.remaining_s() * fraction, at_most_s)), self.clock)

    def reserving(self, seconds: float) -> Deadline:
        """An earlier deadline that leaves ``seconds`` of this one for what comes after."""
        return Deadline(self.at_s - seconds, self.clock)

    def check(self, doing: str) -> None:
        """Raise `DeadlineExceeded`, naming the step, when no time is left."""
        if self.has_passed():
            hint = "allow more time with x-roadbed-deadline-ms"
            raise DeadlineExceeded(f"the deadline passed while {doing}", hint=hint)
