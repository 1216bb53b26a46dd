"""The queue of a route: bounded, fair between teams, and honest about who is given up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roadbed.gateway.fair_queue import INTERVAL_S, TARGET_S, FairQueue
from roadbed.gateway.limiter import DECREASE_EVERY_S, LIMIT_MIN, Limit, by_gradient, by_refusal, by_success

CAPACITY = 3
LENGTH = 6


class Queueing(RuleBasedStateMachine):
    """Arrivals, ends, withdrawals and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[object] = FairQueue(LENGTH)
        self.now_s = 0.0
        self.out: list[object] = []
        self.waiting: dict[object, float] = {}

    @rule(team=st.sampled_from("abc"), patience_s=st.floats(0.0, 5.0))
    def arrive(self, team: str, patience_s: float) -> None:
        ticket = object()
        verdict = self.queue.offer(ticket, team, self.now_s, self.now_s + patience_s, CAPACITY)
        if verdict == "go":
            assert not self.waiting, "nobody passes those who wait"
            self.out.append(ticket)
        elif verdict == "wait":
            self.waiting[ticket] = self.now_s + patience_s
        self.step()

    @precondition(lambda self: self.out)
    @rule(took_s=st.none() | st.floats(0.01, 3.0))
    def end(self, took_s: float | None) -> None:
        self.out.pop(0)
        self.queue.leave(took_s)
        self.step()

    @precondition(lambda self: self.waiting)
    @rule()
    def withdraw(self) -> None:
        ticket = next(iter(self.waiting))
        del self.waiting[ticket]
        assert self.queue.withdraw(ticket)
        assert not self.queue.withdraw(ticket)

    @rule(seconds=st.floats(0.0, 2.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.step()

    def step(self) -> None:
        going, given_up = self.queue.next(self.now_s, CAPACITY)
        for ticket in going:
            assert self.now_s <= self.waiting.pop(ticket), "nobody begins too late"
            self.out.append(ticket)
        for ticket in given_up:
            del self.waiting[ticket]

    @invariant()
    def counts_agree(self) -> None:
        assert self.queue.out == len(self.out) <= CAPACITY
        assert self.queue.waiting == len(self.waiting) <= LENGTH
        assert not self.waiting or len(self.out) == CAPACITY, "nobody waits while there is room"


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=60, stateful_step_count=40)


def filled(teams: str, length: int = 100) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue(length)
    assert queue.offer("first", "z", 0.0, 9.0, 1) == "go"
    for number, team in enumerate(teams):
        assert queue.offer(f"{team}{number}", team, 0.0, 9.0, 1) == "wait"
    return queue


def test_teams_take_turns_however_much_one_of_them_sends() -> None:
    queue = filled("aaaaaaaab")
    served = []
    for _ in range(3):
        queue.leave(None)
        served += queue.next(0.01, 1)[0]
    assert served == ["a0", "b8", "a1"]


def test_a_team_may_not_take_the_places_of_others() -> None:
    queue = filled("aaab", length=8)
    assert queue.offer("a", "a", 0.0, 9.0, 1) == "wait"
    assert queue.offer("a", "a", 0.0, 9.0, 1) == "full", "four of eight places for each of two teams"
    assert queue.offer("b", "b", 0.0, 9.0, 1) == "wait"


def test_who_would_begin_too_late_is_told_at_once() -> None:
    queue = filled("ab")
    queue.service_s = 2.0
    assert queue.wait_s(1) == 6.0
    assert queue.offer("late", "c", 0.0, 5.9, 1) == "late"
    assert queue.offer("in time", "c", 0.0, 6.1, 1) == "wait"


def test_while_overloaded_the_newest_goes_first_and_the_old_are_given_up() -> None:
    queue = filled("a")
    now_s = INTERVAL_S - 0.05
    assert queue.offer("a1", "a", now_s, 9.0, 1) == "wait"
    assert queue.offer("a2", "a", now_s, 9.0, 1) == "wait"
    queue.leave(None)
    assert not queue.is_overloaded(now_s)
    assert queue.next(now_s, 1) == (["a0"], []), "first come, first served, however long it took"
    now_s += TARGET_S / 2
    queue.leave(None)
    assert queue.is_overloaded(now_s)
    assert queue.next(now_s, 1) == (["a2"], [])
    assert queue.next(now_s + TARGET_S, 1) == ([], ["a1"])
    assert not queue.is_overloaded(now_s + TARGET_S), "the queue was empty"


@given(st.lists(st.tuples(st.sampled_from("gsr"), st.floats(0.001, 30), st.integers(0, 300)), max_size=80))
def test_a_limit_stays_in_its_bounds(steps: list[tuple[str, float, int]]) -> None:
    limit, now_s = Limit(), 0.0
    for kind, seconds, in_flight in steps:
        now_s += seconds
        before = limit
        if kind == "g":
            limit = by_gradient(limit, seconds, in_flight, 64)
        elif kind == "s":
            limit = by_success(limit, in_flight, 64)
            assert limit.value <= before.value + 1.0
        else:
            limit = by_refusal(limit, now_s, 64)
        assert LIMIT_MIN <= limit.value <= 64
        assert 1 <= limit.slots <= 64


def test_a_cloud_that_throttles_is_given_less_once_and_then_slowly_more() -> None:
    limit = by_refusal(Limit(20.0), 100.0, 64)
    assert limit.value == 14.0
    assert by_refusal(limit, 100.0 + DECREASE_EVERY_S / 2, 64) == limit, "one burst counts once"
    for _ in range(14):
        limit = by_success(limit, 14, 64)
    assert 14.9 < limit.value < 15.1
    assert by_success(limit, 3, 64) == limit, "what was not used proves nothing"


def test_an_engines_limit_settles_near_its_slots_under_an_overload_that_stays() -> None:
    slots, service_s = 8, 0.5
    limit = Limit()
    seen: Counter[int] = Counter()
    for number in range(4000):
        in_flight = limit.slots  # there is always more to do
        first_event_s = service_s * max(1.0, in_flight / slots)
        if number < 3:
            first_event_s = service_s
        limit = by_gradient(limit, first_event_s, in_flight, 256)
        seen[limit.slots] += number >= 1000
    assert slots <= min(slot for slot, count in seen.items() if count)
    assert max(slot for slot, count in seen.items() if count) <= 3 * slots
