"""What the official Anthropic SDK makes of our bytes: whole and streamed answers, errors, counts, lists of models."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from roadbed.gateway.dialects.anthropic_incoming import IncomingMessages, decode_count
from roadbed.gateway.dialects.anthropic_server import AnthropicCallers, count_body, models_body
from roadbed.gateway.dialects.base import CallerDialect
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.meter import text_bytes
from roadbed.gateway.types import (
    Answer,
    Event,
    Finished,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.errors import RateLimited, Unauthorized

if TYPE_CHECKING:  # it takes seconds to import, in each process that collects
    import anthropic

CALLERS: CallerDialect = AnthropicCallers()
Handler = Callable[[httpx2.Request], httpx2.Response]
FACTS = {"rung": "full"}
EVENTS: list[Event] = [
    ReasoningDelta("Hm."),
    ReasoningSealed(ReasoningPart("anthropic", "Hm.", "sig")),
    ReasoningSealed(ReasoningPart("anthropic", "", "data", is_redacted=True)),
    TextDelta("Grü"),
    TextDelta("ße"),
    ToolCallDelta(0, "t1", "look", '{"a":'),
    ToolCallDelta(0, arguments="1}"),
    ToolCallDelta(1, "t2", "see", "{}"),
    Finished("tool_calls"),
    UsageReported(Usage(10, 5, 2, 0, 7, 3)),
]
QUESTION: dict[str, Any] = {"model": "smart", "max_tokens": 64, "messages": [{"role": "user", "content": "Look"}]}


def answer_of(events: list[Event]) -> Answer:
    answer = Answer()
    for event in events:
        answer.add(event)
    return answer


def client_of(handler: Handler) -> anthropic.Anthropic:
    import anthropic

    http = httpx2.Client(transport=httpx2.MockTransport(handler))
    return anthropic.Anthropic(api_key="k", base_url="http://roadbed.test", http_client=http, max_retries=0)


def answering(events: list[Event], *, is_cut: bool = False) -> Handler:
    """The server's part, as small as it can be: read the request, write the answer."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/messages"
        incoming = CALLERS.decode(request.content)
        writer = CALLERS.writer("7", 1, incoming)
        if not incoming.stream:
            body = writer.whole(answer_of(events), annotations=[], roadbed=FACTS)
            return httpx2.Response(200, content=body, headers={"content-type": "application/json"})
        body = writer.head() + writer.events(events)
        if is_cut:
            body += writer.error(StreamCut("it broke"))
        else:
            body += writer.end(answer_of(events), annotations=[], roadbed=FACTS)
        return httpx2.Response(200, content=body, headers={"content-type": "text/event-stream; charset=utf-8"})

    return handle


def check(message: anthropic.types.Message) -> None:
    assert [block.type for block in message.content] == [
        "thinking",
        "redacted_thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    thinking, redacted, text, look, see = [block.to_dict() for block in message.content]
    assert thinking == {"type": "thinking", "thinking": "Hm.", "signature": "sig"}
    assert redacted == {"type": "redacted_thinking", "data": "data"}
    assert text["text"] == "Grüße"
    assert (look["id"], look["name"], look["input"]) == ("t1", "look", {"a": 1})
    assert see["input"] == {}
    assert (message.id, message.model, message.stop_reason) == ("msg_7", "smart", "tool_use")
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (10, 10)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (5, 2)


def test_the_sdk_reads_a_whole_answer() -> None:
    with client_of(answering(EVENTS)) as client:
        message = client.messages.create(**QUESTION)
    check(message)
    assert message.to_dict()["roadbed"] == FACTS


def test_the_sdk_reads_a_stream_event_by_event() -> None:
    with client_of(answering(EVENTS)) as client, client.messages.stream(**QUESTION) as stream:
        seen = [event.type for event in stream]
        message = stream.get_final_message()
    check(message)
    assert seen[0] == "message_start"
    assert seen[-1] == "message_stop"
    assert {"text", "thinking", "signature", "input_json"} <= set(seen)


def test_the_sdk_raises_on_a_cut_stream() -> None:
    handler = answering([TextDelta("half")], is_cut=True)
    with client_of(handler) as client, client.messages.stream(**QUESTION) as stream:
        texts = iter(stream.text_stream)
        assert next(texts) == "half"
        import anthropic

        with pytest.raises(anthropic.APIStatusError) as raised:
            next(texts)
    body = raised.value.body
    assert isinstance(body, dict)
    assert body["error"]["code"] == "gateway.stream_cut"


def test_the_sdk_returns_an_answer_in_the_next_turn_as_it_was() -> None:
    """Reasoning comes back with its seal, calls with their arguments, results and hints with what they said."""
    seen: list[IncomingMessages] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        incoming = CALLERS.decode(request.content)
        assert isinstance(incoming, IncomingMessages)
        seen.append(incoming)
        return answering(EVENTS)(request)

    with client_of(handle) as client:
        first = client.messages.create(**QUESTION)
        result: Any = {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}
        turns: list[Any] = [
            *QUESTION["messages"],
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        client.messages.create(**{**QUESTION, "messages": turns})
    _, assistant, tool = seen[1].request.messages
    assert assistant.content[:2] == (
        ReasoningPart("anthropic", "Hm.", "sig"),
        ReasoningPart("anthropic", "", "data", is_redacted=True),
    )
    assert [call.arguments for call in assistant.tool_calls] == ['{"a":1}', "{}"]
    assert (tool.role, tool.content, tool.is_error) == ("tool", "no", True)


def test_the_sdk_raises_the_error_that_the_status_means() -> None:
    def handle(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(
            429, content=CALLERS.error_body(RateLimited("too many")), headers={"request-id": "req_1"}
        )

    import anthropic

    with client_of(handle) as client, pytest.raises(anthropic.RateLimitError, match="too many"):
        client.messages.create(**QUESTION)
    body = json.loads(CALLERS.error_body(Unauthorized("no key")))
    assert body == {
        "type": "error",
        "error": {"type": "authentication_error", "message": "no key", "code": "auth.unauthorized"},
        "request_id": None,
    }


def test_the_sdk_counts_tokens_by_the_bytes_of_the_text() -> None:
    tool: Any = {"name": "look", "description": "Looks", "input_schema": {"type": "object"}}
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD" * 99}}
    call: Any = {"type": "tool_use", "id": "t", "name": "look", "input": {}}
    turns: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "Grüße"}, picture]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s" * 99}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "found"}]},
    ]

    def handle(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/messages/count_tokens"
        return httpx2.Response(200, content=count_body(text_bytes(decode_count(request.content).request)))

    config: Any = {"format": {"type": "json_schema", "schema": {"a": 1}}}
    with client_of(handle) as client:
        counted = client.messages.count_tokens(
            model="m", system="Be brief.", messages=turns, tools=[tool], output_config=config
        )
    said = ["Grüße", "Hm.", "look", "{}", "found", "Be brief.", "look", "Looks", '{"type":"object"}', '{"a":1}']
    assert counted.input_tokens == sum(len(text.encode()) for text in said)


def test_the_sdk_lists_models() -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/v1/models"
        return httpx2.Response(200, content=models_body([("smart", 0), ("helpdesk", 1_767_225_600)]))

    with client_of(handle) as client:
        page = client.models.list()
    assert [(model.id, model.type, model.display_name) for model in page.data] == [
        ("smart", "model", "smart"),
        ("helpdesk", "model", "helpdesk"),
    ]
    assert page.data[1].created_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert (page.first_id, page.last_id, page.has_more) == ("smart", "helpdesk", False)
    assert json.loads(models_body([])) == {"data": [], "first_id": None, "last_id": None, "has_more": False}
