"""Processes that share a rate: together they hold it within a bound, whatever moves between them and when."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.gateway.gauges import DEMANDS_MAX, Gauges

from .conftest import MovableClock

PERIOD_S = 60.0
BEAT_S = 1.0


class Processes:
    """Serving processes that hear of each other once a second, each at a moment of its own."""

    def __init__(self, count: int, limit: int, seed: int = 0) -> None:
        self.clock = MovableClock()
        self.clock.now_s = 0.0
        self.limit = limit
        self.passed: list[float] = []
        self._told: dict[str, dict[str, float]] = {}
        self._all = [Gauges(self.clock.monotonic_s) for _ in range(count)]
        offsets = Random(seed)
        self._beats = [offsets.random() * BEAT_S for _ in range(count)]
        for gauges in self._all:
            gauges.divide_by(count)

    def ask(self, number: int) -> bool:
        """One request at a process."""
        now_s = self.clock.now_s
        gauge = self._all[number].gauge("tool t of k", "requests", self.limit, PERIOD_S)
        if gauge.wait_s(now_s, 1.0) > 1e-9:
            gauge.demand += 1.0
            return False
        gauge.take(now_s, 1.0)
        self.passed.append(now_s)
        return True

    def wait(self, seconds: float) -> None:
        """Let time go by, with the heartbeats in it."""
        until_s = self.clock.now_s + seconds
        while (at_s := min(self._beats)) <= until_s:
            number = self._beats.index(at_s)
            self.clock.now_s = at_s
            holder, gauges = f"p{number}", self._all[number]
            self._told[holder] = gauges.demand()
            gauges.share(dict(self._told), holder)
            self._beats[number] += BEAT_S
        self.clock.now_s = until_s

    def most_within(self, stretch_s: float) -> int:
        """The most requests that passed in any stretch of time."""
        return max(sum(start <= at_s <= start + stretch_s for at_s in self.passed) for start in self.passed)


@given(
    st.integers(1, 4),
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=40),
    st.integers(0, 9),
)
@settings(max_examples=150, deadline=None)
def test_any_stretch_lets_the_limit_through_and_the_rate_and_what_the_last_second_moved(
    count: int, limit: int, bursts: list[tuple[float, int, int]], seed: int
) -> None:
    processes = Processes(count, limit, seed)
    for wait_s, number, asks in bursts:
        processes.wait(wait_s)
        for _ in range(asks):
            processes.ask(number % count)
    rate = limit / PERIOD_S
    for start in range(0, len(processes.passed), max(1, len(processes.passed) // 20)):
        for passed, at_s in enumerate(processes.passed[start:], 1):
            stretch_s = at_s - processes.passed[start]
            moved = rate * (count - 1) * (stretch_s + BEAT_S) if count > 1 else 0.0
            assert passed <= limit + count + rate * stretch_s + moved + 1e-6


@pytest.mark.parametrize("every_s", [2.0, 6.0, 10.0])
def test_a_caller_who_moves_to_and_fro_gets_no_more(every_s: float) -> None:
    processes = Processes(2, 100)
    for turn in range(40):
        for _ in range(int(every_s / 0.5)):
            for _ in range(100):
                processes.ask(turn % 2)
            processes.wait(0.5)
    assert processes.most_within(PERIOD_S) <= 100 + 2 + 100 * 1.1


def test_steady_load_on_one_process_soon_has_nearly_all_of_the_rate() -> None:
    processes = Processes(3, 60)
    for _ in range(600):
        processes.ask(0)
        processes.wait(0.5)
    last_minute = sum(at_s > 240 for at_s in processes.passed)
    assert 52 <= last_minute <= 60


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_that_is_smaller_than_the_processes_lets_calls_through_at_its_rate(limit: int) -> None:
    processes = Processes(4, limit)
    assert processes.ask(2)
    for second in range(1800):
        processes.wait(1.0)
        processes.ask(second % 4)
    assert len(processes.passed) <= limit * 30 + 4 + limit
    assert len(processes.passed) >= limit * 30 * 0.8
    assert all(after >= before for before, after in pairwise(processes.passed))


def test_refusals_are_demand_so_that_two_busy_processes_end_with_even_parts() -> None:
    processes = Processes(2, 60)
    for _ in range(120):
        processes.ask(0)
        processes.wait(0.5)
    before = len(processes.passed)
    passed = [0, 0]
    for _ in range(240):
        for number in (0, 1):
            passed[number] += processes.ask(number)
        processes.wait(0.5)
    assert len(processes.passed) - before == sum(passed)
    assert 0.4 <= passed[0] / sum(passed) <= 0.6


def test_what_is_told_is_bounded_and_ends() -> None:
    gauges = Gauges(lambda: 0.0)
    for number in range(DEMANDS_MAX + 50):
        gauge = gauges.gauge(f"tool t of {number}", "requests", 1000, PERIOD_S)
        gauge.take(0.0, 1.0 + (number >= 50))
    told = gauges.demand()
    assert len(told) == DEMANDS_MAX
    assert min(told.values()) == 2.0
    for _ in range(20):
        told = gauges.demand()
    assert told == {}


LIMIT = 5


class Crowd:
    """Callers at gauges of which few are kept; nobody holds on to one."""

    def __init__(self, gauges_max: int) -> None:
        self.clock = MovableClock()
        self.gauges = Gauges(self.clock.monotonic_s, gauges_max=gauges_max)

    def ask(self, owner: str, cost: float = 1.0) -> bool:
        gauge, now_s = self.gauges.gauge(owner, "requests", LIMIT, PERIOD_S), self.clock.now_s
        if gauge.wait_s(now_s, cost) > 1e-9:
            return False
        gauge.take(now_s, cost)
        return True


@given(
    st.integers(2, 12),
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 0.2)), min_size=1, max_size=60),
    st.integers(1, LIMIT - 1),
)
def test_many_others_do_not_empty_anybody_s_count(
    gauges_max: int, others: list[tuple[int, float]], cost: float
) -> None:
    crowd = Crowd(gauges_max)
    began_s = crowd.clock.now_s
    assert crowd.ask("spent", LIMIT)
    for number, seconds in others:
        crowd.clock.now_s += seconds
        crowd.ask(f"other {number}", cost)
        assert len(list(crowd.gauges)) <= gauges_max
    if crowd.clock.now_s - began_s < PERIOD_S / LIMIT - 0.001:
        assert not crowd.ask("spent"), "not one unit is free again before the spacing of one has gone by"


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 8))
def test_what_is_free_again_goes_before_all_that_counts(owners: list[int], used: int) -> None:
    crowd = Crowd(9)
    for number in range(used):
        assert crowd.ask(f"used {number}", LIMIT - 1)
    for number in owners:
        crowd.gauges.gauge(f"idle {number}", "requests", LIMIT, PERIOD_S)
    for number in range(used):
        assert crowd.ask(f"used {number}")
        assert not crowd.ask(f"used {number}"), "its count was kept"


def test_one_that_somebody_holds_is_the_same_for_all_and_hears_of_shares() -> None:
    gauges = Gauges(lambda: 0.0, gauges_max=2)
    held = gauges.gauge("a", "requests", LIMIT, PERIOD_S)
    for number in range(5):
        gauges.gauge(str(number), "requests", LIMIT, PERIOD_S)
    held.take(0.0, 2.0)
    assert gauges.demand() == {"a/requests": 2.0}
    gauges.share({"me": {"a/requests": 1.0}, "they": {"a/requests": 3.0}}, "me")
    assert held.period_s / held.spacing_s == pytest.approx(LIMIT * (0.05 + 0.9 / 4))
    assert gauges.gauge("a", "requests", LIMIT, PERIOD_S) is held


def test_slots_in_use_are_kept_and_others_bounded() -> None:
    gauges = Gauges(lambda: 0.0, gauges_max=3)
    gauges.slots("busy", 1).used += 1
    for number in range(50):
        gauges.slots(str(number), 1)
    assert len(gauges.all_slots()) <= 4
    assert gauges.slots("busy", 1).used == 1


@pytest.mark.parametrize("beats", [0, 1, 2])
def test_a_limit_holds_while_processes_have_not_heard_of_each_other(beats: int) -> None:
    """After a start, when heartbeats have come from none, one or both, and the limit is asked for first."""
    both = Processes(2, 10)
    both.wait(sorted([0.0, *both._beats])[beats])
    passed = sum(both.ask(number) for number in (0, 1) for _ in range(30))
    assert passed <= 10 + 2
