"""Ollama's own API spoken to model servers: golden requests and streams from the documented format."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.attempt import Attempt, AttemptLimits
from roadbed.gateway.dialects.ollama import Ollama
from roadbed.gateway.endpoints import endpoint_from_config
from roadbed.gateway.errors import ContextTooLong, InvalidChatRequest, UnsupportedFeature, UpstreamError
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.profiles import Profile
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
    ReasoningPart,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.secrets import Secret
from roadbed.wire.errors import EventTooLarge
from roadbed.wire.exchange import ResponseHead
from roadbed.wire.ndjson import NdjsonParser
from roadbed.wire.sse import SseEvent

from .conftest import MakeGateway, ask, call, endpoint
from .raw_server import Raw, RawServer

DIALECT = Ollama()
SERVER = endpoint("o", "http://127.0.0.1:1", dialect="ollama", model="qwen3:8b")


def encode(*messages: Message, model: str = "qwen3:8b", **values: Any) -> dict[str, Any]:
    server = endpoint("o", "http://127.0.0.1:1", dialect="ollama", model=model)
    body: dict[str, Any] = json.loads(DIALECT.encode(ChatRequest(messages, **values), server).body)
    return body


def user() -> Message:
    return Message("user", "x")


def stream(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def line(content: str = "", **message: Any) -> dict[str, Any]:
    return {
        "model": "qwen3:8b",
        "created_at": "2025-11-01T12:00:00Z",
        "message": {"role": "assistant", "content": content, **message},
        "done": False,
    }


def last(reason: str | None = "stop", **values: Any) -> dict[str, Any]:
    end = {**line(), "done": True, "total_duration": 9_000_000_000, "load_duration": 8_000_000_000, **values}
    return end if reason is None else {**end, "done_reason": reason}


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    parser, decoder, events = DIALECT.parser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for event in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(event)
    for event in parser.finish():
        events += decoder.feed(event)
    decoder.finish()
    return events


def test_a_conversation_with_tools() -> None:
    server = endpoint(
        "o", "http://x", dialect="ollama", model="qwen3:8b", key=Secret("k-1"), profile=Profile(context_tokens=8192)
    )
    encoded = DIALECT.encode(
        ChatRequest(
            messages=(
                Message("developer", "Be brief."),
                Message("user", (TextPart("Look "), TextPart("here"), ImagePart("data:image/png;base64,QUJD", "low"))),
                Message(
                    "assistant", (ReasoningPart("gemini", "", "s"),), tool_calls=(ToolCall("t1", "look", '{"a":1}'),)
                ),
                Message("tool", "found", tool_call_id="t1"),
            ),
            tools=(Tool("look", "Looks", {"type": "object"}), Tool("see")),
            tool_choice="auto",
            max_tokens=100,
            temperature=0.5,
            top_p=0.9,
            stop=("END",),
            response_format=JsonSchema({"type": "object"}),
            passthrough={"seed": 7, "user": "u", "reasoning_effort": "high"},
        ),
        server,
    )
    assert encoded.path == "/api/chat"
    assert dict(encoded.headers) == {b"content-type": b"application/json", b"authorization": b"Bearer k-1"}
    assert encoded.dropped == ("messages[].reasoning", "image_url.detail", "user")
    assert json.loads(encoded.body) == {
        "model": "qwen3:8b",
        "stream": True,
        "truncate": False,
        "shift": False,
        "think": True,
        "format": {"type": "object"},
        "options": {
            "seed": 7,
            "num_predict": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "num_ctx": 8192,
        },
        "tools": [
            {
                "type": "function",
                "function": {"name": "look", "description": "Looks", "parameters": {"type": "object"}},
            },
            {"type": "function", "function": {"name": "see", "parameters": {"type": "object", "properties": {}}}},
        ],
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Look here", "images": ["QUJD"]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "look", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "found", "tool_name": "look"},
        ],
    }


def test_a_whole_answer_is_asked_for_and_json_mode_is_a_word() -> None:
    encoded = DIALECT.encode(ChatRequest((user(),), response_format=JsonSchema()), SERVER, stream=False)
    body = json.loads(encoded.body)
    assert (body["stream"], body["format"]) == (False, "json")
    assert "options" not in body


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("qwen3:8b", "none", False),
        ("qwen3:8b", "low", True),
        ("gpt-oss:20b", "none", "low"),
        ("gpt-oss:20b", "max", "high"),
        ("qwen3:8b", "huge", None),
        ("qwen3:8b", [1], None),
    ],
)
def test_how_much_to_think(model: str, effort: Any, expected: Any) -> None:
    assert encode(user(), model=model, passthrough={"reasoning_effort": effort}).get("think") == expected


def test_no_tools_are_offered_where_none_may_be_called() -> None:
    assert "tools" not in encode(user(), tools=(Tool("a", strict=True),), tool_choice="none", parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("messages", "values", "param"),
    [
        ((user(),), {"tools": (Tool("a"),), "tool_choice": "required"}, "tool_choice"),
        ((user(),), {"tools": (Tool("a"),), "tool_choice": NamedTool("a")}, "tool_choice"),
        ((user(),), {"tools": (Tool("a"),), "parallel_tool_calls": False}, "parallel_tool_calls"),
        ((user(),), {"tools": (Tool("a"), Tool("b", strict=True))}, "tools[1].function.strict"),
        ((user(),), {"passthrough": {"web_search_options": {"x": 1}}}, "web_search_options"),
        ((Message("user", (TextPart("a"), ImagePart("https://x.example/a.png"))),), {}, "messages[0].content[1]"),
        ((Message("user", (OtherPart("openai", {"type": "file"}),)),), {}, "messages[0].content[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(
    messages: tuple[Message, ...], values: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        encode(*messages, **values)
    assert raised.value.param == param


@pytest.mark.parametrize(
    ("messages", "values", "param"),
    [
        ((Message("assistant", "", tool_calls=(ToolCall("t", "a", "no"),)),), {},
         "messages[0].tool_calls[0].function.arguments"),
        ((Message("tool", "r", tool_call_id="nobody"),), {}, "messages[0].tool_call_id"),
        ((user(),), {"passthrough": {"seed": True}}, "seed"),
    ],
)  # fmt: skip
def test_requests_that_are_wrong(messages: tuple[Message, ...], values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidChatRequest) as raised:
        encode(*messages, **values)
    assert raised.value.param == param


GOLDEN = stream(
    line(thinking="Hm."),
    line("Grü"),
    line("ße"),
    line(tool_calls=[{"function": {"name": "look", "arguments": {"a": 1}}}]),
    line(tool_calls=[{"id": "own-1", "function": {"index": 1, "name": "see", "arguments": {}}}]),
    last(prompt_eval_count=10, eval_count=20, prompt_eval_duration=1, eval_duration=2),
)


@pytest.mark.parametrize("cut_into", [1, 5, 1 << 20])
def test_a_documented_stream_however_it_is_cut(cut_into: int) -> None:
    assert read(GOLDEN, cut_into) == [
        ReasoningDelta("Hm."),
        TextDelta("Grü"),
        TextDelta("ße"),
        ToolCallDelta(0, "call_0_20251101120000", "look", '{"a":1}'),
        ToolCallDelta(1, "own-1", "see", "{}"),
        Finished("tool_calls"),
        UsageReported(Usage(input_uncached=10, output_visible=20)),
    ]


def test_calls_and_their_results_go_back_as_they_came() -> None:
    answer = Answer()
    for event in read(GOLDEN):
        answer.add(event)
    turns = encode(
        user(),
        Message("assistant", answer.text, tool_calls=tuple(answer.tool_calls)),
        Message("tool", "r", tool_call_id="own-1"),
    )["messages"]
    assert turns[1]["tool_calls"] == [
        {"function": {"name": "look", "arguments": {"a": 1}}},
        {"function": {"name": "see", "arguments": {}}},
    ]
    assert turns[2]["tool_name"] == "see"


@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "stop"), ("length", "length"), (None, "stop")],
    ids=["stop", "length", "older servers"],
)
def test_done_reasons(word: str | None, reason: str) -> None:
    assert read(stream(line("a"), last(word))) == [TextDelta("a"), Finished(reason)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        ([line("half")], "fault"),
        ([last("load")], "fault"),
        ([last("unload")], "fault"),
        ([line("a"), {"error": "an error was encountered while running the model"}], "fault"),
        ([{"error": "the input length exceeds the context length"}], "context"),
        ([line(tool_calls=[{"function": {"arguments": {}}}])], "fault"),
        ([line(tool_calls=[{"function": {"name": "a", "arguments": "{}"}}])], "fault"),
        ([line(tool_calls=[{"function": {"name": "a"}}] * 129)], "fault"),
        ([{"message": 7}], "fault"),
    ],
)
def test_an_answer_that_its_server_did_not_end_never_looks_complete(lines: list[Any], failure: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        read(stream(*lines))
    assert raised.value.failure == failure


def test_what_comes_after_the_last_line_is_not_read() -> None:
    assert read(stream(line("a"), last(), line("b"), last("load"))) == [TextDelta("a"), Finished("stop")]


@given(
    st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], sizes: list[int], is_ended: bool) -> None:
    data = b"\r\n".join(lines) + (b"\n" if is_ended else b"")
    expected = [SseEvent(text) for text in (item.strip(b" \t\r") for item in data.split(b"\n")) if text]
    parser, found, at = NdjsonParser(), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        found += parser.feed(data[at : at + size])
        at += size
    assert found + parser.finish() == expected


@pytest.mark.parametrize("cut_into", [1, 3, 100])
def test_a_line_has_a_bound_and_those_before_it_are_given(cut_into: int) -> None:
    parser, data = NdjsonParser(line_bytes_max=4), b"1234\nok\n12345\nlost\n"
    found: list[SseEvent] = []

    def read_all() -> None:
        for start in range(0, len(data) + cut_into, cut_into):
            found.extend(parser.feed(data[start : start + cut_into]))
        parser.finish()

    with pytest.raises(EventTooLarge):
        read_all()
    assert found == [SseEvent(b"1234"), SseEvent(b"ok")]
    with pytest.raises(EventTooLarge):
        parser.feed(b"more\n")
    with pytest.raises(EventTooLarge):
        parser.finish()


NAMES = [
    "message",
    "content",
    "thinking",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "done",
    "done_reason",
    "error",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_events_or_a_typed_error(lines: list[bytes]) -> None:
    with contextlib.suppress(UpstreamError):
        read(b"\n".join(lines))
    for data in lines:
        with contextlib.suppress(UpstreamError):
            DIALECT.decode_body(data)


def test_an_endpoint_waits_for_a_model_to_be_loaded() -> None:
    def built(**values: Any) -> Any:
        return endpoint_from_config("a", EndpointConfig("ollama", "m", **values), prices=shipped_prices())

    found = built()
    assert (found.url, found.is_local, found.first_event_s) == ("http://127.0.0.1:11434", True, 120.0)
    assert found.profile.context_tokens is None
    told = built(first_event="5s", context_tokens=4096)
    assert (told.first_event_s, told.profile.context_tokens) == (5.0, 4096)


async def test_an_answer_comes_through_the_gateway(gateway_of: MakeGateway) -> None:
    async with RawServer([Raw(GOLDEN, "application/x-ndjson")]) as server:
        target = endpoint("o", server.root, dialect="ollama", model="qwen3:8b")
        answer, outcome = await gateway_of(target).complete("smart", ask(), call())
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Grüße", "Hm.", "tool_calls")
    assert outcome.usage == Usage(input_uncached=10, output_visible=20)
    asked = server.requests[0]
    assert asked.target == "/api/chat"
    assert asked.body["messages"] == [{"role": "user", "content": "Say something"}]


async def test_errors_before_the_first_word_are_told_apart(gateway_of: MakeGateway) -> None:
    kind = "application/x-ndjson"
    async with RawServer([Raw(stream({"error": "boom"}), kind), Raw(stream(line("Hi"), last()), kind)]) as server:
        target = endpoint("o", server.root, dialect="ollama")
        answer, outcome = await gateway_of(target).complete("smart", ask(), call())
    assert (answer.text, [attempt.failure for attempt in outcome.attempts]) == ("Hi", ["fault", ""])
    too_long = Raw(b'{"error":"the input length exceeds the context length"}', status=400)
    async with RawServer([too_long]) as server:
        with pytest.raises(ContextTooLong):
            await gateway_of(endpoint("o", server.root, dialect="ollama")).complete("smart", ask(), call())


async def test_a_line_that_never_ends_is_the_endpoints_fault() -> None:
    class Narrow(Ollama):
        def parser(self) -> NdjsonParser:
            return NdjsonParser(line_bytes_max=64)

    loop = asyncio.get_running_loop()
    later_s = loop.time() + 60
    limits = AttemptLimits(later_s, later_s, later_s, 60.0)
    attempt = Attempt(Narrow(), SERVER, limits, loop)
    attempt.on_head(ResponseHead(200, [(b"content-type", b"application/x-ndjson")]))
    attempt.on_data(b'{"message":{"content":"Hi"}}\n' + b"x" * 65)
    attempt.on_complete()
    assert await attempt.next() == TextDelta("Hi")
    with pytest.raises(UpstreamError, match="size limit"):
        await attempt.next()
