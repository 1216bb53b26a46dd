"""PostgreSQL away for ten minutes, by a clock that tests move: paid calls go on within their lease, then free ones do.

The bank is the real one over a real PostgreSQL, and can be closed. What was spent meanwhile is settled once, exactly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from roadbed.gateway.gateway import Gateway
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.types import Outcome
from roadbed.kernel.limits import Budget
from roadbed.ledger.accounts import BudgetUnavailable
from roadbed.ledger.budget import LEASE_S, Denied, Granted
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.ledger.budgets import Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.store.database import Database
from roadbed.store.errors import StoreUnavailable
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .conftest import CALLER, MakeGateway, MovableClock, ask, call, endpoint

PAID = price_from_usd("cloud", 2.0, 10.0)
FREE = price_from_usd("local", 0, 0)
TEAM = Budget("team:support/month", 10**8, "month")
OUTAGE_S = 600.0
TICK_S = 5.0


class AwayBank(PostgresBank):
    """A bank that can be closed."""

    is_away = False

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().grant(budget, lease_id, holder, spent, need, want)

    async def give_back(self, lease_id: str, spent: int) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        await super().give_back(lease_id, spent)

    async def expire(self) -> int:
        if self.is_away:
            raise StoreUnavailable("away")
        return await super().expire()


@dataclass
class House:
    """A gateway, a team's money, and the time."""

    gateway: Gateway
    bank: AwayBank
    budgets: Budgets
    clock: MovableClock
    cost_picousd: int = 0
    calls: int = 0

    async def pass_time(self, seconds: float) -> None:
        """Move the clock; leases are tended as they are by their task."""
        until_s = self.clock.now_s + seconds
        while self.clock.now_s < until_s:
            self.clock.now_s = min(self.clock.now_s + TICK_S, until_s)
            try:
                await self.budgets.tend()
            except StoreUnavailable:
                assert self.bank.is_away

    async def ask(self) -> Outcome:
        """One request of the team."""
        trace = Trace("smart", CALLER)
        trace.purse = self.budgets.purse([TEAM])
        _, outcome = await self.gateway.complete("smart", ask("hello", max_tokens=100), call(trace=trace))
        self.cost_picousd += outcome.cost_picousd
        self.calls += 1
        return outcome


@pytest.fixture
async def house(
    gateway_of: MakeGateway,
    database: Database,
    clock: MovableClock,
    first: ScriptedModel,
    second: ScriptedModel,
    tmp_path: Path,
) -> AsyncIterator[House]:
    for model in (first, second):
        model.script(Rule("", Reply(text="All is well here today, as it was yesterday.")))
    gateway = gateway_of(endpoint("cloud", first.url, price=PAID), endpoint("local", second.url, price=FREE))
    bank = AwayBank(database)
    budgets = Budgets(bank, Metrics(), tmp_path / "leases", clock=clock)
    yield House(gateway, bank, budgets, clock)
    await budgets.close()


@pytest.mark.parametrize("every_s", [10.0, 90.0], ids=["busy", "now and then"])
async def test_paid_calls_go_on_for_ten_minutes_without_postgresql_and_then_free_ones_do(
    house: House, database: Database, every_s: float
) -> None:
    for _ in range(6):
        assert (await house.ask()).endpoint == "cloud"
        await house.pass_time(every_s)
    await house.ask()
    house.bank.is_away = True
    began_s = house.clock.now_s
    while house.clock.now_s < began_s + OUTAGE_S:
        await house.pass_time(every_s)
        assert (await house.ask()).endpoint == "cloud", house.clock.now_s - began_s
    await house.pass_time(began_s + LEASE_S - house.clock.now_s)
    outcome = await house.ask()
    assert (outcome.endpoint, outcome.missing) == ("local", ["cloud: gateway.budget_unavailable"])
    house.bank.is_away = False
    await house.pass_time(TICK_S)
    assert (await house.ask()).endpoint == "cloud"
    await house.budgets.close()
    row = await database.fetchrow("SELECT settled, leased FROM budget WHERE id = $1", TEAM.id)
    assert row is not None
    assert row["leased"] == 0
    exact = -(-house.cost_picousd // 10**6)
    assert exact <= row["settled"] <= exact + house.calls, "each call is rounded up, and counts once"


async def test_without_a_free_endpoint_they_are_refused_when_the_lease_is_over(
    gateway_of: MakeGateway, house: House, first: ScriptedModel
) -> None:
    house.gateway = gateway_of(endpoint("cloud", first.url, price=PAID))
    await house.ask()
    house.bank.is_away = True
    await house.pass_time(LEASE_S)
    with pytest.raises(BudgetUnavailable) as caught:
        await house.ask()
    assert caught.value.http_status == 503
    assert len(first.chats) == 1, "what is not leased is not spent"
