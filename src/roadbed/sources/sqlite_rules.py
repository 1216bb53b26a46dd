"""What a tool's statement may touch in a SQLite file: an authorizer that denies by default. Pure.

SQLite asks it while a statement is compiled, whatever way the statement was written, so it is the wall behind the SQL
gate. The invariant: only SELECT, columns of listed tables, and listed functions are allowed; of a change also rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping

Authorizer = Callable[[int, str | None, str | None, str | None, str | None], int]

SAFE_FUNCTIONS = frozenset(
    """
    abs acos acosh asin asinh atan atan2 atanh avg ceil ceiling changes char coalesce concat concat_ws cos cosh count
    cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp first_value floor format
    glob group_concat hex ifnull iif instr json json_array json_array_length json_extract json_group_array
    json_group_object json_object json_quote json_type json_valid julianday lag last_value lead length like likelihood
    likely ln log log10 log2 lower ltrim max median min mod nth_value ntile nullif octet_length percent_rank percentile
    pi pow power printf quote radians rank replace round row_number rtrim sign sin sinh sqrt strftime string_agg
    substr substring sum tan tanh time timediff total trim trunc typeof unicode unixepoch unlikely upper ->> ->
    """.split()  # noqa: SIM905 - a list of words reads better so
)
_CHANGING_FUNCTIONS = SAFE_FUNCTIONS | frozenset(
    "json_insert json_patch json_remove json_replace json_set last_insert_rowid random randomblob".split()  # noqa: SIM905
)
_RECURSIVE = 33


def reading_authorizer(tables: Mapping[str, Collection[str]] | None = None, hidden: Collection[str] = ()) -> Authorizer:
    """Allows reading of these tables and columns, all but SQLite's own when None.

    ``hidden`` are columns as ``table.column`` that read as NULL wherever they stand.
    """
    known = {name.lower(): {column.lower() for column in columns} for name, columns in (tables or {}).items()}
    nulled = {name.lower() for name in hidden}

    def authorize(action: int, first: str | None, second: str | None, _database: str | None, inner: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, _RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if (second or "").lower() in SAFE_FUNCTIONS else sqlite3.SQLITE_DENY
        if action != sqlite3.SQLITE_READ:
            return sqlite3.SQLITE_DENY
        table, column = (first or "").lower(), (second or "").lower()
        if f"{table}.{column}" in nulled:
            return sqlite3.SQLITE_IGNORE
        if table.startswith(("sqlite_", "pragma_")):
            return sqlite3.SQLITE_DENY
        if tables is None or (inner or "").lower() in known:  # what a listed view reads
            return sqlite3.SQLITE_OK
        columns = known.get(table)
        is_known = columns is not None and (not column or column in columns or column == "rowid")
        return sqlite3.SQLITE_OK if is_known else sqlite3.SQLITE_DENY

    return authorize


def changing_authorizer() -> Authorizer:
    """Allows reading and changing rows, and nothing that a rollback would not take back; also to what triggers do."""

    def authorize(action: int, first: str | None, second: str | None, _database: str | None, _inner: str | None) -> int:
        if action in (sqlite3.SQLITE_SELECT, _RECURSIVE):
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            return sqlite3.SQLITE_OK if (second or "").lower() in _CHANGING_FUNCTIONS else sqlite3.SQLITE_DENY
        if action not in (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE):
            return sqlite3.SQLITE_DENY
        is_own = (first or "").lower().startswith(("sqlite_", "pragma_"))
        return sqlite3.SQLITE_DENY if is_own else sqlite3.SQLITE_OK

    return authorize
