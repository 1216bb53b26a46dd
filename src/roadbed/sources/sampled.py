"""Rows of a source's tables as they are, bounded, for `synthetic` to make others like them. Only reads.

Called by ``roadbed data synth`` and by the console's playground; what is returned goes nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from roadbed.kernel.deadline import Deadline
from roadbed.sources.registry import Sources
from roadbed.sources.synthetic import Table

SAMPLE_BYTES_MAX: Final = 64 * 1024 * 1024


async def sampled_tables(
    sources: Sources, name: str, deadline: Deadline, *, tables_max: int, rows_max: int, only: Collection[str] = ()
) -> tuple[list[Table], dict[str, dict[str, str]]]:
    """The first tables of a source by name with rows of each, or ``only`` some; and the columns of all it has."""
    catalogue = await sources.catalogue(name, deadline)
    tables = []
    for wanted in [table for table in sorted(catalogue.tables) if not only or table in only][:tables_max]:
        quote = "`" if catalogue.dialect == "mysql" else '"'
        words = ".".join(f"{quote}{part.replace(quote, quote * 2)}{quote}" for part in wanted.split("."))
        sql = f"SELECT * FROM {words} LIMIT {rows_max}"  # noqa: S608 - names of the catalogue
        found = await sources.query(name, sql, deadline=deadline, rows_max=rows_max, bytes_max=SAMPLE_BYTES_MAX)
        tables.append(Table(wanted, tuple(column.name for column in found.columns), found.rows))
    return tables, {table: dict(columns) for table, columns in catalogue.tables.items()}
