"""Lines to paragraphs: what belongs together, what is a heading, a list item or a table row, and where a divided
word joins.

Pure. Called by ``pdf`` with the lines of all pages, because body size and vocabulary are properties of the
document. The invariant: a word divided at a line end is joined without its hyphen only if the document or PDFium
says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from roadbed.knowledge.parse.document import BlockKind, one_line
from roadbed.knowledge.parse.pdf_layout import Line
from roadbed.knowledge.parse.pdf_page import HYPHEN

HEADING_CHARS_MAX = 160
HEADING_LINES_MAX = 3
HEADING_RATIO = 1.12
GOES_ON_PITCH = 1.9
"""A line that begins in small letters goes on with the sentence above it unless it lies a line further down."""
_BULLET = re.compile(
    "^(?:[\u2022\u25aa\u25ab\u25cf\u25cb\u25e6\u25a0\u25a1\u25b6\u25b8\u25ba\u2023\u2043\u00b7\u2013\u2014*"
    "\u2794\u27a2\u27a4\u2713\u2714"
    "\u2610\u2611\u2756\u203a\u00bb\u2212-]\\s+\\S|o\\s+[A-Z]|\u00a7\\s+[A-Za-z])"  # the last is Wingdings' square
)
_NUMBERED = re.compile(r"^(?:\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)]|\d{1,2}(?:\.\d{1,2}){1,4}\.?)\s+\S", re.IGNORECASE)
_SECTION = re.compile(r"^(\d{1,2}(?:\.\d{1,2}){0,4})\.?\s+[A-Z]")
_FOOTNOTE = re.compile(r"\d{1,3}\s[^\W\d]")
_DIVIDERS = (HYPHEN, "-", "\u00ad", "\u2010")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_END = re.compile(r"[.:;?!\u3002\u2026][\"')\u201d\u2019]*$")
_LEADERS = re.compile(r"\.{4,}|(?:\. ){4,}|\u2026{2,}")


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One block to be."""

    kind: BlockKind
    text: str
    level: int = 0
    hidden: bool = False
    is_body: bool = False
    """Whether it is set in the document's usual size; footnotes are not."""


class Prose:
    """Knows the document's usual font size, its heading sizes and its words."""

    def __init__(self, pages: Sequence[Sequence[Line]]) -> None:
        sizes: Counter[float] = Counter()
        self._words: Counter[str] = Counter()
        for lines in pages:
            divided = False
            for line in lines:
                if not line.hidden:
                    sizes[_round(line.size)] += len(line.text)
                words = _WORD.findall(line.text)
                # Halves of a divided word are no evidence for how it is written.
                whole = words[1 if divided else 0 :]
                divided = line.text.endswith(_DIVIDERS)
                self._words.update(word.lower() for word in (whole[:-1] if divided else whole))
        self.body = sizes.most_common(1)[0][0] if sizes else 10.0
        larger = sorted((size for size in sizes if size >= self.body * HEADING_RATIO), reverse=True)
        self._levels: dict[float, int] = {}
        level, last = 0, 0.0
        for size in larger:
            if not last or size < last * 0.93:
                level, last = level + 1, size
            self._levels[size] = min(level, 5)
        self._last_level = min(level + 1, 6)

    def paragraphs(self, lines: Sequence[Line]) -> Iterator[Paragraph]:
        """The paragraphs of one page in order."""
        pitch = self._pitch(lines)
        group: list[Line] = []
        for line in lines:
            if group and self._breaks(group, line, pitch):
                yield self._finish(group)
                group = []
            group.append(line)
        if group:
            yield self._finish(group)

    def _pitch(self, lines: Sequence[Line]) -> float:
        """The usual distance between the lines of running text."""
        steps = [
            above.bottom - below.bottom
            for above, below in pairwise(lines)
            if above.group == below.group and 0 < above.bottom - below.bottom < 3 * above.size
        ]
        return median(steps) if steps else 1.2 * self.body

    def _breaks(self, group: list[Line], line: Line, pitch: float) -> bool:
        before = group[-1]
        if before.group != line.group or before.hidden != line.hidden:
            return True
        step = before.bottom - line.bottom
        if before.cells > 1 or line.cells > 1:
            # Rows of a table stay together; prose next to them does not join.
            both = before.cells > 1 and line.cells > 1
            return not both or step > 3.5 * line.size or len(group) > 60
        if abs(before.size - line.size) > 0.1 * max(before.size, line.size):
            return True
        usual = max(pitch, 1.15 * line.size) if line.size <= self.body * HEADING_RATIO else 1.35 * line.size
        goes_on = line.size <= self.body * HEADING_RATIO and line.text[:1].islower() and not _END.search(before.text)
        if step <= 0 or step > (GOES_ON_PITCH if goes_on else 1.3) * usual:
            return True
        if _LEADERS.search(before.text):
            return True
        is_short = before.right < before.column_right - 0.22 * (before.column_right - before.column_left)
        if _BULLET.match(line.text) or (before.bold != line.bold and (is_short or line.bold) and not goes_on):
            return True
        if _NUMBERED.match(line.text) and (is_short or _END.search(before.text) or _NUMBERED.match(group[0].text)):
            return True
        if is_short and _END.search(before.text):
            return True
        indent = line.left - before.left
        starts_list = bool(_BULLET.match(group[0].text) or _NUMBERED.match(group[0].text))
        if indent > 0.9 * line.size and not starts_list and len(group) > 1 and _END.search(before.text):
            return True
        return indent < -1.2 * line.size and starts_list and is_short

    def _finish(self, group: list[Line]) -> Paragraph:
        hidden = group[0].hidden
        if group[0].cells > 1:
            text = "\n".join(self._clean(line.text) for line in group)
            return Paragraph("table" if len(group) > 1 else "paragraph", text, hidden=hidden)
        text = one_line(self._clean(self._flow(group)))
        level = self._heading_level(group, text)
        if level and not hidden:
            return Paragraph("heading", text, level)
        is_body = not hidden and abs(_round(group[-1].size) - self.body) < 0.5
        if _BULLET.match(text) or (_NUMBERED.match(text) and len(text) < 2_000):
            return Paragraph("list", text, 1, hidden, is_body)
        return Paragraph("paragraph", text, 0, hidden, is_body)

    def joined_over_pages(self, pages: Sequence[Sequence[Line]]) -> Iterator[list[Paragraph]]:
        """The paragraphs of each page, a sentence that goes on over the page's end kept whole on the earlier one."""
        held: list[Paragraph] = []
        for number, lines in enumerate(pages):
            found = list(self.paragraphs(lines))
            open_at = self._open_end(held)
            if open_at is not None and found and _goes_on(held[open_at].text, found[0]):
                text = one_line(self._clean(self._attach(held[open_at].text, found[0].text)))
                held[open_at] = replace(held[open_at], text=text)
                found = found[1:]
            if number:
                yield held
            held = found
        yield held

    def _open_end(self, paragraphs: Sequence[Paragraph]) -> int | None:
        """Which paragraph of a page the next page can go on with: the last one above the footnotes."""
        for index in range(len(paragraphs) - 1, -1, -1):
            if paragraphs[index].is_body and not _FOOTNOTE.match(paragraphs[index].text):
                return index
        return None

    def _heading_level(self, group: list[Line], text: str) -> int:
        if len(text) > HEADING_CHARS_MAX or len(group) > HEADING_LINES_MAX or not any(char.isalpha() for char in text):
            return 0
        if _LEADERS.search(text) or _BULLET.match(text):
            return 0
        size = _round(group[0].size)
        section = _SECTION.match(text)
        if size >= self.body * HEADING_RATIO and len(text) > 1:
            return self._levels.get(size, 1)
        if all(line.bold for line in group) and not text.endswith((".", ",", ";", ":")) and len(text) > 2:
            return min(section.group(1).count(".") + 1, 6) if section else self._last_level
        return 0

    def _flow(self, group: list[Line]) -> str:
        text = group[0].text
        for line in group[1:]:
            text = self._attach(text, line.text)
        return text

    def _attach(self, text: str, following: str) -> str:
        """Two lines as running text, with a divided word joined."""
        last = text[-1:]
        if last not in _DIVIDERS or not following[:1].isalpha():
            joint = "" if _is_wide(text[-1:]) and _is_wide(following[:1]) else " "
            return f"{text}{joint}{following}"
        stem = text[:-1]
        first = re.search(r"[^\W\d_]+$", stem)
        second = re.match(r"[^\W\d_]+", following)
        if first is None or second is None:
            return f"{stem}-{following}"
        joined = (first.group() + second.group()).lower()
        hyphened = f"{first.group()}-{second.group()}".lower()
        if self._words[joined]:
            return stem + following
        both = self._words[first.group().lower()] and self._words[second.group().lower()]
        if self._words[hyphened] or last == "-" or following[:1].isupper() or (both and second.end() > 3):
            return f"{stem}-{following}"
        return stem + following

    def _clean(self, text: str) -> str:
        return text.replace(HYPHEN, "-").replace("\u00ad", "").replace("\u2010", "-")


def _goes_on(text: str, following: Paragraph) -> bool:
    """Whether a page's first paragraph goes on with a sentence of the page before."""
    return (
        following.kind == "paragraph" and following.is_body and following.text[:1].islower() and not _END.search(text)
    )


def _round(size: float) -> float:
    return round(size * 2) / 2


def _is_wide(char: str) -> bool:
    """Whether a sign belongs to a script that is written without spaces."""
    return "\u2e80" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3" or "\uff00" <= char <= "\uffef"
