"""Vectors: embedding with the cache by hash, the plan of the vector leg, and its exact comparison.

Owns the table vector_cache. Ingest calls `embed_texts`, search `choose_plan`, `cosines` and `cosines_by_sql`. While a
generation's vectors fit in memory they are compared there, exactly; beyond that in SQL, exactly inside a small visible
set, by HNSW for a large one when ``vector_index`` has built it. The invariant: whatever the plan, only visible rows are
candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from roadbed.knowledge.embed import EmbeddingNotFinite, vector_key
from roadbed.knowledge.index import vector_table
from roadbed.knowledge.snapshot import GONE, GenerationSnapshot

EXACT_ROWS_MAX = 10_000
HNSW_SURPLUS = 1.3
HNSW_FETCHED_MAX = 10_000
HNSW_COST_START = 4_000  # what a search by the index costs, in vectors compared exactly, and
HNSW_COST_PER_ROW = 25  # each row that comes out of it
GATHER_SHARE_MAX = 0.25
EF_SEARCH = 200
SCAN_TUPLES_PER_ROW, SCAN_TUPLES_MIN, SCAN_TUPLES_MAX = 4, 20_000, 200_000
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


def choose_plan(*, rows: int, visible: int, in_memory: bool, has_hnsw: bool, limit: int = 200) -> Plan:
    """How to find the nearest visible vectors: in memory, else by whichever of both ways in SQL costs less."""
    if in_memory:
        return "memory"
    if has_hnsw and visible > EXACT_ROWS_MAX:
        fetched = hnsw_fetched(rows=rows, visible=visible, limit=limit)
        if fetched <= HNSW_FETCHED_MAX and HNSW_COST_START + HNSW_COST_PER_ROW * fetched < visible:
            return "hnsw"
    return "exact"


def hnsw_fetched(*, rows: int, visible: int, limit: int) -> int:
    """How many rows to take out of the index so that ``limit`` visible ones are likely among them."""
    return min(rows, int(HNSW_SURPLUS * limit * rows / max(1, visible)) + 1)


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
    """The same from the table of vectors, for the ``limit`` nearest visible rows.

    Where the index gave fewer although there are more, they are compared exactly after all.
    """
    result = np.full(len(visible), ABSENT, np.float32)
    positions = np.flatnonzero(visible & snapshot.has_vector[: len(visible)])
    if plan == "hnsw":
        fetched = hnsw_fetched(rows=len(visible), visible=len(positions), limit=limit)
        near = await nearest_by_hnsw(database, snapshot.generation, query, fetched)
        if _enter(result, snapshot, visible, near) >= min(limit, len(positions)):
            return result
    numbers = snapshot.number[positions].tolist()
    _enter(result, snapshot, visible, await nearest_exactly(database, snapshot.generation, query, limit, numbers))
    return result


def _enter(
    result: Vectors, snapshot: GenerationSnapshot, visible: NDArray[np.bool_], near: Sequence[tuple[int, float]]
) -> int:
    """Put the cosines of those that are visible in their places; how many there were."""
    count = 0
    for number, cosine in near:
        # A chunk that this copy does not know yet was written since it was made.
        position = int(snapshot.position_of[number]) if number < len(snapshot.position_of) else GONE
        if 0 <= position < len(visible) and visible[position]:
            result[position] = cosine
            count += 1
    return count


async def nearest_exactly(
    database: Any,
    generation: int,
    query: Vectors,
    limit: int,
    numbers: Sequence[int] | None = None,
    timeout_s: float = 30.0,
) -> list[tuple[int, float]]:
    """Number and cosine of the nearest, of these chunks or of all, found by comparing each."""
    # Not one statement for both: with an OR, PostgreSQL walks the whole list for each row. `+ 0` keeps off the index.
    which = "" if numbers is None else "WHERE chunk_no = ANY($3::int[]) "
    rows = await database.fetch(
        f"SELECT chunk_no, 1 - (embedding <=> $1) AS cosine FROM {vector_table(generation)} "  # noqa: S608 - own integer
        f"{which}ORDER BY (embedding <=> $1) + 0 LIMIT $2",
        query.astype(np.float16),
        limit,
        *(() if numbers is None else (numbers,)),
        timeout_s=timeout_s,
    )
    return [(row["chunk_no"], row["cosine"]) for row in rows]


async def nearest_by_hnsw(database: Any, generation: int, query: Vectors, fetched: int) -> list[tuple[int, float]]:
    """The same of all chunks by way of the index, nearly in order; some of the nearest can be missing."""
    table = vector_table(generation)
    async with database.transaction(readonly=True) as connection:
        scanned = int(np.clip(SCAN_TUPLES_PER_ROW * fetched, SCAN_TUPLES_MIN, SCAN_TUPLES_MAX))
        await connection.execute(
            f"SET LOCAL hnsw.ef_search = {EF_SEARCH}; SET LOCAL hnsw.iterative_scan = relaxed_order; "
            f"SET LOCAL hnsw.max_scan_tuples = {scanned}; SET LOCAL enable_seqscan = off"
        )
        rows = await connection.fetch(
            f"SELECT chunk_no, 1 - (embedding <=> $1) AS cosine FROM {table} "  # noqa: S608 - our own integer
            "ORDER BY embedding <=> $1 LIMIT $2",
            query.astype(np.float16),
            fetched,
        )
    return [(row["chunk_no"], row["cosine"]) for row in rows]


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
