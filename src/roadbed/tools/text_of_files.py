"""Turning bytes of a file or an object into the text that a tool returns: plain text as it is, the rest by a parser.

Pure but for the parser, which the server passes in (``knowledge/`` has one in limited subprocesses, and is a neighbour
of this room). The invariant: nothing but text leaves here, at most `READ_UNITS_MAX` of its units at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from roadbed.kernel.errors import InvalidRequest, RoadbedError

READ_UNITS_MAX = 48 * 1024
READ_UNITS = 16 * 1024
_SNIFFED_BYTES = 4_096
_UTF8_UNIT_BYTES_MAX = 4
_PACKED = frozenset(
    (
        "pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "rtf", "html", "htm", "xhtml", "eml", "msg", "zip",
        "gz", "tgz", "bz2", "xz", "7z", "png", "jpg", "jpeg", "gif", "webp",
    )
)  # fmt: skip
"""Endings of files that are no plain text, or that a parser makes better text of."""


class Extracted(Protocol):
    """What a parser made of a file."""

    @property
    def text(self) -> str:
        """All of its text."""
        ...


class TextExtractor(Protocol):
    """Parses files of many formats within limits; raises a `RoadbedError` that says why there is no text."""

    async def parse(
        self, path_or_bytes: str | os.PathLike[str] | bytes, *, name: str, media_type: str | None = None
    ) -> Extracted:
        """The text of one file."""
        ...


class TextUnavailable(InvalidRequest):
    """A file has no text that a tool could return."""

    code = "tools.text_unavailable"
    hint = "ask for a text file or a document"


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of a text. ``unit`` says what ``offset``, ``next_offset`` and ``size`` count; ``next_offset`` is -1 at
    the end.
    """

    text: str
    offset: int
    next_offset: int
    size: int
    unit: str

    def data(self) -> dict[str, object]:
        """As a tool returns it."""
        found: dict[str, object] = {"text": self.text, "offset": self.offset, "size": self.size, "unit": self.unit}
        return found if self.next_offset < 0 else {**found, "next_offset": self.next_offset}


def is_plain(name: str, head: bytes) -> bool:
    """Whether a file is text that needs no parser, by its name and its first bytes."""
    suffix = name.rpartition(".")[2].lower() if "." in name else ""
    if suffix in _PACKED or b"\0" in head[:_SNIFFED_BYTES]:
        return False
    try:
        head[:_SNIFFED_BYTES].decode("utf-8")
    except UnicodeDecodeError as error:
        return (
            error.reason == "unexpected end of data" or error.start > len(head[:_SNIFFED_BYTES]) - _UTF8_UNIT_BYTES_MAX
        )
    return True


def part_of_bytes(data: bytes, offset: int, size: int) -> TextPart:
    """The text of some bytes of a plain file, whole characters only; ``offset`` counts bytes of the file."""
    start = 0
    if offset:  # a caller may have asked for the middle of a character
        while start < min(len(data), _UTF8_UNIT_BYTES_MAX - 1) and data[start] & 0xC0 == 0x80:
            start += 1
    end = len(data)
    if offset + end < size:
        for back in range(1, min(_UTF8_UNIT_BYTES_MAX, end - start) + 1):
            byte = data[end - back]
            if byte & 0xC0 != 0x80:
                if byte >= 0xC0 and (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) > back:
                    end -= back
                break
    following = offset + end if end and offset + end < size else -1
    return TextPart(data[start:end].decode("utf-8", "replace"), offset + start, following, size, "bytes")


def part_of_text(text: str, offset: int, limit: int) -> TextPart:
    """A piece of an extracted text; all counts are characters."""
    end = min(len(text), offset + limit)
    return TextPart(text[offset:end], offset, end if end < len(text) else -1, len(text), "characters")


async def extract(extractor: TextExtractor | None, data: bytes, name: str) -> str:
    """The text of a document. Raises `TextUnavailable`, also with what the parser says."""
    if extractor is None:
        raise TextUnavailable(f"{name[:200]!r} is no plain text, and no parser is at hand")
    try:
        return (await extractor.parse(data, name=name.rpartition("/")[2])).text
    except RoadbedError as error:
        raise TextUnavailable(f"{name[:200]!r} gives no text: {error.message}") from None
