"""The server's side of one connection: uvicorn's httptools protocol with hot paths answered by callbacks, and strict
limits.

It feeds the parser one message at a time (httptools cannot pause), so that at most one response is under way and
what a client pipelines waits as raw bytes. Hot requests are handed over complete, without a task or an ASGI hop; all
else runs in uvicorn's own cycle, under the same limits. It knows no product word: who is admitted is the handler's
business.
The invariant: after a refusal nothing more of the connection is read as a request, and a response in progress is
never mixed with another.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from roadbed.kernel.errors import RoadbedError
from roadbed.wire import errors
from roadbed.wire.hot import HotRoute, HotTable
from roadbed.wire.known_head import KnownHead, remember
from roadbed.wire.peer_certificate import SCOPE_KEY, PeerCertificate, is_local, peer_certificate
from roadbed.wire.request import STATUS_LINES, HotRequest, render_headers
from roadbed.wire.rules import blank_line_end, find_fault
from roadbed.wire.shared import Shared
from roadbed.wire.tuning import bound_reads

_IDLE, _HEAD, _LENGTH, _CHUNKED, _COUNTED, _WAIT, _LINGER, _CLOSED = range(8)
_CHUNK_FRAMING_BYTES = 24
_PIPELINED_READS_MAX = 4


class HotProtocol(HttpToolsProtocol):
    """One connection. Made by uvicorn through the class that ``hot_protocol`` returns."""

    shared: Shared
    certificate: PeerCertificate | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser = httptools.HttpRequestParser(self)
        self._routes = self.shared.table.routes
        self._limits = self.shared.limits
        self._state = _IDLE
        self._since = self.shared.sweep.now
        self._pending = bytearray()
        self._consuming = False
        self._draining = False
        self._write_paused_at = 0.0
        self._hot: HotRequest | None = None
        self._upgraded = False
        self._known_host: bytes | None = None
        self._known: KnownHead | None = None
        self._known_route: HotRoute | None = None
        self._version = ""
        self._keep_alive = False
        self._chunks = 0
        self._body_since = 0.0
        self._linger_left = 0
        self._start_message()

    def _start_message(self) -> None:
        self.url = b""
        self.headers = []
        self._tail = b""
        self._head_bytes = 0
        self._head_done = False
        self._message_done = False
        if self._upgraded:
            self.parser = httptools.HttpRequestParser(self)
            self._upgraded = False
        self._route: HotRoute | None = None
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._body_bytes_max = 0
        self._body_left = 0

    # The transport's calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        bound_reads(transport)
        if self.scheme == "https":
            self.certificate = peer_certificate(transport)
            if self.certificate is None and self.shared.table.requires_certificate and not is_local(self.client):
                self._start_request = self._refuse_stranger  # type: ignore[method-assign]
        self.shared.sweep.add(self, self.loop)
        self._since = self.shared.sweep.now

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: tell the handler or the application."""
        self.shared.sweep.discard(self)
        self._state = _CLOSED
        self._pending.clear()
        super().connection_lost(exc)
        self._lose_hot()

    def eof_received(self) -> None:
        """A half-close during a request cannot be told from a killed client: both count as leaving."""
        self._lose_hot()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._state == _IDLE and self._known is not None and self._consume_known(self._known, data):
            return
        if self._state == _WAIT:
            self._hold(data)
        else:
            self._consume(data)

    def pause_writing(self) -> None:
        """The write buffer passed its high mark."""
        super().pause_writing()
        self._write_paused_at = self.loop.time()

    def resume_writing(self) -> None:
        """The write buffer fell below its low mark."""
        super().resume_writing()
        if self._hot is not None:
            self._hot.writable_again()

    # Reading, one message at a time.

    def _hold(self, data: bytes) -> None:
        """Keep what a client pipelines until the response before it is out.

        Reads are paused only past the limit: a paused transport does not see the client leave.
        """
        pending = self._pending
        pending += data
        if len(pending) > self._limits.pipelined_bytes_max:
            if len(pending) > self._limits.pipelined_bytes_max * _PIPELINED_READS_MAX:
                self.transport.abort()
                return
            self.flow.pause_reading()

    def _consume(self, data: bytes) -> None:
        self._consuming = True
        try:
            while data:
                state = self._state
                if state <= _HEAD:
                    data = self._consume_head(data)
                elif state <= _COUNTED:
                    data = self._consume_body(data)
                elif state == _WAIT:
                    self._hold(data)
                    return
                elif state == _LINGER:
                    self._discard(len(data))
                    return
                else:
                    return
        finally:
            self._consuming = False

    def _consume_known(self, known: KnownHead, data: bytes) -> bool:
        """Begin a request whose head this connection has seen before; False when it has not."""
        found = known.match(data)
        route = self._known_route
        if found is None or route is None or self._draining or found[1] > route.body_bytes_max:
            return False
        end, length = found
        self._since = since = self.loop.time()
        hot = HotRequest(
            self, known.method, known.path, known.query, known.headers, known.index, self.client, since, True, True
        )
        hot.known = known
        self._hot = hot
        self._route = route
        if len(data) - end == length:
            self._state = _WAIT
            hot.body = data[end:]
            self._answer(route, hot)
            return True
        self._parts = []
        # The parser's last method and target are not this request's.
        self.url = known.path
        self._message_done = self._head_done = self.expect_100_continue = False
        self._body_bytes = 0
        self._body_bytes_max = route.body_bytes_max
        self._state = _COUNTED
        self._body_left = length
        self._body_since = since
        if len(data) > end:
            self._consume(data[end:])
        return True

    def _consume_head(self, data: bytes) -> bytes:
        if self._state == _IDLE:
            self._start_message()
            self._since = self.loop.time()
            self._state = _HEAD
            if data[0] in b"\r\n":
                self._refuse(errors.MalformedRequest("the request starts with a blank line"))
                return b""
        end = blank_line_end(self._tail, data)
        if not end:
            self._head_bytes += len(data)
            self._tail = (self._tail + data)[-3:]
            if self._feed_head(data):
                self._check_head_size()
            return b""
        head = data if end == len(data) else data[:end]
        self._head_bytes += len(head)
        if not self._feed_head(head):
            return b""
        if not self._head_done:
            self._refuse(errors.MalformedRequest("the request's head is malformed"))
        elif self._check_head_size():
            self._start_request(head if len(head) == self._head_bytes else b"")
        return data[end:] if end < len(data) else b""

    def _consume_body(self, data: bytes) -> bytes:
        if self._state == _LENGTH:
            piece = data if len(data) <= self._body_left else data[: self._body_left]
            self._body_left -= len(piece)
            if not self._feed(piece):
                return b""
        elif self._state == _CHUNKED:
            piece = data[: blank_line_end(self._tail, data) or len(data)]
            self._tail = (self._tail + piece)[-3:]
            self._head_bytes += len(piece)
            if not self._feed(piece) or self._is_chunked_too_large():
                return b""
        else:
            piece = data if len(data) <= self._body_left else data[: self._body_left]
            self._body_left -= len(piece)
            self.on_body(piece)
            self._message_done = self._body_left == 0
        if self._message_done:
            self._message_complete()
        return data[len(piece) :] if len(piece) < len(data) else b""

    def _is_chunked_too_large(self) -> bool:
        limits = self._limits
        if self._body_bytes > self._body_bytes_max:
            self._refuse(errors.BodyTooLarge(f"the request's body is over {self._body_bytes_max} bytes"))
            return True
        framing = self._head_bytes - self._body_bytes - self._chunks * _CHUNK_FRAMING_BYTES
        if framing > limits.chunk_extension_bytes_max + limits.trailer_bytes_max:
            self._refuse(errors.MalformedRequest("the request's chunk extensions or trailers are too long"))
            return True
        return False

    def _feed_head(self, data: bytes) -> bool:
        if self._feed(data):
            if data.isascii():
                return True
            self._refuse(errors.MalformedRequest("the request's head holds bytes outside ASCII"))
        return False

    def _feed(self, data: bytes) -> bool:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgraded = True
        except httptools.HttpParserError:
            self._refuse(errors.MalformedRequest("the request is not strict HTTP/1.1"))
            return False
        return True

    def _check_head_size(self) -> bool:
        limits = self._limits
        if len(self.url) > limits.target_bytes_max:
            self._refuse(errors.TargetTooLong(f"the request target is over {limits.target_bytes_max} bytes"))
        elif len(self.headers) > limits.header_lines_max:
            self._refuse(errors.HeadTooLarge(f"the request has over {limits.header_lines_max} header lines"))
        elif self._head_bytes - len(self.url) > limits.header_bytes_max:
            self._refuse(errors.HeadTooLarge(f"the request's headers are over {limits.header_bytes_max} bytes"))
        else:
            return True
        return False

    # The parser's calls: they record, and nothing else, because an exception in one poisons the parser.

    def on_message_begin(self) -> None:
        """A message starts (its state was reset before its first byte was fed)."""

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line; lines after the head are trailers, and dropped."""
        if not self._head_done:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete: note what the parser tells only now."""
        self._head_done = True
        self._version = self.parser.get_http_version()
        self._keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        if self._route is not None:
            self._parts.append(body)
        else:
            cycle = self.cycle
            if cycle.response_complete:
                self._discard(len(body))
            else:
                cycle.body += body
                if len(cycle.body) > self._limits.pipelined_bytes_max:
                    self.flow.pause_reading()
                cycle.message_event.set()

    def on_chunk_header(self) -> None:
        """A chunk starts."""
        self._chunks += 1

    def on_message_complete(self) -> None:
        """The message is complete, or, for an upgrade, its head is."""
        self._message_done = True

    # From a head to a response.

    def _start_request(self, head: bytes) -> None:
        """Check a complete head, find who answers it, and start. ``head`` is all of it, if it came in one read."""
        index = dict(self.headers)
        method = self.parser.get_method()
        fault = find_fault(method, self.url, self._version, self.headers, index, self._known_host)
        if fault is None and self._upgraded and b"transfer-encoding" in index:
            fault = errors.MalformedRequest("an upgrade with a chunked body is not supported")
        if fault is not None:
            self._refuse(fault)
            return
        path, _, query = self.url.partition(b"?")
        route = self._routes.get((method, path))
        if query or route is None:
            refusal = self.shared.table.check_target(self.url)
            if refusal is not None:
                self._refuse(refusal)
                return
        self._known_host = index.get(b"host")
        if self._upgraded and self._should_upgrade_to_websocket(index):
            self._hand_to_websocket()
            return
        limit = route.body_bytes_max if route is not None else self.shared.table.asgi_body_bytes_max(path)
        length = index.get(b"content-length")
        self._body_left = int(length) if length is not None else 0
        if self._body_left > limit:
            self._refuse(errors.BodyTooLarge(f"the request's body is over {limit} bytes"))
            return
        self._body_bytes_max = limit
        self._route = route
        keep_alive = self._keep_alive and self._version == "1.1" and not self._draining
        self.expect_100_continue = b"expect" in index and self._version == "1.1"
        self._enter_body(b"transfer-encoding" in index)
        if route is not None:
            is_chunkable = self._version == "1.1"
            self._known = remember(head, method, path, query, self.headers, index) if keep_alive and head else None
            self._known_route = route
            self._hot = HotRequest(
                self, method, path, query, self.headers, index, self.client, self._since, keep_alive, is_chunkable
            )
            if self.expect_100_continue and not self._message_done:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        else:
            self._start_asgi(keep_alive)
        if self._message_done and self._state != _LINGER:
            self._message_complete()

    def _refuse_stranger(self, head: bytes) -> None:
        """In place of `_start_request` on a connection that lacks the certificate that it needs."""
        self._refuse(errors.CertificateRequired("this server asks for a client's certificate"))

    def _enter_body(self, is_chunked: bool) -> None:
        if self._upgraded:
            # httptools takes an upgrade's head for the whole message. The upgrade is not taken here, so the body
            # (Java's client sends one with its `Upgrade: h2c`) is read by its length.
            self._message_done = self._body_left == 0
            self._state = _COUNTED
        elif is_chunked:
            self._state = _CHUNKED
            self._tail = b""
            self._head_bytes = self._chunks = 0
        else:
            self._state = _LENGTH
        self._body_since = self._since

    def _start_asgi(self, keep_alive: bool) -> None:
        """Hand the request to uvicorn's own cycle."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers = self.scope["headers"] = headers
        if self.certificate is not None:
            self.scope[SCOPE_KEY] = self.certificate  # type: ignore[typeddict-unknown-key]
        self.expect_100_continue = expects
        try:
            super().on_headers_complete()
        except httptools.HttpParserInvalidURLError:
            self._refuse(errors.MalformedRequest("the request target is malformed"))
            return
        self.cycle.keep_alive = keep_alive

    def _should_upgrade_to_websocket(self, index: dict[bytes, bytes]) -> bool:
        return index.get(b"upgrade", b"").lower() == b"websocket" and self._should_upgrade_to_ws()

    def _hand_to_websocket(self) -> None:
        headers, url = self.headers, self.url
        super().on_message_begin()
        self.url = url
        self.scope["headers"] = headers
        self.scope["method"] = "GET"
        self.shared.sweep.discard(self)
        self._state = _CLOSED
        self.handle_websocket_upgrade()

    def _message_complete(self) -> None:
        """The request is whole: call its handler, or tell its application."""
        self._state = _WAIT
        route, hot = self._route, self._hot
        if route is None or hot is None:
            self.cycle.more_body = False
            self.cycle.message_event.set()
            if self.cycle.response_complete:
                self._next_request()
            return
        parts = self._parts
        hot.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._answer(route, hot)

    def _answer(self, route: HotRoute, hot: HotRequest) -> None:
        try:
            route.handler.handle(hot)
        except Exception as error:  # the boundary of a handler: one request fails, the connection does not
            self.shared.table.fail(hot, error)

    # After a response.

    def response_ended(self, keep_alive: bool) -> None:
        """A hot response is out (called by the request)."""
        self._hot = None
        self.server_state.total_requests += 1
        if keep_alive and not self._draining:
            self._next_request()
        else:
            self._state = _CLOSED
            self.transport.close()

    def on_response_complete(self) -> None:
        """An ASGI response is out (called by uvicorn's cycle)."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._state == _WAIT:
            self._next_request()
        elif self.expect_100_continue and not self._body_bytes:
            self._linger()
        else:
            self._linger_left = self._limits.linger_bytes_max

    def _next_request(self) -> None:
        self._state = _IDLE
        self._since = self.shared.sweep.now
        if self._draining and not self._pending:
            self.transport.close()
        elif self._pending and not self._consuming:
            pending = bytes(self._pending)
            self._pending.clear()
            self.flow.resume_reading()
            self._consume(pending)

    def _refuse(self, error: RoadbedError) -> None:
        """Answer once, read nothing more as a request, and close when the client had a chance to see the answer."""
        cycle = self.cycle
        self._hot = None
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        headers, body = self.shared.table.refuse(error, self.url.partition(b"?")[0])
        head = b"%b%b%bcontent-length: %d\r\nconnection: close\r\n\r\n" % (
            STATUS_LINES[error.http_status],
            self.fixed_headers(),
            render_headers(headers),
            len(body),
        )
        is_bodiless = self._head_done and self.parser.get_method() == b"HEAD"
        self.transport.write(head if is_bodiless else head + body)
        self._linger()

    def _linger(self) -> None:
        """Close in two steps: a close with unread bytes resets the connection, and the client loses the answer."""
        self._state = _LINGER
        self._since = self.loop.time()
        self._linger_left = self._limits.linger_bytes_max
        self._pending.clear()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _discard(self, count: int) -> None:
        self._linger_left -= count
        if self._linger_left <= 0:
            self.transport.close()

    # Time limits and drain.

    def check(self, now: float) -> None:
        """Act on whatever is overdue (called by the sweep)."""
        limits, state = self._limits, self._state
        waited = now - self._since
        if self.flow.write_paused and now - self._write_paused_at > limits.stalled_reader_s:
            self.transport.abort()
        elif state == _IDLE:
            if waited > limits.keep_alive_s:
                self.transport.close()
        elif state == _HEAD:
            if waited > limits.head_s:
                self._refuse(errors.SlowRequest(f"the request's head took over {limits.head_s:g} s"))
        elif state == _LINGER:
            if waited > limits.linger_s:
                self.transport.close()
        elif state in (_LENGTH, _CHUNKED, _COUNTED):
            self._check_body(now)

    def _check_body(self, now: float) -> None:
        limits = self._limits
        is_asked_for = self._route is not None or not self.cycle.waiting_for_100_continue
        if self.flow.read_paused or not is_asked_for:
            self._body_since = now - self._body_bytes / limits.body_bytes_per_s_min
            return
        spent = now - self._body_since
        if spent > limits.body_grace_s and self._body_bytes < spent * limits.body_bytes_per_s_min:
            rate = limits.body_bytes_per_s_min
            self._refuse(errors.SlowRequest(f"the request's body came below {rate} bytes a second"))

    def shutdown(self) -> None:
        """Finish what is under way, then close (called by uvicorn when a drain begins)."""
        self._draining = True
        if self._state == _IDLE:
            self.transport.close()
        elif self._hot is not None:
            self._hot.close_after()
        elif self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def cut(self) -> None:
        """The drain time is over: let a stream say so, and close."""
        hot = self._hot
        if hot is not None:
            hot.shut_down()
        if not self.transport.is_closing():
            if self._hot is None:
                self.transport.close()
            else:
                self.transport.abort()

    def _lose_hot(self) -> None:
        hot, self._hot = self._hot, None
        if hot is not None:
            hot.client_left()

    # The request's side of the connection.

    def fixed_headers(self) -> bytes:
        """Header lines of every response."""
        return self.shared.fixed_headers(self.server_state.default_headers)

    def track_task(self, task: asyncio.Task[None]) -> None:
        """Let a drain wait for ``task``."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def task_failed(self, request: HotRequest, error: BaseException) -> None:
        """A request's task raised."""
        self.shared.table.fail(request, error)


def hot_protocol(table: HotTable) -> type[HotProtocol]:
    """The protocol class for one server, to be given to uvicorn as ``Config(http=...)``."""
    return type("BoundHotProtocol", (HotProtocol,), {"shared": Shared(table)})
