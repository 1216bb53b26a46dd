"""Rows of a PostgreSQL database through asyncpg: one short-lived read-only connection per reading."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from roadbed.kernel.secrets import Secret
from roadbed.sources.manifest import TableConfig
from roadbed.sources.rows import (
    CONNECT_TIMEOUT_S,
    ROWS_PER_FETCH,
    STATEMENT_TIMEOUT_S,
    SourceMisdeclared,
    SourceRow,
    SourceUnavailable,
    quoted,
    row_of,
)


class PostgresRows:
    """Reads the tables of one PostgreSQL source."""

    def __init__(self, name: str, dsn: Secret) -> None:
        self._name = name
        self._dsn = dsn

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            connection = await asyncpg.connect(
                self._dsn.reveal(),
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                server_settings={"default_transaction_read_only": "on", "application_name": "roadbed-source"},
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise SourceUnavailable(f"the source {self._name} cannot be reached ({type(error).__name__})") from None
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_TIMEOUT_S)

    async def rows(self, table: str, config: TableConfig) -> AsyncIterator[SourceRow]:
        """All rows of a table in key order, at most ``rows_max``."""
        sql = f"SELECT * FROM {quoted(table)} ORDER BY {quoted(config.key)} LIMIT {int(config.rows_max)}"  # noqa: S608
        async with self._connection() as connection:
            try:
                async with connection.transaction(readonly=True, isolation="repeatable_read"):
                    async for record in connection.cursor(sql, prefetch=ROWS_PER_FETCH):
                        yield row_of(dict(record), table, config)
            except (
                asyncpg.UndefinedTableError,
                asyncpg.UndefinedColumnError,
                asyncpg.InsufficientPrivilegeError,
            ) as error:
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error.args[0]}") from None
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise SourceUnavailable(f"reading {self._name}.{table} broke off ({type(error).__name__})") from None

    async def close(self) -> None:
        """Nothing is held between readings."""
