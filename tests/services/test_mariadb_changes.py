"""Declared changes of MariaDB: tried and taken back, approved, made once; locks, kills, tables without transactions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tools.conftest import ID, Box

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.sources.errors import EndUnknown, QueryRefused, RolledBack, SourceMisdeclared
from roadbed.sources.manifest import MysqlSource
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.errors import ToolMisdeclared
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import NeedsApproval, Ok, Refused

from .mariadb_server import MariadbServer, mariadb_server

pytestmark = pytest.mark.services

BOSS = Principal(id="boss", team="office", roles=frozenset({ADMIN}), name="Boss")
SEED = (
    "CREATE DATABASE shop CHARACTER SET utf8mb4",
    "CREATE TABLE shop.parcels (id int PRIMARY KEY, street varchar(80) CHECK (street <> 'Nowhere'))",
    "INSERT INTO shop.parcels VALUES (6, 'Street 6'), (7, 'Street 7'), (8, 'Street 8')",
    "CREATE TABLE shop.old (id int) ENGINE = MyISAM",
    "CREATE TABLE shop.watched (id int)",
    "CREATE TRIGGER shop.t AFTER INSERT ON shop.watched FOR EACH ROW INSERT INTO shop.old VALUES (NEW.id)",
    "CREATE USER reader@localhost IDENTIFIED BY 'pw'",
    "GRANT SELECT ON shop.parcels TO reader@localhost",
    "CREATE USER changer@localhost IDENTIFIED BY 'pw'",
    "GRANT SELECT, UPDATE, INSERT, DELETE ON shop.parcels TO changer@localhost",
    "GRANT INSERT ON shop.watched TO changer@localhost",
    "CREATE USER wide@localhost IDENTIFIED BY 'pw'",
    "GRANT SELECT, UPDATE, INSERT, DELETE, DROP ON shop.* TO wide@localhost",
)
RENAME = ToolConfig(
    source="shop",
    description="Rename the street of a parcel.",
    sql="UPDATE parcels SET street = :street WHERE id >= :id",
    parameters={"id": ID, "street": ParameterConfig(type="string")},
    effect="write",
)
EVIL = "'; DROP TABLE parcels; -- \\"


@pytest.fixture(scope="module")
def server() -> Iterator[MariadbServer]:
    with mariadb_server() as server:
        for sql in SEED:
            asyncio.run(server.ask(sql))
        yield server


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    return Guard.open(tmp_path_factory.mktemp("guard"))


@pytest.fixture
async def box(tmp_path: Path, guard: Guard, database: Database, server: MariadbServer) -> AsyncIterator[Box]:
    made = Box(tmp_path, guard, Approvals(database))
    await server.ask("UPDATE shop.parcels SET street = concat('Street ', id)")
    await made.take({"shop": shop(made, server)}, {"rename": RENAME})
    yield made
    await made.sources.close()


def shop(box: Box, server: MariadbServer, writer: str = "changer") -> MysqlSource:
    (box.folder / "dsn").write_text(server.dsn("reader"))
    (box.folder / "changes").write_text(server.dsn(writer))
    return MysqlSource(dsn="file:dsn", write_dsn="file:changes")


async def streets(server: MariadbServer) -> list[str]:
    return [row[0] for row in await server.ask("SELECT street FROM shop.parcels ORDER BY id")]


async def change(box: Box, sql: str, *args: Any, is_dry: bool = False, seconds: float = 10.0) -> Any:
    return await box.sources.change("shop", sql, args, Deadline.after(seconds), is_dry=is_dry)


async def test_a_change_is_tried_waits_and_is_made_once(box: Box, server: MariadbServer) -> None:
    asked = await box.call("rename", id=7, street=EVIL)
    assert isinstance(asked, NeedsApproval), asked
    assert asked.preview["rows"] == 2
    assert await streets(server) == ["Street 6", "Street 7", "Street 8"]
    done = await box.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    assert isinstance(done, Ok), done
    assert done.data == {"rows_changed": 2}
    assert await streets(server) == ["Street 6", EVIL, EVIL]
    told = await box.call("rename", id=7, street=EVIL)
    assert isinstance(told, Ok)
    assert told.data["rows_changed"] == 2


async def test_rows_that_a_change_returns_are_given_back(box: Box, server: MariadbServer) -> None:
    done = await change(box, "DELETE FROM parcels WHERE id > ? RETURNING id, street", 6, is_dry=True)
    assert (done.rows, done.columns) == (2, ("id", "street"))
    assert sorted(done.returned) == [(7, "Street 7"), (8, "Street 8")]
    assert len(await streets(server)) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE parcels SET street = 'Nowhere'",
        "UPDATE parcels SET street = 'x'; COMMIT",
        "UPDATE hidden SET street = 'x'",
        "/*! DROP TABLE parcels */",
        "INSERT INTO parcels VALUES (7, 'again')",
    ],
)
async def test_what_the_server_refuses_changed_nothing(box: Box, server: MariadbServer, sql: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        await change(box, sql)
    assert "again" not in refused.value.message
    assert await streets(server) == ["Street 6", "Street 7", "Street 8"]


async def test_an_account_that_sees_tables_without_transactions_changes_nothing(
    box: Box, server: MariadbServer
) -> None:
    await box.take({"shop": shop(box, server, "wide")}, {"rename": RENAME})
    with pytest.raises(SourceMisdeclared, match=r"shop\.old"):
        await change(box, "INSERT INTO old VALUES (1)", is_dry=True)
    assert await server.ask("SELECT count(*) FROM shop.old") == [(0,)]
    refused = await box.call("rename", id=7, street="New")
    assert isinstance(refused, Refused)
    assert "InnoDB" in refused.hint


async def test_a_trial_that_could_not_be_taken_back_whole_says_so(box: Box) -> None:
    with pytest.raises(EndUnknown, match="back"):
        await change(box, "INSERT INTO watched VALUES (1)", is_dry=True)


async def test_a_locked_row_and_a_long_change_are_given_up_and_leave_no_lock(box: Box, server: MariadbServer) -> None:
    import asyncmy

    other = await asyncmy.connect(unix_socket=server.socket, user="root", db="shop")
    try:
        await other.cursor().execute("SELECT * FROM parcels WHERE id = 7 FOR UPDATE")
        with pytest.raises(RolledBack):
            await change(box, "UPDATE parcels SET street = 'x'", seconds=1.5)
    finally:
        other.close()
    with pytest.raises(RolledBack):
        await change(box, "UPDATE parcels SET street = concat('x', SLEEP(5)) WHERE id > 6", seconds=1.5)
    assert (await change(box, "UPDATE parcels SET street = 'New' WHERE id = 8", seconds=20.0)).rows == 1
    assert await streets(server) == ["Street 6", "Street 7", "New"]


async def test_what_is_more_than_rows_is_no_tool(box: Box, server: MariadbServer) -> None:
    for sql in ("TRUNCATE parcels", "ALTER TABLE parcels ADD x int", "CALL wipe()", "SET GLOBAL x = 1"):
        tool = ToolConfig(source="shop", description="d", sql=sql, effect="write")
        with pytest.raises(ToolMisdeclared, match="more than rows"):
            await box.take({"shop": shop(box, server)}, {"tool": tool})
