"""Routes with a policy over real HTTP: what moves on and where, answers checked before they are sent, hedges."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.stopwatch import Stopwatch

from roadbed.gateway.errors import ContextTooLong, EndpointsFailed, EndpointsTimedOut, RejectedByEndpoint, StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import PLAIN, Condition, Policy
from roadbed.gateway.types import Answer, ChatRequest, JsonSchema, Outcome
from roadbed.kernel.label import Label, Level
from roadbed.ledger.trace import HEDGE_ENDPOINT, HEDGE_WON, Trace
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, failing, throttled

from .conftest import CALLER, MakeGateway, ask, call, endpoint

CLOSE_S_MAX = 60.0
SCHEMA = JsonSchema({"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]})
TOO_LONG = failing(400, "context_length_exceeded", "maximum context length is 8192 tokens")


async def answered(
    gateway: Gateway, request: ChatRequest | None = None, trace: Trace | None = None, **values: Any
) -> tuple[Answer, Outcome]:
    asking = call()
    asking.trace = trace
    async with gateway.stream("smart", request or ask(), asking, **values) as stream:
        return await stream.answer(), stream.outcome


async def test_a_strategy_decides_who_is_asked_and_the_chosen_one_is_the_full_rung(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    policy = Policy("weighted", {"a": 0.0})
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=policy)
    _, outcome = await answered(gateway)
    assert (outcome.endpoint, outcome.rung, outcome.skipped) == ("b", "full", ["a: its weight is 0"])
    assert not first.chats


async def test_least_loaded_learns_the_pace_of_each_endpoint(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="one two three", gap_s=0.1)))
    second.script(Rule("", Reply(text="one two three")))
    paces = []
    for name, model in (("a", first), ("b", second)):
        gateway = gateway_of(endpoint(name, model.url), policy=Policy("least-loaded"))
        await answered(gateway)
        paces.append(gateway.health_of(name).pace.seconds_per_token)
    slow, fast = paces
    assert slow is not None
    assert fast is not None
    assert slow > fast


@pytest.mark.parametrize(
    ("happened", "fault"),
    [
        ("timeout", Reply(hang=True)),
        ("rate_limit", throttled(30.0)),
        ("server_error", failing(500)),
        ("context_length", TOO_LONG),
        ("content_filter", failing(400, "content_filter", "filtered")),
    ],
)
async def test_an_outcome_leads_to_the_endpoint_that_its_rule_names(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, happened: str, fault: Reply
) -> None:
    first.script(Rule("", fault))
    big = endpoint("big", second.url)
    policy = Policy(on={happened: "big"}, reserve=(big,))
    first_event_s = 0.2 if happened == "timeout" else 60.0
    slow = endpoint("a", first.url, first_event_s=first_event_s)
    gateway = gateway_of(slow, endpoint("b", first.url), big, policy=policy)
    answer, outcome = await answered(gateway)
    assert answer.text == "You said: Say something"
    assert (outcome.endpoint, outcome.rung) == ("big", "fallback")
    assert {attempt.endpoint for attempt in outcome.attempts} == {"a", "big"}, "b was passed over"


@pytest.mark.parametrize(
    ("happened", "fault", "error"),
    [
        ("timeout", Reply(hang=True), EndpointsTimedOut),
        ("server_error", failing(500), EndpointsFailed),
        ("context_length", TOO_LONG, ContextTooLong),
    ],
)
async def test_an_outcome_can_end_the_walk(
    gateway_of: MakeGateway,
    first: ScriptedModel,
    second: ScriptedModel,
    happened: str,
    fault: Reply,
    error: type[Exception],
) -> None:
    first.script(Rule("", fault))
    first_event_s = 0.2 if happened == "timeout" else 60.0
    ladder = endpoint("a", first.url, first_event_s=first_event_s), endpoint("b", second.url)
    with pytest.raises(error):
        await answered(gateway_of(*ladder, policy=Policy(on={happened: "fail"})))
    assert not second.chats


async def test_too_long_a_prompt_goes_on_to_larger_windows_only(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", TOO_LONG))
    ladder = (
        endpoint("small", first.url, context_tokens=8192),
        endpoint("same", second.url, context_tokens=8192),
        endpoint("large", second.url, context_tokens=32768),
    )
    _, outcome = await answered(gateway_of(*ladder, policy=Policy(on={"context_length": "next"})))
    assert (outcome.endpoint, outcome.skipped) == ("large", ["same: its window is no larger"])
    second.script(Rule("", TOO_LONG))
    with pytest.raises(ContextTooLong):
        await answered(gateway_of(*ladder, policy=Policy(on={"context_length": "next"})))


async def test_a_wrong_request_ends_the_walk_whatever_the_rules_say(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(400, "invalid_request_error")))
    policy = Policy(on={"server_error": "next", "context_length": "next"})
    with pytest.raises(RejectedByEndpoint):
        await answered(gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=policy))
    assert not second.chats


async def test_a_rule_never_leads_to_what_the_label_forbids(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(500)))
    cloud = endpoint("cloud", second.url, is_local=False)
    gateway = gateway_of(endpoint("a", first.url), policy=Policy(on={"server_error": "cloud"}, reserve=(cloud,)))
    asked = call(label=Label(Level.CONFIDENTIAL))
    with pytest.raises(EndpointsFailed, match="cloud: not cleared"):
        async with gateway.stream("smart", ask(), asked) as stream:
            await stream.answer()
    assert not second.chats


async def test_a_rule_reads_the_headers_that_it_names(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    gold = endpoint("gold", second.url)
    policy = Policy(rules=(Condition((gold,), headers=(("x-tier", "gold"),)),), reserve=(gold,))
    gateway = gateway_of(endpoint("a", first.url), policy=policy)
    for headers, expected in (({}, "a"), ({"x-tier": "gold"}, "gold")):
        async with gateway.stream("smart", ask(), call(headers=headers)) as stream:
            await stream.answer()
        assert stream.outcome.endpoint == expected


async def test_an_answer_that_a_filter_stopped_moves_on_while_somebody_is_left(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="", finish="content_filter")))
    ladder = endpoint("a", first.url), endpoint("b", second.url)
    policy = Policy(on={"content_filter": "next"})
    answer, outcome = await answered(gateway_of(*ladder, policy=policy))
    assert (outcome.endpoint, outcome.missing) == ("b", ["a: filtered"])
    assert answer.finish_reason == outcome.finish_reason == "stop"
    answer, outcome = await answered(gateway_of(ladder[0], policy=policy))
    assert answer.finish_reason == "content_filter", "the only one's answer is given as it is"


async def test_an_answer_that_does_not_fit_its_schema_is_not_sent(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text='{"age": "old"}')))
    second.script(Rule("", Reply(text='{"age": 7}')))
    ladder = endpoint("a", first.url), endpoint("b", second.url)
    gateway = gateway_of(*ladder, policy=Policy(on={"invalid_json": "next"}))
    answer, outcome = await answered(gateway, ask(response_format=SCHEMA), is_whole=True)
    assert (json.loads(answer.text), outcome.missing) == ({"age": 7}, ["a: invalid"])
    assert not outcome.attempts[0].usage.is_estimated, "its answer was whole, and is paid for as reported"
    assert gateway.health_of("a").breaker.failures_in_a_row == 0, "the server is not at fault"
    second.script(Rule("", Reply(text="{}")))
    with pytest.raises(EndpointsFailed, match="does not fit the JSON schema"):
        await answered(gateway, ask(response_format=SCHEMA), is_whole=True)


async def test_restart_gives_a_waiting_caller_the_whole_answer_of_the_next_endpoint(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="one two three four", cut_after=2)))
    ladder = endpoint("a", first.url), endpoint("b", second.url)
    answer, outcome = await answered(gateway_of(*ladder, policy=Policy(on_cut="restart")), is_whole=True)
    assert answer.text == "You said: Say something"
    assert (outcome.endpoint, outcome.is_complete, outcome.cut_by) == ("b", True, "")
    assert outcome.usage.input_tokens > outcome.attempts[1].usage.input_tokens, "both attempts are settled"


@pytest.mark.parametrize("is_plain", [True, False])
async def test_who_waits_for_all_of_it_is_told_of_no_cut_by_any_contract(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, *, is_plain: bool
) -> None:
    first.script(Rule("", Reply(text="one two three four", cut_after=2)))
    ladder = endpoint("a", first.url), endpoint("b", second.url)
    gateway = gateway_of(*ladder, policy=PLAIN if is_plain else Policy(queue=9))
    answer, outcome = await answered(gateway, is_whole=True)
    assert answer.text == "You said: Say something"
    assert (outcome.endpoint, outcome.is_complete, outcome.cut_by) == ("b", True, "")
    with pytest.raises(StreamCut):
        await answered(gateway)


@pytest.mark.parametrize("policy", [PLAIN, Policy(queue=9), Policy("majority")])
async def test_the_label_of_a_call_is_in_its_record_whatever_the_policy(
    gateway_of: MakeGateway, first: ScriptedModel, policy: Policy
) -> None:
    label, trace = Label(Level.CONFIDENTIAL), Trace("smart", CALLER)
    gateway = gateway_of(endpoint("own", first.url, is_local=True), policy=policy)
    await gateway.complete("smart", ask(), call(label=label, trace=trace))
    assert trace.label == label


async def test_restart_holds_a_stream_back_until_it_is_whole(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="one two three four", cut_after=2)))
    ladder = endpoint("a", first.url), endpoint("b", second.url)
    answer, outcome = await answered(gateway_of(*ladder, policy=Policy(on_cut="restart")))
    assert answer.text == "You said: Say something"
    assert (outcome.endpoint, outcome.is_complete, outcome.is_begun) == ("b", True, True)


async def test_an_answer_that_has_begun_is_not_hedged_while_it_becomes_whole(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="one two three four five", gap_s=0.12)))
    gateway = await hedging(gateway_of, first, second)
    usually(gateway, "a", 0.01)  # asked again after 0.3 s, and whole after 0.5
    _, outcome = await answered(gateway, is_whole=True)
    assert (outcome.endpoint, outcome.hedged) == ("a", False)
    assert not second.chats


def usually(gateway: Gateway, name: str, seconds: float) -> None:
    """The endpoint has begun its answers within ``seconds`` so far."""
    gateway.health_of(name).first_events.extend([seconds] * 200)


async def hedging(gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, budget: int = 20) -> Gateway:
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=Policy(is_hedged=True))
    for _ in range(budget - 1):
        gateway.hedges.earn("smart")
    return gateway


async def test_a_slow_endpoint_is_hedged_and_the_loser_is_cancelled_and_settled(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(hang=True)))
    gateway = await hedging(gateway_of, first, second)
    usually(gateway, "a", 0.01)
    trace = Trace("smart", call().principal)
    answer, outcome = await answered(gateway, trace=trace)
    assert trace.attributes == {HEDGE_ENDPOINT: "b", HEDGE_WON: True}
    assert answer.text == "You said: Say something"
    assert (outcome.endpoint, outcome.hedged) == ("b", True)
    assert gateway.hedges.counts == {("smart", "started"): 1, ("smart", "won"): 1}
    await asyncio.wait_for(first.chats[0].closed.wait(), CLOSE_S_MAX)
    loser, winner = outcome.attempts
    assert (loser.endpoint, loser.failure, winner.endpoint) == ("a", "", "b")
    assert loser.ended_s
    assert loser.usage.is_estimated
    assert loser.usage.input_tokens > 0
    assert [gateway.health_of(name).in_flight for name in "ab"] == [0, 0]
    assert [gateway.health_of(name).failures for name in "ab"] == [0, 0]


async def test_the_first_one_wins_where_it_is_quick_and_no_second_is_asked(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    gateway = await hedging(gateway_of, first, second)
    usually(gateway, "a", 3.0)
    _, outcome = await answered(gateway)
    assert (outcome.endpoint, outcome.hedged) == ("a", False)
    assert not second.chats


async def test_without_budget_or_knowledge_nobody_is_hedged(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="late but here", first_delay_s=0.6)))
    gateway = await hedging(gateway_of, first, second, budget=5)
    usually(gateway, "a", 0.01)
    assert (await answered(gateway))[1].endpoint == "a"
    gateway = await hedging(gateway_of, first, second)
    assert (await answered(gateway))[1].endpoint == "a"
    gateway = await hedging(gateway_of, first, second)
    usually(gateway, "a", 0.01)
    gateway.health_of("b").retry_budget = 0.5
    assert (await answered(gateway))[1].endpoint == "a", "hedges and retries share one budget"
    assert not second.chats


async def test_when_both_of_a_race_fail_each_is_named_and_none_is_asked_again(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="", first_delay_s=0.6, cut_after=0)))
    second.script(Rule("", Reply(text="", cut_after=0)))
    gateway = await hedging(gateway_of, first, second)
    gateway.health_of("a").retry_budget = 0.0
    usually(gateway, "a", 0.01)
    with pytest.raises(EndpointsFailed) as raised:
        await answered(gateway)
    assert "a: fault" in raised.value.message
    assert "b: fault" in raised.value.message
    assert (len(first.chats), len(second.chats)) == (1, 1)
    assert [gateway.health_of(name).in_flight for name in "ab"] == [0, 0]


async def test_a_caller_who_leaves_a_race_stops_both(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    for model in (first, second):
        model.script(Rule("", Reply(hang=True)))
    gateway = await hedging(gateway_of, first, second)
    usually(gateway, "a", 0.01)
    task = asyncio.create_task(answered(gateway))
    requests = [await first.wait_for_request(), await second.wait_for_request()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for request in requests:
        await asyncio.wait_for(request.closed.wait(), CLOSE_S_MAX)
    assert [gateway.health_of(name).in_flight for name in "ab"] == [0, 0]


async def test_the_wait_for_a_first_token_is_cut_to_what_it_usually_needs(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(hang=True)))
    ladder = endpoint("a", first.url, first_event_s=9.0), endpoint("b", second.url)
    gateway = gateway_of(*ladder, policy=Policy(on={"timeout": "b"}))
    usually(gateway, "a", 0.05)
    watch = Stopwatch()
    _, outcome = await answered(gateway)
    assert watch.elapsed_s() < 5.0
    assert (outcome.endpoint, outcome.missing) == ("b", ["a: timeout"])
