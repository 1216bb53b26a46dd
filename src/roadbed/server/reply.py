"""Writing answers to callers in their dialect: streamed or whole, with facts and headers, and errors in its shape.

Shared by the ordinary and the short way of routes and by apps, so that all look the same. The invariant: the head of a
stream goes out with its first text, or with the first heartbeat, and a stream that broke never looks whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, cast

from roadbed.gateway.dialects.base import AnswerWriter, CallerDialect, CallerRequest
from roadbed.gateway.dialects.openai_caller import ChatWriter
from roadbed.gateway.limits import RateExceeded
from roadbed.gateway.types import Answer, Event
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import PUBLIC, Label
from roadbed.ledger.trace import Trace
from roadbed.wire.request import HotRequest

JSON_HEADER = b"content-type: application/json\r\n"
SSE_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache, no-transform\r\n"
    b"x-accel-buffering: no\r\n"
)
DROPPED_CHARACTERS_MAX = 1000
HEARTBEAT = b": still waiting for the model\n\n"


def send_error(request: HotRequest, error: RoadbedError, dialect: CallerDialect, extra: bytes = b"") -> None:
    """Answer with an error in the dialect's shape, before anything else was sent."""
    headers = JSON_HEADER + extra
    if isinstance(error, RateExceeded):
        headers += error.headers
    if error.retry_after_s is not None:
        headers += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    if not error.retryable or error.http_status >= 500:
        headers += b"x-should-retry: false\r\n"
    if error.http_status == 401:
        headers += b"www-authenticate: Bearer\r\n"
    request.send(error.http_status, headers, dialect.error_body(error))


def dropped_value(names: Iterable[str]) -> str:
    """Names of fields as one header's value. They are the caller's, so whatever could break a head is escaped."""
    return ", ".join(names).encode("unicode_escape").decode("ascii")[:DROPPED_CHARACTERS_MAX]


def label_header(label: Label) -> bytes:
    """The header that says what an answer is made of; a label's words are letters, digits and hyphens."""
    return b"x-roadbed-label: %b\r\n" % ",".join(label.words()).encode("ascii", "replace")


class Reply:
    """Writes one answer."""

    __slots__ = ("_dialect", "_headers", "_incoming", "_is_started", "_request", "_trace", "_writer")

    def __init__(
        self, request: HotRequest, incoming: CallerRequest, trace: Trace, release: str, dialect: CallerDialect
    ) -> None:
        self._request = request
        self._incoming = incoming
        self._trace = trace
        self._dialect = dialect
        self._writer: AnswerWriter | None = None
        self._is_started = False
        # Both are made of letters and digits by their makers, so they cannot break the head.
        self._headers = f"x-roadbed-release: {release}\r\nx-roadbed-trace: {trace.id}\r\n".encode("ascii")
        if trace.ticket is not None:
            self._headers += trace.ticket.headers
        if dialect.id_header:
            self._headers += f"{dialect.id_header}: req_{trace.id}\r\n".encode("ascii")

    def events(self, events: Iterable[Event], dropped: tuple[str, ...] = ()) -> None:
        """Pass deltas on in one packet, when the caller streams. ``dropped`` goes into the head."""
        if not self._incoming.stream:
            return
        writer = self._writer
        if writer is None:
            writer = self._made()
            self._start(writer.head() + writer.events(events), dropped)
        else:
            self._request.write(writer.events(events))

    @property
    def is_streamed(self) -> bool:
        """Whether the caller streams."""
        return self._incoming.stream

    @property
    def is_telling(self) -> bool:
        """Whether something of the answer, or its end, is out."""
        return self._writer is not None or self._request.is_ended

    def heartbeat(self, dropped: tuple[str, ...] = ()) -> None:
        """Tell a caller who streams that the answer is under way; the first time this answers 200."""
        if not self._is_started or self._request.is_writable:
            self._start(HEARTBEAT, dropped)

    def text_frame(self) -> tuple[bytes, bytes] | None:
        """`ChatWriter.text_frame` of a stream that has begun; None before its head was written."""
        writer: Any = self._writer
        return cast(ChatWriter, writer).text_frame() if writer is not None else None

    def _made(self) -> AnswerWriter:
        self._writer = self._dialect.writer(self._trace.id, int(time.time()), self._incoming)
        return self._writer

    def _start(self, piece: bytes, dropped: tuple[str, ...]) -> None:
        if self._is_started:
            self._request.write(piece)
            return
        self._is_started = True
        self._request.start_stream(200, self._head(SSE_HEADERS, dropped), piece)

    def _head(self, kind: bytes, dropped: tuple[str, ...]) -> bytes:
        rung = (self._trace.rung or "full").encode("ascii")
        headers = b"%b%bx-roadbed-rung: %b\r\n" % (kind, self._headers, rung)
        if self._trace.label is not PUBLIC:
            headers += label_header(self._trace.label)
        if rung == b"cached":
            headers += self._age()
        return headers + f"x-roadbed-dropped: {dropped_value(dropped)}\r\n".encode("ascii") if dropped else headers

    def _age(self) -> bytes:
        """How old an answer is that was given again, in whole seconds."""
        return b"x-roadbed-age: %d\r\n" % int(float(self._trace.attributes.get("cache_age_s") or 0.0))

    async def drained(self) -> None:
        """Wait until the client reads again."""
        if self._request.is_disconnected:
            return
        writable = asyncio.Event()
        self._request.on_drain(writable.set)
        await writable.wait()

    def failed(self, error: RoadbedError) -> None:
        """End with an error; nothing comes after it."""
        if self._writer is not None:
            self._request.end(self._writer.error(error))
        elif self._is_started:
            writer = self._made()
            self._request.end(writer.head() + writer.error(error))
        else:
            send_error(self._request, error, self._dialect, self._headers + b"x-roadbed-rung: refused\r\n")

    def finished(
        self,
        answer: Answer,
        annotations: list[dict[str, Any]],
        facts: Any,
        dropped: tuple[str, ...] = (),
    ) -> None:
        """End with the whole answer; ``facts`` is what Roadbed says about it."""
        if not self._incoming.stream:
            body = self._made().whole(answer, annotations=annotations, roadbed=facts)
            self._request.send(200, self._head(JSON_HEADER, dropped), body)
            return
        writer = self._writer
        if writer is None:
            writer = self._made()
            self._start(writer.head(), dropped)
        self._request.end(writer.end(answer, annotations=annotations, roadbed=facts))
