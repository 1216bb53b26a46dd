"""Traces reach the tables exactly once, with PostgreSQL there, away, and back."""

from __future__ import annotations

import asyncio
import itertools
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from tests.stopwatch import comes_true

from roadbed.kernel.guarded import make_guarded
from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import LATE_TRACES, PATIENCE_S, TURN_S, Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.queries import LedgerReader
from roadbed.ledger.rows import Lines, decode_batch, encode_batch, lines_of
from roadbed.ledger.spool import Spool
from roadbed.ledger.trace import DECLINED, FAILED, Trace, Usage
from roadbed.store.database import Database
from roadbed.store.errors import StoreUnavailable

CALLER = Principal("key1", "support")


@asynccontextmanager
async def running(database: Database, folder: Path, content: str = "masked") -> AsyncIterator[Ledger]:
    ledger = Ledger(database, folder / "spool", Metrics(), keep=timedelta(days=7), content=content)
    ledger.start()
    try:
        yield ledger
    finally:
        await ledger.close()


def a_trace(ledger: Ledger) -> Trace:
    trace = ledger.start_trace("helpdesk", CALLER, "digest")
    with trace.span("search", "search", collection="company") as outer, trace.span("embed", "model", parent=outer):
        pass
    trace.usage.append(Usage("lab", "tiny", input_uncached=10, cache_read=5, output_tokens=3, cost_microusd=42))
    trace.question = make_guarded("what does [EMAIL] owe?", sink="record")
    trace.answer = make_guarded("nothing", sink="record")
    return trace


class AwayDatabase(Database):
    """A database that can be taken away."""

    is_away = False

    @asynccontextmanager
    async def transaction(self, *arguments: object, **options: object) -> AsyncIterator[object]:
        if self.is_away:
            raise StoreUnavailable("away")
        async with super().transaction() as connection:
            yield connection

    @property
    def is_available(self) -> bool:
        return not self.is_away


async def test_a_finished_trace_can_be_read_back(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        trace = a_trace(ledger)
        ledger.finish(trace, rung="full")
        await ledger.flush()
        detail = await LedgerReader(database).trace(trace.id)
    assert detail.trace.rung == "full"
    assert (detail.trace.input_tokens, detail.trace.output_tokens, detail.trace.cost_microusd) == (15, 3, 42)
    assert detail.trace.question == "what does [EMAIL] owe?"
    assert [(span.name, span.parent) for span in detail.spans] == [("search", -1), ("embed", 0)]
    assert detail.spans[0].attributes == {"collection": "company"}
    assert ledger.metrics.value("roadbed_requests_total", ("helpdesk", "ok", "full")) == 1


async def test_declined_answers_can_be_asked_for(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        answered, declined = a_trace(ledger), a_trace(ledger)
        declined.attributes[DECLINED] = True
        for trace in (answered, declined):
            ledger.finish(trace, rung="extractive")
        await ledger.flush()
        reader = LedgerReader(database)
        assert [row.id for row in await reader.traces(declined=True)] == [declined.id]
        assert {row.id: row.is_declined for row in await reader.traces()} == {answered.id: False, declined.id: True}


async def test_content_off_keeps_no_text(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path, content="off") as ledger:
        trace = a_trace(ledger)
        ledger.finish(trace)
        await ledger.flush()
        detail = await LedgerReader(database).trace(trace.id)
    assert detail.trace.question is None
    assert detail.trace.answer is None


async def test_rows_wait_on_disk_while_postgres_is_away_and_arrive_once(dsn: str, tmp_path: Path) -> None:
    async with await AwayDatabase.open(dsn, "roadbed_test") as opened:
        database = opened
        assert isinstance(database, AwayDatabase)
        reader = LedgerReader(database)
        async with running(database, tmp_path) as ledger:
            database.is_away = True
            traces = [a_trace(ledger) for _ in range(5)]
            for trace in traces:
                ledger.finish(trace)
            await ledger.flush()
            assert len(list((tmp_path / "spool").glob("*.batch"))) == 1
        # A later process finds the spool, with one batch twice: a crash fell between the commit and the removal.
        [batch] = (tmp_path / "spool").glob("*.batch")
        (tmp_path / "spool" / "again.batch").write_bytes(batch.read_bytes())
        database.is_away = False
        async with running(database, tmp_path) as ledger:
            await ledger.flush()
            await ledger.flush()
        assert {row.id for row in await reader.traces()} == {trace.id for trace in traces}
        assert await database.fetchval("SELECT count(*) FROM usage") == 5
        assert not list((tmp_path / "spool").iterdir())


async def test_text_that_postgres_cannot_keep_stops_nobody_s_traces(database: Database, tmp_path: Path) -> None:
    """A NUL in one question must cost neither the traces beside it nor those after it."""
    reader = LedgerReader(database)
    async with running(database, tmp_path) as ledger:
        hostile, beside = a_trace(ledger), a_trace(ledger)
        hostile.question = make_guarded("NUL \0 and half a pair \ud800", sink="record")
        hostile.answer = make_guarded("a\0b", sink="record")
        hostile.attributes["note"] = "\0 and \\u0000"
        ledger.finish(hostile)
        ledger.finish(beside)
        await ledger.flush()
        after = a_trace(ledger)
        ledger.finish(after)
        await ledger.flush()
    assert {trace.id for trace in await reader.traces()} == {hostile.id, beside.id, after.id}
    kept = (await reader.trace(hostile.id)).trace
    assert (kept.question, kept.answer) == ("NUL \ufffd and half a pair ?", "a\ufffdb")
    assert kept.attributes["note"] == "\ufffd and \\u0000"


async def test_a_trace_that_can_never_be_stored_is_dropped_alone(database: Database, tmp_path: Path) -> None:
    """A model may say that it used any number of tokens; what no column holds is counted as lost."""
    reader = LedgerReader(database)
    async with running(database, tmp_path) as ledger:
        hostile, beside = a_trace(ledger), a_trace(ledger)
        hostile.usage.append(Usage("lab", "tiny", output_tokens=2**70))
        ledger.finish(hostile)
        ledger.finish(beside)
        await ledger.flush()
        assert "roadbed_ledger_lost_total 1" in ledger.metrics.render()
        assert not list((tmp_path / "spool").iterdir())
    assert [trace.id for trace in await reader.traces()] == [beside.id]


class Unreadable:
    """Facts that cannot be told, such as of a text that a detector fails on."""

    def record(self, trace: Trace) -> None:
        raise RuntimeError("a detector failed")


async def test_a_trace_whose_facts_cannot_be_told_is_lost_alone(database: Database, tmp_path: Path) -> None:
    reader = LedgerReader(database)
    async with running(database, tmp_path) as ledger:
        hostile, beside = a_trace(ledger), a_trace(ledger)
        hostile.add_late(Unreadable())
        ledger.finish(hostile)
        ledger.finish(beside)
        await ledger.flush()
        assert "roadbed_ledger_lost_total 1" in ledger.metrics.render()
    assert [trace.id for trace in await reader.traces()] == [beside.id]


class Slow:
    """Facts that take two turns of the writer to tell."""

    def __init__(self, seen: list[str]) -> None:
        self._seen = seen

    def record(self, trace: Trace) -> None:
        until_s = time.perf_counter() + 2 * TURN_S
        while time.perf_counter() < until_s:
            pass
        self._seen.append("told")


async def test_texts_that_take_long_to_look_at_hold_up_nobody(database: Database, tmp_path: Path) -> None:
    seen: list[str] = []

    async def others() -> None:
        while True:
            seen.append("others")
            await asyncio.sleep(0)

    async with running(database, tmp_path) as ledger:
        for _ in range(20):
            trace = a_trace(ledger)
            trace.add_late(Slow(seen))
            ledger.finish(trace)
        waiting = asyncio.create_task(others())
        await ledger.flush()
        waiting.cancel()
    told = [place for place, what in enumerate(seen) if what == "told"]
    assert len(told) == 20
    assert all("others" in seen[before:after] for before, after in itertools.pairwise(told))


class BusyDatabase(AwayDatabase):
    """A database under load: while it stores, the next request has ended."""

    meanwhile: Callable[[], None] | None = None

    @asynccontextmanager
    async def transaction(self, *arguments: object, **options: object) -> AsyncIterator[object]:
        async with super().transaction() as connection:
            yield connection
            if self.meanwhile is not None:
                self.meanwhile()


async def test_load_that_never_ends_holds_up_neither_the_spool_nor_the_counting(dsn: str, tmp_path: Path) -> None:
    async with await BusyDatabase.open(dsn, "roadbed_test") as database:
        assert isinstance(database, BusyDatabase)
        async with running(database, tmp_path) as ledger:
            database.is_away = True
            ledger.finish(a_trace(ledger))
            await ledger.flush()
            assert list((tmp_path / "spool").glob("*.batch"))
            database.is_away = False
            first = a_trace(ledger)
            seen = weakref.ref(first)
            database.meanwhile = lambda: ledger.finish(a_trace(ledger))
            ledger.finish(first)
            del first
            async with asyncio.timeout(60):
                while list((tmp_path / "spool").glob("*.batch")) or seen() is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            database.meanwhile = None


async def test_a_process_that_has_no_time_to_spare_writes_down_what_it_finishes(
    database: Database, tmp_path: Path
) -> None:
    """A loop that is full of requests comes back to the writer seldom: traces waited until the queue was full."""
    async with running(database, tmp_path) as ledger:
        waited = 0
        for _ in range(30):
            for _ in range(200):
                ledger.finish(a_trace(ledger))
            waited = max(waited, len(ledger._queue))
            await asyncio.sleep(0)
        await ledger.flush()
        assert waited <= LATE_TRACES + 200
        assert ledger.metrics.value("roadbed_ledger_lost_total") == 0
        assert await database.fetchval("SELECT count(*) FROM trace") == 6_000


async def test_an_export_that_fails_keeps_no_trace_from_the_ledger(database: Database, tmp_path: Path) -> None:
    def fails(trace: Trace) -> None:
        raise LookupError("a fault of the exporter")

    async with running(database, tmp_path) as ledger:
        ledger.export_to(fails)
        for _ in range(LATE_TRACES + 1):
            ledger.finish(a_trace(ledger))
        await ledger.flush()
        assert await database.fetchval("SELECT count(*) FROM trace") == LATE_TRACES + 1
        assert ledger.metrics.value("roadbed_ledger_lost_total") == 0


async def test_too_much_goes_into_postgres_when_the_spool_is_full(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadbed.ledger.ledger.SPOOLED_BYTES_MIN", 50_000)
    monkeypatch.setattr("roadbed.ledger.ledger.BATCH_TRACES_MAX", 50)
    ledger = Ledger(database, tmp_path / "spool", Metrics(), keep=timedelta(days=7), content="off", spool_bytes_max=10)
    ledger.start()
    for _ in range(LATE_TRACES + 100):
        ledger.finish(a_trace(ledger))
    await ledger.close()
    assert await database.fetchval("SELECT count(*) FROM trace") == LATE_TRACES + 100


async def test_rows_that_postgres_takes_too_slowly_wait_on_disk(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadbed.ledger.ledger.SPOOLED_BYTES_MIN", 50_000)
    monkeypatch.setattr("roadbed.ledger.ledger.BATCH_TRACES_MAX", 50)
    async with await AwayDatabase.open(dsn, "roadbed_test") as database:
        assert isinstance(database, AwayDatabase)
        async with running(database, tmp_path) as ledger:
            for _ in range(LATE_TRACES + 100):
                ledger.finish(a_trace(ledger))
            wrote = ledger._spool.write
            spooled: list[int] = []

            def write(body: bytes) -> None:
                spooled.append(len(body))
                wrote(body)

            monkeypatch.setattr(ledger._spool, "write", write)
            await ledger.flush()
            assert spooled
            async with asyncio.timeout(60):
                while list((tmp_path / "spool").glob("*.batch")):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await database.fetchval("SELECT count(*) FROM trace") == LATE_TRACES + 100


async def test_what_postgres_takes_long_for_is_soon_on_disk(database: Database, tmp_path: Path) -> None:
    """What a process loses when it is killed is what it finished in its last seconds, however slow PostgreSQL is."""

    def spooled() -> int:
        batches = [decode_batch(Spool(tmp_path / "spool").read(path) or b"") for path in spool.batches()]
        return sum(map(len, batches))

    spool = Spool(tmp_path / "spool")
    async with running(database, tmp_path) as ledger:
        traces = [a_trace(ledger) for _ in range(3)]
        async with database.transaction() as other:
            await other.execute("LOCK TABLE trace IN ACCESS EXCLUSIVE MODE")
            for count, trace in enumerate(traces, 1):
                ledger.finish(trace)
                await comes_true(lambda: spooled() == count, within_s=3 * PATIENCE_S)  # noqa: B023
        await comes_true(lambda: not spool.batches(), within_s=20)
        assert sorted(row["id"] for row in await database.fetch("SELECT id FROM trace")) == sorted(t.id for t in traces)
        assert await database.fetchval("SELECT count(*) FROM usage") == 3


async def test_a_spool_that_postgres_takes_long_for_holds_up_nothing(database: Database, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    async with running(database, tmp_path) as ledger:
        early, late = a_trace(ledger), a_trace(ledger)
        early.duration_us = 1
        spool.write(encode_batch([lines_of(early, keep_content=True)]))
        async with database.transaction() as other:
            await other.execute("LOCK TABLE trace IN ACCESS EXCLUSIVE MODE")
            await comes_true(lambda: ledger._late is not None, within_s=3 * PATIENCE_S)
            ledger.finish(late)
            await comes_true(lambda: len(spool.batches()) == 2, within_s=3 * PATIENCE_S)
        await comes_true(lambda: not spool.batches(), within_s=20)
        assert await database.fetchval("SELECT count(*) FROM trace") == 2


async def test_long_texts_are_stored_a_few_at_a_time_and_nothing_is_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits and what is sent together is bounded in bytes: 2,000 long answers would be 70 MB at once."""
    monkeypatch.setattr("roadbed.ledger.ledger.BATCH_BYTES_MAX", 3_000)
    monkeypatch.setattr("roadbed.ledger.ledger.SPOOLED_BYTES_MIN", 1_000_000)
    async with running(database, tmp_path) as ledger:
        kept = ledger._keep_batch
        batches: list[list[int]] = []

        async def keep(batch: Sequence[Lines], *, is_behind: bool) -> None:
            batches.append([sum(map(len, lines)) for lines in batch])
            await kept(batch, is_behind=is_behind)

        monkeypatch.setattr(ledger, "_keep_batch", keep)
        for _ in range(LATE_TRACES + 100):
            ledger.finish(a_trace(ledger))
        await ledger.flush()
        assert ledger._written_bytes == 0
        assert all(sum(sizes[:-1]) < 3_000 for sizes in batches)
        assert await database.fetchval("SELECT count(*) FROM trace") == LATE_TRACES + 100


async def test_over_its_bytes_a_trace_is_counted_as_lost(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database, tmp_path) as ledger:
        monkeypatch.setattr("roadbed.ledger.ledger.QUEUE_BYTES_MAX", 5_000)
        for _ in range(3 * LATE_TRACES):  # the second that is late finds the first's lines
            ledger.finish(a_trace(ledger))
        assert ledger.metrics.value("roadbed_ledger_lost_total") > 0
        await ledger.flush()
        stored = await database.fetchval("SELECT count(*) FROM trace")
        assert stored + ledger.metrics.value("roadbed_ledger_lost_total") == 3 * LATE_TRACES


async def test_a_batch_whose_commit_nobody_saw_is_stored_once(dsn: str, tmp_path: Path) -> None:
    """PostgreSQL ends the connection between COPY and commit, or between the commit and its answer."""
    async with await LostDatabase.open(dsn, "roadbed_test") as database:
        assert isinstance(database, LostDatabase)
        for point in ("copied", "committed"):
            async with running(database, tmp_path) as ledger:
                database.ends_when = point
                traces = [a_trace(ledger) for _ in range(3)]
                for trace in traces:
                    ledger.finish(trace)
                async with asyncio.timeout(60):
                    while await count(database, traces) < 3 or list((tmp_path / "spool").glob("*.batch")):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert ledger.metrics.value("roadbed_ledger_lost_total") == 0
            assert database.ends_when == "", "the connection was ended"
        assert await database.fetchval("SELECT count(*) FROM trace") == 6
        assert await database.fetchval("SELECT count(*) FROM span") == 12
        assert await database.fetchval("SELECT count(*) FROM usage") == 6


async def count(database: Database, traces: list[Trace]) -> int:
    found: int = await database.fetchval(
        "SELECT count(*) FROM trace WHERE id = ANY($1)", [trace.id for trace in traces]
    )
    return found


class LostDatabase(Database):
    """A database whose connection is ended by the server at one point of the next transaction."""

    ends_when = ""

    @asynccontextmanager
    async def transaction(self, *arguments: object, **options: object) -> AsyncIterator[object]:
        async with super().transaction() as connection:
            yield connection
            if self.ends_when == "copied":
                self.ends_when = ""
                own = await connection.fetchval("SELECT pg_backend_pid()")
                await self.execute("SELECT pg_terminate_backend($1)", own)
        if self.ends_when == "committed":
            self.ends_when = ""
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


async def test_a_spool_file_that_cannot_be_read_holds_up_nothing(database: Database, tmp_path: Path) -> None:
    (tmp_path / "spool" / "0.batch").mkdir(parents=True)
    async with running(database, tmp_path) as ledger:
        await ledger.flush()
        trace = a_trace(ledger)
        ledger.finish(trace)
        async with asyncio.timeout(60):
            await ledger.flush()
    assert [row.id for row in await LedgerReader(database).traces()] == [trace.id]


async def test_old_traces_are_swept_and_usage_stays(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        old, new = a_trace(ledger), a_trace(ledger)
        old.started_us -= 8 * 86_400 * 1_000_000
        ledger.finish(old)
        ledger.finish(new)
        await ledger.flush()
        await ledger.sweep()
        rows = await LedgerReader(database).traces(within=timedelta(days=30))
        assert [row.id for row in rows] == [new.id]
        assert await database.fetchval("SELECT count(*) FROM usage") == 2


async def test_pages_go_on_where_the_last_ended(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        for _ in range(5):
            ledger.finish(a_trace(ledger))
        await ledger.flush()
    reader = LedgerReader(database)
    first = await reader.traces(limit=3)
    second = await reader.traces(limit=3, before=first[-1].id)
    assert len({row.id for row in [*first, *second]}) == 5
    assert await reader.traces(app="other") == []


def test_a_torn_spool_file_is_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    path = spool.write(b"a batch of rows")
    path.write_bytes(path.read_bytes()[:-3])
    assert spool.read(path) is None
    assert spool.batches() == []
    assert [p.suffix for p in tmp_path.iterdir()] == [".damaged"]


def test_a_batch_survives_its_wire_form(tmp_path: Path) -> None:
    trace = Trace("helpdesk", CALLER)
    with trace.span("search", "search"):
        pass
    trace.usage.append(Usage("lab", "tiny"))
    batch = [lines_of(trace, keep_content=True)]
    assert decode_batch(encode_batch(batch)) == batch


def test_a_span_that_raises_is_marked_failed() -> None:
    trace = Trace("helpdesk", CALLER)
    try:
        with trace.span("search", "search"):
            raise StoreUnavailable("away")
    except StoreUnavailable:
        pass
    assert (trace.spans[0].status, trace.spans[0].attributes["error"]) == (FAILED, "store.unavailable")


def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.declare("a_total", "counter", "things", "app")
    metrics.declare("b_seconds", "histogram", "time")
    metrics.gauge_from("c", "now", lambda: 1.5)
    metrics.add("a_total", ('he said "hi"',))
    metrics.observe("b_seconds", 0.3)
    lines = metrics.render().split("\n")
    assert 'a_total{app="he said \\"hi\\""} 1' in lines
    assert 'b_seconds_bucket{le="0.25"} 0' in lines
    assert 'b_seconds_bucket{le="0.5"} 1' in lines
    assert 'b_seconds_bucket{le="+Inf"} 1' in lines
    assert "b_seconds_sum 0.3" in lines
    assert "c 1.5" in lines


async def test_what_ended_processes_left_on_disk_is_stored_by_the_owner(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    made = Ledger(database, folder / "unused", Metrics(), keep=timedelta(days=7), content="masked")
    left, held = (encode_batch([lines_of(a_trace(made), keep_content=True)]) for _ in range(2))
    ended = Spool(folder / "worker-1", is_shared=True)
    ended.write(left)
    (folder / "worker-1" / "torn.part").write_bytes(b"half")
    ended.close()
    living = Spool(folder / "worker-2", is_shared=True)
    living.write(held)
    async with running(database, tmp_path):
        assert not (folder / "worker-1").exists()
    assert await database.fetchval("SELECT count(*) FROM trace") == 1
    assert len(living.batches()) == 1, "what a living process holds is its own"
    async with running(database, tmp_path) as ledger:
        living.close()
        ledger.adopt_spools()
    assert await database.fetchval("SELECT count(*) FROM trace") == 2
    assert [path.name for path in folder.iterdir()] == ["unused"]


def test_a_shared_spool_that_is_empty_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "worker-1", is_shared=True)
    assert Spool(tmp_path / "spool").adopt() == 0
    assert (tmp_path / "spool" / "worker-1").exists()
    spool.close()
    assert not (tmp_path / "spool" / "worker-1").exists()


async def test_a_batch_that_was_spooled_before_tags_were_kept_is_stored(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        old, new = a_trace(ledger), a_trace(ledger)
        new.tags = "project-x,q3"
        lines = lines_of(old, keep_content=True)
        before = (*lines[:2], lines[2].removesuffix(b"\t{}\n") + b"\n")
        Spool(tmp_path / "spool").write(encode_batch([before]))
        ledger.finish(new)
        await ledger.flush()
        await ledger.flush()
    rows = await database.fetch("SELECT trace_id, tags FROM usage ORDER BY trace_id")
    assert {row["trace_id"]: row["tags"] for row in rows} == {old.id: [], new.id: ["project-x", "q3"]}


async def test_calls_cuts_and_callers_who_left_are_counted(database: Database, tmp_path: Path) -> None:
    async with running(database, tmp_path) as ledger:
        for failure, first_ms in (("", 120.0), ("timeout", None)):
            trace = ledger.start_trace("helpdesk", Principal(id="key-1", team="office"))
            span = trace.open_span("model cloud", "model")
            span.set(endpoint="cloud", model="m", failure=failure, first_token_ms=first_ms)
            trace.close_span(span)
            ledger.finish(trace, status=FAILED, error_code="gateway.stream_cut")
        ledger.finish(ledger.start_trace("helpdesk", Principal(id="key-1", team="office")), status="cancelled")
        value = ledger.metrics.value
        assert value("roadbed_attempts_total", ("cloud", "ok")) == 1
        assert value("roadbed_attempts_total", ("cloud", "timeout")) == 1
        assert value("roadbed_stream_cuts_total", ("helpdesk",)) == 2
        assert value("roadbed_client_gone_total", ("helpdesk",)) == 1
        assert 'roadbed_attempt_ttft_seconds_count{endpoint="cloud"} 1' in ledger.metrics.render()
