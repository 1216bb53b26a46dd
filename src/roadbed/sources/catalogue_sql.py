"""How databases are asked for their catalogue: statements, and `Catalogue`s of their rows.

PostgreSQL's shows what the role may SELECT, column by column; SQLite has no roles, so all of the file. The invariant:
at most `CATALOGUE_COLUMNS_MAX` columns, the rest does not exist for tools.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roadbed.sources.catalogue import Catalogue
from roadbed.sources.rows import quoted

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

# What a view reads is in the rows of its rule; a child table's rows stand in its parent too.
POSTGRES_VIEWS_SQL = f"""
SELECT n.nspname::text AS schema, c.relname::text AS name, pg_table_is_visible(c.oid) AS is_visible,
       tn.nspname::text AS read_schema, t.relname::text AS read_name
FROM (
  SELECT r.ev_class AS reader, d.refobjid AS read
  FROM pg_rewrite r JOIN pg_depend d ON d.objid = r.oid AND d.classid = 'pg_rewrite'::regclass
  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class
  UNION SELECT inhrelid, inhparent FROM pg_inherits
) AS found
JOIN pg_class c ON c.oid = found.reader JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class t ON t.oid = found.read JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
LIMIT {CATALOGUE_COLUMNS_MAX}
"""  # noqa: S608

# Not the tables in which SQLite's extensions keep what another table shows.
SQLITE_TABLES_SQL = """
SELECT name, type FROM pragma_table_list
WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name
"""
SQLITE_COLUMNS_SQL = "SELECT name, type FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid"


def postgres_catalogue(rows: Iterable[Mapping[str, Any]], views: Sequence[Mapping[str, Any]]) -> Catalogue:
    """The catalogue in the rows of `POSTGRES_CATALOGUE_SQL` and `POSTGRES_VIEWS_SQL`; a table out of the search path
    has its schema's name. With more views than are looked at, no view is known.
    """
    tables: dict[str, dict[str, str]] = {}
    comments: dict[str, str] = {}
    for row in rows:
        name = row["name"] if row["is_visible"] else f"{row['schema']}.{row['name']}"
        tables.setdefault(name, {})[row["column"]] = row["type"]
        if row["table_comment"]:
            comments[name] = row["table_comment"]
        if row["column_comment"]:
            comments[f"{name}.{row['column']}"] = row["column_comment"]
    reads: dict[str, frozenset[str] | None] = {}
    for row in views:
        name = row["name"] if row["is_visible"] else f"{row['schema']}.{row['name']}"
        reads[name] = (reads.get(name) or frozenset()) | {f"{row['read_schema']}.{row['read_name']}"}
    if len(views) == CATALOGUE_COLUMNS_MAX:
        reads = dict.fromkeys(reads)
    return Catalogue("postgres", tables, comments, reads)


def sqlite_catalogue(raw: sqlite3.Connection) -> Catalogue:
    """The catalogue of an open file. A view that SQLite cannot resolve (a circle, a lost table) does not exist."""
    tables: dict[str, dict[str, str]] = {}
    views: dict[str, frozenset[str] | None] = {}
    left = CATALOGUE_COLUMNS_MAX
    for table, type_ in raw.execute(SQLITE_TABLES_SQL).fetchall():
        try:
            columns = raw.execute(SQLITE_COLUMNS_SQL, (table,)).fetchmany(left)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_ERROR:
                raise
            continue
        left -= len(columns)
        if columns:
            tables[table] = {column: kind or "any" for column, kind in columns}
            if type_ == "view":
                views[table] = _read_by(raw, table)
    return Catalogue("sqlite", tables, None, views)


def _read_by(raw: sqlite3.Connection, view: str) -> frozenset[str] | None:
    """What a view reads, also through others, as SQLite says while it compiles it."""
    read: set[str] = set()

    def note(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and first:
            read.add(first)
        return sqlite3.SQLITE_OK

    raw.set_authorizer(note)
    try:
        raw.execute(f"SELECT * FROM {quoted(view)} LIMIT 0")  # noqa: S608 - a name of the file
    except sqlite3.Error:
        return None
    finally:
        raw.set_authorizer(None)
    return frozenset(read - {view})
