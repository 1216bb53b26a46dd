"""OpenAI chat spoken to model servers: golden requests and streams from the documented format, and peers' quirks."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.errors import UnsupportedFeature, UpstreamError
from roadbed.gateway.profiles import OPENAI_PROFILE
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    ReasoningDelta,
    RefusalDelta,
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

DIALECT = OpenAIChat()
SERVER = endpoint("a", "http://127.0.0.1:1/v1", key=Secret("sk-1"))
EVERYTHING = ChatRequest(
    messages=(
        Message("developer", "Be brief"),
        Message("user", (TextPart("What is this?"), ImagePart("https://x.example/a.png", "low")), name="kari"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "look", '{"a":1}'), ToolCall("c2", "see", "{}"))),
        Message("tool", "found", tool_call_id="c1"),
        Message("tool", "seen", tool_call_id="c2"),
    ),
    tools=(Tool("look", "Looks", {"type": "object"}, True), Tool("see")),
    tool_choice=NamedTool("look"),
    parallel_tool_calls=False,
    max_tokens=100,
    temperature=0.5,
    top_p=0.9,
    stop=("END",),
    response_format=JsonSchema({"type": "object"}, "thing", True),
    passthrough={"seed": 7, "reasoning_effort": "low"},
)


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    """The events of a whole stream."""
    parser, decoder, events = SseParser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for sse in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(sse)
    for sse in parser.finish():
        events += decoder.feed(sse)
    decoder.finish()
    return events


def chunks(*choices: dict[str, Any], **extra: Any) -> bytes:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"".join(
        b"data: " + json.dumps({**head, "choices": [{"index": 0, **choice}], **extra}).encode() + b"\n\n"
        for choice in choices
    )


def test_a_request_with_everything() -> None:
    encoded = DIALECT.encode(EVERYTHING, SERVER)
    assert encoded.path == "/chat/completions"
    assert dict(encoded.headers) == {b"content-type": b"application/json", b"authorization": b"Bearer sk-1"}
    assert json.loads(encoded.body) == {
        "model": "a-model",
        "messages": [
            {"role": "system", "content": "Be brief"},
            {
                "role": "user",
                "name": "kari",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "low"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}},
                    {"id": "c2", "type": "function", "function": {"name": "see", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "content": "found", "tool_call_id": "c1"},
            {"role": "tool", "content": "seen", "tool_call_id": "c2"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Looks",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
            {"type": "function", "function": {"name": "see"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False,
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "thing", "schema": {"type": "object"}, "strict": True},
        },
        "seed": 7,
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_openai_itself_gets_its_own_names() -> None:
    body = json.loads(DIALECT.encode(EVERYTHING, endpoint("o", "http://x/v1", profile=OPENAI_PROFILE)).body)
    assert body["max_completion_tokens"] == 100
    assert "max_tokens" not in body
    assert body["messages"][0]["role"] == "developer"


def test_fields_of_another_dialect_are_dropped_by_name_and_foreign_parts_refused() -> None:
    request = ChatRequest((Message("user", "x"),), passthrough={"top_k": 5}, passthrough_dialect="anthropic")
    encoded = DIALECT.encode(request, SERVER)
    assert encoded.dropped == ("top_k",)
    assert "top_k" not in json.loads(encoded.body)
    foreign = ChatRequest((Message("user", (OtherPart("anthropic", {"type": "document"}),)),))
    with pytest.raises(UnsupportedFeature) as raised:
        DIALECT.encode(foreign, SERVER)
    assert raised.value.param == "messages[0].content[0]"


def test_passthrough_cannot_override_what_the_gateway_sets() -> None:
    request = ChatRequest((Message("user", "x"),), passthrough={"model": "other", "stream": False, "messages": []})
    body = json.loads(DIALECT.encode(request, SERVER).body)
    assert (body["model"], body["stream"], len(body["messages"])) == ("a-model", True, 1)


GOLDEN = (
    chunks(
        {"delta": {"role": "assistant", "content": ""}, "finish_reason": None},
        {"delta": {"reasoning_content": "Hm."}},
        {"delta": {"content": "Grüße"}},
        {"delta": {"content": " 👋"}, "logprobs": None},
        {"delta": {}, "finish_reason": "stop"},
        usage=None,
    )
    + b": a comment\r\n\r\n"
    + b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,'
    + b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
    + b"data: [DONE]\n\n"
)


@pytest.mark.parametrize("cut_into", [1, 2, 7, 1 << 20])
def test_a_documented_stream_however_it_is_cut(cut_into: int) -> None:
    assert read(GOLDEN, cut_into) == [
        ReasoningDelta("Hm."),
        TextDelta("Grüße"),
        TextDelta(" 👋"),
        Finished("stop"),
        UsageReported(Usage(input_uncached=6, cache_read=4, output_visible=5, output_reasoning=2)),
    ]


def call_piece(index: int | None = None, **values: Any) -> dict[str, Any]:
    """A tool call's chunk; ``name`` and ``arguments`` belong to its function."""
    function = {key: values.pop(key) for key in ("name", "arguments") if key in values}
    piece = ({} if index is None else {"index": index}) | values | {"function": function}
    return {"delta": {"tool_calls": [piece]}}


TOOL_STREAMS = {
    "documented": [
        call_piece(0, id="c1", type="function", name="a", arguments=""),
        call_piece(0, arguments='{"x"'),
        call_piece(1, id="c2", type="function", name="b", arguments=""),
        call_piece(0, arguments=":1}"),
        call_piece(1, arguments="{}"),
    ],
    "whole arguments at once, no type": [
        call_piece(0, id="c1", name="a", arguments='{"x":1}'),
        call_piece(1, id="c2", name="b", arguments="{}"),
    ],
    "no index": [call_piece(id="c1", name="a", arguments='{"x":1}'), call_piece(id="c2", name="b", arguments="{}")],
    "name and id repeated": [
        call_piece(0, id="c1", name="a", arguments='{"x"'),
        call_piece(0, id="c1", name="a", arguments=":1}"),
        call_piece(1, id="c2", name="b", arguments="{}"),
    ],
    "arguments as an object": [
        call_piece(0, id="c1", name="a", arguments={"x": 1}),
        call_piece(1, id="c2", name="b", arguments={}),
    ],
}


@pytest.mark.parametrize("name", TOOL_STREAMS)
@pytest.mark.parametrize("finish", ["tool_calls", "stop"])
def test_tool_calls_and_the_ways_peers_write_them(name: str, finish: str) -> None:
    answer = Answer()
    for event in read(chunks(*TOOL_STREAMS[name], {"delta": {}, "finish_reason": finish})):
        answer.add(event)
    assert answer.tool_calls == [ToolCall("c1", "a", '{"x":1}'), ToolCall("c2", "b", "{}")]
    assert answer.finish_reason == "tool_calls"


def test_a_finish_reason_on_the_last_content_and_a_refusal() -> None:
    assert read(chunks({"delta": {"content": "x"}, "finish_reason": "length"})) == [TextDelta("x"), Finished("length")]
    assert read(chunks({"delta": {"refusal": "No."}}, {"delta": {}, "finish_reason": "stop"})) == [
        RefusalDelta("No."),
        Finished("stop"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data: [DONE]\n\n",
        chunks({"delta": {"content": "half"}}),
        chunks({"delta": {"content": "half"}}) + b"data: [DONE]\n\n",
        chunks({"delta": {"content": "half"}, "finish_reason": "abort"}),
        chunks({"delta": {"content": "half"}}) + b'data: {"error": {"message": "boom", "code": 500}}\n\n',
        chunks({"delta": {"content": "half"}}) + b'data: {"object": "error", "message": "boom"}\n\n',
        b"data: {\n\n",
        b'data: {"choices": 5}\n\n',
        b"data: [[[\n\n",
        chunks(call_piece(0, arguments="{}")),
        chunks(call_piece(10_000, id="x", name="a")),
    ],
)
def test_an_answer_that_its_server_did_not_end_never_looks_complete(data: bytes) -> None:
    with pytest.raises(UpstreamError) as raised:
        read(data)
    assert raised.value.failure in ("fault", "overload")


def test_an_error_inside_a_stream_keeps_its_kind() -> None:
    for error, failure in (
        ({"message": "secret prompt", "type": "rate_limit_error"}, "rate"),
        ({"message": "x", "type": "insufficient_quota", "code": "insufficient_quota"}, "quota"),
        ({"message": "x", "code": "context_length_exceeded"}, "context"),
        ("the model crashed", "fault"),
    ):
        with pytest.raises(UpstreamError) as raised:
            read(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")
        assert raised.value.failure == failure
        assert "secret prompt" not in str(raised.value)


def test_a_whole_answer() -> None:
    body = {
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "a", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    assert DIALECT.decode_body(json.dumps(body).encode()) == [
        TextDelta("Hi"),
        ToolCallDelta(0, "c", "a", "{}"),
        Finished("tool_calls"),
        UsageReported(Usage(input_uncached=3, output_visible=2)),
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "content",
                    "tool_calls",
                    "index",
                    "id",
                    "function",
                    "name",
                    "arguments",
                    "usage",
                    "prompt_tokens",
                    "finish_reason",
                    "error",
                    "message",
                    "object",
                    "code",
                    "type",
                    "prompt_tokens_details",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=4))
@example([b'{"choices":[{"delta":{"content":"\\ud800"}}]}'])
@example([b"[" * 5000])
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
