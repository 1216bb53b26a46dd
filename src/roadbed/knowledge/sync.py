"""Keeping the index like the sources: list, compare, delete what is gone, have read what changed, a job per document.

`Sync` is driven by jobs (``knowledge.sync`` per source, ``knowledge.document`` per document), by watchers and by the
facade. Everything may be repeated: what is recorded as pending is read again after a crash, and a version that is
served already is not embedded twice. The invariant: a document is deleted only when a listing that reached its end
lacked it and the loss is plausible; deletions and acl changes come into force before anything new is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, cast

from roadbed.kernel.errors import NotFound, RoadbedError, Unavailable
from roadbed.kernel.plain_name import misleads, name_in_plain_sight, plain_name
from roadbed.knowledge.catalog import NewVersion, delete_documents, record_versions, set_acls
from roadbed.knowledge.connectors.connector import Listed, NotTaken, SourceAway
from roadbed.knowledge.documents import document_id_of
from roadbed.knowledge.permissions import acl_id_of
from roadbed.knowledge.reader import Reader, SourceSpec

DOCUMENT_JOB = "knowledge.document"
SYNC_JOB = "knowledge.sync"
DOCUMENT_CONCURRENCY = 8
DOCUMENT_ATTEMPTS_MAX = 10
DOCUMENT_TIMEOUT_S = 3_600.0
SYNC_TIMEOUT_S = 6 * 3_600.0
HELD_LOSS_MIN = 20
HELD_LOSS_SHARE = 0.1
SMALL_SOURCE_DOCUMENTS = 20
NOT_TAKEN_KEPT_MAX = 200
PAGE_DOCUMENTS = 1_000
FEW_DOCUMENTS = 16
LISTED_WAIT_S = 30.0
LISTED_LOOK_S = 0.05


class Queue(Protocol):
    """What sync needs of ``store.jobs.Jobs``."""

    def register(
        self, name: str, handler: Any, *, concurrency: int = 1, attempts_max: int = 5, timeout_s: float = 900.0
    ) -> None:
        """Let this process run jobs of a name."""

    async def enqueue(self, connection: Any, name: str, payload: dict[str, Any], dedupe_key: str | None = None) -> bool:
        """Queue a job, unless one with the same key waits."""

    async def enqueue_many(
        self, connection: Any, name: str, items: Sequence[tuple[dict[str, Any], str | None]], *, priority: int = 0
    ) -> int:
        """Queue many jobs; those of a higher priority are taken first."""


@dataclass(slots=True)
class Listing:
    """What one listing found. ``held`` documents are gone from the source, and their deletion waits for a person."""

    source: str
    listed: int = 0
    changed: int = 0
    deleted: int = 0
    held: int = 0
    not_taken: int = 0


def loss_is_plausible(known: int, gone: int) -> bool:
    """Whether so many of so many documents may vanish without a question: a revoked token looks like a large loss."""
    return known < SMALL_SOURCE_DOCUMENTS or gone <= max(HELD_LOSS_MIN, known * HELD_LOSS_SHARE)


class Sync:
    """Lists sources and has documents read. One per process; several processes may share the work."""

    def __init__(self, database: Any, queue: Queue, reader: Reader, clean: Callable[[str], str] = str) -> None:
        """``clean`` gives a name with placeholders where it holds a secret."""
        self._clean = clean
        self._database = database
        self._queue = queue
        self._reader = reader
        self._listing: dict[str, asyncio.Lock] = {}
        self.finished = asyncio.Event()

    @property
    def sources(self) -> Mapping[str, SourceSpec]:
        """The declared sources by name."""
        return self._reader.sources

    def use(self, sources: Mapping[str, SourceSpec]) -> None:
        """Replace the declared sources."""
        self._reader.sources = dict(sources)

    def register_jobs(self) -> None:
        """Let this process list sources and read documents."""
        self._queue.register(SYNC_JOB, self._run_sync, concurrency=4, timeout_s=SYNC_TIMEOUT_S)
        self._queue.register(
            DOCUMENT_JOB,
            self._run_document,
            concurrency=DOCUMENT_CONCURRENCY,
            attempts_max=DOCUMENT_ATTEMPTS_MAX,
            timeout_s=DOCUMENT_TIMEOUT_S,
        )

    async def request(self, source: str) -> None:
        """Queue a listing of this source, unless one waits already."""
        await self._queue.enqueue(None, SYNC_JOB, {"source": source}, source)

    async def have_listed(self, name: str, *, delete_held: bool = False) -> Listing:
        """As `list_source`, by the process that runs jobs: one listing of a source at a time, or the later of two
        would delete what the earlier had not seen. After `LISTED_WAIT_S` it goes on without the caller.
        """
        self._spec(name)
        asked_at = await self._database.fetchval("SELECT clock_timestamp()")
        payload: dict[str, Any] = {"source": name}
        key = name
        if delete_held:  # a plain listing that waits must not take its place
            payload["delete_held"], key = True, f"{name} delete held"
        await self._queue.enqueue(None, SYNC_JOB, payload, key)
        sql = "SELECT state, message, listed_count, held_count FROM source WHERE name = $1 AND attempted_at >= $2"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LISTED_WAIT_S):
                # Looked at rather than told: what ends a listing is a row, and its process may be another machine's.
                while (row := await self._database.fetchrow(sql, name, asked_at)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(LISTED_LOOK_S)
                if row["state"] == "failed":
                    raise SourceAway(row["message"])
                return Listing(name, listed=row["listed_count"], held=row["held_count"])
        return Listing(name)

    async def _run_sync(self, job: Any) -> None:
        source = job.payload["source"]
        if source in self.sources:
            await self.list_source(source, delete_held=job.payload.get("delete_held", False))

    # -- listing ------------------------------------------------------------------------------------------------------

    async def list_source(self, name: str, *, delete_held: bool = False) -> Listing:
        """List a source to its end and put what changed into motion. Raises `SourceAway` when it cannot.

        ``delete_held`` is a person's word that a large loss is meant.
        """
        spec = self._spec(name)
        async with self._listing.setdefault(name, asyncio.Lock()):
            began = await self._begin_listing(name)
            try:
                listing = await self._list(spec, delete_held, began)
            except RoadbedError as error:
                with contextlib.suppress(Unavailable):  # the database itself may be what is away
                    await self._fail_listing(name, error.message, began)
                raise
            finally:
                self.finished.set()
            return listing

    async def _list(self, spec: SourceSpec, delete_held: bool, began: datetime) -> Listing:
        listing = Listing(spec.name)
        seen: set[str] = set()
        waiting: list[NewVersion] = []
        not_taken: list[NotTaken] = []
        async for page in spec.connector.listing():
            page = await asyncio.to_thread(self._named, page)
            not_taken += [item for item in page if isinstance(item, NotTaken)]
            items = {document_id_of(spec.name, item.key): item for item in page if isinstance(item, Listed)}
            seen.update(items)
            changed = await self._compare(spec, items, listing)
            inline = [version for version in changed if items[version.document_id].content is not None]
            if inline:
                await self._record(spec.name, inline)
                await self._read_inline(spec, inline, items)
            waiting += [version for version in changed if items[version.document_id].content is None]
        listing.not_taken = len(not_taken)
        listing.listed = len(seen)
        await self._sweep(spec, seen, listing, delete_held)
        # A few changed documents, or an upload, are not to wait behind another source's first thousand.
        priority = 1 if len(waiting) <= FEW_DOCUMENTS else 0
        for start in range(0, len(waiting), PAGE_DOCUMENTS):
            await self._record(spec.name, waiting[start : start + PAGE_DOCUMENTS], priority)
        await self._finish_listing(listing, not_taken, began)
        return listing

    def _named(self, page: Sequence[Listed | NotTaken]) -> list[Listed | NotTaken]:
        """The entries whose names may be stored; one whose name holds a secret, or what a screen obeys, is not taken,
        for it is its key.
        """
        found: list[Listed | NotTaken] = []
        for item in map(_in_plain_words, page):
            texts = (item.key, item.uri, item.title) if isinstance(item, Listed) else (item.key,)
            joined = "\n".join(texts)
            if self._clean(joined) == joined:
                found.append(item)
            elif isinstance(item, NotTaken):
                found.append(NotTaken(self._clean(item.key), item.reason))
            elif any(self._clean(text) != text for text in (item.key, item.uri)):
                found.append(NotTaken(self._clean(item.key), "its name holds a secret, or what was erased: rename it"))
            else:
                found.append(replace(item, title=self._clean(item.title)))
        return found

    async def _compare(self, spec: SourceSpec, items: Mapping[str, Listed], listing: Listing) -> list[NewVersion]:
        """Documents of a page that must be read; changed acls come into force here."""
        acl_of: dict[frozenset[str], int] = {}
        for groups in {item.groups if item.groups is not None else spec.groups for item in items.values()}:
            async with self._database.transaction() as connection:
                acl_of[groups] = await acl_id_of(connection, groups)
        rows = await self._database.fetch(
            "SELECT id, listed_version, state, acl_id FROM document WHERE id = ANY($1::text[])", list(items)
        )
        known = {row["id"]: row for row in rows}
        moved: dict[str, int] = {}
        changed: list[NewVersion] = []
        for document_id, item in items.items():
            acl_id = acl_of[item.groups if item.groups is not None else spec.groups]
            row = known.get(document_id)
            if row is not None and row["acl_id"] != acl_id:
                moved[document_id] = acl_id
            if row is not None and row["listed_version"] == item.version and row["state"] != "pending":
                continue
            listing.changed += 1
            changed.append(
                NewVersion(document_id, item.key, item.uri, item.title, item.version, item.size_bytes, acl_id)
            )
        if moved:
            async with self._database.transaction() as connection:
                await set_acls(self._database, connection, spec.name, moved)
        return changed

    async def _record(self, source: str, versions: Sequence[NewVersion], priority: int | None = None) -> None:
        """Write new versions down, with a job for each where a priority is given."""
        async with self._database.transaction() as connection:
            await record_versions(connection, source, versions)
            if priority is not None:
                jobs = [({"document": version.document_id}, version.document_id) for version in versions]
                await self._queue.enqueue_many(connection, DOCUMENT_JOB, jobs, priority=priority)

    async def _read_inline(self, spec: SourceSpec, versions: Sequence[NewVersion], items: Mapping[str, Listed]) -> None:
        free = asyncio.Semaphore(DOCUMENT_CONCURRENCY)

        async def one(version: NewVersion) -> None:
            async with free:
                content = items[version.document_id].content
                assert content is not None
                await self._reader.take(spec, version.document_id, version.listed_version, content)

        outcomes = await asyncio.gather(*(one(version) for version in versions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _sweep(self, spec: SourceSpec, seen: set[str], listing: Listing, delete_held: bool) -> None:
        """Delete what a complete listing lacked, or hold the deletion when so much is gone that it may be a fault."""
        rows = await self._database.fetch("SELECT id FROM document WHERE source = $1", spec.name)
        gone = [row["id"] for row in rows if row["id"] not in seen]
        if gone and (delete_held or loss_is_plausible(len(rows), len(gone))):
            listing.deleted = await delete_documents(self._database, spec.name, gone)
        else:
            listing.held = len(gone)

    async def _finish_listing(self, listing: Listing, not_taken: Sequence[NotTaken], began: datetime) -> None:
        held = listing.held
        message = f"{held} documents are gone from the source; confirm that they shall be deleted" if held else ""
        await self._database.execute(
            "UPDATE source SET state = $2, message = $3, held_count = $4, listed_count = $5, refused = $6, "
            "listed_at = now(), attempted_at = $7 WHERE name = $1",
            listing.source,
            "held" if held else "idle",
            message,
            held,
            listing.listed,
            [[item.key, item.reason] for item in not_taken[:NOT_TAKEN_KEPT_MAX]],
            began,
        )

    async def _begin_listing(self, name: str) -> datetime:
        """When it began, by the database's clock."""
        sql = "UPDATE source SET state = 'listing', message = '' WHERE name = $1 RETURNING clock_timestamp()"
        return cast(datetime, await self._database.fetchval(sql, name))

    async def _fail_listing(self, name: str, message: str, began: datetime) -> None:
        sql = "UPDATE source SET state = 'failed', message = $2, attempted_at = $3 WHERE name = $1"
        await self._database.execute(sql, name, message, began)

    # -- reading ------------------------------------------------------------------------------------------------------

    async def retry_failed(self, source: str, document_id: str | None = None) -> int:
        """Read failed documents of a source again; how many."""
        self._spec(source)
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "UPDATE document SET state = 'pending', failure_reason = '', failure_message = '' "
                "WHERE source = $1 AND state = 'failed' AND ($2::text IS NULL OR id = $2) RETURNING id",
                source,
                document_id,
            )
            jobs = [({"document": row["id"]}, row["id"]) for row in rows]
            await self._queue.enqueue_many(connection, DOCUMENT_JOB, jobs)
        if rows and self._spec(source).connector.kind == "rows":
            await self.request(source)
        return len(rows)

    async def _run_document(self, job: Any) -> None:
        await self._reader.read(job.payload["document"])
        self.finished.set()

    def _spec(self, name: str) -> SourceSpec:
        spec = self.sources.get(name)
        if spec is None:
            raise NotFound(f"there is no source {name!r}", hint=f"sources: {', '.join(sorted(self.sources))}")
        return spec


def _in_plain_words(item: Listed | NotTaken) -> Listed | NotTaken:
    """The entry with a plain title; one whose key or address would mislead who reads it is not taken."""
    if isinstance(item, NotTaken):
        return replace(item, key=name_in_plain_sight(item.key)) if misleads(item.key) else item
    if misleads(item.key) or misleads(item.uri):
        return NotTaken(name_in_plain_sight(item.key), "its name holds control or direction characters: rename it")
    title = plain_name(item.title)
    return item if title == item.title else replace(item, title=title)
