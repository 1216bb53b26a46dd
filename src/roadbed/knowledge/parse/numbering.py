"""The numbers that Word computes for headings and list items: "4.2", "(a)", "iii.".

They are not in the text of the file, yet readers ask for "section 4.2". Pure: fed with ``numbering.xml`` and the
paragraphs in order. Called by ``docx``. The invariant: an unknown format gives no number rather than a wrong one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import attribute, child, local

if TYPE_CHECKING:
    from lxml.etree import _Element

LEVELS = 9
_PLACE = re.compile(r"%([1-9])")


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a list definition."""

    form: str
    template: str
    start: int


class Numbering:
    """Counters of all lists of one document."""

    def __init__(self, root: _Element | None) -> None:
        self._abstract: dict[str, dict[int, Level]] = {}
        self._lists: dict[str, str] = {}
        self._overrides: dict[str, dict[int, int]] = {}
        self._counters: dict[str, list[int | None]] = {}
        for item in root if root is not None else ():
            if local(item) == "abstractNum":
                self._read_abstract(item)
            elif local(item) == "num":
                self._read_list(item)

    def label(self, list_id: str, depth: int) -> str:
        """Advance list ``list_id`` at ``depth`` and give its label; "-" for bullets, an empty string when unknown."""
        abstract = self._lists.get(list_id)
        levels = self._abstract.get(abstract or "", {})
        level = levels.get(depth)
        if level is None or not 0 <= depth < LEVELS:
            return ""
        if level.form == "bullet":
            return "-"
        counters = self._counters.setdefault(abstract or "", [None] * LEVELS)
        start = self._overrides.get(list_id, {}).pop(depth, None)
        current = counters[depth]
        counters[depth] = start if start is not None else level.start if current is None else current + 1
        for deeper in range(depth + 1, LEVELS):
            counters[deeper] = None

        def number(match: re.Match[str]) -> str:
            place = int(match.group(1)) - 1
            other = levels.get(place)
            value = counters[place]
            if value is None:
                value = other.start if other else 1
                counters[place] = value
            form = "decimal" if other is None else other.form
            return spell(value, form)

        return _PLACE.sub(number, level.template).strip() if level.form != "none" else ""

    def _read_abstract(self, item: _Element) -> None:
        levels: dict[int, Level] = {}
        for level in item:
            if local(level) != "lvl":
                continue
            depth = _number(attribute(level, "ilvl"), 0)
            fields = {local(field): attribute(field, "val") or "" for field in level}
            levels[depth] = Level(
                fields.get("numFmt", "decimal"), fields.get("lvlText", ""), _number(fields.get("start"), 1)
            )
        self._abstract[attribute(item, "abstractNumId") or ""] = levels

    def _read_list(self, item: _Element) -> None:
        reference = child(item, "abstractNumId")
        if reference is None:
            return
        list_id = attribute(item, "numId") or ""
        self._lists[list_id] = attribute(reference, "val") or ""
        for override in item:
            start = child(override, "startOverride") if local(override) == "lvlOverride" else None
            if start is not None:
                depth = _number(attribute(override, "ilvl"), 0)
                self._overrides.setdefault(list_id, {})[depth] = _number(attribute(start, "val"), 1)


def spell(value: int, form: str) -> str:
    """``value`` in one of Word's number formats; unknown ones in digits."""
    if form in ("lowerLetter", "upperLetter") and value > 0:
        text = chr(ord("a") + (value - 1) % 26) * min((value - 1) // 26 + 1, 10)
        return text if form == "lowerLetter" else text.upper()
    if form in ("lowerRoman", "upperRoman") and 0 < value < 4000:
        text, rest = "", value
        for size, letters in ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"),
                              (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")):  # fmt: skip
            text += letters * (rest // size)
            rest %= size
        return text if form == "lowerRoman" else text.upper()
    if form == "decimalZero":
        return f"{value:02d}"
    return str(value)


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.lstrip("-").isdigit() and len(text) < 8 else default
