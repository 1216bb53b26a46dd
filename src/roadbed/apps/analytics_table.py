"""`Table`: a result as analytics shows it: JSON cells with typed columns, and the numbers in them. Pure.

Decimals and large integers are texts that lose nothing, so `number_of` reads a cell by its column's type. The
invariant: a cell is never taken for a number because its text looks like one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

NUMERIC = frozenset({"integer", "number", "decimal"})
TIMES = frozenset({"date", "timestamp"})
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may hold."""
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}.*)?)?\Z")


class TableColumn(msgspec.Struct, frozen=True):
    """A column; ``type`` as in `sources.result.ColumnType`."""

    name: str
    type: str


class Table(msgspec.Struct, frozen=True):
    """Rows in order. ``is_truncated`` says that there were more."""

    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_truncated: bool = False
    notes: tuple[str, ...] = ()

    def numbers(self, column: int) -> list[float | None]:
        """The column's values as numbers; None for NULL and for what is no number."""
        kind = self.columns[column].type
        return [number_of(row[column], kind) for row in self.rows]

    def without_rows(self, kept: int) -> Table:
        """At most the first ``kept`` rows."""
        if len(self.rows) <= kept:
            return self
        return msgspec.structs.replace(self, rows=self.rows[:kept], is_truncated=True)


def table_from(data: Mapping[str, Any], *, is_truncated: bool) -> Table:
    """A table of what `tools.tables.table_of` gives."""
    columns = tuple(TableColumn(str(column["name"]), str(column["type"])) for column in data["columns"])
    rows = tuple(tuple(row) for row in data["rows"])
    return Table(columns, rows, is_truncated, tuple(data.get("notes", ())))


def number_of(value: Any, kind: str) -> float | None:
    """A cell as a finite number, by its column's type."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    if kind in NUMERIC and isinstance(value, str):
        try:
            number = float(Decimal(value))
        except (InvalidOperation, ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


def is_measure(table: Table, column: int) -> bool:
    """Whether a column holds numbers that something can be said with: of a numeric type, or all numbers (SQLite)."""
    kind = table.columns[column].type
    cells = [row[column] for row in table.rows if row[column] is not None]
    if kind in NUMERIC:
        return True
    if not cells or any(isinstance(cell, bool) for cell in cells):
        return False
    return all(isinstance(cell, int | float) for cell in cells)


def is_time(table: Table, column: int) -> bool:
    """Whether a column holds points in time: by its type, or because every cell is an ISO date (SQLite)."""
    if table.columns[column].type in TIMES:
        return True
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(isinstance(cell, str) and _ISO.match(cell) for cell in cells)


def shown(value: Any) -> str:
    """A cell as people read it."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\u202f") if abs(value) >= 10_000 else str(value)
        case float():
            return (
                f"{value:,.6g}".replace(",", "\u202f") if abs(value) < 1e6 else f"{value:,.2f}".replace(",", "\u202f")
            )
        case str():
            return value
        case _:
            return msgspec.json.encode(value).decode()


def markdown_of(table: Table, rows_max: int) -> str:
    """The table in Markdown, at most so many rows; what a cell holds cannot end its cell or its row."""
    lines = [
        "| " + " | ".join(_cell(column.name) for column in table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    lines += ["| " + " | ".join(_cell(shown(value)) for value in row) + " |" for row in table.rows[:rows_max]]
    return "\n".join(lines)


def _cell(text: str) -> str:
    flat = " ".join(text.split())
    escaped = re.sub(r"([\\|\[\]<>`*])", r"\\\1", flat)
    return escaped if len(escaped) <= 200 else escaped[:199].rstrip("\\") + "…"


def column_names(columns: Sequence[TableColumn]) -> list[str]:
    """The names of columns."""
    return [column.name for column in columns]
