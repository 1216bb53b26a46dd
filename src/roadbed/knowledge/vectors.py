"""Vectors: embedding with the cache by hash, the plan of the vector leg, and its exact comparison.

Owns the table vector_cache. Ingest calls `embed_texts`, search `choose_plan`, `cosines` and `cosines_by_sql`. While a
generation's vectors fit in memory they are compared there, exactly; beyond that in SQL, exactly inside a small visible
set, by HNSW for a large one when that index exists. The invariant: whatever the plan, only visible rows are candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from roadbed.knowledge.embed import EmbeddingNotFinite, vector_key
from roadbed.knowledge.index import vector_table
from roadbed.knowledge.snapshot import GenerationSnapshot

EXACT_ROWS_MAX = 10_000
HNSW_VISIBLE_SHARE_MIN = 0.05
GATHER_SHARE_MAX = 0.25
EF_SEARCH_MAX = 400
SCAN_TUPLES_MIN, SCAN_TUPLES_MAX = 20_000, 200_000
ABSENT = np.float32(-2.0)  # below every cosine

Vectors = NDArray[np.float32]
Plan = Literal["memory", "exact", "hnsw"]


class DocumentEmbedder(Protocol):
    """What ingest needs of ``embed.EmbeddingWorker``."""

    @property
    def digest(self) -> str:
        """The name of the function from text to vector."""

    @property
    def dimensions(self) -> int:
        """The length of a vector."""

    async def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """A row per text; a zero row for a text without a token."""


def choose_plan(*, rows: int, visible: int, in_memory: bool, has_hnsw: bool) -> Plan:
    """How to find the nearest visible vectors (field measurements: the whole matrix in memory beats every index)."""
    if in_memory:
        return "memory"
    if has_hnsw and visible > EXACT_ROWS_MAX and visible >= HNSW_VISIBLE_SHARE_MIN * rows:
        return "hnsw"
    return "exact"


def cosines(snapshot: GenerationSnapshot, query: Vectors, visible: NDArray[np.bool_]) -> Vectors:
    """The cosine of every row of a snapshot that holds its vectors; `ABSENT` where there is none or none visible."""
    assert snapshot.vectors is not None
    wanted = visible & snapshot.has_vector[: len(visible)]
    positions = np.flatnonzero(wanted)
    result = np.full(len(visible), ABSENT, np.float32)
    if len(positions) <= GATHER_SHARE_MAX * len(visible):
        result[positions] = np.vecdot(snapshot.vectors[positions], query)
    else:
        # Not `@`: its BLAS threads wait by spinning, which took p99 from 30 to 60 ms on a busy machine with two cores.
        every = np.vecdot(snapshot.vectors[: len(visible)], query)
        result[positions] = every[positions]
    return result


async def cosines_by_sql(
    database: Any, snapshot: GenerationSnapshot, query: Vectors, visible: NDArray[np.bool_], *, limit: int, plan: Plan
) -> Vectors:
    """The same from the table of vectors, for the ``limit`` nearest visible rows."""
    result = np.full(len(visible), ABSENT, np.float32)
    positions = np.flatnonzero(visible & snapshot.has_vector[: len(visible)])
    table = vector_table(snapshot.generation)
    half = query.astype(np.float16)
    async with database.transaction(readonly=True) as connection:
        if plan == "hnsw":
            await connection.execute(f"SET LOCAL hnsw.ef_search = {min(EF_SEARCH_MAX, 40 + 4 * limit)}")
            await connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
            scan = int(np.clip(8 * limit * len(visible) / max(1, len(positions)), SCAN_TUPLES_MIN, SCAN_TUPLES_MAX))
            await connection.execute(f"SET LOCAL hnsw.max_scan_tuples = {scan}")
            rows = await connection.fetch(
                f"SELECT chunk_no, 1 - (embedding <=> $1) AS cosine FROM {table} "  # noqa: S608 - our own integer
                "ORDER BY embedding <=> $1 LIMIT $2",
                half,
                2 * limit,
            )
        else:
            rows = await connection.fetch(
                f"SELECT chunk_no, 1 - (embedding <=> $1) AS cosine FROM {table} "  # noqa: S608 - our own integer
                "WHERE chunk_no = ANY($3::int[]) ORDER BY (embedding <=> $1) + 0 LIMIT $2",
                half,
                limit,
                snapshot.number[positions].tolist(),
            )
    for row in rows:
        position = int(snapshot.position_of[row["chunk_no"]])
        if 0 <= position < len(visible) and visible[position]:
            result[position] = row["cosine"]
    return result


async def create_hnsw(database: Any, generation: int) -> None:
    """Build the HNSW index of a large generation and tell the planner that it is there."""
    table = vector_table(generation)
    await database.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {table}_hnsw ON {table} USING hnsw (embedding halfvec_cosine_ops)",
        timeout_s=600.0,
    )
    await database.execute("UPDATE generation SET has_hnsw = true WHERE id = $1", generation)


def rounded(vectors: Vectors) -> Vectors:
    """Vectors as the index keeps them: through half precision, so that memory and SQL compare the same numbers."""
    return vectors.astype(np.float16).astype(np.float32)


async def embed_texts(
    database: Any, embedder: DocumentEmbedder, texts: Sequence[str]
) -> list[tuple[bytes, Vectors | None]]:
    """For each text the cache key and the vector (``None`` when it has none), embedding only what is not cached."""
    keys = [vector_key(embedder.digest, text) for text in texts]
    rows = await database.fetch("SELECT key, embedding FROM vector_cache WHERE key = ANY($1::bytea[])", keys)
    vectors: dict[bytes, Vectors] = {row["key"]: np.frombuffer(row["embedding"], "<f4") for row in rows}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
    if missing:
        made = await _embed_or_leave_out(embedder, list(missing.values()))
        vectors.update(zip(missing, made, strict=True))
    return [(key, vectors[key] if vectors[key].any() else None) for key in keys]


async def _embed_or_leave_out(embedder: DocumentEmbedder, texts: list[str]) -> Vectors:
    """Vectors of all texts; a zero row for those that the model answers with NaN, so that the others are not lost."""
    try:
        return await embedder.embed_documents(texts)
    except EmbeddingNotFinite as error:
        broken = set(error.positions)
        kept = [i for i in range(len(texts)) if i not in broken]
        result = np.zeros((len(texts), embedder.dimensions), np.float32)
        result[kept] = await embedder.embed_documents([texts[i] for i in kept])
        return result


async def remember_vectors(connection: Any, vectors: dict[bytes, Vectors]) -> None:
    """Keep freshly made vectors; the caller's transaction also writes the chunks that use them."""
    await connection.execute(
        "INSERT INTO vector_cache (key, embedding) SELECT * FROM unnest($1::bytea[], $2::bytea[]) "
        "ON CONFLICT DO NOTHING",
        list(vectors),
        [vector.astype("<f4").tobytes() for vector in vectors.values()],
    )
