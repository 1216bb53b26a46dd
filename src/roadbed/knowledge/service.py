"""`Knowledge`: the one object through which other rooms search, read, add and watch documents.

``server/services.py`` makes it from the store, the guard, the parsers and the embedder, and gives it the manifest's
sources and collections (again after each change). It wires the files of this room and adds no logic of its own. The
invariants: every method that returns text takes the principal for whom it is, and no query reaches the embedder but
through the guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from roadbed.guard.policy import RegionCrossing
from roadbed.guard.rules import Direction, SinkName
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, Forbidden, InvalidRequest, NotFound, Unavailable
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import PUBLIC, Label, Sink, parse_label
from roadbed.kernel.plain_name import plain_name
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.knowledge.builder import Builder
from roadbed.knowledge.catalog import declare_source, delete_documents, forget_sources
from roadbed.knowledge.citations import Anchor, Anchored, reanchor
from roadbed.knowledge.connectors.connector import Connector
from roadbed.knowledge.connectors.files import FilesConnector
from roadbed.knowledge.connectors.rows import RowsConnector, RowSource
from roadbed.knowledge.connectors.uploads import Objects, UploadsConnector
from roadbed.knowledge.documents import (
    ChunkView,
    DocumentNotFound,
    DocumentState,
    DocumentSummary,
    DocumentView,
    document_id_of,
    document_versions,
    list_documents,
    read_chunks,
    read_document,
)
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.knowledge.erase import DocumentErasure, Finder, erase
from roadbed.knowledge.generations import Generation, live_generations
from roadbed.knowledge.index import INDEX_CHANNEL
from roadbed.knowledge.ingest import IndexGuard, Ingest
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.permissions import groups_of_teams
from roadbed.knowledge.reader import Parse, Reader, SourceSpec
from roadbed.knowledge.reread import Reread
from roadbed.knowledge.search import K_MAX, Search, SearchResult
from roadbed.knowledge.states import (
    CollectionStats,
    SourceState,
    collection_stats,
    seen_collections,
    source_states,
    unread_sources,
)
from roadbed.knowledge.sync import Listing, Queue, Sync
from roadbed.knowledge.upload_guard import SecretInName, without_secrets
from roadbed.knowledge.vector_index import VectorIndexes
from roadbed.knowledge.watch import Watchers
from roadbed.sources.manifest import DatabaseSource, FilesSource, SourceConfig, UploadsSource
from roadbed.store.listener import Subscription

SETTLE_LOOK_S = 0.5
UNREAD_S_MAX = 0.5
MEDIA_TYPE = re.compile(r"(?:text|application|image|audio|video|message|font|model)/[a-z0-9][a-z0-9.+-]{0,80}", re.I)
"""What is kept of what an upload says it is; all else is found by its bytes."""
WIDENED = 4
"""A search is made again so much wider where some of what it found may not be shown."""

logger = logging.getLogger(__name__)


class TextGuard(IndexGuard, Protocol):
    """What this room needs of ``guard.Guard``: text on its way into the index, and into the embedder."""

    def for_embedder(self, text: str, label: Label, *, is_local: bool) -> Guarded:
        """The text as the embedder may see it."""

    def region_of(self, team: str) -> str:
        """The region that a team's callers are in; empty when that was not said."""

    def lets(self, label: Label, sink: SinkName, team: str = "") -> bool:
        """Whether the rules by label alone let such data to a sink."""

    def check_label(self, label: Label, sink: SinkName, team: str = "", *, direction: Direction = "out") -> None:
        """Raises `GuardBlocked` where they do not."""


class Knowledge:
    """Sources, documents and search of one workspace."""

    def __init__(
        self,
        database: Any,
        jobs: Queue,
        objects: Objects,
        guard: TextGuard,
        embedder: EmbeddingWorker,
        parsers: Parse,
        *,
        workspace: Path,
        passed_over: Sequence[Path] = (),
        rows: RowSource | None = None,
    ) -> None:
        self._database = database
        self._objects = objects
        self._rows = rows
        self._workspace = workspace
        self._passed_over = tuple(passed_over)
        self._embedder = embedder
        self._guard = guard
        self._ingest = Ingest(database, guard, embedder)
        self._search = Search(database, embedder)
        reader = Reader(database, self._ingest, parsers)
        self._sync = Sync(database, jobs, reader, self._clean_name)
        self._reread = Reread(database, jobs, reader)
        self._builder = Builder(database, jobs, self._ingest, embedder)
        self._vector_indexes = VectorIndexes(database, jobs)
        self._watchers = Watchers(self._sync)
        self._owns_ingest = True
        self._read_whole: set[str] = set()  # collections whose sources were all read once
        self._languages: dict[str, tuple[str, ...]] = {}
        self._live: dict[str, Generation] = {}
        self._live_wanted = 1  # counts what made them stale; they are fresh while it was read at this count
        self._live_read = 0
        self._reading_live = asyncio.Lock()
        self._subscription: Any = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def register_jobs(self) -> None:
        """Let this process do the work of ingest; call it before ``Jobs.run``, in processes that run jobs."""
        self._sync.register_jobs()
        self._reread.register_jobs()
        self._builder.register_jobs()
        self._vector_indexes.register_jobs()

    async def start(self) -> None:
        """Follow changes of the index made by any process."""
        self._subscription = await self._database.listen(INDEX_CHANNEL, self._note_change)

    async def configure(
        self,
        sources: Mapping[str, SourceConfig],
        collections: Mapping[str, CollectionConfig],
        *,
        owns_ingest: bool = True,
    ) -> None:
        """Take over the manifest's sources and collections; what is new or changed is put into motion.

        ``owns_ingest=False`` is for processes that only serve: they learn the names and have sources listed by the
        process that runs jobs.
        """
        self._owns_ingest = owns_ingest
        self._read_whole.clear()
        self._languages = {name: tuple(config.languages) for name, config in collections.items() if config.languages}
        specs = self._specs(sources)
        _check_collections(specs, sources, collections)
        self._sync.use(specs)
        if not owns_ingest:
            self._live_wanted += 1
            return
        for spec in specs.values():
            await declare_source(self._database, spec.name, spec.connector.kind, spec.groups, spec.label)
        wanted = {name: (_expanded(config.sources, specs), config.chunk_tokens) for name, config in collections.items()}
        await self._builder.declare(wanted)
        await forget_sources(self._database, list(specs))
        self._live_wanted += 1
        for name in specs:
            await self._sync.request(name)
        await self._reread.request()
        await self._vector_indexes.request()

    def watch(self) -> None:
        """Follow the folders and tables for changes; call it again after `configure`."""
        self._watchers.follow(self._sync.sources)

    @property
    def watched(self) -> frozenset[str]:
        """The sources whose changes are noticed at once."""
        return frozenset(self._watchers.watched)

    def note_watched(self, sources: Iterable[str]) -> None:
        """What another process watches, for a process that only serves."""
        self._watchers.watched = set(sources)

    async def aclose(self) -> None:
        """Stop watching, and finish what is being written."""
        await self._watchers.aclose()
        await self._ingest.aclose()
        await self._search.aclose()
        if self._subscription is not None:
            await self._subscription.close()

    # -- search and reading -------------------------------------------------------------------------------------------

    async def search(
        self,
        collections: Sequence[str],
        query: str,
        principal: Principal,
        *,
        k: int = 8,
        deadline: Deadline,
        label_sink: Sink | None = None,
    ) -> SearchResult:
        """The best ``k`` chunks that the principal may see (and that may flow to ``label_sink``).

        Secrets in the query are replaced first, as they were in what is searched. Sources that were not read to their
        end yet are named in ``missing``. `RegionCrossing` when all that was found must stay where the principal's team
        is not.
        """
        live = await self._live_generations()
        wanted = {}
        for name in dict.fromkeys(collections):
            if name not in live:
                raise _unknown_collection(name, live, principal)
            wanted[name] = live[name]
        query = self._for_embedder(query)
        region = self._guard.region_of(principal.team)
        if label_sink is None and region:
            label_sink = Sink(principal.team, region=region)
        search = partial(
            self._search.search, wanted, query, principal.groups, deadline=deadline, languages=self._languages
        )
        found = await search(k=k, label_sink=label_sink)
        if region and not found.hits and (kept := (await search(k=1)).hits):
            allowed = " or ".join(sorted(kept[0].label.regions or ()))
            raise RegionCrossing(f"what was found must stay in {allowed}, and the team {principal.team} is in {region}")
        shown = self._shown(found, principal.team, k)
        if len(shown.hits) < len(found.hits):
            more = await search(k=min(k * WIDENED, K_MAX), label_sink=label_sink)
            shown = self._shown(more, principal.team, k)
            if not shown.hits:
                self._guard.check_label(found.hits[0].label, "caller", principal.team)
        unread = await self._unread(tuple(wanted), principal, deadline)
        return replace(shown, missing=(*shown.missing, *unread)) if unread else shown

    async def search_named(
        self, collections: Sequence[str], query: str, principal: Principal, *, k: int, deadline: Deadline
    ) -> SearchResult:
        """`search` of collections that the caller named: one of which it may see nothing is answered as an unknown one.

        For an admin or auditor, who may know every name, it is `search`.
        """
        result = await self.search(collections, query, principal, k=k, deadline=deadline)
        if principal.roles & {ADMIN, AUDITOR}:
            return result
        found = {hit.collection for hit in result.hits}
        if asked := [name for name in collections if name not in found]:
            seen = await seen_collections(self._database, asked, principal.groups)
            for name in asked:
                if name not in seen:
                    raise _unknown_collection(name, (), principal)
        return result

    async def _unread(self, collections: Sequence[str], principal: Principal, deadline: Deadline) -> list[str]:
        """What the principal may know of the first reading that is still going on. Asks no more once all was read."""
        asked = [name for name in collections if name not in self._read_whole]
        if not asked:
            return []
        with contextlib.suppress(Unavailable, DeadlineExceeded, TimeoutError):
            async with asyncio.timeout(min(UNREAD_S_MAX, deadline.remaining_s())):
                unread = await unread_sources(self._database, asked)
            if not unread:
                self._read_whole.update(asked)
            seen = [name for name, groups in unread.items() if groups & principal.groups]
            return [f"source {name}: not read to its end yet" for name in seen]
        return []

    def _shown(self, found: SearchResult, team: str, k: int) -> SearchResult:
        """What was found, less what a rule by label keeps from the caller's team."""
        hits = tuple(hit for hit in found.hits if self._guard.lets(hit.label, "caller", team))[:k]
        return found if len(hits) == len(found.hits) else replace(found, hits=hits)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of texts, one row each, ahead of any ingest: for ranking sentences of an answer."""
        return await self._embedder.embed_sentences([self._for_embedder(text) for text in texts])

    async def document(
        self, document_id: str, principal: Principal, *, highlight: tuple[int, int] | None = None
    ) -> DocumentView:
        """A document with its text, and where the asked-for passage lies in it."""
        return await read_document(self._database, document_id, principal.groups, highlight)

    async def passage(self, anchor: Anchor, principal: Principal) -> tuple[DocumentView, Anchored | None]:
        """The document of a citation as it is now, and where the cited passage stands in it (``None``: it changed)."""
        view = await self.document(anchor.document_id, principal)
        found = await asyncio.to_thread(reanchor, anchor, view.version, view.text)
        return (view if found is None else replace(view, highlight=(found.start, found.end))), found

    async def versions(self, ids: Sequence[str], principal: Principal) -> dict[str, str]:
        """The versions of those of these documents that the principal may see, by id."""
        return await document_versions(self._database, ids, principal.groups)

    async def follow(self, callback: Callable[[], None]) -> Subscription:
        """Call ``callback`` whenever the index changed in any process, until the subscription is closed."""
        subscription: Subscription = await self._database.listen(INDEX_CHANNEL, lambda payload: callback())
        return subscription

    async def chunks_of(self, document_id: str, principal: Principal) -> list[ChunkView]:
        """The chunks of a document."""
        return await read_chunks(self._database, document_id, principal.groups)

    async def documents(
        self,
        source: str,
        principal: Principal,
        *,
        state: DocumentState | None = None,
        after_key: str = "",
        limit: int = 100,
    ) -> list[DocumentSummary]:
        """Documents of a source by key, without text; an admin also sees the names of those that others may read."""
        groups = None if principal.is_admin else principal.groups
        return await list_documents(self._database, source, groups, state=state, after_key=after_key, limit=limit)

    async def source_states(self) -> list[SourceState]:
        """Every declared source: counts, failures with reasons, progress."""
        return await source_states(self._database, self._watchers.watched)

    async def collection_stats(self) -> list[CollectionStats]:
        """Every collection: documents, chunks, generation and how far a new one is built."""
        return await collection_stats(self._database)

    # -- changing -----------------------------------------------------------------------------------------------------

    async def add_document(
        self,
        target: str,
        name: str,
        data: bytes,
        principal: Principal,
        *,
        media_type: str = "",
        groups: frozenset[str] | None = None,
    ) -> str:
        """Keep a document in an uploads source (or a collection's only one) and queue it; its id.

        Secrets in its text are replaced before it is kept, where its bytes are text. `SecretInName`.
        """
        _require_admin(principal)
        source, connector = await self._uploads(target)
        name = plain_name(name)
        if self._clean_name(name) != name:
            raise SecretInName("the name of the document holds a secret")
        data = await asyncio.to_thread(without_secrets, self._guard, data)
        key = await connector.add(name, data, media_type if MEDIA_TYPE.fullmatch(media_type) else "", groups)
        await self.sync_now(source)
        return document_id_of(source, key)

    def _clean_name(self, name: str) -> str:
        """A document's name, place or title as it may be stored before it is read."""
        return self._guard.for_index(name, PUBLIC).text

    async def delete_document(self, document_id: str, principal: Principal) -> None:
        """Delete an uploaded document everywhere, at once."""
        _require_admin(principal)
        row = await self._database.fetchrow("SELECT source, key FROM document WHERE id = $1", document_id)
        if row is None:
            raise DocumentNotFound(f"there is no document {document_id!r}")
        spec = self._sync.sources.get(row["source"])
        if spec is None or not isinstance(spec.connector, UploadsConnector):
            raise InvalidRequest("only uploaded documents are deleted here", hint="delete it in its source")
        await spec.connector.remove(row["key"])
        await delete_documents(self._database, row["source"], [document_id])

    async def erase(self, finder: Finder, *, is_dry_run: bool) -> DocumentErasure:
        """Erase a value from all documents and uploads; see `knowledge/erase.py`."""
        return await erase(self._database, self._ingest, self._objects, finder, is_dry_run=is_dry_run)

    async def start_sync(self, source: str | None = None) -> datetime:
        """Queue a listing of one source, or of all; when, by the database's clock (see `SourceState.attempted_at`)."""
        asked_at = cast(datetime, await self._database.fetchval("SELECT clock_timestamp()"))
        names = [source] if source is not None else list(self._sync.sources)
        for name in names:
            if name not in self._sync.sources:
                raise NotFound(f"there is no source {name!r}", hint=f"sources: {_listed(self._sync.sources)}")
            await self._sync.request(name)
        return asked_at

    async def sync_now(self, source: str, *, delete_held: bool = False) -> Listing:
        """List a source now; ``delete_held`` confirms a large loss. Reading goes on in jobs afterwards."""
        if not self._owns_ingest:
            return await self._sync.have_listed(source, delete_held=delete_held)
        return await self._sync.list_source(source, delete_held=delete_held)

    async def retry_failed(self, source: str, document_id: str | None = None) -> int:
        """Read failed documents again; how many."""
        return await self._sync.retry_failed(source, document_id)

    async def is_settled(self) -> bool:
        """Whether every source was listed to its end (or failed) and no document waits to be read."""
        return bool(
            await self._database.fetchval(
                "SELECT NOT EXISTS (SELECT FROM source WHERE is_declared AND state IN ('new', 'listing')) "
                "AND NOT EXISTS (SELECT FROM document d JOIN source s ON s.name = d.source "
                "WHERE s.is_declared AND d.state = 'pending')"
            )
        )

    async def wait_until_settled(self) -> None:
        """Return when ingest has nothing left to do, and searches here see it; bound it with a time-out of your own."""
        while True:
            self._sync.finished.clear()
            if await self.is_settled():
                self._search.snapshots.note_change(None)  # the notification of the last change may still be on its way
                return
            with contextlib.suppress(TimeoutError):  # another process may do the work
                await asyncio.wait_for(self._sync.finished.wait(), SETTLE_LOOK_S)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _for_embedder(self, text: str) -> str:
        """The embedder runs in this process, hence local; guarding what was guarded changes nothing."""
        return self._guard.for_embedder(text, PUBLIC, is_local=True).text

    def _note_change(self, payload: str | None) -> None:
        self._live_wanted += not (payload or "").isdigit()
        self._search.snapshots.note_change(int(payload) if payload and payload.isdigit() else None)

    async def _live_generations(self) -> Mapping[str, Generation]:
        """The live generations; whoever comes while they are read waits, so that nobody meets the empty beginning."""
        if self._live_read != self._live_wanted or self._subscription is None:
            async with self._reading_live:
                wanted = self._live_wanted
                if self._live_read != wanted or self._subscription is None:
                    self._live = await live_generations(self._database)
                    self._live_read = wanted
                    self._search.keep_only(frozenset(live.id for live in self._live.values()))
        return self._live

    async def _uploads(self, target: str) -> tuple[str, UploadsConnector]:
        """The uploads source of this name, or the only one of the collection of this name."""
        spec = self._sync.sources.get(target)
        if spec is not None:
            if isinstance(spec.connector, UploadsConnector):
                return spec.name, spec.connector
            raise InvalidRequest(
                f"the source {target!r} does not take uploads", hint="declare a source of type uploads"
            )
        rows = await self._database.fetch("SELECT source FROM collection_source WHERE collection = $1", target)
        for row in sorted(rows, key=lambda row: str(row["source"])):
            found = self._sync.sources.get(row["source"])
            if found is not None and isinstance(found.connector, UploadsConnector):
                return found.name, found.connector
        if rows:
            hint = "add a source of type uploads to the collection"
            raise InvalidRequest(f"the collection {target!r} has no source that takes uploads", hint=hint)
        raise NotFound(f"there is no collection or source {target!r}")

    def _specs(self, sources: Mapping[str, SourceConfig]) -> dict[str, SourceSpec]:
        specs: dict[str, SourceSpec] = {}
        for name, config in sources.items():
            label = parse_label(config.labels, where=f"sources.{name}.labels")
            groups = groups_of_teams(config.visible_to)
            for full_name, connector in self._connectors(name, config):
                specs[full_name] = SourceSpec(full_name, connector, label, groups)
        return specs

    def _connectors(self, name: str, config: SourceConfig) -> list[tuple[str, Connector]]:
        match config:
            case FilesSource():
                folder = self._workspace / Path(config.path).expanduser()
                return [
                    (
                        name,
                        FilesConnector(
                            folder,
                            include=config.include,
                            exclude=config.exclude,
                            bytes_max=config.bytes_max,
                            passed_over=self._passed_over,
                        ),
                    )
                ]
            case UploadsSource():
                return [(name, UploadsConnector(self._database, self._objects, name))]
            case DatabaseSource():
                if self._rows is None:
                    return []
                return [
                    (f"{name}.{table}", RowsConnector(self._rows, name, table, table_config))
                    for table, table_config in config.tables.items()
                ]
            case _:
                return []  # it holds no documents: tools alone reach it


def _expanded(names: Sequence[str], specs: Mapping[str, SourceSpec]) -> list[str]:
    """The sources of a collection; the name of a database means all of its declared tables."""
    found: dict[str, None] = {}
    for name in names:
        if name in specs:
            found[name] = None
        else:
            found.update(dict.fromkeys(full for full in specs if full.startswith(f"{name}.")))
    return list(found)


def _check_collections(
    specs: Mapping[str, SourceSpec], sources: Mapping[str, SourceConfig], collections: Mapping[str, CollectionConfig]
) -> None:
    for name, config in collections.items():
        for source in config.sources:
            if source not in specs and source not in sources:
                known = ", ".join(sorted({*specs, *sources}))
                raise InvalidRequest(f"collections.{name}: there is no source {source!r}", hint=f"sources: {known}")


def _require_admin(principal: Principal) -> None:
    if not principal.is_admin:
        raise Forbidden("only an admin's key may change documents", hint="use a key with the role admin")


def _listed(names: Iterable[str]) -> str:
    """Names in order, without the deployment's own."""
    return ", ".join(sorted(name for name in names if not name.startswith("_")))


def _unknown_collection(name: str, names: Iterable[str], principal: Principal) -> NotFound:
    """The same error for a name that nobody declared and for one that the caller may know nothing of."""
    return NotFound(f"there is no collection {name!r}", hint=_collections_hint(names, principal))


def _collections_hint(names: Iterable[str], principal: Principal) -> str:
    """Which collections there are, for those who run the deployment; a name may say too much to others."""
    if principal.roles & {ADMIN, AUDITOR}:
        return f"collections: {_listed(names)}"
    return "ask who runs this deployment for the names"
