"""OpenAI chat completions as a dialect of our own callers: what ``openai_server.py`` reads and writes, on the seam that
all dialects of callers share.

The server finds this dialect here. Pure. The invariant is that file's: a stream that broke has no ``[DONE]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.dialects.citations import cited_in_chat, files_in_chat
from roadbed.gateway.dialects.openai_server import ChatChunks, Incoming, completion_bytes, decode_chat, error_object
from roadbed.gateway.types import Answer, Event
from roadbed.kernel.errors import RoadbedError


class ChatWriter(ChatChunks):
    """Writes one answer: ``whole``, or ``head``, ``events`` and ``end`` or ``error``."""

    __slots__ = ("_created_s", "_id", "_incoming")

    def __init__(self, trace_id: str, created_s: int, incoming: Incoming) -> None:
        # What chunks begin with is made by `head`: a whole answer needs none of it.
        self._id = f"chatcmpl-{trace_id}"
        self._created_s = created_s
        self._incoming = incoming

    def head(self) -> bytes:
        """The first chunk, which names the role. Call it before the others that write a stream."""
        incoming = self._incoming
        ChatChunks.__init__(self, self._id, self._created_s, incoming.model, include_usage=incoming.include_usage)
        return ChatChunks.head(self)

    def events(self, events: Iterable[Event]) -> bytes:
        """The chunks of some deltas."""
        chunk = self.event
        return b"".join([chunk(event) for event in events])

    def end(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The finish chunk, usage where it was asked for, and ``[DONE]``."""
        annotations = files_in_chat(annotations)
        if answer.marks:
            annotations += cited_in_chat(answer)
        tail = self.finish(answer.finish_reason or "stop", annotations=annotations or None, roadbed=roadbed)
        return tail + self.done(answer.usage)

    def whole(self, answer: Answer, *, annotations: list[dict[str, Any]], roadbed: Any) -> bytes:
        """The body of an answer that is not streamed."""
        annotations = files_in_chat(annotations)
        if answer.marks:
            annotations += cited_in_chat(answer)
        return completion_bytes(
            self._id, self._created_s, self._incoming.model, answer, annotations=annotations, roadbed=roadbed
        )


class ChatCallers:
    """The dialect ``openai``, spoken to our own callers."""

    name = "openai"
    id_header = ""
    decode = staticmethod(decode_chat)

    def writer(self, trace_id: str, created_s: int, incoming: Incoming) -> ChatWriter:
        """A writer for the answer to ``incoming``."""
        return ChatWriter(trace_id, created_s, incoming)

    def error_body(self, error: RoadbedError) -> bytes:
        """The body of an error response."""
        return msgspec.json.encode(error_object(error))

    def broken(self, error: RoadbedError) -> bytes:
        """As `ChatChunks.error`."""
        return b"data: %b\n\n" % self.error_body(error)
