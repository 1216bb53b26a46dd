"""The Responses API spoken to callers: strict requests with the field's path, events by the documented grammar, round
trips, and the official SDK reading both.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from typing import Any

import httpx2
import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from pydantic import TypeAdapter

from roadbed.gateway.dialects.responses import Responses
from roadbed.gateway.dialects.responses_incoming import IncomingResponse
from roadbed.gateway.dialects.responses_reasoning import item_from_part, wrap
from roadbed.gateway.dialects.responses_server import ResponsesCaller
from roadbed.gateway.errors import EndpointsFailed, EndpointsThrottled, StreamCut
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    FinishReason,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.errors import InvalidRequest, RoadbedError
from roadbed.wire.sse import SseParser

CALLER = ResponsesCaller()
LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
CITATION = {"type": "file_citation", "file_id": "d1", "filename": "a.md", "index": 2, "quote": "q"}
FACTS = {"rung": "full", "trace": "t1"}
USAGE = Usage(30, 60, 10, 0, 5, 15)
SEALED = ReasoningPart("anthropic", "Hm, well.", "c2lnbmF0dXJl")


def body(**values: Any) -> dict[str, Any]:
    return {"model": "smart", "input": "Hi"} | values


def items(*given: Any, **values: Any) -> dict[str, Any]:
    return body(input=list(given), **values)


def user(*parts: Any) -> dict[str, Any]:
    return items({"role": "user", "content": list(parts)})


def decode(**values: Any) -> IncomingResponse:
    return CALLER.decode(json.dumps(body(**values)).encode())


def refused(raw: Any) -> InvalidRequest:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(InvalidRequest) as raised:
        CALLER.decode(data)
    return raised.value


def nested(depth: int) -> Any:
    return json.loads("[" * depth + "]" * depth)


# Requests.


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "smart"}, "input"),
        (body(model=3), "model"),
        (body(input=3), "input"),
        (body(input=[]), "input"),
        (items("x"), "input[0]"),
        (items({}), "input[0].type"),
        (items({"type": 3}), "input[0].type"),
        (items({"role": "wizard", "content": "x"}), "input[0].role"),
        (items({"role": "tool", "content": "x"}), "input[0].role"),
        (items({"role": "user"}), "input[0].content"),
        (items({"role": "user", "content": 3}), "input[0].content"),
        (items({"role": "assistant", "content": "x", "tool_calls": [{}]}), "input[0].tool_calls"),
        (user("x"), "input[0].content[0]"),
        (user({"text": "x"}), "input[0].content[0].type"),
        (user({"type": "text", "text": "x"}), "input[0].content[0].type"),
        (user({"type": "output_text", "text": "x"}), "input[0].content[0].type"),
        (user({"type": "input_text", "text": "x"}, {"type": "input_text", "text": 1}), "input[0].content[1].text"),
        (user({"type": "input_image", "image_url": "file:///etc/x"}), "input[0].content[0].image_url"),
        (user({"type": "input_image", "image_url": "data:,x", "detail": 1}), "input[0].content[0].detail"),
        (user({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
        (user({"type": "input_file", "file_id": "f"}), "input[0].content[0].file_id"),
        (user({"type": "input_file", "file_data": nested(70)}), "input[0].content[0]"),
        (items({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}), "input[0].content[0].type"),
        (items({"role": "assistant", "content": [{"type": "refusal"}]}), "input[0].content[0].refusal"),
        (items(CALL | {"call_id": ""}), "input[0].call_id"),
        (items(CALL | {"name": None}), "input[0].name"),
        (items(CALL | {"arguments": {}}), "input[0].arguments"),
        (items(CALL | {"namespace": "n"}), "input[0].namespace"),
        (items({"type": "function_call_output", "output": "x"}), "input[0].call_id"),
        (items({"type": "function_call_output", "call_id": "c1", "output": "x"}), "input[0].call_id"),
        (items(CALL, {"type": "function_call_output", "call_id": "c1", "output": {}}), "input[1].output"),
        (items(CALL, {"type": "function_call_output", "call_id": "c1", "output": [3]}), "input[1].output[0]"),
        (items({"type": "reasoning", "summary": [{"type": "summary_text"}]}), "input[0].summary[0].text"),
        (items({"type": "reasoning", "encrypted_content": 3}), "input[0].encrypted_content"),
        (items({"type": "reasoning", "encrypted_content": "a b"}), "input[0].encrypted_content"),
        (items({"type": "reasoning", "encrypted_content": "roadbed.1.AAAA"}), "input[0].encrypted_content"),
        (items({"type": "item_reference", "id": "msg_1"}), "input[0]"),
        (items({"type": "web_search_call", "id": "ws_1"}), "input[0].type"),
        (body(instructions=["x"]), "instructions"),
        (body(tools=[{"type": "web_search"}]), "tools[0].type"),
        (body(tools=[LOOK, {"type": "custom", "name": "a"}]), "tools[1].type"),
        (body(tools=[{"name": "a"}]), "tools[0].type"),
        (body(tools=[{"type": "function"}]), "tools[0].name"),
        (body(tools=[{"type": "function", "function": {"name": "a"}}]), "tools[0].name"),
        (body(tools=[LOOK | {"name": ""}]), "tools[0].name"),
        (body(tools=[LOOK | {"strict": "yes"}]), "tools[0].strict"),
        (body(tools=[LOOK | {"parameters": {"a": nested(70)}}]), "tools[0].parameters"),
        (body(tools=[LOOK | {"defer_loading": True}]), "tools[0]"),
        (body(tool_choice="auto"), "tool_choice"),
        (body(tools=[LOOK], tool_choice="maybe"), "tool_choice"),
        (body(tools=[LOOK], tool_choice=3), "tool_choice"),
        (body(tools=[LOOK], tool_choice={"type": "function", "name": "see"}), "tool_choice.name"),
        (body(tools=[LOOK], tool_choice={"type": "function"}), "tool_choice"),
        (body(tools=[LOOK], tool_choice={"type": "web_search"}), "tool_choice.type"),
        (body(tools=[LOOK], tool_choice={"type": "allowed_tools", "mode": "auto", "tools": []}), "tool_choice.tools"),
        (
            body(tools=[LOOK], tool_choice={"type": "allowed_tools", "mode": "x", "tools": [LOOK]}),
            "tool_choice.mode",
        ),
        (
            body(tools=[LOOK], tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}),
            "tool_choice.tools[0]",
        ),
        (body(temperature="hot"), "temperature"),
        (body(temperature=3), "temperature"),
        (body(top_p=1.5), "top_p"),
        (body(max_output_tokens=0), "max_output_tokens"),
        (body(max_output_tokens=True), "max_output_tokens"),
        (body(stream="yes"), "stream"),
        (body(stream_options={"include_obfuscation": False}), "stream_options"),
        (body(text={"format": {"type": "yaml"}}), "text.format.type"),
        (body(text={"format": {"type": "json_schema", "schema": {}}}), "text.format.name"),
        (body(text={"format": {"type": "json_schema", "name": "a"}}), "text.format.schema"),
        (body(text={"format": {"type": "json_schema", "name": "a", "schema": {"a": nested(70)}}}), "text"),
        (body(text={"verbosity": "loud"}), "text.verbosity"),
        (body(reasoning={"effort": 3}), "reasoning.effort"),
        (body(reasoning={"summary": "long"}), "reasoning.summary"),
        (body(include="reasoning.encrypted_content"), "include"),
        (body(include=["message.output_text.logprobs"]), "include"),
        (body(top_logprobs=3), "top_logprobs"),
        (body(metadata={"a": 1}), "metadata[...]"),
        (body(metadata={"a": "b" * 513}), "metadata"),
        (body(truncation="some"), "truncation"),
        (body(something=nested(70)), "something"),
        (body(store=True), "store"),
        (body(previous_response_id="resp_1"), "previous_response_id"),
        (body(conversation={"id": "conv_1"}), "conversation"),
        (body(background=True), "background"),
        ([], None),
    ],
)
def test_a_wrong_field_is_named_by_its_path(raw: Any, param: str | None) -> None:
    error = refused(raw)
    assert error.param == param
    assert error.http_status == 400


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"model":"\\ud800","input":"x"}', b"null"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    assert refused(data).http_status == 400


@pytest.mark.parametrize(
    "raw",
    [
        items(*[{"role": "user", "content": "x"}] * 4097),
        body(tools=[LOOK] * 513),
        body(include=["a"] * 33),
        body(metadata={str(number): "x" for number in range(17)}),
    ],
)
def test_what_is_too_much_is_refused(raw: Any) -> None:
    assert refused(raw).http_status == 413


@pytest.mark.parametrize("name", ["store", "background", "previous_response_id", "conversation"])
def test_what_needs_a_memory_is_refused_with_what_to_send(name: str) -> None:
    error = refused(body(**{name: "resp_1" if name in ("previous_response_id", "conversation") else True}))
    assert error.code == "gateway.unsupported_feature"
    assert error.hint


def test_a_built_in_tool_is_refused_by_name() -> None:
    assert "web_search_preview" in refused(body(tools=[{"type": "web_search_preview"}])).message
    assert "secret" not in refused(body(tools=[{"type": "A secret"}])).message


def test_a_conversation_with_everything() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_68af",
        "summary": [{"type": "summary_text", "text": "Looking"}],
        "encrypted_content": "gAAAAABo-r5eQ==",
    }
    said = {"type": "output_text", "text": "Let me see.", "annotations": []}
    incoming = CALLER.decode(
        json.dumps(
            items(
                {"role": "developer", "content": "Be kind"},
                {
                    "type": "message",
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"},
                        {"type": "input_file", "filename": "a.pdf", "file_data": "data:,x"},
                    ],
                },
                item,
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [said]},
                CALL,
                item | {"id": "rs_2"},
                CALL | {"call_id": "c2", "id": "fc_2", "status": "completed"},
                {"type": "function_call_output", "call_id": "c1", "output": "1"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                {"role": "user", "content": "Why?"},
                instructions="Be brief",
                stream=True,
                stream_options={"include_obfuscation": False},
                store=False,
                tools=[LOOK | {"strict": True, "description": "Looks", "defer_loading": False}],
                tool_choice={"type": "function", "name": "look"},
                parallel_tool_calls=False,
                max_output_tokens=5,
                temperature=1,
                top_p=0.5,
                text={
                    "verbosity": "low",
                    "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True, "description": "d"},
                },
                reasoning={"effort": "low", "summary": None},
                include=["reasoning.encrypted_content"],
                metadata={"a": "b"},
                user="kari",
                truncation="auto",
                top_k=7,
                service_tier=None,
            )
        ).encode()
    )
    first = ReasoningPart("responses", "Looking", json.dumps(item, separators=(",", ":")))
    second = ReasoningPart("responses", "Looking", json.dumps(item | {"id": "rs_2"}, separators=(",", ":")))
    assert (incoming.model, incoming.stream, incoming.question()) == ("smart", True, "Why?")
    assert incoming.request == ChatRequest(
        messages=(
            Message("system", "Be brief"),
            Message("developer", "Be kind"),
            Message(
                "user",
                (
                    TextPart("What?"),
                    ImagePart("https://x.example/a.png", "low"),
                    OtherPart("responses", {"type": "input_file", "filename": "a.pdf", "file_data": "data:,x"}),
                ),
            ),
            Message("assistant", (first, TextPart("Let me see.")), tool_calls=(ToolCall("c1", "look", "{}"),)),
            Message("assistant", (second,), tool_calls=(ToolCall("c2", "look", "{}"),)),
            Message("tool", "1", tool_call_id="c1"),
            Message("tool", (TextPart("2"),), tool_call_id="c2"),
            Message("assistant", (TextPart("No."),)),
            Message("user", "Why?"),
        ),
        tools=(Tool("look", "Looks", {"type": "object"}, True),),
        tool_choice=NamedTool("look"),
        parallel_tool_calls=False,
        max_tokens=5,
        temperature=1.0,
        top_p=0.5,
        response_format=JsonSchema({}, "n", True, "d"),
        passthrough={
            "text": {"verbosity": "low"},
            "reasoning": {"effort": "low"},
            "include": ["reasoning.encrypted_content"],
            "metadata": {"a": "b"},
            "user": "kari",
            "truncation": "auto",
            "top_k": 7,
        },
        passthrough_dialect="responses",
    )
    assert item_from_part(first) == item


def test_plain_json_and_allowed_tools() -> None:
    see = LOOK | {"name": "see"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "see"}]}
    incoming = decode(tools=[LOOK, see], tool_choice=allowed, text={"format": {"type": "json_object"}})
    assert incoming.request.response_format == JsonSchema()
    assert [tool.name for tool in incoming.request.tools] == ["see"]
    assert incoming.request.tool_choice == "required"
    assert incoming.echo["tool_choice"] == allowed
    assert [tool["name"] for tool in incoming.echo["tools"]] == ["look", "see"]
    assert decode(text={"format": {"type": "text"}}, tool_choice="none").request.response_format is None


def test_text_hidden_in_a_wrapping_is_shown_to_the_guard() -> None:
    seal = json.dumps({"type": "reasoning", "summary": [{"type": "summary_text", "text": "kari@example.com"}]})
    item = {"type": "reasoning", "encrypted_content": wrap(ReasoningPart("responses", "", seal))}
    content = CALLER.decode(json.dumps(items(item)).encode()).request.messages[0].content
    assert isinstance(content[0], ReasoningPart)
    assert content[0].text == "kari@example.com"


WORDS_OF_THE_DIALECT = [
    "user",
    "assistant",
    "input_text",
    "message",
    "reasoning",
    "function_call",
    "function",
    "json_schema",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.sampled_from(WORDS_OF_THE_DIALECT),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "name", "schema", "call_id", "output", "summary", "format"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = ["model", "input", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "store", "other"]


@given(
    st.binary(max_size=60) | st.dictionaries(st.sampled_from(FIELDS), JSON | JSON.map(lambda item: [item]), max_size=3)
)
@settings(max_examples=300, deadline=None)
def test_anything_gives_a_request_or_a_typed_error(given_: bytes | dict[str, Any]) -> None:
    data = given_ if isinstance(given_, bytes) else json.dumps(body(tools=[LOOK]) | given_).encode()
    with contextlib.suppress(RoadbedError):
        incoming = CALLER.decode(data)
        CALLER.writer("t1", 7, incoming).head()


# Answers.


def streamed(
    events: Iterable[Event], reason: FinishReason = "stop", *, annotations: Any = (), **values: Any
) -> list[tuple[str, dict[str, Any]]]:
    """(event line, data) of a whole stream."""
    return parsed(stream(events, reason, annotations=annotations, **values))


def stream(events: Iterable[Event], reason: FinishReason = "stop", *, annotations: Any = (), **values: Any) -> bytes:
    writer = CALLER.writer("t1", 7, decode(**values))
    written = writer.head() + b"".join(writer.events([event]) for event in events)
    answer = Answer(finish_reason=reason, usage=USAGE)
    return written + writer.end(answer, annotations=list(annotations), roadbed=FACTS)


def parsed(data: bytes) -> list[tuple[str, dict[str, Any]]]:
    return [(event.event.decode(), json.loads(event.data)) for event in SseParser().feed(data)]


def names(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name.removeprefix("response.") for name, _ in events]


ALL: tuple[Event, ...] = (
    ReasoningDelta("Hm, "),
    ReasoningDelta("well."),
    ReasoningSealed(SEALED),
    TextDelta("Let me "),
    TextDelta("see."),
    ToolCallDelta(0, "c1", "look"),
    ToolCallDelta(0, arguments='{"a":'),
    ToolCallDelta(1, "c2", "see"),
    ToolCallDelta(1, arguments="{}"),
    ToolCallDelta(0, arguments="1}"),
)


def test_events_follow_the_grammar() -> None:
    events = streamed(ALL, "tool_calls")
    assert names(events) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(name == data["type"] for name, data in events)
    started, ended = events[0][1]["response"], events[-1][1]["response"]
    assert (started["id"], started["status"], started["output"]) == ("resp_t1", "in_progress", [])
    assert [item["id"] for item in ended["output"]] == ["rs_t1_0", "msg_t1_1", "fc_t1_2", "fc_t1_3"]
    assert [data["item"] for name, data in events if name == "response.output_item.done"] == ended["output"]
    assert ended["output"][0]["summary"] == [{"type": "summary_text", "text": "Hm, well."}]
    assert ended["output"][2] == CALL | {"arguments": '{"a":1}', "id": "fc_t1_2", "status": "completed"}
    done = [data for name, data in events if name == "response.function_call_arguments.done"]
    assert [(data["name"], data["arguments"], data["item_id"]) for data in done] == [
        ("look", '{"a":1}', "fc_t1_2"),
        ("see", "{}", "fc_t1_3"),
    ]
    assert (ended["roadbed"], ended["created_at"], ended["model"]) == (FACTS, 7, "smart")


def test_every_event_is_of_the_sdks_types() -> None:
    from openai.types.responses import response_stream_event

    reader: TypeAdapter[Any] = TypeAdapter(response_stream_event.ResponseStreamEvent)
    for events in (ALL, (TextDelta("x"),), (RefusalDelta("I cannot."),), ()):
        for _, data in streamed(events, annotations=[CITATION], tools=[LOOK], text={"verbosity": "low"}):
            reader.validate_python(data, strict=True)


def test_the_response_repeats_the_request() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    asked: dict[str, Any] = {
        "instructions": "Be brief",
        "text": {"format": schema, "verbosity": "low"},
        "tools": [LOOK | {"strict": True, "description": "Looks"}],
        "tool_choice": {"type": "function", "name": "look"},
        "parallel_tool_calls": False,
        "max_output_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.25,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "truncation": "auto",
        "user": "kari",
    }
    for _, data in (events := streamed((TextDelta("x"),), **asked))[:1] + events[-1:]:
        response = data["response"]
        assert {name: response[name] for name in asked} == asked
        assert response["store"] is False
    plain = streamed((TextDelta("x"),))[-1][1]["response"]
    assert (plain["text"], plain["tools"], plain["tool_choice"]) == ({"format": {"type": "text"}}, [], "auto")
    assert (plain["temperature"], plain["parallel_tool_calls"], plain["truncation"]) == (None, True, "disabled")
    assert plain["usage"] == {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 15},
        "total_tokens": 120,
    }


def test_citations_come_before_their_text_ends() -> None:
    events = streamed((TextDelta("So [1]."),), annotations=[CITATION])
    assert names(events)[-6:] == [
        "output_text.delta", "output_text.annotation.added", "output_text.done", "content_part.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    added = events[-5][1]
    assert (added["annotation"], added["annotation_index"], added["content_index"]) == (CITATION, 0, 0)
    assert events[-1][1]["response"]["output"][0]["content"][0]["annotations"] == [CITATION]
    late = streamed((TextDelta("So [1]."), ToolCallDelta(0, "c1", "look")), annotations=[CITATION])
    assert "output_text.annotation.added" not in names(late)
    assert late[-1][1]["response"]["output"][0]["content"][0]["annotations"] == [CITATION]


def test_a_refusal() -> None:
    events = streamed((RefusalDelta("I can"), RefusalDelta("not.")))
    assert names(events)[2:] == [
        "output_item.added", "content_part.added", "refusal.delta", "refusal.delta", "refusal.done",
        "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    content = events[-1][1]["response"]["output"][0]["content"]
    assert content == [{"type": "refusal", "refusal": "I cannot."}]
    both = streamed((TextDelta("Well, "), RefusalDelta("no.")))
    assert names(both)[3:10] == [
        "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "content_part.added",
        "refusal.delta", "refusal.done",
    ]  # fmt: skip


@pytest.mark.parametrize(("reason", "word"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_not_finished_says_why(reason: FinishReason, word: str) -> None:
    events = streamed((TextDelta("Hel"),), reason)
    response = events[-1][1]["response"]
    assert events[-1][0] == "response.incomplete"
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": word})
    assert response["output"][0]["status"] == "incomplete"
    calls = streamed((TextDelta("Hel"), ToolCallDelta(0, "c1", "look", '{"a')), reason)[-1][1]["response"]
    assert [item["status"] for item in calls["output"]] == ["completed", "incomplete"]


def test_an_answer_without_text() -> None:
    assert streamed(())[-1][1]["response"]["output"][0]["content"][0]["text"] == ""
    assert streamed((), "content_filter")[-1][1]["response"]["output"] == []


@pytest.mark.parametrize(
    ("error", "code"), [(StreamCut("it broke"), "server_error"), (EndpointsThrottled("later"), "rate_limit_exceeded")]
)
def test_a_broken_stream_fails_with_what_there_is(error: RoadbedError, code: str) -> None:
    writer = CALLER.writer("t1", 7, decode())
    written = writer.head() + writer.events([*ALL[:3], TextDelta("Hel")]) + writer.error(error)
    events = parsed(written)
    assert names(events)[-2:] == ["output_text.delta", "failed"]
    response = events[-1][1]["response"]
    assert (response["status"], response["error"]["code"], response["error"]["type"]) == ("failed", code, error.code)
    assert response["output"][1]["content"][0]["text"] == "Hel"
    assert response["output"][1]["status"] == "incomplete"
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))


def test_errors_outside_of_streams_take_openais_shape() -> None:
    made = json.loads(CALLER.error_body(EndpointsFailed("all failed")))["error"]
    assert (made["type"], made["code"]) == ("server_error", "gateway.endpoints_failed")


# Round trips.

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
BLOCKS = st.one_of(
    st.tuples(st.just("text"), st.lists(WORDS, min_size=1, max_size=3)),
    st.tuples(st.just("refusal"), st.lists(WORDS, min_size=1, max_size=2)),
    st.tuples(st.just("reasoning"), st.lists(WORDS, max_size=2)),
    st.tuples(st.just("call"), st.lists(WORDS, max_size=3)),
)


def events_of(blocks: list[tuple[str, list[str]]]) -> list[Event]:
    events: list[Event] = []
    calls = 0
    for kind, pieces in blocks:
        if kind == "text":
            events += [TextDelta(piece) for piece in pieces]
        elif kind == "refusal":
            events += [RefusalDelta(piece) for piece in pieces]
        elif kind == "reasoning":
            events += [ReasoningDelta(piece) for piece in pieces]
            events.append(ReasoningSealed(ReasoningPart("anthropic", "".join(pieces), f"seal{len(events)}")))
        else:
            events.append(ToolCallDelta(calls, f"c{calls}", "look"))
            events += [ToolCallDelta(calls, arguments=piece) for piece in pieces]
            calls += 1
    return events


def unwrapped(event: Event) -> Event:
    """What a caller would bring back of a sealed block."""
    if not isinstance(event, ReasoningSealed):
        return event
    item = item_from_part(event.part)
    content = CALLER.decode(json.dumps(items(item)).encode()).request.messages[0].content
    assert isinstance(content[0], ReasoningPart)
    return ReasoningSealed(content[0])


@given(st.lists(BLOCKS, max_size=5), st.sampled_from(["stop", "length", "content_filter"]), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_a_stream_is_read_back_as_the_same_events(
    blocks: list[tuple[str, list[str]]], reason: FinishReason, cut_into: int
) -> None:
    events = events_of(blocks)
    if reason == "stop" and any(isinstance(event, ToolCallDelta) for event in events):
        reason = "tool_calls"
    data = stream(events, reason)
    parser, decoder, read = SseParser(), Responses().decoder(), list[Event]()
    for start in range(0, len(data), cut_into):
        for sse in parser.feed(data[start : start + cut_into]):
            read += decoder.feed(sse)
    decoder.finish()
    assert [unwrapped(event) for event in read] == [*events, Finished(reason), UsageReported(USAGE)]


@given(st.lists(BLOCKS, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_whole_answer_reads_back(blocks: list[tuple[str, list[str]]]) -> None:
    answer, again = Answer(), Answer()
    for event in (*events_of(blocks), UsageReported(USAGE)):
        answer.add(event)
    answer.finish_reason = "tool_calls" if answer.tool_calls else "stop"
    whole = CALLER.writer("t1", 7, decode()).whole(answer, annotations=[CITATION], roadbed=FACTS)
    for event in Responses().decode_body(whole):
        again.add(unwrapped(event))
    assert (again.text, again.refusal, again.reasoning) == (answer.text, answer.refusal, answer.reasoning)
    assert (again.tool_calls, again.sealed, again.usage) == (answer.tool_calls, answer.sealed, USAGE)
    assert again.finish_reason == answer.finish_reason


# The official SDK.


class Played(httpx2.BaseTransport):
    """Answers every request with the same bytes, and keeps what was asked."""

    def __init__(self, data: bytes, kind: str, status: int = 200) -> None:
        self.data, self.kind, self.status = data, kind, status
        self.asked: list[bytes] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.read())
        return httpx2.Response(self.status, headers={"content-type": self.kind}, content=self.data, request=request)


@contextlib.contextmanager
def sdk(played: Played) -> Any:
    import openai  # it takes seconds to import, in each process that collects

    with httpx2.Client(transport=played) as transport:
        yield openai.OpenAI(base_url="http://x/v1", api_key="k", http_client=transport, max_retries=0)


def test_the_sdk_reads_a_whole_answer_and_sends_it_back() -> None:
    answer = Answer("So [1].", reasoning="Hm, well.", sealed=[SEALED], finish_reason="stop", usage=USAGE)
    answer.tool_calls = [ToolCall("c1", "look", '{"a":1}')]
    whole = CALLER.writer("t1", 7, decode()).whole(answer, annotations=[CITATION], roadbed=FACTS)
    from openai.types.responses.response import Response

    Response.model_validate_json(whole, strict=True)
    played = Played(whole, "application/json")
    with sdk(played) as client:
        made = client.responses.create(model="smart", input="Hi", store=False)
        assert (made.status, made.output_text, made.usage.total_tokens) == ("completed", "So [1].", 120)
        assert made.output[1].content[0].annotations[0].file_id == "d1"
        assert made.model_extra["roadbed"] == FACTS
        result = {"type": "function_call_output", "call_id": "c1", "output": "found"}
        client.responses.create(model="smart", input=[{"role": "user", "content": "Hi"}, *made.output, result])
    messages = CALLER.decode(played.asked[1]).request.messages
    assert messages[1] == Message("assistant", (SEALED, TextPart("So [1].")), tool_calls=tuple(answer.tool_calls))
    assert messages[2] == Message("tool", "found", tool_call_id="c1")


def test_the_sdk_reads_a_stream() -> None:
    played = Played(stream(ALL, "tool_calls"), "text/event-stream")
    with sdk(played) as client, client.responses.stream(model="smart", input="Hi") as read:
        snapshots = [event.snapshot for event in read if event.type == "response.output_text.delta"]
        final = read.get_final_response()
    assert snapshots == ["Let me ", "Let me see."]
    from openai.types.responses import ResponseReasoningItem

    assert isinstance(final.output[0], ResponseReasoningItem)
    assert [item.arguments for item in final.output[2:]] == ['{"a":1}', "{}"]
    assert CALLER.decode(played.asked[0]).stream


def test_the_sdk_sees_that_a_stream_broke() -> None:
    writer = CALLER.writer("t1", 7, decode())
    data = writer.head() + writer.events([TextDelta("Hel")]) + writer.error(StreamCut("it broke"))
    with sdk(Played(data, "text/event-stream")) as client:
        last = list(client.responses.create(model="smart", input="Hi", stream=True))[-1]
        assert (last.type, last.response.error.code) == ("response.failed", "server_error")
        with client.responses.stream(model="smart", input="Hi") as read, pytest.raises(RuntimeError, match="completed"):
            read.get_final_response()


def test_the_sdk_raises_errors() -> None:
    refusal = refused(body(store=True))
    with sdk(Played(CALLER.error_body(refusal), "application/json", 400)) as client:
        import openai

        with pytest.raises(openai.BadRequestError) as raised:
            client.responses.create(model="smart", input="Hi", store=True)
        assert (raised.value.param, raised.value.code) == ("store", "gateway.unsupported_feature")
