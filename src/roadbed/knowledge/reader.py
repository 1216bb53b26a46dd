"""Reading one document: its bytes from the connector, parsed, and given to ingest, or recorded with the reason.

``sync`` has changed documents read, ``reread`` those that an earlier build of the parsers read. The invariant: a
reading never ends without a trace; and one that was made for an upgrade's sake takes nothing away: what is served goes
on being served where the document cannot be read again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from roadbed.kernel.errors import NotFound, RoadbedError, Unavailable
from roadbed.kernel.label import Label
from roadbed.knowledge.catalog import delete_documents
from roadbed.knowledge.connectors.connector import Connector, Content, DocumentGone, ReadRefused
from roadbed.knowledge.ingest import Ingest, Reading, content_version
from roadbed.knowledge.parse.document import Block, ParsedDocument, ParseFailure, canonical

ROUNDS_MAX = 5
NOT_KEPT = "its bytes are not in the object store: send it again"

logger = logging.getLogger(__name__)


class Parse(Protocol):
    """What reading needs of ``parse.pool.ParserPool``."""

    async def parse(self, path_or_bytes: bytes, *, name: str, media_type: str | None = None) -> ParsedDocument:
        """The parsed document; raises `ParseFailure`."""


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A source as the manifest declares it, with its connection."""

    name: str
    connector: Connector
    label: Label
    groups: frozenset[str]


class Reader:
    """Reads documents of the declared sources into the index."""

    def __init__(self, database: Any, ingest: Ingest, parse: Parse) -> None:
        self._database = database
        self._ingest = ingest
        self._parse = parse
        self.sources: Mapping[str, SourceSpec] = {}

    async def read(self, document_id: str) -> None:
        """Bring one pending document into the index. What cannot be read or parsed is recorded with its reason."""
        for _ in range(ROUNDS_MAX):
            row = await self._row(document_id)
            if row is None or row["state"] != "pending":
                return
            spec = self.sources.get(row["source"])
            if spec is None or spec.connector.kind == "rows":
                return  # rows are read by listing their table
            listed_version = row["listed_version"]
            try:
                content = await spec.connector.read(row["key"])
            except DocumentGone:
                await delete_documents(self._database, row["source"], [document_id])
                return
            except ReadRefused as error:
                await self._ingest.fail(document_id, row["source"], listed_version, error.reason, error.message)
                return
            except NotFound:
                await self._ingest.fail(document_id, row["source"], listed_version, "missing", NOT_KEPT)
                return
            if await self.take(spec, document_id, listed_version, content):
                return

    async def take(self, spec: SourceSpec, document_id: str, listed_version: str, content: Content) -> bool:
        """Bring what was read into the index, unless it is served already.

        Whether this version was dealt with; ``False`` when the document or the generations changed meanwhile.
        """
        data = _bytes_of(content)
        version = content_version(data)
        read_version = content.version or listed_version
        if await self._ingest.touch(document_id, listed_version, read_version, version):
            return True
        try:
            reading = Reading(version, read_version, await self._parsed(content), len(data))
            prepared = await self._ingest.prepare(document_id, spec.name, listed_version, reading, spec.label)
            return await self._ingest.store(prepared) == "stored"
        except (RoadbedError, asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            reason, message = _told(error, document_id)
            await self._ingest.fail(document_id, spec.name, listed_version, reason, message)
        return True

    async def read_again(self, document_id: str) -> bool:
        """Read a document whose bytes may be the same, for what this build's parsers make of them.

        Whether it was dealt with: ``False`` when its source is away or lacks it, which is for a listing to judge. One
        that changed meanwhile is left to the job that its change queued.
        """
        row = await self._row(document_id)
        spec = self.sources.get(row["source"]) if row is not None else None
        if row is None or row["state"] == "pending" or spec is None:
            return True
        listed_version = row["listed_version"]
        try:
            content = await spec.connector.read(row["key"])
            data = _bytes_of(content)
            parsed = await self._parsed(content)
            reading = Reading(content_version(data), content.version or listed_version, parsed, len(data))
            prepared = await self._ingest.prepare_anew(document_id, spec.name, listed_version, reading, spec.label)
            return prepared is None or await self._ingest.store(prepared) != "incomplete"
        except (DocumentGone, Unavailable):
            return False
        except NotFound:
            await self._ingest.keep(document_id, listed_version, NOT_KEPT)
        except (RoadbedError, asyncpg.DataError, asyncpg.ProgramLimitExceededError) as error:
            reason, message = _told(error, document_id)
            if row["state"] == "failed":
                await self._ingest.fail(document_id, spec.name, listed_version, reason, message)
            else:
                await self._ingest.keep(document_id, listed_version, f"{reason}: {message}")
        return True

    async def _row(self, document_id: str) -> Any:
        return await self._database.fetchrow(
            "SELECT source, key, listed_version, state FROM document WHERE id = $1", document_id
        )

    async def _parsed(self, content: Content) -> ParsedDocument:
        if content.text is None:
            return await self._parse.parse(content.data, name=content.name, media_type=content.media_type)
        text = canonical(content.text).strip()
        if not text:
            raise ParseFailure("empty", "the row's text is empty")
        block = Block("row", 0, len(text))
        return ParsedDocument(text, (block,), canonical(content.name), None, "row", content.media_type or "text/plain")


def _bytes_of(content: Content) -> bytes:
    return content.data if content.text is None else f"{content.name}\0{content.text}".encode()


def _told(error: Exception, document_id: str) -> tuple[str, str]:
    """Reason and message of what ended a reading. `Unavailable` is raised again: it says nothing of the file."""
    if isinstance(error, Unavailable):
        raise error
    if isinstance(error, ParseFailure | ReadRefused):
        return error.reason, error.message
    reason, message = "not_storable", "the index cannot hold this text"
    if isinstance(error, RoadbedError):
        reason, message = error.code, error.message
    logger.warning("the document %s cannot be indexed: %s", document_id, reason)
    return reason, message
