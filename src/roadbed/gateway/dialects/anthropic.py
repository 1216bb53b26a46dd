"""Anthropic Messages, spoken to model servers: requests to bytes, streamed and whole answers to events.

System turns go to the top-level ``system``, tool results become user turns, turns of one role are joined. What
OpenAI's fields mean and Messages cannot say is refused by name when the answer's meaning would change, and named in
``dropped`` when only its quality would. The invariant of ``base.py`` holds: no finish that the server did not send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect, cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import (
    ChatRequest,
    Event,
    Finished,
    FinishReason,
    ImagePart,
    Message,
    NamedTool,
    OtherPart,
    Part,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
    TextPart,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.sse import SseEvent

VERSION = b"2023-06-01"
TEMPERATURE_MAX = 1.0
_MEANING = frozenset({"modalities", "audio", "web_search_options", "functions", "function_call", "store"})
"""Fields of OpenAI chat that would change the answer and that Messages cannot carry."""

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicMessages(ServerSentDialect):
    """The dialect ``anthropic``."""

    name = "anthropic"

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /v1/messages``."""
        dropped: list[str] = []
        system, turns = _turns(request.messages, dropped)
        if not turns:
            raise InvalidChatRequest("messages: at least one turn must not be of role system", param="messages")
        body: dict[str, Any] = {}
        if request.passthrough_dialect == self.name:
            body.update(request.passthrough)
        else:
            dropped += _without_meaning(request.passthrough)
        limit = request.max_tokens
        body["max_tokens"] = endpoint.profile.output_tokens_default if limit is None else limit
        body["model"] = endpoint.model
        body["messages"] = turns
        if system:
            body["system"] = system
        if request.temperature is not None:
            body["temperature"] = min(request.temperature, TEMPERATURE_MAX)
            if request.temperature > TEMPERATURE_MAX:
                dropped.append("temperature above 1")
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.tools:
            body["tools"] = _tools(request)
            body.update(_tool_choice(request))
        if request.response_format is not None:
            if request.response_format.schema is None:
                message = "response_format: plain JSON mode does not exist in the anthropic dialect"
                raise UnsupportedFeature(message, hint="send a json_schema", param="response_format")
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.response_format.schema}}
        if stream:
            body["stream"] = True
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), (b"anthropic-version", VERSION)]
        if endpoint.key is not None:
            headers.append((b"x-api-key", endpoint.key.reveal().encode()))
        path = "/messages" if endpoint.url.endswith("/v1") else "/v1/messages"
        return EncodedRequest(path, tuple(headers), msgspec.json.encode(body), tuple(dict.fromkeys(dropped)))

    def decoder(self) -> AnthropicDecoder:
        """A decoder for one streamed answer."""
        return AnthropicDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        try:
            answer = msgspec.json.decode(body, type=_Whole)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("it is not JSON of the dialect") from None
        if answer.type == "error":
            raise failure_from_object(msgspec.json.decode(body))
        decoder = AnthropicDecoder()
        events: list[Event] = []
        for number, block in enumerate(answer.content):
            decoder.start_block(number, block, events)
            if block.type == "tool_use":
                events.append(ToolCallDelta(decoder.tool_count - 1, arguments=_json_text(block.input)))
        if answer.stop_reason is None:
            raise cut()
        events.append(_finished(answer.stop_reason))
        if answer.usage is not None:
            events.append(UsageReported(_merged(Usage(), answer.usage)))
        return events


def _without_meaning(passthrough: dict[str, Any]) -> list[str]:
    """Names of OpenAI fields that are left out; raises for those whose loss would change the answer."""
    for name, value in passthrough.items():
        if name == "modalities" and value == ["text"]:
            continue
        if name in _MEANING and value:
            message = f"{name}: the anthropic dialect cannot carry it"
            raise UnsupportedFeature(message, hint="leave it out, or use a route to an openai endpoint", param=name)
    return sorted(passthrough)


def _json_text(value: Any) -> str:
    return msgspec.json.encode({} if value is None else value).decode()


def _turns(messages: Iterable[Message], dropped: list[str]) -> tuple[str, list[dict[str, Any]]]:
    system: list[str] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.name:
            dropped.append("messages[].name")
        if message.role in ("system", "developer"):
            system.append(message.text())
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, where)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # Results of tools must come first in their turn, or the request is refused.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return "\n\n".join(text for text in system if text), turns


def _blocks(message: Message, where: str) -> list[dict[str, Any]]:
    parts: tuple[Part, ...] = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    blocks = [
        _block(part, f"{where}.content[{number}]")
        for number, part in enumerate(parts)
        if not (isinstance(part, TextPart) and not part.text)
        and not (isinstance(part, ReasoningPart) and part.dialect != AnthropicMessages.name)
    ]
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": blocks}]
    for number, call in enumerate(message.tool_calls):
        try:
            arguments = msgspec.json.decode(call.arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            param = f"{where}.tool_calls[{number}].function.arguments"
            raise InvalidChatRequest(f"{param}: it must be a JSON object", param=param)
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return blocks


def _block(part: Part, where: str) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(url):
            if not url.startswith("data:"):
                return {"type": "image", "source": {"type": "url", "url": url}}
            kind, comma, data = url.removeprefix("data:").partition(",")
            if not comma or not kind.endswith(";base64"):
                raise InvalidChatRequest(f"{where}: a data: URI must be base64", param=where)
            source = {"type": "base64", "media_type": kind.removesuffix(";base64"), "data": data}
            return {"type": "image", "source": source}
        case ReasoningPart(_, text, seal):
            if text:
                return {"type": "thinking", "thinking": text, "signature": seal}
            return {"type": "redacted_thinking", "data": seal}
        case OtherPart(dialect, fields):
            if dialect != AnthropicMessages.name:
                raise UnsupportedFeature(f"{where}: this part cannot be sent in the anthropic dialect", param=where)
            return fields


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    tools = []
    for tool in request.tools:
        schema = tool.parameters or {"type": "object", "properties": {}}
        body: dict[str, Any] = {"name": tool.name, "input_schema": schema}
        if tool.description:
            body["description"] = tool.description
        if tool.strict is not None:
            body["strict"] = tool.strict
        tools.append(body)
    return tools


def _tool_choice(request: ChatRequest) -> dict[str, Any]:
    choice: dict[str, Any]
    match request.tool_choice:
        case NamedTool(name):
            choice = {"type": "tool", "name": name}
        case "none":
            return {"tool_choice": {"type": "none"}}
        case "required":
            choice = {"type": "any"}
        case _:
            if request.tool_choice is None and request.parallel_tool_calls is not False:
                return {}
            choice = {"type": "auto"}
    if request.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return {"tool_choice": choice}


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Start(msgspec.Struct, gc=False):
    usage: _Usage | None = None


class _StreamEvent(msgspec.Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Start | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


class _Whole(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Block] = []
    stop_reason: str | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_StreamEvent).decode


class AnthropicDecoder:
    """Events in, events out, for one answer. Usage counts are cumulative, so the last report holds."""

    __slots__ = ("_arguments_seen", "_tools", "_usage", "is_finished", "is_over", "tool_count")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self.tool_count = 0
        self._tools: dict[int, int] = {}
        self._arguments_seen: set[int] = set()
        self._usage = Usage()

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one server-sent event; unknown types give none."""
        try:
            body = _decode_event(event.data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("an event is not JSON of the dialect") from None
        events: list[Event] = []
        match body.type:
            case "content_block_delta" if body.delta is not None:
                self._delta(body.index, body.delta, events)
            case "content_block_start" if body.content_block is not None:
                self.start_block(body.index, body.content_block, events)
            case "content_block_stop" if body.index in self._tools and body.index not in self._arguments_seen:
                events.append(ToolCallDelta(self._tools[body.index], arguments="{}"))
            case "message_start" if body.message is not None and body.message.usage is not None:
                self._report(body.message.usage, events)
            case "message_delta":
                if body.delta is not None and body.delta.stop_reason is not None and not self.is_finished:
                    events.append(_finished(body.delta.stop_reason))
                    self.is_finished = True
                if body.usage is not None:
                    self._report(body.usage, events)
            case "message_stop":
                self.is_over = True
            case "error":
                raise failure_from_object({"error": body.error})
            case _:
                pass
        return events

    def finish(self) -> None:
        """The body has ended; raises when no stop reason came."""
        if not self.is_finished:
            raise cut()

    def start_block(self, index: int, block: _Block, events: list[Event]) -> None:
        """A content block begins."""
        if block.type == "tool_use":
            if not block.name:
                raise malformed("a tool call has no name")
            self._tools[index] = self.tool_count
            events.append(ToolCallDelta(self.tool_count, block.id or f"call_{self.tool_count}", block.name))
            self.tool_count += 1
        elif block.type == "text" and block.text:
            events.append(TextDelta(block.text))
        elif block.type == "thinking" and block.thinking:
            events.append(ReasoningDelta(block.thinking))

    def _delta(self, index: int, delta: _Delta, events: list[Event]) -> None:
        if delta.type == "text_delta" and delta.text:
            events.append(TextDelta(delta.text))
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index not in self._tools:
                raise malformed("a tool call's arguments came before its name")
            self._arguments_seen.add(index)
            events.append(ToolCallDelta(self._tools[index], arguments=delta.partial_json))
        elif delta.type == "thinking_delta" and delta.thinking:
            events.append(ReasoningDelta(delta.thinking))

    def _report(self, usage: _Usage, events: list[Event]) -> None:
        self._usage = _merged(self._usage, usage)
        events.append(UsageReported(self._usage))


def _finished(word: str) -> Finished:
    reason = STOP_REASONS.get(word)
    if reason is None:
        raise malformed("its stop reason is unknown or asks to go on")
    return Finished(reason)


def _merged(known: Usage, new: _Usage) -> Usage:
    """Cumulative counts: a newer number replaces an older one, a missing one leaves it."""

    def newer(value: int | None, old: int) -> int:
        return old if value is None else max(value, 0)

    split = new.cache_creation
    write_1h = newer(split.ephemeral_1h_input_tokens if split else None, known.cache_write_1h)
    written = newer(new.cache_creation_input_tokens, known.cache_write_5m + known.cache_write_1h)
    write_1h = min(write_1h, written)
    output = newer(new.output_tokens, known.output_tokens)
    details = new.output_tokens_details
    reasoning = min(newer(details.thinking_tokens if details else None, known.output_reasoning), output)
    return Usage(
        input_uncached=newer(new.input_tokens, known.input_uncached),
        cache_read=newer(new.cache_read_input_tokens, known.cache_read),
        cache_write_5m=written - write_1h,
        cache_write_1h=write_1h,
        output_visible=output - reasoning,
        output_reasoning=reasoning,
    )
