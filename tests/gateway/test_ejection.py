"""Endpoints that fail more than their peers rest: by statistics, never more than half of a route, never the last."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.ejection import EJECTION_S, RESULTS_MIN, SWEEP_S, Results, is_outlier, outliers
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.health import HealthBoard
from roadbed.gateway.pace import FALL_S, UNKNOWN_PACE, Pace, noted, quantile

from .conftest import MovableClock

NAMES = ["a", "b", "c", "d", "e"]
RESULTS = st.integers(0, 400).flatmap(lambda n: st.builds(Results, st.just(n), st.integers(0, n)))
GROUPS = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=1, max_size=4)


@given(GROUPS, st.dictionaries(st.sampled_from(NAMES), RESULTS), st.frozensets(st.sampled_from(NAMES)))
def test_never_more_than_half_of_a_group_and_never_its_last(
    groups: list[list[str]], results: dict[str, Results], is_out: frozenset[str]
) -> None:
    ejected = outliers(groups, results, is_out)
    for group in groups:
        added = [name for name in group if name in ejected]
        out = [name for name in group if name in ejected or name in is_out]
        assert not added or (len(out) <= len(group) // 2 and len(out) < len(group))
    for name in ejected:
        assert name not in is_out
        assert results[name].count >= RESULTS_MIN


@given(st.integers(50, 2000), st.integers(50, 2000), st.integers(0, 20))
def test_who_fails_as_often_as_its_peers_is_no_outlier(own: int, peers: int, percent: int) -> None:
    assert not is_outlier(Results(own, own * percent // 100), Results(peers, peers * percent // 100))


def test_one_in_five_beside_peers_that_never_fail_is_an_outlier_and_few_results_prove_nothing() -> None:
    assert is_outlier(Results(50, 10), Results(100, 0))
    assert not is_outlier(Results(49, 40), Results(100, 0))
    assert not is_outlier(Results(100, 40), Results(49, 0))
    assert not is_outlier(Results(50, 2), Results(100, 0))
    assert outliers([["a", "b"]], {"a": Results(50, 10), "b": Results(50, 0)}, ()) == ["a"]
    assert outliers([["a"]], {"a": Results(50, 50)}, ()) == []


def test_an_outlier_rests_longer_each_time_though_its_circuit_is_closed() -> None:
    clock = MovableClock()
    board = HealthBoard(clock.monotonic_s, lambda: 0.5, groups=(("a", "b", "c"),))

    def traffic(fault_every: int) -> None:
        """Until ``a`` rests."""
        for number in range(250):
            for name in "abc":
                if board.of(name).why_unavailable(clock.now_s):
                    return
                admission = board.admit(name, has_alternative=True)
                if admission is None:
                    assert name == "a", "only who was ejected is brought back slowly"
                elif name == "a" and number % fault_every == 0:
                    admission.failed(UpstreamError("fault", "scripted"))
                else:
                    admission.succeeded(0.1)
            clock.now_s += SWEEP_S / 20

    traffic(4)
    state = board.of("a")
    assert state.breaker.phase == "closed"
    assert state.why_unavailable(clock.now_s) == "resting after failing more than its peers"
    assert not any(board.of(name).why_unavailable(clock.now_s) for name in "bc")
    clock.now_s += EJECTION_S
    assert not state.why_unavailable(clock.now_s)
    traffic(4)
    assert state.resting_until_s - clock.now_s > 2 * EJECTION_S - SWEEP_S


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=600), st.floats(0, 1))
def test_a_quantile_is_a_sample_with_that_share_at_or_below_it(samples: list[float], share: float) -> None:
    found = quantile(samples, share)
    assert found in samples
    assert sum(sample <= found for sample in samples) >= share * len(samples) - 1e-6


@given(st.lists(st.tuples(st.floats(0.001, 60), st.integers(1, 500), st.floats(0, 30)), max_size=30))
def test_a_pace_rises_at_once_and_falls_slowly(answers: list[tuple[float, int, float]]) -> None:
    pace, now_s = UNKNOWN_PACE, 0.0
    for seconds, tokens, later_s in answers:
        now_s += later_s
        before = pace.seconds_per_token
        pace = noted(pace, seconds, tokens, now_s)
        assert pace.seconds_per_token is not None
        assert pace.seconds_per_token >= seconds / tokens * 0.999999
        assert before is None or pace.seconds_per_token <= max(before, seconds / tokens) * 1.000001
    assert noted(pace, 1.0, 0, now_s) == pace, "an answer without tokens has no pace"
    fallen = noted(Pace(1.0, 0.0), 0.5, 1, FALL_S).seconds_per_token
    assert fallen is not None
    assert 0.6 < fallen < 0.7
    assert Pace(0.5).load(3) == 2.0


def test_latest_first_tokens_are_kept_in_bounds() -> None:
    board = HealthBoard(MovableClock().monotonic_s, random.random)
    for number in range(2000):
        admission = board.admit("a", has_alternative=False)
        assert admission is not None
        admission.succeeded(float(number))
    state = board.of("a")
    assert len(state.first_events) == 512
    assert state.first_event_ms == 1999_000.0
    assert state.first_event_s(0.5) == 1743.0
    assert state.first_event_s(0.5, samples_min=513) is None
