"""Writing chat answers to callers: streamed or whole, with their facts and headers, and errors in OpenAI's shape.

Shared by the ordinary and the short way of ``/v1/chat/completions``, so that both look the same. The invariant: the
head of a stream goes out with its first text, and a stream that broke has no ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.dialects.openai_server import ChatChunks, Incoming, completion_bytes, error_object
from roadbed.gateway.limits import RateExceeded
from roadbed.gateway.types import Answer, Event
from roadbed.kernel.errors import RoadbedError
from roadbed.ledger.trace import Trace
from roadbed.wire.request import HotRequest, render_headers

JSON_HEADER = b"content-type: application/json\r\n"
SSE_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
)


def send_error(request: HotRequest, error: RoadbedError, extra: bytes = b"") -> None:
    """Answer with an error in OpenAI's shape; inside a started stream, end it with an error event."""
    body = msgspec.json.encode(error_object(error))
    if request.is_started:
        request.end(b"data: " + body + b"\n\n")
        return
    headers = JSON_HEADER + extra
    if isinstance(error, RateExceeded):
        headers += error.headers
    if error.retry_after_s is not None:
        headers += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    if not error.retryable or error.http_status >= 500:
        headers += b"x-should-retry: false\r\n"
    if error.http_status == 401:
        headers += b"www-authenticate: Bearer\r\n"
    request.send(error.http_status, headers, body)


class Reply:
    """Writes one answer."""

    __slots__ = ("_chunks", "_created_s", "_headers", "_id", "_incoming", "_request", "_trace")

    def __init__(self, request: HotRequest, incoming: Incoming, trace: Trace, release: str) -> None:
        self._request = request
        self._incoming = incoming
        self._trace = trace
        self._id = f"chatcmpl-{trace.id}"
        self._created_s = int(time.time())
        self._chunks: ChatChunks | None = None
        # Both are made of letters and digits by their makers, so they cannot break the head.
        self._headers = f"x-roadbed-release: {release}\r\nx-roadbed-trace: {trace.id}\r\n".encode("ascii")
        if trace.ticket is not None:
            self._headers += trace.ticket.headers

    def events(self, events: Iterable[Event]) -> None:
        """Pass deltas on in one packet, when the caller streams."""
        if not self._incoming.stream:
            return
        chunk = self._stream().event
        piece = b"".join([chunk(event) for event in events])
        if self._request.is_started:
            self._request.write(piece)
        else:
            self._start(piece)

    def _stream(self) -> ChatChunks:
        if self._chunks is None:
            incoming = self._incoming
            self._chunks = ChatChunks(self._id, self._created_s, incoming.model, include_usage=incoming.include_usage)
        return self._chunks

    def _start(self, piece: bytes) -> None:
        rung = (self._trace.rung or "full").encode("ascii")
        headers = b"%b%bx-roadbed-rung: %b\r\n" % (SSE_HEADERS, self._headers, rung)
        self._request.start_stream(200, headers, self._stream().head() + piece)

    async def drained(self) -> None:
        """Wait until the client reads again."""
        if self._request.is_disconnected:
            return
        writable = asyncio.Event()
        self._request.on_drain(writable.set)
        await writable.wait()

    def failed(self, error: RoadbedError) -> None:
        """End with an error."""
        send_error(self._request, error, self._headers + b"x-roadbed-rung: refused\r\n")

    def finished(
        self,
        answer: Answer,
        annotations: list[dict[str, Any]],
        facts: Any,
        dropped: tuple[str, ...] = (),
    ) -> None:
        """End with the whole answer; ``facts`` is what Roadbed says about it."""
        if dropped:
            names = ", ".join(dropped).encode("ascii", "backslashreplace")
            self._headers += render_headers([(b"x-roadbed-dropped", names)])
        if not self._incoming.stream:
            body = completion_bytes(
                self._id, self._created_s, self._incoming.model, answer, annotations=annotations, roadbed=facts
            )
            rung = (self._trace.rung or "full").encode("ascii")
            headers = b"%b%bx-roadbed-rung: %b\r\n" % (JSON_HEADER, self._headers, rung)
            self._request.send(200, headers, body)
            return
        chunks = self._stream()
        tail = chunks.finish(answer.finish_reason or "stop", annotations=annotations or None, roadbed=facts)
        tail += chunks.done(answer.usage)
        if not self._request.is_started:
            self._start(b"")
        self._request.end(tail)
