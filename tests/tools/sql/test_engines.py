"""The engines behind the gate: with the gate switched off, the corpus of attacks reads nothing hidden, changes nothing.

The gate refuses all of it (`test_attacks`); here each text goes straight to the engine, as a hole in the gate would let
it: SQLite behind its authorizer, PostgreSQL as a role that reads, DuckDB in its locked worker. What a text may do is
fail, or give back what its caller may read anyway.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import duckdb
import pytest

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.sources.catalogue import SqlDialect
from roadbed.sources.manifest import DuckdbSource, PostgresSource, SqliteSource
from roadbed.sources.pool import PoolSettings
from roadbed.sources.registry import Sources
from roadbed.sources.sqlite_rules import Authorizer, reading_authorizer
from roadbed.store.embedded import EmbeddedPostgres

from . import attacks
from .conftest import TABLES

pytestmark = pytest.mark.services  # whole servers, stopped and killed: too long for `make test`

PLANTED = "PLANTED-VALUE"
STATEMENT_S = 0.25
TEXTS_MIN = 250
WRITTEN = ("/tmp/x", "/tmp/x.db", "/tmp/roadbed-must-not-exist")
SCHEMA = (
    "CREATE TABLE customers (id integer, name text, team text, ssn text, phone text, email text, band text)",
    "CREATE TABLE orders (id integer, customer_id integer, team text, amount integer, placed_on date)",
    "CREATE TABLE hidden (id integer, planted text)",
    f"INSERT INTO customers VALUES (1, 'Ola', 'red', '{PLANTED}', '555', 'ola@example.com', 'b')",
    "INSERT INTO orders VALUES (1, 1, 'red', 10, '2026-01-02')",
    f"INSERT INTO hidden VALUES (1, '{PLANTED}')",
)
HIDDEN_MARKS = (PLANTED, "root:x:0:0", os.environ.get("HOME", "/root") + "\x00")


def texts(dialect: SqlDialect) -> list[str]:
    """Every form, and every call and source in two positions: a position differs for the gate, not for the engine."""
    found = list(attacks.listed(dialect, "form"))
    for call in attacks.listed(dialect, "call"):
        found += [attacks.POSITIONS[0].format(call), attacks.POSITIONS[2].format(call)]
    for source in attacks.listed(dialect, "from"):
        found += [position.format(source) for position in attacks.SOURCE_POSITIONS[:2]]
    # SQLite looks at no deadline inside of this one: it holds a thread of its source for seconds, and the gate alone
    # bounds it. It tells and changes nothing.
    return [text for text in dict.fromkeys(found) if "'%.*c', 1000000000" not in text]


async def shown_by(sources: Sources, dialect: SqlDialect, authorizer: Authorizer | None = None) -> list[str]:
    """The texts that give back something hidden. Whatever else they do must be looked for in the system itself."""
    leaks = []
    asked = texts(dialect)
    assert len(asked) >= TEXTS_MIN
    for text in asked:
        deadline = Deadline.after(STATEMENT_S)
        try:
            result = await sources.query("db", text, deadline=deadline, rows_max=50, authorizer=authorizer)
        except RoadbedError as error:
            told = f"{error.message} {error.hint}".replace(text, "")
        else:
            told = repr(result.rows)
        if any(mark in told for mark in HIDDEN_MARKS):
            leaks.append(text)
    return leaks


def there() -> list[str]:
    return [path for path in WRITTEN if Path(path).exists()]


async def test_sqlite_holds_by_its_authorizer(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        for sql in SCHEMA:
            connection.execute(sql)
    before, files = path.read_bytes(), there()
    sources = Sources(tmp_path, None, PoolSettings())
    await sources.use({"db": SqliteSource(path="db.sqlite")})
    try:
        assert await shown_by(sources, "sqlite", reading_authorizer(TABLES, ["customers.ssn"])) == []
        assert len((await sources.query("db", "SELECT name FROM customers", deadline=Deadline.after(5))).rows) == 1
    finally:
        await sources.close()
    assert (path.read_bytes(), there(), os.listdir(tmp_path)) == (before, files, ["db.sqlite"])


async def test_duckdb_holds_by_its_locked_worker(tmp_path: Path) -> None:
    path = tmp_path / "db.duckdb"
    (tmp_path / "beside.csv").write_text(f"a\n{PLANTED}\n")
    with duckdb.connect(str(path)) as connection:
        for sql in SCHEMA:
            # Who may open a DuckDB file may read all of it: only what is outside of it can be hidden by the engine.
            connection.execute(sql.replace(PLANTED, "in the file"))
    before, files = path.read_bytes(), there()
    sources = Sources(tmp_path, None, PoolSettings())
    await sources.use({"db": DuckdbSource(path="db.duckdb", connections_max=1, memory_mib_max=128)})
    try:
        assert await shown_by(sources, "duckdb") == []
        for text in (f"SELECT * FROM '{tmp_path}/beside.csv'", f"SELECT * FROM read_text('{tmp_path}/beside.csv')"):
            with pytest.raises(RoadbedError):
                await sources.query("db", text, deadline=Deadline.after(5))
        assert len((await sources.query("db", "SELECT name FROM customers", deadline=Deadline.after(5))).rows) == 1
    finally:
        await sources.close()
    assert (path.read_bytes(), there(), sorted(os.listdir(tmp_path))) == (before, files, ["beside.csv", "db.duckdb"])


STATE = """
    SELECT (SELECT array_agg(c.relname ORDER BY c.oid) FROM pg_class c)::text,
           (SELECT array_agg(h) FROM hidden h)::text,
           (SELECT array_agg(c) FROM customers c)::text, (SELECT array_agg(o) FROM orders o)::text,
           (SELECT count(*) FROM pg_largeobject_metadata)::text,
           (SELECT array_agg(r ORDER BY oid) FROM pg_roles r)::text,
           (SELECT array_agg(n.nspname ORDER BY n.oid) FROM pg_namespace n WHERE nspname !~ '^pg_(toast_)?temp')::text,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')::text, (SELECT count(*) FROM pg_proc)::text
"""
_numbers = itertools.count(1)


async def test_postgres_holds_by_a_role_that_reads(postgres: EmbeddedPostgres, empty_dsn: str, tmp_path: Path) -> None:
    parts = urlsplit(empty_dsn)
    name = parts.path.strip("/")
    role = f"corpus_reader_{next(_numbers)}"
    owner = await asyncpg.connect(empty_dsn)
    for sql in SCHEMA:
        await owner.execute(sql)
    async with postgres.superuser(name) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reading' NOINHERIT")
        await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {role}; GRANT USAGE ON SCHEMA public TO {role}")
        columns = ", ".join(column for column in TABLES["customers"] if column != "ssn")
        await connection.execute(f"GRANT SELECT ({columns}) ON customers TO {role}; GRANT SELECT ON orders TO {role}")
    (tmp_path / "dsn").write_text(parts._replace(netloc=f"{role}:reading@{parts.netloc.rpartition('@')[2]}").geturl())
    sources = Sources(tmp_path, None, PoolSettings())
    await sources.use({"db": PostgresSource(dsn="file:dsn", connections_max=1)})
    try:
        await sources.query("db", "SELECT name FROM customers", deadline=Deadline.after(5))
        before, files = await owner.fetchrow(STATE), there()
        assert await shown_by(sources, "postgres") == []
        assert len((await sources.query("db", "SELECT name FROM customers", deadline=Deadline.after(5))).rows) == 1
        assert (await owner.fetchrow(STATE), there()) == (before, files)
    finally:
        await sources.close()
        left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
        async with asyncio.timeout(60):
            while await owner.fetchval(left, role):  # noqa: ASYNC110 - some functions look at no cancellation
                await asyncio.sleep(0.05)
        await owner.close()
        async with postgres.superuser(name) as connection:
            await connection.execute(f"DROP OWNED BY {role}")
            await connection.execute(f"DROP ROLE {role}")
