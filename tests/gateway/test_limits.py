"""Rates by the generic cell rate algorithm, slots, and how processes divide them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.limits import ConcurrencyExceeded, Gauge, LimitSet, RateExceeded, Slots, divide
from roadbed.kernel.principal import Principal
from roadbed.kernel.token_bucket import Rate, take
from roadbed.ledger.trace import Trace, Usage

from .conftest import MovableClock

CALLER = Principal(id="key-1", team="support")


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 40), st.integers(1, 5)), max_size=60))
def test_a_gauge_decides_as_the_kernel_s_algorithm_does(limit: int, asked: list[tuple[float, int]]) -> None:
    gauge, rate = Gauge("team support", "requests", limit, 60.0), Rate(limit, 60.0, limit)
    tat_s = now_s = 0.0
    for wait_s, cost in asked:
        now_s += wait_s
        decision = take(rate, tat_s, now_s, cost)
        is_allowed = gauge.wait_s(now_s, cost) <= 1e-9
        assert is_allowed == decision.is_allowed
        if is_allowed:
            gauge.take(now_s, cost)
        else:
            assert gauge.wait_s(now_s, cost) == pytest.approx(decision.retry_after_s)
        tat_s = decision.tat_s
        assert abs(gauge.remaining(now_s) - decision.remaining) <= 1


@given(st.integers(1, 200), st.lists(st.floats(0, 5), min_size=1, max_size=300))
def test_no_stretch_of_time_lets_more_through_than_a_burst_and_the_rate(limit: int, waits: list[float]) -> None:
    gauge = Gauge("team support", "requests", limit, 10.0)
    now_s, let_through = 0.0, []
    for wait_s in waits:
        now_s += wait_s
        if gauge.wait_s(now_s, 1) <= 1e-9:
            gauge.take(now_s, 1)
            let_through.append(now_s)
    for start, first_s in enumerate(let_through):
        for number, at_s in enumerate(let_through[start:], 1):
            assert number <= limit + (at_s - first_s) * limit / 10.0 + 1e-6


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 1e6), min_size=1, max_size=8),
    st.booleans(),
)
def test_shares_are_never_more_than_the_whole(demand: dict[str, float], has_idle: bool) -> None:
    demands = {holder: {"team support/requests": units} for holder, units in demand.items()}
    if has_idle:
        demands["idle"] = {}
    shares = {holder: divide(demands, holder, "team support/requests") for holder in demands}
    assert math.isclose(sum(shares.values()), 1.0)
    assert all(share >= 0.1 / len(demands) - 1e-9 for share in shares.values())


def trace_with(tokens_in: int, tokens_out: int) -> Trace:
    trace = Trace("smart", CALLER)
    trace.usage.append(Usage("a", "m", input_uncached=tokens_in, output_tokens=tokens_out))
    return trace


def test_a_refusal_counts_nothing_and_says_when(clock: MovableClock) -> None:
    wide, narrow = Gauge("team support", "requests", 10, 60.0), Gauge("key k", "requests", 2, 60.0)
    limits = LimitSet([wide, narrow], [], clock.monotonic_s)
    limits.admit(100)
    limits.admit(100)
    with pytest.raises(RateExceeded, match="key k: 2 requests per 60 s are used up") as caught:
        limits.admit(100)
    assert caught.value.retry_after_s == 30
    assert wide.remaining(clock.now_s) == 8
    assert b"x-ratelimit-remaining-requests: 8\r\n" in caught.value.headers
    clock.now_s += 30
    limits.admit(100)


def test_headers_tell_limit_remaining_and_reset(clock: MovableClock) -> None:
    gauges = [Gauge("team support", "requests", 60, 60.0), Gauge("team support", "tokens", 1000, 60.0)]
    headers = LimitSet(gauges, [], clock.monotonic_s).admit(100).headers.decode()
    assert headers == (
        "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\nx-ratelimit-reset-requests: 1.000s\r\n"
        "x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 970\r\nx-ratelimit-reset-tokens: 1.800s\r\n"
    )


def test_tokens_are_settled_with_what_was_used(clock: MovableClock) -> None:
    both = Gauge("team support", "tokens", 1000, 60.0)
    read = Gauge("team support", "input_tokens", 1000, 60.0)
    made = Gauge("team support", "output_tokens", 100, 60.0)
    limits = LimitSet([both, read, made], [], clock.monotonic_s)
    limits.admit(1000).close(trace_with(200, 150))
    assert [gauge.remaining(clock.now_s) for gauge in (both, read, made)] == [650, 800, 0]
    with pytest.raises(RateExceeded, match="output tokens"):
        limits.admit(10)


def test_a_slot_is_given_back_once(clock: MovableClock) -> None:
    slots = Slots("team support", 2)
    limits = LimitSet([], [slots], clock.monotonic_s)
    first, second = limits.admit(1), limits.admit(1)
    with pytest.raises(ConcurrencyExceeded):
        limits.admit(1)
    first.close()
    first.close()
    assert slots.used == 1
    limits.admit(1)
    second.close()
    assert slots.used == 1


def test_a_share_bounds_rate_and_slots(clock: MovableClock) -> None:
    gauge, slots = Gauge("team support", "requests", 10, 60.0), Slots("team support", 10)
    gauge.set_share(0.3, clock.now_s)
    slots.set_share(0.3)
    limits = LimitSet([gauge], [slots], clock.monotonic_s)
    for _ in range(3):
        limits.admit(1)
    with pytest.raises(RateExceeded):
        limits.admit(1)
    gauge.set_share(1.0, clock.now_s)
    with pytest.raises(RateExceeded):  # what a larger part adds is filled by time
        limits.admit(1)
    clock.now_s += 6.0
    with pytest.raises(ConcurrencyExceeded):
        limits.admit(1)
