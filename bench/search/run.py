"""Latency of search in process at 10,000 chunks: analysis, MiniLM query vector, both legs, fusion, the final statement.

    python bench/search/run.py [--state DIR] [--chunks 10000] [--queries 1000]

With --state it searches what bench/ingest/run.py left there; else it writes chunks of words drawn by Zipf's law with
random vectors, which costs the same to search. Queries are 2 to 8 words of the indexed text, all different, one
client. Prints p50, p99 and the worst, cold (first sight of most words) and warm (the same queries again).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import Label
from roadbed.kernel.principal import EVERYONE
from roadbed.knowledge.analysis import ANALYZER
from roadbed.knowledge.catalog import NewVersion, declare_source, record_versions
from roadbed.knowledge.chunk import CHUNKER, chunk_id
from roadbed.knowledge.documents import document_id_of
from roadbed.knowledge.embed import EmbeddingWorker, MiniLmEmbedder
from roadbed.knowledge.generations import Recipe, declare_collection, live_generations
from roadbed.knowledge.index import DocumentChunks, IndexedChunk, lock_generations, replace_documents
from roadbed.knowledge.permissions import acl_id_of
from roadbed.knowledge.search import Search
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.migrate import migrate

GROUPS = frozenset({EVERYONE, "team:bench", "key:bench"})
VOCABULARY_WORDS = 30_000
CHUNK_WORDS = 110
CHUNKS_PER_DOCUMENT = 20
K = 8


async def fill(database: Database, recipe: Recipe, chunks: int) -> None:
    """Write synthetic documents straight into the index."""
    await declare_source(database, "docs", "files", frozenset({EVERYONE}), Label())
    async with database.transaction() as connection:
        generation = await declare_collection(connection, "all", ["docs"], recipe)
        acl_id = await acl_id_of(connection, frozenset({EVERYONE}))
    chooser = np.random.default_rng(7)
    weights = 1.0 / np.arange(1, VOCABULARY_WORDS + 1)
    weights /= weights.sum()
    for first in range(0, chunks, 50 * CHUNKS_PER_DOCUMENT):
        keys = [f"d{first + i}" for i in range(0, min(50 * CHUNKS_PER_DOCUMENT, chunks - first), CHUNKS_PER_DOCUMENT)]
        ids = [document_id_of("docs", key) for key in keys]
        async with database.transaction() as connection:
            versions = [NewVersion(i, key, key, key, "1", 0, acl_id) for i, key in zip(ids, keys, strict=True)]
            await record_versions(connection, "docs", versions)
            rows = await connection.fetch("SELECT id, no FROM document WHERE id = ANY($1::text[])", ids)
            numbers = {row["id"]: row["no"] for row in rows}
            documents = []
            for document_id in ids:
                made = []
                for ordinal in range(CHUNKS_PER_DOCUMENT):
                    words = [f"w{n}" for n in chooser.choice(VOCABULARY_WORDS, CHUNK_WORDS, p=weights)]
                    vector = chooser.standard_normal(recipe.dimensions).astype(np.float32)
                    vector /= np.linalg.norm(vector)
                    text = " ".join(words)
                    name = chunk_id(document_id, text, ordinal)
                    made.append(
                        IndexedChunk(name, 0, len(text), text, None, "", (), Counter(words), len(words), b"k", vector)
                    )
                documents.append(DocumentChunks(document_id, numbers[document_id], made))
            await lock_generations(connection, [generation.id])
            await replace_documents(connection, generation.id, documents)
            await connection.execute("UPDATE document SET version = '1', state = 'indexed' WHERE id = ANY($1)", ids)


async def make_queries(database: Database, count: int) -> list[str]:
    """Queries of 2 to 8 words that stand next to each other somewhere."""
    chooser = random.Random(11)
    rows = await database.fetch("SELECT text FROM chunk ORDER BY md5(chunk_id) LIMIT $1", count)
    queries = []
    for i in range(count):
        words = rows[i % len(rows)]["text"].split()
        length = chooser.randint(2, 8)
        start = chooser.randrange(max(1, len(words) - length))
        queries.append(" ".join(words[start : start + length]))
    return queries


async def measure(state: Path, chunks: int, count: int) -> None:
    """Fill where nothing is, then search."""
    model = MiniLmEmbedder()
    async with EmbeddedPostgres(state / "state") as postgres, await Database.open(postgres.dsn, "bench") as database:
        await migrate(database, workspace_id="bench")
        worker = EmbeddingWorker(model)
        await worker.warm()
        if not await live_generations(database):
            started_s = time.perf_counter()
            await fill(database, Recipe(worker.digest, worker.dimensions, CHUNKER, 220, ANALYZER), chunks)
            print(f"wrote {chunks} chunks in {time.perf_counter() - started_s:.1f} s (no embedding)")
        total = await database.fetchval("SELECT count(*) FROM chunk")
        search = Search(database, worker)
        live = await live_generations(database)
        queries = await make_queries(database, count)
        started_s = time.perf_counter()
        await search.search(live, "a first query", GROUPS, k=K, deadline=Deadline.after(60))
        print(f"{total} chunks; first query, with loading them: {(time.perf_counter() - started_s) * 1e3:.0f} ms")
        for name in ("cold", "warm"):
            taken, hits = [], 0
            for query in queries:
                started_s = time.perf_counter()
                result = await search.search(live, query, GROUPS, k=K, deadline=Deadline.after(10))
                taken.append((time.perf_counter() - started_s) * 1e3)
                hits += len(result.hits)
                assert not result.missing, result.missing
            p50, p99 = np.percentile(taken, [50, 99])
            print(f"{name}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {max(taken):.1f} ms, {hits / count:.1f} hits")
        started_s = time.perf_counter()
        for query in queries[:200]:
            await worker.embed_query(query)
        print(f"of which the query's vector: {(time.perf_counter() - started_s) * 1e3 / 200:.1f} ms")
        await search.aclose()
        await worker.aclose()


def main() -> None:
    """Parse arguments, print conditions, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--queries", type=int, default=1_000)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, one client, k = {K}")
    if arguments.state is not None:
        asyncio.run(measure(arguments.state.resolve(), arguments.chunks, arguments.queries))
        return
    with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as folder:
        asyncio.run(measure(Path(folder), arguments.chunks, arguments.queries))


if __name__ == "__main__":
    main()
