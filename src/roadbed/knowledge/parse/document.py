"""What parsing gives back: one canonical text, the blocks inside it, and the error that says why there is none.

Owns the result types and the rule for canonical text. Does no parsing and no I/O. Called by every parser, the pool,
and the chunker behind it. The invariant: blocks are sorted, do not overlap, and are codepoint spans into ``text``;
``text`` has ``\\n`` newlines, no NUL, no other C0 control but tab, and no lone surrogate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from roadbed.kernel.errors import RoadbedError

BlockKind = Literal["heading", "paragraph", "list", "table", "code", "row", "note"]

TEXT_CHARS_MAX = 12_000_000
"""Longest canonical text; what follows is left out at a block boundary and named in ``warnings``."""
BLOCKS_MAX = 300_000
"""Most blocks of one document."""
SOURCE_BYTES_MAX = 128 * 1024 * 1024
"""Largest file that a parser opens."""
TITLE_CHARS_MAX = 300
"""Longest title."""

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"[^\S\n]*\n[^\S\n]*")


@dataclass(frozen=True, slots=True)
class Block:
    """One structural piece: ``text[start:end]`` of its document.

    ``level`` is the depth of a heading (1 is the top) or of a list item. ``page`` counts from 1. ``location`` is
    what a reader is told ("page 4", "Sheet1!A7:F7", "slide 3"). ``hidden`` marks text that a human reader of the
    file does not see.
    """

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    page: int | None = None
    location: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The canonical text of one version of a document.

    Every span elsewhere in the product is an offset into ``text``.
    """

    text: str
    blocks: tuple[Block, ...]
    title: str
    language: str | None
    parser: str
    media_type: str
    warnings: tuple[str, ...] = ()


class ParseFailure(RoadbedError):
    """The file could not be turned into text; ``reason`` is one stable word, and the message says what to do about it.

    Reasons: ``encrypted``, ``corrupt``, ``empty``, ``no_text`` (pages without a usable text layer), ``too_large``,
    ``unsupported``, ``timeout``, ``memory``, ``crashed``, ``archive_bomb``, ``unsafe`` (a DTD in an office file),
    ``missing``.
    """

    code = "knowledge.parse_failed"
    http_status = 422
    hint = "fix or convert the file, then sync the source again; the document stays out of the index until then"

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ParseFailure], tuple[str, str]]:
        """Pickle with both arguments."""
        return type(self), (self.reason, self.message)


def too_large(name: str) -> ParseFailure:
    """The failure for a file over `SOURCE_BYTES_MAX`."""
    return ParseFailure("too_large", f"{name} is larger than {SOURCE_BYTES_MAX >> 20} MiB", hint="split the file")


def canonical(text: str) -> str:
    """``text`` with ``\\n`` newlines and without NUL, other controls, byte order marks, noncharacters and lone
    surrogates.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0b", "\n").replace("\x0c", "\n")
    text = text.replace("\x85", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))


def squeeze(text: str) -> str:
    """Canonical prose: runs of blanks become one space, lines lose their edges, single newlines stay."""
    return _LINES.sub("\n", _BLANK.sub(" ", canonical(text))).strip()


def one_line(text: str) -> str:
    """Canonical text on a single line, for a title, a table cell or a row."""
    return " ".join(canonical(text).split())


class DocumentBuilder:
    """Collects blocks in reading order and lays them out as one text with exact spans.

    Blocks are separated by a blank line; neighbours of the kinds ``row`` and ``list`` by a newline. Once a bound is
    reached, ``full`` is true, further blocks are dropped, and a warning says so.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []
        self._warnings: list[str] = []
        self.title = ""
        self.language: str | None = None
        self.full = False

    def __len__(self) -> int:
        return len(self._blocks)

    @property
    def length(self) -> int:
        """Codepoints collected so far."""
        return self._length

    def warn(self, message: str) -> None:
        """Add a warning once; at most 50 are kept."""
        if message not in self._warnings and len(self._warnings) < 50:
            self._warnings.append(message)

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        level: int = 0,
        page: int | None = None,
        location: str = "",
        hidden: bool = False,
    ) -> None:
        """Append one block; blank text is skipped.

        The text must be canonical already (`squeeze`, `canonical`, `one_line`).
        """
        text = text.strip("\n") if kind == "code" else text.strip()
        if not text or self.full:
            return
        if self._length + len(text) > TEXT_CHARS_MAX or len(self._blocks) >= BLOCKS_MAX:
            self.full = True
            self.warn(f"only the first {self._length} characters and {len(self._blocks)} blocks were read")
            return
        if self._blocks:
            close = kind in ("row", "list") and self._blocks[-1].kind == kind
            separator = "\n" if close else "\n\n"
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        self._blocks.append(Block(kind, start, self._length, level, page, location, hidden))

    def sample(self, chars_max: int) -> str:
        """The first ``chars_max`` codepoints collected so far."""
        parts: list[str] = []
        size = 0
        for part in self._parts:
            parts.append(part)
            size += len(part)
            if size >= chars_max:
                break
        return "".join(parts)[:chars_max]

    def finish(self, *, name: str, parser: str, media_type: str) -> ParsedDocument:
        """The document; raises `ParseFailure` (``empty``) when no block holds text."""
        if not self._blocks:
            raise ParseFailure("empty", f"{name} holds no text")
        text = "".join(self._parts)
        title = self.title or first_heading(text, self._blocks) or stem(name)
        return ParsedDocument(
            text=text,
            blocks=tuple(self._blocks),
            title=one_line(title)[:TITLE_CHARS_MAX],
            language=self.language,
            parser=parser,
            media_type=media_type,
            warnings=tuple(self._warnings),
        )


def first_heading(text: str, blocks: list[Block] | tuple[Block, ...]) -> str:
    """The text of the first visible heading, or an empty string."""
    for block in blocks:
        if block.kind == "heading" and not block.hidden:
            return one_line(text[block.start : block.end])
    return ""


def stem(name: str) -> str:
    """The file name without folders and its last suffix: the title of last resort."""
    base = one_line(name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    root, dot, suffix = base.rpartition(".")
    return root if dot and root and len(suffix) <= 8 else base
