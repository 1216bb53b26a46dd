"""Full jitter and the retry budget."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from roadbed.kernel import retry


@given(st.integers(0, 1000), st.floats(0, 0.999999))
def test_the_wait_is_a_share_of_a_doubling_bound(number: int, chance: float) -> None:
    wait_s = retry.full_jitter_s(number, chance)
    assert 0 <= wait_s <= min(retry.WAIT_S_MAX, 0.1 * 2 ** min(number, 10))


def test_the_wait_uses_the_whole_range() -> None:
    assert retry.full_jitter_s(3, 0.0) == 0.0
    assert retry.full_jitter_s(3, 0.5) == 0.4


@given(st.lists(st.sampled_from(["request", "retry"]), max_size=400))
def test_retries_never_pass_a_tenth_of_the_requests_and_the_cap(steps: list[str]) -> None:
    budget, requests, retries = retry.BUDGET_MAX, 0, 0
    for step in steps:
        if step == "request":
            budget, requests = retry.earn(budget), requests + 1
        elif (after := retry.spend(budget)) is not None:
            budget, retries = after, retries + 1
    assert retries <= retry.BUDGET_MAX + retry.BUDGET_PER_REQUEST * requests + 1e-6
    assert 0 <= budget <= retry.BUDGET_MAX
