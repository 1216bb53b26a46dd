"""The bound of a sample."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.controls.bounds import upper_bound


def test_known_values() -> None:
    assert upper_bound(3000, recall=0.95) == pytest.approx(0.00105, abs=0.00001)
    assert upper_bound(0) == 1.0
    assert upper_bound(500, population=500) == 0.0
    assert upper_bound(100, 5) == pytest.approx(0.1023, abs=0.001)  # one-sided Clopper-Pearson, 95 %


@given(st.integers(1, 5000), st.integers(0, 50))
def test_the_bound_is_never_below_what_was_found(n: int, hits: int) -> None:
    hits = min(n, hits)
    bound = upper_bound(n, hits)
    assert hits / n <= bound <= 1.0
    assert upper_bound(n, min(n, hits + 1)) >= bound - 1e-9
    if hits == 0:
        assert math.isclose((1 - bound) ** n, 0.05, rel_tol=1e-6)
