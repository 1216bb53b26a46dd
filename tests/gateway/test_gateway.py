"""The ladder over real HTTP: what moves on to the next endpoint, what does not, and what the caller is told."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.stopwatch import Stopwatch

from roadbed.gateway.errors import (
    ContextTooLong,
    EndpointsFailed,
    EndpointsOverloaded,
    EndpointsThrottled,
    EndpointsTimedOut,
    GatewayDeadline,
    NoModel,
    RejectedByEndpoint,
    UnknownRoute,
    UnsupportedFeature,
)
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.types import Answer, Finished, JsonSchema, Outcome, TextDelta, Tool, ToolCall
from roadbed.guard.gate import Guard
from roadbed.kernel.secrets import Secret
from roadbed.ledger.trace import Trace
from roadbed.testing.flaky_endpoint import FlakyEndpoint, refused_port
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, ScriptedCall, failing, throttled
from roadbed.wire.client import UpstreamClient

from .conftest import CALLER, MakeGateway, MovableClock, ask, call, endpoint

FINE = Rule("", Reply(text="All is well."))


async def complete_by_stream(gateway: Gateway, seconds: float = 10.0) -> tuple[Answer, Outcome]:
    """The whole answer, by the streaming way."""
    async with gateway.stream("smart", ask(), call(seconds)) as stream:
        return await stream.answer(), stream.outcome


def failures(outcome: Outcome) -> list[tuple[str, str]]:
    return [(attempt.endpoint, attempt.failure) for attempt in outcome.attempts]


async def test_an_answer_streams_with_its_usage_and_cost(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(FINE)
    price = price_from_usd("test", 1.25, 10)
    gateway = gateway_of(endpoint("a", first.url, price=price, key=Secret("sk-test")))
    events = []
    async with gateway.stream("smart", ask("Say something"), call()) as stream:
        async for event in stream:
            events.append(event)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["All ", "is ", "well."]
    assert Finished("stop") in events
    outcome = stream.outcome
    assert (outcome.endpoint, outcome.rung, outcome.is_complete, outcome.price) == ("a", "full", True, "test")
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (2, 3)
    assert outcome.cost_picousd == 2 * 1_250_000 + 3 * 10_000_000
    assert outcome.cost_microusd == 33
    sent = first.chats[0]
    assert sent.headers["authorization"] == "Bearer sk-test"
    assert sent.json["stream_options"] == {"include_usage": True}


async def test_the_connection_is_used_again(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = gateway_of(endpoint("a", first.url))
    for _ in range(3):
        await gateway.complete("smart", ask(), call())
        await first.chats[-1].answered.wait()
    assert first.connections == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (failing(500), [("a", "fault"), ("a", "fault"), ("b", "")]),
        (failing(503), [("a", "overload"), ("a", "overload"), ("b", "")]),
        (throttled(30), [("a", "rate"), ("b", "")]),
        (failing(401, "invalid_api_key"), [("a", "auth"), ("b", "")]),
        (failing(429, "insufficient_quota"), [("a", "quota"), ("b", "")]),
        (Reply(text="lost words here", cut_after=0), [("a", "fault"), ("a", "fault"), ("b", "")]),
        (Reply(text="lost words here", end_after=0), [("a", "fault"), ("a", "fault"), ("b", "")]),
        (Reply(text="lost words here", garbage_after=0), [("a", "fault"), ("a", "fault"), ("b", "")]),
        (Reply(text="lost words here", error_after=0), [("a", "overload"), ("a", "overload"), ("b", "")]),
        (Reply(body=b"<html>hello</html>", headers={"content-type": "text/html"}), [("a", "fault")] * 2 + [("b", "")]),
        (Reply(body=b'{"error":{"message":"x","type":"server_error"}}'), [("a", "fault")] * 2 + [("b", "")]),
        (Reply(body=b'{"choices": ['), [("a", "fault"), ("a", "fault"), ("b", "")]),
    ],
    ids=lambda value: "",
)
async def test_what_fails_before_the_first_word_is_recovered_by_the_next(
    gateway_of: MakeGateway,
    first: ScriptedModel,
    second: ScriptedModel,
    fault: Reply,
    expected: list[tuple[str, str]],
) -> None:
    first.script(Rule("", fault))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    answer, outcome = await complete_by_stream(gateway)
    assert answer.text == "All is well."
    assert failures(outcome) == expected
    assert (outcome.endpoint, outcome.rung) == ("b", "fallback")


async def test_a_refused_connection_is_recovered(gateway_of: MakeGateway, second: ScriptedModel) -> None:
    second.script(FINE)
    gateway = gateway_of(endpoint("a", f"http://127.0.0.1:{refused_port()}/v1"), endpoint("b", second.url))
    answer, outcome = await complete_by_stream(gateway)
    assert answer.text == "All is well."
    assert failures(outcome) == [("a", "fault"), ("b", "")]


async def test_a_ca_file_that_cannot_be_read_is_one_endpoints_failure(
    gateway_of: MakeGateway, second: ScriptedModel
) -> None:
    second.script(FINE)
    broken = endpoint("a", "https://127.0.0.1:1/v1", ca_file="/nowhere/ca.pem")
    answer, outcome = await complete_by_stream(gateway_of(broken, endpoint("b", second.url)))
    assert answer.text == "All is well."
    assert "/nowhere/ca.pem" in outcome.attempts[0].reason


async def test_a_silent_endpoint_is_failed_over_and_not_asked_again(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="never", pings=3, stall_after=0)))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url, first_event_s=0.1), endpoint("b", second.url))
    answer, outcome = await complete_by_stream(gateway)
    assert answer.text == "All is well."
    assert failures(outcome) == [("a", "timeout"), ("b", "")]
    await asyncio.wait_for(first.chats[0].closed.wait(), 60.0)


async def test_a_black_hole_is_failed_over(gateway_of: MakeGateway, second: ScriptedModel) -> None:
    second.script(FINE)
    async with FlakyEndpoint(fault="black_hole") as hole:
        gateway = gateway_of(endpoint("a", f"{hole.root}/v1", first_event_s=0.1), endpoint("b", second.url))
        answer, outcome = await complete_by_stream(gateway)
    assert answer.text == "All is well."
    assert failures(outcome)[0] == ("a", "timeout")


async def test_a_reset_is_failed_over(gateway_of: MakeGateway, second: ScriptedModel) -> None:
    second.script(FINE)
    async with FlakyEndpoint(fault="reset") as flaky:
        gateway = gateway_of(endpoint("a", f"{flaky.root}/v1"), endpoint("b", second.url))
        answer, _ = await complete_by_stream(gateway)
    assert answer.text == "All is well."


async def test_a_local_engine_that_replaces_a_cloud_is_the_rung_local(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(401)))
    gateway = gateway_of(endpoint("cloud", first.url, is_local=False), endpoint("own", second.url))
    _, outcome = await complete_by_stream(gateway)
    assert outcome.rung == "local"


async def test_one_failure_is_retried_once_on_the_same_endpoint(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", failing(500), times=1), FINE)
    answer, outcome = await complete_by_stream(gateway_of(endpoint("a", first.url)))
    assert answer.text == "All is well."
    assert failures(outcome) == [("a", "fault"), ("a", "")]
    assert outcome.rung == "full"


async def test_a_short_wait_that_is_asked_for_is_kept(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", throttled(0.05), times=1), FINE)
    _, outcome = await complete_by_stream(gateway_of(endpoint("a", first.url)))
    assert failures(outcome) == [("a", "rate"), ("a", "")]
    assert outcome.attempts[1].started_s - outcome.attempts[0].ended_s >= 0.05


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        (failing(401, "invalid_api_key"), EndpointsFailed, 502),
        (failing(403), EndpointsFailed, 502),
        (failing(402), EndpointsOverloaded, 503),
        (failing(429, "insufficient_quota"), EndpointsOverloaded, 503),
        (throttled(600), EndpointsThrottled, 429),
        (failing(529), EndpointsOverloaded, 503),
        (failing(404), EndpointsFailed, 502),
        (failing(504), EndpointsTimedOut, 504),
        (failing(400, "invalid_request_error"), RejectedByEndpoint, 400),
        (failing(400, "context_length_exceeded"), ContextTooLong, 400),
        (failing(400, "x", "This model's maximum context length is 4096 tokens"), ContextTooLong, 400),
    ],
    ids=lambda value: "",
)
async def test_what_the_caller_is_told_when_all_fail(
    gateway_of: MakeGateway, first: ScriptedModel, fault: Reply, error: type[Exception], status: int
) -> None:
    first.script(Rule("", fault))
    with pytest.raises(error) as raised:
        await complete_by_stream(gateway_of(endpoint("a", first.url)))
    assert getattr(raised.value, "http_status") == status  # noqa: B009
    assert "scripted failure" not in str(raised.value)
    assert "maximum context" not in str(raised.value)


async def test_the_callers_mistake_is_not_tried_elsewhere(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(422, "invalid_request_error")))
    with pytest.raises(RejectedByEndpoint):
        await complete_by_stream(gateway_of(endpoint("a", first.url), endpoint("b", second.url)))
    assert len(first.chats) == 1
    assert not second.chats


async def test_throttling_says_when_to_come_back(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", throttled(600)))
    gateway = gateway_of(endpoint("a", first.url))
    with pytest.raises(EndpointsThrottled) as raised:
        await complete_by_stream(gateway)
    assert 590 < (raised.value.retry_after_s or 0) <= 600
    with pytest.raises(EndpointsOverloaded, match="throttled"):
        await complete_by_stream(gateway)
    assert len(first.chats) == 1, "an endpoint that asked for a rest gets it"


async def test_one_deadline_bounds_all_endpoints(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    for model in (first, second):
        model.script(Rule("", Reply(hang=True)))
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    watch = Stopwatch()
    with pytest.raises(GatewayDeadline):
        await complete_by_stream(gateway, seconds=2.0)
    assert watch.elapsed_s() < 10.0
    assert [len(first.chats), len(second.chats)] == [1, 1], "a hang leaves the last endpoint its share"


async def test_the_routes_deadline_holds_when_it_is_shorter(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(hang=True)))
    with pytest.raises(GatewayDeadline):
        await complete_by_stream(gateway_of(endpoint("a", first.url), deadline_s=0.1), seconds=30)


async def test_five_refusals_open_the_breaker_and_a_probe_closes_it(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, clock: MovableClock
) -> None:
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), clock=clock)
    first.script(Rule("", failing(500)))
    for _ in range(3):
        _, outcome = await complete_by_stream(gateway)
    asked = len(first.chats)
    assert gateway.health_of("a").breaker.phase == "open"
    _, outcome = await complete_by_stream(gateway)
    assert (outcome.endpoint, len(first.chats)) == ("b", asked), "an open breaker costs no request"
    assert "a: resting after failures" in outcome.skipped
    clock.now_s += 2.0
    first.script(FINE)
    _, outcome = await complete_by_stream(gateway)
    assert (outcome.endpoint, gateway.health_of("a").breaker.phase) == ("a", "recovering")
    clock.now_s += 31.0
    await complete_by_stream(gateway)
    assert gateway.health_of("a").breaker.phase == "closed"


async def test_all_endpoints_resting_is_said_with_a_wait(
    gateway_of: MakeGateway, first: ScriptedModel, clock: MovableClock
) -> None:
    gateway = gateway_of(endpoint("a", first.url), clock=clock)
    first.script(Rule("", failing(500)))
    for _ in range(3):
        with pytest.raises((EndpointsFailed, EndpointsOverloaded)):
            await complete_by_stream(gateway)
    with pytest.raises(EndpointsOverloaded) as raised:
        await complete_by_stream(gateway)
    assert 0 < (raised.value.retry_after_s or 0) <= 1.2


async def test_the_retry_budget_stops_retries_in_a_brownout(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(500)))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    gateway.health_of("a").retry_budget = 0.0
    _, outcome = await complete_by_stream(gateway)
    assert failures(outcome) == [("a", "fault"), ("b", "")]


async def test_a_buffered_answer_survives_a_cut_in_the_middle(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text="half of an answer", cut_after=2)))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    answer, outcome = await gateway.complete("smart", ask(), call())
    assert answer.text == "All is well."
    assert failures(outcome) == [("a", "fault"), ("a", "fault"), ("b", "")]
    lost = outcome.attempts[0].usage
    assert lost.is_estimated, "what the lost attempts used is counted"
    assert outcome.usage.output_tokens > 3


async def test_tools_go_out_and_calls_come_back_in_both_dialects(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    calls = (ScriptedCall("look_up", '{"id": 7}', id="c1"), ScriptedCall("no_arguments", id="c2"))
    first.script(Rule("", Reply(text="Let me see.", calls=calls)))
    request = ask(tools=(Tool("look_up", "Finds", {"type": "object"}), Tool("no_arguments")), tool_choice="auto")
    for given in (endpoint("a", first.url), endpoint("b", first.root, dialect="anthropic")):
        answer, _ = await gateway_of(given).complete("smart", request, call())
        assert answer.text == "Let me see."
        assert answer.finish_reason == "tool_calls"
        assert answer.tool_calls == [ToolCall("c1", "look_up", '{"id": 7}'), ToolCall("c2", "no_arguments", "{}")]


async def test_usage_that_is_not_reported_is_estimated(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="All is well and will be.", has_usage=False)))
    answer, outcome = await complete_by_stream(gateway_of(endpoint("a", first.url)))
    assert answer.usage is not None
    assert answer.usage.is_estimated
    assert outcome.usage.input_tokens > 0
    assert 0 < outcome.usage.output_tokens < 24


async def test_an_endpoint_that_cannot_carry_the_request_is_passed_over(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    second.script(FINE)
    cannot, can = endpoint("a", first.root, dialect="anthropic"), endpoint("b", second.url)
    request = ask(response_format=JsonSchema())
    _, outcome = await gateway_of(cannot, can).complete("smart", request, call())
    assert outcome.endpoint == "b"
    assert outcome.skipped == ["a: cannot carry response_format"]
    with pytest.raises(UnsupportedFeature) as raised:
        await gateway_of(cannot).complete("smart", request, call())
    assert raised.value.param == "response_format"


async def test_an_unknown_model_lists_the_known(client: UpstreamClient, guard: Guard, gateway_of: MakeGateway) -> None:
    gateway = gateway_of(endpoint("a", "http://127.0.0.1:1/v1"))
    with pytest.raises(UnknownRoute) as raised:
        gateway.stream("nothing", ask(), call())
    assert "smart" in raised.value.hint
    with pytest.raises(NoModel):
        Gateway(client, guard).find("smart")


async def test_the_trace_has_a_span_per_attempt_and_the_usage(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(401)))
    second.script(FINE)
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url))
    trace = Trace("smart", CALLER)
    await gateway.complete("smart", ask("a secret plan"), call(trace=trace))
    assert [(span.name, span.status) for span in trace.spans] == [("model a", "failed"), ("model b", "ok")]
    assert trace.spans[0].attributes["failure"] == "auth"
    assert [(usage.endpoint, usage.route, usage.source) for usage in trace.usage] == [("b", "smart", "reported")]
    assert "secret plan" not in json.dumps([span.attributes for span in trace.spans])


async def test_explain_says_which_endpoint_would_answer_and_why(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = gateway_of(endpoint("cloud", first.url, is_local=False, fault="no key"), endpoint("own", first.url))
    rows = gateway.explain("smart")
    assert [(row["endpoint"], row["rung"], row["unavailable"]) for row in rows] == [
        ("cloud", "full", "no key"),
        ("own", "local", ""),
    ]
    assert [model["id"] for model in gateway.model_objects(1)] == ["smart"]
