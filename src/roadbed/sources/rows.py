"""Rows of declared tables, read-only, in key order, whatever the system: what ``knowledge/`` turns into documents.

A `RowReader` reads one source. Reading never holds more than `ROWS_PER_FETCH` rows in memory and never writes:
PostgreSQL runs a read-only transaction as the least-privileged role, SQLite opens the file read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Protocol

from roadbed.kernel.errors import RoadbedError, Unavailable
from roadbed.sources.manifest import TableConfig

ROWS_PER_FETCH = 500
STATEMENT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0


class SourceUnavailable(Unavailable):
    """A source does not answer; what was read from it before stays searchable."""

    code = "sources.unavailable"
    hint = "check that the database runs and that the manifest's dsn or path is right"


class SourceMisdeclared(RoadbedError):
    """A declared table or column does not exist in the source, or the role may not read it."""

    code = "sources.misdeclared"
    http_status = 400


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row: its key as text, its columns, and a version that changes when it does."""

    key: str
    values: Mapping[str, Any]
    version: str


class RowReader(Protocol):
    """Reads the tables of one source."""

    def rows(self, table: str, config: TableConfig) -> AsyncIterator[SourceRow]:
        """All rows of a table in key order. Raises `SourceUnavailable`, `SourceMisdeclared`."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


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
