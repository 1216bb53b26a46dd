"""Rows of PostgreSQL and SQLite: one suite over both, then what is particular to each, and embedded databases."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret
from roadbed.sources.errors import SourceMisdeclared, SourceUnavailable
from roadbed.sources.manifest import PostgresSource, SqliteSource, TableConfig
from roadbed.sources.pool import PoolSettings
from roadbed.sources.postgres import PostgresSystem
from roadbed.sources.registry import Sources
from roadbed.sources.rows import ROWS_PER_FETCH, SourceRow, shown
from roadbed.sources.sqlite import SqliteSystem
from roadbed.store.embedded import EmbeddedPostgres

TABLE = TableConfig(title="{id}", text="{street}")
System = PostgresSystem | SqliteSystem
SETTINGS = PoolSettings()
SCHEMA = "CREATE TABLE parcels (id integer PRIMARY KEY, street text, changed text)"
ROWS = 2 * ROWS_PER_FETCH + 3


def insert() -> str:
    values = ", ".join(f"({number}, 'Street {number}', 'v1')" for number in range(ROWS, 0, -1))
    return f"INSERT INTO parcels VALUES {values}"


@pytest.fixture(params=["postgres", "sqlite"])
async def reader(request: pytest.FixtureRequest, tmp_path: Path, empty_dsn: str) -> AsyncIterator[System]:
    made: System
    if request.param == "sqlite":
        path = tmp_path / "data.sqlite"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(SCHEMA)
            connection.execute(insert())
        made = SqliteSystem("registry", path, 1, SETTINGS)
    else:
        owner = await asyncpg.connect(empty_dsn)
        await owner.execute(SCHEMA)
        await owner.execute(insert())
        await owner.close()
        made = PostgresSystem("registry", lambda: Secret(empty_dsn), 1, SETTINGS)
    yield made
    await made.close(1.0)


async def every(reader: System, table: str = "parcels", config: TableConfig = TABLE) -> list[SourceRow]:
    return [row async for row in reader.rows(table, config)]


async def test_all_rows_in_key_order_with_a_version_of_their_content(reader: System) -> None:
    rows = await every(reader)
    assert [row.key for row in rows] == [str(number) for number in range(1, ROWS + 1)]
    assert rows[0].values["street"] == "Street 1"
    assert len({row.version for row in rows}) == ROWS
    assert [row.version for row in await every(reader)] == [row.version for row in rows]


async def test_a_declared_column_is_the_version_and_rows_are_bounded(reader: System) -> None:
    config = TableConfig(title="{id}", text="{street}", updated="changed", rows_max=5)
    rows = await every(reader, config=config)
    assert [row.version for row in rows] == ["v1"] * 5


@pytest.mark.parametrize(
    ("table", "config"),
    [
        ("nothing", TABLE),
        ("parcels", TableConfig(title="x", text="x", key="nothing")),
        ("parcels", TableConfig(title="x", text="x", updated="nothing")),
        ('parcels"; DROP TABLE parcels; --', TABLE),
    ],
)
async def test_what_is_not_there_is_named(reader: System, table: str, config: TableConfig) -> None:
    with pytest.raises(SourceMisdeclared):
        await every(reader, table, config)
    assert len(await every(reader)) == ROWS


async def test_reading_that_is_given_up_holds_nothing(reader: System) -> None:
    rows = reader.rows("parcels", TABLE)
    assert (await anext(rows)).key == "1"
    await rows.aclose()
    assert len(await every(reader)) == ROWS


async def test_postgresql_that_is_away_or_refuses_is_unavailable(empty_dsn: str) -> None:
    for dsn in ("postgresql://nobody@127.0.0.1:9/none", empty_dsn.replace("roadbed:", "roadbed:wrong"), "nonsense"):
        system = PostgresSystem("registry", partial(Secret, dsn), 1, SETTINGS)
        with pytest.raises(SourceUnavailable) as away:
            await every(system)
        assert dsn not in away.value.message
        await system.close(1.0)


async def test_sqlite_that_is_missing_damaged_or_locked_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "damaged.sqlite").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    for name in ("nothing.sqlite", "damaged.sqlite"):
        system = SqliteSystem("registry", tmp_path / name, 1, SETTINGS)
        with pytest.raises(SourceUnavailable):
            await every(system)
        await system.close(1.0)
    assert not (tmp_path / "nothing.sqlite").exists()


def test_values_are_shown_as_people_write_them() -> None:
    assert [shown(value) for value in (None, True, Decimal("5.30"), Decimal("100"), 2.0, 2.5, b"abc", "x")] == [
        "", "yes", "5.3", "100", "2", "2.5", "(3 bytes)", "x",
    ]  # fmt: skip
    assert shown(date(2026, 1, 2)) == "2026-01-02"
    assert shown(datetime(2026, 1, 2, 3, 4, 5)) == "2026-01-02 03:04:05"
    assert shown(time(3, 4)) == "03:04:00"


def embedded_source(**more: Any) -> PostgresSource:
    return PostgresSource(dsn="embedded:office", tables={"parcels": TABLE}, **more)


async def test_an_embedded_database_is_seeded_once_and_read_with_a_role_that_cannot_write(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    (tmp_path / "seed.sql").write_text(f"{SCHEMA}; {insert()};")
    sources = Sources(tmp_path, postgres)
    await sources.use({"registry": embedded_source(seed="seed.sql")})
    assert len([row async for row in sources.rows("registry", "parcels")]) == ROWS
    database = await postgres.create_database("office")
    owner = await asyncpg.connect(database.owner_dsn)
    await owner.execute("DELETE FROM parcels WHERE id > 10")
    await owner.close()
    reader = await asyncpg.connect(database.reader_dsn)
    try:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await reader.execute("DELETE FROM parcels")
        await reader.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("DELETE FROM parcels")
    finally:
        await reader.close()
    again = Sources(tmp_path, postgres)
    await again.use({"registry": embedded_source(seed="seed.sql")})
    assert len([row async for row in again.rows("registry", "parcels")]) == 10, "a seed is run once"
    with pytest.raises(ConfigError):
        [row async for row in again.rows("registry", "undeclared")]
    await sources.close()
    await again.close()


async def test_a_seed_that_fails_leaves_nothing_behind(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    seed = tmp_path / "seed.sql"
    seed.write_text(f"{SCHEMA}; SELECT broken;")
    source = PostgresSource(dsn="embedded:broken", tables={"parcels": TABLE}, seed="seed.sql")
    sources = Sources(tmp_path, postgres)
    await sources.use({"registry": source})
    with pytest.raises(ConfigError, match=r"seed\.sql"):
        [row async for row in sources.rows("registry", "parcels")]
    seed.write_text(f"{SCHEMA}; {insert()};")
    assert len([row async for row in sources.rows("registry", "parcels")]) == ROWS
    await sources.close()


async def test_dsn_references_are_resolved_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Sources(tmp_path, None)
    declared = PostgresSource(dsn="env:ROADBED_TEST_DSN", tables={"parcels": TABLE})
    await sources.use({"registry": declared, "local": SqliteSource(path="x.sqlite", tables={"users": TABLE})})
    with pytest.raises(ConfigError, match="ROADBED_TEST_DSN"):
        [row async for row in sources.rows("registry", "parcels")]
    monkeypatch.setenv("ROADBED_TEST_DSN", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(SourceUnavailable):
        [row async for row in sources.rows("registry", "parcels")]
    await sources.use({"x": embedded_source()})
    with pytest.raises(ConfigError, match="embedded"):
        [row async for row in sources.rows("x", "parcels")]
    await sources.close()
