"""Money around an attempt: the bound that is held before it, what is settled after it, what a spent budget leaves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.affording import OUTPUT_TOKENS_DEFAULT, PriceUnknown, bounded, worth
from roadbed.gateway.attempt import Attempt
from roadbed.gateway.cache import CacheRule
from roadbed.gateway.dialects.embeddings import EmbeddingsRequest
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.dialects.rerank import RerankRequest
from roadbed.gateway.ensemble import JUDGE_TOKENS_MAX, JUDGED_BYTES_MAX
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.manifest import Task
from roadbed.gateway.policy import Policy
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.route import Route
from roadbed.gateway.splice import outgoing
from roadbed.gateway.types import Outcome, Usage
from roadbed.guard.gate import Guard
from roadbed.kernel.limits import Budget
from roadbed.ledger.budget import Denied, Granted, Lease, Reservation
from roadbed.ledger.budgets import BudgetExceeded, Budgets, Share
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing
from roadbed.wire.client import UpstreamClient

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


async def test_an_attempt_that_cannot_begin_gives_back_what_it_held(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    gateway = gateway_of(endpoint("a", first.url, price=PRICE))

    def broken(*_: object) -> None:
        raise RuntimeError("no socket")

    monkeypatch.setattr(Attempt, "start", broken)
    with pytest.raises(RuntimeError):
        await gateway.complete("smart", ask(), call(trace=trace))
    [account] = budgets._accounts
    assert account.lease.reserved == 0
    await budgets.close()
    assert till.spent == 0


async def test_a_route_with_a_cache_is_paid_once_and_stops_where_the_money_does(
    client: UpstreamClient, guard: Guard, first: ScriptedModel, tmp_path: object
) -> None:
    first.script(Rule("", Reply(text="one two")))
    gateway = Gateway(client, guard)
    gateway.swap(
        {"smart": Route("smart", (endpoint("a", first.url, price=PRICE),), 30.0, cache=CacheRule(exact_s=60.0))}
    )
    till = Till(50_000)  # one bound of 4,096 tokens
    budgets, trace = purse_of(till, tmp_path)
    for _ in range(2):
        async with gateway.stream("smart", ask(temperature=0.0), call(trace=trace)) as stream:
            assert (await stream.answer()).text == "one two"
    assert stream.outcome.rung == "cached", "and an answer that is there costs nothing"
    assert first.chats[0].json["max_tokens"] == OUTPUT_TOKENS_DEFAULT
    await budgets.close()
    assert till.spent == sum(usage.cost_microusd for usage in trace.usage) > 0
    _, poor = purse_of(Till(0), tmp_path)
    with pytest.raises(BudgetExceeded):
        async with gateway.stream("smart", ask("Else?", temperature=0.0), call(trace=poor)) as stream:
            await stream.answer()
    assert len(first.chats) == 1


async def test_each_attempt_of_a_race_is_paid(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    first.default = Reply(hang=True)
    gateway = racing(gateway_of, first, second)
    assert trace.purse is not None
    (await trace.purse.obtain(200_000)).settle(0)  # a lease with room for both
    [account] = budgets._accounts
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        await stream.answer()
    assert (stream.outcome.endpoint, stream.outcome.hedged) == ("b", True)
    assert account.lease.reserved == 0
    assert account.lease.spent == sum(-(-record.cost_picousd // 1_000_000) for record in stream.outcome.attempts)
    assert all(record.cost_picousd for record in stream.outcome.attempts)


async def test_a_race_is_not_begun_with_money_that_is_not_at_hand(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    first.default = Reply(text="late but here", first_delay_s=0.6)
    gateway = racing(gateway_of, first, second)
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        await stream.answer()
    assert (stream.outcome.endpoint, stream.outcome.hedged) == ("a", False)
    assert not second.chats
    await budgets.close()
    assert till.spent == -(-stream.outcome.cost_picousd // 1_000_000) > 0


async def test_a_continuation_is_paid_too(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    text = "The lease ends in May; until then the rent is fixed, and after that it follows the index of prices."
    first.script(Rule("", Reply(text=text, cut_after=4)))
    second.script(Rule("", lambda prompt: Reply(text=text[len(prompt.texts[-1][1]) :])))
    dear = endpoint("b", second.url, continues=True, price=PRICE)
    gateway = gateway_of(endpoint("a", first.url, price=PRICE), dear, policy=Policy(on_cut="continue"))
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        assert (await stream.answer()).text == text
    assert stream.outcome.continued == 1
    assert 0 < second.chats[0].json["max_tokens"] < OUTPUT_TOKENS_DEFAULT
    await budgets.close()
    assert till.spent == sum(-(-record.cost_picousd // 1_000_000) for record in stream.outcome.attempts)
    assert all(record.cost_picousd for record in stream.outcome.attempts)


async def test_members_of_an_ensemble_are_each_paid(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    members = endpoint("a", first.url, price=PRICE), endpoint("b", second.url, price=PRICE)
    gateway = gateway_of(*members, policy=Policy(strategy="majority"))
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        await stream.answer()
    assert len(stream.outcome.attempts) == 2
    await budgets.close()
    assert till.spent == sum(-(-record.cost_picousd // 1_000_000) for record in stream.outcome.attempts) > 0


def judged(gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel) -> Gateway:
    """A route that asks two and then a judge, who is reached at the second's address."""
    members = endpoint("a", first.url, price=PRICE), endpoint("b", second.url, price=PRICE)
    gateway = gateway_of(*members, policy=Policy("best-of"))
    judge = Route("judge", (endpoint("j", second.url, price=PRICE),), policy=Policy("sticky"))
    gateway.swap({"smart": replace(gateway.find("smart"), judge=judge)})
    return gateway


async def judged_with(gateway: Gateway, money: int, tmp_path: object) -> tuple[Outcome, Till, Trace]:
    till = Till(money)
    budgets, trace = purse_of(till, tmp_path)
    async with gateway.stream("smart", ask(), call(trace=trace)) as stream:
        await stream.answer()
    await budgets.close()
    assert till.spent == sum(-(-record.cost_picousd // 1_000_000) for record in stream.outcome.attempts) > 0
    assert len(trace.usage) == len(stream.outcome.attempts), "what the parts recorded is the call's"
    return stream.outcome, till, trace


async def test_each_part_of_an_ensemble_has_its_share_set_aside(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, tmp_path: object
) -> None:
    second.script(Rule("--- answer 2 ---", Reply(text="2")), Rule("", Reply(text="From the second.")))
    gateway = judged(gateway_of, first, second)
    outcome, till, _ = await judged_with(gateway, 10**9, tmp_path)
    assert [record.endpoint for record in outcome.attempts] == ["a", "b", "j"]
    assert (outcome.endpoint, outcome.rung) == ("b", "full")
    needed = sum(till.granted.values())
    outcome, _, _ = await judged_with(gateway, needed, tmp_path)
    assert [record.endpoint for record in outcome.attempts] == ["a", "b", "j"]

    outcome, _, _ = await judged_with(gateway, needed - 1, tmp_path)
    assert [record.endpoint for record in outcome.attempts] == ["a"], "the last one has no share"
    assert outcome.missing == ["b: gateway.budget_exceeded"]

    of_one = worth(PRICE, JUDGED_BYTES_MAX, JUDGE_TOKENS_MAX) + 1
    outcome, _, _ = await judged_with(gateway, needed - of_one, tmp_path)
    assert [record.endpoint for record in outcome.attempts] == ["a"], "whoever cannot be judged is not asked"
    assert outcome.missing[0].startswith(("judge judge: gateway.budget", "b: gateway.budget"))


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12))
def test_a_share_never_holds_more_than_was_set_aside(amount: int, calls: list[tuple[int, int]]) -> None:
    lease = Lease(0.0)
    lease.granted, lease.reserved = 1000, amount
    lease.room = 1000 - amount
    share = Share(Reservation((lease,), amount))
    spent = 0
    open_: list[tuple[Reservation, int]] = []
    for wanted, actual in calls:
        held = share.reserve(wanted)
        assert (held is None) == (wanted > amount - spent - sum(one.amount for one, _ in open_))
        if held is not None:
            open_.append((held, min(actual, wanted)))
        if len(open_) > 2:
            one, cost = open_.pop(0)
            one.settle(cost)
            spent += cost
    for one, cost in open_:
        one.settle(cost)
        spent += cost
    share.close()
    share.close()
    assert (lease.spent, lease.reserved, lease.room) == (spent, 0, 1000 - spent)


@pytest.mark.parametrize("policy", [Policy(is_hedged=True), Policy(strategy="majority"), Policy(strategy="cheapest")])
async def test_whatever_the_policy_a_spent_budget_refuses(
    gateway_of: MakeGateway, first: ScriptedModel, tmp_path: object, policy: Policy
) -> None:
    _, trace = purse_of(Till(0), tmp_path)
    gateway = gateway_of(endpoint("cloud", first.url, price=PRICE), policy=policy)
    with pytest.raises(BudgetExceeded):
        await gateway.complete("smart", ask(), call(trace=trace))
    assert not first.chats


def whole_gateway(client: UpstreamClient, guard: Guard, task: Task, url: str) -> Gateway:
    route = Route("whole", (endpoint("a", url, price=PRICE),), 60.0, task=task)
    return Gateway(client, guard, {"whole": route}, chance=lambda: 0.0)


VECTORS = b'{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":40,"total_tokens":40}}'
RANKED = b'{"results":[{"index":0,"relevance_score":0.5}],"usage":{"prompt_tokens":40,"total_tokens":40}}'


async def asked_whole(gateway: Gateway, task: Task, trace: Trace) -> Outcome:
    if task == "embeddings":
        return (await gateway.embed("whole", EmbeddingsRequest("whole", ("one",)), call(trace=trace)))[1]
    return (await gateway.rerank("whole", RerankRequest("whole", "which", ("one",)), call(trace=trace)))[1]


@pytest.mark.parametrize("task", ["embeddings", "rerank"])
async def test_what_comes_whole_is_held_settled_and_refused_alike(
    client: UpstreamClient, guard: Guard, first: ScriptedModel, tmp_path: object, task: Task
) -> None:
    till = Till(10**6)
    budgets, trace = purse_of(till, tmp_path)
    first.posts = {"/v1/embeddings": Reply(body=VECTORS), "/v1/rerank": Reply(body=RANKED)}
    gateway = whole_gateway(client, guard, task, first.url)
    outcome = await asked_whole(gateway, task, trace)
    await budgets.close()
    assert till.spent == -(-outcome.cost_picousd // 1_000_000) == 80
    assert sum(till.granted.values()) >= 80
    _, trace = purse_of(Till(0), tmp_path)
    with pytest.raises(BudgetExceeded):
        await asked_whole(gateway, task, trace)
    assert len(first.chats) == 1


async def test_a_rerank_holds_its_query_once_for_each_document(
    client: UpstreamClient, guard: Guard, first: ScriptedModel, tmp_path: object
) -> None:
    till = Till(10**9)
    _, trace = purse_of(till, tmp_path)
    rows = [{"index": number, "relevance_score": 0.5} for number in range(50)]
    first.posts = {"/v1/rerank": Reply(body=msgspec.json.encode({"results": rows}))}
    gateway = whole_gateway(client, guard, "rerank", first.url)
    await gateway.rerank("whole", RerankRequest("whole", "q" * 100, ("d",) * 50), call(trace=trace))
    assert sum(till.granted.values()) >= 50 * 100 * 2


def racing(gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel) -> Gateway:
    """A route that hedges at once: its first endpoint is known to be quick."""
    members = endpoint("a", first.url, price=PRICE), endpoint("b", second.url, price=PRICE)
    gateway = gateway_of(*members, policy=Policy(is_hedged=True))
    for _ in range(25):
        gateway.hedges.earn("smart")
    gateway.health_of("a").first_events.extend([0.01] * 200)
    return gateway


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
