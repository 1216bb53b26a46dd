"""Rates, slots and budgets on the hot path, over real HTTP and with a bank in memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from roadbed.apps.manifest import AppConfig
from roadbed.apps.registry import ServedApp
from roadbed.console.services import TriedRoute
from roadbed.gateway.limits import RateExceeded
from roadbed.gateway.route import Route
from roadbed.kernel.config import decode, parse_yaml
from roadbed.kernel.limits import Budget
from roadbed.kernel.principal import Principal
from roadbed.ledger.budget import Denied, Granted
from roadbed.ledger.budgets import Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.entrance import Entrance, NoLimits
from roadbed.server.running import RunningCalls
from roadbed.server.teams import Teams
from roadbed.server.tries import try_route
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .test_chat_hot import Site, chat, endpoint, model, other, site

__all__ = ["model", "other", "site"]


class Till:
    """A bank in memory: so much in all, and how full the budget looks."""

    def __init__(self, left: int, settled: int = 0) -> None:
        self.left, self.settled = left, settled
        self.granted: dict[str, int] = {}
        self.returned: dict[str, int] = {}

    async def grant(
        self, budget: Budget, lease_id: str, holder: str, spent: int, need: int, want: int
    ) -> Granted | Denied:
        if need > self.left:
            return Denied(self.settled, 0, 7200.0)
        amount = min(max(need, want), self.left)
        self.left -= amount
        self.granted[lease_id] = self.granted.get(lease_id, 0) + amount
        return Granted(self.granted[lease_id], self.settled, 0, 7200.0)

    async def give_back(self, lease_id: str, spent: int) -> None:
        self.returned[lease_id] = spent

    async def expire(self) -> int:
        return 0


def limit(site: Site, text: str, budgets: Budgets | None = None) -> Entrance:
    entrance = Entrance(site.gateway, budgets)
    entrance.take(decode(parse_yaml(f"name: test\n{text}"), Manifest))
    for answers in (site.chat, *site.answers):
        answers.entrance = entrance
    return entrance


async def test_nothing_limited_is_off_and_says_nothing(site: Site, model: ScriptedModel) -> None:
    site.serve(endpoint("a", model.url))
    entrance = limit(site, "teams: {support: {apps: [fast]}}")
    assert not entrance.is_on
    assert not [name for name in (await site.ask(chat())).headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("values", [{}, {"stream": True}, {"max_completion_tokens": 5}])
async def test_a_rate_is_told_and_held(site: Site, model: ScriptedModel, values: dict[str, Any]) -> None:
    site.serve(endpoint("a", model.url))
    limit(site, "teams: {support: {rate: 2/min, tokens: 100k/min}}")
    first = await site.ask(chat(**values))
    assert first.status == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert first.headers["x-ratelimit-limit-tokens"] == "100000"
    assert (await site.ask(chat(**values))).status == 200
    refused = await site.ask(chat(**values))
    assert refused.status == 429
    assert refused.headers["retry-after"] == "30"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    error = refused.json["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "limits.rate_exceeded")
    assert len(model.chats) == 2


async def test_a_slot_is_held_while_a_request_runs_and_free_when_its_caller_has_left(
    site: Site, model: ScriptedModel
) -> None:
    model.default = Reply(hang=True)
    site.serve(endpoint("a", model.url, first_event_s=20.0))
    entrance = limit(site, "models: {fast: {ladder: [a], concurrency: 1}}\nendpoints: {a: {type: openai, model: m}}")
    await site.open(b'{"model":"fast","messages":[{"role":"user","content":"Hi"}]}')
    await model.wait_for_request()
    refused = await site.ask(chat())
    assert (refused.status, refused.json["error"]["code"]) == (429, "limits.concurrency_exceeded")
    site.writers[0].transport.abort()
    await site.ledger.arrived.wait()
    [slots] = entrance.gauges.all_slots()
    assert slots.used == 0


@pytest.mark.parametrize("values", [{}, {"stream": True}, {"max_completion_tokens": 5}])
async def test_money_is_held_and_settled_on_both_ways(
    site: Site, model: ScriptedModel, tmp_path: Path, values: dict[str, Any]
) -> None:
    till = Till(10**6)
    budgets = Budgets(till, Metrics(), tmp_path)
    site.serve(endpoint("a", model.url))
    limit(site, "teams: {support: {budget: 1 USD/day}}", budgets)
    for _ in range(3):
        assert (await site.ask(chat(**values))).status == 200
    sent = [request.json for request in model.chats]
    assert all(body.get("max_tokens") or body.get("max_completion_tokens") for body in sent)
    await budgets.close()
    cost = sum(usage.cost_microusd for trace in site.ledger.traces for usage in trace.usage)
    assert sum(till.returned.values()) == cost > 0
    if "max_completion_tokens" not in values:
        assert site.chat.ordinary == 1  # the first one had to wait for money, the ordinary way


OTHER_DIALECTS = [
    ("/v1/responses", {"model": "fast", "input": "Hi"}),
    ("/v1/messages", {"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}),
]


@pytest.mark.parametrize(("path", "body"), OTHER_DIALECTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_requests_of_every_dialect_are_counted_bounded_and_paid(
    site: Site, model: ScriptedModel, tmp_path: Path, path: str, body: dict[str, Any], stream: bool
) -> None:
    till = Till(10**6)
    budgets = Budgets(till, Metrics(), tmp_path)
    site.serve(endpoint("a", model.url))
    entrance = limit(site, "teams: {support: {budget: 1 USD/day, rate: 1/min, concurrency: 5}}", budgets)
    answered = await site.ask({**body, "stream": stream}, "Bearer good\r\nx-roadbed-tag: q3", path)
    assert (answered.status, answered.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    assert model.chats[0].json["max_tokens"] == body.get("max_tokens", 4096)
    assert site.ledger.traces[-1].tags == "q3"
    refused = await site.ask({**body, "stream": stream}, path=path)
    assert (refused.status, refused.headers["x-ratelimit-limit-requests"]) == (429, "1")
    assert len(model.chats) == 1
    await budgets.close()
    cost = sum(usage.cost_microusd for trace in site.ledger.traces for usage in trace.usage)
    assert sum(till.returned.values()) == cost > 0
    assert [slots.used for slots in entrance.gauges.all_slots()] == [0]


@pytest.mark.parametrize(("path", "body"), OTHER_DIALECTS)
async def test_without_money_every_dialect_is_refused_in_its_own_shape(
    site: Site, model: ScriptedModel, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    site.serve(endpoint("a", model.url))
    limit(site, "teams: {support: {budget: 1 USD/day}}", Budgets(Till(0), Metrics(), tmp_path))
    refused = await site.ask(body, path=path)
    assert (refused.status, refused.headers["retry-after"]) == (429, "7200")
    assert "resets in 2 h 0 min" in refused.json["error"]["message"]
    assert not model.chats


async def test_without_money_a_paid_call_is_refused_and_says_when_the_budget_resets(
    site: Site, model: ScriptedModel, tmp_path: Path
) -> None:
    site.serve(endpoint("a", model.url))
    limit(site, "teams: {support: {budget: 1 USD/day}}", Budgets(Till(0), Metrics(), tmp_path))
    refused = await site.ask(chat())
    assert refused.status == 429
    assert refused.headers["retry-after"] == "7200"
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json["error"]["code"] == "gateway.budget_exceeded"
    assert "resets in 2 h 0 min" in refused.json["error"]["message"]
    assert not model.chats
    assert site.ledger.traces[-1].status == "refused"


async def test_near_the_end_of_a_budget_a_cheaper_route_answers_and_says_so(
    site: Site, model: ScriptedModel, other: ScriptedModel, tmp_path: Path
) -> None:
    budgets = Budgets(Till(10**6, settled=950_000), Metrics(), tmp_path)
    text = "teams: {support: {budget: 1 USD/day, downgrade: {at: 90%, to: small}}}"
    limit(site, text, budgets)
    dear, cheap = endpoint("a", model.url), endpoint("b", other.url)
    site.gateway.swap({"fast": Route("fast", (dear,)), "small": Route("small", (cheap,))}, site.guard)
    first = await site.ask(chat())
    assert first.json["roadbed"]["endpoint"] == "a"  # nobody had asked the bank yet
    second = await site.ask(chat())
    assert second.json["roadbed"]["endpoint"] == "b"
    assert second.json["roadbed"]["degraded"] == ["fast: the budget is 90% spent, so small answered"]


async def test_the_playground_is_counted_and_paid_as_a_call(site: Site, model: ScriptedModel, tmp_path: Path) -> None:
    till = Till(10**6)
    budgets = Budgets(till, Metrics(), tmp_path)
    site.serve(endpoint("a", model.url))
    entrance = limit(site, "teams: {support: {budget: 1 USD/day, rate: 1/min}}", budgets)
    services: Any = SimpleNamespace(
        teams=Teams(site.guard),
        gateway=site.gateway,
        ledger=site.ledger,
        registry=SimpleNamespace(served=SimpleNamespace(routes_release=None)),
        money=SimpleNamespace(entrance=entrance),
        running=RunningCalls(),
    )

    async def tried() -> TriedRoute:
        steps = [step async for step in try_route(services, "fast", "Hi", Principal("k1", "support"))]
        assert isinstance(steps[-1], TriedRoute)
        return steps[-1]

    first, second = await tried(), await tried()
    assert (first.error, first.text) == (None, "One two three four five.")
    assert second.error is not None
    assert (second.error.code, second.rung, second.trace_id) == ("limits.rate_exceeded", "refused", "")
    await budgets.close()
    assert sum(till.returned.values()) == first.cost_microusd > 0
    assert len(model.chats) == 1


async def test_a_cheaper_route_answers_only_for_its_own_task(site: Site, model: ScriptedModel, tmp_path: Path) -> None:
    budgets = Budgets(Till(10**6, settled=950_000), Metrics(), tmp_path)
    entrance = limit(site, "teams: {support: {budget: 1 USD/day, downgrade: {at: 90%, to: small}}}", budgets)
    ladder = (endpoint("a", model.url),)
    vectors = Route("vectors", ladder, task="embeddings")
    site.gateway.swap({"vectors": vectors, "small": Route("small", ladder)}, site.guard)
    caller = Principal("k1", "support")
    purse = entrance.let_in(10, caller, "vectors", vectors)[0].limits.purse
    assert purse is not None
    (await purse.obtain(1)).settle(0)
    assert purse.used_percent() >= 90
    assert entrance.let_in(10, caller, "vectors", vectors)[1] is vectors


async def test_tags_are_kept_and_bad_ones_refused(site: Site, model: ScriptedModel) -> None:
    site.serve(endpoint("a", model.url))
    assert (await site.ask(chat(), "Bearer good\r\nx-roadbed-tag: q3, project-x")).status == 200
    assert site.ledger.traces[-1].tags == "q3,project-x"
    for bad in ("a b", "x" * 65, "a,b,c,d,e", "{}", '"'):
        refused = await site.ask(chat(), f"Bearer good\r\nx-roadbed-tag: {bad}")
        assert refused.status == 400
        assert refused.json["error"]["param"] == "x-roadbed-tag"


async def test_each_owner_has_its_own_counts(site: Site) -> None:
    entrance = limit(
        site,
        "teams: {support: {rate: 10/min, per_key: {rate: 1/min, budget: 2 USD/day}}}\n"
        "apps: {helpdesk: {kind: search, rate: 5/min, budget: 3 USD/day}}",
        Budgets(Till(0), Metrics(), Path("/nonexistent")),
    )
    route: Any = None
    for key in ("k1", "k2"):
        entrance.let_in(10, Principal(key, "support"), "helpdesk", route)
    used = {gauge.id: gauge.limit - gauge.remaining(entrance.monotonic_s()) for gauge in entrance.gauges}
    assert used == {"team support": 2, "key k1": 1, "key k2": 1, "app helpdesk": 2}
    owner = Principal("k3", "support", budget="9 USD/month")
    entrance.let_in(10, owner, "helpdesk", route)
    assert entrance.budgets is not None
    assert {account.budget.id for account in entrance.budgets._accounts} == {
        "app:helpdesk/day", "key:k1/day", "key:k2/day", "key:k3/month",
    }  # fmt: skip


async def test_a_caller_with_many_keys_empties_nobody_s_count(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadbed.server.entrance.SETS_MAX", 30)
    entrance = limit(site, "teams: {support: {per_key: {rate: 2/min, concurrency: 5}}}")
    route: Any = None
    victim, busy = Principal("victim", "support"), Principal("busy", "support")
    first, _ = entrance.let_in(10, busy, "fast", route)
    for _ in range(2):
        entrance.let_in(10, victim, "fast", route)[0].close()
    for number in range(100):
        entrance.let_in(10, Principal(f"k{number}", "support"), "fast", route)[0].close()
    with pytest.raises(RateExceeded):
        entrance.let_in(10, victim, "fast", route)
    assert len(list(entrance.gauges)) <= 2 * 30
    assert [slots.used for slots in entrance.gauges.all_slots() if slots.id == "key busy"] == [1]
    first.close()
    assert [slots.used for slots in entrance.gauges.all_slots() if slots.id == "key busy"] == [0]


async def test_processes_hold_shares_of_a_rate(site: Site) -> None:
    entrance = limit(site, "teams: {support: {rate: 10/min}}")
    entrance.let_in(10, Principal("k", "support"), "fast", None)  # type: ignore[arg-type]
    mine = entrance.gauges.demand()
    assert mine == {"team support/requests": 1.0}
    entrance.gauges.share({"me": mine, "they": {"team support/requests": 3.0}}, "me")
    [gauge] = entrance.gauges
    assert gauge.period_s / gauge.spacing_s == pytest.approx(10 * (0.05 + 0.9 / 4))


async def test_an_endpoint_over_its_rate_is_passed_over(site: Site, model: ScriptedModel, other: ScriptedModel) -> None:
    site.serve(endpoint("a", model.url), endpoint("b", other.url))
    limit(site, "endpoints: {a: {type: openai, model: m, rate: 1/min}}")
    answers = [(await site.ask(chat())).json["roadbed"] for _ in range(2)]
    assert [answer["endpoint"] for answer in answers] == ["a", "b"]
    assert "a: its rate is used up" in answers[1]["degraded"]


async def test_an_endpoint_whose_tokens_or_places_are_taken_leaves_the_request_to_the_next(
    site: Site, model: ScriptedModel, other: ScriptedModel
) -> None:
    site.serve(endpoint("a", model.url), endpoint("b", other.url))
    limit(
        site,
        "endpoints: {a: {type: openai, url: 'http://a.test', model: m, output_tokens: 4/min, concurrency: 1},"
        " b: {type: openai, url: 'http://b.test', model: m}}",
    )

    async def endpoint_of() -> str:
        answer = await site.ask(chat())
        site.gateway.count_tokens(site.ledger.traces[-1])
        return str(answer.json["roadbed"]["endpoint"])

    assert [await endpoint_of() for _ in range(2)] == ["a", "b"]
    limit(site, "endpoints: {a: {type: openai, url: 'http://a.test', model: m, concurrency: 1}}")
    state = site.gateway.health_of("a")
    state.in_flight += 1
    assert await endpoint_of() == "b"
    state.in_flight -= 1
    assert await endpoint_of() == "a"


async def test_an_app_is_answered_by_the_cheaper_route_near_the_budget_s_end(
    site: Site, model: ScriptedModel, tmp_path: Path
) -> None:
    budgets = Budgets(Till(10**6, settled=950_000), Metrics(), tmp_path)
    entrance = limit(site, "teams: {support: {budget: 1 USD/day, downgrade: {at: 90%, to: small}}}", budgets)
    ladder = (endpoint("a", model.url),)
    dear, small = Route("dear", ladder), Route("small", ladder)
    site.gateway.swap({"dear": dear, "small": small}, site.guard)
    release: Any = SimpleNamespace(digest="d1")
    built: list[Route] = []

    def over(route: Route) -> Any:
        built.append(route)
        return "cheap"

    config, app = AppConfig(kind="copilot"), cast(Any, "dear")
    copilot = ServedApp("helpdesk", release, config, app, 10.0, lambda: dear, over)
    caller = Principal("k1", "support")
    purse = entrance.let_in(10, caller, "helpdesk", copilot)[0].limits.purse
    assert purse is not None
    (await purse.obtain(1)).settle(0)
    ticket, answering = entrance.let_in(10, caller, "helpdesk", copilot)
    assert isinstance(answering, ServedApp)
    assert (cast(Any, answering.app), answering.route(), built) == ("cheap", small, [small])
    assert ticket.notes == ["helpdesk: the budget is 90% spent, so small answered"]
    search = ServedApp("find", release, config, app, 10.0, lambda: dear)
    assert entrance.let_in(10, caller, "find", search)[1] is search, "it asks no model"
    own = ServedApp("cheap", release, config, app, 10.0, lambda: small, over)
    assert entrance.let_in(10, caller, "cheap", own)[1] is own


def test_without_limits_a_request_is_let_in_as_it_is() -> None:
    route = Route("fast", ())
    ticket, target = NoLimits().let_in(10, Principal("k1", "support"), "fast", route)
    assert target is route
    ticket.close()
