"""Answers in the Responses API: the events of a stream, and the whole response object.

Every event has an ``event:`` line and the next ``sequence_number``. Reasoning, message and calls are output items in
the order in which they began. A message's text stays open until other content or the end comes, because citations are
known at the end; calls stay open until the end, because their pieces may come in turns. The invariant: exactly one of
``response.completed``, ``response.incomplete`` and ``response.failed`` ends a stream, and holds all that was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from roadbed.gateway.dialects.citations import cited_addresses
from roadbed.gateway.dialects.responses_incoming import IncomingResponse
from roadbed.gateway.dialects.responses_reasoning import wrap
from roadbed.gateway.types import (
    Answer,
    Event,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from roadbed.kernel.errors import RoadbedError

ItemKind = Literal["reasoning", "message", "function_call"]
_ID_PREFIX: dict[ItemKind, str] = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

_encode = msgspec.json.encode


class _Part:
    """A content part of a message: ``kind`` is ``output_text`` or ``refusal``."""

    __slots__ = ("annotations", "kind", "pieces")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.annotations: list[dict[str, Any]] = []

    def object(self) -> dict[str, Any]:
        text = "".join(self.pieces)
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": self.annotations, "logprobs": []}


class _Item:
    """An output item as far as it has come. ``deltas`` begins the event of its next piece."""

    __slots__ = ("call_id", "deltas", "id", "index", "kind", "name", "parts", "pieces", "seal", "status")

    def __init__(self, kind: ItemKind, index: int, trace_id: str) -> None:
        self.kind: ItemKind = kind
        self.index = index
        self.id = f"{_ID_PREFIX[kind]}_{trace_id}_{index}"
        self.status = "in_progress"
        self.parts: list[_Part] = []
        self.pieces: list[str] = []
        self.call_id = self.name = ""
        self.seal: ReasoningPart | None = None
        self.deltas = b""

    def text(self) -> str:
        return "".join(self.pieces)

    def object(self) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self.id, "type": self.kind}
        if self.kind == "reasoning":
            item["summary"] = [{"type": "summary_text", "text": self.text()}] if self.pieces else []
            if self.seal is not None:
                item["encrypted_content"] = wrap(self.seal)
            return item | {"status": self.status} if self.status == "incomplete" else item
        item["status"] = self.status
        if self.kind == "message":
            return item | {"role": "assistant", "content": [part.object() for part in self.parts]}
        return item | {"call_id": self.call_id, "name": self.name, "arguments": self.text()}


class ResponseWriter:
    """Writes one answer: ``whole``, or ``head``, ``events`` and ``end`` or ``error``."""

    __slots__ = ("_calls", "_head", "_items", "_open", "_out", "_sequence", "_trace_id")

    def __init__(self, trace_id: str, created_s: int, incoming: IncomingResponse) -> None:
        self._trace_id = trace_id
        self._head = {"id": f"resp_{trace_id}", "object": "response", "created_at": created_s, "model": incoming.model}
        self._head |= incoming.echo
        self._items: list[_Item] = []
        self._open: _Item | None = None
        """The reasoning or message that further pieces belong to."""
        self._calls: dict[int, _Item] = {}
        self._sequence = 0
        self._out: list[bytes] = []

    def head(self) -> bytes:
        """The events before the first content."""
        self._event("response.created", {"response": self._response("in_progress")})
        self._event("response.in_progress", {"response": self._response("in_progress")})
        return self._taken()

    def events(self, events: Iterable[Event]) -> bytes:
        """The bytes of some deltas; events that are written at the end give nothing."""
        for event in events:
            match event:
                case TextDelta(text):
                    self._message_piece("output_text", text)
                case ToolCallDelta(index, id, name, arguments):
                    self._call_piece(index, id, name, arguments)
                case ReasoningDelta(text) if text:
                    item = self._opened("reasoning")
                    if not item.pieces:
                        self._start_summary(item)
                    self._piece(item, item.pieces, text)
                case ReasoningSealed(part):
                    item = self._opened("reasoning")
                    item.seal = part
                    self._close_open()
                case RefusalDelta(text):
                    self._message_piece("refusal", text)
                case _:
                    pass
        return self._taken()

    def end(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The end of a whole stream, with what Roadbed says about the answer."""
        response = self._finish(answer, annotations, roadbed)
        self._event(f"response.{response['status']}", {"response": response})
        return self._taken()

    def error(self, error: RoadbedError) -> bytes:
        """The end of a stream that broke: what was sent is repeated as incomplete. The codes of the dialect are a
        closed list, so ours goes beside them.
        """
        for item in self._items:
            if item.status == "in_progress":
                item.status = "incomplete"
        response = self._response("failed")
        code = "rate_limit_exceeded" if error.http_status == 429 else "server_error"
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        response["error"] = {"code": code, "message": message, "type": error.code}
        self._event("response.failed", {"response": response})
        return self._taken()

    def whole(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The body of an answer that is not streamed.

        `Answer` does not keep how reasoning and the rest took turns: reasoning comes first, then the text, the calls.
        """
        events: list[Event] = []
        if answer.reasoning:
            events.append(ReasoningDelta(answer.reasoning))
        events += [ReasoningSealed(part) for part in answer.sealed]
        if answer.text:
            events.append(TextDelta(answer.text))
        if answer.refusal:
            events.append(RefusalDelta(answer.refusal))
        events += [ToolCallDelta(n, call.id, call.name, call.arguments) for n, call in enumerate(answer.tool_calls)]
        self.events(events)
        return _encode(self._finish(answer, annotations, roadbed))

    # Pieces.

    def _message_piece(self, kind: str, text: str) -> None:
        item = self._opened("message")
        if not item.parts or item.parts[-1].kind != kind:
            self._close_part(item)
            part = _Part(kind)
            index = len(item.parts)
            place = self._place(item) | {"content_index": index}
            self._event("response.content_part.added", place | {"part": part.object()})
            item.parts.append(part)
            item.deltas = self._delta_of(f"response.{kind}.delta", place)
        self._piece(item, item.parts[-1].pieces, text)

    def _call_piece(self, index: int, id: str, name: str, arguments: str) -> None:
        item = self._calls.get(index)
        if item is None:
            self._close_open()
            item = self._calls[index] = _Item("function_call", len(self._items), self._trace_id)
            item.call_id, item.name = id or f"call_{self._trace_id}_{index}", name
            self._add(item)
            item.deltas = self._delta_of("response.function_call_arguments.delta", self._place(item))
        self._piece(item, item.pieces, arguments)

    def _start_summary(self, item: _Item) -> None:
        place = self._place(item) | {"summary_index": 0}
        part = {"type": "summary_text", "text": ""}
        self._event("response.reasoning_summary_part.added", place | {"part": part})
        item.deltas = self._delta_of("response.reasoning_summary_text.delta", place)

    @staticmethod
    def _delta_of(name: str, place: dict[str, Any]) -> bytes:
        """A delta's bytes up to its piece; a message's text has its ``logprobs`` there, too."""
        fields = {"type": name} | place | ({"logprobs": []} if name == "response.output_text.delta" else {})
        return b"event: %b\ndata: %b" % (name.encode(), _encode(fields)[:-1])

    def _piece(self, item: _Item, pieces: list[str], text: str) -> None:
        if not text:
            return
        pieces.append(text)
        self._out.append(b'%b,"delta":%b,"sequence_number":%d}\n\n' % (item.deltas, _encode(text), self._sequence))
        self._sequence += 1

    # Items.

    def _opened(self, kind: ItemKind) -> _Item:
        """The open item of this kind; another one is closed for it."""
        item = self._open
        if item is None or item.kind != kind:
            self._close_open()
            item = self._open = _Item(kind, len(self._items), self._trace_id)
            self._add(item)
        return item

    def _add(self, item: _Item) -> None:
        self._items.append(item)
        self._event("response.output_item.added", {"output_index": item.index, "item": item.object()})

    def _close_open(self, status: str = "completed") -> None:
        item, self._open = self._open, None
        if item is None:
            return
        if item.kind == "message":
            self._close_part(item)
        elif item.pieces:
            place = self._place(item) | {"summary_index": 0}
            text = item.text()
            self._event("response.reasoning_summary_text.done", place | {"text": text})
            part = {"type": "summary_text", "text": text}
            self._event("response.reasoning_summary_part.done", place | {"part": part})
        self._done(item, status)

    def _close_part(self, item: _Item) -> None:
        if not item.parts:
            return
        part = item.parts[-1]
        place = self._place(item) | {"content_index": len(item.parts) - 1}
        text = "".join(part.pieces)
        if part.kind == "refusal":
            self._event("response.refusal.done", place | {"refusal": text})
        else:
            self._event("response.output_text.done", place | {"text": text, "logprobs": []})
        self._event("response.content_part.done", place | {"part": part.object()})

    def _close_call(self, item: _Item, status: str) -> None:
        fields = {"name": item.name, "arguments": item.text()}
        self._event("response.function_call_arguments.done", self._place(item) | fields)
        self._done(item, status)

    def _done(self, item: _Item, status: str) -> None:
        item.status = status
        self._event("response.output_item.done", {"output_index": item.index, "item": item.object()})

    # The end.

    def _finish(self, answer: Answer, annotations: list[dict[str, Any]], roadbed: Any) -> dict[str, Any]:
        """Close what is open; the response object."""
        if not self._items and answer.finish_reason in ("stop", None):
            self._message_piece("output_text", "")
        self._annotate([*annotations, *cited_addresses(answer)] if answer.marks else annotations)
        reason = _INCOMPLETE.get(answer.finish_reason or "")
        last = self._items[-1] if self._items else None
        calls, self._calls = self._calls, {}
        self._close_open("incomplete" if reason and self._open is last else "completed")
        for item in calls.values():
            self._close_call(item, "incomplete" if reason and item is last else "completed")
        response = self._response("incomplete" if reason else "completed", answer.usage or Usage())
        if reason:
            response["incomplete_details"] = {"reason": reason}
        response["roadbed"] = roadbed
        return response

    def _annotate(self, annotations: list[dict[str, Any]]) -> None:
        """Put citations on the last text; where its part is over already, only the whole response shows them."""
        message = next((item for item in reversed(self._items) if item.kind == "message"), None)
        texts = [number for number, part in enumerate(message.parts) if part.kind == "output_text"] if message else []
        if message is None or not texts:
            return
        number = texts[-1]
        message.parts[number].annotations = annotations
        if message is not self._open or number != len(message.parts) - 1:
            return
        place = self._place(message) | {"content_index": number}
        for index, annotation in enumerate(annotations):
            fields = {"annotation_index": index, "annotation": annotation}
            self._event("response.output_text.annotation.added", place | fields)

    def _response(self, status: str, usage: Usage | None = None) -> dict[str, Any]:
        return self._head | {
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "output": [item.object() for item in self._items],
            "usage": None if usage is None else usage_object(usage),
        }

    # Bytes.

    @staticmethod
    def _place(item: _Item) -> dict[str, Any]:
        return {"item_id": item.id, "output_index": item.index}

    def _event(self, name: str, fields: dict[str, Any]) -> None:
        data = _encode({"type": name} | fields | {"sequence_number": self._sequence})
        self._out.append(b"event: %b\ndata: %b\n\n" % (name.encode(), data))
        self._sequence += 1

    def _taken(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out


def usage_object(usage: Usage) -> dict[str, Any]:
    """Counts as the dialect gives them: cached tokens inside the input, reasoning inside the output."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write_5m + usage.cache_write_1h,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.output_reasoning},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
