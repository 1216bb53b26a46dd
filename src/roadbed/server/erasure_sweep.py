"""The stores of an erasure that are not documents: every text column of every table, and the files of the state folder.

Tables are found in the catalogue, so that one that is added later is swept too. Signed and digest-named rows (audit,
releases) cannot be changed and are reported when they hold the value. The invariant: nothing is left out silently.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from roadbed.guard.erased import WordFinder, words_of
from roadbed.store.database import Connection, Database

ROWS_AT_ONCE = 200
FILE_BYTES_MAX = 512 * 1024 * 1024
# What the room of documents erases itself, and what holds digests, terms or codes.
NOT_SWEPT: Final = frozenset({"lex_term", "erased_value", "erasure", "chunk", "upload"})
COLUMNS_NOT_SWEPT: Final = {"document": frozenset({"id", "source", "key", "uri", "content", "title"})}
SIGNED: Final = ("audit_record", "audit_checkpoint", "audit_shipment", "audit_witness", "audit_shard", "release")
ALWAYS_COMPACTED: Final = (
    "document", "chunk", "chunk_lex", "lex_term", "lex_delta", "vector_cache", "trace", "span", "index_event",
)  # fmt: skip
DATABASE_FOLDERS: Final = frozenset({"postgres", "pg", "pgdata", "data", "database"})


async def sweep_tables(
    database: Database, finder: WordFinder, *, is_dry_run: bool
) -> tuple[dict[str, int], list[str], list[str]]:
    """Rows redacted by table, all tables to compact, and what holds the value and cannot be changed."""
    columns = await database.fetch(
        "SELECT c.table_name, c.column_name, c.udt_name FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name) WHERE c.table_schema = $1"
        " AND t.table_type = 'BASE TABLE' AND c.udt_name IN ('text', 'varchar', 'json', 'jsonb', '_text')"
        " ORDER BY 1, 2",
        database.schema,
    )
    by_table: dict[str, dict[str, str]] = {}
    for row in columns:
        if row["column_name"] not in COLUMNS_NOT_SWEPT.get(row["table_name"], ()):
            by_table.setdefault(row["table_name"], {})[row["column_name"]] = row["udt_name"]
    rows: dict[str, int] = {}
    left: list[str] = []
    for table, kinds in by_table.items():
        if table in NOT_SWEPT:
            continue
        is_signed = table in SIGNED
        count = await _sweep(database, finder, table, kinds, changes=not (is_dry_run or is_signed))
        if count and is_signed:
            left.append(f"{count} rows of {table}, which are signed or named by their digest and cannot be changed")
        elif count:
            rows[table] = count
    vectors = await database.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = $1"
        " AND starts_with(table_name, 'chunk_vector_')",
        database.schema,
    )
    touched = {*rows, *ALWAYS_COMPACTED, *(row["table_name"] for row in vectors)}
    return rows, sorted(touched), left


async def _sweep(database: Database, finder: WordFinder, table: str, kinds: dict[str, str], *, changes: bool) -> int:
    """Redact one table; how many rows held the value."""
    tests = " OR ".join(
        f'lower("{name}"::text) ~ $1 OR position($2 in lower("{name}"::text)) > 0 OR "{name}"::text ~ $3'
        for name in kinds
    )
    names = ", ".join(f'"{name}"' for name in kinds)
    pattern = "[^[:alnum:]]+".join(re.escape(word) for word in finder.words)
    found = 0
    async with database.transaction(timeout_s=600) as connection:
        cursor = await connection.cursor(
            f'SELECT ctid::text AS place, {names} FROM "{table}" WHERE {tests}',  # noqa: S608 - names of the catalogue
            *(pattern, finder.value.lower(), r"[^\x01-\x7f]"),
        )
        while batch := await cursor.fetch(ROWS_AT_ONCE):
            for row in batch:
                changed = {name: new for name in kinds if (new := redacted_value(finder, row[name])) is not None}
                if not changed:
                    continue
                found += 1
                if changes:
                    await _change(connection, table, row["place"], changed)
    return found


async def _change(connection: Connection, table: str, place: str, changed: dict[str, Any]) -> None:
    """Redact one row. Where names must differ, and another row was redacted to the same, this one gets a number."""
    sets = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(changed, 2))
    statement = f'UPDATE "{table}" SET {sets} WHERE ctid = $1::text::tid'  # noqa: S608 - names of the catalogue
    try:
        async with connection.transaction():
            await connection.execute(statement, place, *changed.values())
    except asyncpg.UniqueViolationError:
        number = secrets.token_hex(4)
        values = [f"{value} {number}" if isinstance(value, str) else value for value in changed.values()]
        await connection.execute(statement, place, *values)


def redacted_value(finder: WordFinder, value: Any) -> Any:
    """A column's value without the subject, through lists and JSON; None when it holds none."""
    if isinstance(value, str):
        return finder.redacted(value)
    if isinstance(value, list | dict):
        if not finder.spans(msgspec.json.encode(value).decode()) and not words_of(str(value)):
            return None
        changed = _redacted_tree(finder, value)
        return changed if changed != value else None
    return None


def _redacted_tree(finder: WordFinder, value: Any) -> Any:
    if isinstance(value, str):
        return finder.redacted(value) or value
    if isinstance(value, list):
        return [_redacted_tree(finder, item) for item in value]
    if isinstance(value, dict):
        return {finder.redacted(name) or name: _redacted_tree(finder, item) for name, item in value.items()}
    return value


def count_in_files(state: Path, subject: str, *, is_dry_run: bool) -> dict[str, int]:
    """Files of the state folder, the database's apart, that hold the value; spooled and damaged ones are deleted."""
    needle = subject.lower().encode()
    found: dict[str, int] = {}
    for path in state.rglob("*"):
        parts = path.relative_to(state).parts
        if parts[0] in DATABASE_FOLDERS or parts[0] == "objects" or not path.is_file() or path.is_symlink():
            continue
        if path.stat().st_size > FILE_BYTES_MAX or needle not in path.read_bytes().lower():
            continue
        found[f"state/{parts[0]}"] = found.get(f"state/{parts[0]}", 0) + 1
        if not is_dry_run and parts[0] in ("spool", "cache"):
            path.unlink(missing_ok=True)
    return found
