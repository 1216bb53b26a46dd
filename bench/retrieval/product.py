"""The same collections through the product: files on disk, real ingest, PostgreSQL, permission-filtered hybrid search.

    python bench/retrieval/product.py DATA_DIR [--collections cranfield cisi scifact]

Each document is a text file (title, blank line, text); a document ranks where its first chunk does, k = 100 chunks.
Prints nDCG@10 (linear gain), recall and MRR, and the latency of a query in process. The difference to ``run.py``, which
ranks whole documents in memory, is chunking, the stored index and the fold of near-duplicates.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from ir_data import Judged, read_collection
from ir_metrics import evaluate

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.knowledge.embed import EmbeddingWorker, MiniLmEmbedder
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.parse.pool import ParserPool
from roadbed.knowledge.service import Knowledge
from roadbed.sources.manifest import FilesSource
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.store.jobs import Jobs
from roadbed.store.migrate import migrate
from roadbed.store.objects import ObjectStore

CHUNKS = 100
CALLER = Principal(id="bench", team="bench")


async def rank(knowledge: Knowledge, judged: Judged) -> tuple[dict[str, list[str]], list[float]]:
    """Documents by query, best first, and the milliseconds of each query."""
    run: dict[str, list[str]] = {}
    took = []
    for query_id, text in judged.queries.items():
        started = time.perf_counter()
        result = await knowledge.search(["all"], text, CALLER, k=CHUNKS, deadline=Deadline.after(30))
        took.append((time.perf_counter() - started) * 1000)
        run[query_id] = list(dict.fromkeys(Path(hit.uri).stem for hit in result.hits))
    return run, took


async def measure(judged: Judged, scratch: Path) -> None:
    """Write, ingest, search, print."""
    folder = scratch / "documents"
    folder.mkdir()
    for document_id, text in judged.documents.items():
        title, _, body = text.partition("\n")
        (folder / f"{document_id}.txt").write_text(f"{title}\n\n{body}\n", encoding="utf-8")
    async with EmbeddedPostgres(scratch / "state") as postgres:
        database = await Database.open(postgres.dsn, "bench")
        await migrate(database, workspace_id="bench")
        embedder, parsers, jobs = EmbeddingWorker(MiniLmEmbedder()), ParserPool(), Jobs(database)
        guard = Guard.open(scratch / "guard")
        knowledge = Knowledge(database, jobs, ObjectStore.in_memory(), guard, embedder, parsers, workspace=folder)
        knowledge.register_jobs()
        await knowledge.start()
        stop = asyncio.Event()
        running = asyncio.create_task(jobs.run(stop, is_only_worker=True))
        started = time.perf_counter()
        collections = {"all": CollectionConfig(sources=["docs"])}
        await knowledge.configure({"docs": FilesSource(path=str(folder))}, collections)
        await knowledge.wait_until_settled()
        ingest_s = time.perf_counter() - started
        run, took = await rank(knowledge, judged)
        chunks = (await knowledge.collection_stats())[0].chunks
        print(f"{judged.name}: {len(judged.documents)} documents, {chunks} chunks, ingest {ingest_s:.0f} s")
        print(f"  hybrid {evaluate(run, judged.judgements).line()}  p50 {statistics.median(took):.1f} ms")
        stop.set()
        await running
        await knowledge.aclose()
        await parsers.close()
        await embedder.aclose()
        await database.close()


def main() -> None:
    """Each collection in a database of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--collections", nargs="+", default=["cranfield", "cisi", "scifact"])
    given = parser.parse_args()
    for name in given.collections:
        with tempfile.TemporaryDirectory(prefix="roadbed-bench-") as scratch:
            asyncio.run(measure(read_collection(given.data_dir / name), Path(scratch)))


if __name__ == "__main__":
    main()
