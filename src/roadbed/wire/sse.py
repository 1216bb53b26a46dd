"""Server-sent events, both ways: bytes in, events out, and events in, bytes out (WHATWG HTML, section 9.2).

Pure functions of the bytes: no socket, no clock. The gateway's dialects feed it what the upstream client delivers.
Data stays bytes, so that a UTF-8 character split over two reads needs no care and JSON is decoded once, by its
reader. Deviation from the standard, on purpose: a last event without its blank line is given by ``finish``, because
providers send it.
The invariant: any split of a stream into reads gives the same events.
"""

from __future__ import annotations

import msgspec

from roadbed.wire.errors import EventTooLarge

EVENT_BYTES_MAX = 8 * 1024 * 1024

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event: its joined ``data``, its type (``b""`` where none was given, meaning ``message``) and its ``id``."""

    data: bytes
    event: bytes = b""
    id: bytes | None = None


class SseParser:
    """An incremental parser; one per stream."""

    __slots__ = ("_buffer", "_event_bytes_max", "_failed", "_searched", "_skip_line_feed", "_started")

    def __init__(self, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._event_bytes_max = event_bytes_max
        self._skip_line_feed = False
        self._started = False
        self._failed = False

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next read and give the events that it completes.

        Raises ``EventTooLarge`` once an event passes the limit; events before it have been given by then.
        """
        # One whole `data: {...}` event in a read is what providers send nearly always: 0.4 us against 1.6 for the
        # full way.
        if (
            self._started
            and not self._buffer
            and not self._skip_line_feed
            and data[:6] == b"data: "
            and data[-2:] == b"\n\n"
            and data.find(b"\n") == len(data) - 2
            and b"\r" not in data
            and len(data) - 2 <= self._event_bytes_max
        ):
            return [SseEvent(data[6:-2])]
        return self._feed_general(data)

    @property
    def is_between_events(self) -> bool:
        """Whether the next byte begins an event."""
        return self._started and not self._buffer and not self._skip_line_feed

    def finish(self) -> list[SseEvent]:
        """The stream has ended: give the last event if its blank line is missing."""
        if self._failed:
            raise self._too_large()
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        self._started = True
        event = _parse_block(rest)
        return [event] if event is not None else []

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"a server-sent event passed {self._event_bytes_max} bytes")

    def _feed_general(self, data: bytes) -> list[SseEvent]:
        if self._failed:
            raise self._too_large()
        if b"\r" in data or self._skip_line_feed:
            data = self._normalize(data)
        buffer = self._buffer
        buffer += data
        if not self._started and not self._strip_byte_order_mark():
            return []
        events: list[SseEvent] = []
        start = 0
        # `_searched` is where the last search stopped, one byte back, so that a long event is not searched again and
        # again.
        position = buffer.find(b"\n\n", self._searched)
        while position >= 0:
            if position - start > self._event_bytes_max:
                break
            event = _parse_block(bytes(buffer[start:position]))
            if event is not None:
                events.append(event)
            start = position + 2
            position = buffer.find(b"\n\n", start)
        if start:
            del buffer[:start]
        self._searched = max(0, len(buffer) - 1)
        # The newline that may be half of the closing blank line is not the event's.
        if len(buffer) - (buffer[-1:] == b"\n") > self._event_bytes_max:
            self._failed = True
            buffer.clear()
            if not events:
                raise self._too_large()
        return events

    def _normalize(self, data: bytes) -> bytes:
        """CRLF and CR become LF. A CR that ends a read counts at once; the LF that may follow it is skipped."""
        if self._skip_line_feed and data:
            self._skip_line_feed = False
            if data[0] == 0x0A:
                data = data[1:]
        if data.endswith(b"\r"):
            self._skip_line_feed = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _strip_byte_order_mark(self) -> bool:
        """True once the first bytes are known not to be part of a byte order mark."""
        head = bytes(self._buffer[:3])
        if head == _BYTE_ORDER_MARK:
            del self._buffer[:3]
        elif len(head) < 3 and _BYTE_ORDER_MARK.startswith(head):
            return False
        self._started = True
        return True


def _parse_block(block: bytes) -> SseEvent | None:
    """One block between blank lines; None where it holds no data line."""
    if block.startswith(b"data: ") and b"\n" not in block:
        return SseEvent(block[6:])
    data: list[bytes] = []
    event = b""
    identifier: bytes | None = None
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value
        elif name == b"id" and b"\0" not in value:
            identifier = value
    if not data:
        return None
    return SseEvent(b"\n".join(data), event, identifier)


def encode_event(data: bytes, event: bytes = b"", identifier: bytes | None = None) -> bytes:
    """The bytes of one event. ``event`` and ``identifier`` must hold no line break; ``data`` may."""
    if b"\n" in event or b"\r" in event or (identifier is not None and (b"\n" in identifier or b"\r" in identifier)):
        raise ValueError("an event's type and id are single lines")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    if not event and identifier is None:
        return b"data: %b\n\n" % data
    head = b"event: %b\n" % event if event else b""
    if identifier is not None:
        head += b"id: %b\n" % identifier
    return b"%bdata: %b\n\n" % (head, data)
