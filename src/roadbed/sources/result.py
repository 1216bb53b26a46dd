"""Results of a statement with bounds: whole rows until a number of rows or bytes is reached, typed columns.

Pure. Rows are taken one at a time by a `ResultBuilder`, whoever fetches them. The invariant: a row is in the result
whole or not at all, and a result never holds more than ``rows_max`` rows or ``bytes_max`` bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roadbed.sources.errors import ResultTooLarge

ROWS_MAX = 1_000
RESULT_BYTES_MAX = 1024 * 1024
COLUMNS_MAX = 100
FIXED_BYTES = 8

ColumnType = Literal[
    "boolean", "integer", "number", "decimal", "text", "bytes", "date", "time", "timestamp", "interval", "uuid", "json",
    "list", "other",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result. ``native`` is the system's own name of its type."""

    name: str
    type: ColumnType
    native: str


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows in the order in which the source gave them. ``is_truncated`` says that there were more."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    is_truncated: bool
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ResultBounds:
    """How much of a result is taken."""

    rows_max: int = ROWS_MAX
    bytes_max: int = RESULT_BYTES_MAX


class ResultBuilder:
    """Takes rows until a bound is reached."""

    def __init__(self, bounds: ResultBounds) -> None:
        self._bounds = bounds
        self._rows: list[tuple[Any, ...]] = []
        self._size_bytes = 0
        self._is_truncated = False

    def take(self, row: Sequence[Any]) -> bool:
        """Take one more row; False when the result is full and the row was left out. `ResultTooLarge`."""
        size_bytes = sum(map(cell_bytes, row))
        is_over = self._size_bytes + size_bytes > self._bounds.bytes_max
        if is_over and not self._rows:
            raise ResultTooLarge(f"the first row holds {size_bytes} bytes, and the bound is {self._bounds.bytes_max}")
        if is_over or len(self._rows) >= self._bounds.rows_max:
            self._is_truncated = True
            return False
        self._rows.append(tuple(row))
        self._size_bytes += size_bytes
        return True

    @property
    def rows_wanted(self) -> int:
        """How many more rows may be fetched: one over the bound, which shows that there are more."""
        return self._bounds.rows_max - len(self._rows) + 1

    @property
    def rows_that_fit(self) -> int:
        """About how many more rows of the same size the bound of bytes has place for."""
        each_bytes = max(1, self._size_bytes // max(1, len(self._rows)))
        return (self._bounds.bytes_max - self._size_bytes) // each_bytes

    def result(self, columns: Sequence[Column]) -> QueryResult:
        """The rows that were taken, and whether the bounds cut some off."""
        return QueryResult(tuple(columns), tuple(self._rows), self._is_truncated, self._size_bytes)


def check_columns(count: int) -> None:
    """`ResultTooLarge` when a result has too many columns."""
    if count > COLUMNS_MAX:
        raise ResultTooLarge(f"the result has {count} columns, and the bound is {COLUMNS_MAX}")


def cell_bytes(value: Any) -> int:
    """About how many bytes a value takes, counted the same whatever system it came from."""
    match value:
        case None | bool() | int() | float():
            return FIXED_BYTES
        case str():
            return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
        case bytes() | memoryview():
            return len(value)
        case Mapping():
            return sum(cell_bytes(key) + cell_bytes(inner) for key, inner in value.items())
        case list() | tuple():
            return sum(map(cell_bytes, value))
        case _:
            return len(str(value))
