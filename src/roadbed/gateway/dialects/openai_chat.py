"""OpenAI chat completions, spoken to model servers: requests to bytes, streamed and whole answers to events.

It serves OpenAI and everything compatible with it (vLLM, llama.cpp, LM Studio, Ollama's ``/v1``); their quirks come
from the endpoint's profile or are taken in stride (usage on any chunk, tool calls without type or index, a finish
reason on the last content). The side that our own callers speak to is ``openai_server.py``. The invariant of
``base.py`` holds: no finish that was not sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect, cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.dialects.foreign import chat_fields, left_out, lost_reasoning
from roadbed.gateway.dialects.openai_turns import IN_FUNCTION
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.profiles import Profile
from roadbed.gateway.types import (
    ChatRequest,
    Cited,
    Event,
    Finished,
    FinishReason,
    Hints,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    Part,
    ReasoningDelta,
    ReasoningPart,
    RefusalDelta,
    TextDelta,
    TextPart,
    Tool,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.sse import SseEvent

TOOL_CALLS_MAX = 128
CITED_MAX = 256

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "content_filter": "content_filter",
}

_OWN_FIELDS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "max_tokens",
        "max_completion_tokens", "temperature", "top_p", "stop", "response_format",
    }
)  # fmt: skip


class OpenAIChat(ServerSentDialect):
    """The dialect ``openai``."""

    name = "openai"

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /chat/completions``."""
        profile = endpoint.profile
        body, dropped = _passthrough(request, endpoint)
        is_own = request.passthrough_dialect == OpenAIChat.name
        messages = request.messages if is_own else _turns(request.messages)
        dropped += lost_reasoning(request, "")
        body["model"] = endpoint.model
        body["messages"] = [
            _message(message, f"messages[{number}]", profile, dropped, is_own=is_own)
            for number, message in enumerate(messages)
        ]
        if request.tools:
            body.update(_tool_fields(request, profile, is_own=is_own))
        if request.max_tokens is not None:
            body[profile.limit_field] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop"] = list(request.stop)
        if request.response_format is not None:
            body["response_format"] = _response_format(request.response_format, profile)
        if stream:
            body["stream"] = True
            if profile.has_stream_usage:
                body["stream_options"] = {"include_usage": True}
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        if endpoint.key is not None:
            headers.append((b"authorization", b"Bearer " + endpoint.key.reveal().encode()))
        kept = tuple(dict.fromkeys(dropped))
        return EncodedRequest("/chat/completions", tuple(headers), msgspec.json.encode(body), kept)

    def decoder(self) -> OpenAIDecoder:
        """A decoder for one streamed answer."""
        return OpenAIDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        decoder = OpenAIDecoder()
        events = decoder.feed(SseEvent(body))
        decoder.finish()
        return events


def _turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns of another dialect as this one has them: an assistant's turn that holds reasoning alone is none, and
    one with calls takes in the assistant's turn after it, since the calls' results must come next.
    """
    turns: list[Message] = []
    for message in messages:
        if message.role == "assistant":
            parts = _parts(message)
            if not message.tool_calls and parts and all(isinstance(part, ReasoningPart) for part in parts):
                continue
            if turns and turns[-1].role == "assistant" and turns[-1].tool_calls:
                before = turns.pop()
                calls = (*before.tool_calls, *message.tool_calls)
                message = Message("assistant", (*_parts(before), *parts), tool_calls=calls)
        turns.append(message)
    return tuple(turns)


def _parts(message: Message) -> tuple[Part, ...]:
    content = message.content
    return content if not isinstance(content, str) else (TextPart(content),) if content else ()


def _passthrough(request: ChatRequest, endpoint: Endpoint) -> tuple[dict[str, Any], list[str]]:
    """The fields that nothing here names, as the server takes them, and the names of those that are left out."""
    profile, is_own = endpoint.profile, request.passthrough_dialect == OpenAIChat.name
    given, dropped = (request.passthrough, []) if is_own else chat_fields(request, endpoint.model)
    dropped += [f"stream_options.{name}" for name in given.get("stream_options") or ()]
    names = {name: profile.name_of(name) for name in given if name not in _OWN_FIELDS}
    body = {there: given[name] for name, there in names.items() if there}
    lost = {name for name, there in names.items() if not there}
    if not is_own:
        return body, dropped + sorted(lost)
    hints = request.hint_names()
    kept = (given.keys() - lost) | {name for name in hints if profile.takes_hint(name)}
    if lost or not kept.issuperset(hints):
        dropped += left_out(request, profile.name, kept)
    return body, dropped


def _tool_fields(request: ChatRequest, profile: Profile, *, is_own: bool) -> dict[str, Any]:
    tools, choice = request.tools, request.tool_choice
    body: dict[str, Any] = {}
    if isinstance(choice, NamedTool):
        if profile.has_named_tool:
            body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
        else:
            # One tool that must be called is the tool that is named.
            tools = tuple(tool for tool in tools if tool.name == choice.name)
            body["tool_choice"] = "required"
    elif choice is not None:
        body["tool_choice"] = choice
    body["tools"] = [
        _tool(tool, f"tools[{number}]", _taken(tool.hints, profile, is_own=is_own)) for number, tool in enumerate(tools)
    ]
    if request.parallel_tool_calls is not None:
        if profile.has_parallel_switch:
            body["parallel_tool_calls"] = request.parallel_tool_calls
        elif not request.parallel_tool_calls and choice != "none":
            message = f"parallel_tool_calls: a server with the profile {profile.name} cannot carry it"
            raise UnsupportedFeature(message, hint="leave it out, or use another route", param="parallel_tool_calls")
    return body


def _taken(hints: Hints, profile: Profile, *, is_own: bool) -> dict[str, Any]:
    """The hints that the server takes; the others are named by `left_out`."""
    if not hints or not is_own:
        return {}
    return {name: value for name, value in hints.items() if profile.takes_hint(name)}


def _message(message: Message, where: str, profile: Profile, dropped: list[str], *, is_own: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" and not profile.has_developer_role else message.role
    body: dict[str, Any] = _taken(message.hints, profile, is_own=is_own) | {"role": role}
    if isinstance(message.content, str):
        body["content"] = None if message.tool_calls and not message.content else message.content
    else:
        parts = [
            _part(part, f"{where}.content[{number}]", _taken(getattr(part, "hints", None), profile, is_own=is_own))
            for number, part in enumerate(message.content)
            if not isinstance(part, ReasoningPart)  # the dialect has no place for it
        ]
        body["content"] = parts or (None if message.tool_calls else "")
    if message.name and profile.has_names:
        body["name"] = message.name
    elif message.name:
        dropped.append("messages[].name")
    if message.tool_calls:
        body["tool_calls"] = [
            _taken(call.hints, profile, is_own=is_own)
            | {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        body["tool_call_id"] = message.tool_call_id
    return body


def _part(part: TextPart | ImagePart | OtherPart, where: str, hints: dict[str, Any]) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return hints | {"type": "text", "text": text}
        case ImagePart(url, detail):
            image = {"url": url, "detail": detail} if detail else {"url": url}
            return hints | {"type": "image_url", "image_url": image}
        case OtherPart(dialect, fields):
            if dialect != OpenAIChat.name:
                raise UnsupportedFeature(f"{where}: this part cannot be sent in the openai dialect", param=where)
            return fields


def _tool(tool: Tool, where: str, hints: dict[str, Any]) -> dict[str, Any]:
    if tool.is_native:
        raise UnsupportedFeature(f"{where}.type: the openai dialect does not know this tool", param=f"{where}.type")
    inside = {name.removeprefix(IN_FUNCTION) for name in hints if name.startswith(IN_FUNCTION)}
    function: dict[str, Any] = {name: hints[IN_FUNCTION + name] for name in sorted(inside)} | {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    beside = {name: value for name, value in hints.items() if not name.startswith(IN_FUNCTION)}
    return beside | {"type": "function", "function": function}


def _response_format(wanted: JsonSchema, profile: Profile) -> dict[str, Any]:
    if wanted.schema is None:
        if profile.has_json_mode:
            return {"type": "json_object"}
        wanted = JsonSchema({"type": "object"}, wanted.name)  # the same in other words
    if not profile.has_json_schema:
        message = f"response_format: a server with the profile {profile.name} takes no json_schema"
        raise UnsupportedFeature(message, hint="send json_object, or use another route", param="response_format")
    schema: dict[str, Any] = {"name": wanted.name, "schema": wanted.schema}
    if wanted.strict is not None:
        schema["strict"] = wanted.strict
    if wanted.description:
        schema["description"] = wanted.description
    return {"type": "json_schema", "json_schema": schema}


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _ToolCall(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[_ToolCall] | None = None
    annotations: Any = None


class _Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class OpenAIDecoder:
    """Chunks in, events out, for one answer (only the first choice: more are refused before they are asked for)."""

    __slots__ = ("_last_index", "_seen_ids", "is_finished", "is_over")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self._seen_ids: dict[int, str] = {}
        self._last_index = -1

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one chunk; of ``[DONE]`` none."""
        data = event.data
        if data[:6] == b"[DONE]":
            self.is_over = True
            return []
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise self._undecodable(data) from None
        if chunk.error is not None or chunk.object == "error":
            raise failure_from_object({"error": chunk.error} if chunk.error is not None else msgspec.json.decode(data))
        events: list[Event] = []
        for choice in chunk.choices or ():
            if choice.index:
                continue
            delta = choice.delta or choice.message
            if delta is not None and not self.is_finished:
                self._take(delta, events)
            if choice.finish_reason is not None and not self.is_finished:
                events.append(self._finish(choice.finish_reason))
        if chunk.usage is not None:
            events.append(UsageReported(_usage(chunk.usage)))
        return events

    def finish(self) -> None:
        """The body has ended; raises when no finish reason came."""
        if not self.is_finished:
            raise cut()

    def _undecodable(self, data: bytes) -> Exception:
        """A chunk of another shape: an error object whose other fields do not fit, or garbage."""
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return malformed("a chunk is not JSON")
        if isinstance(value, dict) and (value.get("error") or value.get("object") == "error"):
            return failure_from_object(value)
        return malformed("a chunk is not of the dialect")

    def _take(self, delta: _Delta, events: list[Event]) -> None:
        if delta.content:
            events.append(TextDelta(delta.content))
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning and isinstance(reasoning, str):
            events.append(ReasoningDelta(reasoning))
        if delta.refusal:
            events.append(RefusalDelta(delta.refusal))
        for call in delta.tool_calls or ():
            events.append(self._tool_call(call))
        if delta.annotations:
            events += _cited(delta.annotations)

    def _tool_call(self, call: _ToolCall) -> ToolCallDelta:
        index = call.index
        if index is None:
            is_new = bool(call.id) and call.id not in self._seen_ids.values()
            index = self._last_index + 1 if is_new or self._last_index < 0 else self._last_index
        if not 0 <= index < TOOL_CALLS_MAX:
            raise malformed("a tool call's index is out of bounds")
        self._last_index = index
        is_first = index not in self._seen_ids
        function = call.function
        arguments = function.arguments if function is not None else None
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        if not is_first:
            return ToolCallDelta(index, arguments=arguments or "")
        name = function.name if function is not None else None
        if not name:
            raise malformed("a tool call has no name")
        self._seen_ids[index] = call.id or f"call_{index}"
        return ToolCallDelta(index, self._seen_ids[index], name, arguments or "")

    def _finish(self, word: str) -> Finished:
        reason = FINISH_REASONS.get(word)
        if reason is None:
            raise malformed("its finish reason is unknown")
        if reason == "stop" and self._seen_ids:
            reason = "tool_calls"
        self.is_finished = True
        return Finished(reason)


def _cited(annotations: Any) -> list[Event]:
    """The addresses that the text cites, as servers that search say them."""
    found: list[Event] = []
    for item in annotations[:CITED_MAX] if isinstance(annotations, list) else ():
        fields = item.get("url_citation") if isinstance(item, dict) else None
        if isinstance(fields, dict):
            found.append(Cited(OpenAIChat.name, fields))
    return found


def whole_text(body: bytes) -> tuple[str, FinishReason, Usage | None] | None:
    """The answer in a body that was not streamed, where it is one text and nothing else, as most are; None leaves it to
    `OpenAIChat.decode_body`, which says what is wrong with it, if anything.
    """
    try:
        chunk = _decode_chunk(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    choices = chunk.choices
    if choices is None or len(choices) != 1 or chunk.error is not None or chunk.object == "error":
        return None
    choice = choices[0]
    message = choice.message
    if message is None or choice.index or choice.delta is not None:
        return None
    text = message.content
    if not text or message.tool_calls or message.refusal or message.reasoning_content or message.reasoning:
        return None
    if message.annotations:
        return None
    reason = FINISH_REASONS.get(choice.finish_reason or "")
    if reason is None:
        return None
    return text, reason, _usage(chunk.usage) if chunk.usage is not None else None


def _usage(usage: _Usage) -> Usage:
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    inside, outside = usage.prompt_tokens_details, usage.completion_tokens_details
    if inside is None and outside is None and prompt >= 0 and completion >= 0:
        return Usage(prompt, 0, 0, 0, completion)
    prompt, completion = max(prompt, 0), max(completion, 0)
    cached = min(max(inside.cached_tokens or 0, 0), prompt) if inside else 0
    written = min(max(inside.cache_write_tokens or 0, 0), prompt - cached) if inside else 0
    reasoning = min(max(outside.reasoning_tokens or 0, 0), completion) if outside else 0
    return Usage(
        input_uncached=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output_visible=completion - reasoning,
        output_reasoning=reasoning,
    )
