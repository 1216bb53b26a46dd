"""What the sources hold, as rows: declaring sources, recording what was listed, deleting documents, changing acls.

Owns the writing of the tables source, document (but not its content, which is ``ingest``'s) and tombstone. ``sync`` and
the facade call it, in their transactions. The invariant: locks are taken in one order everywhere (collections,
generations, documents by id), and a deletion or an acl change is in force when its transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from roadbed.kernel.label import PERSONAL, Label
from roadbed.knowledge.generations import generations_of_documents, generations_of_source
from roadbed.knowledge.index import INDEX_CHANNEL, lock_generations, note_acl_change, remove_documents
from roadbed.knowledge.permissions import acl_id_of

DELETE_BATCH = 200
ACL_BATCH = 2_000

Connection = Any


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A document that is new or has changed, as it was listed."""

    document_id: str
    key: str
    uri: str
    title: str
    listed_version: str
    size_bytes: int
    acl_id: int


async def lock_for_documents(
    connection: Connection, sources: Iterable[str], document_ids: Sequence[str]
) -> tuple[dict[str, frozenset[int]], dict[int, list[str]]]:
    """Become the only one who changes what generations hold of these documents.

    Returns each source's generations (none begins before this transaction ends) and, by generation, which of the
    documents it holds now.
    """
    names = sorted(set(sources))
    await connection.fetch(
        "SELECT name FROM collection WHERE name IN (SELECT collection FROM collection_source "
        "WHERE source = ANY($1::text[])) ORDER BY name FOR SHARE",
        names,
    )
    wanted = {
        source: frozenset(generation.id for generation in await generations_of_source(connection, source))
        for source in names
    }
    held = await generations_of_documents(connection, document_ids)
    await lock_generations(connection, [*held, *(generation for found in wanted.values() for generation in found)])
    return wanted, await generations_of_documents(connection, document_ids)


async def declare_source(database: Any, name: str, kind: str, groups: frozenset[str], label: Label) -> None:
    """Record a source as the manifest has it. Who may see its documents and their labels change at once."""
    words = label.words()
    async with database.transaction() as connection:
        acl_id = await acl_id_of(connection, groups)
        before = await connection.fetchrow("SELECT acl_id, label FROM source WHERE name = $1 FOR UPDATE", name)
        await connection.execute(
            "INSERT INTO source (name, kind, acl_id, label) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (name) DO UPDATE SET kind = $2, acl_id = $3, label = $4, is_declared = true",
            name,
            kind,
            acl_id,
            words,
        )
        if before is not None and before["label"] != words:
            await connection.execute(
                "UPDATE document SET guarded_label = $2::text[] || CASE WHEN $3 = ANY(guarded_label) "
                "AND NOT $3 = ANY($2::text[]) THEN ARRAY[$3] ELSE '{}'::text[] END WHERE source = $1",
                name,
                words,
                PERSONAL,
            )
    if before is not None and before["acl_id"] != acl_id:
        await change_acl(database, name, before["acl_id"], acl_id)


async def change_acl(database: Any, source: str, before: int, after: int) -> None:
    """Give the documents of a source that have one acl another."""
    while True:
        rows = await database.fetch(
            "SELECT id FROM document WHERE source = $1 AND acl_id = $2 ORDER BY id LIMIT $3", source, before, ACL_BATCH
        )
        if not rows:
            return
        async with database.transaction() as connection:
            await set_acls(database, connection, source, {row["id"]: after for row in rows})


async def set_acls(database: Any, connection: Connection, source: str, acl_of: dict[str, int]) -> None:
    """Set who may see these documents: one integer each, no vector or posting is touched."""
    ids = sorted(acl_of)
    _, held = await lock_for_documents(connection, [source], ids)
    rows = await connection.fetch("SELECT id, no FROM document WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE", ids)
    number_of = {row["id"]: row["no"] for row in rows}
    await connection.execute(
        "UPDATE document d SET acl_id = n.acl_id, changed_at = now() "
        "FROM unnest($1::text[], $2::int[]) AS n(id, acl_id) WHERE d.id = n.id",
        ids,
        [acl_of[document_id] for document_id in ids],
    )
    for generation, documents in held.items():
        await note_acl_change(connection, generation, [number_of[i] for i in documents if i in number_of])
        await database.notify(INDEX_CHANNEL, str(generation), connection=connection)


async def record_versions(connection: Connection, source: str, versions: Sequence[NewVersion]) -> None:
    """Record documents that are to be read; what is served of an older version stays until then."""
    ordered = sorted(versions, key=lambda version: version.document_id)
    ids = [version.document_id for version in ordered]
    await connection.fetch("SELECT id FROM document WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE", ids)
    await connection.execute(
        """
        INSERT INTO document (id, source, key, uri, title, acl_id, listed_version, size_bytes, state)
        SELECT n.id, $1, n.key, n.uri, n.title, n.acl_id, n.listed_version, n.size_bytes, 'pending'
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::text[], $8::bigint[])
             AS n(id, key, uri, title, acl_id, listed_version, size_bytes)
        ON CONFLICT (id) DO UPDATE SET uri = excluded.uri, listed_version = excluded.listed_version, state = 'pending',
            size_bytes = excluded.size_bytes, changed_at = now()
        """,
        source,
        ids,
        [version.key for version in ordered],
        [version.uri for version in ordered],
        [version.title for version in ordered],
        [version.acl_id for version in ordered],
        [version.listed_version for version in ordered],
        [version.size_bytes for version in ordered],
    )
    await connection.execute("DELETE FROM tombstone WHERE document_id = ANY($1::text[])", ids)


async def delete_documents(database: Any, source: str, document_ids: Sequence[str]) -> int:
    """Delete documents of a source with all that the index holds of them; how many there were."""
    deleted = 0
    ordered = sorted(document_ids)
    for start in range(0, len(ordered), DELETE_BATCH):
        ids = ordered[start : start + DELETE_BATCH]
        async with database.transaction() as connection:
            _, held = await lock_for_documents(connection, [source], ids)
            rows = await connection.fetch(
                "SELECT id, no FROM document WHERE id = ANY($1::text[]) AND source = $2 ORDER BY id FOR UPDATE",
                ids,
                source,
            )
            number_of = {row["id"]: row["no"] for row in rows}
            for generation, documents in held.items():
                pairs = [(i, number_of[i]) for i in documents if i in number_of]
                await remove_documents(connection, generation, pairs)
                await database.notify(INDEX_CHANNEL, str(generation), connection=connection)
            await connection.execute(
                "INSERT INTO tombstone (document_id) SELECT unnest($1::text[]) "
                "ON CONFLICT (document_id) DO UPDATE SET deleted_at = now()",
                list(number_of),
            )
            await connection.execute("DELETE FROM document WHERE id = ANY($1::text[])", list(number_of))
            await connection.execute("DELETE FROM document_reader WHERE document_id = ANY($1::text[])", list(number_of))
        deleted += len(number_of)
    return deleted


async def forget_sources(database: Any, declared: Sequence[str]) -> None:
    """Take sources that the manifest no longer has out of the index. Uploaded bytes are kept for their return."""
    rows = await database.fetch(
        "UPDATE source SET is_declared = false, state = 'new', listed_at = NULL "
        "WHERE name <> ALL($1::text[]) RETURNING name",
        list(declared),
    )
    for row in rows:
        ids = await database.fetch("SELECT id FROM document WHERE source = $1", row["name"])
        await delete_documents(database, row["name"], [entry["id"] for entry in ids])
