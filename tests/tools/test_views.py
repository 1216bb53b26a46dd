"""Views over tables whose rows or columns are ruled: what a table hides, a view of it must not give back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import asyncpg
import duckdb

from roadbed.sources.manifest import DuckdbSource, PostgresSource, SqliteSource
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.types import Ok, Refused

from .conftest import BERIT, Box, TwoRoles

RULES: dict[str, Any] = {"mask": {"parcels.area": "drop"}, "rows": {"parcels": "{principal.team} = 'support'"}}
VIEWS = (
    "CREATE VIEW plain AS SELECT id, area FROM parcels",
    "CREATE VIEW second AS SELECT id, area AS a FROM plain",
    "CREATE VIEW counted AS SELECT count(*) AS n FROM parcels",
    "CREATE VIEW others AS SELECT 1 AS one",
)
HIDDEN = ("plain", "second", "counted")


async def holds(
    box: Box, source: PostgresSource | SqliteSource | DuckdbSource, hidden: tuple[str, ...] = HIDDEN
) -> None:
    await box.take({"db": source}, {})
    listed = await box.call("db_tables", BERIT)
    assert isinstance(listed, Ok), listed
    assert {row["table"] for row in listed.data["tables"]} >= {"parcels", "others"}
    assert not {row["table"] for row in listed.data["tables"]} & set(hidden)
    for view in hidden:
        refused = await box.call("db_query", BERIT, sql=f"SELECT * FROM {view}")
        assert isinstance(refused, Refused), view
        assert "no table" in refused.message
        assert isinstance(await box.call("db_describe", BERIT, table=view), Refused)
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT one FROM others"), Ok)


async def test_postgres_views_and_children_of_ruled_tables_are_not_there(
    box: Box, two_roles: TwoRoles, postgres: EmbeddedPostgres
) -> None:
    owner = await asyncpg.connect(two_roles.owner)
    made = (
        *VIEWS,
        "CREATE MATERIALIZED VIEW kept AS SELECT id, a FROM second",
        "CREATE TABLE annex () INHERITS (parcels)",
    )
    for sql in made:
        await owner.execute(sql)
    await owner.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {two_roles.role}")
    await owner.close()
    hidden = (*HIDDEN, "kept", "annex")
    await holds(box, box.postgres("db", two_roles.reader, explore=True, **RULES), hidden)
    # One that has rules of its own was thought of; without any rule all views are there.
    own = {"mask": {**RULES["mask"], "plain.area": "drop"}, "rows": RULES["rows"]}
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True, **own)}, {})
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT id FROM plain LIMIT 1"), Ok)
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT area FROM plain"), Refused)
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT a FROM second"), Refused)
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True)}, {})
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT a FROM second LIMIT 1"), Ok)


async def test_sqlite_views_of_ruled_tables_are_not_there(box: Box) -> None:
    source = box.sqlite("db", explore=True, **RULES)
    with closing(sqlite3.connect(box.folder / "db")) as raw:
        for sql in VIEWS:
            raw.execute(sql)
        raw.execute("CREATE VIEW round AS SELECT * FROM round")
        raw.execute("CREATE VIRTUAL TABLE words USING fts5 (street)")
        raw.execute("INSERT INTO words SELECT street FROM parcels")
        raw.commit()
    await holds(box, source, (*HIDDEN, "round", "words_content", "words_data"))


async def test_duckdb_views_of_ruled_tables_are_not_there(box: Box) -> None:
    with duckdb.connect(str(box.folder / "db.duckdb")) as raw:
        raw.execute("CREATE TABLE parcels AS SELECT 1 AS id, 2.5 AS area")
        for sql in VIEWS:
            raw.execute(sql.replace("FROM parcels", 'FROM main."parcels"'))
    await holds(box, DuckdbSource(path="db.duckdb", explore=True, connections_max=1, **RULES))


async def test_declared_files_are_no_views_of_each_other(box: Box) -> None:
    (box.folder / "parcels.csv").write_text("id,area\n1,2.5\n")
    files = {"parcels": "parcels.csv", "copied": "parcels.csv"}
    await box.take({"db": DuckdbSource(files=files, explore=True, connections_max=1, **RULES)}, {})
    assert isinstance(await box.call("db_query", BERIT, sql="SELECT id FROM copied"), Ok)
