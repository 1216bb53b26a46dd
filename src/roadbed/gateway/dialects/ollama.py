"""Ollama's own ``/api/chat``, spoken to model servers: requests to bytes, streamed and whole answers to events.

The server is told not to shorten a prompt that is too long: it then says so, where by default it would answer without
a word about what it left out. Streams are lines of JSON; the last one is ``done`` and has the counts. A turn with
calls ends with ``stop`` like any other. The invariant of ``base.py`` holds: no finish that the server did not send.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, cut, malformed
from roadbed.gateway.dialects.effort import effort_of
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.dialects.foreign import left_out, lost_description, lost_detail, lost_reasoning
from roadbed.gateway.dialects.translation import (
    call_arguments,
    data_uri,
    foreign_part,
    is_one_at_a_time,
    parts_of,
    schema_of,
    unsupported,
)
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest
from roadbed.gateway.types import (
    ChatRequest,
    Event,
    Finished,
    FinishReason,
    ImagePart,
    Message,
    NamedTool,
    OtherPart,
    ReasoningDelta,
    TextDelta,
    Tool,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.ndjson import NdjsonParser
from roadbed.wire.sse import SseEvent

NAME = "ollama"
TOOL_CALLS_MAX = 128
ID_DIGITS_MAX = 24
_NO_DIGIT = re.compile(r"[^0-9]")
_OPTIONS = frozenset({"seed", "presence_penalty", "frequency_penalty"})
_EFFORTS = {
    "none": "low",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
DONE_REASONS: dict[str, FinishReason] = {"": "stop", "stop": "stop", "length": "length"}
"""All others are no answers: ``load`` and ``unload`` say what became of the model."""


class Ollama:
    """The dialect ``ollama``."""

    name = NAME
    stream_type = b"application/x-ndjson"

    def parser(self) -> NdjsonParser:
        """A parser of lines."""
        return NdjsonParser()

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /api/chat``."""
        dropped: list[str] = [*lost_reasoning(request, NAME), *lost_description(request)]
        body: dict[str, Any] = {
            "model": endpoint.model,
            "messages": _messages(request.messages, dropped),
            "stream": stream,
            "truncate": False,
            "shift": False,
        }
        tools = _tools(request)
        if tools:
            body["tools"] = tools
        if request.response_format is not None:
            schema = request.response_format.schema
            body["format"] = "json" if schema is None else schema
        carried = {*_OPTIONS} if request.passthrough_dialect == "openai" else set[str]()
        effort = effort_of(request)
        dropped += [*left_out(request, NAME, carried | effort.told), *effort.rest]
        if effort.level:
            body["think"] = _think(effort.level, endpoint.model)
        options = _options(request, carried)
        if endpoint.profile.context_tokens is not None:
            options["num_ctx"] = endpoint.profile.context_tokens
        if options:
            body["options"] = options
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        if endpoint.key is not None:
            headers.append((b"authorization", b"Bearer " + endpoint.key.reveal().encode()))
        return EncodedRequest("/api/chat", tuple(headers), msgspec.json.encode(body), tuple(dict.fromkeys(dropped)))

    def decoder(self) -> OllamaDecoder:
        """A decoder for one streamed answer."""
        return OllamaDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        decoder = OllamaDecoder()
        events = decoder.feed(SseEvent(body))
        decoder.finish()
        return events


def _messages(messages: tuple[Message, ...], dropped: list[str]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.name:
            dropped.append("messages[].name")
        turn: dict[str, Any] = {
            "role": "system" if message.role == "developer" else message.role,
            "content": message.text(),
        }
        dropped += lost_detail(message)
        images = _images(message, where)
        if images:
            turn["images"] = images
        if message.tool_calls:
            turn["tool_calls"] = [
                {"function": {"name": call.name, "arguments": call_arguments(call, f"{where}.tool_calls[{n}]")}}
                for n, call in enumerate(message.tool_calls)
            ]
            names.update((call.id, call.name) for call in message.tool_calls)
        if message.role == "tool":
            if message.tool_call_id not in names:
                param = f"{where}.tool_call_id"
                raise InvalidChatRequest(f"{param}: no call before it has this id", param=param)
            turn["tool_name"] = names[message.tool_call_id]
        turns.append(turn)
    return turns


def _images(message: Message, where: str) -> list[str]:
    images = []
    for number, part in enumerate(parts_of(message)):
        at = f"{where}.content[{number}]"
        if isinstance(part, OtherPart):
            raise foreign_part(part, at, NAME)
        if isinstance(part, ImagePart):
            inline = data_uri(part.url, at)
            if inline is None:
                raise unsupported(at, NAME, "send the image itself, as a base64 data: URI")
            images.append(inline[1])
    return images


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    """The tools. There is no choice of them: none is none offered, and a forced one cannot be had."""
    if not request.tools or request.tool_choice == "none":
        return []
    if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
        raise unsupported("tool_choice", NAME, "leave the choice to the model, or use another route")
    if is_one_at_a_time(request.parallel_tool_calls, request.tools, request.tool_choice):
        raise unsupported("parallel_tool_calls", NAME)
    return [_tool(tool, number) for number, tool in enumerate(request.tools)]


def _tool(tool: Tool, number: int) -> dict[str, Any]:
    if tool.strict:
        raise unsupported(f"tools[{number}].function.strict", NAME)
    function: dict[str, Any] = {"name": tool.name, "parameters": schema_of(tool)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _options(request: ChatRequest, carried: set[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name in sorted(_OPTIONS & carried & request.passthrough.keys()):
        value = request.passthrough[name]
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidChatRequest(f"{name}: it must be a number", param=name)
        options[name] = value
    if request.max_tokens is not None:
        options["num_predict"] = request.max_tokens
    if request.temperature is not None:
        options["temperature"] = request.temperature
    if request.top_p is not None:
        options["top_p"] = request.top_p
    if request.stop:
        options["stop"] = list(request.stop)
    return options


def _think(level: str, model: str) -> bool | str:
    """Whether a model is to think. Only gpt-oss takes levels, and it always thinks."""
    return _EFFORTS[level] if "gpt-oss" in model else level != "none"


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: Any = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None
    id: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, gc=False):
    created_at: str | None = None
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode


class OllamaDecoder:
    """Lines in, events out, for one answer."""

    __slots__ = ("_calls", "is_finished", "is_over")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self._calls = 0

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one line; of those after the last one none."""
        try:
            line = _decode_line(event.data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("a line is not JSON of the dialect") from None
        if line.error is not None:
            raise failure_from_object({"error": line.error})
        if self.is_over:
            return []
        events: list[Event] = []
        if line.message is not None:
            self._take(line.message, line.created_at or "", events)
        if line.done:
            reason = DONE_REASONS.get(line.done_reason or "")
            if reason is None:
                raise malformed("it ended without an answer")
            if reason == "stop" and self._calls:
                reason = "tool_calls"
            self.is_finished = self.is_over = True
            events.append(Finished(reason))
            if line.prompt_eval_count is not None or line.eval_count is not None:
                read, written = max(line.prompt_eval_count or 0, 0), max(line.eval_count or 0, 0)
                events.append(UsageReported(Usage(input_uncached=read, output_visible=written)))
        return events

    def finish(self) -> None:
        """The body has ended; raises when no line was the last one."""
        if not self.is_finished:
            raise cut()

    def _take(self, message: _Message, created_at: str, events: list[Event]) -> None:
        if message.thinking:
            events.append(ReasoningDelta(message.thinking))
        if message.content:
            events.append(TextDelta(message.content))
        for call in message.tool_calls or ():
            function = call.function
            if function is None or not function.name:
                raise malformed("a tool call has no name")
            if self._calls >= TOOL_CALLS_MAX:
                raise malformed("it holds too many tool calls")
            arguments = {} if function.arguments is None else function.arguments
            if not isinstance(arguments, dict):
                raise malformed("a tool call's arguments are no object")
            text = msgspec.json.encode(arguments).decode()
            id = call.id or _made_up_id(self._calls, created_at)
            events.append(ToolCallDelta(self._calls, id, function.name, text))
            self._calls += 1


def _made_up_id(number: int, created_at: str) -> str:
    """An id for a call that has none. The time makes it another one in each turn: some dialects refuse a conversation
    in which two calls share an id.
    """
    return f"call_{number}_{_NO_DIGIT.sub('', created_at)[:ID_DIGITS_MAX]}".rstrip("_")
