"""One document from what was read to what is searched: guard, chunk, analyse, embed, and one transaction for it all.

`Ingest.prepare` does the work without touching the index; `Ingest.store` writes what was prepared, several documents
at once (``group_writer``), and only while each is still the version that its source last listed. Called by ``sync`` and
by the builder of generations. The invariant: a document's chunks, words, vectors and state change together or not at
all, and no text is chunked, embedded or stored that did not pass the guard.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from roadbed.guard.mask import OffsetMap
from roadbed.guard.untrusted import cleaned, cleaned_with_maps, warnings_of
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import Label
from roadbed.kernel.plain_name import plain_name
from roadbed.knowledge.analysis import analyse
from roadbed.knowledge.catalog import lock_for_documents
from roadbed.knowledge.chunk import Chunk, chunk_document
from roadbed.knowledge.documents import decode_blocks, encode_blocks
from roadbed.knowledge.generations import Generation, generations_of_source
from roadbed.knowledge.group_writer import GroupWriter, Outcome
from roadbed.knowledge.index import (
    INDEX_CHANNEL,
    DocumentChunks,
    IndexedChunk,
    remove_documents,
    replace_documents,
)
from roadbed.knowledge.language import DEFAULT_LANGUAGE, detect_language
from roadbed.knowledge.parse.document import Block, ParsedDocument
from roadbed.knowledge.parse.versions import READER, older_names
from roadbed.knowledge.vectors import DocumentEmbedder, embed_texts, remember_vectors

KEPT = "the text is that of an earlier build, since this one cannot read the document again"
INLINE_CHARS_MAX = 4_000  # below it, a step takes less than handing it to a thread


class IndexGuard(Protocol):
    """What ingest needs of ``guard.Guard``."""

    def for_index(self, text: str, label: Label) -> Guarded:
        """The text with secrets replaced, and the label that it then carries."""

    def for_index_with_map(self, text: str, label: Label) -> tuple[Guarded, OffsetMap]:
        """The same, and where each offset of the text went."""


class Embedder(DocumentEmbedder, Protocol):
    """What ingest needs of ``embed.EmbeddingWorker``: embedding, and counting tokens as the model does."""

    @property
    def embedder(self) -> Any:
        """The model behind it, whose ``token_count`` may be called from any thread."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read and parsed. ``version`` is the hash of its content, ``read_version`` the source's own sign."""

    version: str
    read_version: str
    parsed: ParsedDocument
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GuardedText:
    """The canonical text as it is kept, its block map as it is stored, and what goes with it."""

    text: str
    blocks: bytes
    title: str
    label: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be written to the generations of ``chunks``.

    It is written only while the document still lists ``listed_version``, which ``read_version`` then replaces. A refill
    adds chunks of the content that is served already and changes nothing else.
    """

    document_id: str
    source: str
    listed_version: str
    read_version: str
    version: str
    title: str
    text: str
    blocks: bytes
    guarded_label: tuple[str, ...]
    language: str
    media_type: str
    parser: str
    size_bytes: int
    warnings: tuple[str, ...]
    chunks: Mapping[int, Sequence[IndexedChunk]]
    vectors: Mapping[bytes, NDArray[np.float32]] = field(default_factory=dict)
    is_refill: bool = False

    @property
    def chunk_count(self) -> int:
        """How many chunks will be written."""
        return sum(len(chunks) for chunks in self.chunks.values())


def content_version(data: bytes) -> str:
    """The name of what was read: a hash of its bytes, and who read them, since another reader may find another text."""
    return f"{hashlib.sha256(data).hexdigest()}.{READER}"


def bytes_of_version(version: str) -> str:
    """The part of a version that tells the bytes, whoever read them."""
    return version.partition(".")[0]


class Ingest:
    """Prepares and stores documents for all generations that want them."""

    def __init__(self, database: Any, guard: IndexGuard, embedder: Embedder) -> None:
        self._database = database
        self._guard = guard
        self._embedder = embedder
        self._writer: GroupWriter[Prepared] = GroupWriter(self._store_batch)

    async def prepare(
        self, document_id: str, source: str, listed_version: str, reading: Reading, label: Label
    ) -> Prepared:
        """Guard, chunk, analyse and embed one document for the generations that its source is in just now."""
        guarded = await self._guarded(reading.parsed, label)
        return await self._prepared(document_id, source, listed_version, reading, guarded)

    async def prepare_anew(
        self, document_id: str, source: str, listed_version: str, reading: Reading, label: Label
    ) -> Prepared | None:
        """As `prepare`, of a document that is served as an earlier build read it.

        ``None`` where this reading gave the same text and blocks: then only who read it is written down.
        """
        guarded = await self._guarded(reading.parsed, label)
        parsed = reading.parsed
        is_same = await self._database.fetchval(
            _SAME,
            *(document_id, listed_version, guarded.text, guarded.blocks, guarded.title),
            *(parsed.parser, parsed.media_type, list(guarded.warnings)),
        )
        return None if is_same else await self._prepared(document_id, source, listed_version, reading, guarded)

    async def _guarded(self, parsed: ParsedDocument, label: Label) -> GuardedText:
        """What may be kept of a parsed document: without what a reader cannot see, and without secrets."""
        seen, maps = await _in_thread(len(parsed.text), cleaned_with_maps, parsed.text)
        guarded, offsets = await _in_thread(len(seen.text), self._guard.for_index_with_map, seen.text, label)
        blocks = parsed.blocks
        for moves in (*maps, *(() if guarded.text == seen.text else (offsets,))):
            blocks = moved_blocks(blocks, moves)
        title = self._guard.for_index(plain_name(cleaned(parsed.title).text), label).text
        warnings = (*parsed.warnings, *warnings_of(seen))
        return GuardedText(guarded.text, encode_blocks(blocks), title, tuple(guarded.label.words()), warnings)

    async def _prepared(
        self, document_id: str, source: str, listed_version: str, reading: Reading, guarded: GuardedText
    ) -> Prepared:
        generations = await generations_of_source(self._database, source)
        language = reading.parsed.language or detect_language(guarded.text) or DEFAULT_LANGUAGE
        blocks = decode_blocks(guarded.blocks)
        chunks, vectors = await self._chunks(document_id, guarded.text, blocks, language, generations)
        return Prepared(
            document_id=document_id,
            source=source,
            listed_version=listed_version,
            read_version=reading.read_version,
            version=reading.version,
            title=guarded.title,
            text=guarded.text,
            blocks=guarded.blocks,
            guarded_label=guarded.label,
            language=language,
            media_type=reading.parsed.media_type,
            parser=reading.parsed.parser,
            size_bytes=reading.size_bytes,
            warnings=guarded.warnings,
            chunks=chunks,
            vectors=vectors,
        )

    async def prepare_again(self, document_id: str, generation: Generation) -> Prepared | None:
        """The same from the text that is stored already, for one generation that lacks the document."""
        row = await self._database.fetchrow("SELECT * FROM document WHERE id = $1 AND version IS NOT NULL", document_id)
        if row is None:
            return None
        blocks = decode_blocks(row["blocks"])
        language = row["language"] or DEFAULT_LANGUAGE
        chunks, vectors = await self._chunks(document_id, row["content"], blocks, language, [generation])
        return Prepared(
            document_id=document_id,
            source=row["source"],
            listed_version=row["listed_version"],
            read_version=row["listed_version"],
            version=row["version"],
            title=row["title"],
            text=row["content"],
            blocks=row["blocks"],
            guarded_label=tuple(row["guarded_label"]),
            language=language,
            media_type=row["media_type"],
            parser=row["parser"],
            size_bytes=row["size_bytes"],
            warnings=tuple(row["warnings"]),
            chunks=chunks,
            vectors=vectors,
            is_refill=True,
        )

    async def store(self, prepared: Prepared) -> Outcome:
        """Write a prepared document, together with others that wait.

        ``superseded``: the source lists another version by now, or no such document. ``incomplete``: a generation began
        since it was prepared. Nothing was written in both cases.
        """
        return await self._writer.write(prepared)

    async def fail(self, document_id: str, source: str, listed_version: str, reason: str, message: str) -> None:
        """Record that this version of a document cannot be indexed; nothing of an older one is served any more."""
        async with self._database.transaction() as connection:
            _, held = await lock_for_documents(connection, [source], [document_id])
            number = await connection.fetchval(_FAIL, document_id, listed_version, reason, message)
            if number is None:
                return
            await connection.execute(_NOTE_READER, document_id, READER)
            for generation in held:
                await remove_documents(connection, generation, [(document_id, number)])
                await self._database.notify(INDEX_CHANNEL, str(generation), connection=connection)

    async def touch(self, document_id: str, listed_version: str, read_version: str, version: str) -> bool:
        """Record that a document which looked changed is the one that is served already; whether that is so.

        It is not where an earlier build read it: then this is the time to read it anew.
        """
        tag = await self._database.execute(
            _TOUCH, document_id, listed_version, read_version, bytes_of_version(version), older_names()
        )
        return bool(tag == "UPDATE 1")

    async def keep(self, document_id: str, listed_version: str, reason: str) -> None:
        """Record that this build cannot read a document which an earlier one read, and which goes on being served."""
        async with self._database.transaction() as connection:
            note = f"{KEPT}: {reason}"
            if await connection.fetchval(_KEEP, document_id, listed_version, note, f"{KEPT}%") is not None:
                await connection.execute(_NOTE_READER, document_id, READER)

    async def aclose(self) -> None:
        """Wait for what is being written."""
        await self._writer.aclose()

    async def _chunks(
        self,
        document_id: str,
        text: str,
        blocks: Sequence[Block],
        language: str,
        generations: Sequence[Generation],
    ) -> tuple[dict[int, list[IndexedChunk]], dict[bytes, NDArray[np.float32]]]:
        chunks: dict[int, list[IndexedChunk]] = {}
        vectors: dict[bytes, NDArray[np.float32]] = {}
        count = self._embedder.embedder.token_count
        cut: dict[int, tuple[list[Chunk], list[str], list[Any]]] = {}
        for generation in generations:
            tokens = generation.recipe.chunk_tokens
            if tokens not in cut:
                cut[tokens] = await asyncio.to_thread(_cut, document_id, text, blocks, count, tokens, language)
            pieces, texts, words = cut[tokens]
            if generation.recipe.embedder == self._embedder.digest:
                keyed = await embed_texts(self._database, self._embedder, texts)
            else:  # a generation of an older model goes on without vectors for what is new
                keyed = [(b"", None)] * len(texts)
            vectors.update({key: vector for key, vector in keyed if vector is not None})
            chunks[generation.id] = [
                IndexedChunk(
                    chunk_id=piece.chunk_id,
                    start=piece.start,
                    end=piece.end,
                    text=piece.text,
                    page=piece.page,
                    location=piece.location,
                    heading_path=piece.heading_path,
                    frequencies=analysed.frequencies,
                    length=analysed.length,
                    vector_key=key or None,
                    vector=vector,
                )
                for piece, analysed, (key, vector) in zip(pieces, words, keyed, strict=True)
            ]
        return chunks, vectors

    async def _store_batch(self, batch: Sequence[Prepared]) -> list[Outcome]:
        ids = sorted({prepared.document_id for prepared in batch})
        async with self._database.transaction() as connection:
            wanted, _ = await lock_for_documents(connection, {prepared.source for prepared in batch}, ids)
            rows = await connection.fetch(
                "SELECT id, no, listed_version, version FROM document WHERE id = ANY($1::text[]) "
                "ORDER BY id FOR UPDATE",
                ids,
            )
            stored = {row["id"]: row for row in rows}
            outcomes = [_outcome(p, stored.get(p.document_id), wanted[p.source]) for p in batch]
            accepted = [p for p, outcome in zip(batch, outcomes, strict=True) if outcome == "stored"]
            await self._write(connection, accepted, {row["id"]: row["no"] for row in rows}, wanted)
        return outcomes

    async def _write(
        self,
        connection: Any,
        accepted: Sequence[Prepared],
        number_of: Mapping[str, int],
        wanted: Mapping[str, frozenset[int]],
    ) -> None:
        vectors = {key: vector for prepared in accepted for key, vector in prepared.vectors.items()}
        if vectors:
            await remember_vectors(connection, vectors)
        for generation in sorted({g for p in accepted for g in wanted[p.source] & p.chunks.keys()}):
            await replace_documents(
                connection,
                generation,
                [
                    DocumentChunks(p.document_id, number_of[p.document_id], p.chunks[generation])
                    for p in accepted
                    if generation in wanted[p.source] and generation in p.chunks
                ],
            )
            await self._database.notify(INDEX_CHANNEL, str(generation), connection=connection)
        await connection.executemany(_UPDATE, [_update_values(p) for p in accepted if not p.is_refill])


_UPDATE = """
UPDATE document SET state = 'indexed', version = $2, title = $3, content = $4, blocks = $5, guarded_label = $6,
    language = $7, media_type = $8, parser = $9, size_bytes = $10, warnings = $11, listed_version = $12,
    failure_reason = '', failure_message = '', indexed_at = now()
WHERE id = $1
"""
_FAIL = """
UPDATE document SET state = 'failed', failure_reason = $3, failure_message = $4, version = NULL, content = NULL,
    blocks = NULL, warnings = '{}', indexed_at = NULL
WHERE id = $1 AND listed_version = $2 RETURNING no
"""
_TOUCH = """
UPDATE document SET state = 'indexed', listed_version = $3
WHERE id = $1 AND listed_version = $2 AND split_part(version, '.', 1) = $4 AND parser <> ALL($5::text[])
"""
_SAME = """
UPDATE document SET parser = $6, media_type = $7, warnings = $8
WHERE id = $1 AND listed_version = $2 AND state = 'indexed' AND content = $3 AND blocks = $4 AND title = $5 RETURNING 1
"""
_KEEP = """
UPDATE document SET warnings = ARRAY(SELECT w FROM unnest(warnings) AS w WHERE w NOT LIKE $4) || ARRAY[$3::text]
WHERE id = $1 AND listed_version = $2 AND state = 'indexed' RETURNING 1
"""
_NOTE_READER = """
INSERT INTO document_reader (document_id, reader) VALUES ($1, $2) ON CONFLICT (document_id) DO UPDATE SET reader = $2
"""


def _outcome(prepared: Prepared, row: Any, wanted: frozenset[int]) -> Outcome:
    """Whether what was prepared is still what is wanted."""
    if row is None or row["listed_version"] != prepared.listed_version:
        return "superseded"
    if prepared.is_refill:
        return "stored" if row["version"] == prepared.version else "superseded"
    return "stored" if wanted <= prepared.chunks.keys() else "incomplete"


def _update_values(prepared: Prepared) -> tuple[Any, ...]:
    return (
        prepared.document_id,
        prepared.version,
        prepared.title,
        prepared.text,
        prepared.blocks,
        list(prepared.guarded_label),
        prepared.language,
        prepared.media_type,
        prepared.parser,
        prepared.size_bytes,
        list(prepared.warnings),
        prepared.read_version,
    )


def moved_blocks(blocks: Sequence[Block], offsets: OffsetMap) -> tuple[Block, ...]:
    """The block map of the guarded text: the canonical text of a document is what the guard gave."""
    moved = [replace(block, start=offsets.to_masked(block.start), end=offsets.to_masked(block.end)) for block in blocks]
    return tuple(block for block in moved if block.end > block.start)


def _cut(
    document_id: str, text: str, blocks: Sequence[Block], count: Callable[[str], int], tokens: int, language: str
) -> tuple[list[Chunk], list[str], list[Any]]:
    """Chunks, what is embedded of each, and its words. Hidden text is not indexed: no reader of the file sees it."""
    pieces = chunk_document(document_id, text, [block for block in blocks if not block.hidden], count, tokens)
    texts = [piece.embed_text() for piece in pieces]
    return pieces, texts, [analyse(piece, language) for piece in texts]


async def _in_thread(size: int, function: Callable[..., Any], *arguments: Any) -> Any:
    if size <= INLINE_CHARS_MAX:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
