"""The framing of a body in chunks (RFC 9112, 7.1), as far as a read is told by it without a parser. Pure."""

from __future__ import annotations

from typing import Final

CHUNK_BYTES_MAX: Final = 1024
_END = b"\r\n"


def size_line(count: int) -> bytes:
    """What a chunk begins with that takes ``count`` bytes with its framing, as model servers write it: the size in
    small digits, no extension. Where none takes so many, more bytes than that.
    """
    for digits in range(1, 9):
        size = count - digits - 2 * len(_END)
        if size > 0 and len(line := b"%x\r\n" % size) == digits + len(_END):
            return line
    return b"-" * (count + 1)


SIZE_LINES: Final = tuple(size_line(count) for count in range(CHUNK_BYTES_MAX + 1))
"""`size_line` of each count."""


def is_one_chunk(data: bytes, body_bytes: int) -> bool:
    """Whether a read in which a parser found one piece of so many bytes was a whole chunk, so that its next byte
    begins another one.
    """
    if len(data) > CHUNK_BYTES_MAX or not data.endswith(_END):
        return False
    line = SIZE_LINES[len(data)]
    return data.startswith(line) and body_bytes == len(data) - len(line) - len(_END)
