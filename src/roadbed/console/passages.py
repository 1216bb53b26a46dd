"""A document's text as pieces to show: its blocks in order, a window of a long text, and the highlighted span in them.

Pure. Offsets are codepoints of the document's text, as everywhere. The invariant: the pieces of all segments, joined,
are the window's text less blanks and marks between blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roadbed.knowledge.parse.document import Block

WINDOW_CHARACTERS = 40_000
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text, inside the highlight or not. The first one inside carries the anchor of the page."""

    text: str
    is_marked: bool = False
    is_anchor: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """One block as it is shown. ``page`` is set on the first segment of each page."""

    kind: str
    level: int
    pieces: tuple[Piece, ...]
    page: int | None = None
    is_hidden: bool = False


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
        pieces = marker.pieces(max(block.start, window.start), min(block.end, window.end))
        is_new_page = block.page is not None and block.page != page
        found.append(Segment(block.kind, block.level, pieces, block.page if is_new_page else None, block.hidden))
        page = block.page if block.page is not None else page
    return found


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
