"""`Catalogue`: the tables and columns of a source as its role may read them. A value; each system fills its own.

The invariant: what is not in the catalogue does not exist for whoever asks, whatever the database would say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SqlDialect = Literal["postgres", "mysql", "sqlite", "duckdb"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``tables`` maps ``table`` or ``schema.table`` to column names with the system's own names of their types."""

    dialect: SqlDialect
    tables: Mapping[str, Mapping[str, str]]
    comments: Mapping[str, str] | None = None
