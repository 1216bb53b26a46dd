"""Cuts a passage into the units that can be quoted: sentences, list items, table rows, lines of records.

A row keeps the span of its table's header and an item that of the line before its list, since alone they say little.
Headings, rules, link-only lines and code are told apart, for they answer nothing alone. Pure; the extractive answer
uses it. The invariant: units are ordered, do not overlap, and are spans of the passage as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from roadbed.knowledge.sentences import ITEM_SIGN, sentences

UnitKind = Literal["sentence", "item", "row", "heading", "header", "code", "link", "question", "intro", "note"]
Span = tuple[int, int]

UNIT_CHARACTERS_MAX = 700
ROW_PART_CHARACTERS = 350
"""A row that is too long is quoted in parts of about this length, each under the row's first cells."""
ROW_LEAD_CHARACTERS_MAX = 120
HEADER_CHARACTERS_MAX = 120
HEADING_WORDS_MAX = 12
LINK_WORDS_LEFT_MAX = 2
_BLANK_LINE = re.compile(r"\n[ \t>]*\n[\s>]*")
_ITEM = re.compile(rf"[ \t]*(?:{ITEM_SIGN}|\+)[ \t]+(?=\S)")
_RULE = re.compile(r"[\s|:\-=+*_~#>.]*")
_LABEL = r"[^\s:;|](?:[^:;|\n]{0,118}[^\s:;|])?: "  # as long as the column names of `knowledge.parse.tables`
_RECORD = re.compile(rf"{_LABEL}[^\n]*?; {_LABEL}")
CELL_END = "; "
_NEXT_CELL = re.compile(rf"{CELL_END}(?={_LABEL})")
_PAIR = re.compile(r"[^\s:;|.,][^:;|.,\n]{0,59}: \S")
_MARKUP_HEADING = re.compile(r"#{1,6}\s+(?!\|)")  # a column of numbers is named "#"
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_BOLD_LINE = re.compile(r"(\*\*|__)[^*_]+\1:?")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|<?https?://\S+|www\.\S+")
_TAG_NAMES = (
    "a|abbr|article|aside|audio|b|big|blockquote|br|button|center|cite|code|col|colgroup|dd|del|details|div|dl|dt|em|"
    "figcaption|figure|font|footer|form|h[1-6]|header|hr|i|iframe|img|input|ins|kbd|li|link|main|mark|nav|ol|p|picture|"
    "pre|q|s|samp|script|section|small|source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|tfoot|th|"
    "thead|tr|tt|u|ul|var|video|wbr"
)
TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:[\s/][^<>]{{0,2000}})?>|<!--[^<>]{{0,2000}}-->")
"""A tag of HTML, by its name: documents write ``<your name>`` too, and a address between brackets is no tag."""
_CELL = re.compile(r"\s*\|\s*")
_EMPHASISED = re.compile(r"([*_]{1,3})[^*_].*\1")
_WORD = re.compile(r"\w+")
_TERMINAL = (".", "!", "?", "…", ":", ";", "。", "！", "？", '"', "”", "’", ")")


@dataclass(frozen=True, slots=True)
class Unit:
    """One quotable span. ``lead`` is the header row or the introducing line it needs, ``heading`` the one above it."""

    start: int
    end: int
    kind: UnitKind
    lead: Span | None = None
    heading: Span | None = None


def units(passage: str, headings: Sequence[str] = ()) -> list[Unit]:
    """The units of a passage in order. ``headings`` are the known headings above or in it, to be told from text."""
    known = {_plain(heading) for heading in headings}
    found: list[Unit] = []
    heading: Span | None = None
    intro: Span | None = None
    fenced = False
    for start, end in _blocks(passage):
        block = passage[start:end]
        fences = sum(1 for line in block.split("\n") if _FENCE.match(line))
        if fenced or fences:
            first_shown, end_shown = start + len(block) - len(block.lstrip()), start + len(block.rstrip())
            found.append(Unit(first_shown, end_shown, "code", intro, heading))
            fenced ^= bool(fences % 2)
            continue
        lines = list(_lines(passage, start, end))
        first = passage[slice(*lines[0])]
        if _is_heading(first, known, is_alone=len(lines) == 1):
            heading, intro = lines[0], None
            found.append(Unit(*lines[0], "heading"))
            lines = lines[1:]
            if not lines:
                continue
        above = heading
        for made in _block_units(passage, lines, intro, heading):
            if made.kind == "question":
                heading = (made.start, made.end)
            elif made.heading == above:
                made = replace(made, heading=heading)
            found.append(made)
        last = found[-1] if found else None
        if last is not None and last.kind != "item":
            intro = (last.start, last.end) if last.kind == "intro" else None
    return found


def announced_end(parts: Sequence[Unit], position: int) -> int:
    """Where that ends which an ``intro`` announces, as far as both fit into one quotation; its own end without any."""
    intro = parts[position]
    under = {(intro.start, intro.end)}
    end = intro.end
    for part in parts[position + 1 :]:
        if part.lead not in under or part.end - intro.start > UNIT_CHARACTERS_MAX:
            break
        under.add((part.start, part.end))
        end = part.end
    return end


def is_link_only(text: str) -> bool:
    """Whether hardly a word is left when links are taken away."""
    bare, count = _LINK.subn(" ", text)
    bare, tags = TAG.subn(" ", bare)
    return count + tags > 0 and len(_WORD.findall(bare)) <= LINK_WORDS_LEFT_MAX


def _blocks(passage: str) -> Iterator[Span]:
    position = 0
    for match in _BLANK_LINE.finditer(passage):
        if passage[position : match.start()].strip():
            yield position, match.start()
        position = match.end()
    if passage[position:].strip():
        yield position, len(passage)


def _lines(passage: str, start: int, end: int) -> Iterator[Span]:
    position = start
    for line in passage[start:end].split("\n"):
        if line.strip():
            stripped = len(line) - len(line.lstrip())
            yield position + stripped, position + len(line.rstrip())
        position += len(line) + 1


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _is_heading(line: str, known: set[str], *, is_alone: bool) -> bool:
    if _MARKUP_HEADING.match(line) or _BOLD_LINE.fullmatch(line):
        return True
    if _plain(line) in known:
        return True
    words = _WORD.findall(line)
    return (
        is_alone
        and 0 < len(words) <= HEADING_WORDS_MAX
        and line[:1].isupper()
        and not line.endswith(_TERMINAL)
        and "|" not in line
        and not _ITEM.match(line)
        and not any(character.isdigit() for character in line)
    )


def _block_units(passage: str, lines: list[Span], intro: Span | None, heading: Span | None) -> Iterator[Unit]:
    texts = [passage[start:end] for start, end in lines]
    bars = sum("|" in text for text in texts)
    if bars == len(texts) and (len(texts) > 1 or texts[0].startswith("|") or " | " in texts[0]):
        yield from _rows(lines, texts, heading, may_be_cut=not passage[: lines[0][0]].strip())
    elif _are_records(texts):
        for span, text in zip(lines, texts, strict=True):
            if " | " in text and not _RECORD.match(text):
                yield Unit(*span, "header", None, heading)
            else:
                yield from _record(passage, span, heading)
    elif any(_ITEM.match(text) for text in texts):
        yield from _items(passage, lines, texts, intro, heading)
    else:
        is_next = intro is not None and not passage[intro[1] : lines[0][0]].strip()  # no list stands between
        yield from _sentences(passage, lines[0][0], lines[-1][1], "sentence", intro if is_next else None, heading)


def _are_records(lines: Sequence[str]) -> bool:
    """Whether lines are records: most of them rows of named cells, or all of them a name with its value.

    The others are a row of names, or hold a single cell.
    """
    if len(lines) == 1:  # perhaps cut in its first cell
        named = len(_NEXT_CELL.findall(lines[0]))
        return named > 1 and 2 * named >= lines[0].count(CELL_END)
    count = sum(_RECORD.match(line) is not None for line in lines)
    if count >= max(len(lines) - 1, 1) or 2 * count >= max(len(lines), 4):
        return True
    return all(_PAIR.match(line) and not _ITEM.match(line) for line in lines)


def _record(passage: str, span: Span, heading: Span | None) -> Iterator[Unit]:
    """One row of named cells; a long one in parts, each under the row's first cells."""
    start, end = span
    if end - start <= UNIT_CHARACTERS_MAX:
        yield Unit(start, end, "row", None, heading)
        return
    cuts = [start, *(start + match.end() for match in _NEXT_CELL.finditer(passage[start:end])), end + len(CELL_END)]
    lead: Span | None = None
    first = start
    for before, cut in pairwise(cuts):
        if cut - first > ROW_PART_CHARACTERS and before > first:
            yield from _row_part(passage, (first, before - len(CELL_END)), lead if first > start else None, heading)
            first = before
        if cut - start <= ROW_LEAD_CHARACTERS_MAX:
            lead = (start, cut - len(CELL_END))
    yield from _row_part(passage, (first, end), lead if first > start else None, heading)


def _row_part(passage: str, span: Span, lead: Span | None, heading: Span | None) -> Iterator[Unit]:
    """Some cells of a long row, or the sentences of a cell that is too long itself."""
    if span[1] - span[0] <= UNIT_CHARACTERS_MAX:
        yield Unit(*span, "row", lead, heading)
    else:
        yield from _sentences(passage, *span, "row", lead, heading)


def _rows(lines: list[Span], texts: list[str], heading: Span | None, *, may_be_cut: bool) -> Iterator[Unit]:
    """The rows of a table; a first row that only may name its columns is a row, and stands above the others too."""
    header: Span | None = None
    names = _names_columns(texts)
    is_sure = names and (_differs(texts) or not (may_be_cut or len(_cells(texts[0])) == 2))
    for number, (span, text) in enumerate(zip(lines, texts, strict=True)):
        if _RULE.fullmatch(text):
            continue
        if number == 0 and is_sure:
            header = span
            yield Unit(*span, "header", None, heading)
        else:
            yield Unit(*span, "row", header, lines[0] if names and not is_sure and number else heading)


def _names_columns(rows: list[str]) -> bool:
    """Whether a first row can name the columns: words, and rows below it."""
    if len(rows) < 2 or _is_pair(rows[0]) or _is_torn(rows):
        return False
    return not any(len(cell) > HEADER_CHARACTERS_MAX or _is_figure(cell) for cell in _cells(rows[0]))


def _differs(rows: list[str]) -> bool:
    """Whether a first row is no row like those below: a rule follows it, or it has words over figures.

    Without that it is doubtful in two places: where a passage begins, since the table may have been cut there, and in
    two columns, which are labels with values as often as a table.
    """
    if _RULE.fullmatch(rows[1]):
        return True
    names, *others = (_cells(row) for row in rows)
    below = [[cells[column] for cells in others if column < len(cells)] for column in range(len(names))]
    has_figures = any(2 * sum(map(_has_digit, cells)) > len(cells) for cells in below if cells)
    return has_figures and not any(map(_has_digit, names))


def _cells(row: str) -> list[str]:
    return _CELL.split(row.strip().removeprefix("|").removesuffix("|").strip())


def _is_figure(cell: str) -> bool:
    """Whether a cell holds digits and no letter: a number or a date."""
    return _has_digit(cell) and not any(character.isalpha() for character in cell)


def _has_digit(cell: str) -> bool:
    return any(character.isdigit() for character in cell)


def _is_torn(rows: list[str]) -> bool:
    """Whether a Markdown table goes on from an earlier chunk: bars on both sides and no rule under its first row."""
    return rows[0].startswith("|") and rows[0].endswith("|") and not _RULE.fullmatch(rows[1])


def _is_pair(row: str) -> bool:
    """Whether a first row is a name with its value rather than a header: two cells, the second mostly digits."""
    cells = [cell for cell in _CELL.split(row) if cell]
    return len(cells) == 2 and sum(character.isdigit() for character in cells[1]) * 2 > len(cells[1])


def _items(
    passage: str, lines: list[Span], texts: list[str], intro: Span | None, heading: Span | None
) -> Iterator[Unit]:
    """List items with their continuation lines; text before the first item introduces it."""
    groups: list[list[Span]] = []
    before: list[Span] = []
    for span, text in zip(lines, texts, strict=True):
        if _ITEM.match(text):
            groups.append([span])
        elif groups:
            groups[-1].append(span)
        else:
            before.append(span)
    if before:
        made = list(_sentences(passage, before[0][0], before[-1][1], "sentence", None, heading))
        yield from made
        intro = (made[-1].start, made[-1].end) if made else None
    under: dict[str, Span | None] = {}  # what the items of a sign stand under, outer signs first
    deeper = intro
    for group in groups:
        sign = _sign(passage[slice(*group[0])])
        if sign in under:
            known = list(under)
            for inner in known[known.index(sign) + 1 :]:
                del under[inner]
        lead = under.setdefault(sign, deeper)
        made = list(_sentences(passage, group[0][0], group[-1][1], "item", lead, heading))
        yield from made
        # "not older than:", and then items of another sign that say so
        deeper = (made[-1].start, made[-1].end) if made and made[-1].kind == "intro" else lead


def _sign(item: str) -> str:
    """What an item begins with: its sign, numbers and letters as one each."""
    found = _ITEM.match(item)
    return re.sub(r"\d+", "1", re.sub(r"[a-zA-Z]", "a", found.group().strip())) if found else ""


def _sentences(
    passage: str, start: int, end: int, kind: UnitKind, lead: Span | None, heading: Span | None
) -> Iterator[Unit]:
    for first, last in sentences(passage[start:end]):
        text = passage[start + first : start + last]
        if not _RULE.fullmatch(text):
            yield Unit(start + first, start + last, _kind_of(text, kind), lead, heading)


def _kind_of(text: str, kind: UnitKind) -> UnitKind:
    """A question asks, a line that ends in a colon announces, an emphasised line is about the document."""
    if is_link_only(text):
        return "link"
    bare = text.rstrip('*_ "”)')
    if bare.endswith("?"):
        return "question"
    if bare.endswith(":"):
        return "intro"
    return "note" if kind == "sentence" and _EMPHASISED.fullmatch(text) else kind
