"""The AWS event stream: frames of the documented format, however they are cut, and none that is broken."""

from __future__ import annotations

import struct
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.event_stream import (
    HEADERS_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    EventStreamParser,
)
from roadbed.gateway.errors import UpstreamError
from roadbed.wire.sse import SseEvent

from .event_frames import encode_event_frame, encode_frame

# Made by the format's description: an empty frame is sixteen bytes whose two checksums are well known.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
PAYLOAD = bytes.fromhex("0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936")
STREAM = (
    encode_event_frame("messageStart", b'{"role":"assistant"}')
    + encode_event_frame("contentBlockDelta", b'{"delta":{"text":"Hi"},"contentBlockIndex":0}')
    + EMPTY
    + encode_event_frame("exception:throttlingException", b'{"message":"slow down"}')
)


def read(data: bytes, cut_into: int = 1 << 20) -> list[SseEvent]:
    """All frames, and a last one ``broken`` where the stream is."""
    parser, events = EventStreamParser(), []
    try:
        for start in range(0, len(data), cut_into):
            events += parser.feed(data[start : start + cut_into])
        events += parser.finish()
    except UpstreamError:
        events.append(SseEvent(b"", b"broken"))
    return events


def framed(headers: bytes, payload: bytes = b"") -> bytes:
    """A frame with these bytes in place of its headers, and right checksums."""
    lengths = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    return head + struct.pack(">I", crc32(head))


def text_header(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + b"\x07" + struct.pack(">H", len(value)) + value


def test_the_published_examples_of_frames() -> None:
    assert encode_frame(b"", {}) == EMPTY
    assert encode_frame(b"{'foo':'bar'}", {}) == PAYLOAD
    assert read(EMPTY + PAYLOAD) == [], "frames that are no messages give nothing"


@pytest.mark.parametrize("cut_into", [1, 7, 1 << 20])
def test_frames_however_they_are_cut(cut_into: int) -> None:
    assert read(STREAM, cut_into) == [
        SseEvent(b'{"role":"assistant"}', b"messageStart"),
        SseEvent(b'{"delta":{"text":"Hi"},"contentBlockIndex":0}', b"contentBlockDelta"),
        SseEvent(b'{"message":"slow down"}', b"exception:throttlingException"),
    ]


def test_every_type_of_header_is_passed_over() -> None:
    others = b"".join(
        bytes((1, 97 + kind, kind)) + b"\0" * size for kind, size in enumerate((0, 0, 1, 2, 4, 8, 2, 2, 8, 16))
    )
    block = others + text_header(b":message-type", b"event") + text_header(b":event-type", b"ping")
    assert read(framed(block, b"{}")) == [SseEvent(b"{}", b"ping")]


def test_an_error_message_is_an_exception() -> None:
    frame = encode_frame(b"", {":message-type": "error", ":error-code": "InternalError", ":error-message": "x"})
    assert read(frame) == [SseEvent(b"{}", b"exception:InternalError")]


TWICE = text_header(b":event-type", b"a") * 2
BROKEN = {
    "lengths changed": b"\0\0\0\x11" + EMPTY[4:],
    "last checksum": EMPTY[:-1] + b"\0",
    "payload changed": PAYLOAD[:14] + b"!" + PAYLOAD[15:],
    "a header twice": framed(TWICE),
    "an unknown type of value": framed(b"\x01a\x0a"),
    "a value over the end": framed(b"\x01a\x07\xff\xff"),
    "a value's length over the end": framed(b"\x01a\x07\x00"),
    "a name over the end": framed(b"\x09a"),
    "a name without a value": framed(b"\x01a"),
    "a fixed value over the end": framed(b"\x01a\x09\x00"),
    "shorter than its headers": struct.pack(">III", 16, 4, crc32(struct.pack(">II", 16, 4))),
    "headers over the limit": struct.pack(
        ">III", 1 << 20, HEADERS_BYTES_MAX + 1, crc32(struct.pack(">II", 1 << 20, HEADERS_BYTES_MAX + 1))
    ),
    "payload over the limit": struct.pack(
        ">III", PAYLOAD_BYTES_MAX + 17, 0, crc32(struct.pack(">II", PAYLOAD_BYTES_MAX + 17, 0))
    ),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("cut_into", [1, 9, 1 << 20])
def test_a_broken_frame_ends_the_stream_after_the_frames_before_it(broken: bytes, cut_into: int) -> None:
    before = encode_event_frame("messageStart", b"{}")
    assert read(before + broken + before, cut_into) == [SseEvent(b"{}", b"messageStart"), SseEvent(b"", b"broken")]


def test_nothing_comes_after_a_broken_frame() -> None:
    parser = EventStreamParser()
    with pytest.raises(UpstreamError):
        parser.feed(BROKEN["last checksum"])
    with pytest.raises(UpstreamError):
        parser.feed(STREAM)


def test_half_a_frame_gives_nothing() -> None:
    assert len(read(STREAM[:-1])) == 2


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    st.lists(st.tuples(st.binary(max_size=60), WORDS), max_size=4),
    st.dictionaries(WORDS, WORDS, max_size=3),
    st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read(frames: list[tuple[bytes, str]], more: dict[str, str], cut_into: int) -> None:
    data = b"".join(
        encode_frame(payload, {**more, ":message-type": "event", ":event-type": kind}) for payload, kind in frames
    )
    assert read(data, cut_into) == [SseEvent(payload, kind.encode()) for payload, kind in frames]


@given(st.binary(max_size=200), st.integers(0, len(STREAM)), st.integers(1, 30))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_the_same_however_they_are_cut(noise: bytes, at: int, cut_into: int) -> None:
    data = STREAM[:at] + noise + STREAM[at + len(noise) :]
    assert read(data, cut_into) == read(data)


@given(st.binary(max_size=60), st.binary(max_size=20))
@settings(max_examples=200, deadline=None)
def test_any_headers_give_frames_or_a_typed_error(headers: bytes, payload: bytes) -> None:
    assert len(read(framed(headers, payload))) <= 1
