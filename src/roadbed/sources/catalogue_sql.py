"""How databases are asked for their catalogue: statements, and `Catalogue`s of their rows.

PostgreSQL's shows what the role may SELECT, column by column; SQLite has no roles, so all of the file. The invariant:
at most `CATALOGUE_COLUMNS_MAX` columns, the rest does not exist for tools.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from roadbed.sources.catalogue import Catalogue

CATALOGUE_COLUMNS_MAX = 5_000

POSTGRES_CATALOGUE_SQL = f"""
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_table_is_visible(c.oid) AS is_visible,
       a.attname::text AS column, format_type(a.atttypid, a.atttypmod) AS type,
       obj_description(c.oid, 'pg_class') AS table_comment, col_description(c.oid, a.attnum) AS column_comment
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT c.relispartition AND has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT')
  AND c.relname <> 'roadbed_seed'
ORDER BY n.nspname, c.relname, a.attnum
LIMIT {CATALOGUE_COLUMNS_MAX}
"""  # noqa: S608

SQLITE_TABLES_SQL = """
SELECT name FROM sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name
"""
SQLITE_COLUMNS_SQL = "SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid"


def postgres_catalogue(rows: Iterable[Mapping[str, Any]]) -> Catalogue:
    """The catalogue in the rows of `POSTGRES_CATALOGUE_SQL`; a table out of the search path has its schema's name."""
    tables: dict[str, dict[str, str]] = {}
    comments: dict[str, str] = {}
    for row in rows:
        name = row["name"] if row["is_visible"] else f"{row['schema']}.{row['name']}"
        tables.setdefault(name, {})[row["column"]] = row["type"]
        if row["table_comment"]:
            comments[name] = row["table_comment"]
        if row["column_comment"]:
            comments[f"{name}.{row['column']}"] = row["column_comment"]
    return Catalogue("postgres", tables, comments)


def sqlite_catalogue(raw: sqlite3.Connection) -> Catalogue:
    """The catalogue of an open file. A view that SQLite cannot resolve (a circle, a lost table) does not exist."""
    tables: dict[str, dict[str, str]] = {}
    left = CATALOGUE_COLUMNS_MAX
    for (table,) in raw.execute(SQLITE_TABLES_SQL).fetchall():
        try:
            columns = raw.execute(SQLITE_COLUMNS_SQL, (table,)).fetchmany(left)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                raise
            continue
        left -= len(columns)
        if columns:
            tables[table] = {column: kind or "any" for column, kind in columns}
    return Catalogue("sqlite", tables)
