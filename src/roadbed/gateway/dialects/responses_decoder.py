"""Answers of the Responses API to events, streamed and whole.

A text may come as deltas, or only in the event that ends its part or item, or only in the response at the end:
servers differ, so each piece is taken where it first appears, and once. Nothing here ends an answer but
``response.completed`` and ``response.incomplete``, with a reason that is known. The invariant of ``base.py`` holds:
no finish that the server did not send.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.dialects.responses_reasoning import ReasoningItem, part_from_item
from roadbed.gateway.types import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.sse import SseEvent

TOOL_CALLS_MAX = 128
OUTPUT_PIECES_MAX = 4096
"""Items and parts of one answer."""

INCOMPLETE_REASONS: dict[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}


class _Details(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    refusal: str | None = None


class _Item(msgspec.Struct, gc=False):
    """An output item. ``encrypted_content`` and what else seals reasoning is read from the whole item."""

    type: str = ""
    content: list[_Part] | None = None
    summary: list[_Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None


class _Reason(msgspec.Struct, gc=False):
    reason: str | None = None


class _Response(msgspec.Struct, gc=False):
    status: str | None = None
    output: list[msgspec.Raw] | None = None
    error: Any = None
    incomplete_details: _Reason | None = None
    usage: _Usage | None = None


class _StreamEvent(msgspec.Struct, gc=False):
    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    text: str | None = None
    refusal: str | None = None
    arguments: Any = None
    item: msgspec.Raw = msgspec.Raw()
    response: _Response | None = None
    error: Any = None


_decode_event = msgspec.json.Decoder(_StreamEvent).decode
_decode_item = msgspec.json.Decoder(_Item).decode
_decode_reasoning = msgspec.json.Decoder(ReasoningItem).decode
_BROKEN = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

_Place = tuple[str, int, int]


class ResponsesDecoder:
    """Events in, events out, for one answer. ``is_over`` with its one terminal event, which holds the usage, too."""

    __slots__ = ("_calls", "_has_content", "_last_summary", "_sealed", "_seen", "is_finished", "is_over")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self._seen: set[_Place] = set()
        self._calls: dict[int, int] = {}
        self._sealed: set[int] = set()
        self._last_summary: _Place | None = None
        self._has_content = False

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one server-sent event; bookkeeping and unknown types give none."""
        data = event.data
        if data[:6] == b"[DONE]":
            return []
        try:
            body = _decode_event(data)
        except _BROKEN:
            self._raise_undecodable(data)
        if body.error is not None:
            raise _failure(data)
        events: list[Event] = []
        place = body.output_index
        match body.type or event.event.decode("latin-1"):
            case "response.output_text.delta":
                self._piece("text", place, body.content_index, body.delta, events)
            case "response.output_text.done":
                self._whole("text", place, body.content_index, body.text, events)
            case "response.function_call_arguments.delta":
                self._arguments(place, body.delta, events)
            case "response.function_call_arguments.done":
                self._arguments(place, body.arguments, events, is_whole=True)
            case "response.refusal.delta":
                self._piece("refusal", place, body.content_index, body.delta, events)
            case "response.refusal.done":
                self._whole("refusal", place, body.content_index, body.refusal, events)
            case "response.reasoning_summary_text.delta":
                self._piece("summary", place, body.summary_index, body.delta, events)
            case "response.reasoning_summary_text.done":
                self._whole("summary", place, body.summary_index, body.text, events)
            case "response.reasoning_text.delta":
                self._piece("reasoning", place, body.content_index, body.delta, events)
            case "response.reasoning_text.done":
                self._whole("reasoning", place, body.content_index, body.text, events)
            case "response.output_item.added":
                self._begin_item(place, bytes(body.item), events)
            case "response.output_item.done":
                self.take_item(place, bytes(body.item), events)
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" as name:
                self._terminal(name.removeprefix("response."), body.response or _Response(), events)
            case "error":
                raise _failure(data)
            case _:
                pass
        return events

    def finish(self) -> None:
        """The body has ended; raises when no terminal event came."""
        if not self.is_finished:
            raise cut()

    # Pieces: each is taken where it first appears.

    def _mark(self, place: _Place) -> None:
        """A piece is seen."""
        self._seen.add(place)
        if len(self._seen) > OUTPUT_PIECES_MAX:
            raise malformed("it has too many parts")

    def _piece(self, kind: str, output: int, index: int, text: Any, events: list[Event]) -> None:
        if not isinstance(text, str):
            raise malformed("a delta is not a string")
        if not text:
            return
        place = (kind, output, index)
        self._mark(place)
        if kind == "text":
            events.append(TextDelta(text))
        elif kind == "refusal":
            events.append(RefusalDelta(text))
        else:
            # Parts of a summary are paragraphs of what was shown.
            is_next = self._last_summary is not None and self._last_summary != place
            events.append(ReasoningDelta("\n\n" + text if is_next else text))
            self._last_summary = place
            return
        self._has_content = True

    def _whole(self, kind: str, output: int, index: int, text: str | None, events: list[Event]) -> None:
        if text and (kind, output, index) not in self._seen:
            self._piece(kind, output, index, text, events)

    def _arguments(self, output: int, arguments: Any, events: list[Event], *, is_whole: bool = False) -> None:
        number = self._calls.get(output)
        if number is None:
            raise malformed("a tool call's arguments came before its name")
        place = ("arguments", output, 0)
        if not arguments or (is_whole and place in self._seen):
            return
        self._mark(place)
        text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
        events.append(ToolCallDelta(number, arguments=text))

    # Items.

    def _begin_item(self, output: int, data: bytes, events: list[Event]) -> None:
        item = _item(data)
        if item.type == "function_call":
            self._begin_call(output, item, events)

    def _begin_call(self, output: int, item: _Item, events: list[Event]) -> None:
        if output not in self._calls:
            if not item.name:
                raise malformed("a tool call has no name")
            if len(self._calls) >= TOOL_CALLS_MAX:
                raise malformed("it has too many tool calls")
            number = self._calls[output] = len(self._calls)
            events.append(ToolCallDelta(number, item.call_id or f"call_{number}", item.name))
            self._has_content = True
        self._arguments(output, item.arguments, events, is_whole=True)

    def take_item(self, output: int, data: bytes, events: list[Event]) -> None:
        """A whole item: what of it has not been seen."""
        item = _item(data)
        if item.type == "function_call":
            self._begin_call(output, item, events)
        elif item.type == "message":
            for index, part in enumerate(item.content or ()):
                self._whole("text", output, index, part.text if part.type == "output_text" else None, events)
                self._whole("refusal", output, index, part.refusal if part.type == "refusal" else None, events)
        elif item.type == "reasoning" and output not in self._sealed:
            for kind, parts in (("summary", item.summary), ("reasoning", item.content)):
                for index, part in enumerate(parts or ()):
                    self._whole(kind, output, index, part.text, events)
            self._sealed.add(output)
            self._last_summary = None
            self._seal(data, events)

    @staticmethod
    def _seal(data: bytes, events: list[Event]) -> None:
        try:
            part = part_from_item(_decode_reasoning(data))
        except _BROKEN:
            raise malformed("a reasoning item is not of the dialect") from None
        if part.seal:
            events.append(ReasoningSealed(part))

    # The end.

    def _terminal(self, status: str, response: _Response, events: list[Event]) -> None:
        if self.is_finished:
            raise malformed("it ended twice")
        if status in ("failed", "cancelled"):
            raise failure_from_object({"error": response.error or {}})
        if not self._has_content:
            for output, item in enumerate(response.output or ()):
                self.take_item(output, bytes(item), events)
        events.append(Finished(self._reason(status, response)))
        if response.usage is not None:
            events.append(UsageReported(_usage(response.usage)))
        self.is_finished = self.is_over = True

    def _reason(self, status: str, response: _Response) -> FinishReason:
        if status == "completed":
            return "tool_calls" if self._calls else "stop"
        details = response.incomplete_details
        reason = INCOMPLETE_REASONS.get((details.reason if details is not None else None) or "")
        if reason is None:
            raise malformed("why it is incomplete is unknown")
        return reason

    def end_whole(self, response: _Response) -> list[Event]:
        """The events of a response that was not streamed."""
        events: list[Event] = []
        if response.status not in ("completed", "incomplete", "failed", "cancelled"):
            raise cut()
        self._terminal(response.status, response, events)
        return events

    @staticmethod
    def _raise_undecodable(data: bytes) -> NoReturn:
        try:
            value = msgspec.json.decode(data)
        except _BROKEN:
            raise malformed("an event is not JSON") from None
        if isinstance(value, dict) and (value.get("type") == "error" or value.get("error")):
            raise _failure(data)
        raise malformed("an event is not of the dialect") from None


def events_of_body(body: bytes) -> list[Event]:
    """The events of an answer that was not streamed."""
    try:
        raw = msgspec.json.decode(body)
        if not isinstance(raw, dict) or "output" not in raw:
            if isinstance(raw, dict) and raw.get("error"):
                raise failure_from_object(raw)
            raise malformed("it is not a response")
        response = msgspec.json.decode(body, type=_Response)
    except _BROKEN:
        raise malformed("it is not JSON of the dialect") from None
    return ResponsesDecoder().end_whole(response)


def _failure(data: bytes) -> Exception:
    """The failure of an ``error`` event, whose fields stand beside its type or in an object of their own."""
    value = msgspec.json.decode(data)
    if isinstance(value.get("error"), dict):
        return failure_from_object(value)
    return failure_from_object({"error": {name: value.get(name) for name in ("code", "message", "param")}})


def _item(data: bytes) -> _Item:
    try:
        return _decode_item(data)
    except _BROKEN:
        raise malformed("an output item is not of the dialect") from None


def _usage(usage: _Usage) -> Usage:
    given = max(usage.input_tokens or 0, 0)
    made = max(usage.output_tokens or 0, 0)
    inside = usage.input_tokens_details
    cached = min(max(inside.cached_tokens or 0, 0), given) if inside else 0
    written = min(max(inside.cache_write_tokens or 0, 0), given - cached) if inside else 0
    outside = usage.output_tokens_details
    reasoning = min(max(outside.reasoning_tokens or 0, 0), made) if outside else 0
    return Usage(
        input_uncached=given - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output_visible=made - reasoning,
        output_reasoning=reasoning,
    )
