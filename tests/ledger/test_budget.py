"""Holders of leases over one budget, in any order of calls, crashes, partitions, slow commits and replays: what is
spent never passes the cap, and a period's books agree with what was spent once all is returned.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import CHECKPOINT_S, IDLE_S, LEASE_MARGIN_S, LEASE_S, Account, Granted, Lease, Reservation

from .bank_model import ModelBank

CAP = 10_000
TEAM = Budget("team:support/day", CAP, "day")
HOLDERS = 4


@dataclass
class Holder:
    """A process: its account, the calls under way, and a clock that began anywhere."""

    name: str
    skew_s: float
    account: Account
    calls: list[Reservation] = field(default_factory=list)
    is_cut_off: bool = False


class Leases(RuleBasedStateMachine):
    """``bank`` is the database; each holder runs the shipped core."""

    @initialize(skews=st.lists(st.floats(0, 1e6), min_size=HOLDERS, max_size=HOLDERS))
    def begin(self, skews: list[float]) -> None:
        self.bank = ModelBank(CAP)
        self.holders = [self._holder(f"h{n}-0", skew) for n, skew in enumerate(skews)]
        self.notes: list[tuple[str, int]] = []  # written down by processes that ended, kept for ever: replayed twice
        self.spent: dict[str, int] = defaultdict(int)  # what each lease paid for in truth

    def _holder(self, name: str, skew_s: float) -> Holder:
        return Holder(name, skew_s, Account(TEAM, self.bank.now_s + skew_s))

    def _now(self, holder: Holder) -> float:
        return self.bank.now_s + holder.skew_s

    def _ask(self, holder: Holder, amount: int, *, is_answer_lost: bool) -> None:
        now_s = self._now(holder)
        lease, spent, need, want = holder.account.ask(amount, now_s)
        if holder.is_cut_off:
            return
        answer = self.bank.grant(TEAM, lease.id, holder.name, spent, need, want)
        if is_answer_lost:
            return
        if isinstance(answer, Granted):
            holder.account.granted(lease, spent, answer, now_s)
        else:
            holder.account.denied(lease, answer, now_s)

    @rule(n=st.integers(0, HOLDERS - 1), amount=st.integers(1, 900), is_answer_lost=st.booleans())
    def call(self, n: int, amount: int, is_answer_lost: bool) -> None:
        """A call reserves, with a grant where the lease has no room."""
        holder = self.holders[n]
        for attempt in range(3):
            lease = holder.account.take(amount, self._now(holder))
            if lease is not None:
                holder.calls.append(Reservation((lease,), amount))
                return
            self._ask(holder, amount, is_answer_lost=is_answer_lost and attempt == 0)

    @rule(n=st.integers(0, HOLDERS - 1), share=st.floats(0, 1), pick=st.integers(0, 100))
    def settle(self, n: int, share: float, pick: int) -> None:
        """A call ends, at any time after it began; to settle it again changes nothing."""
        holder = self.holders[n]
        if holder.calls:
            call = holder.calls.pop(pick % len(holder.calls))
            actual = int(call.amount * share)
            self.spent[call.leases[0].id] += actual
            call.settle(actual)
            call.settle(actual)

    @rule(seconds=st.one_of(st.floats(0, 10), st.floats(0, LEASE_S * 1.2), st.just(4000.0)))
    def wait(self, seconds: float) -> None:
        self.bank.now_s += seconds

    @rule(n=st.integers(0, HOLDERS - 1), is_answer_lost=st.booleans())
    def tend(self, n: int, is_answer_lost: bool) -> None:
        """What the task of `Budgets` does each second."""
        holder = self.holders[n]
        if holder.account.must_ask(self._now(holder)):
            self._ask(holder, 0, is_answer_lost=is_answer_lost)
            if not (holder.is_cut_off or is_answer_lost) and holder.account.is_idle(self._now(holder)):
                holder.account.retire(self._now(holder))
        for lease, spent in holder.account.to_return():
            if not holder.is_cut_off:
                self.bank.give_back(lease.id, spent)
                if not is_answer_lost:
                    holder.account.returned(lease)

    @rule()
    def expire(self) -> None:
        self.bank.expire()

    @rule(n=st.integers(0, HOLDERS - 1))
    def partition(self, n: int) -> None:
        self.holders[n].is_cut_off = not self.holders[n].is_cut_off

    @rule(n=st.integers(0, HOLDERS - 1), skew=st.floats(0, 1e6))
    def crash(self, n: int, skew: float) -> None:
        """kill -9: nothing of the process is left. Its calls may have been paid for in full."""
        holder = self.holders[n]
        for call in holder.calls:
            self.spent[call.leases[0].id] += call.amount
        self.holders[n] = self._holder(f"{holder.name}+", skew)

    @rule(n=st.integers(0, HOLDERS - 1), skew=st.floats(0, 1e6))
    def drain(self, n: int, skew: float) -> None:
        """An orderly end with the database away: what is to be returned is written down."""
        holder = self.holders[n]
        for call in holder.calls:
            self.spent[call.leases[0].id] += call.amount
        self.notes += [(lease.id, spent) for lease, spent in holder.account.to_return(is_last=True)]
        self.holders[n] = self._holder(f"{holder.name}+", skew)

    @precondition(lambda self: self.notes)
    @rule(data=st.data())
    def replay(self, data: Any) -> None:
        self.bank.give_back(*data.draw(st.sampled_from(self.notes)))

    @invariant()
    def the_cap_holds(self) -> None:
        if not hasattr(self, "bank"):
            return
        for period, row in self.bank.rows.items():
            assert row.leased >= 0
            assert row.settled + row.leased <= CAP
            paid = sum(self.spent[id_] for id_, lease in self.bank.leases.items() if lease.period == period)
            under_way = sum(
                call.amount
                for holder in self.holders
                for call in holder.calls
                if (known := self.bank.leases.get(call.leases[0].id)) is not None and known.period == period
            )
            assert paid + under_way <= CAP, "overspent"

    @invariant()
    def every_lease_covers_what_was_paid(self) -> None:
        if not hasattr(self, "bank"):
            return
        for id_, lease in self.bank.leases.items():
            assert self.spent[id_] <= (lease.spent if lease.state == "returned" else lease.granted)
        for holder in self.holders:
            held = holder.account.lease
            assert held.room == held.granted - held.spent - held.reserved
            assert held.room >= 0 or held.overrun
            if held.room and self._now(holder) < held.use_until_s:
                known = self.bank.leases[held.id]
                assert known.state == "open", "a lease is in use that the bank has charged"
                assert known.granted >= held.granted

    def teardown(self) -> None:
        """When all is quiet and everybody has returned what they had, settled is what was paid, but for crashes."""
        if not hasattr(self, "bank"):
            return
        for holder in self.holders:
            for call in holder.calls:
                self.spent[call.leases[0].id] += call.amount
                call.settle(call.amount)
            for lease, spent in holder.account.to_return(is_last=True):
                self.bank.give_back(lease.id, spent)
        for note in self.notes * 2:
            self.bank.give_back(*note)
        self.bank.now_s += LEASE_S
        self.bank.expire()
        for period, row in self.bank.rows.items():
            leases = {id_: lease for id_, lease in self.bank.leases.items() if lease.period == period}
            assert row.leased == 0
            charged = sum(lease.granted for lease in leases.values() if lease.state == "charged")
            paid = sum(self.spent[id_] for id_, lease in leases.items() if lease.state == "returned")
            assert row.settled == charged + paid


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def supplied(granted: int = 1000) -> Account:
    account = Account(TEAM, 0.0)
    lease, spent, _, _ = account.ask(100, 0.0)
    account.granted(lease, spent, Granted(granted, 0, granted, 1e6), 0.0)
    return account


def test_a_lease_is_not_used_in_its_last_seconds_nor_after_its_period() -> None:
    account = supplied()
    end_s = LEASE_S - LEASE_MARGIN_S
    assert account.take(1, end_s - 0.001) is not None
    assert account.take(1, end_s) is None
    short = Account(TEAM, 0.0)
    lease, spent, _, _ = short.ask(1, 0.0)
    short.granted(lease, spent, Granted(1000, 0, 1000, 30.0), 0.0)
    assert short.take(1, 30.0) is None


def test_an_idle_lease_is_returned_and_one_with_a_call_under_way_is_not() -> None:
    account = supplied()
    lease = account.take(100, 1.0)
    assert lease is not None
    assert not account.must_ask(1.0 + IDLE_S)
    assert account.to_return() == []
    Reservation((lease,), 100).settle(40)
    assert account.must_ask(1.0 + IDLE_S)
    assert account.to_return() == [], "the bank may be away, and then it still pays"
    assert account.is_idle(1.0 + IDLE_S)
    account.retire(1.0 + IDLE_S)
    assert account.to_return() == [(lease, 40)]


def wanted_after(account: Account, begin_s: float, seconds: float) -> int:
    """What an empty lease would be asked for, after so many seconds of spending 10 micro-USD each."""
    now_s = begin_s
    while now_s < begin_s + seconds:
        now_s += CHECKPOINT_S
        lease = account.take(50, now_s)
        assert lease is not None
        Reservation((lease,), 50).settle(50)
        if account.must_ask(now_s):
            asked, spent, _, _ = account.ask(0, now_s)
            account.granted(asked, spent, Granted(asked.granted, spent, 0, 1e6), now_s)
    room, account.lease.room = account.lease.room, 0
    wanted = account.ask(0, now_s)[3]
    account.lease.room = room
    return wanted


@pytest.mark.parametrize("seconds", [120.0, 2000.0], ids=["two minutes", "long"])
def test_a_grant_covers_a_quarter_of_an_hour_of_recent_spend(seconds: float) -> None:
    assert 0.8 * 10 * LEASE_S < wanted_after(supplied(100_000), 0.0, seconds) <= 10.1 * LEASE_S


def test_a_process_that_wakes_after_a_quiet_night_is_supplied_as_one_that_never_slept() -> None:
    account = supplied(100_000)
    wanted_after(account, 0.0, 600.0)
    for now_s in (1000.0, 15_000.0, 30_000.0):
        asked, spent, _, _ = account.ask(0, now_s)
        account.granted(asked, spent, Granted(asked.granted + 100_000, spent, 0, 1e6), now_s)
    assert wanted_after(account, 30_000.0, 120.0) > 0.8 * 10 * LEASE_S


def test_a_call_that_cost_more_than_its_bound_is_flagged_and_paid_from_the_lease() -> None:
    account = supplied()
    lease = account.take(100, 1.0)
    assert isinstance(lease, Lease)
    Reservation((lease,), 100).settle(160)
    assert (lease.overrun, lease.spent, lease.room) == (60, 160, 840)
