"""The AWS event stream (``application/vnd.amazon.eventstream``): bytes in, frames out.

A frame is: total length, length of the headers, CRC32 of these eight bytes, headers, payload, CRC32 of all before it;
all big-endian. A frame is given as an `SseEvent`, whose ``event`` is the event type or ``exception:TYPE``. Pure: no
socket, no clock. The invariants: any split of a stream into reads gives the same frames, and no frame is given whose
checksums are wrong.
"""

from __future__ import annotations

import struct
from zlib import crc32

from roadbed.gateway.dialects.base import malformed
from roadbed.gateway.errors import UpstreamError
from roadbed.wire.sse import EVENT_BYTES_MAX, SseEvent

HEADERS_BYTES_MAX = 128 * 1024
PAYLOAD_BYTES_MAX = EVENT_BYTES_MAX
"""Less than the 24 MiB that the format allows: what one stream may buffer is the same in all dialects."""

EXCEPTION = b"exception:"
_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_FRAME_BYTES_MIN = _PRELUDE.size + _CRC.size
_STRING = 7
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type: two booleans, four integers, a time, a UUID."""
_COUNTED = (6, _STRING)


class EventStreamParser:
    """An incremental parser; one per stream."""

    __slots__ = ("_buffer", "_failure", "_frame_bytes")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._frame_bytes = 0
        self._failure: UpstreamError | None = None

    def feed(self, data: bytes) -> list[SseEvent]:
        """Take the next read and give the frames that it completes.

        Raises `UpstreamError` for a broken frame; frames before it have been given by then.
        """
        if self._failure is not None:
            raise self._failure
        self._buffer += data
        events: list[SseEvent] = []
        start = 0
        try:
            while True:
                if not self._frame_bytes:
                    if len(self._buffer) - start < _PRELUDE.size:
                        break
                    self._frame_bytes = _checked_length(self._buffer, start)
                end = start + self._frame_bytes
                if len(self._buffer) < end:
                    break
                event = _frame(bytes(self._buffer[start:end]))
                if event is not None:
                    events.append(event)
                start, self._frame_bytes = end, 0
        except UpstreamError as error:
            self._failure = error
            self._buffer.clear()
            if not events:
                raise
            return events
        if start:
            del self._buffer[:start]
        return events

    def finish(self) -> list[SseEvent]:
        """The stream has ended. Half a frame gives nothing: whether the answer was whole is its decoder's to say."""
        if self._failure is not None:
            raise self._failure
        self._buffer.clear()
        return []


def _checked_length(buffer: bytearray, start: int) -> int:
    """The length of the frame whose first twelve bytes are here."""
    total, headers_bytes, crc = _PRELUDE.unpack_from(buffer, start)
    if crc32(buffer[start : start + 8]) != crc:
        raise malformed("the checksum of a frame's lengths is wrong")
    if headers_bytes > HEADERS_BYTES_MAX or total - headers_bytes - _FRAME_BYTES_MIN > PAYLOAD_BYTES_MAX:
        raise malformed("a frame is over the size limit")
    if total < headers_bytes + _FRAME_BYTES_MIN:
        raise malformed("a frame is shorter than its headers")
    return int(total)


def _frame(frame: bytes) -> SseEvent | None:
    """One whole frame; None for a kind of message that nobody here knows."""
    body_end = len(frame) - _CRC.size
    if crc32(memoryview(frame)[:body_end]) != _CRC.unpack_from(frame, body_end)[0]:
        raise malformed("the checksum of a frame is wrong")
    headers_end = _PRELUDE.size + int.from_bytes(frame[4:8], "big")
    headers = _headers(frame, headers_end)
    payload = frame[headers_end:body_end]
    match headers.get(b":message-type"):
        case b"event":
            return SseEvent(payload, headers.get(b":event-type", b""))
        case b"exception":
            return SseEvent(payload, EXCEPTION + headers.get(b":exception-type", b""))
        case b"error":
            return SseEvent(payload or b"{}", EXCEPTION + headers.get(b":error-code", b""))
        case _:
            return None


def _headers(frame: bytes, end: int) -> dict[bytes, bytes]:
    """The headers whose values are text; the others are only checked."""
    found: dict[bytes, bytes] = {}
    names: set[bytes] = set()
    position = _PRELUDE.size
    while position < end:
        name_end = position + 1 + frame[position]
        name = frame[position + 1 : name_end]
        if name_end >= end or name in names:
            raise malformed("a frame's headers are broken")
        names.add(name)
        kind, value_start = frame[name_end], name_end + 1
        if kind in _COUNTED and value_start + _LENGTH.size <= end:
            size = _LENGTH.unpack_from(frame, value_start)[0]
            value_start += _LENGTH.size
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise malformed("a frame's headers are broken")
        position = value_start + size
        if position > end:
            raise malformed("a frame's headers are broken")
        if kind == _STRING:
            found[name] = frame[value_start:position]
    return found
