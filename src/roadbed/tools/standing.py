"""What a toolbox remembers between calls: rates of callers, last good results, and how each tool has gone.

All of it is bounded and lives in one process. The invariant: a result is given again to nobody but the caller for whom
it was made.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from roadbed.gateway.gauges import Gauges
from roadbed.kernel.clock import SYSTEM_CLOCK
from roadbed.kernel.limits import parse_rate
from roadbed.tools.types import Ok

RATES_MAX = 10_000
STALE_RESULTS_MAX = 512
STALE_BYTES_MAX = 16 * 1024 * 1024
LATENCIES_KEPT = 256

K = TypeVar("K")


class CallRates:
    """One gauge for each caller and tool, of which this process holds its share; the longest unused ones are forgotten
    over `RATES_MAX`.
    """

    def __init__(self, monotonic_s: Callable[[], float] = SYSTEM_CLOCK.monotonic_s) -> None:
        self.gauges = Gauges(monotonic_s, RATES_MAX)
        self._rates: dict[str, tuple[int, float]] = {}

    def take(self, caller: str, tool: str, rate: str) -> float:
        """Count one call; zero when it may be made, else the seconds to wait."""
        parsed = self._rates.get(rate)
        if parsed is None:
            parsed = self._rates[rate] = parse_rate(rate)
        gauge, now_s = self.gauges.gauge(f"tool {tool} of {caller}", "requests", *parsed), self.gauges.monotonic_s()
        wait_s = gauge.wait_s(now_s, 1.0)
        if wait_s > 1e-9:
            gauge.demand += 1.0  # so that the share of a process that refuses grows
            return max(wait_s, 0.001)
        gauge.take(now_s, 1.0)
        return 0.0


class LastResults(Generic[K]):
    """Last good results, by whatever names a call and its caller."""

    def __init__(self) -> None:
        self._kept: OrderedDict[K, tuple[Ok, float, int]] = OrderedDict()
        self._bytes = 0

    def keep(self, key: K, ok: Ok, size_bytes: int) -> None:
        """Remember the last good result of a call; the oldest go where number or bytes pass their bounds."""
        before = self._kept.pop(key, None)
        if before is not None:
            self._bytes -= before[2]
        self._kept[key] = (ok, time.time(), size_bytes)
        self._bytes += size_bytes
        while self._kept and (len(self._kept) > STALE_RESULTS_MAX or self._bytes > STALE_BYTES_MAX):
            self._bytes -= self._kept.popitem(last=False)[1][2]

    def find(self, key: K, age_s_max: float) -> Ok | None:
        """The result with its age, unless it is too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        ok, kept_s, _ = found
        age_s = max(0.0, time.time() - kept_s)
        if age_s > age_s_max:
            return None
        aged = tuple(replace(origin, age_s=origin.age_s + age_s) for origin in ok.provenance)
        return replace(ok, provenance=aged)

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self._bytes = 0


@dataclass(slots=True)
class ToolCounts:
    """How one tool has gone in this process."""

    calls: int = 0
    errors: int = 0
    refusals: int = 0
    last_failure: str = ""
    last_failure_at: float = 0.0
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def quantile_ms(self, share: float) -> float | None:
        """A quantile of the last `LATENCIES_KEPT` calls; None before the first."""
        if not self.latencies_s:
            return None
        ordered = sorted(self.latencies_s)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 2)
