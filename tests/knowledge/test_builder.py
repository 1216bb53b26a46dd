"""Building the next generation beside the serving one: paced, batch by batch, going on where it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from roadbed.knowledge.builder import BUILD_JOB
from roadbed.knowledge.generations import live_generations
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.pacing import CONCURRENCY, PAUSE_S_MAX, paced
from roadbed.sources.manifest import FilesSource

pytestmark = pytest.mark.services

DOCUMENTS = 7
SOURCES = {"docs": FilesSource(path="docs")}


async def resting(bench: Any) -> Any:
    """The job that will go on with the building, once it rests."""
    async with asyncio.timeout(60):
        while True:
            row = await bench.database.fetchrow(
                "SELECT payload, extract(epoch FROM run_after - now()) AS rest_s FROM job "
                "WHERE name = $1 AND state = 'queued' AND payload ? 'after'",
                BUILD_JOB,
            )
            if row is not None:
                return row
            await asyncio.sleep(0.005)


async def test_it_rests_between_batches_and_goes_on_where_it_was(
    make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roadbed.knowledge.builder.PACED_DOCUMENTS", 3)
    monkeypatch.setattr("roadbed.knowledge.builder.BUSY_PAUSE_S", 600.0)
    smaller = {"all": CollectionConfig(sources=["docs"], chunk_tokens=64)}
    async with make_bench() as bench:
        for number in range(DOCUMENTS):
            bench.write(f"{number}.txt", f"The lamp number {number} stands beside the river.")
        await bench.configure()
        before = (await live_generations(bench.database))["all"]
        # As long as documents that are new wait, it makes way: after one batch it rests for minutes.
        bench.parser.may_go.clear()
        bench.write("new.txt", "The new lamp.")
        await bench.knowledge.sync_now("docs")
        assert await bench.database.fetchval("SELECT count(*) FROM document WHERE state = 'pending'") == 1
        await bench.knowledge.configure(SOURCES, smaller)
        row = await resting(bench)
        assert row["rest_s"] > 500
        assert row["payload"]["written"]
        built = "SELECT count(DISTINCT document_id) FROM chunk WHERE generation = $1"
        assert await bench.database.fetchval(built, row["payload"]["generation"]) == 3
        assert (await live_generations(bench.database))["all"] == before
        assert {hit.title for hit in (await bench.search("lamp", k=20)).hits} == {str(n) for n in range(DOCUMENTS)}
    async with make_bench() as bench:
        await bench.knowledge.configure(SOURCES, smaller)
        await bench.settle()
        await bench.database.execute("UPDATE job SET run_after = now() WHERE name = $1", BUILD_JOB)
        async with asyncio.timeout(60):
            while (await live_generations(bench.database))["all"].id == before.id:  # noqa: ASYNC110 - built by jobs
                await asyncio.sleep(0.02)
        live = (await live_generations(bench.database))["all"]
        assert live.recipe.chunk_tokens == 64
        assert await bench.database.fetchval(built, live.id) == DOCUMENTS + 1


async def test_few_are_worked_on_at_once_and_one_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    running = most = 0

    async def work(name: str) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if name == "bad":
            raise ValueError
        return name

    outcomes, rest_s = await paced(["a", "bad", "c", "d"], work)
    assert most == CONCURRENCY
    assert [outcome if isinstance(outcome, str) else type(outcome) for outcome in outcomes] == [
        "a", ValueError, "c", "d",
    ]  # fmt: skip
    assert 0 <= rest_s <= PAUSE_S_MAX
