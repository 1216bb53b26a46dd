"""SQLite as a source: bounds, read-only, deadlines, cancellation, threads, a file that is replaced or locked."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from roadbed.kernel.deadline import Deadline
from roadbed.sources.errors import QueryRefused, ResultTooLarge, SourceBusy, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import SqliteSource, TableConfig
from roadbed.sources.registry import Sources
from roadbed.sources.sqlite import SqliteDriver

from .conftest import QUICK, until

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
TABLE = TableConfig(title="{id}", text="{id}")


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


def make(path: Path, rows: int = 1200) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE parcels (id integer PRIMARY KEY, street text, area real, photo blob)")
        connection.executemany(
            "INSERT INTO parcels VALUES (?, ?, ?, ?)",
            [(n, f"Street {n}", n / 2, b"\0" * 3) for n in range(1, rows + 1)],
        )


@pytest.fixture
async def sources(tmp_path: Path) -> AsyncIterator[Sources]:
    make(tmp_path / "db.sqlite")
    make(tmp_path / "other.sqlite")
    sources = Sources(tmp_path, None, QUICK)
    await sources.use(
        {
            name: SqliteSource(path=f"{name}.sqlite", tables={"parcels": TABLE}, connections_max=2)
            for name in ("db", "other")
        }
    )
    yield sources
    await sources.close()


async def test_a_query_gives_typed_columns_and_bounded_rows(sources: Sources) -> None:
    sql = "SELECT id, street, area, photo, NULL AS none, CASE id WHEN 11 THEN 'x' ELSE 1 END AS mixed FROM parcels"
    result = await sources.query("db", f"{sql} WHERE id > ?1 ORDER BY id", [10], deadline=soon(), rows_max=250)
    assert [(column.name, column.type) for column in result.columns] == [
        ("id", "integer"), ("street", "text"), ("area", "number"), ("photo", "bytes"), ("none", "other"),
        ("mixed", "other"),
    ]  # fmt: skip
    assert [row[0] for row in result.rows] == list(range(11, 261))
    assert result.is_truncated
    whole = await sources.query("db", "SELECT id FROM parcels", deadline=soon(), rows_max=1200)
    assert (len(whole.rows), whole.is_truncated) == (1200, False)
    with pytest.raises(ResultTooLarge):
        await sources.query("db", "SELECT hex(zeroblob(3000000))", deadline=soon())
    assert len([row async for row in sources.rows("db", "parcels")]) == 1200


@pytest.mark.parametrize(
    ("sql", "args", "said"),
    [
        ("INSERT INTO parcels VALUES (0, 'x', 0, NULL) RETURNING id", [], "readonly"),
        ("DELETE FROM parcels", [], "readonly"),
        ("CREATE TEMP TABLE t (x)", [], "readonly"),
        ("ATTACH DATABASE 'new.sqlite' AS n", [], "too many attached"),
        ("SELECT 1; DELETE FROM parcels", [], "cannot be run"),
        ("SELECT nowhere FROM parcels", [], "no such column"),
        ("SELECT id FROM parcels WHERE id = ?1", [], "cannot be run"),
        ("SELECT id FROM parcels WHERE id = ?1", [{"secret": 1}], "cannot be run"),
        ("SELECT id FROM parcels WHERE id = ?1", [2**70], "cannot be run"),
    ],
)
async def test_what_is_refused_changes_nothing(
    sources: Sources, tmp_path: Path, sql: str, args: list[Any], said: str
) -> None:
    with pytest.raises(QueryRefused, match=said) as refused:
        await sources.query("db", sql, args, deadline=soon())
    assert "secret" not in str(refused.value)
    assert (await sources.query("db", "SELECT count(*) FROM parcels", deadline=soon())).rows == ((1200,),)
    assert not (tmp_path / "new.sqlite").exists()


async def test_a_statement_cannot_open_the_way_for_the_next(sources: Sources) -> None:
    with pytest.raises(QueryRefused):
        await sources.query("db", "PRAGMA query_only = OFF", deadline=soon())
    assert (await sources.query("db", "PRAGMA query_only", deadline=soon())).rows == ((1,),)


async def test_the_deadline_stops_the_statement(sources: Sources) -> None:
    with pytest.raises(SourceTimeout):
        await sources.query("db", ENDLESS, deadline=soon(0.2))
    assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)


async def test_a_cancelled_caller_stops_the_statement_and_others_do_not_notice(sources: Sources) -> None:
    asking = [asyncio.create_task(sources.query("db", ENDLESS, deadline=soon(60))) for _ in range(6)]
    await until(lambda: _has_waiting(sources, 4))
    assert (await sources.query("other", "SELECT 1", deadline=soon())).rows == ((1,),)
    with pytest.raises(SourceBusy):
        await sources.query("db", "SELECT 1", deadline=soon(0.05))
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
    pool = sources.states()[0].pool
    assert pool is not None
    assert (pool.phase, pool.last_failure, pool.in_use) == ("closed", "", 0)


async def _has_waiting(sources: Sources, count: int) -> bool:
    pool = sources.states()[0].pool
    return pool is not None and pool.waiting == count


async def test_a_file_that_was_replaced_is_opened_anew(sources: Sources, tmp_path: Path) -> None:
    assert (await sources.query("db", "SELECT count(*) FROM parcels", deadline=soon())).rows == ((1200,),)
    make(tmp_path / "new.sqlite", rows=5)
    (tmp_path / "new.sqlite").replace(tmp_path / "db.sqlite")
    assert (await sources.query("db", "SELECT count(*) FROM parcels", deadline=soon())).rows == ((5,),)


async def test_a_file_that_is_away_opens_the_breaker_and_one_that_is_back_is_read(
    sources: Sources, tmp_path: Path
) -> None:
    (tmp_path / "db.sqlite").rename(tmp_path / "away.sqlite")
    for _ in range(3):
        with pytest.raises(SourceUnavailable):
            await sources.query("db", "SELECT 1", deadline=soon())
    pool = sources.states()[0].pool
    assert pool is not None
    assert pool.phase == "open"
    (tmp_path / "away.sqlite").rename(tmp_path / "db.sqlite")
    await until(lambda: _answers(sources))


async def _answers(sources: Sources) -> bool:
    try:
        await sources.query("db", "SELECT 1", deadline=soon())
    except SourceUnavailable:
        return False
    return True


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_locked_file_is_busy_until_it_is_not(sources: Sources, tmp_path: Path, is_open: bool) -> None:
    if is_open:
        assert await _answers(sources)
    with closing(sqlite3.connect(tmp_path / "db.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises((SourceBusy, SourceTimeout)):
            await sources.query("db", "SELECT count(*) FROM parcels", deadline=soon(0.1))
        waiting = asyncio.create_task(sources.query("db", "SELECT count(*) FROM parcels", deadline=soon()))
        await until(lambda: _is_in_use(sources))
        writer.execute("COMMIT")
        assert (await waiting).rows == ((1200,),)
    pool = sources.states()[0].pool
    assert pool is not None
    assert (pool.phase, pool.last_failure) == ("closed", "")


async def test_work_that_was_stopped_before_its_thread_began_ends_at_once(tmp_path: Path) -> None:
    make(tmp_path / "db.sqlite")
    driver = SqliteDriver("db", tmp_path / "db.sqlite", 1)
    first, second = await driver.connect(), await driver.connect()
    begun, go_on = threading.Event(), threading.Event()

    def hold(raw: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(60)

    holding = asyncio.create_task(driver.run(first, hold, soon()))
    waiting = asyncio.create_task(driver.run(second, lambda raw: raw.execute(ENDLESS).fetchall(), soon(60)))
    await until(lambda: _is_set(begun))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go_on.set()
    await holding
    async with asyncio.timeout(60):
        assert await driver.tidy(second) == "clean"
    for connection in (first, second):
        driver.abort(connection)
    driver.end_threads()


async def _is_set(event: threading.Event) -> bool:
    return event.is_set()


async def _is_in_use(sources: Sources) -> bool:
    pool = sources.states()[0].pool
    return pool is not None and pool.in_use == 1
