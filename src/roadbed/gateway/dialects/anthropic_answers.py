"""Anthropic's answers, streamed and whole, to events: what a server of the dialect sends back.

Blocks are told apart by their index; a call's arguments come in pieces, usage is cumulative, and a block of reasoning
is given back whole once it is over, with the seal that its provider wants to see again. Unknown events, blocks and
deltas give nothing. The requests are in ``anthropic.py``. The invariant: no `Finished` that the server did not send.
"""

from __future__ import annotations

from typing import Any

import msgspec

from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
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

DIALECT = "anthropic"

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


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
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


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
    stop_sequence: str | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_StreamEvent).decode


class _Reasoning:
    """A block of reasoning while it comes in."""

    __slots__ = ("is_redacted", "seal", "text")

    def __init__(self, text: str, seal: str, *, is_redacted: bool) -> None:
        self.text = text
        self.seal = seal
        self.is_redacted = is_redacted


class AnthropicDecoder:
    """Events in, events out, for one answer. Usage counts are cumulative, so the last report holds."""

    __slots__ = ("_arguments_seen", "_reasoning", "_tools", "_usage", "is_finished", "is_over", "tool_count")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self.tool_count = 0
        self._tools: dict[int, int] = {}
        self._arguments_seen: set[int] = set()
        self._reasoning: dict[int, _Reasoning] = {}
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
                self._start_block(body.index, body.content_block, events)
            case "content_block_stop":
                self._stop_block(body.index, events)
            case "message_start" if body.message is not None and body.message.usage is not None:
                self._report(body.message.usage, events)
            case "message_delta":
                if body.delta is not None and body.delta.stop_reason is not None and not self.is_finished:
                    events.append(_finished(body.delta.stop_reason, body.delta.stop_sequence))
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

    def whole(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        try:
            answer = msgspec.json.decode(body, type=_Whole)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("it is not JSON of the dialect") from None
        if answer.type == "error":
            raise failure_from_object(msgspec.json.decode(body))
        events: list[Event] = []
        for number, block in enumerate(answer.content):
            self._start_block(number, block, events)
            if block.type == "tool_use":
                arguments = msgspec.json.encode({} if block.input is None else block.input).decode()
                events.append(ToolCallDelta(self._tools[number], arguments=arguments))
            else:
                self._stop_block(number, events)
        if answer.stop_reason is None:
            raise cut()
        events.append(_finished(answer.stop_reason, answer.stop_sequence))
        if answer.usage is not None:
            self._report(answer.usage, events)
        return events

    def _start_block(self, index: int, block: _Block, events: list[Event]) -> None:
        if block.type == "tool_use":
            if not block.name:
                raise malformed("a tool call has no name")
            self._tools[index] = self.tool_count
            events.append(ToolCallDelta(self.tool_count, block.id or f"call_{self.tool_count}", block.name))
            self.tool_count += 1
        elif block.type == "text" and block.text:
            events.append(TextDelta(block.text))
        elif block.type == "thinking":
            self._reasoning[index] = _Reasoning(block.thinking or "", block.signature or "", is_redacted=False)
            if block.thinking:
                events.append(ReasoningDelta(block.thinking))
        elif block.type == "redacted_thinking":
            self._reasoning[index] = _Reasoning("", block.data or "", is_redacted=True)

    def _delta(self, index: int, delta: _Delta, events: list[Event]) -> None:
        if delta.type == "text_delta" and delta.text:
            events.append(TextDelta(delta.text))
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index not in self._tools:
                raise malformed("a tool call's arguments came before its name")
            self._arguments_seen.add(index)
            events.append(ToolCallDelta(self._tools[index], arguments=delta.partial_json))
        elif delta.type == "thinking_delta" and delta.thinking:
            if index in self._reasoning:
                self._reasoning[index].text += delta.thinking
            events.append(ReasoningDelta(delta.thinking))
        elif delta.type == "signature_delta" and delta.signature and index in self._reasoning:
            self._reasoning[index].seal += delta.signature

    def _stop_block(self, index: int, events: list[Event]) -> None:
        if index in self._tools and index not in self._arguments_seen:
            events.append(ToolCallDelta(self._tools[index], arguments="{}"))
            self._arguments_seen.add(index)
        block = self._reasoning.pop(index, None)
        if block is not None and (block.text or block.seal):
            part = ReasoningPart(DIALECT, block.text, block.seal, block.is_redacted)
            events.append(ReasoningSealed(part))

    def _report(self, usage: _Usage, events: list[Event]) -> None:
        self._usage = _merged(self._usage, usage)
        events.append(UsageReported(self._usage))


def _finished(word: str, stop_sequence: str | None) -> Finished:
    reason = STOP_REASONS.get(word)
    if reason is None:
        raise malformed("its stop reason is unknown or asks to go on")
    return Finished(reason, stop_sequence or "")


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
