"""Whether a sentence about a table says only numbers that the table bears out. Pure.

Every number must be a cell or one of `FUNCTIONS` of cells, at the precision at which it is written, or a literal of the
statement, which repeats what was asked for. Texts of cells and names of columns are taken out first, so that a number
in a name is no claim. The invariant: a sentence with a number that has no such origin is not shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from roadbed.apps.analytics_table import Table, is_measure, is_time, number_of, shown

CHARACTERS_MAX = 500
CELLS_MAX = 4_000
PAIRED_MAX = 60
_WORD_TEXT = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty"
)
_WORDS = {word: float(value) for value, word in enumerate(_WORD_TEXT.split(), 2)} | {
    "zero": 0.0, "thirty": 30.0, "forty": 40.0, "fifty": 50.0, "sixty": 60.0, "seventy": 70.0, "eighty": 80.0,
    "ninety": 90.0, "hundred": 100.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "half": 0.5, "third": 1 / 3,
    "quarter": 0.25, "twice": 2.0, "double": 2.0, "doubled": 2.0, "triple": 3.0, "tripled": 3.0, "dozen": 12.0,
}  # fmt: skip
_SCALES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9, "trillion": 1e12}
_SPACES = " \u00a0\u202f\u2009"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)])[-−–])?(?P<digits>\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?:[.,]\d+)?|\d+(?:[.,]\d+)*)"
    rf"(?:\s?-?(?P<scale>{'|'.join(sorted(_SCALES, key=len, reverse=True))})\b)?(?P<percent>\s?(?:%|per ?cent))?",
    re.IGNORECASE,
)
_WORD = re.compile(rf"\b(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})\b", re.IGNORECASE)
_OUTSIDE = re.compile(r"https?:|www\.|\]\(|!\[|<\s*\w|`", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """A number of a sentence: the values that its text may mean, and half of its last place."""

    text: str
    values: tuple[float, ...]
    tolerance: float
    is_percent: bool = False


def refusal_of(sentence: str, table: Table, statements: Sequence[str] = ()) -> str:
    """Why a sentence may not stand over a table; empty when it may."""
    text = sentence.strip()
    if not text or len(text) > CHARACTERS_MAX or "\n" in text:
        return "it is not one sentence"
    if _OUTSIDE.search(text):
        return "it holds a link or markup"
    said = numbers_said(without_names(text, table))
    if not said:
        return ""
    origins = Origins(table, statements)
    for number in said:
        if not origins.bears(number):
            return f"{number.text} is no cell and no function of cells"
    return ""


def without_names(text: str, table: Table) -> str:
    """The text without the texts of cells and names of columns, longest first."""
    names = {column.name for column in table.columns}
    for row in table.rows[:CELLS_MAX]:
        names.update(cell for cell in row if isinstance(cell, str) and not _is_bare_number(cell))
    for name in sorted((name for name in names if len(name) > 1), key=len, reverse=True):
        if name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    return text


def _is_bare_number(text: str) -> bool:
    return re.fullmatch(r"\s*[-+]?[\d.,\s]+%?\s*", text) is not None


def numbers_said(text: str) -> list[Said]:
    """The numbers of a text, in digits or words."""
    found = []
    for match in _NUMBER.finditer(text):
        scale = _SCALES.get((match["scale"] or "").casefold(), 1.0)
        readings = list(_readings(match["digits"]))
        sign = -1.0 if match["sign"] else 1.0
        values = tuple(sign * value * scale for value, _ in readings)
        if match["sign"]:  # a dash may part words, and a loss may be said without its sign
            values += tuple(value * scale for value, _ in readings)
        tolerance = max(0.5 * 10.0**-places for _, places in readings) * scale
        if scale == 1.0 and all(places == 0 for _, places in readings):
            tolerance = 0.5
        found.append(Said(match[0].strip(), values, tolerance, bool(match["percent"])))
    rest = _NUMBER.sub(" ", text)
    found += [Said(match[0], (_WORDS[match[0].casefold()],), 0.005) for match in _WORD.finditer(rest)]
    return found


def _readings(digits: str) -> Iterator[tuple[float, int]]:
    """What digits with separators may mean, with the number of decimal places: ``1,234`` is one of two."""
    plain = re.sub(f"[{_SPACES}]", "", digits)
    marks = [mark for mark in plain if mark in ".,"]
    if not marks:
        yield float(plain), 0
        return
    last = max(plain.rfind("."), plain.rfind(","))
    whole, part = re.sub("[.,]", "", plain[:last]), plain[last + 1 :]
    if len(marks) == 1 or marks[-1] not in marks[:-1]:
        yield float(f"{whole or 0}.{part}"), len(part)
    if len(part) == 3 and re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", plain):
        yield float(whole + part), 0


class Origins:
    """The numbers that a table bears out."""

    def __init__(self, table: Table, statements: Sequence[str]) -> None:
        self._exact: set[float] = {float(len(table.rows))}
        for statement in statements:
            self._exact.update(float(text) for text in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", statement)[:CELLS_MAX])
            for text in re.findall(r"\b(\d{4})-(\d{2})-(\d{2})\b", statement)[:CELLS_MAX]:
                self._exact.update(map(float, text))
        self._cells: list[float] = []
        self._made: list[float] = []
        self._shares: list[float] = []
        columns: list[list[float]] = []
        for place in range(len(table.columns)):
            if is_time(table, place):
                for row in table.rows[:CELLS_MAX]:
                    self._exact.update(_date_parts(row[place]))
            elif is_measure(table, place):
                values = [value for value in table.numbers(place)[:CELLS_MAX] if value is not None]
                columns.append(values)
                self._cells += values
        for values in columns:
            self._add_functions(values)
        for row in table.rows[:PAIRED_MAX]:
            places = [place for place in range(len(table.columns)) if is_measure(table, place)]
            measured = [value for place in places if (value := _cell(table, row, place)) is not None]
            self._add_pairs(measured)

    def _add_functions(self, values: Sequence[float]) -> None:
        if not values:
            return
        total = sum(values)
        self._made += [total, total / len(values)]
        if total:
            self._shares += [value / total for value in values]
        self._add_pairs(values[:PAIRED_MAX])

    def _add_pairs(self, values: Sequence[float]) -> None:
        for n, first in enumerate(values):
            for other in values[n + 1 :]:
                self._made += [first - other, other - first]
                for one, two in ((first, other), (other, first)):
                    if two:
                        self._made.append(one / two)
                        self._shares += [one / two, (one - two) / two]

    def bears(self, said: Said) -> bool:
        """Whether a number has an origin."""
        if said.is_percent:
            cells = self._near(self._cells, said) or self._near(self._shares, said, 100.0)
            return cells or self._near(self._made, said)
        if any(value == exact for value in said.values for exact in self._exact):
            return True
        return self._near(self._cells, said) or self._near(self._made, said) or self._near(self._shares, said)

    def _near(self, values: Iterable[float], said: Said, factor: float = 1.0) -> bool:
        """Whether a value, or a negative one said without its sign, is what is said, at the precision of its text."""
        return any(
            abs(near - number) <= said.tolerance + 1e-9 * abs(number)
            for value in values
            for near in ((value * factor, -value * factor) if value < 0 else (value * factor,))
            for number in said.values
        )


def _cell(table: Table, row: tuple[object, ...], place: int) -> float | None:
    return number_of(row[place], table.columns[place].type)


def _date_parts(value: object) -> set[float]:
    text = str(value)
    try:
        found = datetime.fromisoformat(f"{text}-01" if len(text) == 7 else text)
    except ValueError:
        return set()
    return {float(found.year), float(found.month), float(found.day), float((found.month + 2) // 3)}


def plain_sentence(title: str, table: Table, unit: str) -> str:
    """The sentence that needs no model: the value of a result of one cell; empty for any other."""
    if len(table.rows) != 1 or len(table.columns) != 1 or table.rows[0][0] is None:
        return ""
    return f"{title.rstrip('?').strip()}: {shown(table.rows[0][0])}{f' {unit}' if unit else ''}."
