"""DuckDB as a source: what may never run, typed values, deadlines, memory, crashes, files that change, joins."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from datetime import time as day_time
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from tests.stopwatch import Stopwatch

from roadbed.kernel.deadline import Deadline
from roadbed.sources import duckdb_worker
from roadbed.sources.duckdb import DuckdbDriver, DuckdbSystem
from roadbed.sources.duckdb_messages import Opening, packed_rows, unpacked_rows
from roadbed.sources.errors import QueryRefused, ResultTooLarge, SourceMisdeclared, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import DuckdbSource, TableConfig
from roadbed.sources.pool import PoolSettings
from roadbed.sources.registry import Sources
from roadbed.sources.result import Column, QueryResult, ResultBounds

LONG = "SELECT sum(a.range * b.range) FROM range(1000000) a, range(10000000) b"
TABLE = TableConfig(title="{id}", text="{street}")


def soon(seconds: float = 60.0) -> Deadline:
    return Deadline.after(seconds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duck")
    with duckdb.connect(str(folder / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE parcels AS SELECT range AS id, 'Street ' || range AS street, "
            "CAST(range AS DECIMAL(12, 3)) / 8 AS area FROM range(1200)"
        )
        connection.execute("COPY (SELECT range AS id, range * 2 AS twice FROM range(10)) TO ? (FORMAT parquet)",
                           [str(folder / "a.parquet")])  # fmt: skip
    for name, value in (("one", 1), ("two", 2)):
        (folder / f"{name}.csv").write_text(f"id,name\n{value},{name}\n")
    (folder / "secret.txt").write_text("planted")
    return folder


@pytest.fixture
async def sources(folder: Path) -> AsyncIterator[Sources]:
    sources = Sources(folder, None, PoolSettings())
    tables = {"parcels": TABLE, "nowhere": TABLE}
    await sources.use(
        {
            "shop": DuckdbSource(path="shop.duckdb", tables=tables, memory_mib_max=128, connections_max=1),
            "lake": DuckdbSource(files={"numbers": "a.parquet", "names": "*.csv"}, connections_max=1),
            "gone": DuckdbSource(path="gone.duckdb"),
        }
    )
    yield sources
    await sources.close()


# -- what may never run ------------------------------------------------------------------------------------------------

# 7.4 of the design: functions and forms that reach files, the network, secrets or the configuration. No gate stands
# before them here: the engine refuses each by itself, or gives nothing of the world outside.
OUTSIDE = [
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_json('{folder}/secret.txt')", "SELECT * FROM read_json_auto('/etc/passwd')",
    "SELECT * FROM read_ndjson('/etc/passwd')", "SELECT * FROM read_parquet('{folder}/secret.txt')",
    "SELECT * FROM parquet_scan('{folder}/*.txt')", "SELECT * FROM parquet_metadata('{folder}/secret.txt')",
    "SELECT * FROM read_text('{folder}/secret.txt')", "SELECT * FROM read_blob('{folder}/secret.txt')",
    "SELECT * FROM glob('/etc/*')", "SELECT * FROM glob('{folder}/*')", "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM query('DROP TABLE parcels')", "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/out.csv''')",
    "SELECT * FROM query_table('/etc/passwd')", "SELECT getenv('HOME')",
    "SELECT * FROM sqlite_scan('{folder}/x.db', 't')", "SELECT * FROM postgres_scan('', '', '')",
    "SELECT * FROM mysql_query('', '')", "CALL sqlite_attach('{folder}/x.db')", "CALL postgres_attach('')",
    "SELECT * FROM iceberg_scan('/etc')", "FROM '/etc/passwd'", "FROM '{folder}/secret.txt'",
    "FROM 'https://example.com/x.csv'", "FROM 's3://bucket/x.parquet'",
    "COPY (SELECT 1) TO '{folder}/out.csv'", "COPY parcels TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY parcels FROM '/etc/passwd'", "EXPORT DATABASE '{folder}/out'", "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/other.duckdb'", "ATTACH ':memory:' AS other; COPY FROM DATABASE shop TO other",
    "INSTALL httpfs", "LOAD httpfs", "LOAD '{folder}/x.duckdb_extension'", "FORCE INSTALL spatial",
    "SET threads = 1", "SET enable_external_access = true", "SET allowed_paths = ['/etc/passwd']", "RESET threads",
    "SET lock_configuration = false", "PRAGMA enable_profiling", "PRAGMA threads = 1",
    "CREATE SECRET (TYPE s3, KEY_ID 'x')", "CREATE PERSISTENT SECRET (TYPE http)",
]  # fmt: skip
INSIDE = [
    "USE memory", "CHECKPOINT", "FORCE CHECKPOINT", "CALL pragma_version()", "PRAGMA database_size", "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT 1", "CREATE TABLE t (x int)", "CREATE TEMP TABLE t (x int)", "CREATE MACRO f() AS 1",
    "DROP TABLE parcels", "DROP VIEW numbers", "INSERT INTO parcels VALUES (0, 'x', 0)", "UPDATE parcels SET id = 0",
    "DELETE FROM parcels", "BEGIN", "COMMIT", "VACUUM", "DETACH shop", "PREPARE p AS SELECT 1", "EXECUTE p",
    "SET VARIABLE v = 1", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE parcels", "", "   ",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["path", "files", "join"])
def test_the_engine_alone_refuses_all_that_reaches_outside(folder: Path, kind: str) -> None:
    opening = {
        "path": Opening(path=str(folder / "shop.duckdb")),
        "files": Opening(files={"parcels": [str(folder / "a.parquet")]}),
        "join": Opening(),
    }[kind]
    before = sorted(folder.iterdir())
    with duckdb_worker.locked(opening) as connection:
        duckdb_worker.lock(connection, opening)
        for sql in OUTSIDE:
            with pytest.raises(duckdb.Error):
                connection.cursor().execute(sql.replace("{folder}", str(folder))).fetchall()
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("name", ["shop", "lake"])
async def test_the_source_refuses_all_that_is_not_one_select(sources: Sources, folder: Path, name: str) -> None:
    before = bytes_of(folder)
    for sql in OUTSIDE + INSIDE:
        with pytest.raises(QueryRefused):
            await sources.query(name, sql.replace("{folder}", str(folder)), deadline=soon())
    assert bytes_of(folder) == before
    table = "parcels" if name == "shop" else "numbers"
    assert (await sources.query(name, f"SELECT count(*) FROM {table}", deadline=soon())).rows[0][0] > 0


def bytes_of(folder: Path) -> dict[Path, bytes]:
    """Every file with what it holds."""
    return {path: path.read_bytes() for path in folder.iterdir()}


async def test_what_tells_of_the_process_tells_nothing_of_the_server(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "planted-value")
    for sql in (
        "SELECT getvariable('x')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM which_secret('s3://x', 's3')",
    ):
        rows = (await sources.query("shop", sql, deadline=soon())).rows
        assert rows in ((), ((None,),))
    settings = await sources.query("shop", "SELECT name, value FROM duckdb_settings()", deadline=soon())
    assert "planted" not in str(settings.rows)


async def test_a_worker_may_write_no_file_whatever_duckdb_lets_through(folder: Path, tmp_path: Path) -> None:
    """The wall behind the wall: the limits alone, with a DuckDB that is not locked down."""
    code = (
        "import os, sys, duckdb; from roadbed.sources import duckdb_limits\n"
        "missing = duckdb_limits.enter(memory_bytes_max=8 << 30, parent=os.getppid())\n"
        "try: duckdb.sql(f\"COPY (SELECT 1) TO '{sys.argv[1]}' (USE_TMP_FILE false)\")\n"
        "except Exception: sys.exit(7)\n"
        "sys.exit(3 if 'file_writes' in missing else 0)"
    )
    import sys

    kept = tmp_path / "kept.csv"
    kept.write_text("kept")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(kept))
    assert await process.wait() == 7
    if os.uname().sysname == "Linux":
        assert kept.read_text() == "kept"


# -- results -----------------------------------------------------------------------------------------------------------


async def test_values_keep_their_types_and_lose_nothing(sources: Sources) -> None:
    sql = """SELECT true, 7, 170141183460469231731687303715884105727::HUGEINT, 0.1::DOUBLE,
        12345678901234567890.0123456789::DECIMAL(38, 10), 'é', '\\x00\\xFF'::BLOB, DATE '2026-02-03',
        TIME '10:00:00.5', TIMESTAMP '2026-01-02 03:04:05.678901', TIMESTAMPTZ '2026-01-02 03:04:05+02',
        INTERVAL '3 days 4 seconds', '5f0c0c9e-76d1-4f47-bf94-fb0cc3469da3'::UUID, [1, 2], {'a': 1.50}, NULL"""
    result = await sources.query("shop", sql, deadline=soon())
    assert [column.type for column in result.columns] == [
        "boolean", "integer", "integer", "number", "decimal", "text", "bytes", "date", "time", "timestamp", "timestamp",
        "interval", "uuid", "list", "other", "other",
    ]  # fmt: skip
    assert result.rows[0] == (
        True, 7, 2**127 - 1, 0.1, Decimal("12345678901234567890.0123456789"), "é", b"\x00\xff", date(2026, 2, 3),
        day_time(10, 0, 0, 500000), datetime(2026, 1, 2, 3, 4, 5, 678901), datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
        timedelta(days=3, seconds=4), UUID("5f0c0c9e-76d1-4f47-bf94-fb0cc3469da3"), [1, 2], {"a": "1.50"}, None,
    )  # fmt: skip


async def test_results_are_bounded(sources: Sources) -> None:
    sql = "SELECT id FROM parcels WHERE id >= ? ORDER BY id"
    cut = await sources.query("shop", sql, [10], deadline=soon(), rows_max=250)
    assert ([row[0] for row in cut.rows], cut.is_truncated) == (list(range(10, 260)), True)
    whole = await sources.query("shop", "SELECT id FROM parcels", deadline=soon(), rows_max=1200)
    assert (len(whole.rows), whole.is_truncated) == (1200, False)
    endless = await sources.query("shop", "SELECT * FROM range(1000000000000)", deadline=soon(), bytes_max=8000)
    assert (len(endless.rows), endless.is_truncated) == (1000, True)
    with pytest.raises(ResultTooLarge):
        await sources.query("shop", "SELECT repeat('x', 3000000)", deadline=soon())
    with pytest.raises(ResultTooLarge):
        await sources.query("shop", f"SELECT {', '.join('1' * 101)}", deadline=soon())


async def test_files_are_tables(sources: Sources) -> None:
    names = await sources.query("lake", "SELECT id, name FROM names ORDER BY id", deadline=soon())
    assert names.rows == ((1, "one"), (2, "two"))
    joined = await sources.query("lake", "SELECT sum(twice) FROM numbers JOIN names USING (id)", deadline=soon())
    assert joined.rows[0][0] == 6


async def test_rows_are_read_in_pages(sources: Sources) -> None:
    rows = [key async for key, _, _ in sources.rows("shop", "parcels")]
    assert rows == [str(number) for number in range(1200)]
    with pytest.raises(SourceMisdeclared, match="nowhere"):
        _ = [row async for row in sources.rows("shop", "nowhere")]


async def test_the_catalogue_names_tables_and_columns(folder: Path) -> None:
    system = DuckdbSystem("lake", folder, DuckdbSource(files={"names": "*.csv"}), PoolSettings())
    try:
        found = await system.catalogue(soon())
    finally:
        await system.close(1.0)
    assert (found.dialect, found.tables) == ("duckdb", {"names": {"id": "BIGINT", "name": "VARCHAR"}})


# -- time, memory, crashes ---------------------------------------------------------------------------------------------


async def test_the_deadline_interrupts_and_the_worker_lives_on(sources: Sources) -> None:
    await sources.query("shop", "SELECT 1", deadline=soon())
    first = worker_ids()
    watch = Stopwatch()
    with pytest.raises(SourceTimeout):
        await sources.query("shop", LONG, deadline=soon(0.4))
    assert watch.elapsed_s() < 1.5
    assert (await sources.query("shop", "SELECT 7", deadline=soon())).rows == ((7,),)
    assert worker_ids() == first


async def test_a_worker_that_does_not_heed_is_killed(sources: Sources) -> None:
    await sources.query("shop", "SELECT 1", deadline=soon())
    (worker,) = worker_ids()
    os.kill(worker, signal.SIGSTOP)  # heeds nothing any more
    with pytest.raises(SourceTimeout):
        await sources.query("shop", "SELECT 2", deadline=soon(0.3))
    assert worker not in worker_ids()
    assert (await sources.query("shop", "SELECT 3", deadline=soon())).rows == ((3,),)


async def test_a_caller_that_leaves_ends_its_statement(sources: Sources) -> None:
    await sources.query("shop", "SELECT 1", deadline=soon())
    task = asyncio.create_task(sources.query("shop", LONG, deadline=soon()))
    await at_work(sources)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await sources.query("shop", "SELECT 4", deadline=soon(5))).rows == ((4,),)


async def test_memory_is_bounded(sources: Sources) -> None:
    with pytest.raises(QueryRefused, match="memory"):
        await sources.query("shop", "SELECT string_agg(range::VARCHAR, '') FROM range(100000000)", deadline=soon())
    assert (await sources.query("shop", "SELECT 5", deadline=soon())).rows == ((5,),)


async def test_a_crash_is_one_failed_statement(sources: Sources) -> None:
    await sources.query("shop", "SELECT 1", deadline=soon())
    task = asyncio.create_task(sources.query("shop", LONG, deadline=soon()))
    await at_work(sources)
    for worker in worker_ids():
        os.kill(worker, signal.SIGKILL)
    with pytest.raises(SourceUnavailable, match="ended"):
        await task
    assert (await sources.query("shop", "SELECT 6", deadline=soon())).rows == ((6,),)


async def test_an_idle_worker_ends_and_nothing_is_left_after_close(folder: Path) -> None:
    system = DuckdbSystem("shop", folder, DuckdbSource(path="shop.duckdb"), PoolSettings(idle_s=0.05))
    await system.query("SELECT 1", (), soon(), ResultBounds())
    async with asyncio.timeout(60):
        while worker_ids():  # noqa: ASYNC110 - what is waited for is a process
            await asyncio.sleep(0.01)
    await system.query("SELECT 1", (), soon(), ResultBounds())
    await system.close(1.0)
    assert not worker_ids()


async def test_a_missing_file_is_told_and_a_changed_one_is_read_anew(sources: Sources, folder: Path) -> None:
    with pytest.raises(SourceUnavailable):
        await sources.query("gone", "SELECT 1", deadline=soon())
    before = await sources.query("lake", "SELECT count(*) FROM names", deadline=soon())
    added = folder / "zero.csv"
    added.write_text("id,name\n0,zero\n")
    try:
        after = await sources.query("lake", "SELECT count(*) FROM names", deadline=soon())
    finally:
        added.unlink()
    assert (before.rows, after.rows) == (((2,),), ((3,),))


async def at_work(sources: Sources) -> None:
    """Return when a worker of ``shop`` runs a statement."""
    async with asyncio.timeout(60):
        while not any(state.name == "shop" and state.pool and state.pool.in_use for state in sources.states()):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def worker_ids() -> set[int]:
    """The workers that this process started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                status = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"duckdb_worker" in command and int(status[1]) == os.getpid() and status[0] != "Z":
                found.add(int(entry.name))
    return found


# -- joins -------------------------------------------------------------------------------------------------------------


def table(columns: list[tuple[str, str]], *rows: tuple[object, ...]) -> QueryResult:
    return QueryResult(tuple(Column(name, kind, kind) for name, kind in columns), rows, False, 0)  # type: ignore[arg-type]


async def test_results_of_several_sources_are_joined_exactly(sources: Sources) -> None:
    sales = table(
        [
            ("id", "integer"),
            ("paid", "decimal"),
            ("sold", "timestamp"),
            ("day", "date"),
            ("mark", "bytes"),
            ("note", "text"),
        ],
        (1, Decimal("0.10"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), date(2026, 1, 2), b"\x00\xff", "it's"),
        (1, Decimal("12345678901234567890.02"), None, None, None, None),
        (2, None, None, None, None, "2"),
    )
    people = table([("id", "integer"), ("Full name", "text")], (1, 'A "b"'), (2, None))
    sql = (
        'SELECT "Full name", sum(paid), max(sold), max(day), max(mark), max(note) '
        "FROM sales JOIN people USING (id) GROUP BY 1 ORDER BY 1"
    )
    result = await sources.join_frames({"sales": sales, "people": people}, sql, soon())
    assert result.rows[0] == (
        'A "b"', Decimal("12345678901234567890.12"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), date(2026, 1, 2),
        b"\x00\xff", "it's",
    )  # fmt: skip
    empty = await sources.join_frames({"none": table([("x", "integer")])}, "SELECT count(*), sum(x) FROM none", soon())
    assert empty.rows == ((0, None),)


async def test_a_join_sees_its_tables_and_nothing_else(sources: Sources, folder: Path) -> None:
    one = table([("x", "integer")], (1,))
    assert (await sources.join_frames({"one": one}, "SELECT x FROM one", soon())).rows == ((1,),)
    for sql in ("SELECT * FROM one", "SELECT * FROM two", "DROP TABLE two", f"FROM '{folder}/one.csv'"):
        with pytest.raises(QueryRefused):
            await sources.join_frames({"2": one}, sql, soon())
    with pytest.raises(SourceTimeout):
        await sources.join_frames({"one": one}, LONG, soon(0.4))
    with pytest.raises(QueryRefused, match="1 to 16"):
        await sources.join_frames({}, "SELECT 1", soon())


def test_rows_travel_unchanged() -> None:
    columns = (Column("a", "decimal", ""), Column("b", "timestamp", ""), Column("c", "interval", ""))
    rows = ((Decimal("1.50"), datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=-1, microseconds=5)), (None, None, None))
    assert unpacked_rows(columns, packed_rows(rows)) == rows


async def test_what_a_worker_opens_is_resolved_below_the_workspace(folder: Path) -> None:
    driver = DuckdbDriver("lake", folder, DuckdbSource(files={"t": "none*.csv"}))
    with pytest.raises(SourceUnavailable, match="no file matches"):
        await driver.connect()


async def test_values_that_python_has_no_type_for_come_as_duckdb_writes_them(sources: Sources) -> None:
    sql = "SELECT CAST('24:00:00' AS TIME) AS t, CAST('290000-01-01' AS TIMESTAMP) AS s"
    result = await sources.query("shop", sql, deadline=soon())
    assert result.rows == (("24:00:00", "290000-01-01 00:00:00"),)
