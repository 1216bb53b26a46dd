"""How long to wait before a retry, and whether there may be one: full jitter and a retry budget, as pure functions.

Full jitter spreads clients that failed together (AWS Architecture Blog, "Exponential Backoff And Jitter"); the budget
keeps retries a small share of all requests, so that they cannot feed a brownout. The invariant: retries never pass
earned share plus cap.
"""

from __future__ import annotations

BASE_S = 0.1
WAIT_S_MAX = 10.0
BUDGET_PER_REQUEST = 0.1
BUDGET_MAX = 10.0


def full_jitter_s(retry: int, chance: float, *, base_s: float = BASE_S, wait_s_max: float = WAIT_S_MAX) -> float:
    """Seconds before retry number ``retry`` (from 0): a random share of base x 2^retry. ``chance`` is in [0, 1)."""
    return chance * min(wait_s_max, base_s * 2.0 ** min(retry, 32))


def earn(budget: float) -> float:
    """The budget after one more first attempt."""
    return min(BUDGET_MAX, budget + BUDGET_PER_REQUEST)


def spend(budget: float) -> float | None:
    """The budget after one retry; None when there is no room for one."""
    return budget - 1.0 if budget >= 1.0 else None
