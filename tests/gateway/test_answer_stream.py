"""After the first word: cuts are told, callers that leave close the upstream, texts pass the guard both ways."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from tests.stopwatch import Stopwatch

from roadbed.gateway import answer_stream
from roadbed.gateway.answer_stream import AnswerStream
from roadbed.gateway.cached_stream import CachedStream
from roadbed.gateway.errors import NoCandidate, StreamCut
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.masking import guard_request
from roadbed.gateway.types import Answer, ChatRequest, Event, Finished, ImagePart, Message, Outcome, TextDelta, TextPart
from roadbed.guard.vault import Vault
from roadbed.kernel.label import Label, Level
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import NOT_FOUND, Prompt, Reply, ScriptedCall

from .conftest import MakeGateway, ask, call, endpoint

CLOSE_S_MAX = 60.0


async def until_cut(gateway: Gateway, seconds: float = 60.0) -> tuple[list[Event], Outcome, StreamCut]:
    events: list[Event] = []

    async def read(stream: AnswerStream | CachedStream) -> None:
        async for event in stream:
            events.append(event)

    async with gateway.stream("smart", ask(), call(seconds)) as stream:
        with pytest.raises(StreamCut) as raised:
            await read(stream)
    return events, stream.outcome, raised.value


@pytest.mark.parametrize(
    ("fault", "cut_by"),
    [
        (Reply(text="one two three four", cut_after=2), "fault"),
        (Reply(text="one two three four", end_after=2), "fault"),
        (Reply(text="one two three four", garbage_after=2), "fault"),
        (Reply(text="one two three four", error_after=2), "overload"),
        (Reply(text="one two three four", stall_after=2), "timeout"),
    ],
    ids=["cut", "clean end without finish", "garbage", "error event", "stall"],
)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_stream_that_breaks_after_its_first_words_is_never_complete(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, fault: Reply, cut_by: str, dialect: str
) -> None:
    first.script(Rule("", fault))
    url = first.url if dialect == "openai" else first.root
    stall_s = 0.1 if fault.stall_after else 5.0
    gateway = gateway_of(endpoint("a", url, dialect=dialect, stall_s=stall_s), endpoint("b", second.url))
    watch = Stopwatch()
    events, outcome, _ = await until_cut(gateway)
    assert watch.elapsed_s() < 4.0
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one "], "the last word is held"
    assert not any(isinstance(event, Finished) for event in events)
    assert (outcome.is_complete, outcome.cut_by, outcome.finish_reason) == (False, cut_by, None)
    assert outcome.usage.is_estimated
    assert outcome.usage.output_tokens > 0
    assert not second.chats, "the endpoint does not change after the first word"
    assert gateway.health_of("a").failures == 1


async def test_the_deadline_cuts_a_stream_that_has_begun(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="one two three", stall_after=2)))
    _, outcome, error = await until_cut(gateway_of(endpoint("a", first.url)), seconds=1.5)
    assert outcome.cut_by == "deadline"
    assert "deadline" in error.message
    await asyncio.wait_for(first.chats[0].closed.wait(), CLOSE_S_MAX)


async def test_leaving_the_context_closes_the_upstream(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="one two three", stall_after=2)))
    gateway = gateway_of(endpoint("a", first.url))
    async with gateway.stream("smart", ask(), call()) as stream:
        await anext(stream)
    await asyncio.wait_for(first.chats[0].closed.wait(), CLOSE_S_MAX)
    outcome = stream.outcome
    assert (outcome.is_complete, outcome.cut_by) == (False, "caller")
    assert outcome.usage.is_estimated
    assert gateway.health_of("a").in_flight == 0
    assert gateway.health_of("a").failures == 0, "a caller that leaves is no failure of the endpoint"


@pytest.mark.parametrize("reply", [Reply(hang=True), Reply(text="one two", stall_after=1)], ids=["before", "after"])
async def test_cancelling_the_reader_closes_the_upstream(
    gateway_of: MakeGateway, first: ScriptedModel, reply: Reply
) -> None:
    first.script(Rule("", reply))
    gateway = gateway_of(endpoint("a", first.url))

    async def read() -> None:
        async for _ in gateway.stream("smart", ask(), call()):
            pass

    task = asyncio.create_task(read())
    request = await first.wait_for_request()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(request.closed.wait(), CLOSE_S_MAX)
    assert gateway.health_of("a").in_flight == 0


async def test_the_outcome_is_known_before_the_first_event_is_read(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    async with gateway_of(endpoint("a", first.url)).stream("smart", ask(), call()) as stream:
        await stream.open()
        assert (stream.outcome.endpoint, stream.outcome.rung) == ("a", "full")
        assert (await stream.answer()).text == "You said: Say something"


EMAIL = "kari.nordmann@example.com"


def echo(prompt: Prompt) -> Reply:
    return Reply(text=f"Write to {prompt.last_user_text.split()[-1]} today")


async def test_a_cloud_sees_tokens_and_the_caller_sees_the_value(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", echo))
    gateway = gateway_of(endpoint("cloud", first.url, is_local=False))
    answer, _ = await gateway.complete("smart", ask(f"mail {EMAIL}"), call())
    assert answer.text == f"Write to {EMAIL} today"
    async with gateway.stream("smart", ask(f"mail {EMAIL}"), call(vault=Vault())) as stream:
        assert (await stream.answer()).text == f"Write to {EMAIL} today"
    assert all(EMAIL.encode() not in request.body for request in first.chats)


async def test_a_local_engine_sees_personal_data_and_no_secret(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", echo))
    secret = "AKIAQ3EGVBN7ZK5MW2XH"
    answer, _ = await gateway_of(endpoint("own", first.url)).complete("smart", ask(f"key {secret} {EMAIL}"), call())
    assert answer.text == f"Write to {EMAIL} today"
    assert EMAIL.encode() in first.chats[0].body
    assert secret.encode() not in first.chats[0].body


async def test_every_string_of_a_request_is_guarded(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    request = ChatRequest(
        messages=(
            Message("system", f"Serve {EMAIL}"),
            Message("user", (TextPart(f"I am {EMAIL}"),), name="kari"),
        ),
        stop=(EMAIL,),
        passthrough={"metadata": {"owner": [EMAIL]}},
    )
    await gateway_of(endpoint("cloud", first.url, is_local=False)).complete("smart", request, call())
    body = json.loads(first.chats[0].body)
    assert EMAIL not in json.dumps(body)
    token = body["metadata"]["owner"][0]
    assert body["messages"][0]["content"] == f"Serve {token}", "one value has one token in a request"


async def test_tool_arguments_come_back_with_their_values(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    def call_with_token(prompt: Prompt) -> Reply:
        return Reply(calls=(ScriptedCall("send", json.dumps({"to": prompt.last_user_text.split()[-1]})),))

    first.script(Rule("", call_with_token))
    gateway = gateway_of(endpoint("cloud", first.url, is_local=False))
    answer, _ = await gateway.complete("smart", ask(f"mail {EMAIL}"), call())
    assert json.loads(answer.tool_calls[0].arguments) == {"to": EMAIL}


async def test_confidential_data_never_climbs_down_to_a_cloud(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    label = Label(Level.CONFIDENTIAL)
    cloud, own = endpoint("cloud", first.url, is_local=False), endpoint("own", second.url)
    _, outcome = await gateway_of(cloud, own).complete("smart", ask(), call(label=label))
    assert outcome.endpoint == "own"
    assert outcome.skipped == ["cloud: not cleared for confidential"]
    await second.stop()
    with pytest.raises(Exception, match="own: fault"):
        await gateway_of(own, cloud).complete("smart", ask(), call(label=label))
    with pytest.raises(NoCandidate, match="cloud: not cleared for confidential") as raised:
        await gateway_of(cloud).complete("smart", ask(), call(label=label))
    assert raised.value.http_status == 403
    assert not first.chats, "nothing was sent to the cloud"


async def test_a_cleared_cloud_takes_confidential_data(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    cleared = endpoint("lab", first.url, is_local=False, labels=("confidential",))
    _, outcome = await gateway_of(cleared).complete("smart", ask(), call(label=Label(Level.CONFIDENTIAL)))
    assert outcome.endpoint == "lab"


async def test_pictures_go_only_where_unscanned_data_may(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    request = ChatRequest(messages=(Message("user", (TextPart("what?"), ImagePart("data:image/png;base64,AAAA"))),))
    with pytest.raises(NoCandidate, match="unscanned"):
        await gateway_of(endpoint("a", first.url)).complete("smart", request, call())
    await gateway_of(endpoint("a", first.url, labels=("unscanned",))).complete("smart", request, call())
    assert first.chats[0].json["messages"][0]["content"][1]["image_url"] == {"url": "data:image/png;base64,AAAA"}


async def test_the_scripted_model_quotes_the_passages_that_answer(
    gateway_of: MakeGateway, first: ScriptedModel
) -> None:
    passages = '<passage n="1">Cats sleep.</passage><passage n="2">Fees are 4.5 EUR. Dogs bark.</passage>\n'
    gateway = gateway_of(endpoint("a", first.url))
    answers: list[Answer] = []
    for question in ("What are the fees?", "Who discovered radium?"):
        answer, _ = await gateway.complete("smart", ask(f"{passages}Question: {question}"), call())
        answers.append(answer)
    assert [answer.text for answer in answers] == ["Fees are 4.5 EUR [2].", NOT_FOUND]


async def test_much_text_for_an_endpoint_outside_is_guarded_aside_and_once(
    gateway_of: MakeGateway, first: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    guarding = guard_request

    def seen(*arguments: Any, **named: Any) -> Any:
        threads.append(threading.current_thread().name)
        return guarding(*arguments, **named)

    monkeypatch.setattr(answer_stream, "guard_request", seen)
    gateway = gateway_of(endpoint("a", first.url, is_local=False))
    for text in ("ann@example.com " + "x" * answer_stream.GUARDED_INLINE_BYTES_MAX, "ann@example.com"):
        async with gateway.stream("smart", ask(text), call()) as stream:
            await stream.answer()
    assert len(threads) == 2
    assert threads[0] != threading.main_thread().name
    assert threads[1] == threading.main_thread().name
    assert all(b"ann@example.com" not in request.body for request in first.chats)
