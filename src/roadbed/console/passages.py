"""A document's text as pieces to show: its blocks in order, a window of a long text, and the highlighted span in them.

Pure. Offsets are codepoints of the document's text, as everywhere. A table is shown as rows of cells, each cell a span
like any other. The invariant: the pieces of all segments, joined, are the window's text less blanks and marks between
blocks and cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roadbed.knowledge.parse.document import Block
from roadbed.knowledge.parse.tables import is_header

WINDOW_CHARACTERS = 40_000
CELLS_MAX = 40  # of a row; what stands behind more bars than that is one cell
Span = tuple[int, int]
_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[\s|:+=-]*-[\s|:+=-]*")


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text, inside the highlight or not. The first one inside carries the anchor of the page."""

    text: str
    is_marked: bool = False
    is_anchor: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: the pieces of each cell."""

    cells: tuple[tuple[Piece, ...], ...]
    is_header: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One block as it is shown. ``page`` is set on the first segment of each page; a table has ``rows``."""

    kind: str
    level: int
    pieces: tuple[Piece, ...]
    page: int | None = None
    is_hidden: bool = False
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a text is shown: the whole of a short one, some of a long one."""

    start: int
    end: int
    length: int

    @property
    def earlier(self) -> int | None:
        """Where the window before this one starts."""
        return max(0, self.start - WINDOW_CHARACTERS) if self.start > 0 else None

    @property
    def later(self) -> int | None:
        """Where the window behind this one starts."""
        return self.end if self.end < self.length else None


def window_of(text: str, at: int, highlight: Span | None) -> Window:
    """The window that starts at ``at``, or that has the highlight in its first half."""
    length = len(text)
    if length <= WINDOW_CHARACTERS:
        return Window(0, length, length)
    start = at
    if highlight is not None and not at:
        start = max(0, highlight[0] - WINDOW_CHARACTERS // 4)
    start = min(max(start, 0), length - 1)
    line = text.rfind("\n", 0, start) + 1
    if start - line < 2_000:
        start = line
    return Window(start, min(start + WINDOW_CHARACTERS, length), length)


def segments(text: str, blocks: Sequence[Block], window: Window, highlight: Span | None) -> list[Segment]:
    """The window's blocks as they are shown, and between them whatever text is in no block."""
    marker = _Marker(text, highlight)
    found: list[Segment] = []
    page: int | None = None
    for block in _covering(text, blocks, window):
        start, end = max(block.start, window.start), min(block.end, window.end)
        rows = _rows(text, start, end, marker) if block.kind == "table" else ()
        pieces = tuple(piece for row in rows for cell in row.cells for piece in cell) or marker.pieces(start, end)
        is_new_page = block.page is not None and block.page != page
        found.append(Segment(block.kind, block.level, pieces, block.page if is_new_page else None, block.hidden, rows))
        page = block.page if block.page is not None else page
    return found


def _rows(text: str, start: int, end: int, marker: _Marker) -> tuple[Row, ...]:
    """The lines of a table, cut at their bars; none where it has no bars. Rules are left out."""
    if "|" not in text[start:end]:
        return ()
    lines = [span for span in _lines(text, start, end) if text[slice(*span)].strip()]
    ruled = len(lines) > 1 and _RULE.fullmatch(text[slice(*lines[1])]) is not None
    found: list[Row] = []
    for span in lines:
        if _RULE.fullmatch(text[slice(*span)]) is not None:
            continue
        cells = _cells(text, *span)
        has_names = not found and (ruled or is_header([text[slice(*cell)] for cell in cells]))
        found.append(Row(tuple(marker.pieces(*cell) for cell in cells), has_names))
    return tuple(found)


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    for line in text[start:end].splitlines(keepends=True):
        yield start, start + len(line)
        start += len(line)


def _cells(text: str, start: int, end: int) -> list[Span]:
    """The spans between the bars of a line, without the blanks around them; the bars at its ends bound nothing."""
    start, end = _trimmed(text, start, end)
    bars = [start + bar.start() for bar in _BAR.finditer(text[start:end])]
    inner = [bar for bar in bars if start < bar < end - 1][: CELLS_MAX - 1]
    first = start + 1 if start in bars else start
    last = end - 1 if end - 1 in bars and end - 1 > start else end
    edges = [first - 1, *inner, last]
    return [_trimmed(text, edges[i] + 1, edges[i + 1]) for i in range(len(edges) - 1)]


def _trimmed(text: str, start: int, end: int) -> Span:
    own = text[start:end]
    first = start + len(own) - len(own.lstrip())
    return min(first, end), max(min(first, end), end - len(own) + len(own.rstrip()))


def _covering(text: str, blocks: Sequence[Block], window: Window) -> Iterator[Block]:
    """The blocks in the window, and plain ones for the text between them."""
    position = window.start
    for block in blocks:
        if block.end <= window.start:
            continue
        if block.start >= window.end:
            break
        if block.start > position and _says_something(text[position : block.start]):
            yield Block("paragraph", position, block.start)
        yield block
        position = max(position, block.end)
    if position < window.end and _says_something(text[position : window.end]):
        yield Block("paragraph", position, window.end)


def _says_something(between: str) -> bool:
    """Whether text between blocks is more than marks of Markdown or rules of a table."""
    return any(character.isalnum() for character in between)


class _Marker:
    """Cuts spans at the ends of the highlight; the first marked piece of all is the anchor."""

    def __init__(self, text: str, highlight: Span | None) -> None:
        self._text = text
        self._highlight = highlight
        self._has_anchor = False

    def pieces(self, start: int, end: int) -> tuple[Piece, ...]:
        """The pieces of one block."""
        if self._highlight is None:
            return (Piece(self._text[start:end].strip("\n")),)
        begin, stop = max(start, self._highlight[0]), min(end, self._highlight[1])
        if begin >= stop:
            return (Piece(self._text[start:end].strip("\n")),)
        found = [Piece(self._text[start:begin].lstrip("\n")), Piece(self._text[begin:stop], True, not self._has_anchor)]
        self._has_anchor = True
        found.append(Piece(self._text[stop:end].rstrip("\n")))
        return tuple(piece for piece in found if piece.text)
