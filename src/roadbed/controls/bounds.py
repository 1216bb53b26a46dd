"""How sure a sample makes: an upper bound on the share that is wrong, at 95 %. Pure.

None found of n: p <= 1 - 0.05^(1/n), about 3/n; some found: Clopper-Pearson, found by bisection on the binomial sum;
everything looked at: what was found. A detector that misses some is corrected for by its recall.
"""

from __future__ import annotations

from math import exp, lgamma, log
from typing import Final

ALPHA: Final = 0.05
BISECTIONS: Final = 60


def upper_bound(n: int, hits: int = 0, *, recall: float = 1.0, population: int | None = None) -> float:
    """The share that is wrong at most, at 95 %, when ``hits`` of ``n`` were; 1 when nothing was looked at."""
    if n <= 0:
        return 1.0
    if population is not None and n >= population:
        share = hits / n
    elif hits == 0:
        share = 1.0 - ALPHA ** (1.0 / n)
    else:
        share = _clopper_pearson(n, hits)
    return min(1.0, share / recall)


def _clopper_pearson(n: int, hits: int) -> float:
    if hits >= n:
        return 1.0
    low, high = hits / n, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _at_most(n, hits, middle) > ALPHA:
            low = middle
        else:
            high = middle
    return high


def _at_most(n: int, hits: int, share: float) -> float:
    """The probability of at most so many hits."""
    if share >= 1.0:
        return 0.0
    return sum(
        exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(share) + (n - k) * log(1.0 - share))
        for k in range(hits + 1)
    )
