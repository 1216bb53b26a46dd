"""Tools of a MariaDB source end to end: declared statements in pages, free SQL, rights refused, the server killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stopwatch import Stopwatch
from tests.tools.conftest import ANNA, BERIT, ID, Box

from roadbed.guard.gate import Guard
from roadbed.sources.manifest import MysqlSource
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import Failed, Ok, Outcome, Refused

from .mariadb_server import MariadbServer, mariadb_server
from .test_mariadb import LONG, SEED, gone, running

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as server:
        for sql in SEED:
            asyncio.run(server.ask(sql))
        yield server


@pytest.fixture
async def box(tmp_path: Path, guard: Guard) -> AsyncIterator[Box]:
    made = Box(tmp_path, guard)
    yield made
    await made.sources.close()


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    return Guard.open(tmp_path_factory.mktemp("guard"))


def shop(box: Box, server: MariadbServer, user: str = "reader", **settings: Any) -> MysqlSource:
    (box.folder / "dsn").write_text(server.dsn(user))
    return MysqlSource(dsn="file:dsn", explore=True, **settings)


def declared(sql: str, **parameters: ParameterConfig) -> ToolConfig:
    return ToolConfig(source="shop", description="d", sql=sql, parameters=parameters, rows_max=500)


async def all_ids(box: Box, tool: str, **args: Any) -> list[int]:
    ids: list[int] = []
    cursor = ""
    while True:
        page = await box.call(tool, cursor=cursor, **args)
        assert isinstance(page, Ok), page
        ids += [row[0] for row in page.data["rows"]]
        cursor = page.cursor
        if not cursor:
            return ids


async def test_declared_statements_take_typed_places_and_give_pages_in_order(box: Box, server: MariadbServer) -> None:
    kinds = {name: ParameterConfig(type=name) for name in ("string", "number", "boolean", "date", "timestamp", "uuid")}
    typed = r"SELECT :string AS s, :number AS n, :boolean AS b, :date AS d, :timestamp AS t, :uuid AS u, 'it\'s :no' x"
    down = "SELECT id FROM parcels WHERE id > :id ORDER BY id DESC"
    tools = {
        "typed": declared(typed, **kinds),
        "twice": declared("SELECT street, area FROM parcels WHERE id = :id OR id = :id", id=ID),
        "down": declared(down, id=ID),
        "some": declared(f"{down} LIMIT 700", id=ID),
        "both": declared("SELECT id FROM parcels WHERE id > :id UNION ALL SELECT n FROM seqs ORDER BY id", id=ID),
    }
    await box.take({"shop": shop(box, server)}, tools)
    given: dict[str, Any] = {
        "string": "'; DROP TABLE parcels; -- \\",
        "number": 1.25,
        "boolean": True,
        "date": "2026-02-28",
        "timestamp": "2026-02-28T10:00:00+01:00",
        "uuid": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    }
    outcome = await box.call("typed", **given)
    assert isinstance(outcome, Ok), outcome
    row = outcome.data["rows"][0]
    assert row[0] == given["string"]
    assert row[2:] == [1, "2026-02-28", "2026-02-28 09:00:00", given["uuid"], "it's :no"]
    outcome = await box.call("twice", id=1)
    assert isinstance(outcome, Ok), outcome
    assert outcome.data["rows"] == [["Storgata ⌂ '1'", "12345678901234567890.0123456789"]]
    assert await all_ids(box, "down", id=1) == list(range(1200, 1, -1))
    assert await all_ids(box, "some", id=1) == list(range(1200, 500, -1))
    assert await all_ids(box, "both", id=1) == sorted([*range(2, 1201), *range(1, 1201)])


async def test_free_sql_reads_what_the_account_may_read(box: Box, server: MariadbServer) -> None:
    rows = {"parcels": "{principal.team} = 'support'"}
    await box.take({"shop": shop(box, server, rows=rows, mask={"parcels.note": "drop"})}, {})
    tables = await box.call("shop_tables")
    assert isinstance(tables, Ok), tables
    assert {"table": "parcels", "columns": 12, "about": "what was appraised"} in tables.data["tables"]
    sql = "SELECT count(*) AS n, max(`street`) AS s FROM parcels WHERE id < 8"
    anna, berit = await box.call("shop_query", ANNA, sql=sql), await box.call("shop_query", BERIT, sql=sql)
    assert isinstance(anna, Ok), anna
    assert isinstance(berit, Ok), berit
    assert (anna.data["rows"], berit.data["rows"]) == ([[7, "Street 7"]], [[0, None]])
    assert await all_ids(box, "shop_query", sql="SELECT id FROM parcels ORDER BY id") == list(range(1, 1201))
    for text in ("SELECT note FROM parcels", "SELECT * FROM hidden", "SELECT sleep(9)", "SELECT @@datadir"):
        refused = await box.call("shop_query", sql=text)
        assert isinstance(refused, Refused), text
        assert refused.code == "tools.sql_refused"


async def test_an_account_that_may_write_runs_no_tool(box: Box, server: MariadbServer) -> None:
    await box.take({"shop": shop(box, server, "writer")}, {"one": declared("SELECT 1")})
    for outcome in (
        await box.call("one"),
        await box.call("shop_tables"),
        await box.call("shop_query", sql="SELECT count(*) AS n FROM parcels"),
    ):
        assert isinstance(outcome, Refused), outcome
        assert outcome.code == "sources.may_write"
        assert "CREATE USER" in outcome.hint


async def test_leaving_ends_the_statement_in_the_server(box: Box, server: MariadbServer) -> None:
    await box.take({"shop": shop(box, server)}, {"long": declared(LONG)})
    task = asyncio.create_task(box.call("long"))
    async with asyncio.timeout(60):
        while not await running(server):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
    watch = Stopwatch()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(server)
    assert watch.elapsed_s() < 1.0


async def until_ok(box: Box, tool: str, seconds: float) -> Outcome:
    outcome: Outcome | None = None
    async with asyncio.timeout(seconds):
        while not isinstance(outcome, Ok):
            await asyncio.sleep(0.05)
            outcome = await box.call(tool, seconds=1.0)
    return outcome


async def test_a_killed_server_is_named_and_is_back_within_five_seconds(box: Box, tmp_path: Path) -> None:
    with mariadb_server() as first:
        for sql in SEED:
            await first.ask(sql)
        await box.take({"shop": shop(box, first)}, {"one": declared("SELECT count(*) FROM parcels")})
        assert isinstance(await box.call("one"), Ok)
        first.kill()
        failed = await box.call("one", seconds=2.0)
        assert isinstance(failed, Failed)
        assert (failed.code, failed.source) == ("sources.unavailable", "shop")
        await asyncio.to_thread(first.start)
        assert isinstance(await until_ok(box, "one", 5.0), Ok)


async def test_views_of_ruled_tables_are_not_there(box: Box, server: MariadbServer) -> None:
    for sql in (
        "CREATE OR REPLACE VIEW shop.plain AS SELECT id, note FROM shop.parcels",
        "CREATE OR REPLACE VIEW shop.second AS SELECT id, note FROM shop.plain",
        "CREATE OR REPLACE VIEW shop.others AS SELECT n FROM shop.seqs",
        *(f"GRANT SELECT ON shop.{view} TO reader@localhost" for view in ("plain", "second", "others")),
    ):
        await server.ask(sql)
    query = "SELECT count(*) AS n FROM "
    await box.take({"shop": shop(box, server, mask={"parcels.note": "drop"})}, {})
    for view in ("plain", "second", "others"):  # without SHOW VIEW the account is not told what a view reads
        assert isinstance(await box.call("shop_query", sql=query + view), Refused), view
    await server.ask("GRANT SHOW VIEW ON shop.* TO reader@localhost")
    await box.take({"shop": shop(box, server, mask={"parcels.note": "drop"}, connections_max=3)}, {})
    assert isinstance(await box.call("shop_query", sql=query + "others"), Ok)
    for view in ("plain", "second"):
        assert isinstance(await box.call("shop_query", sql=query + view), Refused), view
    await box.take({"shop": shop(box, server)}, {})
    assert isinstance(await box.call("shop_query", sql=query + "second"), Ok)
