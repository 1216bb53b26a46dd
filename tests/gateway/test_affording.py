"""Money around an attempt: the bound that is held before it, what is settled after it, what a spent budget leaves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.affording import OUTPUT_TOKENS_DEFAULT, PriceUnknown, bounded, worth
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.splice import outgoing
from roadbed.gateway.types import Usage
from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import Denied, Granted
from roadbed.ledger.budgets import BudgetExceeded, Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing

from .conftest import CALLER, MakeGateway, ask, call, endpoint

PRICE = price_from_usd("test", 2.0, 10.0)
FREE = price_from_usd("local", 0, 0)


@dataclass
class Till:
    """A bank with so much money, which keeps what it was told."""

    left: int
    granted: dict[str, int] = field(default_factory=dict)
    returned: dict[str, int] = field(default_factory=dict)

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        if need > self.left:
            return Denied(0, 0, 3600.0)
        self.left -= need
        self.granted[lease_id] = self.granted.get(lease_id, 0) + need
        return Granted(self.granted[lease_id], 0, 0, 3600.0)

    async def give_back(self, lease_id: str, spent: int) -> None:
        self.returned[lease_id] = spent

    async def expire(self) -> int:
        return 0

    @property
    def spent(self) -> int:
        return sum(self.returned.values())


def purse_of(till: Till, tmp_path: object) -> tuple[Budgets, Trace]:
    budgets = Budgets(till, Metrics(), tmp_path)  # type: ignore[arg-type]
    trace = Trace("smart", CALLER)
    trace.purse = budgets.purse([Budget("team:support/month", 10**9, "month")])
    return budgets, trace


@given(
    st.integers(0, 10**5),
    st.integers(0, 10**5),
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 1),
    st.integers(0, 10**5),
)
def test_the_bound_covers_whatever_the_tokens_are(
    body_bytes: int, limit: int, price_in: float, price_out: float, share: float, cached: int
) -> None:
    price = price_from_usd("test", round(price_in, 3), round(price_out, 3))
    tokens = int(body_bytes * share)
    cached = min(cached, tokens)
    usage = Usage(tokens - cached, cached, output_visible=int(limit * share))
    assert worth(price, body_bytes, limit) * 1_000_000 >= price.cost_picousd(usage)


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b'{"model":"smart","messages":[{"role":"user","content":"hi"}]}', OUTPUT_TOKENS_DEFAULT),
        (b'{"model":"smart","messages":[{"role":"user","content":"hi"}],"max_tokens":7}', 7),
        (b'{"model":"smart","messages":[{"role":"user","content":"hi"}],"seed":1}\n', OUTPUT_TOKENS_DEFAULT),
        (b'{"model":"smart","messages":[{"role":"user","content":"hi"}],"seed":1,"max_tokens":9}', 9),
    ],
)
def test_a_relayed_body_always_has_an_output_limit(body: bytes, limit: int) -> None:
    incoming, to = decode_chat(body), endpoint("a", "http://127.0.0.1:9/v1", price=PRICE)
    sent = outgoing(body, incoming, to, stream=True)
    assert sent is not None
    bound = bounded(sent, incoming, to)
    assert bound is not None
    (changed, _), held = bound
    assert decode_chat(changed).request.max_tokens == limit
    assert held == worth(PRICE, len(changed), limit)


async def test_an_attempt_holds_its_bound_and_settles_what_it_cost(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    gateway = gateway_of(endpoint("a", first.url, price=PRICE))
    answer, outcome = await gateway.complete("smart", ask("hello"), call(trace=trace))
    assert answer.text
    assert first.chats[0].json["max_tokens"] == OUTPUT_TOKENS_DEFAULT
    await budgets.close()
    assert till.spent == -(-outcome.cost_picousd // 1_000_000) > 0
    assert sum(till.granted.values()) >= 40_960  # what 4096 tokens of output may cost


async def test_a_failed_attempt_is_settled_too_and_holds_nothing_afterwards(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    first.default = failing(500)
    gateway = gateway_of(endpoint("a", first.url, price=PRICE), endpoint("b", second.url, price=PRICE))
    _, outcome = await gateway.complete("smart", ask(), call(trace=trace))
    assert outcome.endpoint == "b"
    await budgets.close()
    assert till.spent == -(-outcome.cost_picousd // 1_000_000)


async def test_a_spent_budget_leaves_the_endpoints_of_price_nothing(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    _, trace = purse_of(Till(0), tmp_path)
    gateway = gateway_of(endpoint("cloud", first.url, price=PRICE), endpoint("house", second.url, price=FREE))
    _, outcome = await gateway.complete("smart", ask(), call(trace=trace))
    assert outcome.endpoint == "house"
    assert outcome.missing == ["cloud: gateway.budget_exceeded"]
    assert not first.chats


async def test_without_a_free_endpoint_a_spent_budget_refuses_with_the_time_of_its_reset(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object
) -> None:
    _, trace = purse_of(Till(0), tmp_path)
    gateway = gateway_of(endpoint("cloud", first.url, price=PRICE))
    with pytest.raises(BudgetExceeded) as caught:
        await gateway.complete("smart", ask(), call(trace=trace))
    assert caught.value.http_status == 429
    assert caught.value.retry_after_s == 3600
    assert not first.chats


async def test_an_unknown_price_is_refused_where_a_budget_applies(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object
) -> None:
    _, trace = purse_of(Till(10**6), tmp_path)
    gateway = gateway_of(endpoint("cloud", first.url))
    with pytest.raises(PriceUnknown, match="the price of cloud is not known") as caught:
        await gateway.complete("smart", ask(), call(trace=trace))
    assert "price_input" in caught.value.hint
    assert not first.chats
    await gateway.complete("smart", ask(), call())


async def test_a_caller_who_leaves_pays_for_what_came(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    first.default = Reply(text="word " * 50)
    gateway = gateway_of(endpoint("a", first.url, price=PRICE))
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        await anext(stream)
    await budgets.close()
    assert till.spent == -(-stream.outcome.cost_picousd // 1_000_000) > 0
