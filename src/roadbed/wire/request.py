"""One request on a hot path, and everything its handler may do with it: answer, stream, wait for room, learn of a
leaving client.

It belongs to one connection and one turn of it: complete when handed over, dead once its response ended or its
client left (then every write is dropped in silence, so that handlers need no race-free check). It does no parsing
and no admission.
The invariant: a response is framed by this file alone; a handler gives headers without ``content-length``,
``transfer-encoding``,
``connection`` or ``date``.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from roadbed.wire.known_head import KnownHead
from roadbed.wire.peer_certificate import PeerCertificate

Headers = Sequence[tuple[bytes, bytes]]

_OPEN, _STREAMING, _ENDED = 0, 1, 2
_BODILESS = frozenset((204, 304))


def _status_lines() -> dict[int, bytes]:
    phrases = {status.value: status.phrase for status in http.HTTPStatus}
    return {code: f"HTTP/1.1 {code} {phrases.get(code, '')}\r\n".encode() for code in range(200, 600)}


STATUS_LINES = _status_lines()


def render_headers(headers: Headers | bytes) -> bytes:
    """Header lines as bytes, each with its CRLF. Bytes are taken as rendered earlier by this function.

    Raises ``ValueError`` where a name or value would break the head apart.
    """
    if isinstance(headers, bytes):
        return headers
    block = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    count = len(headers)
    if block.count(b"\n") != count or block.count(b"\r") != count or b"\0" in block:
        raise ValueError("a response header holds a line break or NUL")
    return block


class HotConnection(Protocol):
    """What a request needs of its connection."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    scheme: Any
    certificate: PeerCertificate | None
    flow: Any
    """``write_paused``: whether the transport's buffer is over its high mark."""

    def fixed_headers(self) -> bytes:
        """Header lines of every response (date)."""

    def response_ended(self, keep_alive: bool) -> None:
        """The response is out: go on with the next request, or close."""

    def track_task(self, task: asyncio.Task[None]) -> None:
        """Count a task among those that a drain waits for."""

    def task_failed(self, request: HotRequest, error: BaseException) -> None:
        """A task of this request raised."""


class HotRequest:
    """A complete request. ``headers`` are lower-cased pairs in order; ``path`` and ``query`` are raw bytes.

    ``context`` is the handler's own. ``known`` is set where this connection has sent the same head before: its
    ``memo`` keeps what a handler found out from the head alone. ``received_at`` is the loop's time at the request's
    first byte: a deadline counts from there.
    """

    # Defaults on the class: setting all of them on each request would cost 1 us.
    body: bytes = b""
    context: Any = None
    known: KnownHead | None = None
    status = 0
    _phase = _OPEN
    _gone = False
    _on_disconnect: Callable[[], None] | None = None
    _on_drain: Callable[[], None] | None = None
    _on_shutdown: Callable[[], None] | None = None
    _task: asyncio.Task[None] | None = None

    def __init__(
        self,
        connection: HotConnection,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        index: dict[bytes, bytes],
        peer: tuple[str, int] | None,
        received_at: float,
        keep_alive: bool,
        chunked: bool,
    ) -> None:
        self._connection = connection
        self._transport = connection.transport
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self._index = index
        self.peer = peer
        self.received_at = received_at
        self._keep_alive = keep_alive
        self._chunked = chunked

    def get(self, name: bytes) -> bytes | None:
        """The value of a header by its lower-case name; the last one where it came twice."""
        return self._index.get(name)

    @property
    def scheme(self) -> str:
        """``http`` or ``https``, as this server was spoken to."""
        return str(self._connection.scheme)

    @property
    def certificate(self) -> PeerCertificate | None:
        """The client's certificate, verified, where it showed one."""
        return self._connection.certificate

    @property
    def is_disconnected(self) -> bool:
        """Whether the client left before its response ended."""
        return self._gone

    @property
    def is_started(self) -> bool:
        """Whether a status line has been sent."""
        return self.status != 0

    @property
    def is_ended(self) -> bool:
        """Whether nothing more can be sent: the response ended, or the client left."""
        return self._phase == _ENDED

    @property
    def is_writable(self) -> bool:
        """Whether the transport takes more bytes without growing past its high mark (64 KiB)."""
        return not self._gone and not self._connection.flow.write_paused

    def send(self, status: int, headers: Headers | bytes = b"", body: bytes = b"") -> None:
        """Send a whole response."""
        if self._phase != _OPEN:
            if self._gone:
                return
            raise RuntimeError("the response has been started already")
        head = self._head(status, headers, b"" if status in _BODILESS else b"content-length: %d\r\n" % len(body))
        self._transport.write(head if status in _BODILESS or self.method == b"HEAD" else head + body)
        self._end()

    def start_stream(self, status: int, headers: Headers | bytes = b"", first: bytes = b"") -> None:
        """Send the head of a response whose length is not known; ``first`` goes out with it in one packet."""
        if self._phase != _OPEN:
            if self._gone:
                return
            raise RuntimeError("the response has been started already")
        if not self._chunked:
            self._keep_alive = False
        head = self._head(status, headers, b"transfer-encoding: chunked\r\n" if self._chunked else b"")
        self._phase = _STREAMING
        self._transport.write(head + self._frame(first) if first else head)

    def write(self, chunk: bytes) -> bool:
        """Send a piece of a stream, and tell `is_writable`. Join what belongs together first: each call is a packet."""
        if self._phase != _STREAMING:
            if self._gone:
                return False
            raise RuntimeError("no stream is open")
        if chunk and self.method != b"HEAD":
            self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk)
        return not self._connection.flow.write_paused

    def end(self, last: bytes = b"") -> None:
        """End a stream, with its last piece if there is one."""
        if self._phase != _STREAMING:
            if self._gone:
                return
            raise RuntimeError("no stream is open")
        tail = self._frame(last) if last else b""
        if self._chunked and self.method != b"HEAD":
            tail += b"0\r\n\r\n"
        if tail:
            self._transport.write(tail)
        self._end()

    def abort(self) -> None:
        """Close the connection at once, so that the client sees a broken response and not a short one."""
        self._keep_alive = False
        self._transport.abort()

    def on_disconnect(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` once if the client leaves before the response ends (soon, if it has left already)."""
        if self._gone:
            if callback is not None:
                self._connection.loop.call_soon(callback)
            return
        self._on_disconnect = callback

    def on_drain(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` once when ``is_writable`` turns true again (soon, if it is true)."""
        if callback is not None and (self._gone or self.is_writable):
            self._connection.loop.call_soon(callback)
            return
        self._on_drain = callback

    def on_shutdown(self, callback: Callable[[], None] | None) -> None:
        """Call ``callback`` once when the server's drain time is over: the last chance to say so in the stream."""
        self._on_shutdown = callback

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` for this request: an exception becomes a 500, a leaving client cancels it, a drain waits for
        it.
        """
        task = self._connection.loop.create_task(work)
        self._task = task
        self._connection.track_task(task)
        task.add_done_callback(self._task_done)
        return task

    def fail(self, error: Exception) -> None:
        """A callback of this request's handler raised: end it as a failed task would."""
        self._connection.task_failed(self, error)

    # The connection's side.

    def client_left(self) -> None:
        """The connection is lost (called by the connection)."""
        if self._phase == _ENDED:
            return
        self._gone = True
        self._phase = _ENDED
        callback, self._on_disconnect = self._on_disconnect, None
        drained, self._on_drain = self._on_drain, None
        self._on_shutdown = None
        if self._task is not None and not self._task.done():
            self._task.cancel()
        if callback is not None:
            callback()
        if drained is not None:
            drained()

    def writable_again(self) -> None:
        """The transport's buffer fell below its low mark (called by the connection)."""
        callback, self._on_drain = self._on_drain, None
        if callback is not None:
            callback()

    def close_after(self) -> None:
        """Do not keep the connection alive after this response (called by the connection)."""
        self._keep_alive = False

    def shut_down(self) -> None:
        """The drain time is over (called by the connection)."""
        callback, self._on_shutdown = self._on_shutdown, None
        if callback is not None:
            callback()

    def _head(self, status: int, headers: Headers | bytes, framing: bytes) -> bytes:
        block = headers if type(headers) is bytes else render_headers(headers)
        head = b"%b%b%b%b" % (STATUS_LINES[status], self._connection.fixed_headers(), block, framing)
        self.status = status
        return head + (b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")

    def _frame(self, chunk: bytes) -> bytes:
        if self.method == b"HEAD":
            return b""
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._chunked else chunk

    def _end(self) -> None:
        self._phase = _ENDED
        if self._on_disconnect is not None:
            self._on_disconnect = None
        self._on_drain = self._on_shutdown = None
        self._connection.response_ended(self._keep_alive)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._connection.task_failed(self, error)
