"""The index of one generation in PostgreSQL: chunks, postings, forward rows and vectors, written and removed
together.

Owns the tables chunk, lex_term, lex_delta, chunk_lex, chunk_vector_<generation> and index_event. Called by ingest, by
the builder of a generation and by deletion, always inside the caller's transaction; the caller then notifies
`INDEX_CHANNEL`. It does not read for search: see ``snapshot`` and ``postings``. The invariant: a writer holds the
generation's row lock from its first change to its commit, so ``chunk_no`` and ``epoch`` rise in the order of commits,
and nothing about a removed chunk stays, not even a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TF_MAX = 32_767
EVENT_EPOCHS_KEPT = 10_000
INDEX_CHANNEL = "roadbed_index"

Connection = Any


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """One chunk as it is written: its span in the canonical text, its words and its vector.

    ``vector`` is ``None`` for a text without a token: the chunk is then found by its words alone.
    """

    chunk_id: str
    start: int
    end: int
    text: str
    page: int | None
    location: str
    heading_path: tuple[str, ...]
    frequencies: Mapping[str, int]
    length: int
    vector_key: bytes | None = None
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class DocumentChunks:
    """All chunks of one document in one generation."""

    document_id: str
    document_no: int
    chunks: Sequence[IndexedChunk]


def vector_table(generation: int) -> str:
    """The name of a generation's table of vectors."""
    return f"chunk_vector_{int(generation)}"


async def create_vector_table(connection: Connection, generation: int, dimensions: int) -> None:
    """Make the table of vectors of a new generation."""
    table = vector_table(generation)
    await connection.execute(
        f"CREATE TABLE {table} (chunk_no integer PRIMARY KEY, embedding halfvec({int(dimensions)}) NOT NULL)"
    )
    await connection.execute(f"ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN")


async def cancel_index_builds(connection: Connection, generation: int) -> None:
    """Break off what builds an index over a generation's vectors: it holds the table for as long as that takes."""
    await connection.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index WHERE relid = to_regclass($1)",
        vector_table(generation),
    )


async def lock_generations(connection: Connection, generations: Sequence[int]) -> None:
    """Become the only writer of these generations until the transaction ends; always in the same order."""
    await connection.fetch(
        "SELECT id FROM generation WHERE id = ANY($1::int[]) ORDER BY id FOR UPDATE", sorted(set(generations))
    )


async def replace_documents(connection: Connection, generation: int, documents: Sequence[DocumentChunks]) -> None:
    """Put these documents' chunks in place of whatever the generation holds of them. The generation must be locked."""
    removed = await _remove(connection, generation, [document.document_id for document in documents])
    total = sum(len(document.chunks) for document in documents)
    row = await connection.fetchrow(
        "UPDATE generation SET next_chunk_no = next_chunk_no + $2, epoch = epoch + 1 WHERE id = $1 "
        "RETURNING next_chunk_no - $2 AS first, epoch",
        generation,
        total,
    )
    await _write_events(connection, generation, row["epoch"], [d.document_no for d in documents if removed.of(d)])
    chunks = [(document.document_id, chunk) for document in documents for chunk in document.chunks]
    if chunks:
        await _write_chunks(connection, generation, row["first"], chunks)
        await _write_words(connection, generation, row["first"], [chunk for _, chunk in chunks])
    await _purge(connection, generation, removed)


async def remove_documents(connection: Connection, generation: int, documents: Sequence[tuple[str, int]]) -> None:
    """Take these (document id, document number) out of a generation that the caller has locked."""
    empty = [DocumentChunks(document_id, number, ()) for document_id, number in documents]
    await replace_documents(connection, generation, empty)


async def note_acl_change(connection: Connection, generation: int, document_numbers: Sequence[int]) -> None:
    """Tell processes with a copy in memory that these documents have other readers now. The caller has the lock."""
    epoch = await connection.fetchval(
        "UPDATE generation SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch", generation
    )
    await _write_events(connection, generation, epoch, document_numbers)


@dataclass(frozen=True, slots=True)
class _Removed:
    document_ids: frozenset[str]
    term_ids: list[int]
    vector_keys: list[bytes]

    def of(self, document: DocumentChunks) -> bool:
        return document.document_id in self.document_ids


async def _remove(connection: Connection, generation: int, document_ids: Sequence[str]) -> _Removed:
    rows = await connection.fetch(
        "DELETE FROM chunk WHERE generation = $1 AND document_id = ANY($2::text[]) "
        "RETURNING chunk_no, document_id, vector_key",
        generation,
        list(document_ids),
    )
    if not rows:
        return _Removed(frozenset(), [], [])
    numbers = [row["chunk_no"] for row in rows]
    await connection.execute(
        f"DELETE FROM {vector_table(generation)} WHERE chunk_no = ANY($1::int[])",  # noqa: S608 - our own integer
        numbers,
    )
    terms = await connection.fetch(
        """
        WITH gone AS (DELETE FROM chunk_lex WHERE generation = $1 AND chunk_no = ANY($2::int[])
                      RETURNING chunk_no, terms),
             posting AS (SELECT chunk_no, unnest(terms) AS term_id FROM gone),
             erased AS (DELETE FROM lex_delta d USING posting p
                        WHERE d.generation = $1 AND d.term_id = p.term_id AND d.chunk_no = p.chunk_no)
        SELECT DISTINCT term_id FROM posting
        """,
        generation,
        numbers,
    )
    keys = {row["vector_key"] for row in rows if row["vector_key"] is not None}
    return _Removed(frozenset(row["document_id"] for row in rows), [row["term_id"] for row in terms], sorted(keys))


async def _purge(connection: Connection, generation: int, removed: _Removed) -> None:
    """Forget the words and cached vectors that only removed chunks had."""
    if removed.term_ids:
        await connection.execute(
            """
            DELETE FROM lex_term t WHERE t.generation = $1 AND t.term_id = ANY($2::int[])
            AND NOT EXISTS (SELECT FROM lex_delta d WHERE d.generation = $1 AND d.term_id = t.term_id)
            """,
            generation,
            removed.term_ids,
        )
    if removed.vector_keys:
        await connection.execute(
            "DELETE FROM vector_cache v WHERE v.key = ANY($1::bytea[]) "
            "AND NOT EXISTS (SELECT FROM chunk c WHERE c.vector_key = v.key)",
            removed.vector_keys,
        )


async def _write_events(connection: Connection, generation: int, epoch: int, numbers: Sequence[int]) -> None:
    if numbers:
        await connection.execute(
            "INSERT INTO index_event (generation, epoch, document_no) "
            "SELECT DISTINCT $1::int, $2::bigint, unnest($3::int[])",
            generation,
            epoch,
            list(numbers),
        )
    if epoch % EVENT_EPOCHS_KEPT == 0:
        after = epoch - EVENT_EPOCHS_KEPT
        await connection.execute("DELETE FROM index_event WHERE generation = $1 AND epoch <= $2", generation, after)
        await connection.execute("UPDATE generation SET events_after = $2 WHERE id = $1", generation, after)


async def _write_chunks(
    connection: Connection, generation: int, first: int, chunks: Sequence[tuple[str, IndexedChunk]]
) -> None:
    await connection.copy_records_to_table(
        "chunk",
        records=[
            (generation, first + i, chunk.chunk_id, document_id, chunk.start, chunk.end, chunk.text, chunk.page,
             chunk.location, list(chunk.heading_path), chunk.vector_key if chunk.vector is not None else None)
            for i, (document_id, chunk) in enumerate(chunks)
        ],
        columns=("generation", "chunk_no", "chunk_id", "document_id", "start_at", "end_at", "text", "page", "location",
                 "heading_path", "vector_key"),
    )  # fmt: skip
    vectors = [(first + i, chunk.vector) for i, (_, chunk) in enumerate(chunks) if chunk.vector is not None]
    if vectors:
        await connection.copy_records_to_table(
            vector_table(generation), records=vectors, columns=("chunk_no", "embedding")
        )


async def _write_words(connection: Connection, generation: int, first: int, chunks: Sequence[IndexedChunk]) -> None:
    terms = sorted({term for chunk in chunks for term in chunk.frequencies})
    await connection.execute(
        "INSERT INTO lex_term (generation, term) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        generation,
        terms,
    )
    rows = await connection.fetch(
        "SELECT term, term_id FROM lex_term WHERE generation = $1 AND term = ANY($2::text[])", generation, terms
    )
    id_of = {row["term"]: row["term_id"] for row in rows}
    forward, postings = [], []
    for i, chunk in enumerate(chunks):
        number = first + i
        pairs = sorted((id_of[term], min(tf, TF_MAX)) for term, tf in chunk.frequencies.items())
        forward.append((generation, number, chunk.length, [pair[0] for pair in pairs], [pair[1] for pair in pairs]))
        postings += [(generation, term_id, number, tf) for term_id, tf in pairs]
    postings.sort()
    await connection.copy_records_to_table(
        "chunk_lex", records=forward, columns=("generation", "chunk_no", "dl", "terms", "tfs")
    )
    await connection.copy_records_to_table(
        "lex_delta", records=postings, columns=("generation", "term_id", "chunk_no", "tf")
    )
