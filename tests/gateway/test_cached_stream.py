"""Routes that keep answers, over real HTTP: given again with their age, shared while under way, old ones in need."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest

from roadbed.gateway.cache import CacheRule
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.errors import EndpointsFailed, GatewayDeadline, RejectedByEndpoint, StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import Answer, Call, ChatRequest, Message, Outcome, TextDelta
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import Unavailable
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.ledger.trace import Trace
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply, ScriptedCall
from roadbed.wire.client import UpstreamClient

from .conftest import CALLER, MovableClock, ask, endpoint

RULE = CacheRule(exact_s=60.0, release="r1")


class Place:
    """A gateway with one cached route, and what its callers see."""

    def __init__(self, client: UpstreamClient, guard: Guard, clock: MovableClock, model: ScriptedModel) -> None:
        self.clock = clock
        self.model = model
        self.endpoint = endpoint("a", model.url)
        self.gateway = Gateway(client, guard, {}, clock=clock, chance=lambda: 0.0)
        self.use(RULE)

    def use(self, rule: CacheRule | None) -> None:
        self.gateway.swap({"smart": Route("smart", (self.endpoint,), cache=rule)})

    def call(self, seconds: float = 10.0, principal: Principal = CALLER) -> Call:
        return Call(principal, Deadline.after(seconds), trace=Trace("smart", principal))

    async def ask(self, request: ChatRequest, call: Call | None = None) -> tuple[Answer, Outcome, Trace]:
        call = call if call is not None else self.call()
        assert call.trace is not None
        async with self.gateway.stream("smart", request, call) as stream:
            answer = await stream.answer()
        return answer, stream.outcome, call.trace


@pytest.fixture
def place(client: UpstreamClient, guard: Guard, clock: MovableClock, first: ScriptedModel) -> Place:
    return Place(client, guard, clock, first)


def question(text: str = "Say something", **values: Any) -> ChatRequest:
    return ask(text, **({"temperature": 0} | values))


async def test_an_equal_request_is_answered_again_with_its_age_and_without_cost(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one two")))
    answer, outcome, trace = await place.ask(question())
    assert (answer.text, outcome.rung, outcome.age_s, len(trace.usage)) == ("one two", "full", None, 1)
    place.clock.now_s += 12.0
    answer, outcome, trace = await place.ask(question())
    assert (answer.text, answer.finish_reason, outcome.rung, outcome.age_s) == ("one two", "stop", "cached", 12.0)
    assert (outcome.endpoint, outcome.missing, trace.usage) == ("a", [], [])
    assert [(span.kind, span.attributes["age_s"]) for span in trace.spans] == [("cache", 12.0)]
    assert len(place.model.chats) == 1
    place.clock.now_s += 60.0
    assert (await place.ask(question()))[1].rung == "full"
    assert len(place.model.chats) == 2


async def test_the_outcome_is_known_before_the_first_event_is_read(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one two")))
    for rung in ("full", "cached"):
        async with place.gateway.stream("smart", question(), place.call()) as stream:
            await stream.open()
            assert (stream.outcome.endpoint, stream.outcome.rung) == ("a", rung)
            assert (await stream.answer()).text == "one two"


async def test_what_differs_is_asked_anew(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one")))
    await place.ask(question())
    await place.ask(question("Say something else"))
    await place.ask(question(), place.call(principal=Principal("key-1", "sales")))
    await place.ask(question(temperature=None))
    await place.ask(question(temperature=None))
    place.use(CacheRule(exact_s=60.0, release="r2"))
    await place.ask(question())
    assert len(place.model.chats) == 6


async def test_personal_data_keeps_requests_apart_and_equal_ones_together(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one")))
    for person in ("ann@example.com", "bob@example.com", "ann@example.com"):
        await place.ask(question(f"Write to {person}"))
    assert len(place.model.chats) == 2


@pytest.mark.parametrize(
    "reply",
    [Reply(calls=(ScriptedCall("f", "{}"),)), Reply(text="one two", finish="length")],
    ids=["a tool call", "cut short"],
)
async def test_answers_with_tool_calls_and_short_ones_are_not_kept(place: Place, reply: Reply) -> None:
    place.model.script(Rule("", reply))
    await place.ask(question())
    await place.ask(question())
    assert len(place.model.chats) == 2


async def test_equal_requests_under_way_share_one_call_that_one_pays(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one two three", first_delay_s=0.05)))
    found = await asyncio.gather(*(place.ask(question()) for _ in range(5)))
    assert {answer.text for answer, _, _ in found} == {"one two three"}
    assert len(place.model.chats) == 1
    assert [len(trace.usage) for _, _, trace in found] == [1, 0, 0, 0, 0]
    assert [span.name for span in found[0][2].spans] == ["model a"]
    assert {outcome.rung for _, outcome, _ in found} == {"full"}


async def test_who_waits_for_all_of_it_shares_no_call_that_may_break_off(place: Place) -> None:
    place.model.script(
        Rule("", Reply(text="one two three", gap_s=0.05, cut_after=2), 1), Rule("", Reply(text="one two three"))
    )
    streaming = place.gateway.stream("smart", question(), place.call())
    first = await anext(streaming)
    async with place.gateway.stream("smart", question(), place.call(), is_whole=True) as waiting:
        assert (await waiting.answer()).text == "one two three"
    assert isinstance(first, TextDelta)
    with pytest.raises(StreamCut):
        await streaming.answer()


async def test_the_call_goes_on_while_one_reader_is_left_who_then_pays(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one two three", stall_after=2)))
    first = asyncio.create_task(place.ask(question()))
    request = await place.model.wait_for_request()
    call = place.call()
    second = asyncio.create_task(place.ask(question(), call))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert not request.closed.is_set()
    second.cancel()
    await asyncio.wait([second])
    async with asyncio.timeout(60):
        await request.closed.wait()
    assert call.trace is not None
    assert [usage.source for usage in call.trace.usage] == ["estimated"]
    assert len(place.model.chats) == 1
    place.model.script(Rule("", Reply(text="whole")))
    assert (await place.ask(question()))[0].text == "whole", "what was left is neither kept nor joined"


async def test_a_reader_whose_time_is_longer_goes_on_alone(place: Place) -> None:
    place.model.script(Rule("", Reply(hang=True), times=1), Rule("", Reply(text="late but whole")))
    short = asyncio.create_task(place.ask(question(), place.call(1.5)))
    await place.model.wait_for_request()
    answer, _, _ = await place.ask(question(), place.call(2.9))
    assert answer.text == "late but whole"
    with pytest.raises(GatewayDeadline):
        await short


async def test_without_exact_each_request_makes_its_own_call(place: Place) -> None:
    place.use(CacheRule(stale_s=3600.0, release="r1"))
    place.model.script(Rule("", Reply(text="one", first_delay_s=0.05)))
    await asyncio.gather(*(place.ask(question()) for _ in range(3)))
    assert len(place.model.chats) == 3


async def test_only_a_route_without_cache_and_with_one_key_goes_the_short_way(place: Place) -> None:
    body = b'{"model":"smart","messages":[{"role":"user","content":"hello"}]}'
    several = (Secret("a"), Secret("b"))
    keyed = dataclasses.replace(place.endpoint, name="keyed", key=several[0], keys=several)
    for route, is_short in (
        (Route("smart", (place.endpoint,)), True),
        (Route("smart", (place.endpoint,), cache=RULE), False),
        (Route("smart", (keyed,)), False),
    ):
        opening = place.gateway.relay(route, decode_chat(body), body, place.call())
        assert (opening is not None) is is_short


async def test_a_call_that_ends_too_soon_is_not_joined(place: Place) -> None:
    place.model.script(Rule("", Reply(hang=True), times=1), Rule("", Reply(text="one")))
    short = asyncio.create_task(place.ask(question(), place.call(40.0)))
    await place.model.wait_for_request()
    async with asyncio.timeout(30):
        assert (await place.ask(question(), place.call(300.0)))[0].text == "one"
    short.cancel()
    await asyncio.wait([short])


async def test_an_answer_with_a_caller_s_own_tokens_is_not_kept(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one")))
    for _ in range(2):
        own = Call(CALLER, Deadline.after(10.0), trace=Trace("smart", CALLER), vault=Vault())
        await place.ask(question(), own)
    assert len(place.model.chats) == 2


async def test_nothing_is_asked_again_after_the_last_reader_left(place: Place) -> None:
    place.model.script(Rule("", Reply(status=429, headers={"retry-after": "30"})))
    asking = asyncio.create_task(place.ask(question(), place.call(60.0)))
    request = await place.model.wait_for_request()
    await request.answered.wait()
    while place.gateway.health_of("a").in_flight:  # noqa: ASYNC110 - the answer is on its way through the socket
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(60):
        while any(task.get_name() == "flight" for task in asyncio.all_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_an_old_answer_stands_in_when_every_endpoint_fails(place: Place) -> None:
    place.use(CacheRule(stale_s=3600.0, release="r1"))
    place.model.script(Rule("", Reply(text="one"), times=1), Rule("", Reply(status=500)))
    await place.ask(question())
    place.clock.now_s += 600.0
    answer, outcome, trace = await place.ask(question())
    assert (answer.text, outcome.rung, outcome.age_s) == ("one", "cached", 600.0)
    assert outcome.missing
    assert {span.kind for span in trace.spans} == {"model", "cache"}
    with pytest.raises(EndpointsFailed):
        await place.ask(question("Something that was never asked"))
    place.clock.now_s += 3600.0
    with pytest.raises(EndpointsFailed):
        await place.ask(question())


async def test_a_request_that_is_wrong_gets_its_error_and_no_old_answer(place: Place) -> None:
    place.use(CacheRule(stale_s=3600.0, release="r1"))
    place.model.script(Rule("", Reply(text="one"), times=1), Rule("", Reply(status=400)))
    await place.ask(question())
    with pytest.raises(RejectedByEndpoint):
        await place.ask(question())


async def test_without_stale_an_error_stays_an_error(place: Place) -> None:
    place.model.script(Rule("", Reply(text="one"), times=1), Rule("", Reply(status=500)))
    await place.ask(question())
    place.clock.now_s += 61.0
    with pytest.raises(EndpointsFailed):
        await place.ask(question())


class Meanings:
    """An embedder that knows some questions; vectors are angles."""

    digest = "angles"

    def __init__(self, **angles: float) -> None:
        self.angles = angles

    async def embed_query(self, text: str) -> Any:
        if "busy" in text:
            raise Unavailable("busy")
        angle = self.angles[text.split()[0]]
        return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)

    def fits(self, text: str) -> bool:
        return "endless" not in text


def alike(place: Place, similarity: float = 0.9) -> None:
    place.use(CacheRule(exact_s=60.0, release="r1", similarity=similarity))
    place.gateway.cache.embedder = Meanings(what=0.0, which=0.1, please=1.2)
    place.model.script(Rule("", Reply(text="one two")))


async def test_a_question_that_means_the_same_gets_the_same_answer(place: Place) -> None:
    alike(place)
    await place.ask(question("what of tea"))
    answer, outcome, trace = await place.ask(question("which of tea"))
    assert (answer.text, outcome.rung, trace.usage) == ("one two", "cached", [])
    assert trace.attributes["cache_by_meaning"] is True
    assert (await place.ask(question("please of tea")))[1].rung == "full"
    place.clock.now_s += 61.0
    assert (await place.ask(question("which of tea")))[1].rung == "full"


@pytest.mark.parametrize(
    "kind", ["facts", "team", "earlier", "system", "sampling", "release", "exact", "window", "busy"]
)
async def test_whatever_else_differs_a_near_question_is_asked_anew(place: Place, kind: str) -> None:
    alike(place)
    first, near, call = question("what of 40"), question("which of 40"), place.call()
    if kind == "facts":
        near = question("which of 41")
    elif kind == "team":
        call = place.call(principal=Principal("key-1", "sales"))
    elif kind in ("earlier", "system"):
        role: Any = "user" if kind == "earlier" else "system"
        near = with_messages(near, (Message(role, "before"), *near.messages))
    elif kind == "sampling":
        near = question("which of 40", max_tokens=5)
    elif kind == "window":
        near = question("which of 40 endless")
    elif kind == "busy":
        near = question("which of 40 busy")
    await place.ask(first)
    if kind == "release":
        place.use(CacheRule(exact_s=60.0, release="r2", similarity=0.9))
    elif kind == "exact":
        place.use(RULE)
    assert (await place.ask(near, call))[1].rung == "full"
    assert len(place.model.chats) == 2


def with_messages(request: ChatRequest, messages: tuple[Message, ...]) -> ChatRequest:
    return msgspec.structs.replace(request, messages=messages)


async def test_equal_requests_share_one_call_on_a_semantic_route_too(place: Place) -> None:
    alike(place)
    place.model.script(Rule("", Reply(text="one two three", first_delay_s=0.05)))
    found = await asyncio.gather(*(place.ask(question("what of tea")) for _ in range(5)))
    assert {answer.text for answer, _, _ in found} == {"one two three"}
    assert len(place.model.chats) == 1
