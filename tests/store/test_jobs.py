"""Jobs: transactions, order, one per key, retries, leases and fences, shutdown, and a worker killed with -9."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from roadbed.kernel.errors import TooLarge, Unavailable
from roadbed.store import jobs as module
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.errors import InvalidName, JobLost, StoreDiskFull, StoreUnavailable
from roadbed.store.jobs import PAYLOAD_BYTES_MAX, Job, Jobs
from roadbed.store.migrate import load_migrations, migrate

WORKER = Path(__file__).with_name("job_worker.py")


@contextlib.asynccontextmanager
async def running(jobs: Jobs, *, is_only_worker: bool = False, drain_s: float = 5.0) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(jobs.run(stop, is_only_worker=is_only_worker, drain_s=drain_s))
    try:
        yield
    finally:
        stop.set()
        await task


async def until(database: Database, sql: str, wanted: Callable[[int], bool]) -> None:
    """Ask PostgreSQL until it answers as wanted."""
    async with asyncio.timeout(60):
        while not wanted(await database.fetchval(sql)):  # noqa: ASYNC110 - the queue's state is in the database
            await asyncio.sleep(0.01)


EMPTY = "SELECT count(*) FROM job"


async def test_a_job_is_queued_by_its_transaction(database: Database) -> None:
    jobs = Jobs(database)
    with contextlib.suppress(KeyError):
        async with database.transaction() as connection:
            assert await jobs.enqueue(connection, "x", {"n": 1})
            raise KeyError
    assert await jobs.counts() == {"queued": 0, "running": 0, "failed": 0}
    async with database.transaction() as connection:
        await jobs.enqueue(connection, "x", {"n": 2})
    assert await jobs.counts("x") == {"queued": 1, "running": 0, "failed": 0}
    assert (await jobs.counts("y"))["queued"] == 0


async def test_jobs_run_by_priority_then_age(database: Database) -> None:
    jobs, seen = Jobs(database), []

    async def handler(job: Job) -> None:
        seen.append(job.payload["n"])

    await jobs.enqueue_many(None, "x", [({"n": 1}, None), ({"n": 2}, None)])
    await jobs.enqueue(None, "x", {"n": 3}, priority=5)
    jobs.register("x", handler)
    async with running(jobs):
        await until(database, EMPTY, lambda count: count == 0)
    assert seen == [3, 1, 2]


async def test_one_waits_per_key_and_a_change_while_it_runs_is_not_lost(database: Database) -> None:
    jobs = Jobs(database)
    begun, both, go_on, seen = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def handler(job: Job) -> None:
        seen.append(job.payload["n"])
        (begun if len(seen) == 1 else both).set()
        await go_on.wait()

    assert await jobs.enqueue(None, "x", {"n": 1}, "file.md")
    assert not await jobs.enqueue(None, "x", {"n": 2}, "file.md")
    jobs.register("x", handler, concurrency=4)
    async with running(jobs):
        await begun.wait()
        assert await jobs.enqueue(None, "x", {"n": 3}, "file.md")
        assert await jobs.enqueue(None, "x", {"n": 4}, "other.md")
        async with asyncio.timeout(60):
            await both.wait()
        await until(database, "SELECT count(*) FROM job WHERE state = 'running'", lambda count: count == 2)
        assert seen == [1, 4]  # never two of one key at a time
        go_on.set()
        await until(database, EMPTY, lambda count: count == 0)
    assert seen == [1, 4, 3]


async def test_errors_are_retried_then_kept_without_content(database: Database) -> None:
    jobs, attempts = Jobs(database, poll_s=0.05, backoff_s=0.01), Counter[str]()

    async def handler(job: Job) -> None:
        attempts[job.payload["how"]] += 1
        if job.payload["how"] == "bug":
            raise RuntimeError("text of a document")
        if job.payload["how"] == "final":
            raise InvalidName("the name is wrong")
        if job.attempt == 1:
            raise Unavailable("the model is away")

    jobs.register("x", handler, attempts_max=2, concurrency=3)
    await jobs.enqueue_many(None, "x", [({"how": how}, how) for how in ("bug", "final", "once")])
    async with running(jobs):
        await until(database, "SELECT count(*) FROM job WHERE state = 'failed'", lambda count: count == 2)
        await until(database, EMPTY, lambda count: count == 2)
    assert attempts == {"bug": 2, "final": 1, "once": 2}
    errors = {failed.dedupe_key: failed.error for failed in await jobs.failures()}
    assert errors == {"bug": "RuntimeError", "final": "store.invalid_name: the name is wrong"}
    assert await jobs.retry_failed("x") == 2
    assert await jobs.counts() == {"queued": 2, "running": 0, "failed": 0}


async def test_the_end_of_a_worker_gives_its_jobs_back(database: Database) -> None:
    jobs, begun = Jobs(database), asyncio.Event()

    async def handler(job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    jobs.register("x", handler)
    await jobs.enqueue(None, "x", {}, "k")
    async with running(jobs, drain_s=0):
        await begun.wait()
    row = await database.fetchrow("SELECT state, attempt FROM job")
    assert row is not None
    assert (row["state"], row["attempt"]) == ("queued", 0)


async def test_a_given_back_job_yields_to_a_newer_one_of_its_key(database: Database) -> None:
    jobs, begun = Jobs(database), asyncio.Event()

    async def handler(job: Job) -> None:
        begun.set()
        await asyncio.Event().wait()

    jobs.register("x", handler)
    await jobs.enqueue(None, "x", {"n": 1}, "k")
    async with running(jobs, drain_s=0):
        await begun.wait()
        assert await jobs.enqueue(None, "x", {"n": 2}, "k")
    assert [row["payload"] for row in await database.fetch("SELECT payload FROM job")] == [{"n": 2}]


async def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(database: Database, dsn: str) -> None:
    await database.execute("CREATE TABLE done (n integer)")
    jobs = Jobs(database, lease_s=1.0, poll_s=0.05)
    await jobs.enqueue_many(None, "count", [({"n": n}, str(n)) for n in range(20)])
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), dsn, database.schema, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    begun = [int(await worker.stdout.readline()) for _ in range(4)]
    worker.kill()
    await worker.wait()

    async def handler(job: Job) -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO done VALUES ($1)", job.payload["n"])
            await job.finish(connection)

    jobs.register("count", handler, concurrency=4)
    async with running(jobs):
        await until(database, EMPTY, lambda count: count == 0)
    assert sorted(begun) == [0, 1, 2, 3]
    assert sorted(row["n"] for row in await database.fetch("SELECT n FROM done")) == list(range(20))


async def test_the_only_worker_takes_over_at_once(database: Database) -> None:
    first, second = Jobs(database, lease_s=600), Jobs(database, lease_s=600)
    await first.enqueue(None, "x", {})
    await database.execute("UPDATE job SET state = 'running', worker = 'dead', lease_until = now() + interval '1 hour'")
    done = asyncio.Event()

    async def handler(job: Job) -> None:
        done.set()

    second.register("x", handler)
    async with running(second, is_only_worker=True), asyncio.timeout(60):
        await done.wait()


class Faltering:
    """A database that is away for the first ``misses`` looks at a single job."""

    def __init__(self, database: Database, misses: int) -> None:
        self._database = database
        self._misses = misses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        if sql.startswith("SELECT 1 FROM job") and self._misses:
            self._misses -= 1
            raise StoreUnavailable("away")
        return await self._database.fetchval(sql, *arguments)


@pytest.mark.parametrize("misses", [0, 1])
async def test_a_worker_that_lost_its_job_is_stopped_and_cannot_finish_it(database: Database, misses: int) -> None:
    jobs = Jobs(cast(Database, Faltering(database, misses)), lease_s=0.3)
    taken: asyncio.Queue[Job] = asyncio.Queue()
    cancelled = asyncio.Event()

    async def handler(job: Job) -> None:
        taken.put_nowait(job)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    jobs.register("x", handler)
    await jobs.enqueue(None, "x", {})
    async with running(jobs, drain_s=0):
        job = await taken.get()
        await database.execute(
            "UPDATE job SET fence = fence + 1, worker = 'other', lease_until = now() + interval '1 hour'"
        )
        async with asyncio.timeout(60):
            await cancelled.wait()
        with pytest.raises(JobLost):
            await _finish(database, job)
    assert (await jobs.counts())["running"] == 1


async def _finish(database: Database, job: Job) -> None:
    async with database.transaction() as connection:
        await job.confirm(connection)
        await job.finish(connection)


async def test_a_job_that_kills_its_worker_each_time_is_given_up(database: Database) -> None:
    jobs = Jobs(database)

    async def handler(job: Job) -> None:
        raise AssertionError("not again")

    jobs.register("x", handler, attempts_max=3)
    await jobs.enqueue(None, "x", {})
    await database.execute("UPDATE job SET state = 'running', attempt = 3, worker = 'dead', lease_until = now()")
    async with running(jobs):
        await until(database, "SELECT count(*) FROM job WHERE state = 'failed'", lambda count: count == 1)
    assert [failed.error for failed in await jobs.failures()] == ["store.job_lost: its worker was lost each time"]


async def test_a_job_over_its_time_is_retried(database: Database) -> None:
    jobs = Jobs(database)

    async def handler(job: Job) -> None:
        await asyncio.Event().wait()

    jobs.register("x", handler, attempts_max=1, timeout_s=0.01)
    await jobs.enqueue(None, "x", {})
    async with running(jobs):
        await until(database, "SELECT count(*) FROM job WHERE state = 'failed'", lambda count: count == 1)


FULL = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER no_room BEFORE DELETE ON job FOR EACH ROW EXECUTE FUNCTION no_room();
"""


async def test_a_job_that_finds_the_disk_full_waits_for_room_and_is_not_given_up(database: Database) -> None:
    jobs, tries = Jobs(database, backoff_s=0.01, full_pause_s=0.01, poll_s=0.01), 0
    told: list[bool] = []

    async def handler(job: Job) -> None:
        nonlocal tries
        tries += 1
        told.append(jobs.waits_for_disk)
        if tries < 5:
            raise StoreDiskFull("the disk of the database is full")

    jobs.register("x", handler, attempts_max=2)
    await jobs.enqueue(None, "x", {})
    async with running(jobs):
        await until(database, EMPTY, lambda count: count == 0)
    assert tries == 5
    assert told == [False, True, True, True, True]
    assert not jobs.waits_for_disk


async def test_an_outcome_for_which_there_is_no_room_is_written_when_there_is(database: Database) -> None:
    jobs, seen, done = Jobs(database, poll_s=0.01, lease_s=3.0), [], asyncio.Event()

    async def handler(job: Job) -> None:
        seen.append(job.payload["n"])
        done.set()

    jobs.register("x", handler)
    await jobs.enqueue(None, "x", {"n": 1})
    await database.execute(FULL)
    async with running(jobs):
        await done.wait()
        began = await database.fetchval("SELECT lease_until FROM job")
        # Past the lease that it had: it is not taken for lost, and other jobs are not held up for good.
        async with asyncio.timeout(60):
            while await database.fetchval("SELECT lease_until <= $1 FROM job", began):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await database.execute("DROP TRIGGER no_room ON job")
        await jobs.enqueue(None, "x", {"n": 2})
        await until(database, EMPTY, lambda count: count == 0)
    assert seen == [1, 2]


async def test_a_lost_connection_is_no_end(database: Database) -> None:
    jobs, seen = Jobs(database), []

    async def handler(job: Job) -> None:
        seen.append(job.payload["n"])
        await database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'test' AND pid <> pg_backend_pid()"
        )

    jobs.register("x", handler)
    await jobs.enqueue_many(None, "x", [({"n": n}, None) for n in range(3)])
    async with running(jobs):
        await until_empty(database)
    assert seen == [0, 1, 2]


async def test_jobs_are_begun_again_after_a_fault_of_their_loop(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    jobs, done, stop, faults = Jobs(database, poll_s=0.05), asyncio.Event(), asyncio.Event(), iter((LookupError("x"),))
    take = Jobs._take_until

    async def broken_once(self: Jobs, stop: asyncio.Event, is_only_worker: bool) -> None:
        for fault in faults:
            raise fault
        await take(self, stop, is_only_worker)

    monkeypatch.setattr(Jobs, "_take_until", broken_once)

    async def handler(job: Job) -> None:
        done.set()

    jobs.register("count", handler)
    await jobs.enqueue(None, "count", {})
    task = asyncio.create_task(jobs.keep_running(stop))
    async with asyncio.timeout(60):
        await done.wait()
        stop.set()
        await task
    assert "jobs have stopped, and are begun again" in caplog.text


async def until_empty(database: Database) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                if await database.fetchval(EMPTY) == 0:
                    return
            await asyncio.sleep(0.01)


async def test_postgresql_killed_while_jobs_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with (
        EmbeddedPostgres(tmp_path / "state") as server,
        await Database.open(server.dsn, "roadbed_x") as database,
    ):
        await migrate(database, workspace_id="w", migrations=load_migrations()[:2])
        await database.execute("CREATE TABLE done (n integer)")
        jobs = Jobs(database, lease_s=1.0, poll_s=0.05, backoff_s=0.05)

        async def handler(job: Job) -> None:
            if job.payload["n"] == 5 and job.attempt == 1:
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO done VALUES ($1)", job.payload["n"])
                await job.finish(connection)

        jobs.register("count", handler, concurrency=3)
        await jobs.enqueue_many(None, "count", [({"n": n}, str(n)) for n in range(30)])
        async with running(jobs):
            await until_empty(database)
        assert sorted(row["n"] for row in await database.fetch("SELECT n FROM done")) == list(range(30))
        assert server.restarts == 1


async def test_bounds(database: Database) -> None:
    jobs = Jobs(database)
    with pytest.raises(TooLarge):
        await jobs.enqueue(None, "x", {"text": "x" * PAYLOAD_BYTES_MAX})
    with pytest.raises(ValueError, match="concurrency"):
        jobs.register("x", _nothing, concurrency=0)
    jobs.register("x", _nothing)
    with pytest.raises(ValueError, match="handler"):
        jobs.register("x", _nothing)


async def _nothing(job: Job) -> None:
    return
