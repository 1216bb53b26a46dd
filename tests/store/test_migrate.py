"""Migrations: applied once, in order, never edited; newer schemas and foreign workspaces are refused."""

from __future__ import annotations

import asyncio

import pytest

from roadbed.store import errors
from roadbed.store.database import SCHEMA_NAME, Database
from roadbed.store.migrate import Migration, load_migrations, migrate, parse_migration, schema_name

BASE = load_migrations()[:1]
ONE = parse_migration("9001_one.sql", "CREATE TABLE one (n integer);")
TWO = parse_migration("9002_two.sql", "-- compatible_from: 9001\nCREATE TABLE two (n integer);")
BROKEN = parse_migration("9003_broken.sql", "CREATE TABLE three (n integer); SELECT nonsense;")


async def run(dsn: str, *migrations: Migration, workspace_id: str = "w") -> tuple[int, ...]:
    async with await Database.open(dsn, "roadbed_x") as database:
        return (await migrate(database, workspace_id=workspace_id, migrations=(*BASE, *migrations))).applied


async def test_all_of_this_build_apply_once(empty_dsn: str) -> None:
    async with await Database.open(empty_dsn, "roadbed_x") as database:
        with pytest.raises(errors.SchemaTooOld):
            await migrate(database, workspace_id="w", mode="check")
        assert await database.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = 'roadbed_x'") == 0
        first = await migrate(database, workspace_id="w")
        assert first.applied == tuple(migration.number for migration in load_migrations())
        assert first.version == first.schema_max
        second = await migrate(database, workspace_id="w", mode="check")
        assert second.applied == ()
        assert await database.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_late_number_between_is_applied(empty_dsn: str) -> None:
    assert await run(empty_dsn, TWO) == (1, 9002)
    assert await run(empty_dsn, ONE, TWO) == (9001,)


async def test_a_newer_schema_is_refused_unless_it_says_it_is_compatible(empty_dsn: str) -> None:
    await run(empty_dsn, ONE, TWO)
    assert await run(empty_dsn, ONE) == ()
    with pytest.raises(errors.SchemaTooNew, match=r"9002.*0001"):
        await run(empty_dsn)


async def test_an_edited_migration_is_refused(empty_dsn: str) -> None:
    await run(empty_dsn, ONE)
    with pytest.raises(errors.MigrationChanged, match="9001_one"):
        await run(empty_dsn, parse_migration("9001_one.sql", "CREATE TABLE one (n bigint);"))


async def test_a_broken_migration_leaves_the_one_before(empty_dsn: str) -> None:
    with pytest.raises(errors.MigrationFailed, match="9003_broken"):
        await run(empty_dsn, ONE, BROKEN)
    async with await Database.open(empty_dsn, "roadbed_x") as database:
        assert await database.fetchval("SELECT to_regclass('three')") is None
        assert await database.fetchval("SELECT max(number) FROM schema_migration") == 9001


async def test_a_schema_belongs_to_one_workspace(empty_dsn: str) -> None:
    await run(empty_dsn)
    with pytest.raises(errors.WorkspaceMismatch, match="'w'"):
        await run(empty_dsn, workspace_id="other")
    async with await Database.open(empty_dsn, "roadbed_y") as database:
        await migrate(database, workspace_id="other", migrations=BASE)


async def test_two_at_once_apply_each_once(empty_dsn: str) -> None:
    applied = await asyncio.gather(*(run(empty_dsn, ONE, TWO) for _ in range(4)))
    assert sorted(applied, key=len) == [(), (), (), (1, 9001, 9002)]


def test_file_names_are_checked() -> None:
    assert parse_migration("0007_two_words.sql", "").compatible_from == 7
    for name in ("7_x.sql", "0007-x.sql", "0007_X.sql", "0007_x.txt"):
        with pytest.raises(ValueError, match="NNNN_name"):
            parse_migration(name, "")


@pytest.mark.parametrize("name", ["Acme", "a-b c", "", "ä", "x" * 200, "1st"])
def test_schema_names_fit(name: str) -> None:
    assert SCHEMA_NAME.fullmatch(schema_name(name))


def test_long_names_stay_different() -> None:
    assert schema_name("x" * 100 + "a") != schema_name("x" * 100 + "b")
