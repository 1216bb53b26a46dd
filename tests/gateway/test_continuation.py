"""Answers that broke off and went on: the seam shows nothing, and where it would, the caller is told of the cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roadbed.gateway.answer_stream import AnswerStream
from roadbed.gateway.cached_stream import CachedStream
from roadbed.gateway.continuation import HELD_CHARACTERS_MAX, OVERLAP_MIN, Seam
from roadbed.gateway.errors import StreamCut, UpstreamError
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.policy import Policy
from roadbed.gateway.types import ChatRequest, Event, Finished, JsonSchema, Outcome, TextDelta, Tool
from roadbed.guard.vault import Vault
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply, continuing, failing

from .conftest import MakeGateway, ask, call, endpoint

POLICY = Policy(on_cut="continue")
TEXT = "The lease ends in May; until then the rent is fixed, and after that it follows the index of prices."
WORDS = st.text("abcdefghij", min_size=1, max_size=7)


going_on = continuing(Reply(text=TEXT))


async def read(gateway: Gateway, request: ChatRequest | None = None) -> tuple[list[Event], Outcome]:
    events: list[Event] = []
    async with gateway.stream("smart", request or ask(), call()) as stream:
        async for event in stream:
            events.append(event)
    return events, stream.outcome


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("cut_after", [2, 4, 9])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_cut_answer_goes_on_elsewhere_with_one_finish_and_both_usages(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, dialect: str, cut_after: int
) -> None:
    first.script(Rule("", Reply(text=TEXT, cut_after=cut_after)))
    second.script(Rule("", going_on))
    url = second.url if dialect == "openai" else second.root
    gateway = gateway_of(endpoint("a", first.url), endpoint("b", url, dialect=dialect, continues=True), policy=POLICY)
    events, outcome = await read(gateway, ask(max_tokens=100))
    assert text_of(events) == TEXT
    assert sum(isinstance(event, Finished) for event in events) == 1
    assert (outcome.continued, outcome.endpoint, outcome.is_complete, outcome.cut_by) == (1, "b", True, "")
    assert (outcome.rung, outcome.missing) == ("fallback", ["a: fault"])
    cut, rest = outcome.attempts
    assert cut.usage.is_estimated
    assert outcome.usage.input_tokens == cut.usage.input_tokens + rest.usage.input_tokens
    body = second.chats[0].json
    assert body["max_tokens"] < 100, "what was given counts"
    assert "continue_final_message" not in body
    assert [gateway.health_of(name).in_flight for name in "ab"] == [0, 0]


async def test_vllm_is_told_that_its_last_turn_is_unfinished(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", Reply(text=TEXT, stall_after=3)))
    second.script(Rule("", going_on))
    ladder = endpoint("a", first.url, stall_s=0.1), endpoint("b", second.url, continues="vllm")
    events, _ = await read(gateway_of(*ladder, policy=POLICY))
    assert text_of(events) == TEXT
    body = second.chats[0].json
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


async def test_the_same_endpoint_goes_on_when_there_is_no_other(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text=TEXT, cut_after=3), times=1), Rule("", going_on))
    events, outcome = await read(gateway_of(endpoint("a", first.url, continues=True), policy=POLICY))
    assert text_of(events) == TEXT
    assert (outcome.continued, outcome.rung) == (1, "full")


async def test_a_continuation_that_breaks_off_goes_on_too_but_not_for_ever(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    def a_little(prompt: Prompt) -> Reply:
        return Reply(text=going_on(prompt).text, cut_after=14)

    first.script(Rule("", Reply(text=TEXT, cut_after=2)))
    second.script(Rule("", a_little, times=1), Rule("", going_on))
    ladder = endpoint("a", first.url), endpoint("b", second.url, continues=True)
    events, outcome = await read(gateway_of(*ladder, policy=POLICY))
    assert (text_of(events), outcome.continued, len(outcome.attempts)) == (TEXT, 2, 3)


ENDS_IN_BLANK = Reply(text="The lease ", stall_after=2)


@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (Reply(text=TEXT, cut_after=4), Reply(text=TEXT)),
        (Reply(text=TEXT, cut_after=2), Reply(text=TEXT)),
        (Reply(text=TEXT, cut_after=9), Reply(text="until then the rent is fixed, and more")),
        (ENDS_IN_BLANK, Reply(text="ends in May.")),
        (Reply(text=TEXT, cut_after=4), Reply(hang=True)),
        (Reply(text=TEXT, cut_after=4), Reply(status=500, body=b"")),
    ],
    ids=["begins anew", "begins anew after a word", "repeats", "loses a blank", "hangs", "fails"],
)
async def test_what_does_not_join_is_an_honest_cut(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, begin: Reply, rest: Reply
) -> None:
    first.script(Rule("", begin))
    second.script(Rule("", rest))
    ladder = endpoint("a", first.url, stall_s=0.1), endpoint("b", second.url, continues=True, first_event_s=0.2)
    events: list[Event] = []

    async def read_on(stream: AnswerStream | CachedStream) -> None:
        async for event in stream:
            events.append(event)

    async with gateway_of(*ladder, policy=POLICY).stream("smart", ask(), call()) as stream:
        with pytest.raises(StreamCut):
            await read_on(stream)
    assert not any(isinstance(event, Finished) for event in events)
    assert TEXT.startswith(text_of(events))
    assert (stream.outcome.is_complete, stream.outcome.continued) == (False, 0)
    assert stream.outcome.cut_by in ("fault", "timeout")
    assert len(stream.outcome.attempts) == 2


async def test_a_blank_that_was_sent_is_not_sent_again(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", ENDS_IN_BLANK))
    second.script(Rule("", going_on))
    ladder = endpoint("a", first.url, stall_s=0.1), endpoint("b", second.url, continues=True)
    events, _ = await read(gateway_of(*ladder, policy=POLICY))
    assert text_of(events) == TEXT
    assert second.chats[0].json["messages"][-1] == {"role": "assistant", "content": "The lease"}


@pytest.mark.parametrize(
    ("policy", "continues", "values"),
    [
        (Policy(on_cut="error", strategy="sticky"), True, {}),
        (POLICY, False, {}),
        (POLICY, True, {"tools": (Tool("look"),)}),
        (POLICY, True, {"response_format": JsonSchema({"type": "object"})}),
    ],
    ids=["the route does not", "the endpoint does not", "tools", "JSON schema"],
)
async def test_who_did_not_ask_for_it_gets_the_cut(
    gateway_of: MakeGateway,
    first: ScriptedModel,
    second: ScriptedModel,
    policy: Policy,
    continues: bool,
    values: dict[str, Any],
) -> None:
    for model in (first, second):
        model.script(Rule("", Reply(text=TEXT, cut_after=3)))
    gateway = gateway_of(
        endpoint("a", first.url, continues=continues), endpoint("b", second.url, continues=continues), policy=policy
    )
    with pytest.raises(StreamCut):
        await read(gateway, ask(**values))
    assert len(first.chats) + len(second.chats) == 1


EMAIL = "kari.nordmann@example.com"


async def test_personal_data_stays_masked_outside_and_whole_for_the_caller_over_a_seam(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    """The prefix that a local endpoint wrote holds the address; the cloud that goes on is sent its token."""
    first.script(Rule("", Reply(text=f"Write to {EMAIL} before noon today", cut_after=3)))

    def rest(prompt: Prompt) -> Reply:
        token = prompt.texts[-1][1].removeprefix("Write to ")
        assert token.startswith("EMAIL_")
        return Reply(text=f" before noon today, to {token} only")

    second.script(Rule("", rest))
    ladder = endpoint("a", first.url), endpoint("b", second.url, is_local=False, continues=True)
    gateway = gateway_of(*ladder, policy=POLICY)
    parts = []
    async with gateway.stream("smart", ask(f"Who is {EMAIL}?"), call(vault=Vault())) as stream:
        async for event in stream:
            parts.append(event)
    assert text_of(parts) == f"Write to {EMAIL} before noon today, to {EMAIL} only"
    assert EMAIL.encode() not in second.chats[0].body


async def test_a_token_that_was_held_back_at_the_cut_is_restored(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    """The restorer holds a token back until it is sure that it has ended; the cut must not swallow it."""

    def begin(prompt: Prompt) -> Reply:
        token = prompt.last_user_text.removeprefix("Who is ").removesuffix("?")
        assert token.startswith("EMAIL_")
        return Reply(text=f"Write to {token} before noon", cut_after=3)

    first.script(Rule("", begin))
    second.script(Rule("", Reply(text=" before noon")))
    ladder = [endpoint(n, m.url, is_local=False, continues=True) for n, m in (("a", first), ("b", second))]
    parts = []
    gateway = gateway_of(*ladder, policy=POLICY)
    async with gateway.stream("smart", ask(f"Who is {EMAIL}?"), call(vault=Vault())) as stream:
        async for event in stream:
            parts.append(event)
    assert text_of(parts) == f"Write to {EMAIL} before noon"


async def test_the_rung_is_the_lowest_that_had_a_part(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    first.script(Rule("", failing(500), times=2), Rule("", going_on))
    second.script(Rule("", Reply(text=TEXT, cut_after=4)))
    ladder = endpoint("a", first.url, continues=True), endpoint("b", second.url)
    events, outcome = await read(gateway_of(*ladder, policy=POLICY))
    assert (text_of(events), outcome.endpoint, outcome.rung) == (TEXT, "a", "fallback")


@st.composite
def seams(draw: st.DrawFn) -> tuple[str, str, list[str]]:
    words = draw(st.lists(WORDS, min_size=4, max_size=40))
    text = "".join(word + draw(st.sampled_from([" ", "  ", "\n", ", "])) for word in words)
    at = draw(st.integers(1, len(text) - 1))
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=80))
    return text[:at], text[at:], [str(size) for size in sizes]


def run(seam: Seam, text: str, sizes: list[str]) -> str:
    out, number = "", 0
    while text:
        size = int(sizes[number % len(sizes)])
        out += seam.feed(text[:size])
        text, number = text[size:], number + 1
    return out + seam.finish()


@given(seams())
def test_an_exact_rest_joins_however_it_is_cut_up(made: tuple[str, str, list[str]]) -> None:
    prefix, rest, sizes = made
    sent = prefix.rstrip()
    blanks = prefix[len(sent) :]
    own = rest
    assume(not any(sent.endswith(own[:k]) for k in range(OVERLAP_MIN, len(own) + 1)))
    assume(own[:HELD_CHARACTERS_MAX] not in sent or len(own) < HELD_CHARACTERS_MAX)
    assume(not (blanks + own).startswith(sent[:OVERLAP_MIN]))
    assert prefix + run(Seam(sent, blanks), blanks + rest, sizes) == prefix + rest


@given(seams())
def test_a_rest_that_repeats_or_begins_anew_never_joins(made: tuple[str, str, list[str]]) -> None:
    prefix, rest, sizes = made
    sent = prefix.rstrip()
    assume(len(sent) >= OVERLAP_MIN)
    for wrong in (sent + rest, sent[-OVERLAP_MIN:] + rest):
        with pytest.raises(UpstreamError):
            run(Seam(sent, ""), wrong, sizes)


def test_a_blank_is_neither_lost_nor_doubled() -> None:
    assert run(Seam("The lease", " "), " ends", ["3"]) == "ends"
    with pytest.raises(UpstreamError, match="lost a blank"):
        run(Seam("The lease", " "), "ends", ["3"])
    assert run(Seam("The lease", ""), " ends", ["3"]) == " ends"
    assert run(Seam("The lease.", "\n"), "", ["3"]) == "", "it was over but for its finish"
