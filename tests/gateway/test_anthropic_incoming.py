"""Anthropic Messages as callers send them: strict requests with the field's path, nothing lost, round trips."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.anthropic_incoming import IncomingMessages, decode_count, decode_messages
from roadbed.gateway.dialects.base import CallerRequest
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import (
    ChatRequest,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
)
from roadbed.kernel.errors import InvalidRequest

from .conftest import endpoint

SERVER = endpoint("a", "http://x/v1", dialect="anthropic")
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


def body(**values: Any) -> dict[str, Any]:
    return {"model": "smart", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]} | values


def turns(*blocks: Any, role: str = "user") -> dict[str, Any]:
    return body(messages=[{"role": role, "content": list(blocks)}])


def decode(raw: dict[str, Any]) -> IncomingMessages:
    return decode_messages(json.dumps(raw).encode())


def refused(raw: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        decode_messages(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    return raised.value


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


RESULT: dict[str, Any] = {"type": "tool_result", "tool_use_id": "t"}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
TOOL: dict[str, Any] = {"name": "a", "input_schema": {"type": "object"}}
FORMAT = {"type": "json_schema", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ([], None),
        ({"messages": []}, "model"),
        (body(model=3), "model"),
        (body(messages=[]), "messages"),
        (body(messages=[{"role": "wizard", "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": "x", "name": "y"}]), "messages[0]"),
        (body(messages=[{"role": "user", "content": 3}]), "messages[0].content"),
        (body(messages=[{"role": "user", "content": ["x"]}]), "messages[0].content[0]"),
        ({"model": "m", "messages": [{"role": "user", "content": "x"}]}, "max_tokens"),
        (body(max_tokens=None), "max_tokens"),
        (body(max_tokens=0), "max_tokens"),
        (body(temperature=1.5), "temperature"),
        (body(top_p="high"), "top_p"),
        (body(top_k="x"), "top_k"),
        (body(stream="yes"), "stream"),
        (body(stop_sequences=["x"] * 65), "stop_sequences"),
        (body(system=[{"type": "image"}]), "system[0].type"),
        (body(system=[{"type": "text", "text": 1}]), "system[0].text"),
        (body(metadata={"user_id": 7}), "metadata.user_id"),
        (body(thinking="on"), "thinking"),
        (body(nested=deep(101)), "nested"),
        (turns({"text": "x"}), "messages[0].content[0].type"),
        (turns({"type": []}), "messages[0].content[0].type"),
        (turns({"type": "text", "text": 1}), "messages[0].content[0].text"),
        (turns({"type": "image", "source": "x"}), "messages[0].content[0].source"),
        (turns({"type": "image", "source": {"type": 1}}), "messages[0].content[0].source.type"),
        (turns(IMAGE | {"source": {"type": "url", "url": "file:///x"}}), "messages[0].content[0].source.url"),
        (
            turns(IMAGE | {"source": {"type": "base64", "media_type": "a;b,c", "data": ""}}),
            "messages[0].content[0].source.media_type",
        ),
        (turns(IMAGE | {"source": {"type": "base64", "media_type": "a/b"}}), "messages[0].content[0].source.data"),
        (turns({"type": "tool_result"}), "messages[0].content[0].tool_use_id"),
        (turns(RESULT | {"content": 3}), "messages[0].content[0].content"),
        (turns(RESULT | {"content": ["x"]}), "messages[0].content[0].content[0]"),
        (turns(RESULT | {"content": [RESULT]}), "messages[0].content[0].content[0].type"),
        (turns(RESULT | {"is_error": "yes"}), "messages[0].content[0].is_error"),
        (turns(RESULT, role="assistant"), "messages[0].content[0].type"),
        (turns({"type": "tool_use", "id": "t", "name": "a", "input": {}}), "messages[0].content[0].type"),
        (turns({"type": "thinking", "thinking": "x"}), "messages[0].content[0].type"),
        (turns({"type": "tool_use", "id": "t", "name": "a"}, role="assistant"), "messages[0].content[0].input"),
        (turns({"type": "tool_use", "id": "t", "input": {}}, role="assistant"), "messages[0].content[0].name"),
        (turns({"type": "thinking", "thinking": 1}, role="assistant"), "messages[0].content[0].thinking"),
        (
            turns({"type": "thinking", "thinking": "", "signature": 1}, role="assistant"),
            "messages[0].content[0].signature",
        ),
        (turns({"type": "redacted_thinking"}, role="assistant"), "messages[0].content[0].data"),
        (turns(IMAGE, role="system"), "messages[0].content[0].type"),
        (body(tools=[{"name": "", "input_schema": {}}]), "tools[0].name"),
        (body(tools=[{"name": "a"}]), "tools[0].input_schema"),
        (body(tools=[TOOL | {"strict": 1}]), "tools[0].strict"),
        (body(tools=[TOOL | {"description": 1}]), "tools[0].description"),
        (body(tools=[TOOL | {"type": "brand_new_20250305"}]), "tools[0].type"),
        (body(tools=[TOOL | {"type": 3}]), "tools[0].type"),
        (body(tools=[TOOL, TOOL]), "tools"),
        (body(tool_choice={"type": "auto"}), "tool_choice"),
        (body(tools=[TOOL], tool_choice={"type": "some"}), "tool_choice.type"),
        (body(tools=[TOOL], tool_choice={"type": "tool"}), "tool_choice.name"),
        (body(tools=[TOOL], tool_choice={"type": "any", "name": "a"}), "tool_choice.name"),
        (body(tools=[TOOL], tool_choice={"type": "tool", "name": "b"}), "tool_choice.name"),
        (body(tools=[TOOL], tool_choice={"type": "auto", "new": 1}), "tool_choice"),
        (
            body(tools=[TOOL], tool_choice={"type": "none", "disable_parallel_tool_use": True}),
            "tool_choice.disable_parallel_tool_use",
        ),
        (body(output_config={"format": "json"}), "output_config.format"),
        (body(output_config={"format": {"type": "text"}}), "output_config.format.type"),
        (body(output_config={"format": {"type": "json_schema"}}), "output_config.format.schema"),
        (body(output_config={"format": FORMAT | {"x": 1}}), "output_config.format"),
        (body(output_config={"format": FORMAT}, output_format=FORMAT), "output_format"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(raw: Any, param: str | None) -> None:
    error = refused(raw)
    assert error.param == param
    assert error.http_status == 400


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"model":"\\ud800","max_tokens":1,"messages":[]}', b"null", b'"\\udc00"'],
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    assert refused(data).http_status == 400


def test_too_much_of_anything_is_refused() -> None:
    assert refused(body(messages=[{"role": "user", "content": "x"}] * 4097)).http_status == 413
    assert refused(turns(*[{"type": "text", "text": "x"}] * 65_537)).http_status == 413
    assert refused(body(tools=[TOOL] * 513)).http_status == 413


def test_a_conversation_with_everything() -> None:
    raw: dict[str, Any] = {
        "model": "smart",
        "max_tokens": 1024,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind.", **CACHED}],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "output_config": {"format": FORMAT, "effort": "high"},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "top_k": 5,
        "metadata": {"user_id": "u-1"},
        "service_tier": None,
        "brand_new": [1],
        "tools": [
            {"type": "custom", "name": "look", "description": "Looks", "strict": True, **TOOL, **CACHED}
            | {"name": "look"},
            {"type": "bash_20250124", "name": "bash"},
        ],
        "tool_choice": {"type": "tool", "name": "look", "disable_parallel_tool_use": True},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, IMAGE | CACHED, {"type": "new", "x": 1}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
                    {"type": "thinking", "thinking": "", "signature": "s2"},
                    {"type": "redacted_thinking", "data": "r"},
                    {"type": "text", "text": "Now"},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"a": 1}, **CACHED},
                    {"type": "text", "text": "and"},
                    {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Go on"},
                    RESULT | {"tool_use_id": "t1", "content": "broken", "is_error": True, **CACHED},
                    RESULT | {"tool_use_id": "t2", "content": [{"type": "text", "text": "seen"}, IMAGE]},
                ],
            },
        ],
    }
    picture = "data:image/png;base64,QUJD"
    incoming = decode(raw)
    assert (incoming.model, incoming.stream, incoming.question()) == ("smart", True, "Go on")
    assert incoming.request == ChatRequest(
        messages=(
            Message("system", (TextPart("Be brief."), TextPart("Be kind.", CACHED))),
            Message(
                "user",
                (TextPart("Look"), ImagePart(picture, hints=CACHED), OtherPart("anthropic", {"type": "new", "x": 1})),
            ),
            Message(
                "assistant",
                (
                    ReasoningPart("anthropic", "Hm.", "s1"),
                    ReasoningPart("anthropic", "", "s2"),
                    ReasoningPart("anthropic", "", "r", is_redacted=True),
                    TextPart("Now"),
                ),
                tool_calls=(ToolCall("t1", "look", '{"a":1}', CACHED),),
            ),
            Message("assistant", "and", tool_calls=(ToolCall("t2", "look", "{}"),)),
            Message("tool", "broken", tool_call_id="t1", is_error=True, hints=CACHED),
            Message("tool", (TextPart("seen"), ImagePart(picture)), tool_call_id="t2"),
            Message("user", "Go on"),
        ),
        tools=(
            Tool("look", "Looks", {"type": "object"}, strict=True, hints=CACHED),
            Tool("bash", hints={"type": "bash_20250124"}),
        ),
        tool_choice=NamedTool("look"),
        parallel_tool_calls=False,
        max_tokens=1024,
        temperature=0.5,
        top_p=0.9,
        stop=("END",),
        response_format=JsonSchema({"type": "object"}),
        passthrough={
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "top_k": 5,
            "metadata": {"user_id": "u-1"},
            "brand_new": [1],
            "output_config": {"effort": "high"},
        },
        passthrough_dialect="anthropic",
    )
    # Sent on to an endpoint of the same dialect, nothing of it is lost.
    encoded = AnthropicMessages().encode(incoming.request, SERVER)
    assert encoded.dropped == ()
    again = json.loads(encoded.body)
    del raw["service_tier"]
    del raw["tools"][0]["type"]
    raw["messages"][2]["content"].sort(key=lambda block: block["type"])
    raw["messages"][2]["content"] = raw["messages"][2]["content"][1:] + raw["messages"][2]["content"][:1]
    raw["messages"][2]["content"][0]["content"] = [{"type": "text", "text": "broken"}]
    assert again == raw | {"model": "a-model"}


def test_a_turn_of_role_system_and_an_empty_turn_are_kept() -> None:
    messages = [
        {"role": "user", "content": []},
        {"role": "system", "content": [{"type": "text", "text": "Now in German"}]},
        {"role": "assistant", "content": []},
        {"role": "user", "content": [RESULT]},
    ]
    assert decode(body(messages=messages)).request.messages == (
        Message("user", ""),
        Message("system", "Now in German"),
        Message("assistant", ""),
        Message("tool", "", tool_call_id="t"),
    )


@pytest.mark.parametrize(
    ("raw", "choice", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "any", "disable_parallel_tool_use": False}, "required", None),
        ({"type": "none"}, "none", None),
        (None, None, None),
    ],
)
def test_tool_choices(raw: Any, choice: Any, parallel: bool | None) -> None:
    request = decode(body(tools=[TOOL], tool_choice=raw)).request
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, parallel)


def test_counting_needs_no_limit() -> None:
    request = decode_count(b'{"model":"m","messages":[{"role":"user","content":"x"}]}').request
    assert (request.max_tokens, request.messages) == (None, (Message("user", "x"),))


def test_it_is_what_the_server_reads() -> None:
    incoming: CallerRequest = decode(body())
    assert incoming.question() == "x"
    assert decode(body(messages=[{"role": "assistant", "content": "x"}])).question() == ""


def to_openai(**values: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    encoded = OpenAIChat().encode(decode(body(**values)).request, endpoint("o", "http://x/v1"))
    return json.loads(encoded.body), encoded.dropped


def test_an_openai_endpoint_gets_the_meaning_and_the_rest_is_named() -> None:
    sent, dropped = to_openai(
        thinking={"type": "adaptive"},
        top_k=3,
        metadata={"user_id": "u"},
        service_tier="auto",
        container=None,
        mcp_servers=[],
        system=[{"type": "text", "text": "Be brief.", **CACHED}],
        messages=[
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                    {"type": "tool_use", "id": "t1", "name": "a", "input": {}},
                    {"type": "text", "text": "wait"},
                    {"type": "tool_use", "id": "t2", "name": "a", "input": {}},
                ],
            },
            {"role": "user", "content": [RESULT | {"tool_use_id": "t1", "is_error": True}]},
        ],
        tools=[TOOL],
    )
    fields = ("cache_control", "is_error", "mcp_servers", "metadata", "service_tier", "thinking", "top_k")
    assert dropped == (*fields, "messages[].reasoning")
    assert sent["messages"] == [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "wait"}],
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "a", "arguments": "{}"}},
                {"id": "t2", "type": "function", "function": {"name": "a", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "content": "", "tool_call_id": "t1"},
    ]


def test_reasoning_beside_a_call_leaves_no_empty_list_for_an_openai_endpoint() -> None:
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    call = {"type": "tool_use", "id": "t", "name": "a", "input": {}}
    sent, _ = to_openai(messages=[{"role": "assistant", "content": [thinking, call]}])
    assert sent["messages"][0]["content"] is None


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"output_format": FORMAT}, "output_format"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_would_change_the_meaning_is_refused_by_an_openai_endpoint(values: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        to_openai(**values)
    assert raised.value.param == param


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,16}", fullmatch=True)
HINTS = st.none() | st.just(CACHED)
TEXTS = st.builds(TextPart, WORDS, HINTS)
IMAGES = st.builds(ImagePart, st.sampled_from(["https://x.example/a.png", "data:image/png;base64,QUJD"]), hints=HINTS)
OTHERS = st.just(OtherPart("anthropic", {"type": "document", "source": {"type": "file", "file_id": "f"}}))
REASONING = st.builds(ReasoningPart, st.just("anthropic"), st.just("") | WORDS, WORDS) | st.builds(
    ReasoningPart, st.just("anthropic"), st.just(""), WORDS, st.just(value=True)
)
CALLS = st.lists(
    st.builds(ToolCall, NAMES, NAMES, st.dictionaries(NAMES, WORDS, max_size=2).map(
        lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))), HINTS),
    max_size=2,
).map(tuple)  # fmt: skip


def content(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A plain text, or parts that are not one plain text: a form that two spellings of one turn share."""
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return WORDS | several.filter(lambda given: not (len(given) == 1 and given[0] == TextPart(given[0].text)
                                                     if isinstance(given[0], TextPart) else False))  # fmt: skip


USER = st.builds(Message, st.just("user"), content(TEXTS | IMAGES | OTHERS))
ASSISTANT = st.builds(Message, st.just("assistant"), content(TEXTS | REASONING), tool_calls=CALLS)
RESULTS = st.lists(
    st.builds(
        Message,
        st.just("tool"),
        st.just("") | content(TEXTS | IMAGES),
        tool_call_id=NAMES,
        is_error=st.booleans(),
        hints=HINTS,
    ),
    max_size=2,
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = draw(st.lists(st.builds(Message, st.just("system"), content(TEXTS)), max_size=1))
    for _ in range(draw(st.integers(1, 2))):
        messages += [*draw(RESULTS), draw(USER), draw(ASSISTANT)]
    return tuple(messages)


REQUESTS = st.builds(
    ChatRequest,
    conversations(),
    st.just((Tool("a", "d", {"type": "object"}, True, CACHED), Tool("c", hints={"type": "bash_20250124"}))),
    st.none() | st.sampled_from(["none", "auto", "required"]) | st.just(NamedTool("a")),
    st.none(),
    st.integers(1, 10**6),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0, 1),
    st.lists(WORDS, max_size=3).map(tuple),
    st.none() | st.just(JsonSchema({"type": "object"})),
    st.dictionaries(st.sampled_from(["brand_new", "inference_geo"]), st.integers() | WORDS, max_size=2)
    | st.just({"output_config": {"effort": "low"}}),
    st.just("anthropic"),
)  # fmt: skip


@given(REQUESTS)
@settings(max_examples=150, deadline=None)
def test_a_request_survives_encoding_and_decoding(request: ChatRequest) -> None:
    encoded = AnthropicMessages().encode(request, SERVER)
    assert decode_messages(encoded.body).request == request


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["model", "messages", "max_tokens", "role", "content", "type", "tools", "text", "source", "system",
                     "input", "name", "tool_use_id", "tool_choice", "output_config", "thinking", "id"]
                ),
                inner | st.sampled_from(["user", "assistant", "text", "image", "tool_use", "tool_result", "thinking"]),
                max_size=5,
            )
        ),
        max_leaves=20,
    ).map(lambda value: json.dumps(value).encode())
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_a_request_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_messages(data)


BLOCKS = st.recursive(
    st.none() | st.integers() | st.sampled_from(["text", "image", "tool_use", "tool_result", "base64", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "text", "source", "input", "name", "tool_use_id", "id", "content", "data", "url"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(st.sampled_from(["user", "assistant", "system"]), st.lists(BLOCKS, max_size=3), BLOCKS, BLOCKS)
@settings(max_examples=200, deadline=None)
def test_any_blocks_give_a_request_or_a_typed_error(role: str, blocks: Any, system: Any, tool: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        decode(body(messages=[{"role": role, "content": blocks}]))
    with contextlib.suppress(InvalidRequest):
        decode(body(system=system, tools=[tool], tool_choice=tool))
