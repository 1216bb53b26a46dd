"""Cuts a parsed document into chunks: by section, then by block, then by sentence; never inside one that fits.

Pure: it takes the canonical text, its blocks and a token counter, and gives spans into that text. The heading path
belongs to what is embedded (:meth:`Chunk.embed_text`), not to the span. The invariant: each section is cut by its own
text alone, and a chunk's id by the document, the chunker's version, its text and its occurrence; so an edit leaves the
chunks of every other section, and their cached vectors, as they were.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from roadbed.knowledge.sentences import sentences

CHUNKER = "chunker=v3"  # a raise makes another generation; see tests/knowledge/parse/test_versions.py
TOKENS_MAX = 254  # MiniLM's window of 256, less its two special tokens
TOKENS_TARGET = 200  # a chunk that has so many is not filled further at a block's edge
HEADING_TOKENS_MAX = 48
HEADING_CHARS_MAX = 120
HEADING_DEPTH_MAX = 4
TOKENS_TAIL_MIN = 64  # a section's last chunk smaller than this takes over some of the one before
CHUNK_CHARS_MAX = 4_096  # four times a usual chunk; bounds lines of one endless "word", which counts as one token
BLANK_SEARCH_CHARS_MAX = 1_000
CHUNK_ID_CHARS = 20
HEADING_SEPARATOR = " > "
_MARKUP = re.compile(r"[\s#=*_>~-]*")
"""What Markdown writes around headings and quotations, which is in no block: no text was left out there."""

TokenCount = Callable[[str], int]


class BlockLike(Protocol):
    """What the chunker needs of a parser's block; ``knowledge.parse.document.Block`` is one."""

    @property
    def kind(self) -> str:
        """``heading``, ``paragraph``, ``list``, ``table``, ``code``, ``row`` or ``note``."""

    @property
    def start(self) -> int:
        """Offset of its first character."""

    @property
    def end(self) -> int:
        """Offset behind its last character."""

    @property
    def level(self) -> int:
        """Depth of a heading, 1 at the top."""

    @property
    def page(self) -> int | None:
        """Page from 1, where there are pages."""

    @property
    def location(self) -> str:
        """What a reader is told of the place."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """``text == document_text[start:end]``, with the place that a citation names and the headings it stands under.

    ``own_headings`` counts the last entries of ``heading_path`` that stand in ``text`` itself.
    """

    start: int
    end: int
    text: str
    heading_path: tuple[str, ...]
    page: int | None
    location: str
    token_count: int
    chunk_id: str
    own_headings: int = 0

    def embed_text(self) -> str:
        """What goes to the embedder and the word index: the headings above the chunk, then the chunk."""
        above = self.heading_path[: len(self.heading_path) - self.own_headings]
        return f"{HEADING_SEPARATOR.join(above)}\n{self.text}" if above else self.text


class _Piece(NamedTuple):
    """An indivisible span with its tokens and whether a chunk may well end behind it (the end of a block).

    ``after_gap``: text that is in no block stands before it, so no chunk may reach from before to behind it. ``markup``
    are the tokens of signs before it, which a chunk holds that reaches from before.
    """

    start: int
    end: int
    tokens: int
    ends_block: bool
    after_gap: bool
    page: int | None
    location: str
    markup: int = 0


class _Section(NamedTuple):
    """One or more headings in a row with the blocks under them, and the path of headings that then holds.

    ``own_headings`` of the path stand in the section. Headings without text between them are one section: alone they
    would be chunks that answer nothing.
    """

    path: tuple[str, ...]
    own_headings: int
    blocks: list[BlockLike]


@dataclass(frozen=True, slots=True)
class _Whole:
    """The block of a text that came without any."""

    start: int
    end: int
    kind: str = "paragraph"
    level: int = 0
    page: int | None = None
    location: str = ""


def chunk_id(document_id: str, text: str, occurrence: int, chunker: str = CHUNKER) -> str:
    """``base32(sha256(document, chunker, sha256(text), occurrence))[:20]``, lower case; occurrences count from 0."""
    content = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    joined = "\0".join((document_id, chunker, content, str(occurrence))).encode("utf-8", "surrogatepass")
    return base64.b32encode(hashlib.sha256(joined).digest()).decode("ascii").lower()[:CHUNK_ID_CHARS]


def chunk_document(
    document_id: str,
    text: str,
    blocks: Sequence[BlockLike] | None,
    token_count: TokenCount,
    tokens_max: int = TOKENS_MAX,
) -> list[Chunk]:
    """The chunks of a document in order, not overlapping, together holding every non-blank character of its blocks.

    Text outside the blocks given is in no chunk, so a caller leaves hidden text out by leaving out its blocks; None
    stands for one block, the whole text.

    ``token_count`` is the embedder's. ``tokens_max`` bounds heading path and text together, so nothing is cut off
    silently when embedding, but for a single word longer than that.
    """
    chunks: list[Chunk] = []
    seen: Counter[str] = Counter()
    for section in _sections(text, [_Whole(0, len(text))] if blocks is None else blocks):
        path = _fitting_path(section.path, token_count)
        heading_tokens = token_count(HEADING_SEPARATOR.join(path)) if path else 0
        budget = max(tokens_max - heading_tokens, tokens_max // 2)
        first = len(chunks)
        for pieces in _packed(list(_pieces(text, section.blocks, token_count, budget)), budget):
            start, end = pieces[0].start, pieces[-1].end
            own = text[start:end]
            chunks.append(
                Chunk(
                    start=start,
                    end=end,
                    text=own,
                    heading_path=path,
                    page=pieces[0].page,
                    location=pieces[0].location,
                    token_count=_tokens(pieces),
                    chunk_id=chunk_id(document_id, own, seen[own]),
                    own_headings=min(section.own_headings, len(path)) if len(chunks) == first else 0,
                )
            )
            seen[own] += 1
    return chunks


def _sections(text: str, blocks: Sequence[BlockLike]) -> Iterator[_Section]:
    """Blocks grouped under their nearest headings, with the path of headings by level."""
    path: list[tuple[int, str, int]] = []
    held: list[BlockLike] = []

    def section() -> _Section:
        entries = path[-HEADING_DEPTH_MAX:]
        own = sum(start >= held[0].start for _, _, start in entries)
        return _Section(tuple(title for _, title, _ in entries), own, held)

    for block in blocks:
        if block.kind == "heading":
            if any(before.kind != "heading" for before in held):
                yield section()
                held = []
            level = max(block.level, 1)
            while path and path[-1][0] >= level:
                path.pop()
            title = " ".join(text[block.start : block.end].lstrip("#").split())[:HEADING_CHARS_MAX]
            path.append((level, title, block.start))
        held.append(block)
    if held:
        yield section()


def _fitting_path(path: tuple[str, ...], token_count: TokenCount) -> tuple[str, ...]:
    """The path without its outermost headings where it would take too much of the window."""
    while path and token_count(HEADING_SEPARATOR.join(path)) > HEADING_TOKENS_MAX:
        path = path[1:]
    return path


def _pieces(text: str, blocks: Sequence[BlockLike], token_count: TokenCount, budget: int) -> Iterator[_Piece]:
    """The section as indivisible spans: a block, else its lines (tables, code, lists) or sentences, else its words.

    What stands under headings leaves them room, or they would be a chunk of their own that answers nothing.
    """
    reached = blocks[0].start
    room = budget
    for block in blocks:
        gap = text[reached : block.start].strip()
        after_gap = _MARKUP.fullmatch(gap) is None
        reached = block.end
        spans = _trimmed(text, block.start, block.end)
        if spans is None:
            continue
        start, end = spans
        tokens = token_count(text[start:end]) if end - start <= CHUNK_CHARS_MAX else budget + 1
        if tokens <= room and (tokens <= TOKENS_TARGET // 2 or block.kind in ("row", "table", "code")):
            parts = [(start, end, tokens)]
        else:
            units = _lines(text, start, end) if block.kind in ("table", "code", "row") else _sentences(text, start, end)
            parts = [part for unit in units for part in _fitting(text, *unit, token_count, room)]
        room = max(room - tokens, budget // 2) if block.kind == "heading" else budget
        markup = token_count(gap) if gap and not after_gap else 0
        for number, (first, last, size) in enumerate(parts):
            ends_block = number == len(parts) - 1 and block.kind != "heading"
            signs = 0 if number else markup
            yield _Piece(first, last, size, ends_block, after_gap and number == 0, block.page, block.location, signs)


def _fitting(text: str, start: int, end: int, token_count: TokenCount, budget: int) -> Iterator[tuple[int, int, int]]:
    """A unit as it is where it fits; one that alone is larger than a chunk is halved at blanks until it fits."""
    if end - start <= CHUNK_CHARS_MAX:
        tokens = token_count(text[start:end])
        if tokens <= budget or end - start < 2:
            yield start, end, tokens
            return
    cut = _middle_blank(text, start, end)
    for first, last in ((start, cut), (cut, end)):
        trimmed = _trimmed(text, first, last)
        if trimmed is not None:
            yield from _fitting(text, *trimmed, token_count, budget)


def _middle_blank(text: str, start: int, end: int) -> int:
    """The blank behind a cell or clause near the middle, else the blank nearest to it, or itself in an endless word."""
    middle = (start + end) // 2
    reach = min((end - start) // 4, BLANK_SEARCH_CHARS_MAX)
    ends = text.rfind("; ", middle - reach, middle), text.find("; ", middle, middle + reach)
    if max(ends) >= 0:
        return min((place for place in ends if place >= 0), key=lambda place: abs(place - middle)) + 1
    for distance in range(min((end - start) // 2, BLANK_SEARCH_CHARS_MAX)):
        if text[middle - distance].isspace() and middle - distance > start:
            return middle - distance
        if middle + distance < end and text[middle + distance].isspace():
            return middle + distance
    return middle


def _packed(pieces: list[_Piece], budget: int) -> list[list[_Piece]]:
    """Neighbouring pieces joined up to the budget; a chunk that reached the target ends where a block does."""
    groups: list[list[_Piece]] = []
    tokens = 0
    for piece in pieces:
        if (
            not groups
            or piece.after_gap
            or tokens + piece.markup + piece.tokens > budget
            or (tokens >= TOKENS_TARGET and groups[-1][-1].ends_block)
            or piece.end - groups[-1][0].start > CHUNK_CHARS_MAX
        ):
            groups.append([])
            tokens = 0
        tokens += piece.tokens + (piece.markup if groups[-1] else 0)
        groups[-1].append(piece)
    if len(groups) > 1 and tokens < TOKENS_TAIL_MIN and not groups[-1][0].after_gap:
        groups[-2:] = _evened(groups[-2] + groups[-1])
    return groups


def _tokens(pieces: Sequence[_Piece]) -> int:
    """What a chunk of these pieces takes of the window."""
    return sum(piece.tokens for piece in pieces) + sum(piece.markup for piece in pieces[1:])


def _evened(pieces: list[_Piece]) -> list[list[_Piece]]:
    """The pieces of two chunks cut again where the larger of both is smallest."""
    sizes = [piece.tokens for piece in pieces]
    cut = min(range(1, len(pieces)), key=lambda place: max(sum(sizes[:place]), sum(sizes[place:])))
    return [pieces[:cut], pieces[cut:]]


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Sentences of a span, in offsets of the document."""
    for first, last in sentences(text[start:end]):
        yield start + first, start + last


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Non-blank lines of a span, indentation kept but for the first."""
    position = start
    for line in text[start:end].splitlines(keepends=True):
        if line.strip():
            yield position, position + len(line.rstrip())
        position += len(line)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The span without blanks around it, or None when nothing is left."""
    own = text[start:end]
    if not own.strip():
        return None
    return start + len(own) - len(own.lstrip()), end - (len(own) - len(own.rstrip()))
