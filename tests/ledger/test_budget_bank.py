"""Budgets in a real PostgreSQL: grants, returns and expiry are exact, repeated and concurrent ones too."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from tests.gateway.conftest import MovableClock

from roadbed.kernel.limits import Budget
from roadbed.ledger.accounts import BudgetUnavailable
from roadbed.ledger.budget import CHECKPOINT_S, Denied, Granted
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.ledger.budgets import FAILURES_MAX, BudgetExceeded, Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.store.database import Database
from roadbed.store.errors import StoreTimeout, StoreUnavailable

TEAM = Budget("team:support/month", 1_000_000, "month")


async def standing(database: Database) -> tuple[int, int]:
    row = await database.fetchrow("SELECT settled, leased FROM budget WHERE id = $1", TEAM.id)
    assert row is not None
    return row["settled"], row["leased"]


async def test_a_grant_a_checkpoint_and_a_return(database: Database) -> None:
    bank = PostgresBank(database)
    first = await bank.grant(TEAM, "l1", "h1", 0, 1000, 16_000)
    assert isinstance(first, Granted)
    assert first.granted == 16_000
    assert 0 < first.period_left_s <= 31 * 86_400
    again = await bank.grant(TEAM, "l1", "h1", 700, 0, 0)
    assert isinstance(again, Granted)
    assert (again.granted, again.settled, again.leased) == (16_000, 700, 15_300)
    await bank.grant(TEAM, "l1", "h1", 700, 0, 0)  # nobody saw the commit: the same again changes nothing
    assert await standing(database) == (700, 15_300)
    for _ in range(2):
        await bank.give_back("l1", 900)
        assert await standing(database) == (900, 0)
    assert isinstance(late := await bank.grant(TEAM, "l1", "h1", 900, 1, 1), Denied)
    assert late.is_stale


async def test_an_expired_lease_is_charged_and_its_late_return_replaces_the_charge_once(database: Database) -> None:
    bank = PostgresBank(database, lease_s=0)
    await bank.grant(TEAM, "l1", "h1", 0, 1000, 16_000)
    await bank.grant(TEAM, "l1", "h1", 200, 0, 0)
    assert await bank.expire() == 1
    assert await bank.expire() == 0
    assert await standing(database) == (16_000, 0)
    assert isinstance(await bank.grant(TEAM, "l1", "h1", 300, 0, 100), Denied)
    for _ in range(2):
        await bank.give_back("l1", 450)
        assert await standing(database) == (450, 0)


async def test_a_return_that_overtakes_its_grant_leaves_nothing_open(database: Database) -> None:
    bank = PostgresBank(database)
    await bank.give_back("l1", 0)
    assert isinstance(await bank.grant(TEAM, "l1", "h1", 0, 10, 10), Denied)
    assert await bank.standing() == []


async def test_grants_shrink_near_the_cap_and_stop_at_it(database: Database) -> None:
    bank = PostgresBank(database)
    taken = 0
    for number in range(40):
        answer = await bank.grant(TEAM, f"l{number}", f"h{number}", 0, 30_000, 400_000)
        if isinstance(answer, Denied):
            assert TEAM.cap_microusd - taken < 30_000
            break
        taken += answer.granted
    assert taken == answer.leased <= TEAM.cap_microusd
    assert isinstance(await bank.grant(TEAM, "big", "h", 0, TEAM.cap_microusd + 1, 0), Denied)


async def test_many_at_once_keep_the_sum(database: Database) -> None:
    """Grants, checkpoints, returns and expiry over each other: the budget is the sum of its leases at the end."""
    bank, short = PostgresBank(database), PostgresBank(database, lease_s=0)
    chance = random.Random(7)

    async def holder(number: int) -> None:
        spent = granted = 0
        lease = f"l{number}"
        for _ in range(12):
            kind = chance.random()
            if kind < 0.7:
                chosen = short if kind < 0.15 else bank
                answer = await chosen.grant(TEAM, lease, f"h{number % 5}", spent, chance.randrange(9_000), 20_000)
                if isinstance(answer, Granted):
                    granted = answer.granted
                    spent += chance.randrange(granted - spent + 1)
            elif kind < 0.85:
                await bank.expire()
            else:
                await bank.give_back(lease, spent)

    await asyncio.gather(*[holder(number) for number in range(24)])
    await bank.expire()
    settled, leased = await standing(database)
    sums = await database.fetchrow(
        "SELECT sum(CASE state WHEN 'charged' THEN granted ELSE spent END)::bigint AS settled,"
        " sum(CASE state WHEN 'open' THEN granted - spent ELSE 0 END)::bigint AS leased"
        " FROM budget_lease WHERE budget_id <> ''"
    )
    assert sums is not None
    assert (settled, leased) == (sums["settled"], sums["leased"])
    assert settled + leased <= TEAM.cap_microusd


class AwayBank(PostgresBank):
    """A bank that can be closed."""

    is_away = False

    async def give_back(self, lease_id: str, spent: int) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        await super().give_back(lease_id, spent)

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().grant(budget, lease_id, holder, spent, need, want)


async def test_a_process_spends_what_it_leased_while_the_database_is_away_and_leaves_word(
    database: Database, tmp_path: Path
) -> None:
    bank = AwayBank(database)
    budgets = Budgets(bank, Metrics(), tmp_path / "leases")
    purse = budgets.purse([TEAM])
    assert purse.reserve(1000) is None
    reservation = await purse.obtain(1000)
    bank.is_away = True
    reservation.settle(400)
    more = purse.reserve(2000)
    assert more is not None
    with pytest.raises(BudgetUnavailable):
        await purse.obtain(900_000)
    await budgets.close()  # while `more` is under way: it counts in full
    assert (await standing(database))[1] == 16_000
    bank.is_away = False
    later = Budgets(bank, Metrics(), tmp_path / "leases")
    assert await later.replay() == 1
    assert await later.replay() == 0
    assert await standing(database) == (2400, 0)


async def test_a_spent_budget_says_when_it_resets(database: Database, tmp_path: Path) -> None:
    metrics = Metrics()
    budgets = Budgets(PostgresBank(database), metrics, tmp_path)
    purse = budgets.purse([TEAM])
    seen: list[int] = []
    budgets.on_used = lambda account, percent: seen.append(percent)
    with pytest.raises(
        BudgetExceeded, match=r"the budget of team support \(1 USD/month\).*it resets in \d+ h"
    ) as caught:
        await purse.obtain(1_000_001)
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    assert metrics.value("roadbed_budget_refused_total", (TEAM.id,)) == 1
    assert seen == [100]


async def test_two_budgets_at_once_are_reserved_together_or_not_at_all(database: Database, tmp_path: Path) -> None:
    budgets = Budgets(PostgresBank(database), Metrics(), tmp_path)
    small = Budget("app:helpdesk/day", 500, "day")
    both, team = budgets.purse([TEAM, small]), budgets.purse([TEAM])
    reservation = await both.obtain(400)
    with pytest.raises(BudgetExceeded):
        await both.obtain(200)
    reservation.settle(100)
    (await both.obtain(400)).settle(400)
    (await team.obtain(200)).settle(200)
    await budgets.close()
    assert {row["id"]: row["settled"] for row in await PostgresBank(database).standing()} == {
        TEAM.id: 700,
        small.id: 500,
    }


class PickyBank(PostgresBank):
    """A bank that is silent about some budgets."""

    silent: frozenset[str] = frozenset()
    asked = 0

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        self.asked += 1
        if budget.id in self.silent:
            raise StoreTimeout("a statement did not end in time")
        return await super().grant(budget, lease_id, holder, spent, need, want)


async def spend(budgets: Budgets, budget: Budget, amount: int) -> None:
    reservation = await budgets.purse([budget]).obtain(amount)
    reservation.settle(amount)


async def test_an_account_that_fails_holds_up_no_other(database: Database, tmp_path: Path) -> None:
    clock, bank = MovableClock(), PickyBank(database)
    budgets = Budgets(bank, Metrics(), tmp_path / "leases", clock=clock)
    teams = [Budget(f"team:t{number}/month", 1_000_000, "month") for number in range(2 * FAILURES_MAX)]
    for team in teams:
        await spend(budgets, team, 100)

    async def told() -> list[int]:
        rows = await database.fetch("SELECT settled FROM budget ORDER BY id")
        return [row["settled"] for row in rows]

    clock.now_s += CHECKPOINT_S
    bank.silent = frozenset({teams[0].id})
    with pytest.raises(StoreTimeout):
        await budgets.tend()
    assert await told() == [0] + [100] * (len(teams) - 1)

    for team in teams:
        await spend(budgets, team, 50)
    clock.now_s += CHECKPOINT_S
    bank.silent, bank.asked = frozenset(team.id for team in teams[:FAILURES_MAX]), 0
    with pytest.raises(StoreTimeout):
        await budgets.tend()
    assert bank.asked == FAILURES_MAX, "when so many fail, the bank is away: nobody waits for it again and again"
    with pytest.raises(StoreTimeout):
        await budgets.tend()
    assert await told() == [0] + [100] * (FAILURES_MAX - 1) + [150] * FAILURES_MAX, "those had no turn before"
    bank.silent = frozenset()
    await budgets.close()
    assert await told() == [150] * len(teams)
