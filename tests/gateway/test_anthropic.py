"""Anthropic Messages spoken to model servers: golden requests and streams from the documented format."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature, UpstreamError
from roadbed.gateway.types import (
    ChatRequest,
    Event,
    Finished,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.secrets import Secret
from roadbed.wire.sse import SseEvent, SseParser

from .conftest import endpoint

DIALECT = AnthropicMessages()
SERVER = endpoint("a", "http://127.0.0.1:1", dialect="anthropic", key=Secret("k-1"))


def encode(*messages: Message, **values: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(DIALECT.encode(ChatRequest(messages, **values), SERVER).body)
    return body


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    parser, decoder, events = SseParser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for sse in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(sse)
    decoder.finish()
    return events


def test_a_conversation_with_tools() -> None:
    encoded = DIALECT.encode(
        ChatRequest(
            messages=(
                Message("system", "Be brief."),
                Message("developer", "Be kind."),
                Message("user", (TextPart("Look"), ImagePart("data:image/png;base64,QUJD"))),
                Message("assistant", "Now", tool_calls=(ToolCall("t1", "look", '{"a":1}'), ToolCall("t2", "see", ""))),
                Message("tool", "found", tool_call_id="t1"),
                Message("tool", "seen", tool_call_id="t2"),
                Message("user", "Go on"),
            ),
            tools=(Tool("look", "Looks", {"type": "object"}), Tool("see")),
            tool_choice="required",
            parallel_tool_calls=False,
            stop=("END",),
            temperature=1.5,
            response_format=JsonSchema({"type": "object"}),
            passthrough={"seed": 7, "user": "u"},
        ),
        SERVER,
    )
    assert encoded.path == "/v1/messages"
    assert dict(encoded.headers) == {
        b"content-type": b"application/json",
        b"anthropic-version": b"2023-06-01",
        b"x-api-key": b"k-1",
    }
    assert encoded.dropped == ("seed", "user", "temperature above 1")
    assert json.loads(encoded.body) == {
        "model": "a-model",
        "max_tokens": 4096,
        "system": "Be brief.\n\nBe kind.",
        "stream": True,
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "tools": [
            {"name": "look", "description": "Looks", "input_schema": {"type": "object"}},
            {"name": "see", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Now"},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}},
                    {"type": "tool_use", "id": "t2", "name": "see", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "found"}]},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "seen"}]},
                    {"type": "text", "text": "Go on"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", None, {"type": "none"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (NamedTool("see"), None, {"type": "tool", "name": "see"}),
    ],
)
def test_tool_choices(choice: Any, parallel: bool | None, expected: dict[str, Any] | None) -> None:
    body = encode(Message("user", "x"), tools=(Tool("see"),), tool_choice=choice, parallel_tool_calls=parallel)
    assert body.get("tool_choice") == expected


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"passthrough": {"web_search_options": {"x": 1}}}, "web_search_options"),
        ({"passthrough": {"modalities": ["text", "audio"]}}, "modalities"),
        ({"response_format": JsonSchema()}, "response_format"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(values: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        encode(Message("user", "x"), **values)
    assert raised.value.param == param


def test_requests_that_the_dialect_cannot_say() -> None:
    with pytest.raises(InvalidChatRequest):
        encode(Message("system", "only"))
    with pytest.raises(InvalidChatRequest) as raised:
        encode(Message("assistant", "", tool_calls=(ToolCall("t", "a", "[1]"),)))
    assert raised.value.param == "messages[0].tool_calls[0].function.arguments"


def test_what_only_messages_can_say_reaches_them() -> None:
    hints = {"cache_control": {"type": "ephemeral"}}
    body = encode(
        Message("system", (TextPart("Be brief.", hints),)),
        Message(
            "assistant",
            (
                ReasoningPart("anthropic", "Hm.", "s1"),
                ReasoningPart("anthropic", "", "s2"),
                ReasoningPart("anthropic", "", "r", is_redacted=True),
                ReasoningPart("anthropic", "unsealed"),
                ReasoningPart("responses", "foreign", "x"),
            ),
            tool_calls=(ToolCall("t", "a", "{}", hints),),
        ),
        Message("tool", "no", tool_call_id="t", is_error=True, hints=hints),
        tools=(Tool("a", parameters={"type": "object"}, hints=hints), Tool("bash", hints={"type": "bash_20250124"})),
        response_format=JsonSchema({"type": "object"}),
        passthrough={"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        passthrough_dialect="anthropic",
    )
    assert body["system"] == [{"type": "text", "text": "Be brief.", **hints}]
    assert body["messages"] == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
                {"type": "thinking", "thinking": "", "signature": "s2"},
                {"type": "redacted_thinking", "data": "r"},
                {"type": "tool_use", "id": "t", "name": "a", "input": {}, **hints},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t",
                    "content": [{"type": "text", "text": "no"}],
                    "is_error": True,
                    **hints,
                }
            ],
        },
    ]
    assert body["tools"] == [
        {"name": "a", "input_schema": {"type": "object"}, **hints},
        {"type": "bash_20250124", "name": "bash"},
    ]
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    assert body["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_openais_effort_is_carried(effort: str) -> None:
    request = ChatRequest((Message("user", "x"),), passthrough={"reasoning_effort": effort, "seed": 7})
    encoded = DIALECT.encode(request, SERVER)
    assert json.loads(encoded.body)["output_config"] == {"effort": effort}
    assert encoded.dropped == ("seed",)


@pytest.mark.parametrize("effort", ["minimal", "none", 3, ["low"]])
def test_an_effort_without_a_like_is_dropped_by_name(effort: Any) -> None:
    request = ChatRequest((Message("user", "x"),), passthrough={"reasoning_effort": effort})
    encoded = DIALECT.encode(request, SERVER)
    assert "output_config" not in json.loads(encoded.body)
    assert encoded.dropped == ("reasoning_effort",)


def test_hints_and_tools_of_another_dialect_do_not_reach_messages() -> None:
    foreign = Message("user", (TextPart("x", {"mark": 1}),))
    encoded = DIALECT.encode(ChatRequest((foreign,), passthrough_dialect="other"), SERVER)
    assert json.loads(encoded.body)["messages"][0]["content"] == [{"type": "text", "text": "x"}]
    assert encoded.dropped == ("mark",)
    with pytest.raises(UnsupportedFeature) as raised:
        encode(foreign, tools=(Tool("a", hints={"type": "shell"}),))
    assert raised.value.param == "tools[0].type"


def delta(index: int, kind: str, field: str, value: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: value}}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


START = {
    "type": "message_start",
    "message": {
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "cache_creation_input_tokens": 3,
            "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
            "output_tokens": 1,
        }
    },
}
END: list[dict[str, Any]] = [
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
]
GOLDEN = stream(
    START,
    {"type": "ping"},
    block(0, type="thinking", thinking="", signature=""),
    delta(0, "thinking_delta", "thinking", "Hm."),
    delta(0, "signature_delta", "signature", "abc"),
    {"type": "content_block_stop", "index": 0},
    block(1, type="text", text=""),
    delta(1, "text_delta", "text", "Grüße"),
    {"type": "content_block_stop", "index": 1},
    block(2, type="tool_use", id="t1", name="look", input={}),
    delta(2, "input_json_delta", "partial_json", ""),
    delta(2, "input_json_delta", "partial_json", '{"a":'),
    delta(2, "input_json_delta", "partial_json", "1}"),
    {"type": "content_block_stop", "index": 2},
    block(3, type="tool_use", id="t2", name="see", input={}),
    {"type": "content_block_stop", "index": 3},
    {"type": "brand_new_event", "anything": 1},
    *END,
)


@pytest.mark.parametrize("cut_into", [1, 5, 1 << 20])
def test_a_documented_stream_however_it_is_cut(cut_into: int) -> None:
    start = Usage(input_uncached=10, cache_read=5, cache_write_5m=1, cache_write_1h=2, output_visible=1)
    end = Usage(input_uncached=10, cache_read=5, cache_write_5m=1, cache_write_1h=2, output_visible=20)
    assert read(GOLDEN, cut_into) == [
        UsageReported(start),
        ReasoningDelta("Hm."),
        ReasoningSealed(ReasoningPart("anthropic", "Hm.", "abc")),
        TextDelta("Grüße"),
        ToolCallDelta(0, "t1", "look"),
        ToolCallDelta(0, arguments='{"a":'),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, "t2", "see"),
        ToolCallDelta(1, arguments="{}"),
        Finished("tool_calls"),
        UsageReported(end),
    ]


def test_reasoning_that_is_not_shown_is_sealed_and_unfinished_reasoning_is_not() -> None:
    events = read(
        stream(
            block(0, type="thinking", thinking="", signature=""),
            delta(0, "signature_delta", "signature", "ab"),
            delta(0, "signature_delta", "signature", "c"),
            {"type": "content_block_stop", "index": 0},
            block(1, type="redacted_thinking", data="xyz"),
            {"type": "content_block_stop", "index": 1},
            block(2, type="thinking", thinking="", signature=""),
            {"type": "content_block_stop", "index": 2},
            block(3, type="thinking", thinking="Hm", signature=""),
            {"type": "message_delta", "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END"}},
        )
    )
    assert events == [
        ReasoningSealed(ReasoningPart("anthropic", "", "abc")),
        ReasoningSealed(ReasoningPart("anthropic", "", "xyz", is_redacted=True)),
        ReasoningDelta("Hm"),
        Finished("stop", "END"),
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"), ("refusal", "content_filter")],
)
def test_stop_reasons(word: str, reason: str) -> None:
    events = read(stream({"type": "message_delta", "delta": {"stop_reason": word}}, {"type": "message_stop"}))
    assert events == [Finished(reason)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([START, block(0, type="text", text="half")], "fault"),
        ([START, {"type": "message_stop"}], "fault"),
        ([{"type": "message_delta", "delta": {"stop_reason": "brand_new"}}], "fault"),
        ([START, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}], "overload"),
        ([START, {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}], "rate"),
        ([delta(0, "input_json_delta", "partial_json", "{}")], "fault"),
    ],
)
def test_an_answer_that_its_server_did_not_end_never_looks_complete(events: list[Any], failure: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        read(stream(*events))
    assert raised.value.failure == failure


def test_a_whole_answer() -> None:
    body = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "a", "input": {"x": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    assert DIALECT.decode_body(json.dumps(body).encode()) == [
        ReasoningDelta("Hm."),
        ReasoningSealed(ReasoningPart("anthropic", "Hm.", "abc")),
        ReasoningSealed(ReasoningPart("anthropic", "", "xyz", is_redacted=True)),
        TextDelta("Hi"),
        ToolCallDelta(0, "t", "a"),
        ToolCallDelta(0, arguments='{"x":1}'),
        Finished("tool_calls"),
        UsageReported(Usage(input_uncached=3, output_visible=2)),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "index",
                    "delta",
                    "text",
                    "partial_json",
                    "content_block",
                    "id",
                    "name",
                    "input",
                    "usage",
                    "error",
                    "message",
                    "stop_reason",
                    "output_tokens",
                    "content",
                ]
            ),
            inner
            | st.sampled_from(
                ["content_block_delta", "content_block_start", "message_delta", "text_delta", "tool_use"]
            ),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_events_or_a_typed_error(events: list[bytes]) -> None:
    decoder = DIALECT.decoder()
    try:
        for data in events:
            decoder.feed(SseEvent(data))
    except UpstreamError:
        pass
    for data in events:
        with contextlib.suppress(UpstreamError):
            DIALECT.decode_body(data)
