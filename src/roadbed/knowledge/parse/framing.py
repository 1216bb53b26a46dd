"""The messages between pool and worker: length-prefixed msgpack over two pipes.

Owns the message types and the frame header. Used by ``pool`` (asynchronous ends) and ``worker`` (blocking ends).
The invariant: a reader checks the announced length against its bound before it reads or allocates anything.
"""

from __future__ import annotations

from typing import BinaryIO

import msgspec

from roadbed.knowledge.parse.document import SOURCE_BYTES_MAX, ParsedDocument

HEADER_BYTES = 4
REQUEST_BYTES_MAX = SOURCE_BYTES_MAX + 64 * 1024
OUTPUT_BYTES_MAX = 96 * 1024 * 1024
"""Largest encoded reply that the pool reads."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One file to parse: either ``path`` or ``body`` is set."""

    name: str
    media_type: str | None = None
    path: str | None = None
    body: bytes | None = None


class Parsed(msgspec.Struct, frozen=True, tag="parsed"):
    """The worker's answer when it read the file; ``is_last`` says that the worker will end now."""

    document: ParsedDocument
    is_last: bool = False


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The worker's answer when it did not."""

    reason: str
    message: str
    hint: str
    is_last: bool = False


Reply = Parsed | Failed

request_encoder = msgspec.msgpack.Encoder()
request_decoder = msgspec.msgpack.Decoder(Request)
reply_decoder: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def frame(payload: bytes) -> bytes:
    """``payload`` behind its length."""
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def read_frame(stream: BinaryIO, bytes_max: int) -> bytes | None:
    """The next frame of a blocking stream, None at its end.

    Raises ValueError for a frame over ``bytes_max`` or cut short.
    """
    header = stream.read(HEADER_BYTES)
    if not header:
        return None
    length = int.from_bytes(header, "big")
    if len(header) < HEADER_BYTES or length > bytes_max:
        raise ValueError("bad frame header")
    payload = stream.read(length)
    if len(payload) < length:
        raise ValueError("frame cut short")
    return payload
