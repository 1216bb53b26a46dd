"""Frames of the AWS event stream as a server writes them, for tests of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

FRAME_BYTES_MIN = 16
STRING = 7


def encode_frame(payload: bytes, headers: Mapping[str, str]) -> bytes:
    """The bytes of one frame with text headers."""
    block = bytearray()
    for name, value in headers.items():
        raw_name, raw_value = name.encode(), value.encode()
        block += bytes((len(raw_name),)) + raw_name + bytes((STRING,)) + struct.pack(">H", len(raw_value)) + raw_value
    lengths = struct.pack(">II", FRAME_BYTES_MIN + len(block) + len(payload), len(block))
    head = lengths + struct.pack(">I", crc32(lengths)) + bytes(block) + payload
    return head + struct.pack(">I", crc32(head))


def encode_event_frame(event: str, payload: bytes) -> bytes:
    """The frame of an event of this type, or of an exception when it is written ``exception:TYPE``."""
    kind, colon, name = event.partition(":")
    if colon and kind == "exception":
        headers = {":message-type": kind, ":exception-type": name}
    else:
        headers = {":message-type": "event", ":event-type": event}
    return encode_frame(payload, {**headers, ":content-type": "application/json"})
