"""Erasing a value from documents: their text, chunks, words and vectors, in every generation, and uploaded originals.

Documents are written again from their stored text without the value, through the same way as any other version; an
upload that is no plain text is deleted whole. The invariant: after `erase`, no row of a document, chunk, posting or
vector of this room was made from a text that held the value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from roadbed.guard.erased import PLACEHOLDER
from roadbed.guard.mask import OffsetMap
from roadbed.kernel.errors import Conflict, NotFound
from roadbed.kernel.label import parse_label
from roadbed.knowledge.catalog import delete_documents
from roadbed.knowledge.connectors.uploads import Objects, UploadsConnector
from roadbed.knowledge.documents import decode_blocks, document_id_of
from roadbed.knowledge.index import INDEX_CHANNEL, lock_generations, remove_documents
from roadbed.knowledge.ingest import Ingest, Reading, moved_blocks
from roadbed.knowledge.parse.document import ParsedDocument

PAGE_DOCUMENTS = 50
TRIES_MAX = 5


class Finder(Protocol):
    """What finds the value: `guard.erased.WordFinder`."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where it stands, in order and disjoint."""

    def redacted(self, text: str) -> str | None:
        """The text without it; None when it holds none."""


class DocumentBusy(Conflict):
    """A document changed again and again while it was erased from."""

    code = "erasure.document_busy"
    hint = "wait until ingest has settled, and repeat"


@dataclass(slots=True)
class DocumentErasure:
    """Rows per store, and what could not be reached."""

    rows: dict[str, int] = field(default_factory=dict)
    unreachable: list[str] = field(default_factory=list)

    def count(self, store: str, number: int = 1) -> None:
        """Add to a store."""
        self.rows[store] = self.rows.get(store, 0) + number


async def erase(
    database: Any, ingest: Ingest, objects: Objects, finder: Finder, *, is_dry_run: bool
) -> DocumentErasure:
    """Erase from uploads and documents; with ``is_dry_run`` only count. `DocumentBusy`."""
    done = DocumentErasure()
    await _erase_uploads(database, objects, finder, done, is_dry_run=is_dry_run)
    after = ""
    while rows := await database.fetch(
        "SELECT * FROM document WHERE id > $1 ORDER BY id LIMIT $2", after, PAGE_DOCUMENTS
    ):
        for row in rows:
            await _erase_document(database, ingest, finder, row, done, is_dry_run=is_dry_run)
        after = rows[-1]["id"]
    return done


async def _erase_uploads(
    database: Any, objects: Objects, finder: Finder, done: DocumentErasure, *, is_dry_run: bool
) -> None:
    for row in await database.fetch("SELECT * FROM upload ORDER BY source, key"):
        content = await database.fetchval("SELECT content FROM document WHERE id = $1", _id_of(row)) or ""
        try:
            data = await objects.get(row["object_name"])
        except NotFound:
            continue
        text = _plain_text(data)
        redacted = finder.redacted(text) if text is not None else None
        is_named = bool(finder.spans(row["key"]))
        if redacted is None and not is_named and not (text is None and finder.spans(content)):
            continue
        done.count("uploads")
        if is_dry_run:
            continue
        connector = UploadsConnector(database, objects, row["source"])
        if redacted is not None and not is_named:
            groups = None if row["groups"] is None else frozenset(row["groups"])
            await connector.add(row["key"], redacted.encode(), row["media_type"], groups)
        else:
            await connector.remove(row["key"])
            await delete_documents(database, row["source"], [_id_of(row)])


async def _erase_document(
    database: Any, ingest: Ingest, finder: Finder, row: Any, done: DocumentErasure, *, is_dry_run: bool
) -> None:
    if finder.spans(f"{row['key']}\n{row['uri']}"):
        done.unreachable.append(f"a document of source {row['source']} has the value in its name: rename it there")
    content = row["content"] or ""
    spans, title = finder.spans(content), finder.redacted(row["title"])
    if not spans and title is None:
        return
    done.count("documents")
    done.count("chunks", await database.fetchval("SELECT count(*) FROM chunk WHERE document_id = $1", row["id"]))
    if is_dry_run or row["version"] is None:
        return
    for _ in range(TRIES_MAX):
        reading = _without(row, spans, finder.redacted(content) or content, title or row["title"])
        label = parse_label(row["guarded_label"])
        prepared = await ingest.prepare(row["id"], row["source"], row["listed_version"], reading, label)
        await _drop_elsewhere(database, row, sorted(prepared.chunks))
        if await ingest.store(prepared) == "stored":
            return
        row = await database.fetchrow("SELECT * FROM document WHERE id = $1 AND version IS NOT NULL", row["id"])
        if row is None:
            return
        content = row["content"]
        spans, title = finder.spans(content), finder.redacted(row["title"])
    raise DocumentBusy(f"document {row['id']} changes all the time")


def _without(row: Any, spans: Sequence[tuple[int, int]], text: str, title: str) -> Reading:
    """What was read of a document, without the value."""
    offsets = OffsetMap([(start, end, len(PLACEHOLDER)) for start, end in spans])
    parsed = ParsedDocument(
        text,
        moved_blocks(decode_blocks(row["blocks"]), offsets),
        title,
        row["language"],
        row["parser"],
        row["media_type"],
        tuple(row["warnings"]),
    )
    return Reading(row["version"], row["listed_version"], parsed, row["size_bytes"])


async def _drop_elsewhere(database: Any, row: Any, written: Sequence[int]) -> None:
    """Take the document out of generations that are not written any more, such as retired ones."""
    found = await database.fetch(
        "SELECT DISTINCT generation FROM chunk WHERE document_id = $1 AND generation <> ALL($2::int[])",
        *(row["id"], list(written)),
    )
    generations = [entry["generation"] for entry in found]
    if not generations:
        return
    async with database.transaction() as connection:
        await lock_generations(connection, generations)
        for generation in sorted(generations):
            await remove_documents(connection, generation, [(row["id"], row["no"])])
            await database.notify(INDEX_CHANNEL, str(generation), connection=connection)


def _plain_text(data: bytes) -> str | None:
    """Bytes as text; None for what is not UTF-8 or holds NUL."""
    if b"\0" in data[:65_536] or data[:5] == b"%PDF-":
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _id_of(row: Any) -> str:
    return document_id_of(row["source"], row["key"])
