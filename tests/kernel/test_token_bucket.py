"""GCRA: no stretch of time lets through more than burst + rate x time; waits are exact."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roadbed.kernel.token_bucket import Rate, remaining, settle, take

PER_MINUTE = Rate(limit=60, period_s=60, burst=10)


def test_a_burst_then_the_rate() -> None:
    tat_s = 0.0
    for left in range(9, -1, -1):
        decision = take(PER_MINUTE, tat_s, 100.0)
        assert (decision.is_allowed, decision.remaining) == (True, left)
        tat_s = decision.tat_s
    refused = take(PER_MINUTE, tat_s, 100.0)
    assert not refused.is_allowed
    assert refused.tat_s == tat_s
    assert refused.retry_after_s == pytest.approx(1.0)
    assert take(PER_MINUTE, tat_s, 100.0 + refused.retry_after_s).is_allowed


def test_more_than_the_burst_is_never_let_through() -> None:
    assert not take(PER_MINUTE, 0.0, 1e9, cost=11).is_allowed


def test_settling_gives_back_what_was_not_used_and_charges_what_was() -> None:
    tat_s = take(PER_MINUTE, 0.0, 100.0, cost=8).tat_s
    assert remaining(PER_MINUTE, tat_s, 100.0) == 2
    assert remaining(PER_MINUTE, settle(PER_MINUTE, tat_s, 100.0, -5), 100.0) == 7
    assert remaining(PER_MINUTE, settle(PER_MINUTE, tat_s, 100.0, 1), 100.0) == 1
    assert remaining(PER_MINUTE, settle(PER_MINUTE, tat_s, 100.0, -100), 100.0) == 10


@pytest.mark.parametrize("values", [(0, 60, 1), (1, 0, 1), (1, 60, 0)])
def test_a_rate_of_nothing_is_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError):
        Rate(*values)


@given(st.floats(0.1, 1000), st.floats(0.1, 3600), st.integers(1, 100), st.floats(0, 1e6), st.floats(0.1, 5))
@settings(max_examples=100, deadline=None)
def test_waiting_as_told_is_enough(limit: float, period_s: float, burst: int, now_s: float, cost: float) -> None:
    rate = Rate(limit, period_s, burst)
    if cost > burst:
        return
    tat_s = 0.0
    for _ in range(burst + 2):
        decision = take(rate, tat_s, now_s, cost)
        now_s += decision.retry_after_s * (1 + 1e-9) + 1e-6 if not decision.is_allowed else 0.0
        if not decision.is_allowed:
            decision = take(rate, tat_s, now_s, cost)
            assert decision.is_allowed
        tat_s = decision.tat_s


class BucketMachine(RuleBasedStateMachine):
    """Any arrivals: over every stretch of time the bound holds."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = Rate(limit=5, period_s=1, burst=3)
        self.tat_s = 0.0
        self.now_s = 0.0
        self.taken: list[tuple[float, float]] = []

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(cost=st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    def ask(self, cost: float) -> None:
        decision = take(self.rate, self.tat_s, self.now_s, cost)
        self.tat_s = decision.tat_s
        assert (decision.retry_after_s > 0) != decision.is_allowed
        if decision.is_allowed:
            self.taken.append((self.now_s, cost))

    @invariant()
    def the_bound_holds(self) -> None:
        for start, (since_s, _) in enumerate(self.taken):
            total = 0.0
            for at_s, cost in self.taken[start:]:
                total += cost
                assert total <= self.rate.burst + (at_s - since_s) * self.rate.limit / self.rate.period_s + 1e-6


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
