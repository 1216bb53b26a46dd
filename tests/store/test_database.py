"""The pool: values in and out, transactions, time limits, and what happens when PostgreSQL goes away and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import numpy as np
import pytest
from tests.stopwatch import Stopwatch

from roadbed.store.database import Database
from roadbed.store.driver_errors import translated
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.errors import InvalidName, StoreTimeout, StoreUnavailable, ValueRefused


async def test_values_of_json_and_vectors(database: Database) -> None:
    row = await database.fetchrow(
        "SELECT $1::jsonb AS j, $2::vector AS v, $3::halfvec AS h", {"a": [1, None]}, [1, 2.5], np.ones(3)
    )
    assert row is not None
    assert row["j"] == {"a": [1, None]}
    assert row["v"].dtype == np.float32
    assert row["v"].tolist() == [1.0, 2.5]
    assert row["h"].dtype == np.float16
    assert await database.fetchval("SELECT $1::vector <-> $2::vector", [0, 3], [4, 0]) == 5.0


async def test_vector_of_two_dimensions_is_refused(database: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        await database.fetchval("SELECT $1::vector", np.ones((2, 2)))


async def test_transaction_commits_and_rolls_back(database: Database) -> None:
    await database.execute("CREATE TABLE item (n integer PRIMARY KEY)")
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO item VALUES (1)")
    with pytest.raises(KeyError, match="stop"):
        await _insert_and_raise(database)
    await database.executemany("INSERT INTO item VALUES ($1)", [(3,), (4,)])
    assert [row["n"] for row in await database.fetch("SELECT n FROM item ORDER BY n")] == [1, 3, 4]


async def test_errors_of_the_statement_stay_what_they_are(database: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await database.fetch("SELECT * FROM nowhere")
    with pytest.raises(FileNotFoundError):
        async with database.transaction():
            raise FileNotFoundError("the caller's own")
    with pytest.raises(TimeoutError):
        async with database.transaction():
            raise TimeoutError("the caller's own")


async def test_a_slow_statement_is_cancelled(database: Database) -> None:
    with pytest.raises(StoreTimeout):
        await database.fetchval("SELECT pg_sleep(30)", timeout_s=0.05)
    with pytest.raises(StoreTimeout):
        await _sleep_in_transaction(database)
    assert await database.fetchval("SELECT 1") == 1


async def _insert_and_raise(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO item VALUES (2)")
        raise KeyError("stop")


async def _sleep_in_transaction(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL statement_timeout = 20")
        await connection.execute("SELECT pg_sleep(30)")


async def test_notifications_reach_this_schema_only(database: Database, dsn: str) -> None:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    subscription = await database.listen("things", heard.put_nowait)
    async with await Database.open(dsn, "other_schema") as other:
        await other.notify("things", "not for us")
    async with database.transaction() as connection:
        await database.notify("things", "one", connection=connection)
    await database.notify("things", "two")
    assert [await heard.get(), await heard.get()] == ["one", "two"]
    await subscription.close()
    await subscription.close()


async def test_listening_survives_a_lost_connection(database: Database) -> None:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    await database.listen("things", heard.put_nowait)
    await database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE 'LISTEN%'"
    )
    assert await heard.get() is None
    await database.notify("things", "after")
    assert await heard.get() == "after"


async def test_a_channel_that_cannot_be_listened_on_just_now_is_a_typed_error(database: Database) -> None:
    """The connection of the listener may be in the middle of being closed; whoever listens tries again."""
    await database.listen("things", lambda payload: None)
    busy = asyncio.create_task(database._listener._connection.execute("SELECT pg_sleep(30)"))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await database.listen("others", lambda payload: None)
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_a_channel_is_let_go_while_its_connection_is_being_lost(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg has an error of its own kind for it, which ended whoever let go: the loop that runs jobs, one time in
    four that PostgreSQL was killed under it.
    """

    async def being_lost(connection: object, channel: str, callback: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    subscription = await database.listen("things", lambda payload: None)
    monkeypatch.setattr(type(database._listener._connection), "remove_listener", being_lost)
    await subscription.close()


async def test_a_killed_session_is_replaced(database: Database) -> None:
    with pytest.raises(StoreUnavailable):
        await database.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "is_available=False" in repr(database)
    assert await database.fetchval("SELECT 1") == 1
    assert "is_available=True" in repr(database)


async def test_a_server_that_only_copies_another_is_away(database: Database) -> None:
    await database.execute("CREATE TABLE item (n integer PRIMARY KEY)")
    async with database.connection() as connection:
        await connection.execute("SET default_transaction_read_only = on")  # as after another took over
        with pytest.raises(StoreUnavailable), translated(connection):
            await connection.execute("INSERT INTO item VALUES (1)")
    assert await database.fetchval("SELECT count(*) FROM item") == 0


async def test_two_that_wait_for_each_other_are_a_time_out(database: Database) -> None:
    await database.execute("CREATE TABLE item (n integer PRIMARY KEY)")
    await database.execute("INSERT INTO item VALUES (1), (2)")
    both = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT FROM item WHERE n = $1 FOR UPDATE", first)
            await both.wait()
            await connection.execute("SELECT FROM item WHERE n = $1 FOR UPDATE", second)

    ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "StoreTimeout"]


async def test_unavailable_fast_and_back_by_itself(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "state")
    await server.start()
    try:
        database = await Database.open(server.dsn, "roadbed_x")
        await database.fetchval("SELECT 1")
        await server.stop()
        watch = Stopwatch()
        with pytest.raises(StoreUnavailable):
            await database.fetchval("SELECT 1")
        assert watch.elapsed_s() < 4.0
        assert not database.is_available
        with pytest.raises(StoreUnavailable):
            await database.wait_until_available(0.1)
        await server.start()
        await database.wait_until_available(10)
        assert await database.fetchval("SELECT 2") == 2
        await database.close()
        with pytest.raises(StoreUnavailable):
            await database.fetchval("SELECT 1")
    finally:
        await server.stop()


async def test_opening_without_a_server_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await Database.open(f"postgresql://u:p@/d?host={tmp_path}", "roadbed_x")


async def test_a_schema_name_is_checked(dsn: str) -> None:
    with pytest.raises(InvalidName):
        await Database.open(dsn, 'x"; DROP SCHEMA y')


async def test_a_value_that_cannot_be_kept_is_the_callers_fault_and_not_quoted(database: Database) -> None:
    for sql, value in (("SELECT $1::text", "a\0b"), ("SELECT $1::text", "\ud800"), ("SELECT $1::int", 2**70)):
        with pytest.raises(ValueRefused) as refused:
            await database.fetchval(sql, value)
        assert refused.value.http_status == 400
        assert repr(value).strip("'") not in str(refused.value)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await database.fetchval("SELECT 1 / $1::int", 0)


async def test_the_listeners_connection_is_closed_while_it_is_in_use(dsn: str) -> None:
    async with await Database.open(dsn, "roadbed_test") as database:
        await database.listen("news", lambda payload: None)
        connection = database._listener._connection
        busy = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await asyncio.sleep(0)
    assert connection.is_closed()
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError)):
        await busy


async def test_a_connection_that_cannot_be_prepared_is_closed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[asyncpg.Connection] = []

    async def fails(connection: asyncpg.Connection) -> None:
        made.append(connection)
        raise asyncpg.InterfaceError("no")

    monkeypatch.setattr(database, "_prepare", fails)
    with pytest.raises((StoreUnavailable, asyncpg.InterfaceError)):
        await database.connect()
    assert [connection.is_closed() for connection in made] == [True]
