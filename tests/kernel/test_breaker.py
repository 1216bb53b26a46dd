"""The circuit breaker: opens on failures, admits one probe, comes back slowly; as examples and as a state machine."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roadbed.kernel import breaker as b

EXACT = b.BreakerSettings(open_jitter=0.0)


def failing(count: int, now_s: float = 0.0, result: b.Result = "failure") -> b.Breaker:
    state = b.CLOSED
    for _ in range(count):
        state = b.record(state, result, now_s, 0.5, EXACT)
    return state


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    assert failing(4).phase == "closed"
    assert failing(5).phase == "open"
    assert failing(5).retry_after_s(0.25) == 0.75


def test_half_of_ten_results_failing_opens_it_without_a_run() -> None:
    state = b.CLOSED
    for number in range(9):
        state = b.record(state, "success" if number % 2 else "failure", 0.0, 0.5, EXACT)
    assert state.phase == "closed"
    state = b.record(state, "failure", 0.0, 0.5, EXACT)
    assert state.phase == "open"


def test_results_older_than_the_window_are_forgotten() -> None:
    state = b.CLOSED
    for second in range(0, 200, 25):
        state = b.record(state, "failure", float(second), 0.5, EXACT)
        state = b.record(state, "success", float(second), 0.5, EXACT)
    assert state.phase == "closed"
    assert len(state.buckets) == 1


def test_a_probe_after_the_rest_and_only_one_at_a_time() -> None:
    state = failing(5)
    state, is_admitted = b.admit(state, 0.9, 0.0, EXACT)
    assert not is_admitted
    state, is_admitted = b.admit(state, 1.0, 0.99, EXACT)
    assert is_admitted
    assert state.phase == "half_open"
    state, is_second_admitted = b.admit(state, 1.1, 0.0, EXACT)
    assert not is_second_admitted
    assert b.admit(state, 1.0 + EXACT.probe_s_max, 0.0, EXACT)[1], "a probe that never reports does not block for ever"


def test_a_probe_that_told_nothing_makes_room_for_the_next() -> None:
    state, _ = b.admit(failing(5), 1.0, 0.0, EXACT)
    state = b.record(state, "ignored", 1.1, 0.5, EXACT)
    assert b.admit(state, 1.1, 0.0, EXACT)[1]


def test_each_opening_in_a_row_lasts_twice_as_long_up_to_a_minute() -> None:
    state, now_s, lengths = failing(5), 0.0, []
    for _ in range(9):
        lengths.append(state.retry_after_s(now_s))
        now_s = state.until_s
        state, _ = b.admit(state, now_s, 0.0, EXACT)
        state = b.record(state, "failure", now_s, 0.5, EXACT)
    assert lengths == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_jitter_spreads_the_rest_by_a_fifth() -> None:
    for chance, length_s in ((0.0, 0.8), (0.5, 1.0), (1.0, 1.2)):
        state = b.CLOSED
        for _ in range(5):
            state = b.record(state, "failure", 0.0, chance)
        assert abs(state.retry_after_s(0.0) - length_s) < 1e-9


def test_it_comes_back_in_steps_and_then_forgets() -> None:
    state, _ = b.admit(failing(5), 1.0, 0.0, EXACT)
    state = b.record(state, "success", 1.0, 0.5, EXACT)
    shares = [b.admitted_share(state, 1.0 + seconds, EXACT) for seconds in (0, 10, 20, 30)]
    assert shares == [0.1, 0.25, 0.5, 1.0]
    assert b.admit(state, 1.0, 0.05, EXACT)[1]
    assert not b.admit(state, 1.0, 0.5, EXACT)[1]
    state = b.record(state, "success", 31.0, 0.5, EXACT)
    assert (state.phase, state.openings) == ("closed", 0)


def test_a_failure_while_coming_back_opens_it_again_for_longer() -> None:
    state, _ = b.admit(failing(5), 1.0, 0.0, EXACT)
    state = b.record(state, "success", 1.0, 0.5, EXACT)
    state = b.record(state, "connect_failure", 2.0, 0.5, EXACT)
    assert (state.phase, state.retry_after_s(2.0)) == ("open", 2.0)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of requests, results and time."""

    def __init__(self) -> None:
        super().__init__()
        self.state = b.CLOSED
        self.now_s = 0.0
        self.probes: list[float] = []
        self.admitted = 0

    @rule(seconds=st.floats(0.0, 40.0))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(chance=st.floats(0.0, 0.999))
    def ask(self, chance: float) -> None:
        before = self.state
        is_available = b.is_available(before, self.now_s)
        self.state, is_admitted = b.admit(before, self.now_s, chance)
        assert is_available or not is_admitted
        if before.phase == "open" and self.now_s < before.until_s:
            assert not is_admitted
        if self.state.phase == "half_open":
            assert self.state.probe_since_s is not None
            if is_admitted and before.probe_since_s is not None:
                assert self.now_s - before.probe_since_s >= b.DEFAULT_SETTINGS.probe_s_max
        if before.phase == "closed":
            assert is_admitted
        self.admitted += is_admitted

    @precondition(lambda self: self.admitted)
    @rule(result=st.sampled_from(["success", "failure", "connect_failure", "ignored"]), chance=st.floats(0.0, 0.999))
    def report(self, result: b.Result, chance: float) -> None:
        before, self.admitted = self.state, self.admitted - 1
        self.state = b.record(before, result, self.now_s, chance)
        if result == "success":
            assert self.state.phase == before.phase or before.phase in ("half_open", "recovering")
        if self.state.phase == "open" and before.phase != "open":
            assert 0.8 - 1e-9 <= self.state.until_s - self.now_s <= 72.0

    @invariant()
    def it_stays_small(self) -> None:
        assert len(self.state.buckets) <= b.DEFAULT_SETTINGS.window_s
        assert self.state.failures_in_a_row < b.DEFAULT_SETTINGS.failures_in_a_row_max


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
