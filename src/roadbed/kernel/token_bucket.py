"""Rate limits by the generic cell rate algorithm (GCRA, ITU-T I.371): one number of state per limit.

``tat_s`` is the theoretical arrival time: the moment at which the bucket would be full again. All functions are pure;
whoever limits keeps the number. The invariant: over any stretch of t seconds no more than burst + t x rate is let
through.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """``limit`` units per ``period_s`` seconds, of which ``burst`` may come at once."""

    limit: float
    period_s: float
    burst: float

    def __post_init__(self) -> None:
        if self.limit <= 0 or self.period_s <= 0 or self.burst <= 0:
            raise ValueError("a rate's limit, period and burst are above zero")

    @property
    def spacing_s(self) -> float:
        """Seconds that one unit costs."""
        return self.period_s / self.limit

    @property
    def window_s(self) -> float:
        """Seconds that a full burst costs."""
        return self.burst * self.spacing_s


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request is let through, with the new state, what remains, and how long to wait when it is not."""

    is_allowed: bool
    tat_s: float
    remaining: int
    retry_after_s: float


def take(rate: Rate, tat_s: float, now_s: float, cost: float = 1.0) -> Decision:
    """Ask for ``cost`` units. A request that costs more than the whole burst is never let through."""
    new_tat_s = max(tat_s, now_s) + cost * rate.spacing_s
    over_s = new_tat_s - now_s - rate.window_s
    if over_s <= 1e-9:
        return Decision(True, new_tat_s, remaining(rate, new_tat_s, now_s), 0.0)
    return Decision(False, tat_s, remaining(rate, tat_s, now_s), over_s)


def remaining(rate: Rate, tat_s: float, now_s: float) -> int:
    """Whole units that could be taken now."""
    return max(0, int((rate.window_s - max(0.0, tat_s - now_s)) / rate.spacing_s + 1e-9))


def settle(rate: Rate, tat_s: float, now_s: float, difference: float) -> float:
    """The state after a request turned out to cost ``difference`` more (or, below zero, less) than was taken."""
    return max(now_s, tat_s + difference * rate.spacing_s)
