"""Valid requests and answers, bent: fields of other types, gone, doubled, or in another's place.

Each caller's dialect reads what is bent to a request or a typed error, each endpoint's dialect writes such a request or
refuses it, and what endpoints send that is bent is written to every caller or fails as the endpoint's fault. The
invariants: nothing but typed errors comes out, and no error holds a value of the caller's.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadbed.gateway.dialects.anthropic_server import AnthropicCallers
from roadbed.gateway.dialects.base import CallerDialect
from roadbed.gateway.dialects.openai_caller import ChatCallers
from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.dialects.responses_server import ResponsesCaller
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import StreamCut, UpstreamError
from roadbed.gateway.types import Answer, Event
from roadbed.kernel.errors import RoadbedError
from roadbed.wire.sse import SseEvent

SECRET = "zebra: quagga 7!"
PIXEL = "data:image/png;base64,iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": [{"type": "text", "text": "s"}]},
        {
            "role": "user",
            "content": [{"type": "text", "text": SECRET}, {"type": "image_url", "image_url": {"url": PIXEL}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r"}]},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    "max_completion_tokens": 7,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "reasoning_effort": "low",
    "seed": 3,
    "user": "u",
}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 2000,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": SECRET},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "h", "signature": "s"},
                {"type": "text", "text": "t", "citations": [{"type": "char_location", "cited_text": "q"}]},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r", "is_error": True}],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "stop_sequences": ["x"],
    "metadata": {"user_id": "u"},
    "stream": True,
}
RESPONSES: dict[str, Any] = {
    "model": "m",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": SECRET}, {"type": "input_image", "image_url": PIXEL}],
        },
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "e"},
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "o", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"},
    ],
    "instructions": "i",
    "tools": [{"type": "function", **FUNCTION}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "max_output_tokens": 9,
    "stream": True,
}
CALLERS: list[tuple[CallerDialect, dict[str, Any]]] = [
    (ChatCallers(), CHAT),
    (AnthropicCallers(), MESSAGES),
    (ResponsesCaller(), RESPONSES),
]
ODD: list[Any] = [
    None, True, 0, -1, 1.5, 10**30, 1e308, "", SECRET, "\u0000", "x" * 300, [], {}, [None], [[]], {"a": None},
    {"": SECRET}, [SECRET], {"type": SECRET}, {"type": "text"}, {"type": None}, "data:,", "https://", 2**63, 2**64,
    [{"type": "text", "text": SECRET}],
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield (*path, name)
        yield from places(item, (*path, name))


def bent(value: Any, chance: Random) -> Any:
    """A copy with one to three of its parts changed."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice([1, 1, 2, 3])):
        found = list(places(value))
        if not found:
            break
        *way, last = chance.choice(found)
        parent = value
        for name in way:
            parent = parent[name]
        match chance.randrange(6):
            case 0:
                del parent[last]
            case 1 if isinstance(parent, list):
                parent.insert(last, copy.deepcopy(parent[last]))
            case 2 if isinstance(parent, dict):
                parent[chance.choice(["x", "type", "name", "content", "id", ""])] = chance.choice(ODD)
            case _:
                parent[last] = copy.deepcopy(chance.choice(ODD))
    return value


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.sampled_from(CALLERS))
def test_a_bent_request_is_read_and_written_or_refused_by_a_typed_error(
    chance: Random, caller: tuple[CallerDialect, dict[str, Any]]
) -> None:
    dialect, asked = caller
    body = json.dumps(bent(asked, chance)).encode()
    for refusal in refusals(dialect, body):
        assert SECRET not in refusal.message
        json.loads(dialect.error_body(refusal))


def refusals(dialect: CallerDialect, body: bytes) -> Iterator[RoadbedError]:
    """What a body is refused with: by its own dialect, or else by those of endpoints."""
    try:
        incoming = dialect.decode(body)
    except RoadbedError as error:
        yield error
        return
    incoming.question()
    incoming.request.hint_names()
    for endpoint_dialect in DIALECTS.values():
        endpoint = Endpoint("e", "http://127.0.0.1:1/v1", "m", endpoint_dialect.name)  # type: ignore[arg-type]
        try:
            json.loads(endpoint_dialect.encode(incoming.request, endpoint).body)
        except RoadbedError as error:
            yield error


def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


ANSWERS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "h"}),
        chunk({"content": "a"}),
        chunk({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        chunk({}, "tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {}}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {"url": "u"}}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "c", "name": "f"}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_stop", "index": 2},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": "h", "thought": True}, {"text": "a"}]}}]},
        {
            "candidates": [
                {"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}, "finishReason": "STOP"}
            ],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 2},
        },
    ],
    "ollama": [
        {"message": {"content": "a", "thinking": "h"}, "done": False},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, "done": False},
        {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4},
    ],
    "responses": [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message"}},
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "a"},
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {"id": "fc", "type": "function_call", "call_id": "c", "name": "f", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "item_id": "fc", "output_index": 1, "delta": "{}"},
        {"type": "response.completed", "response": {"status": "completed", "usage": {"input_tokens": 3}}},
    ],
    "bedrock": [
        {"event": "messageStart", "role": "assistant"},
        {"event": "contentBlockDelta", "contentBlockIndex": 0, "delta": {"text": "a"}},
        {"event": "contentBlockStop", "contentBlockIndex": 0},
        {
            "event": "contentBlockStart",
            "contentBlockIndex": 1,
            "start": {"toolUse": {"toolUseId": "c", "name": "f"}},
        },
        {"event": "contentBlockDelta", "contentBlockIndex": 1, "delta": {"toolUse": {"input": "{}"}}},
        {"event": "messageStop", "stopReason": "tool_use"},
        {"event": "metadata", "usage": {"inputTokens": 3, "outputTokens": 4}},
    ],
}


def events_of(dialect: str, frames: list[Any]) -> tuple[list[Event], UpstreamError | None]:
    """What the decoder makes of the frames, and its refusal, if any."""
    decoder, events = DIALECTS[dialect].decoder(), list[Event]()
    names = {"anthropic": "type", "responses": "type", "bedrock": "event"}
    try:
        for frame in frames:
            name = str(frame.get(names.get(dialect, ""), "")) if isinstance(frame, dict) else ""
            events += decoder.feed(SseEvent(json.dumps(frame).encode(), name.encode()))
        decoder.finish()
    except UpstreamError as error:
        return events, error
    return events, None


@pytest.mark.parametrize("dialect", ANSWERS)
def test_the_answers_are_whole_before_they_are_bent(dialect: str) -> None:
    assert events_of(dialect, ANSWERS[dialect])[1] is None


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(ANSWERS)))
def test_a_bent_answer_is_written_to_every_caller_or_fails_as_the_endpoint_s(chance: Random, dialect: str) -> None:
    events, failure = events_of(dialect, bent(ANSWERS[dialect], chance))
    answer = Answer()
    for event in events:
        answer.add(event)
    for caller, asked in CALLERS:
        incoming = caller.decode(json.dumps(asked).encode())
        writer = caller.writer("t", 1, incoming)
        stream = writer.head() + writer.events(events)
        end = writer.end(answer, annotations=[], roadbed={}) if failure is None else writer.error(StreamCut("cut"))
        for frame in (stream + end).decode().strip().split("\n\n"):
            data = frame.partition("data: ")[2]
            assert data == "[DONE]" or json.loads(data)
        json.loads(caller.writer("t", 1, incoming).whole(answer, annotations=[], roadbed={}))
