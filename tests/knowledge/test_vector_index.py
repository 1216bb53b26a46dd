"""The index of vectors: built once memory is outgrown, measured, used under permissions, and dropped again."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from roadbed.knowledge import vector_index
from roadbed.knowledge.generations import Generation, live_generations, retire
from roadbed.knowledge.index import vector_table
from roadbed.knowledge.snapshot import GenerationSnapshot
from roadbed.knowledge.vector_index import INDEX_MEMORY_SHARE, VectorIndexes, rows_from
from roadbed.knowledge.vectors import ABSENT, Vectors, cosines_by_sql, nearest_by_hnsw, nearest_exactly
from roadbed.store.errors import StoreTimeout

pytestmark = pytest.mark.services

ROWS = 1_200


def vectors_like_texts(count: int, dimensions: int, seed: int = 5) -> Vectors:
    """Unit vectors in clusters, as those of texts are."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dimensions))
    made = centres[random.integers(0, 20, count)] + 0.7 * random.standard_normal((count, dimensions))
    unit: Vectors = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)
    return unit


async def with_vectors(bench: Any, count: int = ROWS) -> tuple[Generation, Vectors]:
    """The live generation of a collection, with so many vectors of nothing in its table."""
    await bench.configure()
    generation = (await live_generations(bench.database))["all"]
    vectors = vectors_like_texts(count, generation.recipe.dimensions)
    await bench.database.execute(f"DELETE FROM {vector_table(generation.id)}")
    async with bench.database.connection() as connection:
        records = list(enumerate(vectors))
        await connection.copy_records_to_table(
            vector_table(generation.id), records=records, columns=("chunk_no", "embedding")
        )
    await bench.database.execute("UPDATE generation SET next_chunk_no = $1", count)
    return generation, vectors


def for_rows(bench: Any, generation: Generation, rows: int) -> VectorIndexes:
    """What looks after indexes where memory holds so little that ``rows`` vectors call for one."""
    bytes_max = int(rows * 4 * generation.recipe.dimensions / INDEX_MEMORY_SHARE) + 1
    assert rows_from(generation.recipe.dimensions, vector_bytes_max=bytes_max) == rows
    return VectorIndexes(bench.database, bench.jobs, vector_bytes_max=bytes_max)


async def is_used(bench: Any) -> bool:
    """Whether searches use the index."""
    return (await live_generations(bench.database))["all"].has_hnsw


async def is_valid(bench: Any, generation: Generation) -> bool | None:
    """Whether the index is whole; None when there is none."""
    found: bool | None = await bench.database.fetchval(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", f"{vector_table(generation.id)}_hnsw"
    )
    return found


async def test_it_is_built_measured_used_and_dropped_as_a_collection_grows_and_shrinks(bench: Any) -> None:
    generation, _ = await with_vectors(bench)
    await for_rows(bench, generation, ROWS + 1).look()
    assert await is_valid(bench, generation) is None

    indexes = for_rows(bench, generation, ROWS)
    await indexes.look()
    assert await is_valid(bench, generation)
    assert await is_used(bench)
    measured = await bench.database.fetchrow("SELECT * FROM vector_index")
    assert (measured["generation"], measured["rows"]) == (generation.id, ROWS)
    assert measured["recall"] >= 0.95

    await indexes.look()
    assert (await bench.database.fetchrow("SELECT * FROM vector_index")) == measured

    table = vector_table(generation.id)
    await bench.database.execute(f"DELETE FROM {table} WHERE chunk_no >= {ROWS // 2 - 1}")
    await indexes.look()
    assert await is_valid(bench, generation) is None
    assert not await is_used(bench)


async def test_it_is_looked_after_from_the_first_start_on(bench: Any) -> None:
    await bench.configure()
    async with asyncio.timeout(60):
        while not await bench.database.fetchval(  # noqa: ASYNC110 - what is waited for is a row
            "SELECT count(*) FROM job WHERE name = $1 AND run_after > now()", vector_index.INDEX_JOB
        ):
            await asyncio.sleep(0.01)


async def half_built(bench: Any, table: str) -> None:
    """Break a build off in its middle."""
    async with bench.database.connection() as connection:
        await connection.execute("SET statement_timeout = 20")
        await connection.execute(
            f"CREATE INDEX CONCURRENTLY {table}_hnsw ON {table} USING hnsw (embedding halfvec_cosine_ops)"
        )


async def test_a_build_that_broke_off_is_begun_again(bench: Any) -> None:
    generation, _ = await with_vectors(bench)
    with pytest.raises(StoreTimeout):
        await half_built(bench, vector_table(generation.id))
    assert await is_valid(bench, generation) is False
    await for_rows(bench, generation, ROWS).look()
    assert await is_valid(bench, generation)
    assert await is_used(bench)


async def test_an_index_that_finds_too_little_is_not_used(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generation, _ = await with_vectors(bench)
    monkeypatch.setattr(vector_index, "RECALL_MIN", 1.01)
    indexes = for_rows(bench, generation, ROWS)
    await indexes.look()
    assert await is_valid(bench, generation) is None
    assert not await is_used(bench)
    before = await bench.database.fetchval("SELECT measured_at FROM vector_index")
    await indexes.look()  # and is not built over and over
    assert await bench.database.fetchval("SELECT measured_at FROM vector_index") == before


async def test_it_waits_while_memory_still_holds_what_is_being_filled(bench: Any) -> None:
    bench.write("a.txt", "Lamps shine.")
    generation, _ = await with_vectors(bench)
    await bench.database.execute("UPDATE document SET state = 'pending'")
    await for_rows(bench, generation, ROWS).look()
    assert await is_valid(bench, generation) is None
    await for_rows(bench, generation, ROWS // 2).look()
    assert await is_valid(bench, generation)


async def test_by_the_index_only_what_is_visible_is_found_and_no_less_than_there_is(bench: Any) -> None:
    generation, vectors = await with_vectors(bench)
    await for_rows(bench, generation, ROWS).look()
    known = ROWS - 10  # the last ones came since this copy was made
    snapshot = GenerationSnapshot(generation.id, generation.recipe.dimensions, vector_bytes_max=0)
    fields = {"dl": 1, "acl_id": 0, "has_vector": True, "embedding": None}
    snapshot.append([{"chunk_no": number, "document_no": number, **fields} for number in range(known)], known)
    snapshot.settle()
    random = np.random.default_rng(7)
    for share in (1.0, 0.3, 0.02):
        visible = random.random(known) < share
        for query in vectors_like_texts(5, generation.recipe.dimensions, seed=11):
            found = await cosines_by_sql(bench.database, snapshot, query, visible, limit=20, plan="hnsw")
            exact = np.where(visible, vectors[:known] @ query, ABSENT)
            best = np.argsort(-exact)[: min(20, visible.sum())]
            assert not (found[~visible] > ABSENT).any()
            assert (found > ABSENT).sum() >= len(best)
            assert np.isin(best[:10], np.flatnonzero(found > ABSENT)).mean() >= 0.9


async def test_the_index_answers_as_comparing_each_does(bench: Any) -> None:
    generation, vectors = await with_vectors(bench)
    await for_rows(bench, generation, ROWS).look()
    exact = await nearest_exactly(bench.database, generation.id, vectors[3], 10)
    indexed = await nearest_by_hnsw(bench.database, generation.id, vectors[3], 10)
    assert exact[0][0] == indexed[0][0] == 3
    assert len({number for number, _ in exact} & {number for number, _ in indexed}) >= 9


async def test_a_retired_generation_does_not_wait_for_the_index_that_is_built_over_it(bench: Any) -> None:
    generation, _ = await with_vectors(bench, 4 * ROWS)
    building = asyncio.create_task(for_rows(bench, generation, ROWS).look())
    async with asyncio.timeout(60):
        while not await bench.database.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        async with bench.database.transaction() as connection:
            await retire(connection, generation)
        await building
    assert await bench.database.fetchval("SELECT to_regclass($1)", vector_table(generation.id)) is None
    assert await bench.database.fetchval("SELECT count(*) FROM vector_index") == 0
