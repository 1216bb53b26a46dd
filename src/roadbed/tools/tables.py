"""Results of statements as JSON tables that lose nothing: decimals and times as strings, long cells cut and said so.

Pure. The invariant: a cell is the value, or says that it is not the whole of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from roadbed.sources.result import QueryResult

CELL_CHARACTERS_MAX = 8 * 1024
EXACT_INTEGER_MAX = 2**53
HASH_DIGITS = 16

OUTPUT_SCHEMA = {
    "type": "object",
    "properties": {
        "columns": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "type": {"type": "string"}}},
        },
        "rows": {"type": "array", "items": {"type": "array"}},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["columns", "rows"],
}


def table_of(result: QueryResult) -> dict[str, Any]:
    """A result as ``{"columns", "rows"}``, with ``notes`` where cells were cut."""
    cut: set[int] = set()
    rows = [
        [value if type(value) in _PLAIN else _shown(value, place, cut) for place, value in enumerate(row)]
        for row in result.rows
    ]
    data: dict[str, Any] = {
        "columns": [{"name": column.name, "type": column.type} for column in result.columns],
        "rows": rows,
    }
    if cut:
        names = ", ".join(result.columns[place].name for place in sorted(cut))
        data["notes"] = [f"values over {CELL_CHARACTERS_MAX} characters were cut in: {names}"]
    return data


_PLAIN = frozenset({type(None), bool})


def _shown(value: Any, place: int, cut: set[int]) -> Any:
    match value:
        case None | bool():
            return value
        case int():
            return value if -EXACT_INTEGER_MAX <= value <= EXACT_INTEGER_MAX else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _cut_text(value, place, cut)
        case Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case bytes() | bytearray() | memoryview():
            raw = bytes(value)
            return f"({len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:HASH_DIGITS]})"
        case list() | tuple():
            return _list(value, place, cut)
        case dict():
            return {str(key): _shown(inner, place, cut) for key, inner in value.items()}
        case _:
            return _cut_text(str(value), place, cut)


def _list(value: Sequence[Any], place: int, cut: set[int]) -> list[Any]:
    return [_shown(inner, place, cut) for inner in value]


def _cut_text(text: str, place: int, cut: set[int]) -> str:
    if len(text) <= CELL_CHARACTERS_MAX:
        return text
    cut.add(place)
    return f"{text[:CELL_CHARACTERS_MAX]}… [cut: {len(text)} characters in all]"


def _duration(value: timedelta) -> str:
    """ISO 8601, in days and seconds, as the driver gives them."""
    sign = "-" if value < timedelta(0) else ""
    value = abs(value)
    seconds = (
        f"{value.seconds}.{value.microseconds:06d}".rstrip("0").rstrip(".") if value.microseconds else value.seconds
    )
    return f"{sign}P{value.days}DT{seconds}S"
