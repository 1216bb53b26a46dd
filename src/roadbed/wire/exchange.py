"""One request to an upstream and its response, as seen by whoever sent it: callbacks in order, a handle to stop or
slow it.

Order: ``on_head`` once, ``on_data`` any number of times, then exactly one of ``on_complete`` and ``on_error``;
``on_error`` may come at any point before. After ``abort`` nothing is called any more. Callbacks run on the loop,
never inside ``send``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

import msgspec

from roadbed.wire.address import Url
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.request import Headers, render_headers
from roadbed.wire.sweep import Sweep
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

_USUALLY_BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
RESPONSE_BYTES_MAX = 64 * 1024 * 1024


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """What to send. ``headers`` hold no framing, ``host`` or ``connection``; bytes are taken as rendered already.

    ``credential_class`` keeps pools apart: connections are never shared between two classes. ``rendered`` is what the
    pool's `Pool.render` gave for the same method, URL and headers before.
    """

    method: bytes
    url: Url
    headers: Headers | bytes = b""
    body: bytes = b""
    trust: TrustDomain = DEFAULT_TRUST
    credential_class: str = ""
    rendered: bytes = b""
    response_bytes_max: int = RESPONSE_BYTES_MAX

    def render(self, target_prefix: bytes, fixed_lines: bytes) -> bytes:
        """The request's head as it goes on the wire; its pool knows the two fixed parts."""
        if self.rendered:
            return b"%b%d\r\n\r\n" % (self.rendered, len(self.body))
        headers = self.headers
        block = headers if type(headers) is bytes else render_headers(headers)
        if self.body or self.method not in _USUALLY_BODILESS:
            return b"%b %b%b HTTP/1.1\r\n%b%bcontent-length: %d\r\n\r\n" % (
                self.method,
                target_prefix,
                self.url.target,
                fixed_lines,
                block,
                len(self.body),
            )
        return b"%b %b%b HTTP/1.1\r\n%b%b\r\n" % (self.method, target_prefix, self.url.target, fixed_lines, block)


class ResponseHead:
    """A response's status and headers; names are lower-case."""

    __slots__ = ("_index", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._index = dict(headers)

    def get(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name; the last one where it came twice."""
        return self._index.get(name)

    @property
    def content_type(self) -> bytes:
        """The content type in lower case; empty where there is none."""
        return self._index.get(b"content-type", b"").lower()


class ResponseHandler(Protocol):
    """Who is told of a response."""

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers are here."""

    def on_data(self, data: bytes) -> None:
        """A piece of the body: all that one read brought."""

    def on_complete(self) -> None:
        """The response is whole."""

    def on_error(self, error: UpstreamFailed) -> None:
        """There is no whole response, and will be none."""


class Carrier(Protocol):
    """What carries an exchange just now: a place in the queue or a connection."""

    def drop(self, exchange: Exchange) -> None:
        """Stop carrying it: it was aborted or is overdue."""

    def overdue(self, exchange: Exchange) -> UpstreamFailed:
        """The error of an exchange whose time is over."""

    def pause_reading(self) -> None:
        """Read no more of the response for now."""

    def resume_reading(self) -> None:
        """Read on."""


class _Nobody:
    """Takes the place of a handler that needs nothing more.

    A handler usually holds its exchange: let go of here, both are freed at once and not by the garbage collector.
    """

    def on_head(self, head: ResponseHead) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_complete(self) -> None: ...

    def on_error(self, error: UpstreamFailed) -> None: ...


_NOBODY = _Nobody()


class Exchange:
    """A request under way."""

    carrier: Carrier | None = None
    on_response: Callable[[ResponseHead, bytes], None] | None = None
    """Called with a response that came whole in one read, in place of the handler."""

    has_head = False
    is_sent = False
    is_done = False
    is_retried = False

    def __init__(
        self,
        request: UpstreamRequest,
        handler: ResponseHandler,
        connect_by: float,
        head_by: float,
        complete_by: float | None,
        watch: Sweep[Exchange],
    ) -> None:
        self.request = request
        self.handler = handler
        self.connect_by = connect_by
        self.head_by = head_by
        self.complete_by = complete_by
        self._watch = watch

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch the time limits (called by the client)."""
        watch, due, complete_by = self._watch, self.head_by if self.is_sent else self.connect_by, self.complete_by
        if watch.is_beating:
            watch.members.add(self)
        else:
            watch.add(self, loop)
        # Nearly always nothing is due before the next beat, and the sweep's own time says so without a call.
        if due < watch.soon or (complete_by is not None and complete_by < watch.soon) or self.is_done:
            self.check(loop.time())

    def check(self, now: float) -> None:
        """Fail if overdue (called by the sweep). What is due before the next beat gets a timer, so that limits are
        met exactly.
        """
        if self.is_done:
            self._watch.discard(self)
            return
        due = self.connect_by if not self.is_sent else self.head_by if not self.has_head else math.inf
        if self.complete_by is not None and self.complete_by < due:
            due = self.complete_by
        if due <= now:
            if self.carrier is not None:
                self.fail(self.carrier.overdue(self))
        elif due - now < self._watch.interval_s:
            loop = asyncio.get_running_loop()
            loop.call_at(due, self._check_now, loop)

    def _check_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check(loop.time())

    def complete(self) -> ResponseHandler:
        """End well (called by the connection, which has let go of it, and now tells the handler)."""
        self.is_done = True
        self.carrier = self.on_response = None
        self._watch.members.discard(self)
        handler, self.handler = self.handler, _NOBODY
        return handler

    def abort(self) -> None:
        """Stop: the connection is closed at once, and the handler is not called again."""
        if not self.is_done:
            self.is_done = True
            self._leave()

    def pause_reading(self) -> None:
        """Let the upstream wait: the reader is slower than the response."""
        if self.carrier is not None and not self.is_done:
            self.carrier.pause_reading()

    def resume_reading(self) -> None:
        """Go on after ``pause_reading``."""
        if self.carrier is not None and not self.is_done:
            self.carrier.resume_reading()

    def fail(self, error: UpstreamFailed) -> None:
        """End with ``error`` (called by what carries it)."""
        if not self.is_done:
            self.is_done = True
            handler = self.handler
            self._leave()
            handler.on_error(error)

    def _leave(self) -> None:
        self.handler = _NOBODY
        self.on_response = None
        self._watch.members.discard(self)
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.drop(self)
