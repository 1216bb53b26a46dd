"""Anthropic Messages, written to our own callers: events to server-sent events, whole messages, errors.

Blocks follow one another as documented: each is started, filled and stopped before the next one starts, whatever the
order in which an endpoint of another dialect sends its pieces. Each event has its ``event:`` line, because the
official SDK goes by it. The invariant: a stream that broke gets an ``error`` event and no ``message_stop``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.dialects.anthropic_answers import DIALECT, PROVIDER_CALLS, SAID_AS_IT_IS
from roadbed.gateway.dialects.citations import location_of
from roadbed.gateway.types import (
    OWN_CITATION,
    Answer,
    Cited,
    Event,
    ProviderBlock,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    TextEnded,
    ToolCallDelta,
    Usage,
)
from roadbed.kernel.errors import RoadbedError

STOP_WORDS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

_encode = msgspec.json.encode


class MessageWriter:
    """Writes one answer: ``whole``, or ``head``, ``events`` and ``end``."""

    __slots__ = ("_arguments", "_block", "_calls", "_held", "_id", "_index", "_model", "_request_id")

    def __init__(self, trace_id: str, model: str) -> None:
        self._id = f"msg_{trace_id}"
        self._request_id = f"req_{trace_id}"
        self._model = model
        self._index = -1
        self._block: str | int = ""  # what the open block holds: "text", "thinking", the number of a call, or nothing
        self._calls: dict[int, int] = {}  # the block of each call that has begun
        self._arguments = ""  # of the call in the open block, as far as they have come
        self._held: list[Event] = []

    def head(self) -> bytes:
        """``message_start``. What was used is not known yet and is said at the end."""
        message = self._message([], None, "", Usage())
        return _event(b"message_start", _encode({"type": "message_start", "message": message}))

    def events(self, events: Iterable[Event]) -> bytes:
        """The blocks of some deltas."""
        out: list[bytes] = []
        for event in events:
            if self._must_wait(event):
                self._held.append(event)
            else:
                self._take(event, out)
        return b"".join(out)

    def end(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The end of a whole answer: ``message_delta`` with what it used, then ``message_stop``."""
        out: list[bytes] = []
        for event in _gathered(self._held):
            self._take(event, out)
        self._close(out)
        body: dict[str, Any] = {
            "type": "message_delta",
            "delta": {
                "stop_reason": _stop_reason(answer),
                "stop_sequence": answer.stop_sequence or None,
                **({"stop_details": answer.stop_details} if answer.stop_details is not None else {}),
            },
            "usage": usage_object(answer.usage or Usage()),
            "roadbed": roadbed,
        }
        out += [_event(b"message_delta", _encode(body)), _event(b"message_stop", b'{"type":"message_stop"}')]
        return b"".join(out)

    def error(self, error: RoadbedError) -> bytes:
        """The end of an answer that broke: nothing may follow."""
        return _event(b"error", _encode(error_object(error, self._request_id)))

    def whole(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The body of an answer that is not streamed."""
        message = self._message(_blocks(answer), _stop_reason(answer), answer.stop_sequence, answer.usage or Usage())
        if answer.stop_details is not None:
            message["stop_details"] = answer.stop_details
        message["roadbed"] = roadbed
        return _encode(message)

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, stop_sequence: str, usage: Usage
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": stop_sequence or None,
            "usage": usage_object(usage),
        }

    def _must_wait(self, event: Event) -> bool:
        """Endpoints of other dialects may send pieces of several calls by turns: all else waits for the open call."""
        if not isinstance(self._block, int) or (isinstance(event, ToolCallDelta) and event.index == self._block):
            return False
        return bool(self._held) or not isinstance(_json(self._arguments), dict)

    def _take(self, event: Event, out: list[bytes]) -> None:
        match event:
            case TextDelta(text) | RefusalDelta(text):
                self._open("text", _TEXT, out)
                out.append(self._delta(b'{"type":"text_delta","text":%b}' % _encode(text)))
            case ToolCallDelta(index, id, name, arguments):
                if index not in self._calls:
                    self._close(out)
                    self._calls[index], self._arguments = self._index + 1, ""
                    self._start(index, _encode({"type": "tool_use", "id": id, "name": name, "input": {}}), out)
                if arguments:
                    self._arguments += arguments if index == self._block else ""
                    delta = b'{"type":"input_json_delta","partial_json":%b}' % _encode(arguments)
                    out.append(self._delta(delta, self._calls[index]))
            case ReasoningDelta(text):
                self._open("thinking", _THINKING, out)
                out.append(self._delta(b'{"type":"thinking_delta","thinking":%b}' % _encode(text)))
            case ReasoningSealed(part):
                self._seal(part, out)
            case TextEnded() if self._block == "text":
                self._close(out)
            case Cited(dialect, fields) if dialect in (DIALECT, OWN_CITATION):
                citation = fields if dialect == DIALECT else location_of(fields)
                self._open("text", _TEXT, out)
                out.append(self._delta(b'{"type":"citations_delta","citation":%b}' % _encode(citation)))
            case ProviderBlock(dialect, fields) if dialect == DIALECT:
                self._provider_block(fields, out)
            case _:
                pass

    def _seal(self, part: ReasoningPart, out: list[bytes]) -> None:
        """A block of reasoning is over. One that is not Anthropic's has no signature that could be given."""
        if part.dialect == DIALECT and part.is_redacted:
            self._close(out)
            self._start("thinking", _encode({"type": "redacted_thinking", "data": part.seal}), out)
        elif part.dialect == DIALECT and part.seal:
            self._open("thinking", _THINKING, out)  # a block that is not shown has had no delta yet
            out.append(self._delta(b'{"type":"signature_delta","signature":%b}' % _encode(part.seal)))
        if self._block == "thinking":
            self._close(out)

    def _provider_block(self, fields: dict[str, Any], out: list[bytes]) -> None:
        """A block of a tool that the provider ran, as it came; a call's input comes as a delta."""
        self._close(out)
        given = fields.get("input") if fields.get("type") in PROVIDER_CALLS else None
        self._start("provider", _encode(fields if given is None else {**fields, "input": {}}), out)
        if given:
            text = _encode(given).decode()
            out.append(self._delta(b'{"type":"input_json_delta","partial_json":%b}' % _encode(text)))
        self._close(out)

    def _open(self, kind: str, block: bytes, out: list[bytes]) -> None:
        """Be in a block of this kind."""
        if self._block != kind:
            self._close(out)
            self._start(kind, block, out)

    def _start(self, kind: str | int, block: bytes, out: list[bytes]) -> None:
        self._index += 1
        self._block = kind
        data = b'{"type":"content_block_start","index":%d,"content_block":%b}' % (self._index, block)
        out.append(_event(b"content_block_start", data))

    def _delta(self, delta: bytes, index: int | None = None) -> bytes:
        number = self._index if index is None else index
        return _DELTA % (number, delta)

    def _close(self, out: list[bytes]) -> None:
        """Stop the open block, if there is one."""
        if self._block != "":
            self._block = ""
            out.append(_event(b"content_block_stop", b'{"type":"content_block_stop","index":%d}' % self._index))


_TEXT = b'{"type":"text","text":""}'
_THINKING = b'{"type":"thinking","thinking":"","signature":""}'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n'


def _event(name: bytes, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, data)


def _gathered(events: list[Event]) -> list[Event]:
    """The same events with all pieces of a call at the place of its first one."""
    gathered: list[Event] = []
    places: dict[int, int] = {}
    for event in events:
        if not isinstance(event, ToolCallDelta):
            gathered.append(event)
        elif event.index not in places:
            places[event.index] = len(gathered)
            gathered.append(event)
        else:
            first = gathered[places[event.index]]
            assert isinstance(first, ToolCallDelta)
            arguments = first.arguments + event.arguments
            gathered[places[event.index]] = ToolCallDelta(event.index, first.id, first.name, arguments)
    return gathered


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    """The content of a whole answer: reasoning first, as it must come back, then text, then calls."""
    blocks: list[dict[str, Any]] = []
    for part in answer.sealed:
        if part.dialect == DIALECT and part.is_redacted:
            blocks.append({"type": "redacted_thinking", "data": part.seal})
        elif part.dialect == DIALECT:
            blocks.append({"type": "thinking", "thinking": part.text, "signature": part.seal})
    if answer.reasoning and not blocks:
        blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": ""})
    blocks += _texts(answer)
    for call in answer.tool_calls:
        given = _json(call.arguments or "{}")
        # What a model wrote that is no object cannot stand here as it is; this key is the documented way to show it.
        arguments = given if isinstance(given, dict) else {"INVALID_JSON": call.arguments}
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
    return blocks


def _texts(answer: Answer) -> list[dict[str, Any]]:
    """The text in its blocks, with what each cites, and the provider's own blocks between them."""
    blocks: list[dict[str, Any]] = []
    citations: list[dict[str, Any]] = []
    begin = 0

    def end_block(text: str) -> None:
        if text or citations:
            block = {"type": "text", "text": text}
            blocks.append({**block, "citations": citations[:]} if citations else block)
            citations.clear()

    for place, mark in answer.marks:
        match mark:
            case Cited(dialect, fields) if dialect in (DIALECT, OWN_CITATION):
                citations.append(fields if dialect == DIALECT else location_of(fields))
            case ProviderBlock(dialect, fields) if dialect == DIALECT:
                end_block(answer.text[begin:place])
                begin = place
                blocks.append(fields)
            case TextEnded():
                end_block(answer.text[begin:place])
                begin = place
    end_block(answer.text[begin:] + answer.refusal)
    return blocks


def _stop_reason(answer: Answer) -> str:
    if answer.stop_word in SAID_AS_IT_IS:
        return answer.stop_word
    if answer.refusal:
        return "refusal"
    if answer.stop_sequence and answer.finish_reason == "stop":
        return "stop_sequence"
    return STOP_WORDS[answer.finish_reason or "stop"]


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage as Messages show it: ``input_tokens`` leaves out what was read from a cache or written to it."""
    written = usage.cache_write_5m + usage.cache_write_1h
    shown: dict[str, Any] = {
        "input_tokens": usage.input_uncached,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output_tokens,
    }
    if written:
        shown["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.output_reasoning:
        shown["output_tokens_details"] = {"thinking_tokens": usage.output_reasoning}
    return shown


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_object(error: RoadbedError, request_id: str | None = None) -> dict[str, Any]:
    """The dialect's own error shape. ``code`` is ours: the dialect's types are few."""
    status = error.http_status
    kind = _ERROR_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    inner = {"type": kind, "message": message, "code": error.code}
    return {"type": "error", "error": inner, "request_id": request_id}
