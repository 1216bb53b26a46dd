"""Rows of declared tables, whatever the system: what ``knowledge/`` turns into documents. Pure.

A row has a key and a version, which changes when the row does. `ROWS_PER_FETCH` bounds how many rows a reading holds in
memory, `STATEMENT_TIMEOUT_S` how long the source may take for each such page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from roadbed.sources.errors import SourceMisdeclared
from roadbed.sources.manifest import TableConfig

ROWS_PER_FETCH = 500
STATEMENT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row: its key as text, its columns, and a version that changes when it does."""

    key: str
    values: Mapping[str, Any]
    version: str


def row_of(values: Mapping[str, Any], table: str, config: TableConfig) -> SourceRow:
    """A `SourceRow` of a fetched row. Raises `SourceMisdeclared` when a declared column is not there."""
    for column in (config.key, config.updated):
        if column and column not in values:
            known = ", ".join(values)
            raise SourceMisdeclared(f"the table {table} has no column {column!r}", hint=f"its columns: {known}")
    if config.updated:
        version = f"{values[config.updated]}"
    else:
        body = "\x1f".join(f"{name}={shown(value)}" for name, value in values.items())
        version = hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()
    return SourceRow(shown(values[config.key]), values, version)


def shown(value: Any) -> str:
    """A column's value as people write it: no trailing zeros, ISO dates, nothing for NULL."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case date() | time():
            return value.isoformat()
        case Decimal():
            return format(value.normalize(), "f")
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case bytes() | memoryview():
            return f"({len(value)} bytes)"
        case _:
            return str(value)


def quoted(name: str) -> str:
    """A table or column name as a quoted SQL identifier; ``schema.table`` keeps its dot."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))
