"""Rows of the same shape as a table's, made up: types, null shares, distinct counts, ranges, lengths, foreign keys.

Pure: the rows of a table and a seed in, other rows out. Numbers and times are drawn between quantiles, texts are made
of invented words, and no text that the table holds is in what comes out. One column of few values, where there is one,
is the segment: the other columns are drawn as they are in its part of the table, so that coarse correlations stay.
"""

from __future__ import annotations

import datetime
import decimal
import random
import re
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

QUANTILES: Final = 20
SEGMENT_VALUES_MAX: Final = 12
SEGMENT_ROWS_MIN: Final = 20
CATEGORY_VALUES_MAX: Final = 40
CATEGORY_REPEATS_MIN: Final = 3
TRIES_MAX: Final = 200
LENGTH_CHARACTERS_MAX: Final = 4_000

Row = Sequence[Any]
MakeValue = Callable[[str, random.Random], str]
"""A made-up value of a kind of personal data, such as ``email``."""
KindOf = Callable[[str], str]
"""The kind of personal data that a whole text is; empty for none."""

WORDS: Final = (
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet", "jetty", "knoll", "larch", "maple",
    "north", "ocean", "plain", "quarry", "ridge", "slope", "timber", "upland", "valley", "willow", "yard", "zenith",
    "bright", "calm", "early", "firm", "gentle", "hollow", "level", "narrow", "open", "quiet", "rapid", "steady",
    "warm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name, its columns and a sample of its rows."""

    name: str
    columns: tuple[str, ...]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Reference:
    """``table.column`` takes its values from ``parent.parent_column``."""

    table: str
    column: str
    parent: str
    parent_column: str


@dataclass(slots=True)
class _Column:
    """How the values of one column are drawn. ``real`` are the texts that may not come out."""

    null_share: float
    draw: Callable[[], Any]


@dataclass(slots=True)
class _Vocabulary:
    """Made-up texts that stand for real ones, the same for the same, and never a real one of any table."""

    chance: random.Random
    real: frozenset[str]
    make: MakeValue
    kind_of: KindOf
    known: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def fresh(self, draw: Callable[[], str], *, is_unique: bool = False) -> str:
        """A text that is nobody's real one."""
        for _ in range(TRIES_MAX):
            text = draw()
            if text not in self.real and not (is_unique and text in self.used):
                self.used.add(text)
                return text
        while (text := f"x{self.chance.randrange(10**12):012d}") in self.real or text in self.used:
            continue
        self.used.add(text)
        return text

    def standing_for(self, value: str) -> str:
        """What stands for a value of a column of few values."""
        if value not in self.known:
            self.known[value] = self.fresh(lambda: _words_of(self.chance, len(value)), is_unique=True)
        return self.known[value]


def references_of(tables: Sequence[Table]) -> list[Reference]:
    """Columns whose values all stand in another table's unique column that they name. Found by the data alone."""
    unique = {
        (table.name, column): values
        for table in tables
        for place, column in enumerate(table.columns)
        if (values := _unique_values(table, place)) is not None
    }
    found = []
    for table in tables:
        for place, column in enumerate(table.columns):
            values = {row[place] for row in table.rows if row[place] is not None}
            if not values or not all(isinstance(value, int | str | uuid.UUID) for value in values):
                continue
            for (parent, parent_column), keys in unique.items():
                if parent != table.name and _names(column, parent, parent_column) and values <= keys:
                    found.append(Reference(table.name, column, parent, parent_column))
                    break
    return found


def synthesise(
    tables: Sequence[Table], rows: int | None, seed: int, *, make: MakeValue, kind_of: KindOf
) -> dict[str, list[list[Any]]]:
    """Made-up rows of each table, ``rows`` of them or as many as there are in the sample."""
    chance = random.Random(seed)
    real = frozenset(value for table in tables for row in table.rows for value in row if isinstance(value, str))
    vocabulary = _Vocabulary(chance, real, make, kind_of)
    references = references_of(tables)
    made: dict[str, list[list[Any]]] = {}
    for table in _parents_first(tables, references):
        count = len(table.rows) if rows is None else rows
        made[table.name] = _rows(table, count, chance, vocabulary) if table.rows else []
    by_name = {table.name: table for table in tables}
    for reference in references:
        child, parent = by_name[reference.table], by_name[reference.parent]
        place, parent_place = child.columns.index(reference.column), parent.columns.index(reference.parent_column)
        keys = [row[parent_place] for row in made[parent.name] if row[parent_place] is not None]
        is_unique = _unique_values(child, place) is not None
        chance.shuffle(keys)
        for number, row in enumerate(made[child.name]):
            if row[place] is not None or is_unique:
                row[place] = (keys[number % len(keys)] if is_unique else chance.choice(keys)) if keys else None
        if is_unique:
            del made[child.name][len(keys) :]
    return made


def _rows(table: Table, count: int, chance: random.Random, vocabulary: _Vocabulary) -> list[list[Any]]:
    segment = _segment_of(table)
    parts: dict[Any, list[Row]] = {}
    for row in table.rows:
        parts.setdefault(row[segment] if segment is not None else None, []).append(row)
    small = [key for key, part in parts.items() if len(part) < SEGMENT_ROWS_MIN]
    whole = [_column(table, place, table.rows, chance, vocabulary) for place in range(len(table.columns))]
    by_part = {
        key: whole
        if key in small or segment is None
        else [
            whole[place]
            if place == segment or _unique_values(table, place) is not None
            else _column(table, place, part, chance, vocabulary)
            for place in range(len(table.columns))
        ]
        for key, part in parts.items()
    }
    keys, weights = list(parts), [len(part) for part in parts.values()]
    made = []
    for _ in range(count):
        key = chance.choices(keys, weights)[0]
        row = [None if chance.random() < column.null_share else column.draw() for column in by_part[key]]
        if segment is not None:
            row[segment] = vocabulary.standing_for(key) if isinstance(key, str) else key
        made.append(row)
    return made


def _column(table: Table, place: int, rows: Sequence[Row], chance: random.Random, vocabulary: _Vocabulary) -> _Column:
    values = [row[place] for row in rows if row[place] is not None]
    null_share = 1 - len(values) / max(1, len(rows))
    if not values:
        return _Column(1.0, lambda: None)
    is_unique = _unique_values(table, place) is not None
    first = values[0]
    if all(isinstance(value, bool) for value in values):
        share = sum(values) / len(values)
        return _Column(null_share, lambda: chance.random() < share)
    if is_unique and all(isinstance(value, int) for value in values):
        numbers = iter(range(1, 10**12))
        return _Column(null_share, lambda: next(numbers))
    if all(isinstance(value, int | float | decimal.Decimal) for value in values):
        return _Column(null_share, _number(values, chance))
    if all(isinstance(value, datetime.date) for value in values):
        return _Column(null_share, _time(values, chance))
    if all(isinstance(value, uuid.UUID) for value in values):
        return _Column(null_share, lambda: uuid.UUID(int=chance.getrandbits(128), version=4))
    if isinstance(first, bytes):
        return _Column(null_share, lambda: chance.randbytes(len(chance.choice(values))))
    texts = [str(value) for value in values]
    return _Column(null_share, _text(texts, chance, vocabulary, is_unique=is_unique))


def _text(texts: list[str], chance: random.Random, vocabulary: _Vocabulary, *, is_unique: bool) -> Callable[[], str]:
    kinds = Counter(vocabulary.kind_of(text) for text in texts[:200])
    kind, times = kinds.most_common(1)[0]
    if kind and times * 2 > min(len(texts), 200):
        pool_size = len(set(texts))
        pool = [vocabulary.fresh(lambda: vocabulary.make(kind, chance), is_unique=True) for _ in range(pool_size)]
        if is_unique:
            return lambda: vocabulary.fresh(lambda: vocabulary.make(kind, chance), is_unique=True)
        return lambda: chance.choice(pool)
    counts = Counter(texts)
    if len(counts) <= CATEGORY_VALUES_MAX and len(texts) >= CATEGORY_REPEATS_MIN * len(counts):
        names, weights = [vocabulary.standing_for(text) for text in counts], list(counts.values())
        return lambda: chance.choices(names, weights)[0]
    lengths = sorted(min(len(text), LENGTH_CHARACTERS_MAX) for text in texts)
    if sum(" " in text for text in texts) * 2 > len(texts):
        return lambda: vocabulary.fresh(lambda: _words_of(chance, chance.choice(lengths)), is_unique=is_unique)
    shapes = [_shape(text) for text in texts]
    return lambda: vocabulary.fresh(lambda: _of_shape(chance.choice(shapes), chance), is_unique=is_unique)


def _number(values: list[Any], chance: random.Random) -> Callable[[], Any]:
    points = _quantiles([float(value) for value in values])
    is_whole = all(isinstance(value, int) for value in values)
    places = max((_places(value) for value in values), default=0)
    kept = Counter(values) if len(set(values)) <= CATEGORY_VALUES_MAX and len(values) >= 10 * len(set(values)) else None
    if kept is not None:
        names, weights = list(kept), list(kept.values())
        return lambda: chance.choices(names, weights)[0]

    def draw() -> Any:
        number = _between(points, chance)
        if is_whole:
            return round(number)
        if isinstance(values[0], decimal.Decimal):
            return decimal.Decimal(f"{number:.{places}f}")
        return round(number, places)

    return draw


def _time(values: list[Any], chance: random.Random) -> Callable[[], Any]:
    if isinstance(values[0], datetime.datetime):
        zone = values[0].tzinfo
        points = _quantiles([value.timestamp() for value in values])
        return lambda: datetime.datetime.fromtimestamp(round(_between(points, chance)), zone)
    days = _quantiles([float(value.toordinal()) for value in values])
    return lambda: datetime.date.fromordinal(round(_between(days, chance)))


def _quantiles(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered[round(number * (len(ordered) - 1) / QUANTILES)] for number in range(QUANTILES + 1)]


def _between(points: list[float], chance: random.Random) -> float:
    number = chance.randrange(len(points) - 1)
    return chance.uniform(points[number], points[number + 1])


def _places(value: Any) -> int:
    _, _, fraction = str(value).partition(".")
    return min(len(fraction), 6) if fraction.isdigit() else 2


def _words_of(chance: random.Random, length: int) -> str:
    """Invented words of about so many characters."""
    text = chance.choice(WORDS)
    while len(text) + 4 <= length:
        text += f" {chance.choice(WORDS)}"
    return text[: max(3, length)].rstrip()


def _shape(text: str) -> str:
    """``AB-123`` as ``AA-000``: letters and digits by their kind, all else as it is."""
    return re.sub(r"[^\W\d_]", lambda m: "A" if m[0].isupper() else "a", re.sub(r"\d", "0", text))[
        :LENGTH_CHARACTERS_MAX
    ]


def _of_shape(shape: str, chance: random.Random) -> str:
    kinds = {"A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "a": "abcdefghijklmnopqrstuvwxyz", "0": "0123456789"}
    return "".join(chance.choice(kinds[mark]) if mark in kinds else mark for mark in shape)


def _unique_values(table: Table, place: int) -> set[Any] | None:
    """The values of a column that never repeats; None for one that does, or that holds what cannot be a key."""
    values = [row[place] for row in table.rows if row[place] is not None]
    if len(values) < 2 or not all(isinstance(value, int | str | uuid.UUID) for value in values):
        return None
    found = set(values)
    return found if len(found) == len(values) and not any(isinstance(value, bool) for value in values) else None


def _names(column: str, parent: str, parent_column: str) -> bool:
    """Whether a column's name speaks of another table's: ``customer_id`` of ``customers.id``, or the same name."""
    table = parent.rpartition(".")[2].lower()
    stems = {table, table.removesuffix("s"), table.removesuffix("es"), f"{table.removesuffix('ies')}y"}
    named = column.lower()
    return named in {f"{stem}_{parent_column.lower()}" for stem in stems} | {
        f"{stem}{parent_column.lower()}" for stem in stems
    } or (named == parent_column.lower() and named not in ("id", "name", "key"))


def _segment_of(table: Table) -> int | None:
    """The column of fewest values, at least two, each of which comes often."""
    best: tuple[int, int] | None = None
    for place in range(len(table.columns)):
        counts = Counter(row[place] for row in table.rows if isinstance(row[place], str | bool))
        is_full = sum(counts.values()) == len(table.rows)
        if is_full and 2 <= len(counts) <= SEGMENT_VALUES_MAX and min(counts.values()) >= CATEGORY_REPEATS_MIN:
            best = min(best, (len(counts), place)) if best is not None else (len(counts), place)
    return best[1] if best is not None else None


def _parents_first(tables: Sequence[Table], references: Sequence[Reference]) -> list[Table]:
    parents: Mapping[str, set[str]] = {
        table.name: {reference.parent for reference in references if reference.table == table.name} for table in tables
    }
    done: list[Table] = []
    left = list(tables)
    while left:
        ready = [table for table in left if parents[table.name] <= {made.name for made in done}] or left[:1]
        done += ready
        left = [table for table in left if table not in ready]
    return done
