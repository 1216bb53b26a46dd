"""OpenAI chat spoken to callers: strict requests with the field's path, chunks by the documented grammar, round
trips.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.openai_server import (
    ChatChunks,
    completion_object,
    decode_chat,
    error_object,
    usage_object,
)
from roadbed.gateway.errors import EndpointsFailed, StreamCut, UnsupportedFeature
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
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from roadbed.kernel.errors import InvalidRequest, Unauthorized
from roadbed.wire.sse import SseEvent, SseParser

from .conftest import endpoint


def body(**values: Any) -> dict[str, Any]:
    return {"model": "smart", "messages": [{"role": "user", "content": "x"}]} | values


def refused(raw: Any) -> InvalidRequest:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(InvalidRequest) as raised:
        decode_chat(data)
    return raised.value


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (body(model=3), "model"),
        ({"messages": []}, "model"),
        (body(messages=[]), "messages"),
        (body(messages="x"), "messages"),
        (body(messages=[{"role": "wizard", "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": 3}]), "messages[0].content"),
        (body(messages=[{"role": "user"}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
        (body(messages=[{"role": "user", "content": [{"type": "text", "text": 1}]}]), "messages[0].content[0].text"),
        (
            body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}]),
            "messages[0].content[0].image_url.url",
        ),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
        (body(temperature="hot"), "temperature"),
        (body(temperature=3), "temperature"),
        (body(max_tokens=0), "max_tokens"),
        (body(stream="yes"), "stream"),
        (body(tools=[{"type": "function", "function": {"name": 1}}]), "tools[0].function.name"),
        (body(tools=[{"type": "web_search"}]), "tools[0]"),
        (body(tool_choice="auto"), "tool_choice"),
        (
            body(
                tools=[{"type": "function", "function": {"name": "a"}}],
                tool_choice={"type": "function", "function": {"name": "b"}},
            ),
            "tool_choice",
        ),
        (body(response_format={"type": "json_schema"}), "response_format.json_schema.schema"),
        (body(n=2), "n"),
        (body(logprobs=True), "logprobs"),
        (body(stop=["x"] * 17), "stop"),
        ([], None),
    ],
)
def test_a_wrong_field_is_named_by_its_path(raw: Any, param: str | None) -> None:
    error = refused(raw)
    assert error.param == param
    assert error.http_status == 400


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"model":"\\ud800"}', b"null", b'"x"'])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    assert refused(data).http_status == 400


def test_an_empty_body_and_an_unknown_role_are_told_apart_from_others() -> None:
    assert "the body is empty" in refused(b"").message
    said = refused({"model": "m", "messages": [{"role": "bot", "content": "hi"}]}).message
    assert said == "messages[0].role: expected system or developer or user or assistant or tool"


def test_too_many_messages_are_refused() -> None:
    assert refused(body(messages=[{"role": "user", "content": "x"}] * 4097)).http_status == 413


def test_everything_is_read_and_the_unknown_is_kept() -> None:
    incoming = decode_chat(
        json.dumps(
            body(
                stream=True,
                stream_options={"include_usage": True},
                max_completion_tokens=5,
                stop="END",
                response_format={"type": "json_object"},
                seed=7,
                metadata={"a": ["b"]},
                user=None,
            )
        ).encode()
    )
    assert (incoming.model, incoming.stream, incoming.include_usage) == ("smart", True, True)
    assert incoming.request == ChatRequest(
        (Message("user", "x"),),
        max_tokens=5,
        stop=("END",),
        response_format=JsonSchema(),
        passthrough={"seed": 7, "metadata": {"a": ["b"]}},
    )


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,16}", fullmatch=True)
CALLS = st.lists(st.builds(ToolCall, NAMES, NAMES, WORDS), min_size=1, max_size=2).map(tuple)
PARTS = st.lists(
    st.builds(TextPart, WORDS)
    | st.builds(ImagePart, st.just("https://x.example/a.png"), st.sampled_from(["", "low"]))
    | st.builds(OtherPart, st.just("openai"), st.just({"type": "input_audio", "input_audio": {"data": "AA"}})),
    min_size=1,
    max_size=3,
).map(tuple)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user"]), WORDS | PARTS, NAMES | st.just("")),
    st.builds(Message, st.just("assistant"), WORDS, tool_calls=CALLS),
    st.builds(Message, st.just("tool"), WORDS, tool_call_id=NAMES),
)
TOOLS = st.just((Tool("a", "d", {"type": "object"}, True), Tool("b")))
REQUESTS = st.builds(
    ChatRequest,
    st.lists(MESSAGES, min_size=1, max_size=4).map(tuple),
    TOOLS,
    st.none() | st.sampled_from(["none", "auto", "required"]) | st.just(NamedTool("a")),
    st.none() | st.booleans(),
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0, 2),
    st.none() | st.floats(0, 1),
    st.lists(WORDS, max_size=3).map(tuple),
    st.none() | st.just(JsonSchema()) | st.just(JsonSchema({"type": "object"}, "n", True)),
    st.dictionaries(st.sampled_from(["seed", "user", "top_k"]), st.integers() | WORDS, max_size=2),
)


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_a_request_survives_encoding_and_decoding(request: ChatRequest) -> None:
    encoded = OpenAIChat().encode(request, endpoint("a", "http://x/v1"))
    assert decode_chat(encoded.body).request == request


EVENTS = st.lists(
    st.builds(TextDelta, WORDS.filter(bool)) | st.builds(ReasoningDelta, WORDS.filter(bool)), min_size=1, max_size=5
)


@given(EVENTS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_chunks_are_read_back_as_the_same_events(events: list[Event], include_usage: bool) -> None:
    events = [
        *events,
        ToolCallDelta(0, "c1", "a", ""),
        ToolCallDelta(0, arguments='{"x":'),
        ToolCallDelta(0, arguments="1}"),
    ]
    usage = Usage(5, 2, 0, 0, 3, 1)
    writer = ChatChunks("chatcmpl-1", 1, "smart", include_usage=include_usage)
    written = writer.head() + b"".join(writer.event(event) for event in events)
    written += writer.finish("tool_calls", roadbed={"rung": "full"}) + writer.done(usage)
    decoder, read = OpenAIChat().decoder(), []
    for sse in SseParser().feed(written):
        read += decoder.feed(sse)
    decoder.finish()
    assert decoder.is_over
    expected: list[Any] = [*events, Finished("tool_calls")]
    assert [event for event in read if not hasattr(event, "usage")] == expected
    assert len(read) == len(expected) + include_usage


def parsed(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in SseParser().feed(data) if event.data != b"[DONE]"]


def test_chunks_follow_the_grammar() -> None:
    writer = ChatChunks("chatcmpl-1", 7, "smart", include_usage=True)
    chunks = parsed(
        writer.head()
        + writer.event(TextDelta("Hi"))
        + writer.finish("stop", annotations=[{"type": "file_citation"}], roadbed={"rung": "full"})
        + writer.done(Usage(3, output_visible=2))
    )
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "smart"}
    assert all({key: chunk[key] for key in head} == head for chunk in chunks)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:3]] == [
        {"role": "assistant", "content": ""},
        {"content": "Hi"},
        {"annotations": [{"type": "file_citation"}]},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:3]] == [None, None, "stop"]
    assert [chunk["usage"] for chunk in chunks[:3]] == [None, None, None]
    assert chunks[2]["roadbed"] == {"rung": "full"}
    assert (chunks[3]["choices"], chunks[3]["usage"]["total_tokens"]) == ([], 5)


def test_usage_is_left_out_unless_it_was_asked_for() -> None:
    writer = ChatChunks("chatcmpl-1", 7, "smart")
    assert "usage" not in parsed(writer.event(TextDelta("Hi")))[0]
    assert writer.done(Usage(1)) == b"data: [DONE]\n\n"


def test_a_broken_stream_says_so_and_has_no_end() -> None:
    written = ChatChunks("chatcmpl-1", 7, "smart").error(StreamCut("it broke"))
    assert b"[DONE]" not in written
    assert parsed(written)[0]["error"]["code"] == "gateway.stream_cut"


def test_a_whole_completion_reads_back() -> None:
    answer = Answer("Hi", tool_calls=[ToolCall("c", "a", "{}")], finish_reason="tool_calls", usage=Usage(3, 1, 0, 0, 2))
    made = completion_object("chatcmpl-1", 7, "smart", answer, roadbed={"rung": "full"})
    assert made["roadbed"] == {"rung": "full"}
    assert made["usage"] == usage_object(Usage(3, 1, 0, 0, 2))
    again = Answer()
    for event in OpenAIChat().decode_body(msgspec.json.encode(made)):
        again.add(event)
    assert (again.text, again.tool_calls, again.usage) == ("Hi", answer.tool_calls, Usage(3, 1, 0, 0, 2))


def test_errors_take_the_dialects_shape() -> None:
    for error, kind in (
        (Unauthorized("no key"), "authentication_error"),
        (UnsupportedFeature("n", param="n"), "invalid_request_error"),
        (EndpointsFailed("all failed"), "server_error"),
    ):
        made = error_object(error)["error"]
        assert (made["type"], made["code"]) == (kind, error.code)


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["model", "messages", "role", "content", "type", "tools", "function", "stop", "n", "stream"]),
        inner | st.sampled_from(["user", "text", "image_url"]),
        max_size=4,
    ),
    max_leaves=14,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_request_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_chat(data)
    SseEvent(data)
