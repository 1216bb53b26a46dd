"""A circuit breaker as pure functions: (state, what happened, now) to the next state.

Closed, it counts results in a sliding window; open, it lets nothing through until its time is over; then one probe at
a time, and after a good probe a growing share of the traffic (slow start). Time and chance are given by the caller,
so that tests own both. The invariant: while open, and while a probe is out, nobody else is admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec.structs import replace

Phase = Literal["closed", "open", "half_open", "recovering"]
Result = Literal["success", "failure", "connect_failure", "ignored"]


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When to open and how to come back. ``recovery`` lists the admitted shares, one step per ``recovery_step_s``."""

    window_s: int = 10
    results_min: int = 10
    failure_share_max: float = 0.5
    failures_in_a_row_max: int = 5
    open_s: float = 1.0
    open_s_max: float = 60.0
    open_jitter: float = 0.2
    probe_s_max: float = 60.0
    recovery: tuple[float, ...] = (0.1, 0.25, 0.5)
    recovery_step_s: float = 10.0

    @property
    def recovery_s(self) -> float:
        """How long coming back takes."""
        return self.recovery_step_s * len(self.recovery)


DEFAULT_SETTINGS = BreakerSettings()


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """Results of one second."""

    second: int
    successes: int = 0
    failures: int = 0


class Breaker(msgspec.Struct, frozen=True, gc=False):
    """The state of one circuit. ``openings`` counts those in a row; ``until_s`` ends the open phase."""

    phase: Phase = "closed"
    buckets: tuple[Bucket, ...] = ()
    failures_in_a_row: int = 0
    openings: int = 0
    until_s: float = 0.0
    probe_since_s: float | None = None
    recovering_since_s: float = 0.0

    def retry_after_s(self, now_s: float) -> float:
        """Seconds until a request may be admitted again; zero when one may be now."""
        return max(0.0, self.until_s - now_s) if self.phase == "open" else 0.0


CLOSED = Breaker()


def is_available(breaker: Breaker, now_s: float, settings: BreakerSettings = DEFAULT_SETTINGS) -> bool:
    """Whether `admit` could let a request through now; it changes nothing and rolls no dice."""
    if breaker.phase == "open":
        return now_s >= breaker.until_s
    if breaker.phase == "half_open":
        return breaker.probe_since_s is None or now_s - breaker.probe_since_s >= settings.probe_s_max
    return True


def admitted_share(breaker: Breaker, now_s: float, settings: BreakerSettings = DEFAULT_SETTINGS) -> float:
    """The share of traffic that a recovering circuit takes; 1 when it is closed."""
    return recovery_share(breaker.recovering_since_s, now_s, settings) if breaker.phase == "recovering" else 1.0


def recovery_share(since_s: float, now_s: float, settings: BreakerSettings = DEFAULT_SETTINGS) -> float:
    """The share of traffic for who has been coming back since ``since_s``; 1 after the last step."""
    step = max(0, int((now_s - since_s) / settings.recovery_step_s))
    return settings.recovery[step] if step < len(settings.recovery) else 1.0


def admit(
    breaker: Breaker, now_s: float, chance: float, settings: BreakerSettings = DEFAULT_SETTINGS
) -> tuple[Breaker, bool]:
    """Ask to send one request. ``chance`` in [0, 1) decides the share of a recovering circuit.

    An admitted request must be reported to `record`, with ``ignored`` when it told nothing of the endpoint.
    """
    if not is_available(breaker, now_s, settings):
        return breaker, False
    if breaker.phase in ("open", "half_open"):
        return replace(breaker, phase="half_open", probe_since_s=now_s), True
    return breaker, chance < admitted_share(breaker, now_s, settings)


def record(
    breaker: Breaker, result: Result, now_s: float, chance: float, settings: BreakerSettings = DEFAULT_SETTINGS
) -> Breaker:
    """Report how an admitted request ended. ``chance`` in [0, 1) spreads the time that it stays open."""
    if result == "ignored":
        return replace(breaker, probe_since_s=None) if breaker.probe_since_s is not None else breaker
    if breaker.phase == "open":
        return breaker
    is_success = result == "success"
    if breaker.phase == "half_open":
        if not is_success:
            return _open(breaker, now_s, chance, settings)
        return Breaker(phase="recovering", openings=breaker.openings, recovering_since_s=now_s)
    if breaker.phase == "recovering":
        if not is_success:
            return _open(breaker, now_s, chance, settings)
        if now_s - breaker.recovering_since_s < settings.recovery_s:
            return breaker
        breaker = CLOSED
    buckets = _counted(breaker.buckets, is_success, int(now_s), settings.window_s)
    in_a_row = 0 if is_success else breaker.failures_in_a_row + 1
    breaker = Breaker(buckets=buckets, failures_in_a_row=in_a_row)
    failures = sum(bucket.failures for bucket in buckets)
    results = failures + sum(bucket.successes for bucket in buckets)
    is_failing = results >= settings.results_min and failures >= settings.failure_share_max * results
    if not is_success and (is_failing or in_a_row >= settings.failures_in_a_row_max):
        return _open(breaker, now_s, chance, settings)
    return breaker


def count_successes(
    breaker: Breaker, successes: int, second: int, settings: BreakerSettings = DEFAULT_SETTINGS
) -> Breaker:
    """`record` for some successes of one second at once, of a closed circuit that has not failed just before."""
    kept = tuple(bucket for bucket in breaker.buckets if second - settings.window_s < bucket.second < second)
    last = next((bucket for bucket in breaker.buckets if bucket.second == second), Bucket(second))
    return Breaker(buckets=(*kept, Bucket(second, last.successes + successes, last.failures)))


def _counted(buckets: tuple[Bucket, ...], is_success: bool, second: int, window_s: int) -> tuple[Bucket, ...]:
    kept = tuple(bucket for bucket in buckets if bucket.second > second - window_s)
    last = kept[-1] if kept and kept[-1].second == second else Bucket(second)
    earlier = kept[:-1] if kept and kept[-1].second == second else kept
    return (*earlier, Bucket(second, last.successes + is_success, last.failures + (not is_success)))


def _open(breaker: Breaker, now_s: float, chance: float, settings: BreakerSettings) -> Breaker:
    length_s = min(settings.open_s * 2.0**breaker.openings, settings.open_s_max)
    length_s *= 1.0 + settings.open_jitter * (2.0 * chance - 1.0)
    return Breaker(phase="open", openings=min(breaker.openings + 1, 32), until_s=now_s + length_s)
