"""How many requests an endpoint is given at a time, learned from its answers: pure steps of a limit.

Own engines queue inside, so their first tokens come later when they are given too much: the limit follows that
gradient (after Netflix's Gradient2). Clouds say so themselves: additive increase, multiplicative decrease. The
invariant: a limit stays between `LIMIT_MIN` and the endpoint's connections.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

LIMIT_MIN = 1.0
LIMIT_START = 16.0
TOLERANCE = 1.5
"""First tokens may take so many times their time without load before the limit falls."""

GROWTH = 2.0
SMOOTHING = 0.2
BASE_WEIGHT = 1 / 600
DECREASE = 0.7
DECREASE_EVERY_S = 5.0


class Limit(msgspec.Struct, frozen=True, gc=False):
    """A limit with what it was learned from. ``base_s`` is the time of a first token without load."""

    value: float = LIMIT_START
    base_s: float | None = None
    recent_s: float = 0.0
    decreased_at_s: float = float("-inf")

    @property
    def slots(self) -> int:
        """How many requests it lets through at a time."""
        return max(1, int(self.value))


def by_gradient(limit: Limit, first_event_s: float, in_flight: int, limit_max: int) -> Limit:
    """The limit after one more answer of an own engine, of which so many were in flight.

    The base falls at once, and rises only by answers without load: under a load that stays it would follow, and the
    limit with it.
    """
    if limit.base_s is None:
        return replace(limit, base_s=first_event_s, recent_s=first_event_s, value=_within(limit.value, limit_max))
    base_s = min(limit.base_s, first_event_s)
    if in_flight <= max(2.0, limit.value / 2):
        base_s += BASE_WEIGHT * (first_event_s - base_s)
    recent_s = limit.recent_s + SMOOTHING * (first_event_s - limit.recent_s)
    gradient = min(1.0, max(0.5, TOLERANCE * base_s / recent_s)) if recent_s > 0 else 1.0
    value = limit.value
    if gradient < 1.0 or in_flight >= value / 2:  # no growth that nobody used
        value += SMOOTHING * (gradient * value + (GROWTH if gradient == 1.0 else 0.0) - value)
    return replace(limit, base_s=base_s, recent_s=recent_s, value=_within(value, limit_max))


def by_success(limit: Limit, in_flight: int, limit_max: int) -> Limit:
    """The limit after one more answer of a cloud: one more for each limit's worth of answers, if it was used."""
    if in_flight < limit.value / 2:
        return limit
    return replace(limit, value=_within(limit.value + 1.0 / limit.value, limit_max))


def by_refusal(limit: Limit, now_s: float, limit_max: int) -> Limit:
    """The limit after it said that it was too much (429, 503, 529): less, at most once in `DECREASE_EVERY_S`."""
    if now_s - limit.decreased_at_s < DECREASE_EVERY_S:
        return limit
    return replace(limit, value=_within(limit.value * DECREASE, limit_max), decreased_at_s=now_s)


def _within(value: float, limit_max: int) -> float:
    return min(max(value, LIMIT_MIN), max(LIMIT_MIN, float(limit_max)))
