"""The HNSW index of large generations: built in the background, measured before it is used, dropped when of no use.

While a generation's vectors fit in memory they are compared there, exactly and faster than any index finds them
(``snapshot.VECTOR_BYTES_MAX``; docs/how-search-works.md has the figures). The index is for those that outgrow it, and
is built shortly before. The job ``knowledge.vector_index`` looks after all generations, one at a time over all
processes; the facade requests it. Searches go on while it builds: compared in memory, or exactly by SQL. The invariant:
a search uses an index only after this one was found to hold at least `RECALL_MIN` of the truly nearest.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import asyncpg
import numpy as np

from roadbed.kernel.errors import RoadbedError
from roadbed.knowledge.builder import COLLECTIONS_CHANGED
from roadbed.knowledge.generations import Generation, generations_in_use
from roadbed.knowledge.index import INDEX_CHANNEL, cancel_index_builds, vector_table
from roadbed.knowledge.pacing import has_fresh
from roadbed.knowledge.search import CANDIDATES
from roadbed.knowledge.snapshot import VECTOR_BYTES_MAX
from roadbed.knowledge.vectors import Vectors, hnsw_fetched, nearest_by_hnsw, nearest_exactly

INDEX_JOB = "knowledge.vector_index"
INDEX_MEMORY_SHARE = 0.8  # of what memory holds: from so many rows on the index is built, to be there when it is needed
DROP_SHARE = 0.5  # of those rows: with fewer an index only makes writing slower
LOOK_S = 600.0
BUILD_S_MAX = 12 * 3_600.0
BUILD_MEMORY_BYTES_MAX = 512 * 1024 * 1024  # a graph that is larger is built from the disk: slower, and as good
BUILD_BYTES_PER_VALUE = 4.5  # 1,700 bytes for 384 half-precision values with their links
DIMENSIONS_MAX = 4_000  # of pgvector's index over half-precision values
PGVECTOR_MIN = (0, 8)  # scans that go on until enough visible rows came
RECALL_MIN = 0.95
COMPARE_S_MAX = 300.0
RECALL_QUERIES = 20
RECALL_K = 10
GROWN_SHARE = 0.25  # measured again when so much was added or removed

logger = logging.getLogger(__name__)


def rows_from(dimensions: int, *, vector_bytes_max: int = VECTOR_BYTES_MAX) -> int:
    """From how many vectors on a generation gets an index."""
    return max(1, int(INDEX_MEMORY_SHARE * vector_bytes_max / (4 * dimensions)))


class VectorIndexes:
    """Builds, measures and drops the indexes of vectors."""

    def __init__(self, database: Any, queue: Any, *, vector_bytes_max: int = VECTOR_BYTES_MAX) -> None:
        self._database = database
        self._queue = queue
        self._vector_bytes_max = vector_bytes_max

    def register_jobs(self) -> None:
        """Let this process look after the indexes."""
        self._queue.register(INDEX_JOB, self._run, timeout_s=BUILD_S_MAX)

    async def request(self) -> None:
        """Have the indexes looked at soon; from then on that is done every `LOOK_S`."""
        await self._queue.enqueue(None, INDEX_JOB, {}, "all")

    async def _run(self, job: Any) -> None:
        await self.look()
        await self._queue.enqueue(None, INDEX_JOB, {}, "all", delay_s=LOOK_S)

    async def look(self) -> None:
        """Bring every generation's index to where it should be."""
        if await self._can_index():
            for generation in await generations_in_use(self._database):
                try:
                    await self._look_after(generation)
                except (RoadbedError, asyncpg.PostgresError) as error:  # searches compare exactly until the next look
                    logger.warning("the index of %s was not built: %s", generation.collection, type(error).__name__)

    async def _can_index(self) -> bool:
        version = await self._database.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
        return tuple(int(part) for part in str(version or "0").split(".")[:2] if part.isdigit()) >= PGVECTOR_MIN

    async def _look_after(self, generation: Generation) -> None:
        wanted = rows_from(generation.recipe.dimensions, vector_bytes_max=self._vector_bytes_max)
        if generation.recipe.dimensions > DIMENSIONS_MAX:
            return
        state = await self._database.fetchrow(_STATE, generation.id, f"{vector_table(generation.id)}_hnsw")
        if state is None or (state["is_valid"] is None and state["next_chunk_no"] < wanted):
            return
        rows = await self._database.fetchval(
            f"SELECT count(*) FROM {vector_table(generation.id)}"  # noqa: S608 - our own integer
        )
        if state["is_valid"] is not None and rows < DROP_SHARE * wanted:
            await self._drop(generation)
        elif rows >= wanted and (state["is_valid"] is False or _has_changed(rows, state["rows"])):
            if state["is_valid"] is None and rows < wanted / INDEX_MEMORY_SHARE and await has_fresh(self._database):
                return  # memory holds them still, and an index makes each insert some milliseconds slower
            if not state["is_valid"]:
                await self._build(generation, rows)
            await self._measure(generation, rows)

    async def _build(self, generation: Generation, rows: int) -> None:
        table = vector_table(generation.id)
        began = time.monotonic()
        logger.info("an index over %d vectors of %s is built, in the background", rows, generation.collection)
        memory = min(BUILD_MEMORY_BYTES_MAX, int(BUILD_BYTES_PER_VALUE * generation.recipe.dimensions * rows * 1.25))
        async with self._database.connection() as connection:  # its settings are undone when it goes back to the pool
            for name in ("statement_timeout", "lock_timeout"):
                await connection.execute(f"SET {name} = {BUILD_S_MAX * 1000:.0f}")
            await connection.execute(f"SET maintenance_work_mem = {max(1024, memory // 1024)}")
            await connection.execute("SET max_parallel_maintenance_workers = 0")  # the other cores are for searches
            # A process that was killed leaves its build running; what one that broke off left behind is invalid.
            await cancel_index_builds(connection, generation.id)
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {table}_hnsw", timeout=BUILD_S_MAX)
            await connection.execute(
                f"CREATE INDEX CONCURRENTLY {table}_hnsw ON {table} USING hnsw (embedding halfvec_cosine_ops)",
                timeout=BUILD_S_MAX,
            )
        logger.info("the index of %s was built in %.0f s", generation.collection, time.monotonic() - began)

    async def _measure(self, generation: Generation, rows: int) -> None:
        recall = await self._recall(generation, rows)
        is_good = recall >= RECALL_MIN
        if not is_good:
            logger.warning("the index of %s finds %.3f of the nearest: not used", generation.collection, recall)
            await self._drop(generation)
        async with self._database.transaction() as connection:
            await connection.execute(_MEASURED, generation.id, rows, recall)
            await self._use(connection, generation, is_used=is_good)

    async def _recall(self, generation: Generation, rows: int) -> float:
        """The share of the `RECALL_K` nearest that the index finds, by the distance of the last of them."""
        found: list[float] = []
        for query in await self._sample(generation):
            began = time.monotonic()
            exact = await nearest_exactly(self._database, generation.id, query, RECALL_K, timeout_s=COMPARE_S_MAX)
            fetched = hnsw_fetched(rows=rows, visible=rows, limit=CANDIDATES[0])  # as a search does
            indexed = await nearest_by_hnsw(self._database, generation.id, query, fetched)
            last = exact[-1][1] if exact else 0.0
            found.append(min(1.0, sum(cosine >= last - 1e-6 for _, cosine in indexed) / max(1, len(exact))))
            await asyncio.sleep(time.monotonic() - began)  # it reads every vector: half of the time is for others
        return float(np.mean(found)) if found else 1.0

    async def _sample(self, generation: Generation) -> list[Vectors]:
        """Questions that lie between what is stored: sums of two neighbours by number, chosen evenly."""
        table = vector_table(generation.id)
        rows = await self._database.fetch(
            f"SELECT embedding FROM (SELECT embedding, row_number() OVER (ORDER BY chunk_no) - 1 AS place, "  # noqa: S608
            f"count(*) OVER () AS total FROM {table}) AS numbered "
            "WHERE place % greatest(1, total / $1) < 2 ORDER BY place LIMIT 2 * $1",
            RECALL_QUERIES,
        )
        vectors = np.array([row["embedding"] for row in rows], np.float32)
        sums = vectors[:-1:2] + vectors[1::2]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return list(sums / np.where(lengths > 0, lengths, 1))

    async def _drop(self, generation: Generation) -> None:
        async with self._database.transaction() as connection:
            await self._use(connection, generation, is_used=False)
            await connection.execute("DELETE FROM vector_index WHERE generation = $1", generation.id)
            await connection.execute(f"DROP INDEX IF EXISTS {vector_table(generation.id)}_hnsw")

    async def _use(self, connection: Any, generation: Generation, *, is_used: bool) -> None:
        await connection.execute("UPDATE generation SET has_hnsw = $2 WHERE id = $1", generation.id, is_used)
        await self._database.notify(INDEX_CHANNEL, COLLECTIONS_CHANGED, connection=connection)


def _has_changed(rows: int, measured: int | None) -> bool:
    return measured is None or abs(rows - measured) > GROWN_SHARE * measured


_STATE = """
SELECT g.next_chunk_no, m.rows, i.indisvalid AS is_valid
FROM generation g
LEFT JOIN pg_index i ON i.indexrelid = to_regclass($2)
LEFT JOIN vector_index m ON m.generation = g.id
WHERE g.id = $1 AND g.state <> 'retired'
"""
_MEASURED = """
INSERT INTO vector_index (generation, rows, recall) VALUES ($1, $2, $3)
ON CONFLICT (generation) DO UPDATE SET rows = excluded.rows, recall = excluded.recall, measured_at = now()
"""
