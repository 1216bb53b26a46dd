"""One connection to an upstream: sends one request at a time and turns the bytes that come back into an exchange's
callbacks.

The parser's callbacks only record; the exchange's handler is called after each read is parsed, so that all small
pieces of one read come as one. The invariant: a connection is given back for reuse only when its response was
complete, framed, kept alive and followed by no byte, and the request had left in full.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools

from roadbed.wire import errors
from roadbed.wire.exchange import Exchange, ResponseHead
from roadbed.wire.framing import CHUNK_BYTES_MAX, SIZE_LINES, is_one_chunk
from roadbed.wire.known_head import KnownResponse, remember_response
from roadbed.wire.tuning import bound_reads

HEAD_BYTES_MAX = 64 * 1024
JOINED_WRITE_BYTES_MAX = 64 * 1024
GUESSES_MAX = 8
GUESSES_REST = 1000
_FRAMING_FACTOR = 16
_FRAMING_BYTES_MIN = 2 * HEAD_BYTES_MAX


class ConnectionOwner(Protocol):
    """The pool, as a connection sees it."""

    name: str
    target_prefix: bytes
    fixed_lines: bytes
    known: KnownResponse | None
    """The head of the last whole response that came, if it is to be looked for."""
    guesses_left: int
    """How many heads may be kept without one that came again; below zero, responses until the next try."""

    def released(self, connection: UpstreamConnection) -> None:
        """The connection is free for another request."""

    def lost(self, connection: UpstreamConnection) -> None:
        """The connection is closed or closing."""

    def send_again(self, exchange: Exchange) -> None:
        """The connection closed under a request before the upstream can have seen it: once more, on a fresh one."""


class UpstreamConnection(asyncio.Protocol):
    """A connection and the exchange that it carries, if any."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self.exchange: Exchange | None = None
        self.expires_at = 0.0
        self.idle_since = 0.0
        self.is_reused = False
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._is_kept = self._is_until_eof = self._is_complete = self._has_extra = self._is_paused = False
        self._is_between_chunks = False
        self._status = self._wire_bytes = self._body_bytes = 0

    @property
    def is_usable(self) -> bool:
        """Whether a request can be sent now."""
        return self.transport is not None and self.exchange is None and not self.transport.is_closing()

    def start(self, exchange: Exchange) -> None:
        """Send the request of ``exchange``."""
        transport = self.transport
        assert transport is not None
        self.exchange = exchange
        exchange.carrier = self
        exchange.is_sent = True
        request = exchange.request
        owner = self._owner
        head = request.render(owner.target_prefix, owner.fixed_lines)
        if len(request.body) <= JOINED_WRITE_BYTES_MAX:
            transport.write(head + request.body)
        else:
            transport.write(head)
            transport.write(request.body)

    # The exchange's side.

    def drop(self, exchange: Exchange) -> None:
        """The exchange was aborted: HTTP/1.1 has nothing softer than closing."""
        if self.exchange is exchange:
            self.exchange = None
            self.close()

    def overdue(self, exchange: Exchange) -> errors.UpstreamFailed:
        """The error of an exchange whose time is over."""
        if exchange.has_head:
            return errors.ResponseTimeout(f"the response of {self._owner.name} was not complete in time")
        return errors.HeadTimeout(f"{self._owner.name} sent no response in time")

    def pause_reading(self) -> None:
        """Let the upstream wait."""
        if not self._is_paused and self.transport is not None:
            self._is_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Close at once."""
        self._owner.lost(self)
        if self.transport is not None:
            self.transport.abort()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        bound_reads(transport)

    def eof_received(self) -> None:
        """The upstream closed its side."""
        self._ended(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._ended(exc)

    def _ended(self, error: Exception | None) -> None:
        self._owner.lost(self)
        exchange = self.exchange
        if exchange is None:
            return
        if self._is_until_eof and error is None:
            self._finish(exchange)
        elif self.is_reused and not self._wire_bytes and not exchange.is_retried:
            self.exchange = None
            self._owner.send_again(exchange)
        else:
            what = "before its response was complete" if self._wire_bytes else "without a response"
            exchange.fail(errors.ResponseCut(f"{self._owner.name} closed the connection {what}"))

    def data_received(self, data: bytes) -> None:
        """Bytes from the upstream."""
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        count = len(data)
        if self._is_between_chunks and count <= CHUNK_BYTES_MAX:
            size_line = SIZE_LINES[count]
            if data.startswith(size_line) and data.endswith(b"\r\n"):  # the parser would be where it is
                self._wire_bytes += count
                self._hand_over(exchange, data[len(size_line) : -2])
                return
        if not self._wire_bytes and exchange.on_response is not None and self._take_known(exchange, data):
            return
        self._wire_bytes += count
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._is_complete:
                self._deliver(exchange)
                exchange.fail(errors.ResponseMalformed(f"{self._owner.name} does not answer in strict HTTP/1.1"))
                return
            self._has_extra = True
        if not self._is_complete and exchange.has_head:
            self._is_between_chunks = len(self._pieces) == 1 and is_one_chunk(data, len(self._pieces[0]))
            self._deliver_body(exchange)
            return
        if self._is_complete and not self._ends_here(data):
            self._has_extra = True
        if self._is_complete and exchange.on_response is not None and self._is_small(exchange):
            self._remember(data)
            self._finish(exchange)
            return
        if self._deliver(exchange) and self._is_complete:
            self._finish(exchange)

    def _take_known(self, exchange: Exchange, data: bytes) -> bool:
        """Hand over a whole response whose head has come before, unparsed; false where it has not."""
        owner, on_response = self._owner, exchange.on_response
        known = owner.known
        if known is None or on_response is None or len(data) > HEAD_BYTES_MAX or self._is_paused:
            return False
        body = known.match(data)
        if body is None:
            return False
        owner.guesses_left = GUESSES_MAX
        head = ResponseHead(known.status, known.headers)
        self.exchange = None
        exchange.complete()
        self._let_go()
        on_response(head, body)
        return True

    def _remember(self, data: bytes) -> None:
        """Keep the head of a whole response; where each is another, only now and then."""
        owner, head = self._owner, self._head
        owner.guesses_left -= 1
        if owner.guesses_left < -GUESSES_REST:
            owner.guesses_left = GUESSES_MAX
        is_good = owner.guesses_left > 0 and self._is_kept and not self._has_extra and head is not None
        owner.known = remember_response(data, head.status, head.headers) if is_good and head is not None else None

    def _let_go(self) -> None:
        """Give the connection back after a whole response that keeps it."""
        transport = self.transport
        if transport is not None and not transport.is_closing() and transport.get_write_buffer_size() == 0:
            self.is_reused = True
            self._owner.released(self)
        else:
            self.close()

    def _deliver(self, exchange: Exchange) -> bool:
        """Hand over what the last read brought; false where that ended the exchange."""
        head, wire_bytes = self._head, self._wire_bytes
        if head is None:
            if wire_bytes > HEAD_BYTES_MAX:
                exchange.fail(errors.ResponseTooLarge(f"the response head of {self._owner.name} is too large"))
            return not exchange.is_done
        if not exchange.has_head:
            if wire_bytes > HEAD_BYTES_MAX and _size(head) > HEAD_BYTES_MAX:
                exchange.fail(errors.ResponseTooLarge(f"the response head of {self._owner.name} is too large"))
                return False
            exchange.has_head = True
            if exchange.request.method == b"HEAD":
                self._end_head_response()
            exchange.handler.on_head(head)
        if not exchange.is_done:
            self._deliver_body(exchange)
        return not exchange.is_done

    def _deliver_body(self, exchange: Exchange) -> None:
        """Hand over what the last read brought of a body."""
        pieces, wire_bytes = self._pieces, self._wire_bytes
        if pieces:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._hand_over(exchange, data)
        if wire_bytes > _FRAMING_BYTES_MIN and wire_bytes > _FRAMING_BYTES_MIN + self._body_bytes * _FRAMING_FACTOR:
            exchange.fail(errors.ResponseMalformed(f"the response of {self._owner.name} is framing without content"))

    def _hand_over(self, exchange: Exchange, data: bytes) -> None:
        """Hand over a piece of a body that is not too large with it."""
        self._body_bytes = body_bytes = self._body_bytes + len(data)
        if body_bytes > exchange.request.response_bytes_max:
            exchange.fail(errors.ResponseTooLarge(f"the response of {self._owner.name} is too large"))
            return
        exchange.handler.on_data(data)

    def _is_small(self, exchange: Exchange) -> bool:
        """Whether this read brought a whole response that passes no limit."""
        return not exchange.has_head and self._wire_bytes <= HEAD_BYTES_MAX and self._head is not None

    def _ends_here(self, data: bytes) -> bool:
        """Whether the read ends with the response. The parser tells of most bytes too many, but skips line breaks."""
        if data.endswith(b"\r\n\r\n"):
            return not data.endswith(b"\r\n\r\n\r\n")
        return (bool(self._pieces) and data.endswith(self._pieces[-1])) or data in (b"\n", b"\r\n", b"\n\r\n")

    def _end_head_response(self) -> None:
        """A response to HEAD ends with its head, whatever length it names; the parser has no mode for that."""
        self._has_extra = bool(self._pieces)
        self._pieces = []
        self._is_complete = True
        self._parser = httptools.HttpResponseParser(self)

    def _finish(self, exchange: Exchange) -> None:
        self.exchange = None
        on_response, head, pieces = exchange.on_response, self._head, self._pieces
        handler = exchange.complete()
        if self._is_paused:
            self.resume_reading()
        is_kept = self._is_kept and not self._has_extra
        self._reset()
        if is_kept:
            self._let_go()
        else:
            self.close()
        if on_response is not None and head is not None and not exchange.has_head:
            on_response(head, pieces[0] if len(pieces) == 1 else b"".join(pieces))
        else:
            handler.on_complete()

    # The parser's side: record only, because an exception here poisons it.

    def on_message_begin(self) -> None:
        """A response starts; after a complete one that is a byte too many."""
        if self._is_complete:
            self._has_extra = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line; trailers are dropped."""
        if self._head is None:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete; interim responses are skipped."""
        if self._is_complete:
            return
        status = self._status = self._parser.get_status_code()
        if status < 200:
            self._headers = []
            return
        head = self._head = ResponseHead(status, self._headers)
        self._is_kept = self._parser.should_keep_alive()
        if not self._is_kept and status not in (204, 304):
            coding = head.get(b"transfer-encoding")
            self._is_until_eof = coding is None and head.get(b"content-length") is None
            if coding is not None and coding.lower() != b"chunked":
                raise ValueError("transfer coding")

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._is_complete:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The response, or an interim one, is complete."""
        if self._status >= 200:
            self._is_complete = True


def _size(head: ResponseHead) -> int:
    return sum(len(name) + len(value) + 4 for name, value in head.headers)
