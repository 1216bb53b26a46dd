"""The vector leg by each of its ways: in memory, exactly by SQL, and by the HNSW index, at some sizes and visibilities.

    python bench/search/vectors.py [--rows 10000 100000] [--queries 30]

Vectors of 384 dimensions in 300 clusters stand for a collection; a caller sees a random share of them. Printed per
size: seconds and bytes of the index as the background job builds it, and the recall that the job measured; per share
and way p50 and p99 in ms, the share of the truly nearest 10 and 200 among what came, and which way search itself goes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roadbed.knowledge.generations import Generation, Recipe, declare_collection, generation_by_id
from roadbed.knowledge.index import vector_table
from roadbed.knowledge.snapshot import VECTOR_BYTES_MAX, GenerationSnapshot
from roadbed.knowledge.vector_index import INDEX_MEMORY_SHARE, VectorIndexes
from roadbed.knowledge.vectors import ABSENT, Vectors, choose_plan, cosines, cosines_by_sql, rounded
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate

DIMENSIONS = 384
LIMIT = 200
SHARES = (1.0, 0.3, 0.1, 0.02)
BATCH_ROWS = 20_000


class Texts:
    """Draws vectors that lie as those of texts do: near one of many centres, on few of the dimensions."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(5)
        self._mix = self._random.standard_normal((48, DIMENSIONS), np.float32) / 7
        self._centres = self._random.standard_normal((300, 48), np.float32)

    def draw(self, count: int) -> Vectors:
        """So many unit vectors."""
        near = self._centres[self._random.integers(0, 300, count)]
        near = near + 0.8 * self._random.standard_normal((count, 48), np.float32)
        made = near @ self._mix + 0.3 * self._random.standard_normal((count, DIMENSIONS), np.float32)
        return rounded(made / np.linalg.norm(made, axis=1, keepdims=True))


async def fill(database: Database, vectors: Vectors) -> Generation:
    """A generation with these vectors."""
    recipe = Recipe("bench", DIMENSIONS, "bench", 254, "bench")
    async with database.transaction() as connection:
        generation = await declare_collection(connection, f"c{len(vectors)}", [], recipe)
    for first in range(0, len(vectors), BATCH_ROWS):
        records = [(first + i, vector) for i, vector in enumerate(vectors[first : first + BATCH_ROWS])]
        async with database.connection() as connection:
            await connection.copy_records_to_table(
                vector_table(generation.id), records=records, columns=("chunk_no", "embedding"), timeout=300.0
            )
    await database.execute("UPDATE generation SET next_chunk_no = $2 WHERE id = $1", generation.id, len(vectors))
    return generation


def snapshot_of(generation: Generation, vectors: Vectors) -> GenerationSnapshot:
    """What a process holds of it, vectors too."""
    made = GenerationSnapshot(generation.id, DIMENSIONS, vector_bytes_max=1 << 40)
    fields = {"dl": 1, "acl_id": 0, "has_vector": True}
    for first in range(0, len(vectors), BATCH_ROWS):
        part = range(first, min(len(vectors), first + BATCH_ROWS))
        made.append([{"chunk_no": i, "document_no": i, "embedding": vectors[i], **fields} for i in part], part.stop)
    made.settle()
    return made


async def measured(
    way: Callable[[Vectors], Awaitable[Vectors]], queries: Vectors, nearest: list[NDArray[np.int64]]
) -> str:
    """Times and recall of one way."""
    took, ten, all_of = [], [], []
    for query, truth in zip(queries, nearest, strict=True):
        began = time.perf_counter()
        found = await way(query)
        took.append(1000 * (time.perf_counter() - began))
        came = np.flatnonzero(found > ABSENT)
        ten.append(np.isin(truth[:10], came).mean())
        all_of.append(np.isin(truth, came).mean())
    p50, p99 = np.percentile(took, (50, 99))
    return f"p50 {p50:7.1f}  p99 {p99:7.1f} ms  recall@10 {np.mean(ten):.3f}  @{LIMIT} {np.mean(all_of):.3f}"


async def size(database: Database, texts: Texts, rows: int, count: int) -> None:
    """Everything at one size."""
    vectors, queries = texts.draw(rows), texts.draw(count)
    generation = await fill(database, vectors)
    snapshot = snapshot_of(generation, vectors)
    bytes_max = int(rows * 4 * DIMENSIONS / INDEX_MEMORY_SHARE) + 1
    began = time.perf_counter()
    await VectorIndexes(database, Jobs(database), vector_bytes_max=bytes_max).look()
    took = time.perf_counter() - began
    built = await generation_by_id(database, generation.id)
    on_disk = await database.fetchval("SELECT pg_relation_size($1::regclass)", f"{vector_table(generation.id)}_hnsw")
    recall = await database.fetchval("SELECT recall FROM vector_index WHERE generation = $1", generation.id)
    print(
        f"{rows} vectors: built and measured in {took:.0f} s, {on_disk / 1e6:.0f} MB, recall@10 {recall:.3f}",
        flush=True,
    )
    random = np.random.default_rng(9)
    for share in SHARES:
        visible = random.random(rows) < share
        seen = np.flatnonzero(visible)
        nearest = [seen[np.argsort(-(vectors[seen] @ query))[:LIMIT]] for query in queries]

        async def by_sql(query: Vectors, plan: str = "exact", visible: NDArray[np.bool_] = visible) -> Vectors:
            return await cosines_by_sql(database, snapshot, query, visible, limit=LIMIT, plan=plan)  # type: ignore[arg-type]

        async def in_memory(query: Vectors, visible: NDArray[np.bool_] = visible) -> Vectors:
            return await asyncio.to_thread(cosines, snapshot, query, visible)

        async def by_hnsw(query: Vectors) -> Vectors:
            return await by_sql(query, "hnsw")

        fits = rows * DIMENSIONS * 4 <= VECTOR_BYTES_MAX
        plan = choose_plan(
            rows=rows, visible=len(seen), in_memory=fits, has_hnsw=bool(built and built.has_hnsw), limit=LIMIT
        )
        for name, way in (("memory", in_memory), ("exact", by_sql), ("hnsw", by_hnsw)):
            told = await measured(way, queries, nearest)
            print(f"  {100 * share:5.0f} % seen  {name:6}  {told}{'  <- search' if name == plan else ''}", flush=True)


async def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=30)
    arguments = parser.parse_args()
    machine = f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}, Python {platform.python_version()}")
    texts = Texts()
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "state")
        await server.start()
        try:
            async with await Database.open(server.dsn, "bench", max_size=4) as database:
                await migrate(database, workspace_id="bench")
                for rows in arguments.rows:
                    await size(database, texts, rows, arguments.queries)
        finally:
            await server.stop()


asyncio.run(main())
