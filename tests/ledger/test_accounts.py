from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from roadbed.kernel.limits import Budget
from roadbed.ledger.accounts import Accounts, BudgetsInUse
from roadbed.ledger.budget import Account, Denied, Granted, Reservation
from roadbed.ledger.budgets import Budgets, Purse
from roadbed.ledger.metrics import Metrics

MOST = 3
KEYS = st.integers(0, 7)


def budget(key: int) -> Budget:
    return Budget(f"key:k{key}/day", 1_000_000, "day")


class Bank:
    """Gives whatever is asked for, and remembers what is not back yet."""

    def __init__(self) -> None:
        self.open: dict[str, int] = {}
        self.ended: set[str] = set()

    async def grant(
        self, asked: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        await asyncio.sleep(0)
        if lease_id in self.ended:
            return Denied(0, 0, 3600.0, is_stale=True)
        self.open[lease_id] = self.open.get(lease_id, 0) + want
        return Granted(self.open[lease_id], 0, self.open[lease_id], 3600.0)

    async def give_back(self, lease_id: str, spent: int) -> None:
        await asyncio.sleep(0)
        self.open.pop(lease_id, None)
        self.ended.add(lease_id)

    async def expire(self) -> int:
        return 0


class Places(RuleBasedStateMachine):
    """Many keys want few places: calls begin and end in any order, purses are kept or dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.accounts = Accounts(MOST)
        self.kept: dict[int, Account] = {}
        self.calls: list[tuple[int, Reservation]] = []
        self.owed: Counter[str] = Counter()
        self.now_s = 0.0

    @rule(key=KEYS)
    def call(self, key: int) -> None:
        """A call of a key begins, as `Purse.obtain` has it."""
        self.now_s += 1.0
        account = self.accounts.of(budget(key), self.now_s)
        assert self.kept.setdefault(key, account) is account
        lease = account.take(10, self.now_s)
        if lease is None:
            busy = {other for other, _ in self.calls}
            try:
                self.accounts.place(account, self.now_s)
            except BudgetsInUse:
                assert len(busy) == MOST, "some place was not in use"
                assert key not in busy
                return
            asked, spent, _, want = account.ask(10, self.now_s)
            account.granted(asked, spent, Granted(asked.granted + want, 0, 0, 3600.0), self.now_s)
            self.owed[asked.id] = asked.granted
            lease = account.take(10, self.now_s)
        assert lease is not None
        self.calls.append((key, Reservation((lease,), 10)))

    @rule(pick=st.integers(0, 50), cost=st.integers(0, 10))
    def end(self, pick: int, cost: int) -> None:
        if self.calls:
            self.calls.pop(pick % len(self.calls))[1].settle(cost)

    @rule(key=KEYS)
    def forget(self, key: int) -> None:
        """Whoever held the purse drops it."""
        if all(key != other for other, _ in self.calls):
            self.kept.pop(key, None)

    @rule()
    def tend(self) -> None:
        """Return what may be returned."""
        for account in self.accounts:
            for lease, _ in account.to_return():
                account.returned(lease)
                self.accounts.left(account)
                del self.owed[lease.id]

    @invariant()
    def whoever_spends_has_a_place_and_no_lease_is_lost(self) -> None:
        assert len(self.accounts) <= MOST
        listed = list(self.accounts)
        assert len({account.budget.id for account in listed}) == len(listed)
        leases = {lease.id for account in listed for lease in (account.lease, *account.retired) if lease.granted}
        assert leases == set(self.owed)
        for _, call in self.calls:
            assert all(lease.id in leases for lease in call.leases)


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.lists(KEYS, min_size=MOST + 1, max_size=8, unique=True))
@settings(max_examples=10, deadline=None)
def test_many_keys_lock_nobody_out(keys: list[int]) -> None:
    async def run() -> None:
        bank = Bank()
        budgets = Budgets(bank, Metrics(), Path("/nonexistent"))
        budgets._accounts.most = MOST
        purses: dict[int, Purse] = {}
        for _ in range(2):  # a purse outlives the place of its account
            for key in keys:
                purse = purses.setdefault(key, budgets.purse([budget(key)]))
                (await purse.obtain(10)).settle(4)
        assert len(budgets._accounts) == MOST
        await budgets.tend()
        assert len(bank.open) == MOST, "what those without a place had leased is back"
        await budgets.close()
        assert not bank.open

    asyncio.run(run())


async def test_only_calls_under_way_keep_a_newcomer_out(tmp_path: Path) -> None:
    budgets = Budgets(Bank(), Metrics(), tmp_path)
    budgets._accounts.most = MOST
    under_way = [await budgets.purse([budget(key)]).obtain(10) for key in range(MOST)]
    late = budgets.purse([budget(7)])
    with pytest.raises(BudgetsInUse, match="calls of 3 budgets are under way") as caught:
        await late.obtain(10)
    assert caught.value.retry_after_s == 1
    under_way[1].settle(3)
    (await late.obtain(10)).settle(1)
    for call in under_way:
        call.settle(0)
    await budgets.close()


async def test_a_budget_that_is_being_asked_for_keeps_its_place(tmp_path: Path) -> None:
    bank = Bank()
    budgets = Budgets(bank, Metrics(), tmp_path)
    budgets._accounts.most = MOST
    made = await asyncio.gather(*[budgets.purse([budget(key)]).obtain(10) for key in range(8)], return_exceptions=True)
    taken = [call for call in made if isinstance(call, Reservation)]
    assert len(taken) == MOST
    assert all(isinstance(call, Reservation | BudgetsInUse) for call in made)
    for call in taken:
        call.settle(1)
    await budgets.close()
    assert not bank.open
