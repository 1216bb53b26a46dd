"""The answers of Bedrock's Converse and ConverseStream: their events and bodies to ours.

Pure. Text has no start event, tool calls have one; what a block of reasoning was sealed with comes in its last
deltas. The invariant: `Finished` is made at ``metadata``, with the stop reason that came before it, and never for an
exception or for output that the service calls malformed.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import msgspec

from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.event_stream import EXCEPTION
from roadbed.gateway.dialects.failures import failure_from_exception
from roadbed.gateway.types import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.sse import SseEvent

NAME = "bedrock"
REDACTED = "redacted:"
"""Begins the seal of a block of reasoning that is encrypted as a whole; others hold a signature."""

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""Any other one, such as ``malformed_tool_use``, is the endpoint's fault."""


class _Camel(msgspec.Struct, rename="camel", gc=False):
    """Fields as the service writes them."""


class _ReasoningText(_Camel, gc=False):
    text: str = ""
    signature: str = ""


class _Reasoning(_Camel, gc=False):
    text: str = ""
    signature: str = ""
    redacted_content: str = ""
    reasoning_text: _ReasoningText | None = None


class _ToolUse(_Camel, gc=False):
    tool_use_id: str = ""
    name: str = ""
    input: Any = None


class _Block(_Camel, gc=False):
    text: str = ""
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _CacheDetail(_Camel, gc=False):
    ttl: str = ""
    input_tokens: int = 0


class _Usage(_Camel, gc=False):
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None


class _StreamEvent(_Camel, gc=False):
    content_block_index: int = 0
    start: _Block | None = None
    delta: _Block | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Message(_Camel, gc=False):
    content: list[_Block] = []


class _Output(_Camel, gc=False):
    message: _Message | None = None


class _Whole(_Camel, gc=False):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_StreamEvent).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


@dataclass(slots=True)
class _OpenReasoning:
    """A block of reasoning under way."""

    text: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    redacted: list[str] = field(default_factory=list)

    def add(self, given: _Reasoning, events: list[Event]) -> None:
        text, signature = given.text, given.signature
        if given.reasoning_text is not None:
            text, signature = given.reasoning_text.text, given.reasoning_text.signature
        if text:
            self.text.append(text)
            events.append(ReasoningDelta(text))
        if signature:
            self.signature.append(signature)
        if given.redacted_content:
            self.redacted.append(given.redacted_content)

    def close(self, events: list[Event]) -> None:
        if self.redacted:
            events.append(ReasoningSealed(ReasoningPart(NAME, seal=REDACTED + _joined(self.redacted))))
        elif self.signature:
            events.append(ReasoningSealed(ReasoningPart(NAME, "".join(self.text), "".join(self.signature))))


def _joined(pieces: list[str]) -> str:
    """Base64 pieces as one; a single one byte for byte."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join(base64.b64decode(piece, validate=True) for piece in pieces)).decode()
    except (binascii.Error, ValueError):
        raise malformed("its redacted reasoning is not base64") from None


class BedrockDecoder:
    """Events in, events out, for one streamed answer."""

    __slots__ = ("_arguments_seen", "_reason", "_reasoning", "_tools", "is_finished", "is_over")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self._reason: Finished | None = None
        self._tools: dict[int, int] = {}
        self._arguments_seen: set[int] = set()
        self._reasoning: dict[int, _OpenReasoning] = {}

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one frame; unknown types give none."""
        if event.event.startswith(EXCEPTION):
            raise _exception(event)
        try:
            body = _decode_event(event.data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("an event is not JSON of the dialect") from None
        events: list[Event] = []
        match event.event:
            case b"contentBlockDelta" if body.delta is not None:
                self._delta(body.content_block_index, body.delta, events)
            case b"contentBlockStart" if body.start is not None and body.start.tool_use is not None:
                self._start_tool(body.content_block_index, body.start.tool_use, events)
            case b"contentBlockStop":
                self._stop(body.content_block_index, events)
            case b"messageStop":
                self._reason = _finished(body.stop_reason)
            case b"metadata":
                self._end(body.usage, events)
            case _:
                pass
        return events

    def finish(self) -> None:
        """The body has ended; raises when its last event had not come."""
        if not self.is_finished:
            raise cut()

    def _delta(self, index: int, delta: _Block, events: list[Event]) -> None:
        if delta.text:
            events.append(TextDelta(delta.text))
        elif delta.tool_use is not None:
            if index not in self._tools or not isinstance(delta.tool_use.input, str):
                raise malformed("a tool call's arguments are no text, or came before its name")
            if delta.tool_use.input:
                self._arguments_seen.add(index)
                events.append(ToolCallDelta(self._tools[index], arguments=delta.tool_use.input))
        elif delta.reasoning_content is not None:
            self._reasoning.setdefault(index, _OpenReasoning()).add(delta.reasoning_content, events)

    def _start_tool(self, index: int, tool: _ToolUse, events: list[Event]) -> None:
        number = self._tools[index] = len(self._tools)
        events.append(_call(number, tool))

    def _stop(self, index: int, events: list[Event]) -> None:
        if index in self._tools and index not in self._arguments_seen:
            self._arguments_seen.add(index)
            events.append(ToolCallDelta(self._tools[index], arguments="{}"))
        reasoning = self._reasoning.pop(index, None)
        if reasoning is not None:
            reasoning.close(events)

    def _end(self, usage: _Usage | None, events: list[Event]) -> None:
        if self._reason is None:
            raise malformed("its last event came before its stop reason")
        if not self.is_finished:
            self.is_finished = self.is_over = True
            events.append(self._reason)
            if usage is not None:
                events.append(UsageReported(_usage(usage)))


def whole_events(body: bytes) -> list[Event]:
    """The events of an answer that was not streamed. Raises `UpstreamError`, or a decoding error of msgspec."""
    answer = _decode_whole(body)
    message = answer.output.message if answer.output is not None else None
    if message is None:
        raise malformed("it holds no message")
    events: list[Event] = []
    tools = 0
    for block in message.content:
        if block.text:
            events.append(TextDelta(block.text))
        elif block.tool_use is not None:
            events.append(_call(tools, block.tool_use))
            given = block.tool_use.input
            arguments = msgspec.json.encode({} if given is None else given).decode()
            events.append(ToolCallDelta(tools, arguments=arguments))
            tools += 1
        elif block.reasoning_content is not None:
            reasoning = _OpenReasoning()
            reasoning.add(block.reasoning_content, events)
            reasoning.close(events)
    events.append(_finished(answer.stop_reason))
    if answer.usage is not None:
        events.append(UsageReported(_usage(answer.usage)))
    return events


def _call(number: int, tool: _ToolUse) -> ToolCallDelta:
    if not tool.name:
        raise malformed("a tool call has no name")
    return ToolCallDelta(number, tool.tool_use_id or f"call_{number}", tool.name)


def _exception(event: SseEvent) -> Exception:
    try:
        body = msgspec.json.decode(event.data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        body = None
    return failure_from_exception(event.event.removeprefix(EXCEPTION).decode("utf-8", "replace"), body)


def _finished(word: str | None) -> Finished:
    if word is None:
        raise cut()
    reason = STOP_REASONS.get(word)
    if reason is None:
        raise malformed("its stop reason says so, or is unknown")
    return Finished(reason)


def _usage(given: _Usage) -> Usage:
    """Disjoint classes that sum to the total. Some models count cached input in ``inputTokens``, others do not; the
    total says which it was.
    """
    output = max(given.output_tokens, 0)
    read = max(given.cache_read_input_tokens or 0, 0)
    written = max(given.cache_write_input_tokens or 0, 0)
    fresh = max(given.input_tokens, 0)
    if given.total_tokens is not None and 0 <= given.total_tokens - output - read - written < fresh:
        fresh = given.total_tokens - output - read - written
    hour = sum(max(detail.input_tokens, 0) for detail in given.cache_details or () if detail.ttl == "1h")
    hour = min(hour, written)
    return Usage(fresh, read, written - hour, hour, output_visible=output)
