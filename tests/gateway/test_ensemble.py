"""Several endpoints, one answer: the first valid, the one that most give, or the one that a judge names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from roadbed.gateway.ensemble import ballot, judging, votes
from roadbed.gateway.errors import EndpointsFailed
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import Policy
from roadbed.gateway.route import Route
from roadbed.gateway.types import Answer, ChatRequest, Finished, JsonSchema, Outcome, TextDelta
from roadbed.kernel.label import Label, Level
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply, failing

from .conftest import MakeGateway, ask, call, endpoint

CLOSE_S_MAX = 60.0


@pytest.fixture
async def third() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as model:
        yield model


def says(model: ScriptedModel, reply: Reply | str) -> None:
    model.script(Rule("", Reply(text=reply) if isinstance(reply, str) else reply))


async def answered(gateway: Gateway, request: ChatRequest | None = None) -> tuple[str, Outcome]:
    async with gateway.stream("smart", request or ask(), call()) as stream:
        events = [event async for event in stream]
    assert sum(isinstance(event, Finished) for event in events) == 1
    return "".join(event.text for event in events if isinstance(event, TextDelta)), stream.outcome


async def test_the_first_valid_answer_is_given_and_the_others_are_cancelled_and_settled(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, third: ScriptedModel
) -> None:
    says(first, Reply(hang=True))
    says(second, "no JSON")
    says(third, Reply(text='{"age": 7}', first_delay_s=0.1))
    ladder = [endpoint(name, model.url) for name, model in (("a", first), ("b", second), ("c", third))]
    gateway = gateway_of(*ladder, policy=Policy("first-valid"))
    text, outcome = await answered(gateway, ask(response_format=JsonSchema({"type": "object"})))
    assert (text, outcome.endpoint, outcome.rung) == ('{"age": 7}', "c", "fallback")
    assert outcome.missing == ["b: invalid"]
    await asyncio.wait_for(first.chats[0].closed.wait(), CLOSE_S_MAX)
    by_name = {attempt.endpoint: attempt for attempt in outcome.attempts}
    assert sorted(by_name) == ["a", "b", "c"]
    assert by_name["a"].usage.is_estimated
    assert outcome.usage.input_tokens == sum(attempt.usage.input_tokens for attempt in outcome.attempts)
    assert [gateway.health_of(name).in_flight for name in "abc"] == [0, 0, 0]


async def test_what_most_say_is_given_and_nobody_is_waited_for_once_that_is_sure(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, third: ScriptedModel
) -> None:
    says(first, Reply(hang=True))
    says(second, "Forty two.")
    says(third, "forty  two")
    ladder = [endpoint(name, model.url) for name, model in (("a", first), ("b", second), ("c", third))]
    text, outcome = await answered(gateway_of(*ladder, policy=Policy("majority")))
    assert (text, outcome.endpoint, outcome.rung, outcome.missing) == ("Forty two.", "b", "full", [])
    says(first, "Nine")
    says(third, failing(400, "invalid_request_error"))
    text, outcome = await answered(gateway_of(*ladder, policy=Policy("majority")))
    assert (text, outcome.rung, outcome.missing) == ("Nine", "fallback", ["c: client"]), "ties go by the ladder"


def best_of(gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, judge: ScriptedModel) -> Gateway:
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=Policy("best-of"))
    judged = Route("judge", (endpoint("j", judge.url),), policy=Policy("sticky"))
    gateway.swap({"smart": replace(gateway.find("smart"), judge=judged)})
    return gateway


async def test_a_judge_names_the_best_and_its_attempt_is_settled_too(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, third: ScriptedModel
) -> None:
    says(first, "Short.")
    says(second, "A longer answer.")

    def judge(prompt: Prompt) -> Reply:
        assert "--- answer 2 ---\nA longer answer." in prompt.last_user_text
        return Reply(text="Answer 2")

    third.script(Rule("", judge))
    text, outcome = await answered(best_of(gateway_of, first, second, third))
    assert (text, outcome.endpoint, outcome.rung) == ("A longer answer.", "b", "full")
    assert [attempt.endpoint for attempt in outcome.attempts] == ["a", "b", "j"]


@pytest.mark.parametrize(
    ("reply", "said"),
    [(Reply(text="Both are fine"), "judge judge: it named no answer"), (Reply(text="7"), "it named no answer")],
)
async def test_without_a_verdict_the_first_of_the_ladder_is_given_and_that_is_said(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, third: ScriptedModel, reply: Reply, said: str
) -> None:
    says(third, reply)
    _, outcome = await answered(best_of(gateway_of, first, second, third))
    assert outcome.endpoint == "a"
    assert said in outcome.skipped[0]


async def test_members_are_bound_by_labels_and_a_call_without_answers_fails(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    ladder = endpoint("own", first.url), endpoint("cloud", second.url, is_local=False)
    gateway = gateway_of(*ladder, policy=Policy("majority"))
    async with gateway.stream("smart", ask(), call(label=Label(Level.CONFIDENTIAL))) as stream:
        await stream.answer()
    assert stream.outcome.skipped == ["cloud: not cleared for confidential"]
    assert not second.chats
    says(first, Reply(text=""))
    with pytest.raises(EndpointsFailed, match="it is empty"):
        await answered(gateway_of(ladder[0], policy=Policy("first-valid")))


async def test_a_caller_who_leaves_stops_every_member(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    for model in (first, second):
        says(model, Reply(hang=True))
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", second.url), policy=Policy("majority"))
    task = asyncio.create_task(answered(gateway))
    requests = [await first.wait_for_request(), await second.wait_for_request()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for request in requests:
        await asyncio.wait_for(request.closed.wait(), CLOSE_S_MAX)
    assert [gateway.health_of(name).in_flight for name in "ab"] == [0, 0]


def test_answers_agree_by_their_value() -> None:
    assert ballot(Answer(text='{"a": 1, "b": 2}')) == ballot(Answer(text='{"b":2,"a":1}'))
    assert ballot(Answer(text=" Yes. ")) == ballot(Answer(text="yes"))
    assert ballot(Answer(text="yes")) != ballot(Answer(text="no"))
    assert votes([Answer(text=text) for text in ("a", "b", "b", "c")]) == (2, 1)
    long = judging(ask("x" * 100_000), ["y" * 100_000] * 5).messages[1].text()
    assert len(long) < 17_000, "the judge's prompt is bounded"
