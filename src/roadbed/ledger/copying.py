"""Rows into a table by COPY: those that were never sent before, and those of which some may have been stored.

For whoever writes batches in COPY's text format (traces, usage, audit). The invariant: after `insert_unknown` each row
is in its table once, whatever was stored before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any


async def insert_new(connection: Any, table: str, columns: Sequence[str], key: str, rows: bytes) -> None:
    """COPY rows that were never sent before."""
    await connection.copy_to_table(table, source=_pieces(rows), columns=columns, format="text")


async def insert_unknown(connection: Any, table: str, columns: Sequence[str], key: str, rows: bytes) -> None:
    """COPY rows into a temporary table, then insert those whose key is new."""
    incoming, names = f"incoming_{table}", ", ".join(columns)
    shape = f"SELECT {names} FROM {table} WITH NO DATA"  # noqa: S608
    await connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {incoming} ON COMMIT DELETE ROWS AS {shape}")
    await connection.copy_to_table(incoming, source=_pieces(rows), columns=columns, format="text")
    await connection.execute(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {incoming} ON CONFLICT ({key}) DO NOTHING"  # noqa: S608
    )


async def _pieces(rows: bytes) -> AsyncIterator[bytes]:
    yield rows
