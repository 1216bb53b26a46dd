"""Filling generations: declares collections, indexes what a generation lacks, flips it live, erases what was retired.

The job ``knowledge.build`` runs it per generation; the text comes from the documents that are stored already, nothing
is read or parsed again. One that serves is filled as fast as it goes, one that is built beside it paced (``pacing``),
batch by batch. The facade calls `declare` when the manifest changes. The invariant: a generation goes live only when a
whole pass found no document that it lacks, and while it is built every new document is written to it as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from roadbed.knowledge.analysis import ANALYZER
from roadbed.knowledge.chunk import CHUNKER
from roadbed.knowledge.generations import (
    Generation,
    Recipe,
    declare_collection,
    erase_retired,
    flip,
    foreign_documents,
    forget_collections,
    generation_by_id,
    missing_documents,
)
from roadbed.knowledge.index import INDEX_CHANNEL, lock_generations, remove_documents
from roadbed.knowledge.ingest import Embedder, Ingest
from roadbed.knowledge.pacing import BATCH_DOCUMENTS as PACED_DOCUMENTS
from roadbed.knowledge.pacing import BUSY_PAUSE_S, has_fresh, paced

BUILD_JOB = "knowledge.build"
BUILD_CONCURRENCY = 8
BUILD_TIMEOUT_S = 24 * 3_600.0
BATCH_DOCUMENTS = 200
ERASE_AFTER_S = 30.0
COLLECTIONS_CHANGED = "collections"

logger = logging.getLogger(__name__)


class Builder:
    """Keeps each collection's generations as the manifest and this build's recipe want them."""

    def __init__(self, database: Any, queue: Any, ingest: Ingest, embedder: Embedder) -> None:
        self._database = database
        self._queue = queue
        self._ingest = ingest
        self._embedder = embedder

    def register_jobs(self) -> None:
        """Let this process build and erase generations."""
        self._queue.register(BUILD_JOB, self._run, timeout_s=BUILD_TIMEOUT_S)

    def recipe(self, chunk_tokens: int) -> Recipe:
        """What this build of Roadbed makes."""
        return Recipe(self._embedder.digest, self._embedder.dimensions, CHUNKER, chunk_tokens, ANALYZER)

    async def declare(self, collections: Mapping[str, tuple[Sequence[str], int]]) -> None:
        """Take over the manifest's collections, each (sources, chunk tokens).

        What a collection no longer holds is out of its index when this returns; what it lacks is queued.
        """
        async with self._database.transaction() as connection:
            await forget_collections(connection, list(collections))
            generations = [
                await declare_collection(connection, name, sources, self.recipe(chunk_tokens))
                for name, (sources, chunk_tokens) in sorted(collections.items())
            ]
            await self._database.notify(INDEX_CHANNEL, COLLECTIONS_CHANGED, connection=connection)
        for generation in generations:
            await self._remove_foreign(generation)
            await self._queue.enqueue(None, BUILD_JOB, {"generation": generation.id}, str(generation.id))
        await self._queue.enqueue(None, BUILD_JOB, {"generation": 0}, "erase")

    async def fill(self, generation: Generation) -> int:
        """Index every document that the generation lacks; how many there were."""
        written = 0
        free = asyncio.Semaphore(BUILD_CONCURRENCY)
        passed = False
        while not passed:
            passed, after = True, ""
            while ids := await missing_documents(self._database, generation, after, BATCH_DOCUMENTS):
                outcomes = await asyncio.gather(
                    *(self._index_when(free, document_id, generation) for document_id in ids)
                )
                written += sum(outcomes)
                passed = passed and not any(outcomes)
                after = ids[-1]
        return written

    async def _index_when(self, free: asyncio.Semaphore, document_id: str, generation: Generation) -> bool:
        async with free:
            return await self._index(document_id, generation)

    async def _run(self, job: Any) -> None:
        if not job.payload["generation"]:
            async with self._database.transaction() as connection:
                await erase_retired(connection)
            return
        generation = await generation_by_id(self._database, job.payload["generation"])
        if generation is None or generation.state == "retired":
            return
        if generation.state == "building":
            await self._build_on(generation, job.payload.get("after", ""), bool(job.payload.get("written")))
        else:
            await self.fill(generation)

    async def _build_on(self, generation: Generation, after: str, written: bool) -> None:
        """One batch of a pass over all documents; ``written`` when the pass has written some already."""
        ids = await missing_documents(self._database, generation, after, PACED_DOCUMENTS)
        if not ids and not written:
            await self._put_live(generation)
            return
        outcomes, rest_s = await paced(ids, lambda document_id: self._index(document_id, generation))
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome  # the job is tried again from this batch on
        if await has_fresh(self._database):
            rest_s = max(rest_s, BUSY_PAUSE_S)
        passed = not ids
        payload = {
            "generation": generation.id,
            "after": "" if passed else ids[-1],
            "written": False if passed else written or any(outcomes),
        }
        await self._queue.enqueue(None, BUILD_JOB, payload, str(generation.id), delay_s=rest_s)

    async def _put_live(self, generation: Generation) -> None:
        async with self._database.transaction() as connection:
            await flip(connection, generation)
            await self._database.notify(INDEX_CHANNEL, COLLECTIONS_CHANGED, connection=connection)
            await self._queue.enqueue(connection, BUILD_JOB, {"generation": 0}, "erase", delay_s=ERASE_AFTER_S)

    async def _index(self, document_id: str, generation: Generation) -> bool:
        """Whether the document was written with chunks for this generation."""
        prepared = await self._ingest.prepare_again(document_id, generation)
        if prepared is None or not prepared.chunk_count:
            return False  # deleted meanwhile, or a document without visible text
        return await self._ingest.store(prepared) == "stored"

    async def _remove_foreign(self, generation: Generation) -> None:
        while found := await foreign_documents(self._database, generation, BATCH_DOCUMENTS):
            async with self._database.transaction() as connection:
                await lock_generations(connection, [generation.id])
                await remove_documents(connection, generation.id, found)
                await self._database.notify(INDEX_CHANNEL, str(generation.id), connection=connection)
