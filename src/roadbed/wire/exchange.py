"""One request to an upstream and its response, as seen by whoever sent it: callbacks in order, a handle to stop or
slow it.

Order: ``on_head`` once, ``on_data`` any number of times, then exactly one of ``on_complete`` and ``on_error``;
``on_error`` may come at any point before. After ``abort`` nothing is called any more. Callbacks run on the loop,
never inside ``send``.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from roadbed.wire.address import Url
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.request import Headers, render_headers
from roadbed.wire.sweep import Sweep
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

RESPONSE_BYTES_MAX = 64 * 1024 * 1024


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """What to send. ``headers`` hold no framing, ``host`` or ``connection``; bytes are taken as rendered already.

    ``credential_class`` keeps pools apart: connections are never shared between two classes.
    """

    method: bytes
    url: Url
    headers: Headers | bytes = b""
    body: bytes = b""
    trust: TrustDomain = DEFAULT_TRUST
    credential_class: str = ""
    response_bytes_max: int = RESPONSE_BYTES_MAX

    def render(self, is_proxied: bool, proxy_authorization: bytes | None) -> bytes:
        """The request's head as it goes on the wire."""
        origin = self.url.origin
        target = b"http://" + origin.host_header + self.url.target if is_proxied else self.url.target
        framing = b""
        if self.body or self.method not in (b"GET", b"HEAD", b"DELETE", b"OPTIONS"):
            framing = b"content-length: %d\r\n" % len(self.body)
        if is_proxied and proxy_authorization is not None:
            framing += b"proxy-authorization: %b\r\n" % proxy_authorization
        return b"%b %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b%b\r\n" % (
            self.method,
            target,
            origin.host_header,
            self.headers if type(self.headers) is bytes else render_headers(self.headers),
            framing,
        )


class ResponseHead:
    """A response's status and headers; names are lower-case."""

    __slots__ = ("_index", "headers", "status")

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._index: dict[bytes, bytes] | None = None

    def get(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name; the last one where it came twice."""
        if self._index is None:
            self._index = dict(self.headers)
        return self._index.get(name)


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


class Exchange:
    """A request under way."""

    __slots__ = (
        "_watch",
        "carrier",
        "complete_by",
        "connect_by",
        "handler",
        "has_head",
        "head_by",
        "is_done",
        "is_retried",
        "is_sent",
        "request",
    )

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
        self.carrier: Carrier | None = None
        self.has_head = False
        self.is_sent = False
        self.is_done = False
        self.is_retried = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start to watch the time limits (called by the client)."""
        self._watch.add(self, loop)
        self.check(loop.time())

    def check(self, now: float) -> None:
        """Fail if overdue (called by the sweep). What is due before the next beat gets a timer, so that limits are
        met exactly.
        """
        if self.is_done:
            self._watch.discard(self)
            return
        due = self.connect_by if not self.is_sent else self.head_by if not self.has_head else self.complete_by
        if due is None:
            return
        if due <= now:
            if self.carrier is not None:
                self.fail(self.carrier.overdue(self))
        elif due - now < self._watch.interval_s:
            loop = asyncio.get_running_loop()
            loop.call_at(due, self._check_now, loop)

    def _check_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check(loop.time())

    def complete(self) -> None:
        """End well (called by the connection, which has let go of it)."""
        self.is_done = True
        self.carrier = None
        self._watch.members.discard(self)

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
            self._leave()
            self.handler.on_error(error)

    def _leave(self) -> None:
        self._watch.members.discard(self)
        carrier, self.carrier = self.carrier, None
        if carrier is not None:
            carrier.drop(self)
