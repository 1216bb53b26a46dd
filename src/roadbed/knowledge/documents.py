"""Documents as rows: their ids, states and views. Reading one back is always under the caller's permissions.

Owns the tables document, source (as a list) and tombstone for reading; ``sync`` and ``ingest`` write them. Called by
the facade. The invariant: an unknown document and one that the caller may not see are told apart by nobody.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from roadbed.kernel.errors import NotFound
from roadbed.kernel.label import Label, parse_label
from roadbed.knowledge.parse.document import Block
from roadbed.knowledge.permissions import VISIBLE_TO_GROUPS

DOCUMENT_ID_LENGTH = 26
LIST_LIMIT_MAX = 1_000

DocumentState = Literal["pending", "indexed", "failed"]

_blocks_encoder = msgspec.msgpack.Encoder()
_blocks_decoder = msgspec.msgpack.Decoder(list[tuple[str, int, int, int, int | None, str, bool]])


class DocumentNotFound(NotFound):
    """No document has this id, or the caller may not see it."""

    code = "knowledge.document_not_found"
    hint = "list the documents that the key may see"


@dataclass(frozen=True, slots=True)
class DocumentSummary:
    """One line of a list of documents. ``reason`` says why a failed one failed; ``groups`` who may see it."""

    id: str
    source: str
    key: str
    title: str
    uri: str
    state: DocumentState
    reason: str
    message: str
    warnings: tuple[str, ...]
    media_type: str
    size_bytes: int
    chunk_count: int
    groups: tuple[str, ...]
    indexed_at: datetime | None


@dataclass(frozen=True, slots=True)
class DocumentView:
    """A document to be read: its canonical text and, when a span was asked for, where that passage lies in it."""

    id: str
    source: str
    key: str
    title: str
    uri: str
    version: str
    text: str
    blocks: tuple[Block, ...]
    label: Label
    language: str | None
    media_type: str
    parser: str
    warnings: tuple[str, ...]
    groups: tuple[str, ...]
    indexed_at: datetime
    highlight: tuple[int, int] | None = None


def document_facts(view: DocumentView) -> dict[str, Any]:
    """What API and console tell of a document beside its text."""
    return {
        "id": view.id,
        "source": view.source,
        "key": view.key,
        "title": view.title,
        "uri": view.uri,
        "version": view.version,
        "labels": view.label.words(),
        "language": view.language,
        "media_type": view.media_type,
        "parser": view.parser,
        "warnings": view.warnings,
        "visible_to": view.groups,
        "indexed_at": view.indexed_at,
    }


@dataclass(frozen=True, slots=True)
class ChunkView:
    """One chunk of a document as search sees it."""

    chunk_id: str
    collection: str
    start: int
    end: int
    text: str
    page: int | None
    location: str
    heading_path: tuple[str, ...]
    has_vector: bool


def document_id_of(source: str, key: str) -> str:
    """The id of a source's document; the same on every machine and after every re-index."""
    digest = hashlib.sha256(f"{source}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return b32encode(digest).decode().lower()[:DOCUMENT_ID_LENGTH]


def encode_blocks(blocks: Sequence[Block]) -> bytes:
    """The block map as it is stored."""
    return _blocks_encoder.encode([(b.kind, b.start, b.end, b.level, b.page, b.location, b.hidden) for b in blocks])


def decode_blocks(data: bytes | None) -> tuple[Block, ...]:
    """The block map as it was stored."""
    return tuple(Block(*values) for values in _blocks_decoder.decode(data)) if data else ()  # type: ignore[arg-type]


async def read_document(
    database: Any, document_id: str, groups: frozenset[str], highlight: tuple[int, int] | None = None
) -> DocumentView:
    """A document that these groups may see, with its text. Raises `DocumentNotFound`."""
    row = await database.fetchrow(
        f"""
        SELECT d.*, (SELECT array_agg(group_name ORDER BY group_name) FROM acl_member a WHERE a.acl_id = d.acl_id)
               AS groups
        FROM document d WHERE d.id = $1 AND d.version IS NOT NULL AND {VISIBLE_TO_GROUPS.format("$2")}
        """,  # noqa: S608 - constants only
        document_id,
        sorted(groups),
    )
    if row is None:
        raise DocumentNotFound(f"there is no document {document_id!r} that this key may see")
    if highlight is not None:
        end = min(max(highlight[1], 0), len(row["content"]))
        highlight = (min(max(highlight[0], 0), end), end)
    return DocumentView(
        id=row["id"],
        source=row["source"],
        key=row["key"],
        title=row["title"] or row["key"],
        uri=row["uri"],
        version=row["version"],
        text=row["content"],
        blocks=decode_blocks(row["blocks"]),
        label=parse_label(row["guarded_label"]),
        language=row["language"],
        media_type=row["media_type"],
        parser=row["parser"],
        warnings=tuple(row["warnings"]),
        groups=tuple(row["groups"] or ()),
        indexed_at=row["indexed_at"],
        highlight=highlight,
    )


async def document_versions(database: Any, ids: Sequence[str], groups: frozenset[str]) -> dict[str, str]:
    """The served versions of those of these documents that these groups may see, by id."""
    rows = await database.fetch(
        f"""
        SELECT d.id, d.version FROM document d
        WHERE d.id = ANY($1::text[]) AND d.version IS NOT NULL AND {VISIBLE_TO_GROUPS.format("$2")}
        """,  # noqa: S608 - constants only
        list(ids),
        sorted(groups),
    )
    return {row["id"]: row["version"] for row in rows}


async def read_chunks(database: Any, document_id: str, groups: frozenset[str]) -> list[ChunkView]:
    """The chunks of a document that these groups may see, in every live generation. Raises `DocumentNotFound`."""
    rows = await database.fetch(
        f"""
        SELECT c.*, k.name AS collection
        FROM chunk c JOIN document d ON d.id = c.document_id JOIN collection k ON k.live_generation = c.generation
        WHERE c.document_id = $1 AND {VISIBLE_TO_GROUPS.format("$2")} ORDER BY k.name, c.start_at, c.chunk_no
        """,  # noqa: S608 - constants only
        document_id,
        sorted(groups),
    )
    if not rows:
        await read_document(database, document_id, groups)
    return [
        ChunkView(
            chunk_id=row["chunk_id"],
            collection=row["collection"],
            start=row["start_at"],
            end=row["end_at"],
            text=row["text"],
            page=row["page"],
            location=row["location"],
            heading_path=tuple(row["heading_path"]),
            has_vector=row["vector_key"] is not None,
        )
        for row in rows
    ]


async def list_documents(
    database: Any,
    source: str,
    groups: frozenset[str] | None,
    *,
    state: DocumentState | None = None,
    after_key: str = "",
    limit: int = 100,
) -> list[DocumentSummary]:
    """Documents of a source by key, from behind ``after_key``. ``groups=None`` is for admins: names, never text."""
    rows = await database.fetch(
        f"""
        SELECT d.*, (SELECT array_agg(group_name ORDER BY group_name) FROM acl_member a WHERE a.acl_id = d.acl_id)
               AS groups,
               (SELECT count(*) FROM chunk c JOIN collection k ON k.live_generation = c.generation
                WHERE c.document_id = d.id) AS chunk_count
        FROM document d
        WHERE d.source = $1 AND d.key > $3 AND ($4::text IS NULL OR d.state = $4)
          AND ($5 OR {VISIBLE_TO_GROUPS.format("$2")})
        ORDER BY d.key LIMIT $6
        """.replace("d.*", _SUMMARY_COLUMNS),  # noqa: S608 - constants only
        source,
        sorted(groups or ()),
        after_key,
        state,
        groups is None,
        min(limit, LIST_LIMIT_MAX),
    )
    return [
        DocumentSummary(
            id=row["id"],
            source=row["source"],
            key=row["key"],
            title=row["title"] or row["key"],
            uri=row["uri"],
            state=row["state"],
            reason=row["failure_reason"],
            message=row["failure_message"],
            warnings=tuple(row["warnings"]),
            media_type=row["media_type"],
            size_bytes=row["size_bytes"],
            chunk_count=row["chunk_count"],
            groups=tuple(row["groups"] or ()),
            indexed_at=row["indexed_at"],
        )
        for row in rows
    ]


_SUMMARY_COLUMNS = (
    "d.id, d.source, d.key, d.title, d.uri, d.state, d.failure_reason, d.failure_message, d.warnings, "
    "d.media_type, d.size_bytes, d.indexed_at"
)
