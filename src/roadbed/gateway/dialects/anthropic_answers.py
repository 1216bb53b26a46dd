"""Anthropic's answers, streamed and whole, to events: what a server of the dialect sends back.

Blocks are told apart by their index; a call's arguments come in pieces, usage is cumulative, and a block of reasoning
is given back whole once it is over, with the seal that its provider wants to see again. Unknown events, blocks and
deltas give nothing. The requests are in ``anthropic.py``. The invariant: no `Finished` that the server did not send.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.types import (
    Cited,
    Event,
    Finished,
    FinishReason,
    ProviderBlock,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    TextEnded,
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
    "pause_turn": "length",
}
"""A turn that pauses is not over, so that for other dialects it is an answer that is cut short."""

SAID_AS_IT_IS = frozenset({"pause_turn", "model_context_window_exceeded"})
"""Stop reasons that say more than their counterpart in other dialects."""

RUN_BY_A_PROVIDER = re.compile(r"(?:web_search|web_fetch|code_execution|tool_search_tool_(?:regex|bm25))_\d{8}")
"""Types of tools that Anthropic runs itself: they add blocks of their own to an answer."""

PROVIDER_CALLS = frozenset({"server_tool_use", "mcp_tool_use"})


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
    citations: list[dict[str, Any]] | None = None


class _Delta(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None
    citation: dict[str, Any] | None = None


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
    stop_details: dict[str, Any] | None = None
    usage: _Usage | None = None


class _RawContent(msgspec.Struct, gc=False):
    content: list[dict[str, Any]] = []


class _RawBlock(msgspec.Struct, gc=False):
    content_block: dict[str, Any]


_decode_event = msgspec.json.Decoder(_StreamEvent).decode
_decode_raw_block = msgspec.json.Decoder(_RawBlock).decode


class _Reasoning:
    """A block of reasoning while it comes in."""

    __slots__ = ("is_redacted", "seal", "text")

    def __init__(self, text: str, seal: str, *, is_redacted: bool) -> None:
        self.text = text
        self.seal = seal
        self.is_redacted = is_redacted


class AnthropicDecoder:
    """Events in, events out, for one answer. Usage counts are cumulative, so the last report holds."""

    __slots__ = (
        "_arguments_seen", "_has_text", "_provider_calls", "_reasoning", "_tools", "_usage", "is_finished", "is_over",
        "tool_count",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self.tool_count = 0
        self._tools: dict[int, int] = {}
        self._arguments_seen: set[int] = set()
        self._reasoning: dict[int, _Reasoning] = {}
        self._usage = Usage()
        self._has_text = False
        self._provider_calls: dict[int, tuple[dict[str, Any], list[str]]] = {}

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
                if is_provider_block(body.content_block.type):
                    self._start_provider_block(body.index, _decode_raw_block(event.data).content_block, events)
            case "content_block_stop":
                self._stop_block(body.index, events)
            case "message_start" if body.message is not None and body.message.usage is not None:
                self._report(body.message.usage, events)
            case "message_delta":
                if body.delta is not None and body.delta.stop_reason is not None and not self.is_finished:
                    events.append(_finished(body.delta))
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
            if is_provider_block(block.type):
                raw = msgspec.json.decode(body, type=_RawContent).content[number]
                events.append(ProviderBlock(DIALECT, raw))
                self._has_text = False
                continue
            self._start_block(number, block, events)
            if block.type == "tool_use":
                arguments = msgspec.json.encode({} if block.input is None else block.input).decode()
                events.append(ToolCallDelta(self._tools[number], arguments=arguments))
            else:
                self._stop_block(number, events)
        if answer.stop_reason is None:
            raise cut()
        events.append(_finished(answer))
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
        elif block.type == "text":
            if self._has_text:
                events.append(TextEnded())
                self._has_text = False
            if block.text:
                self._has_text = True
                events.append(TextDelta(block.text))
            events += [Cited(DIALECT, citation) for citation in block.citations or ()]
        elif block.type == "thinking":
            self._reasoning[index] = _Reasoning(block.thinking or "", block.signature or "", is_redacted=False)
            if block.thinking:
                events.append(ReasoningDelta(block.thinking))
        elif block.type == "redacted_thinking":
            self._reasoning[index] = _Reasoning("", block.data or "", is_redacted=True)

    def _start_provider_block(self, index: int, fields: dict[str, Any], events: list[Event]) -> None:
        """A block of a tool that the provider runs: the result comes whole, the call's input in pieces."""
        self._has_text = False
        if fields.get("type") in PROVIDER_CALLS:
            self._provider_calls[index] = (fields, [])
        else:
            events.append(ProviderBlock(DIALECT, fields))

    def _delta(self, index: int, delta: _Delta, events: list[Event]) -> None:
        if delta.type == "text_delta" and delta.text:
            self._has_text = True
            events.append(TextDelta(delta.text))
        elif delta.type == "citations_delta" and delta.citation is not None:
            events.append(Cited(DIALECT, delta.citation))
        elif delta.type == "input_json_delta" and delta.partial_json:
            if index in self._provider_calls:
                self._provider_calls[index][1].append(delta.partial_json)
                return
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
        called = self._provider_calls.pop(index, None)
        if called is not None:
            fields, pieces = called
            events.append(ProviderBlock(DIALECT, {**fields, "input": _input_of("".join(pieces), fields)}))
        block = self._reasoning.pop(index, None)
        if block is not None and (block.text or block.seal):
            part = ReasoningPart(DIALECT, block.text, block.seal, block.is_redacted)
            events.append(ReasoningSealed(part))

    def _report(self, usage: _Usage, events: list[Event]) -> None:
        self._usage = _merged(self._usage, usage)
        events.append(UsageReported(self._usage))


def is_provider_block(kind: str) -> bool:
    """Whether blocks of this type are of tools that the provider runs."""
    return kind in PROVIDER_CALLS or (kind.endswith("_tool_result") and kind != "tool_result")


def _input_of(text: str, fields: dict[str, Any]) -> Any:
    if not text:
        return fields.get("input") or {}
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise malformed("the input of a provider's tool is not JSON") from None


def _finished(end: _Delta | _Whole) -> Finished:
    word = end.stop_reason or ""
    reason = STOP_REASONS.get(word)
    if reason is None:
        raise malformed("its stop reason is unknown")
    return Finished(reason, end.stop_sequence or "", word if word in SAID_AS_IT_IS else "", end.stop_details)


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
