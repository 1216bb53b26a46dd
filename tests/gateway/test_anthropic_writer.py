"""Anthropic Messages written to callers: golden streams and bodies of the documented format, read back by our own
decoder, whatever the order of an endpoint's pieces.
"""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.anthropic_writer import MessageWriter, error_object, usage_object
from roadbed.gateway.dialects.base import AnswerWriter
from roadbed.gateway.errors import EndpointsFailed, EndpointsOverloaded, GatewayDeadline, StreamCut, UpstreamError
from roadbed.gateway.types import (
    Answer,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.errors import Forbidden, InvalidRequest, NotFound, RateLimited, RoadbedError, TooLarge, Unauthorized
from roadbed.wire.sse import SseParser

FACTS = {"rung": "full"}
SPENT = Usage(10, 5, 1, 2, 7, 3)
SPENT_SHOWN = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 5,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
    "output_tokens": 10,
    "output_tokens_details": {"thinking_tokens": 3},
}


def answer_of(*events: Event) -> Answer:
    answer = Answer()
    for event in events:
        answer.add(event)
    return answer


def written(*events: Event, pieces: int = 1) -> bytes:
    writer = MessageWriter("7", "smart")
    out = writer.head()
    for start in range(0, len(events), pieces):
        out += writer.events(events[start : start + pieces])
    return out + writer.end(answer_of(*events), annotations=[], roadbed=FACTS)


def parsed(data: bytes) -> list[dict[str, Any]]:
    events = SseParser().feed(data)
    assert all(event.event.decode() == json.loads(event.data)["type"] for event in events)
    return [json.loads(event.data) for event in events]


def read(data: bytes) -> Answer:
    decoder, answer = AnthropicMessages().decoder(), Answer()
    for sse in SseParser().feed(data):
        for event in decoder.feed(sse):
            answer.add(event)
    decoder.finish()
    assert decoder.is_over
    return answer


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, field: str, value: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: value}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_a_stream_with_everything_follows_the_documented_grammar() -> None:
    writer: AnswerWriter = MessageWriter("7", "smart")
    events: list[Event] = [
        ReasoningDelta("Hm"),
        ReasoningDelta("."),
        ReasoningSealed(ReasoningPart("anthropic", "Hm.", "sig")),
        ReasoningSealed(ReasoningPart("anthropic", "", "sig2")),
        ReasoningSealed(ReasoningPart("anthropic", "", "data", is_redacted=True)),
        TextDelta("Grüße"),
        TextDelta(" 👋"),
        ToolCallDelta(0, "t1", "look"),
        ToolCallDelta(0, arguments='{"a":'),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, "t2", "see", "{}"),
        Finished("tool_calls"),
        UsageReported(SPENT),
    ]
    out = writer.head() + b"".join(writer.events([event]) for event in events)
    out += writer.end(answer_of(*events), annotations=[], roadbed=FACTS)
    message: dict[str, Any] = {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "smart",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage_object(Usage()),
    }
    assert parsed(out) == [
        {"type": "message_start", "message": message},
        start(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking_delta", "thinking", "Hm"),
        delta(0, "thinking_delta", "thinking", "."),
        delta(0, "signature_delta", "signature", "sig"),
        stop(0),
        start(1, type="thinking", thinking="", signature=""),
        delta(1, "signature_delta", "signature", "sig2"),
        stop(1),
        start(2, type="redacted_thinking", data="data"),
        stop(2),
        start(3, type="text", text=""),
        delta(3, "text_delta", "text", "Grüße"),
        delta(3, "text_delta", "text", " 👋"),
        stop(3),
        start(4, type="tool_use", id="t1", name="look", input={}),
        delta(4, "input_json_delta", "partial_json", '{"a":'),
        delta(4, "input_json_delta", "partial_json", "1}"),
        stop(4),
        start(5, type="tool_use", id="t2", name="see", input={}),
        delta(5, "input_json_delta", "partial_json", "{}"),
        stop(5),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": SPENT_SHOWN,
            "roadbed": {"rung": "full"},
        },
        {"type": "message_stop"},
    ]


def test_pieces_of_calls_that_come_by_turns_are_put_in_order() -> None:
    out = written(
        ToolCallDelta(0, "t1", "a", '{"x":'),
        ToolCallDelta(1, "t2", "b", "{"),
        TextDelta("wait"),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, arguments="}"),
        Finished("tool_calls"),
    )
    kinds = [(event["type"], event.get("index")) for event in parsed(out)[1:-2]]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert kinds == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        *[(kind, index) for index in (1, 2) for kind in block],
    ]
    answer = read(out)
    assert answer.tool_calls == [ToolCall("t1", "a", '{"x":1}'), ToolCall("t2", "b", "{}")]
    assert answer.text == "wait"


def test_the_second_of_two_calls_is_not_held_back() -> None:
    writer = MessageWriter("7", "smart")
    writer.events([ToolCallDelta(0, "t1", "a", "{}")])
    assert b'"t2"' in writer.events([ToolCallDelta(1, "t2", "b", "{}")])
    assert b'"index":0' in writer.events([ToolCallDelta(0, arguments="x")])  # late, and still told by its block
    assert b'"t3"' in writer.events([ToolCallDelta(2, "t3", "c", "{}")])


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([TextDelta("x"), Finished("stop")], "end_turn"),
        ([TextDelta("x"), Finished("stop", "END")], "stop_sequence"),
        ([TextDelta("x"), Finished("length")], "max_tokens"),
        ([Finished("content_filter")], "refusal"),
        ([RefusalDelta("No."), Finished("stop")], "refusal"),
        ([ToolCallDelta(0, "t", "a", "{}"), Finished("tool_calls")], "tool_use"),
    ],
)
def test_stop_reasons(events: list[Event], reason: str) -> None:
    end = parsed(written(*events))[-2]
    assert end["delta"]["stop_reason"] == reason
    whole = json.loads(MessageWriter("7", "m").whole(answer_of(*events), annotations=[], roadbed={}))
    assert whole["stop_reason"] == reason
    assert (end["delta"]["stop_sequence"], whole["stop_sequence"]) == (
        ("END", "END") if "seq" in reason else (None,) * 2
    )


def test_a_refusal_is_text() -> None:
    out = written(RefusalDelta("I cannot."), Finished("stop"))
    assert parsed(out)[2] == delta(0, "text_delta", "text", "I cannot.")
    assert read(out).finish_reason == "content_filter"


def test_a_seal_of_another_provider_is_not_passed_off_as_a_signature() -> None:
    out = written(ReasoningDelta("Hm."), ReasoningSealed(ReasoningPart("responses", "Hm.", "x")), Finished("stop"))
    assert b"signature_delta" not in out
    assert [event["type"] for event in parsed(out)[1:4]] == [
        f"content_block_{word}" for word in ("start", "delta", "stop")
    ]


def test_a_broken_stream_says_so_and_has_no_end() -> None:
    writer = MessageWriter("7", "smart")
    out = writer.head() + writer.events([TextDelta("half")]) + writer.error(StreamCut("it broke"))
    assert b"message_stop" not in out
    last = parsed(out)[-1]
    assert last == {
        "type": "error",
        "error": {
            "type": "api_error",
            "message": "it broke (ask again; what was received is incomplete)",
            "code": "gateway.stream_cut",
        },
        "request_id": "req_7",
    }
    with pytest.raises(UpstreamError):
        read(out)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x", param="messages"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (Forbidden("x"), "permission_error"),
        (NotFound("x"), "not_found_error"),
        (TooLarge("x"), "request_too_large"),
        (RateLimited("x"), "rate_limit_error"),
        (EndpointsOverloaded("x"), "overloaded_error"),
        (EndpointsFailed("x"), "api_error"),
        (GatewayDeadline("x"), "timeout_error"),
        (RoadbedError("x"), "api_error"),
    ],
)
def test_errors_take_the_dialects_shape(error: RoadbedError, kind: str) -> None:
    made = error_object(error)
    assert (made["type"], made["error"]["type"], made["error"]["code"]) == ("error", kind, error.code)


def test_a_whole_message() -> None:
    sealed = ReasoningPart("anthropic", "Hm.", "sig")
    redacted = ReasoningPart("anthropic", "", "data", is_redacted=True)
    answer = Answer("Hi", reasoning="Hm.", sealed=[sealed, redacted], finish_reason="tool_calls", usage=SPENT)
    answer.tool_calls = [ToolCall("t", "a", '{"x":1}'), ToolCall("u", "b", ""), ToolCall("v", "c", '{"x"')]
    body = MessageWriter("7", "smart").whole(answer, annotations=[], roadbed=FACTS)
    assert json.loads(body) == {
        "id": "msg_7",
        "type": "message",
        "role": "assistant",
        "model": "smart",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
            {"type": "redacted_thinking", "data": "data"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "a", "input": {"x": 1}},
            {"type": "tool_use", "id": "u", "name": "b", "input": {}},
            {"type": "tool_use", "id": "v", "name": "c", "input": {"INVALID_JSON": '{"x"'}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": SPENT_SHOWN,
        "roadbed": {"rung": "full"},
    }
    again = answer_of(*AnthropicMessages().decode_body(body))
    assert (again.text, again.reasoning, again.sealed, again.usage) == ("Hi", "Hm.", [sealed, redacted], SPENT)


def test_reasoning_without_a_seal_is_shown_in_a_whole_message() -> None:
    body = json.loads(MessageWriter("7", "m").whole(Answer("Hi", reasoning="Hm."), annotations=[], roadbed={}))
    assert body["content"][0] == {"type": "thinking", "thinking": "Hm.", "signature": ""}


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
ARGUMENTS = st.sampled_from(["", "{}", '{"x":', "1}", '"', "{", "}", "[1]", " "]) | WORDS
USAGES = st.builds(Usage, *[st.integers(0, 1000)] * 6)


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Any events that a decoder may give: the first piece of a call names it, reasoning is sealed as it was shown."""
    events: list[Event] = []
    known: set[int] = set()
    shown = ""
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["text", "refusal", "call", "call", "call", "reasoning", "seal", "redacted"]))
        if shown and kind not in ("reasoning", "seal"):
            events.append(ReasoningSealed(ReasoningPart("anthropic", shown, draw(WORDS))))
            shown = ""
        if kind == "text":
            events.append(TextDelta(draw(WORDS)))
        elif kind == "refusal":
            events.append(RefusalDelta(draw(WORDS)))
        elif kind == "reasoning":
            piece = draw(WORDS)
            events.append(ReasoningDelta(piece))
            shown += piece
        elif kind == "seal":
            events.append(ReasoningSealed(ReasoningPart("anthropic", shown, draw(WORDS))))
            shown = ""
        elif kind == "redacted":
            events.append(ReasoningSealed(ReasoningPart("anthropic", "", draw(WORDS), is_redacted=True)))
        else:
            index = draw(st.integers(0, 2))
            name = ("", "") if index in known else (f"t{index}", f"n{index}")
            known.add(index)
            events.append(ToolCallDelta(index, *name, draw(ARGUMENTS)))
    if shown:
        events.append(ReasoningSealed(ReasoningPart("anthropic", shown, draw(WORDS))))
    finished = draw(st.sampled_from([Finished("stop"), Finished("length"), Finished("content_filter")]))
    return [*events, finished, UsageReported(draw(USAGES))]


@given(answers(), st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_any_events_are_read_back_as_the_same_answer(events: list[Event], pieces: int) -> None:
    out = written(*events, pieces=pieces)
    given, again = answer_of(*events), read(out)
    calls = {call.id: ToolCall(call.id, call.name, call.arguments or "{}") for call in given.tool_calls}
    assert {call.id: call for call in again.tool_calls} == calls
    assert again.text == "".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta))
    assert (again.reasoning, again.sealed, again.usage) == (given.reasoning, given.sealed, given.usage)
    assert again.finish_reason == ("content_filter" if given.refusal else given.finish_reason)
    open_blocks: list[int] = []
    for event in parsed(out):
        if event["type"] == "content_block_start":
            assert not open_blocks
            open_blocks.append(event["index"])
        elif event["type"] == "content_block_stop":
            assert open_blocks.pop() == event["index"]
    assert not open_blocks


@given(answers())
@settings(max_examples=100, deadline=None)
def test_a_whole_answer_is_read_back_as_the_same(events: list[Event]) -> None:
    given = answer_of(*events)
    again = answer_of(
        *AnthropicMessages().decode_body(MessageWriter("7", "m").whole(given, annotations=[], roadbed={}))
    )
    assert again.text == given.text + given.refusal
    assert (again.reasoning, again.sealed, again.usage) == (given.reasoning, given.sealed, given.usage)
    assert [(call.id, call.name) for call in again.tool_calls] == [(call.id, call.name) for call in given.tool_calls]
