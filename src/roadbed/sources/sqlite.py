"""Rows of a SQLite file, opened read-only, read in a thread a page at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from roadbed.sources.manifest import TableConfig
from roadbed.sources.rows import (
    CONNECT_TIMEOUT_S,
    ROWS_PER_FETCH,
    SourceMisdeclared,
    SourceRow,
    SourceUnavailable,
    quoted,
    row_of,
)


class SqliteRows:
    """Reads the tables of one SQLite file."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                f"{self._path.resolve().as_uri()}?mode=ro", uri=True, timeout=CONNECT_TIMEOUT_S, check_same_thread=False
            )
            connection.execute("PRAGMA query_only = ON")
        except sqlite3.Error as error:
            raise SourceUnavailable(f"the source {self._name} cannot be opened: {error}") from None
        connection.row_factory = sqlite3.Row
        return connection

    async def rows(self, table: str, config: TableConfig) -> AsyncIterator[SourceRow]:
        """All rows of a table in key order, at most ``rows_max``."""
        connection = await asyncio.to_thread(self._open)
        sql = f"SELECT * FROM {quoted(table)} ORDER BY {quoted(config.key)} LIMIT ?"  # noqa: S608
        try:
            cursor = await asyncio.to_thread(connection.execute, sql, (config.rows_max,))
            while page := await asyncio.to_thread(cursor.fetchmany, ROWS_PER_FETCH):
                for record in page:
                    yield row_of(dict(record), table, config)
        except sqlite3.DatabaseError as error:
            if str(error).startswith("no such "):
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error}") from None
            raise SourceUnavailable(f"the file of {self._name} cannot be read just now: {error}") from None
        finally:
            connection.close()

    async def close(self) -> None:
        """Nothing is held between readings."""
