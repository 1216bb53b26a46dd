"""Masks in the rows of a result: `partial` shows an end of a value, `token` replaces it by the same word each time.

The gate lets a column of these kinds through as a bare output column alone, and says at which positions they stand
(`Checked.column_masks`). The invariant: a masked position never keeps its value, and NULL stays NULL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from roadbed.sources.result import Column, QueryResult, cell_bytes
from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.policy import Checked, MaskKind
from roadbed.tools.sql.predicates import predicate_for as predicate_for

PARTIAL_SHOWN = 2
PARTIAL_CHARACTERS_MIN = 8
HIDDEN = "***"


def mask_rows(checked: Checked, result: QueryResult, token: Callable[[str], str]) -> QueryResult:
    """The result with the masked positions replaced. `SqlRefused` when it has other columns than were checked."""
    if len(result.columns) != len(checked.column_masks):
        raise SqlRefused("the result has another number of columns than the statement that was checked")
    places = [(position, kind) for position, kind in enumerate(checked.column_masks) if kind is not None]
    if not places:
        return result
    columns = list(result.columns)
    for position, _ in places:
        columns[position] = Column(columns[position].name, "text", columns[position].native)
    rows = []
    for row in result.rows:
        cells = list(row)
        for position, kind in places:
            cells[position] = _masked(cells[position], kind, token)
        rows.append(tuple(cells))
    size_bytes = sum(cell_bytes(cell) for row in rows for cell in row)
    return QueryResult(tuple(columns), tuple(rows), result.is_truncated, size_bytes)


def _masked(value: Any, kind: MaskKind, token: Callable[[str], str]) -> str | None:
    """``drop`` and ``group`` never reach an output: should they, the value is hidden whole."""
    if value is None:
        return None
    match kind:
        case "token":
            return token(value if isinstance(value, str) else str(value))
        case "partial":
            return partial(value)
        case _:
            return HIDDEN


def partial(value: Any) -> str:
    """``***42`` of a text or number of eight or more characters; ``***`` of anything shorter or of another type."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return HIDDEN
    text = str(value)
    return HIDDEN + text[-PARTIAL_SHOWN:] if len(text) >= PARTIAL_CHARACTERS_MIN else HIDDEN
