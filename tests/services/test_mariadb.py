"""MariaDB as a source, over a real server: what may never run, typed columns, deadlines, cancellation, rights."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.stopwatch import Stopwatch

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.errors import (
    CredentialsRefused,
    QueryRefused,
    ResultTooLarge,
    SourceMayWrite,
    SourceTimeout,
    SourceUnavailable,
)
from roadbed.sources.manifest import MysqlSource, TableConfig
from roadbed.sources.mysql import MysqlDriver
from roadbed.sources.pool import PoolSettings
from roadbed.sources.registry import Sources

from .mariadb_server import MariadbServer, mariadb_server

pytestmark = pytest.mark.services

# Long in the server, and no function that MariaDB runs to its end at once.
LONG = "SELECT count(*) FROM seqs a, seqs b, seqs c, seqs d WHERE a.n + b.n + c.n + d.n = -1"
TABLE = TableConfig(title="{id}", text="{street}")
SEED = (
    "CREATE DATABASE shop CHARACTER SET utf8mb4",
    "CREATE TABLE shop.parcels (id int PRIMARY KEY, street varchar(80), area decimal(30,10), sold datetime(6), "
    "seen timestamp(3) NULL, photo blob, note text, took time, flag bit(1), kind enum('a','b'), day date, price double)"
    " COMMENT 'what was appraised'",
    "INSERT INTO shop.parcels VALUES (1, 'Storgata ⌂ ''1''', 12345678901234567890.0123456789, "
    "'2026-01-02 03:04:05.678901', '2026-01-02 03:04:05.5', x'00ff', 'n', '30:00:00', b'1', 'b', '2026-02-03', 0.1)",
    "CREATE TABLE shop.seqs (n int PRIMARY KEY)",
    "INSERT INTO shop.seqs SELECT seq FROM shop.seq_1_to_1200",
    "INSERT INTO shop.parcels (id, street) SELECT n, concat('Street ', n) FROM shop.seqs WHERE n > 1",
    "CREATE TABLE shop.hidden (secret int)",
    "CREATE TABLE shop.partly (seen int, unseen int)",
    "CREATE USER reader@localhost IDENTIFIED BY 'pw'",
    "GRANT SELECT ON shop.parcels TO reader@localhost",
    "GRANT SELECT ON shop.seqs TO reader@localhost",
    "GRANT SELECT (seen) ON shop.partly TO reader@localhost",
    "CREATE USER writer@localhost IDENTIFIED BY 'pw'",
    "GRANT SELECT, INSERT, CREATE TEMPORARY TABLES ON shop.* TO writer@localhost",
    "GRANT FILE ON *.* TO writer@localhost",
)


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server("--local-infile=1") as server:
        for sql in SEED:
            asyncio.run(server.ask(sql))
        yield server


@pytest.fixture
async def opened(
    server: MariadbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., object]]:
    made: list[Sources] = []

    async def open_as(user: str, password: str = "pw", size: int = 2) -> Sources:
        monkeypatch.setenv("SHOP_DSN", server.dsn(user, password))
        sources = Sources(tmp_path, None, PoolSettings())
        made.append(sources)
        tables = {"parcels": TABLE, "hidden": TABLE}
        await sources.use({"shop": MysqlSource(dsn="env:SHOP_DSN", tables=tables, connections_max=size)})
        return sources

    yield open_as
    for sources in made:
        await sources.close()


@pytest.fixture
async def sources(opened: Callable[..., object]) -> Sources:
    return await opened("reader")  # type: ignore[misc,no-any-return]


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


async def running(server: MariadbServer, user: str = "reader") -> list[str]:
    rows = await server.ask(
        "SELECT info FROM information_schema.processlist WHERE user = %s AND command = 'Query'", [user]
    )
    return [row[0] for row in rows if row[0]]


async def test_values_keep_their_types_and_lose_nothing(sources: Sources) -> None:
    result = await sources.query(
        "shop", "SELECT * FROM parcels WHERE street LIKE ? AND id = ?", ["%'1'", 1], deadline=soon()
    )
    assert [(column.type, column.native) for column in result.columns] == [
        ("integer", "int"), ("text", "varchar"), ("decimal", "decimal"), ("timestamp", "datetime"),
        ("timestamp", "timestamp"), ("bytes", "blob"), ("text", "text"), ("interval", "time"), ("bytes", "bit"),
        ("text", "char"), ("date", "date"), ("number", "double"),
    ]  # fmt: skip
    row = result.rows[0]
    assert row[1] == "Storgata ⌂ '1'"
    assert row[2] == Decimal("12345678901234567890.0123456789")
    assert row[3] == datetime(2026, 1, 2, 3, 4, 5, 678901)
    assert row[4] == datetime(2026, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)
    assert (row[5], row[7], row[9], row[11]) == (b"\x00\xff", timedelta(hours=30), "b", 0.1)


async def test_results_are_bounded_and_a_cut_one_leaves_nothing_running(
    sources: Sources, server: MariadbServer
) -> None:
    cut = await sources.query("shop", "SELECT id FROM parcels ORDER BY id", deadline=soon(), rows_max=250)
    assert (len(cut.rows), cut.is_truncated) == (250, True)
    whole = await sources.query("shop", "SELECT id FROM parcels", deadline=soon(), rows_max=1200)
    assert (len(whole.rows), whole.is_truncated) == (1200, False)
    endless = "SELECT concat(a.n, repeat('x', 1000)) FROM seqs a, seqs b, seqs c"
    assert (await sources.query("shop", endless, deadline=soon(), bytes_max=50_000)).is_truncated
    with pytest.raises(ResultTooLarge):
        await sources.query("shop", "SELECT repeat('x', 3000000)", deadline=soon())
    assert await running(server) == []
    assert len([row async for row in sources.rows("shop", "parcels")]) == 1200
    with pytest.raises(Exception, match="cannot be read"):
        _ = [row async for row in sources.rows("shop", "hidden")]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; SELECT 2",
        "COMMIT; SET SESSION TRANSACTION READ WRITE; SELECT 2",
        "SELECT /*!50000 1 */",
        "SELECT /*M! 1 */",
        "SELECT 'it\\'s' /*!50000 , 2 */",
        "INSERT INTO parcels (id) VALUES (0)",
        "DELETE FROM parcels",
        "DROP TABLE parcels",
        "SELECT * FROM hidden",
        "SELECT unseen FROM partly",
        "SELECT * FROM mysql.user",
        "SELECT 1 INTO OUTFILE '/tmp/roadbed-must-not-exist'",
        "SELECT 1 INTO DUMPFILE '/tmp/roadbed-must-not-exist'",
        "SELECT 1 INTO @x",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE parcels",
        "DO SLEEP(0)",
        "SET @@session.max_statement_time = 0",
        "SET GLOBAL max_connections = 1",
        "CALL sys.nothing()",
        "HANDLER parcels OPEN",
        "CREATE TEMPORARY TABLE t (x int)",
        "GRANT ALL ON *.* TO reader@localhost",
        "FLUSH TABLES",
        "LOCK TABLES parcels WRITE",
        "SELECT ?",
        "SELECT 'open",
    ],
)
async def test_what_must_never_run_has_no_effect(sources: Sources, server: MariadbServer, sql: str) -> None:
    before = await server.ask("SELECT count(*), (SELECT count(*) FROM information_schema.tables) FROM shop.parcels")
    with pytest.raises(QueryRefused):
        await sources.query("shop", sql, deadline=soon())
    after = await server.ask("SELECT count(*), (SELECT count(*) FROM information_schema.tables) FROM shop.parcels")
    assert after == before
    assert not os.path.exists("/tmp/roadbed-must-not-exist")  # noqa: ASYNC240
    assert len((await sources.query("shop", "SELECT 1", deadline=soon())).rows) == 1


async def test_stacked_statements_are_off_in_a_reused_session_too(sources: Sources) -> None:
    for _ in range(3):
        with pytest.raises(QueryRefused, match="1064"):
            await sources.query("shop", "SELECT 1; SELECT 2", deadline=soon())
    assert sources.states()[0].pool.idle == 1  # type: ignore[union-attr]


async def test_nothing_of_a_session_stays_for_the_next_caller(sources: Sources) -> None:
    await sources.query("shop", "SELECT GET_LOCK('held', 0), @mine := 7", deadline=soon())
    result = await sources.query(
        "shop", "SELECT @mine, IS_USED_LOCK('held'), @@sql_mode, @@tx_read_only", deadline=soon()
    )
    assert result.rows[0][:2] == (None, None)
    assert "ANSI_QUOTES" not in result.rows[0][2]
    assert result.rows[0][3] == 1
    assert sources.states()[0].pool.idle == 1  # type: ignore[union-attr]


async def test_the_deadline_stops_a_statement_in_the_server(sources: Sources, server: MariadbServer) -> None:
    assert (await sources.query("shop", "SELECT 1", deadline=soon())).rows == ((1,),)
    watch = Stopwatch()
    with pytest.raises(SourceTimeout):
        await sources.query("shop", LONG, deadline=soon(0.6))
    assert watch.elapsed_s() < 1.5
    await gone(server)


async def test_the_server_keeps_the_time_limit_by_itself(sources: Sources) -> None:
    # 0.1 s before the caller's, so the session lives on.
    with pytest.raises(SourceTimeout):
        await sources.query("shop", LONG, deadline=soon(0.6))
    result = await sources.query("shop", "SELECT @@max_statement_time", deadline=soon(5))
    assert 4 < float(result.rows[0][0]) < 5


async def test_a_caller_that_leaves_has_its_statement_killed_within_a_second(
    sources: Sources, server: MariadbServer
) -> None:
    task = asyncio.create_task(sources.query("shop", LONG, deadline=soon(30)))
    async with asyncio.timeout(60):
        while not await running(server):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
    watch = Stopwatch()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(server)
    assert watch.elapsed_s() < 1.0
    assert len((await sources.query("shop", "SELECT 1", deadline=soon())).rows) == 1


async def test_closing_ends_what_runs(sources: Sources, server: MariadbServer) -> None:
    task = asyncio.create_task(sources.query("shop", LONG, deadline=soon(30)))
    async with asyncio.timeout(60):
        while not await running(server):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
    await sources.use({})
    await sources.close()
    with pytest.raises((SourceUnavailable, SourceTimeout)):
        await task
    await gone(server)


async def gone(server: MariadbServer) -> None:
    async with asyncio.timeout(60):
        while await running(server):  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("user", "password"), [("writer", "pw"), ("root", "")])
async def test_an_account_that_writes_runs_no_statement(
    opened: Callable[..., object], user: str, password: str
) -> None:
    sources: Sources = await opened(user, password)  # type: ignore[misc]
    with pytest.raises(SourceMayWrite) as refused:
        await sources.query("shop", "SELECT 1", deadline=soon())
    assert "CREATE USER 'roadbed_reader'@'%'" in refused.value.hint
    warning = sources.states()[0].warnings[0]
    assert ("ALL PRIVILEGES" if user == "root" else "FILE") in warning.message
    assert "GRANT SELECT ON `shop`.`parcels` TO 'roadbed_reader'@'%';" in warning.fix
    assert len([row async for row in sources.rows("shop", "parcels")]) == 1200  # documents are read all the same


async def test_the_fix_makes_an_account_that_only_reads(opened: Callable[..., object], server: MariadbServer) -> None:
    strong: Sources = await opened("writer")  # type: ignore[misc]
    with pytest.raises(SourceMayWrite):
        await strong.query("shop", "SELECT 1", deadline=soon())
    for sql in strong.states()[0].warnings[0].fix:
        await server.ask(sql.replace("'...'", "'made'"))
    weak: Sources = await opened("roadbed_reader", "made")  # type: ignore[misc]
    assert len((await weak.query("shop", "SELECT id FROM parcels", deadline=soon())).rows) == 1000
    assert weak.states()[0].warnings == ()


async def test_a_refused_password_and_a_missing_server_are_told_apart(
    opened: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: Sources = await opened("reader", "wrong")  # type: ignore[misc]
    with pytest.raises(CredentialsRefused) as refused:
        await sources.query("shop", "SELECT 1", deadline=soon())
    assert "wrong" not in refused.value.message
    other: Sources = await opened("reader")  # type: ignore[misc]
    monkeypatch.setenv("SHOP_DSN", "mysql://reader:pw@127.0.0.1:1/shop")
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        await other.query("shop", "SELECT 1", deadline=soon())


async def test_the_catalogue_is_what_the_account_may_read(server: MariadbServer) -> None:
    driver_name = "shop"
    from roadbed.sources.mysql import MysqlSystem

    system = MysqlSystem(driver_name, lambda: Secret(server.dsn("reader")), 1, PoolSettings())
    try:
        found = await system.catalogue(soon())
    finally:
        await system.close(1.0)
    assert found.dialect == "mysql"
    assert set(found.tables) == {"parcels", "seqs", "partly"}
    assert found.tables["parcels"]["area"] == "decimal(30,10)"
    assert found.tables["partly"] == {"seen": "int(11)"}
    assert found.comments == {"parcels": "what was appraised"}


async def test_the_driver_takes_stacked_statements_back_by_the_protocols_own_command(server: MariadbServer) -> None:
    """The contract with asyncmy: it forces stacked statements on, and its private command call turns them off."""
    import asyncmy
    from asyncmy.errors import ProgrammingError

    raw: Any = await asyncmy.connect(unix_socket=server.socket, user="reader", password="pw", database="shop")
    try:
        await raw.query("SELECT 1; SELECT 2")  # as it comes
        await raw.next_result()
    finally:
        raw.close()
    connection = await MysqlDriver("shop", lambda: Secret(server.dsn("reader")), "dsn").connect()
    try:
        with pytest.raises(ProgrammingError):
            await connection.raw.query("SELECT 1; SELECT 2")
    finally:
        connection.raw.close()
