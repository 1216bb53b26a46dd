"""PostgreSQL as a source, against the real server: bounds, read-only, deadlines, cancellation, breaker, state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.kernel.secrets import Secret
from roadbed.sources.errors import (
    CredentialsRefused,
    QueryRefused,
    ResultTooLarge,
    SourceBusy,
    SourceTimeout,
    SourceUnavailable,
)
from roadbed.sources.manifest import PostgresSource, SqliteSource, TableConfig
from roadbed.sources.pool import PoolSettings, PoolState
from roadbed.sources.postgres import PostgresDriver
from roadbed.sources.registry import Sources
from roadbed.store.embedded import EmbeddedPostgres

from .conftest import QUICK, Relay, until

TABLE = TableConfig(title="{id}", text="{id}")
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1 AND state = 'active'"
)
OURS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'roadbed-source'"
)


def soon(seconds: float = 30.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture
async def owner(empty_dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("CREATE TABLE parcels (id integer PRIMARY KEY, street text)")
    await connection.execute("INSERT INTO parcels SELECT n, 'Street ' || n FROM generate_series(1, 1200) n")
    yield connection
    await connection.close()


@asynccontextmanager
async def opened(folder: Path, settings: PoolSettings = QUICK, size: int = 4, **dsns: str) -> AsyncIterator[Sources]:
    """Sources by name, whose connection strings are in files."""
    sources = Sources(folder, None, settings)
    for name, dsn in dsns.items():
        (folder / name).write_text(dsn)
    await sources.use(
        {name: PostgresSource(dsn=f"file:{name}", tables={"parcels": TABLE}, connections_max=size) for name in dsns}
    )
    yield sources
    await sources.close()


def state(sources: Sources, name: str = "db") -> PoolState:
    pool = next(health.pool for health in sources.states() if health.name == name)
    assert pool is not None
    return pool


async def test_a_query_gives_typed_columns_and_bounded_rows(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    async with opened(tmp_path, db=empty_dsn) as sources:
        sql = (
            "SELECT id, street, id * 1.5 AS area, now() AS at, ARRAY[1] AS list FROM parcels WHERE id > $1 ORDER BY id"
        )
        result = await sources.query("db", sql, [10], deadline=soon(), rows_max=250)
        assert [(column.name, column.type, column.native) for column in result.columns] == [
            ("id", "integer", "int4"), ("street", "text", "text"), ("area", "decimal", "numeric"),
            ("at", "timestamp", "timestamptz"), ("list", "list", "int4[]"),
        ]  # fmt: skip
        assert [row[0] for row in result.rows] == list(range(11, 261))
        assert result.is_truncated
        whole = await sources.query("db", "SELECT id FROM parcels", deadline=soon(), rows_max=1200)
        assert (len(whole.rows), whole.is_truncated) == (1200, False)
        small = await sources.query("db", "SELECT repeat('x', 40) FROM parcels", deadline=soon(), bytes_max=100)
        assert (len(small.rows), small.is_truncated, small.size_bytes) == (2, True, 80)
        with pytest.raises(ResultTooLarge):
            await sources.query("db", "SELECT repeat('x', 200)", deadline=soon(), bytes_max=100)


async def test_rows_of_any_size_are_left_on_the_wire_when_they_are_too_large(
    tmp_path: Path, owner: Any, empty_dsn: str
) -> None:
    async with opened(tmp_path, db=empty_dsn) as sources:
        for _ in range(5):  # it is the statement's fault: the source rests not
            with pytest.raises(ResultTooLarge, match="rows of db hold more than"):
                await sources.query("db", "SELECT repeat('x', 10000000) FROM parcels", deadline=soon())
        with pytest.raises(ResultTooLarge, match="hold more than"):
            await sources.query("db", "SELECT repeat('x', 60000000)", deadline=soon())
        wide = await sources.query("db", "SELECT repeat('x', 300000) FROM parcels", deadline=soon())
        assert (len(wide.rows), wide.is_truncated) == (3, True)
        growing = "SELECT repeat('x', CASE WHEN id < 50 THEN 10 ELSE 5000000 END) FROM parcels ORDER BY id"
        with pytest.raises(ResultTooLarge, match="hold more than"):
            await sources.query("db", growing, deadline=soon())
        assert (await sources.query("db", "SELECT 1 AS one", deadline=soon())).rows == ((1,),)
        assert state(sources).in_use == 0


async def test_the_session_reads_strings_as_the_gate_does_whatever_its_database_says(
    tmp_path: Path, owner: Any, empty_dsn: str
) -> None:
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(f'ALTER DATABASE "{name}" SET standard_conforming_strings = off')
    async with opened(tmp_path, size=1, db=empty_dsn) as sources:
        for _ in range(2):  # the second time in a session that was cleaned
            found = await sources.query("db", r"SELECT length('a\'), current_setting('x.y', true)", deadline=soon())
            assert found.rows == ((2, None),)


@pytest.mark.parametrize(
    ("sql", "args", "said"),
    [
        ("INSERT INTO parcels VALUES (0, 'secret street') RETURNING id", [], "read-only transaction"),
        ("INSERT INTO parcels VALUES (0, 'x')", [], "gives no rows"),
        ("COMMIT", [], "gives no rows"),
        ("SELECT 1; INSERT INTO parcels VALUES (0, 'x')", [], "multiple commands"),
        ("WITH x AS (DELETE FROM parcels RETURNING id) SELECT * FROM x", [], "read-only transaction"),
        ("SELECT nothing FROM parcels", [], 'column "nothing" does not exist'),
        ("SELECT street::integer FROM parcels", [], "InvalidTextRepresentation"),
        ("SELECT id FROM parcels WHERE id = $1", ["secret"], "cannot be sent"),
        ("SELECT id FROM parcels WHERE id = $1", [], "cannot be sent"),
    ],
)
async def test_what_is_refused_changes_nothing_and_quotes_no_value(
    tmp_path: Path, owner: Any, empty_dsn: str, sql: str, args: list[Any], said: str
) -> None:
    async with opened(tmp_path, size=1, db=empty_dsn) as sources:
        with pytest.raises(QueryRefused, match=said) as refused:
            await sources.query("db", sql, args, deadline=soon())
        assert "secret" not in str(refused.value)
        assert "Street" not in str(refused.value)
        assert await owner.fetchval("SELECT count(*) FROM parcels") == 1200
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        assert state(sources).phase == "closed"


async def test_a_connection_is_in_a_read_only_transaction_and_is_left_clean(
    tmp_path: Path, owner: Any, empty_dsn: str
) -> None:
    async with opened(tmp_path, size=1, db=empty_dsn) as sources:
        async with sources.connection("db", soon()) as connection:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            assert (await connection.fetchrow("SELECT count(*) FROM parcels"))[0] == 1200
            await owner.execute("DELETE FROM parcels WHERE id > 1000")
            assert len(await connection.fetch("SELECT id FROM parcels")) == 1200, "one transaction, one snapshot"
            with pytest.raises(QueryRefused, match="read-only"):
                await connection.fetch("INSERT INTO parcels VALUES (0, 'x')")
        async with sources.connection("db", soon()) as connection:
            await connection.fetch("SELECT set_config('search_path', 'elsewhere', false), pg_advisory_lock(7)")
            await connection.fetch("COMMIT")
            await connection.fetch("SET default_transaction_read_only = off")
        async with sources.connection("db", soon()) as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") == backend, "the connection is used again"
            assert len(await connection.fetch("SELECT id FROM parcels")) == 1000
            assert await connection.fetchval("SHOW default_transaction_read_only") == "on"
            assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        with pytest.raises(RuntimeError):
            async with sources.connection("db", soon()):
                raise RuntimeError("the caller's own error")
        assert (state(sources).in_use, state(sources).idle, state(sources).phase) == (0, 1, "closed")


async def test_the_transaction_is_read_only_whatever_the_session_is(owner: Any, empty_dsn: str) -> None:
    driver = PostgresDriver("db", lambda: Secret(empty_dsn))
    connection = await driver.connect()
    try:
        await connection.raw.execute("SET default_transaction_read_only = off")
        await driver.prepare(connection, soon())
        with pytest.raises(QueryRefused, match="read-only"):
            await connection.fetch("DELETE FROM parcels")
    finally:
        await driver.close(connection)


async def test_the_pool_is_bounded_and_waiting_ends_at_the_deadline(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    async with opened(tmp_path, replace(QUICK, waiting_max=1), size=2, db=empty_dsn) as sources:
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(sources.connection("db", soon()))
            with pytest.raises(SourceBusy, match="before the deadline"):
                await sources.query("db", "SELECT 1", deadline=soon(0.05))
            waiting = asyncio.create_task(sources.query("db", "SELECT 1", deadline=soon()))
            await until(lambda: _all_wait(sources, 1, "db"))
            with pytest.raises(SourceBusy, match="already"):
                await sources.query("db", "SELECT 1", deadline=soon())
            assert await owner.fetchval(OURS) == 2
            assert (state(sources).size, state(sources).in_use) == (2, 2)
        assert (await waiting).rows == ((1,),)
    assert await owner.fetchval(OURS) == 0, "close() leaves no connection"


async def _all_wait(sources: Sources, count: int, *names: str) -> bool:
    pools = [health.pool for health in sources.states() if health.name in names]
    return all(pool is not None and pool.waiting == count for pool in pools)


async def _all_free(sources: Sources) -> bool:
    return state(sources).in_use == 0


async def test_the_deadline_stops_the_statement_in_the_server(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    async with opened(tmp_path, size=1, db=empty_dsn) as sources:
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        with pytest.raises(SourceTimeout):
            await sources.query("db", "SELECT pg_sleep(60)", deadline=soon(0.6))
        await until(lambda: _none_runs(owner, "%pg_sleep(60)%"))
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        with pytest.raises(RoadbedError) as passed:
            await sources.query("db", "SELECT 1", deadline=soon(0.0))
        assert passed.value.code == "deadline_exceeded"


async def _none_runs(owner: Any, pattern: str) -> bool:
    return bool(await owner.fetchval(RUNNING, pattern) == 0)


async def _runs(owner: Any, pattern: str) -> bool:
    return not await _none_runs(owner, pattern)


async def test_a_cancelled_caller_stops_the_statement_in_the_server(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    async with opened(tmp_path, size=1, db=empty_dsn) as sources:
        asking = asyncio.create_task(sources.query("db", "SELECT pg_sleep(60)", deadline=soon(50)))
        await until(lambda: _runs(owner, "%pg_sleep(60)%"))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: _none_runs(owner, "%pg_sleep(60)%"))
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        assert (state(sources).phase, state(sources).last_failure) == ("closed", "")


async def test_a_hung_source_holds_up_only_itself(tmp_path: Path, owner: Any, empty_dsn: str, relay: Relay) -> None:
    relay.mode = "silent"
    settings = replace(QUICK, connect_s=30.0)
    async with opened(tmp_path, settings, size=2, db=empty_dsn, hung=relay.dsn, asleep=empty_dsn) as sources:
        stuck = [
            asyncio.create_task(sources.query(name, "SELECT pg_sleep(60)", deadline=soon(50)))
            for name in ("hung", "asleep")
            for _ in range(10)
        ]
        await until(lambda: _all_wait(sources, 8, "hung", "asleep"))
        assert len([row async for row in sources.rows("db", "parcels")]) == 1200
        for _ in range(20):
            assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        with pytest.raises(SourceUnavailable):
            await sources.query("hung", "SELECT 1", deadline=soon(0.05))
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        await until(lambda: _none_runs(owner, "%pg_sleep(60)%"))


async def test_a_source_that_accepts_and_is_silent_is_unavailable_at_the_deadline(tmp_path: Path, relay: Relay) -> None:
    relay.mode = "silent"
    async with opened(tmp_path, replace(QUICK, connect_s=1.0), size=1, db=relay.dsn) as sources:
        with pytest.raises(SourceUnavailable, match="before the deadline"):
            await sources.query("db", "SELECT 1", deadline=soon(0.05))
        assert state(sources).in_use == 1, "the attempt goes on, so that the breaker learns how it ends"
        await until(lambda: _all_free(sources))
        assert "accepts no connection" in state(sources).last_failure
        relay.mode = "forward"
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)


async def test_the_breaker_opens_on_a_dead_server_and_closes_when_it_is_back(tmp_path: Path, relay: Relay) -> None:
    never = replace(QUICK, breaker=replace(QUICK.breaker, open_s=600.0, open_s_max=600.0))
    async with opened(tmp_path, never, db=relay.dsn) as sources:
        await relay.stop()
        for _ in range(3):
            with pytest.raises(SourceUnavailable, match="cannot be reached"):
                await sources.query("db", "SELECT 1", deadline=soon())
        assert state(sources).phase == "open"
        assert not sources.states()[0].is_well
        await relay.start()
        with pytest.raises(SourceUnavailable, match="asked again in") as resting:
            await sources.query("db", "SELECT 1", deadline=soon())
        assert resting.value.retry_after_s
        assert relay.connections == 0, "an open breaker asks nobody"
    async with opened(tmp_path, QUICK, db=relay.dsn) as sources:
        assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        await relay.stop()
        await until(lambda: _is_open(sources))
        await relay.start()
        await until(lambda: _answers(sources))
        assert (state(sources).phase, sources.states()[0].is_well) in [("closed", True), ("recovering", True)]


async def _is_open(sources: Sources) -> bool:
    await _answers(sources)
    return state(sources).phase == "open"


async def _answers(sources: Sources) -> bool:
    try:
        await sources.query("db", "SELECT 1", deadline=soon())
    except SourceUnavailable:
        return False
    return True


async def test_connections_that_were_cut_while_idle_are_replaced_unseen(tmp_path: Path, relay: Relay) -> None:
    async with opened(tmp_path, db=relay.dsn) as sources:
        assert await _answers(sources)
        await relay.stop()
        await relay.start()
        assert await _answers(sources)
        assert state(sources).last_failure == ""


async def test_a_connection_that_breaks_in_use_is_a_failure(tmp_path: Path, owner: Any, relay: Relay) -> None:
    async with opened(tmp_path, db=relay.dsn) as sources:
        asking = asyncio.create_task(sources.query("db", "SELECT pg_sleep(60)", deadline=soon(50)))
        await until(lambda: _runs(owner, "%pg_sleep(60)%"))
        await relay.stop()
        with pytest.raises(SourceUnavailable, match="was lost"):
            await asking
        assert "was lost" in state(sources).last_failure
        assert state(sources).last_failure_at is not None
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
        )


async def test_refused_credentials_open_the_breaker_at_once_and_a_new_secret_is_used(
    tmp_path: Path, empty_dsn: str
) -> None:
    async with opened(tmp_path, db=empty_dsn.replace("roadbed:", "roadbed:wrong")) as sources:
        with pytest.raises(CredentialsRefused):
            await sources.query("db", "SELECT 1", deadline=soon())
        assert state(sources).phase == "open"
        (tmp_path / "db").write_text(empty_dsn)
        await until(lambda: _answers(sources))


async def test_a_changed_manifest_drains_old_connections_and_opens_new_ones(
    tmp_path: Path, owner: Any, empty_dsn: str
) -> None:
    async with opened(tmp_path, size=2, db=empty_dsn) as sources:
        async with sources.connection("db", soon()) as connection:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            table = PostgresSource(dsn="file:db", tables={}, connections_max=2)
            await sources.use({"db": table})
            assert state(sources).in_use == 1, "other tables need no other connections"
            await sources.use({"db": replace_size(table, 3)})
            assert sources.states()[0].pool is None, "the old ones are drained at once"
            async with sources.connection("db", soon()) as other:
                assert await other.fetchval("SELECT pg_backend_pid()") != backend
            assert await connection.fetchval("SELECT 1") == 1, "what is in use gets time to end"
        await until(lambda: _has_gone(owner, backend))
        assert state(sources).size == 3
        await sources.use({})
        await until(lambda: _has_none(owner))
        with pytest.raises(ConfigError):
            await sources.query("db", "SELECT 1", deadline=soon())


def replace_size(source: PostgresSource, size: int) -> PostgresSource:
    return PostgresSource(dsn=source.dsn, tables=source.tables, connections_max=size)


async def _has_gone(owner: Any, backend: int) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backend) == 0)


async def _has_none(owner: Any) -> bool:
    return bool(await owner.fetchval(OURS) == 0)


async def test_closing_stops_what_is_in_use_after_its_time(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    sources = Sources(tmp_path, None, QUICK)
    (tmp_path / "db").write_text(empty_dsn)
    await sources.use({"db": PostgresSource(dsn="file:db")})
    asking = asyncio.create_task(sources.query("db", "SELECT pg_sleep(60)", deadline=soon(50)))
    await until(lambda: _runs(owner, "%pg_sleep(60)%"))
    await sources.close()
    with pytest.raises(SourceUnavailable):
        await asking
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'roadbed-source'"
    )


async def test_readings_leave_connections_to_tools(tmp_path: Path, owner: Any, empty_dsn: str) -> None:
    async with opened(tmp_path, size=2, db=empty_dsn) as sources:
        first, second = sources.rows("db", "parcels"), sources.rows("db", "parcels")
        assert (await anext(first))[0] == "1"
        waiting = asyncio.ensure_future(anext(second))
        for _ in range(5):
            assert (await sources.query("db", "SELECT 1", deadline=soon())).rows == ((1,),)
        assert not waiting.done(), "the second reading waits for the first"
        await first.aclose()  # type: ignore[attr-defined]
        assert (await waiting)[0] == "1"
        await second.aclose()  # type: ignore[attr-defined]


async def test_a_role_that_can_write_is_a_warning_with_what_would_mend_it(
    tmp_path: Path, owner: Any, empty_dsn: str, postgres: EmbeddedPostgres
) -> None:
    async with opened(tmp_path, db=empty_dsn) as sources:
        assert sources.states()[0].pool is None
        await sources.query("db", "SELECT 1", deadline=soon())
        (warning,) = sources.states()[0].warnings
        assert "may change tables" in warning.message
        database = empty_dsn.partition("?")[0].rpartition("/")[2]
    reader = "roadbed_reader"
    async with postgres.superuser(database) as superuser:
        try:
            for statement in warning.fix:
                await superuser.execute(statement.replace("'...'", "'known'"))
            read = empty_dsn.replace(empty_dsn.partition("//")[2].partition("@")[0], f"{reader}:known")
            async with opened(tmp_path, db=read) as sources:
                assert len([row async for row in sources.rows("db", "parcels")]) == 1200
                assert sources.states()[0].warnings == ()
        finally:
            await superuser.execute(f"DROP OWNED BY {reader}")
            await superuser.execute(f"DROP ROLE {reader}")


async def test_a_connection_needs_a_postgresql_source(tmp_path: Path) -> None:
    sources = Sources(tmp_path, None)
    await sources.use({"file": SqliteSource(path="x.sqlite")})
    with pytest.raises(ConfigError, match="not a PostgreSQL"):
        async with sources.connection("file", soon()):
            pass
    await sources.close()
