"""`Catalogue`: the tables and columns of a source as its role may read them. A value; each system fills its own.

The invariant: what is not in the catalogue does not exist for whoever asks, whatever the database would say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SqlDialect = Literal["postgres", "mysql", "sqlite", "duckdb"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``tables`` maps ``table`` or ``schema.table`` to column names with the system's own names of their types.

    ``views`` maps each view, and each table whose rows another gives too, to names of what it reads, which may be more
    than it reads; to None where the system does not tell.
    """

    dialect: SqlDialect
    tables: Mapping[str, Mapping[str, str]]
    comments: Mapping[str, str] | None = None
    views: Mapping[str, frozenset[str] | None] | None = None


def words_of(text: str) -> frozenset[str]:
    """Every word of a view's statement that could be a table's name, also in its strings: dialects end them in ways of
    their own, and what is taken for a table too many costs a view at most.
    """
    return frozenset(next(part for part in match.groups() if part) for match in _WORDS.finditer(text)) | frozenset(
        _PLAIN_WORDS.findall(text)
    )


_WORDS = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|\[([^\]]+)\]|([^\W\d]\w*)')
_PLAIN_WORDS = re.compile(r"[^\W\d]\w*")
