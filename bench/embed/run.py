"""Speed of the default embedding model on this machine: chunks per CPU-second, query latency alone and beside ingest.

``python bench/embed/run.py``. The texts are made of common words, 128 tokens each as the model counts. CPU time, not
wall time, is what the floor is on, so a busy machine does not fail it. Exit 1 below 45 chunks per CPU-second.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time

import numpy as np

from roadbed.knowledge.embed import EmbeddingWorker, MiniLmEmbedder

CHUNK_TOKENS = 128
CHUNKS = 200
QUERIES = 200
CHUNKS_PER_CPU_SECOND_MIN = 45.0
COMMON_WORDS = """
account answer area book budget building business case change child city claim company contract cost country
customer date day delivery department document door effect end engine event example fact flow form government
group hand heat help home hour house idea image issue job kind law letter level light line list market matter
measure member minute money month morning name night number office order page part party pattern people person
place plan point policy power price problem process product program project question rate reason report result
right river road room rule sale school sentence service side source state station story street student system
table tax team term test text thing time tool town train unit use value view voice wall water way week window
wing word work world year
"""
QUERY = "how is heat transferred in a slender wing"


def make_texts(number: int, tokens: int) -> list[str]:
    """Texts of exactly so many tokens: every word of the list is one token."""
    chooser = random.Random(7)
    words = COMMON_WORDS.split()
    return [" ".join(chooser.choices(words, k=tokens)) for _ in range(number)]


def throughput(embedder: MiniLmEmbedder, tokens: int) -> float:
    """Chunks per second of this process's CPU time."""
    texts = make_texts(CHUNKS, tokens - 2)
    assert embedder.token_count(texts[0]) == tokens - 2
    embedder.embed(texts[:10])
    begun = time.process_time()
    embedder.embed(texts)
    return CHUNKS / (time.process_time() - begun)


async def query_times(worker: EmbeddingWorker) -> tuple[float, float, float]:
    """p50, p95 and p99 of one query in milliseconds, as the caller on the event loop sees them."""
    taken = []
    for _ in range(QUERIES):
        begun = time.perf_counter()
        await worker.embed_query(QUERY)
        taken.append((time.perf_counter() - begun) * 1e3)
        await asyncio.sleep(0.002)
    low, middle, high = np.percentile(taken, [50, 95, 99])
    return float(low), float(middle), float(high)


async def latencies(embedder: MiniLmEmbedder) -> None:
    """Print query latency alone, then while documents are being embedded."""
    worker = EmbeddingWorker(embedder)
    await worker.warm()
    print("query ms alone          p50 {:.2f}  p95 {:.2f}  p99 {:.2f}".format(*await query_times(worker)))
    ingest = asyncio.create_task(worker.embed_documents(make_texts(10_000, 200)))
    print("query ms beside ingest  p50 {:.2f}  p95 {:.2f}  p99 {:.2f}".format(*await query_times(worker)))
    ingest.cancel()
    await asyncio.gather(ingest, return_exceptions=True)
    await worker.aclose()


def main() -> int:
    """Measure and report."""
    embedder = MiniLmEmbedder()
    begun = time.perf_counter()
    embedder.warm()
    print(f"{embedder.digest[:40]} loaded and verified in {(time.perf_counter() - begun) * 1e3:.0f} ms")
    rates = {tokens: throughput(embedder, tokens) for tokens in (CHUNK_TOKENS, 256)}
    for tokens, rate in rates.items():
        print(f"{tokens} tokens: {rate:.1f} chunks per CPU-second")
    asyncio.run(latencies(embedder))
    if rates[CHUNK_TOKENS] < CHUNKS_PER_CPU_SECOND_MIN:
        print(f"BELOW THE FLOOR of {CHUNKS_PER_CPU_SECOND_MIN}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
