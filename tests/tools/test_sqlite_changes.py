"""Declared changes of a SQLite file: tried and taken back, approved, made once; locks, stops, what may not be done."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.sources.errors import QueryRefused, RolledBack
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.errors import ApprovalInvalid, ToolMisdeclared
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import NeedsApproval, Ok, Refused

from .conftest import ID, Box

BOSS = Principal(id="boss", team="office", roles=frozenset({ADMIN}), name="Boss")
RENAME = ToolConfig(
    source="db",
    description="Rename the street of a parcel.",
    sql="UPDATE parcels SET street = :street WHERE id = :id RETURNING id, street",
    parameters={"id": ID, "street": ParameterConfig(type="string")},
    effect="write",
)


@pytest.fixture
async def writing(tmp_path: Path, guard: Guard, database: Database) -> AsyncIterator[Box]:
    box = Box(tmp_path, guard, Approvals(database))
    await box.take({"db": box.sqlite("db", write=True)}, {"rename": RENAME})
    yield box
    await box.sources.close()


def street(box: Box, number: int = 7) -> str:
    with closing(sqlite3.connect(box.folder / "db")) as raw:
        return str(raw.execute("SELECT street FROM parcels WHERE id = ?", (number,)).fetchone()[0])


def is_locked(box: Box) -> bool:
    with closing(sqlite3.connect(box.folder / "db", isolation_level=None, timeout=0)) as raw:
        try:
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


async def test_a_change_is_tried_waits_and_is_made_once(writing: Box) -> None:
    asked = await writing.call("rename", id=7, street="New'); DROP TABLE parcels; --")
    assert isinstance(asked, NeedsApproval), asked
    assert asked.preview["rows"] == 1
    assert street(writing) == "Street 7"
    done = await writing.toolbox.approve(asked.approval_id, BOSS, soon())
    assert isinstance(done, Ok), done
    assert done.data == {"rows_changed": 1, "returned": [{"id": 7, "street": "New'); DROP TABLE parcels; --"}]}
    assert street(writing) == "New'); DROP TABLE parcels; --"
    with pytest.raises(ApprovalInvalid):
        await writing.toolbox.approve(asked.approval_id, BOSS, soon())
    told = await writing.call("rename", id=7, street="New'); DROP TABLE parcels; --")
    assert isinstance(told, Ok)
    assert told.data["rows_changed"] == 1


async def test_the_same_call_made_at_once_waits_as_one(writing: Box) -> None:
    asked = await asyncio.gather(*(writing.call("rename", id=7, street="New") for _ in range(4)))
    assert len({one.approval_id for one in asked if isinstance(one, NeedsApproval)}) == 1


async def test_a_tool_that_changed_meanwhile_is_not_run_by_the_old_approval(writing: Box) -> None:
    asked = await writing.call("rename", id=7, street="New")
    assert isinstance(asked, NeedsApproval)
    all_of_them = msgspec.structs.replace(RENAME, sql="UPDATE parcels SET street = :street WHERE id >= :id")
    await writing.take({"db": writing.sqlite("db", write=True)}, {"rename": all_of_them})
    with pytest.raises(ApprovalInvalid, match="not the one"):
        await writing.toolbox.approve(asked.approval_id, BOSS, soon())
    anew = await writing.call("rename", id=7, street="New")
    assert isinstance(anew, NeedsApproval)
    assert anew.approval_id != asked.approval_id
    assert anew.preview["rows"] == 1194
    assert street(writing) == "Street 7"


async def change(box: Box, sql: str, *args: Any, is_dry: bool = False, seconds: float = 10.0) -> Any:
    return await box.sources.change("db", sql, args, soon(seconds), is_dry=is_dry)


@pytest.mark.parametrize(
    "sql",
    [
        "ATTACH DATABASE 'other' AS o",
        "PRAGMA journal_mode = DELETE",
        "DROP TABLE parcels",
        "CREATE TABLE x (i)",
        "VACUUM INTO 'copy'",
        "COMMIT",
        "UPDATE sqlite_master SET sql = 'x'",
        "DELETE FROM sqlite_sequence",
        "UPDATE parcels SET street = load_extension('x')",
        "UPDATE parcels SET street = (SELECT sql FROM sqlite_master)",
        "UPDATE parcels SET street = (SELECT file FROM pragma_database_list)",
    ],
)
async def test_nothing_but_rows_is_changed(writing: Box, sql: str) -> None:
    before = (writing.folder / "db").read_bytes()
    with pytest.raises(QueryRefused):
        await change(writing, sql)
    assert (writing.folder / "db").read_bytes() == before
    assert [path.name for path in writing.folder.iterdir()] == ["db"]


async def test_triggers_keys_and_counters_work_and_a_dry_run_leaves_no_trace(writing: Box) -> None:
    with closing(sqlite3.connect(writing.folder / "db")) as raw, raw:
        raw.executescript("""
            CREATE TABLE log (id integer PRIMARY KEY AUTOINCREMENT, what text);
            CREATE TABLE owners (id integer PRIMARY KEY, parcel integer REFERENCES parcels (id) ON DELETE CASCADE);
            INSERT INTO owners VALUES (1, 7);
            CREATE TRIGGER t AFTER DELETE ON parcels BEGIN INSERT INTO log (what) VALUES ('gone ' || old.id); END;
        """)
    before = (writing.folder / "db").read_bytes()
    dry = await change(writing, "DELETE FROM parcels WHERE id IN (6, 7)", is_dry=True)
    assert dry.rows == 2
    assert (writing.folder / "db").read_bytes() == before
    done = await change(writing, "WITH gone AS (SELECT 7 AS id) DELETE FROM parcels WHERE id IN (SELECT id FROM gone)")
    assert done.rows == 1
    with closing(sqlite3.connect(writing.folder / "db")) as raw:
        assert raw.execute("SELECT what FROM log").fetchall() == [("gone 7",)]
        assert raw.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    with pytest.raises(QueryRefused, match="CONSTRAINT"):
        await change(writing, "INSERT INTO owners VALUES (2, 7)")


async def test_a_file_that_another_program_writes_or_reads_is_waited_for_and_then_left_as_it_was(writing: Box) -> None:
    update = "UPDATE parcels SET street = 'New' WHERE id = 7"
    for order in ("BEGIN IMMEDIATE", "BEGIN; SELECT count(*) FROM parcels"):
        with closing(sqlite3.connect(writing.folder / "db", isolation_level=None)) as raw:
            for part in order.split("; "):
                raw.execute(part).fetchall()
            with pytest.raises(RolledBack):
                await change(writing, update, seconds=0.6)
        assert street(writing) == "Street 7"
    assert (await change(writing, update)).rows == 1
    assert street(writing) == "New"


async def test_a_change_that_takes_too_long_or_whose_caller_leaves_is_taken_back(writing: Box) -> None:
    long = (
        "UPDATE parcels SET street = (SELECT count(*) FROM parcels a, parcels b, parcels c WHERE a.id + b.id = -c.id)"
    )
    with pytest.raises(RolledBack):
        await change(writing, long, seconds=0.3)
    task = asyncio.create_task(change(writing, long, seconds=30))
    async with asyncio.timeout(60):
        while not is_locked(writing):  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await change(writing, "UPDATE parcels SET street = 'New' WHERE id = 7")).rows == 1  # no lock is left
    assert street(writing, 8) == "Street 8"


async def test_a_missing_file_is_not_made(writing: Box) -> None:
    (writing.folder / "db").unlink()
    with pytest.raises(RolledBack):
        await change(writing, "DELETE FROM parcels")
    assert not (writing.folder / "db").exists()


async def test_a_source_that_does_not_say_so_is_not_changed(box: Box) -> None:
    with pytest.raises(ToolMisdeclared, match="only read"):
        await box.take({"db": box.sqlite("db")}, {"rename": RENAME})
    drop = ToolConfig(source="db", description="d", sql="DROP TABLE parcels", effect="write")
    with pytest.raises(ToolMisdeclared, match="more than rows"):
        await box.take({"db": box.sqlite("db", write=True)}, {"drop": drop})


async def test_reading_tools_of_a_source_that_may_be_changed_still_only_read(writing: Box) -> None:
    read = ToolConfig(source="db", description="d", sql="UPDATE parcels SET street = 'New' RETURNING id")
    await writing.take({"db": writing.sqlite("db", write=True)}, {"sly": read})
    assert isinstance(await writing.call("sly"), Refused)
    assert street(writing) == "Street 7"
