"""The reading order of a page: pieces with boxes to lines, column by column.

Pure geometry. Recursive cuts: where a vertical gutter separates two bodies of prose, the left one is read before
the right one, and lines that span the gutter stay between what is above and below them. Narrow or short bodies are
table cells, and are read row by row. Called by ``pdf``. The invariant: every piece ends up in exactly one line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from roadbed.knowledge.parse.pdf_page import HYPHEN, Piece

DEPTH_MAX = 4
BIN_POINTS = 2.0
COLUMN_LINES_MIN = 4
COLUMN_CHARS_MIN = 14
"""Median characters of a line of prose; table cells are shorter."""
FILL_MIN = 0.45
"""Median width of a column's lines as a share of the column."""
_MARKER = re.compile(r"(?:[^\w\s]|o|\(?(?:\d{1,3}|[A-Za-z]|[ivx]{1,4})[.)])$")
"""A bullet or number with its item far to the right is no table row."""
ACROSS_SHARE = 0.6
"""So many of a region's lines may run across a gutter: titles, notes below a slide."""
SAME_SIZE = 0.1
"""Fonts that differ by no more than this share are of one size."""
CELL_GAP_EM = 1.8
"""A gap over this many font sizes inside a line is written as a cell border."""
WRAP_POINTS = 2.0
"""A wrapped line of a cell begins where the cell's first line does, give or take so much."""
WRAP_EM = 0.55
"""Between two lines of one cell is less room than this many font sizes; between rows there is more, or a rule."""


@dataclass(slots=True)
class Line:
    """One visual line of one column; ``group`` tells columns apart, ``column_right`` is where its lines usually end."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    size: float
    bold: bool
    hidden: bool
    group: int = 0
    column_left: float = 0.0
    column_right: float = 0.0
    cells: int = 1


def order_lines(pieces: Sequence[Piece]) -> list[Line]:
    """The lines of a page in reading order; hidden pieces make lines of their own at the end."""
    lines: list[Line] = []
    groups = [0]
    _cut([piece for piece in pieces if not piece.hidden], lines, groups, 0)
    hidden = [piece for piece in pieces if piece.hidden]
    if hidden:
        _emit(hidden, lines, groups)
    return lines


def _cut(pieces: list[Piece], lines: list[Line], groups: list[int], depth: int) -> None:
    gutter = _find_gutter(pieces) if depth < DEPTH_MAX else None
    if gutter is None:
        _emit(pieces, lines, groups)
        return
    across = sorted((piece for piece in pieces if piece.left < gutter < piece.right), key=lambda piece: -piece.top)
    rest = [piece for piece in pieces if not piece.left < gutter < piece.right]
    position = 0
    while position < len(across) or rest:
        # Spanning pieces with nothing of the columns between them form one band.
        band: list[Piece] = []
        while position < len(across):
            piece = across[position]
            middle = (piece.top + piece.bottom) / 2
            if any((other.top + other.bottom) / 2 > middle for other in rest):
                break
            band.append(piece)
            position += 1
        if band:
            _emit(band, lines, groups)
        limit = (across[position].top + across[position].bottom) / 2 if position < len(across) else float("-inf")
        above = [piece for piece in rest if (piece.top + piece.bottom) / 2 > limit]
        rest = [piece for piece in rest if (piece.top + piece.bottom) / 2 <= limit]
        if not above:
            continue
        sides = [piece for piece in above if piece.right <= gutter], [piece for piece in above if piece.left >= gutter]
        if _is_prose(sides[0]) or _is_prose(sides[1]) or not (sides[0] and sides[1]):
            for side in sides:
                _cut(side, lines, groups, depth + 1)
        else:
            _emit(above, lines, groups)


def _find_gutter(pieces: Sequence[Piece]) -> float | None:
    """The x of a gutter between two bodies of prose, or None."""
    if len(pieces) < 2 * COLUMN_LINES_MIN:
        return None
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    width = right - left
    if width < 150:
        return None
    count = int(width / BIN_POINTS) + 1
    steps = [0] * (count + 1)
    for piece in pieces:
        steps[int((piece.left - left) / BIN_POINTS)] += 1
        steps[min(int((piece.right - left) / BIN_POINTS) + 1, count)] -= 1
    cover: list[int] = []
    total = 0
    for step in steps[:count]:
        total += step
        cover.append(total)
    bands = _bands(pieces)
    allowed = max(1, int(len(bands) * ACROSS_SHARE))
    size = median(piece.size for piece in pieces)
    best: tuple[float, float] | None = None
    start: int | None = None
    for index in range(int(count * 0.22), int(count * 0.78) + 1):
        low = index < count and cover[index] <= allowed
        if low and start is None:
            start = index
        if start is not None and (not low or index >= int(count * 0.78)):
            points = (index - start) * BIN_POINTS
            middle = left + (start + index) / 2 * BIN_POINTS
            if points >= max(5.0, 0.5 * size) and (best is None or points > best[0]) and _splits(pieces, middle):
                best = points, middle
            start = None
    return best[1] if best else None


def _splits(pieces: Sequence[Piece], gutter: float) -> bool:
    """Whether both sides of ``gutter`` are prose and lie side by side for a good part of their height."""
    first = [piece for piece in pieces if piece.right <= gutter]
    second = [piece for piece in pieces if piece.left >= gutter]
    if not (_is_prose(first) and _is_prose(second)):
        return False
    top = min(max(piece.top for piece in first), max(piece.top for piece in second))
    bottom = max(min(piece.bottom for piece in first), min(piece.bottom for piece in second))
    heights = [max(piece.top for piece in side) - min(piece.bottom for piece in side) for side in (first, second)]
    return top - bottom > 0.3 * min(heights)


def _is_prose(pieces: Sequence[Piece]) -> bool:
    if len(pieces) < COLUMN_LINES_MIN:
        return False
    bands = _bands(pieces)
    if len(bands) < COLUMN_LINES_MIN:
        return False
    width = max(piece.right for piece in pieces) - min(piece.left for piece in pieces)
    widths = [sum(piece.right - piece.left for piece in band) for band in bands]
    chars = [sum(len(piece.text) for piece in band) for band in bands]
    return median(chars) >= COLUMN_CHARS_MIN and median(widths) >= FILL_MIN * width


def _bands(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces that share a line, from top to bottom: their boxes overlap by half of the lower one's height.

    A band is as high as its longest text: a drop cap or a large quotation mark stands beside several lines, and
    makes no line of them.
    """
    bands: list[list[Piece]] = []
    main: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: (-piece.top - piece.bottom, piece.left)):
        # Only the last few bands can overlap: sorted by height, with superscripts the exception.
        for index in range(len(bands) - 1, max(-1, len(bands) - 4), -1):
            other = main[index]
            overlap = min(other.top, piece.top) - max(other.bottom, piece.bottom)
            if overlap > 0.5 * min(other.top - other.bottom, piece.top - piece.bottom):
                bands[index].append(piece)
                if len(piece.text) > len(other.text) and abs(piece.size - other.size) > SAME_SIZE * other.size:
                    main[index] = piece
                break
        else:
            bands.append([piece])
            main.append(piece)
    return bands


def _emit(pieces: Sequence[Piece], lines: list[Line], groups: list[int]) -> None:
    """Append the pieces as one group of lines, top to bottom."""
    if not pieces:
        return
    groups[0] += 1
    column_left, column_right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    for band in _unwrapped(_bands(pieces)):
        text, cells = _join(band)
        main = max(band, key=lambda piece: len(piece.text))
        lines.append(
            Line(
                text=text,
                left=min(piece.left for piece in band),
                bottom=main.bottom,
                right=max(piece.right for piece in band),
                top=main.top,
                size=main.size,
                bold=all(piece.bold for piece in band),
                hidden=main.hidden,
                group=groups[0],
                column_left=column_left,
                column_right=column_right,
                cells=cells,
            )
        )


def _unwrapped(bands: list[list[Piece]]) -> list[list[Piece]]:
    """The bands with wrapped lines of table cells joined to the cells that they go on.

    Such a line has nothing in the first column, and each of its pieces begins where a cell of the row does, closely
    below it.
    """
    found: list[list[Piece]] = []
    feet: dict[int, float] = {}  # of the cells of the last row, by place
    for band in bands:
        row = found[-1] if found else []
        places = _wrapped_places(row, feet, band)
        if places is None:
            found.append(sorted(band, key=lambda piece: piece.left))
            feet = {place: piece.bottom for place, piece in enumerate(found[-1])}
            continue
        for place, piece in zip(places, band, strict=True):
            cell = row[place]
            row[place] = replace(cell, text=f"{cell.text} {piece.text}", right=max(cell.right, piece.right))
            feet[place] = piece.bottom
    return found


def _wrapped_places(row: Sequence[Piece], feet: Mapping[int, float], band: Sequence[Piece]) -> list[int] | None:
    """Which cells of the row the pieces go on, or None when one of them does not."""
    if len(row) < 2 or len(band) >= len(row) or _MARKER.match(row[0].text) or _joins_closely(row):
        return None
    places = []
    for piece in band:
        place = next((n for n, cell in enumerate(row) if abs(cell.left - piece.left) <= WRAP_POINTS), None)
        if not place or feet[place] - piece.top > WRAP_EM * piece.size or row[place].text.endswith(HYPHEN):
            return None
        if abs(piece.size - row[place].size) > SAME_SIZE * piece.size or piece.bold != row[place].bold:
            return None
        places.append(place)
    return places if len(set(places)) == len(places) else None


def _joins_closely(row: Sequence[Piece]) -> bool:
    """Whether a gap in the row is too small for a cell border."""
    return any(
        piece.left - before.right <= CELL_GAP_EM * max(before.size, piece.size) for before, piece in pairwise(row)
    )


def _join(band: list[Piece]) -> tuple[str, int]:
    """The text of one line, and how many cells wide gaps make of it."""
    right_to_left = sum(_is_rtl(piece.text) for piece in band) * 2 > len(band)
    ordered = sorted(band, key=lambda piece: -piece.right if right_to_left else piece.left)
    text, cells = ordered[0].text, 1
    for before, piece in pairwise(ordered):
        gap = before.left - piece.right if right_to_left else piece.left - before.right
        size = max(before.size, piece.size)
        if gap > CELL_GAP_EM * size and not _MARKER.match(text):
            text += f" | {piece.text}"
            cells += 1
        else:
            text += piece.text if gap < 0.13 * size else f" {piece.text}"
    return text, cells


def _is_rtl(text: str) -> bool:
    return sum(1 for char in text if "\u0590" <= char <= "\u08ff" or "\ufb1d" <= char <= "\ufefc") * 2 > len(text)
