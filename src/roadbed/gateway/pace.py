"""How fast an endpoint is: seconds per token as a peak-sensitive average, and quantiles of the latest first tokens.

Pure. Kept in `EndpointHealth`, read by the strategies, by hedges and by the console. The invariant: what is kept is
bounded, however many answers come.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

SAMPLES_MAX = 512
FALL_S = 10.0
SECONDS_PER_TOKEN_SUPPOSED = 0.02
"""The pace of an endpoint that has not answered yet."""


class Pace(msgspec.Struct, frozen=True, gc=False):
    """Seconds per token, as of ``at_s``; None before the first answer."""

    seconds_per_token: float | None = None
    at_s: float = 0.0

    def load(self, in_flight: int) -> float:
        """What one more request would wait for a token, next to those in flight."""
        supposed = SECONDS_PER_TOKEN_SUPPOSED if self.seconds_per_token is None else self.seconds_per_token
        return (in_flight + 1) * supposed


UNKNOWN_PACE = Pace()


def noted(pace: Pace, seconds: float, tokens: int, now_s: float) -> Pace:
    """The pace after one more answer: it rises at once, and falls with a time constant of `FALL_S` (peak EWMA)."""
    if tokens <= 0 or seconds < 0:
        return pace
    sample, known = seconds / tokens, pace.seconds_per_token
    if known is None or sample >= known:
        return Pace(sample, now_s)
    keep = math.exp(-max(0.0, now_s - pace.at_s) / FALL_S)
    return Pace(sample + (known - sample) * keep, now_s)


def quantile(samples: Collection[float], share: float) -> float:
    """The smallest sample that is not below ``share`` of all; there must be one."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
