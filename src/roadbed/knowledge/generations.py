"""Collections and the generations of their index: which one serves, what made it, and building the next beside it.

Owns the tables collection, collection_source and generation. A generation is named by its recipe (embedding model,
chunker, analyzer, chunk size); when a collection's recipe changes, a new one is built while the old one serves and
both take every write, then `flip` puts it live. The invariant: exactly one generation of a collection is live, and
documents, tombstones and acls stand outside generations, so that no flip brings a deleted document back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from roadbed.knowledge.index import cancel_index_builds, create_vector_table, vector_table

Connection = Any


class Recipe(msgspec.Struct, frozen=True):
    """What makes a generation: any difference means another one."""

    embedder: str
    dimensions: int
    chunker: str
    chunk_tokens: int
    analyzer: str


class Generation(msgspec.Struct, frozen=True):
    """One build of a collection's index."""

    id: int
    collection: str
    state: str
    recipe: Recipe
    has_hnsw: bool = False


_SELECT = "SELECT g.id, g.collection, g.state, g.recipe, g.has_hnsw "


def _generation(row: Any) -> Generation:
    return Generation(
        row["id"], row["collection"], row["state"], msgspec.convert(row["recipe"], Recipe), row["has_hnsw"]
    )


async def declare_collection(connection: Connection, name: str, sources: Sequence[str], recipe: Recipe) -> Generation:
    """Record a collection as the manifest has it. Returns the generation to fill: the live one, or one being built."""
    await connection.execute(
        "INSERT INTO collection (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET is_declared = true", name
    )
    await connection.fetchrow("SELECT name FROM collection WHERE name = $1 FOR UPDATE", name)
    await connection.execute(
        "DELETE FROM collection_source WHERE collection = $1 AND source <> ALL($2::text[])", name, list(sources)
    )
    await connection.execute(
        "INSERT INTO collection_source (collection, source) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        name,
        list(sources),
    )
    rows = await connection.fetch(
        _SELECT + "FROM generation g WHERE g.collection = $1 AND g.state <> 'retired' ORDER BY g.id", name
    )
    known = [_generation(row) for row in rows]
    wanted = next((generation for generation in known if generation.recipe == recipe), None)
    for generation in known:  # a build of a recipe that is wanted no more
        if generation.state == "building" and generation is not wanted:
            await retire(connection, generation)
    if wanted is not None:
        return wanted
    live = any(generation.state == "live" for generation in known)
    return await _create(connection, name, recipe, "building" if live else "live")


async def _create(connection: Connection, collection: str, recipe: Recipe, state: str) -> Generation:
    row = await connection.fetchrow(
        "INSERT INTO generation (collection, state, recipe, live_at) "
        "VALUES ($1, $2, $3, CASE WHEN $2 = 'live' THEN now() END) RETURNING id",
        collection,
        state,
        msgspec.to_builtins(recipe),
    )
    await create_vector_table(connection, row["id"], recipe.dimensions)
    if state == "live":
        await connection.execute("UPDATE collection SET live_generation = $2 WHERE name = $1", collection, row["id"])
    return Generation(row["id"], collection, state, recipe)


async def forget_collections(connection: Connection, declared: Sequence[str]) -> None:
    """Mark collections that the manifest no longer has and let go of their sources; their index is retired."""
    rows = await connection.fetch(
        _SELECT + "FROM generation g JOIN collection c ON c.name = g.collection "
        "WHERE g.state <> 'retired' AND c.name <> ALL($1::text[])",
        list(declared),
    )
    for row in rows:
        await retire(connection, _generation(row))
    await connection.execute(
        "UPDATE collection SET is_declared = false, live_generation = NULL WHERE name <> ALL($1::text[])",
        list(declared),
    )
    await connection.execute("DELETE FROM collection_source WHERE collection <> ALL($1::text[])", list(declared))


async def live_generations(connection: Connection) -> dict[str, Generation]:
    """The serving generation of every collection."""
    rows = await connection.fetch(
        _SELECT + "FROM collection c JOIN generation g ON g.id = c.live_generation WHERE c.is_declared"
    )
    return {row["collection"]: _generation(row) for row in rows}


async def generations_in_use(connection: Connection) -> list[Generation]:
    """Those that serve and those that are being built."""
    rows = await connection.fetch(_SELECT + "FROM generation g WHERE g.state <> 'retired' ORDER BY g.id")
    return [_generation(row) for row in rows]


async def generation_by_id(connection: Connection, generation: int) -> Generation | None:
    """One generation, or ``None`` when there is no such."""
    row = await connection.fetchrow(_SELECT + "FROM generation g WHERE g.id = $1", generation)
    return None if row is None else _generation(row)


async def generations_of_source(connection: Connection, source: str) -> list[Generation]:
    """Where documents of this source are written: live generations and those being built, by rising id."""
    rows = await connection.fetch(
        _SELECT + "FROM generation g JOIN collection_source s ON s.collection = g.collection "
        "WHERE s.source = $1 AND g.state <> 'retired' ORDER BY g.id",
        source,
    )
    return [_generation(row) for row in rows]


async def generations_of_documents(connection: Connection, document_ids: Sequence[str]) -> dict[int, list[str]]:
    """Which generations hold chunks of these documents, whatever their state."""
    rows = await connection.fetch(
        "SELECT generation, array_agg(DISTINCT document_id) AS documents FROM chunk "
        "WHERE document_id = ANY($1::text[]) GROUP BY generation ORDER BY generation",
        list(document_ids),
    )
    return {row["generation"]: list(row["documents"]) for row in rows}


async def missing_documents(connection: Connection, generation: Generation, after: str, limit: int) -> list[str]:
    """Indexed documents of the collection that this generation holds nothing of, by rising id."""
    rows = await connection.fetch(
        """
        SELECT d.id FROM document d JOIN collection_source s ON s.source = d.source AND s.collection = $2
        WHERE d.version IS NOT NULL AND d.id > $3
          AND NOT EXISTS (SELECT FROM chunk c WHERE c.document_id = d.id AND c.generation = $1)
        ORDER BY d.id LIMIT $4
        """,
        generation.id,
        generation.collection,
        after,
        limit,
    )
    return [row["id"] for row in rows]


async def foreign_documents(connection: Connection, generation: Generation, limit: int) -> list[tuple[str, int]]:
    """Documents in this generation whose source is not of its collection any more: (id, number)."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT d.id, d.no FROM chunk c JOIN document d ON d.id = c.document_id
        WHERE c.generation = $1
          AND NOT EXISTS (SELECT FROM collection_source s WHERE s.collection = $2 AND s.source = d.source) LIMIT $3
        """,
        generation.id,
        generation.collection,
        limit,
    )
    return [(row["id"], row["no"]) for row in rows]


async def flip(connection: Connection, generation: Generation) -> bool:
    """Put a built generation live; ``False`` when it is not being built any more.

    The one before takes no more writes; it is erased by `erase_retired`, after searches that began on it have ended.
    """
    current = await connection.fetchval(
        "SELECT live_generation FROM collection WHERE name = $1 FOR UPDATE", generation.collection
    )
    changed = await connection.fetchval(
        "UPDATE generation SET state = 'live', live_at = now() WHERE id = $1 AND state = 'building' RETURNING id",
        generation.id,
    )
    if changed is None:
        return False
    await connection.execute(
        "UPDATE collection SET live_generation = $2 WHERE name = $1", generation.collection, generation.id
    )
    if current is not None:
        await connection.execute("UPDATE generation SET state = 'retired' WHERE id = $1", current)
    return True


async def erase_retired(connection: Connection) -> list[int]:
    """Erase what retired generations still hold; their ids."""
    rows = await connection.fetch(
        _SELECT + "FROM generation g WHERE g.state = 'retired' "
        "AND EXISTS (SELECT FROM chunk c WHERE c.generation = g.id)"
    )
    for row in rows:
        await retire(connection, _generation(row))
    return [row["id"] for row in rows]


async def retire(connection: Connection, generation: Generation) -> None:
    """Take a generation out of use and erase what it holds, vectors and words too."""
    await connection.execute("UPDATE generation SET state = 'retired' WHERE id = $1", generation.id)
    await connection.execute("UPDATE collection SET live_generation = NULL WHERE live_generation = $1", generation.id)
    await connection.execute(
        "DELETE FROM vector_cache v WHERE v.key IN (SELECT vector_key FROM chunk WHERE generation = $1) "
        "AND NOT EXISTS (SELECT FROM chunk c WHERE c.vector_key = v.key AND c.generation <> $1)",
        generation.id,
    )
    for table in ("chunk", "chunk_lex", "lex_delta", "lex_term", "index_event"):
        await connection.execute(f"DELETE FROM {table} WHERE generation = $1", generation.id)  # noqa: S608
    await connection.execute("DELETE FROM vector_index WHERE generation = $1", generation.id)
    await cancel_index_builds(connection, generation.id)
    await connection.execute(f"DROP TABLE IF EXISTS {vector_table(generation.id)}")
