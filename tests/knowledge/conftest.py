"""A `Knowledge` over a real database with the deterministic embedder, parsing in process, and its jobs running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.knowledge.connectors.rows import RowSource
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParsedDocument
from roadbed.knowledge.search import SearchResult
from roadbed.knowledge.service import Knowledge
from roadbed.sources.manifest import FilesSource, SourceConfig
from roadbed.store.database import Database
from roadbed.store.jobs import Jobs
from roadbed.store.objects import ObjectStore
from roadbed.testing.embedder import ScriptedEmbedder

SETTLE_S = 60.0


class ParseHere:
    """Parses in this process, and counts; waits while ``may_go`` is not set; ``seen_as`` changes what was parsed."""

    def __init__(self) -> None:
        self.parsed: list[str] = []
        self.may_go = asyncio.Event()
        self.may_go.set()
        self.seen_as: Callable[[ParsedDocument], ParsedDocument] = lambda parsed: parsed

    async def parse(self, path_or_bytes: bytes, *, name: str, media_type: str | None = None) -> ParsedDocument:
        """One document."""
        self.parsed.append(name)
        await self.may_go.wait()
        return self.seen_as(parse_bytes(path_or_bytes, name=name, media_type=media_type))


class Bench:
    """A running `Knowledge` and what it is made of."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        embedder: ScriptedEmbedder | None = None,
        guard: Guard,
        rows: RowSource | None = None,
    ) -> None:
        self.database = database
        self.folder = folder
        self.embedder = embedder or ScriptedEmbedder()
        self.worker = EmbeddingWorker(self.embedder)
        self.parser = ParseHere()
        self.objects = ObjectStore.in_memory()
        self.jobs = Jobs(database, poll_s=0.05, backoff_s=0.05)
        self.knowledge = Knowledge(
            database, self.jobs, self.objects, guard, self.worker, self.parser, workspace=folder, rows=rows
        )
        self.declared: tuple[Mapping[str, SourceConfig], Mapping[str, CollectionConfig]] = (
            {"docs": FilesSource(path="docs")},
            {"all": CollectionConfig(sources=["docs"])},
        )
        self._stop = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to run jobs."""
        self.knowledge.register_jobs()
        await self.knowledge.start()
        self._running = asyncio.create_task(self.jobs.run(self._stop, is_only_worker=True))

    async def stop(self) -> None:
        """End everything."""
        self._stop.set()
        if self._running is not None:
            await self._running
        await self.knowledge.aclose()
        await self.worker.aclose()

    async def configure(
        self,
        sources: Mapping[str, SourceConfig] | None = None,
        collections: Mapping[str, CollectionConfig] | None = None,
    ) -> None:
        """Take over a manifest, by default one folder ``docs`` in one collection ``all``, and wait for its ingest."""
        sources = sources if sources is not None else {"docs": FilesSource(path="docs")}
        if collections is None:
            collections = {"all": CollectionConfig(sources=list(sources))}
        self.declared = sources, collections
        await self.knowledge.configure(sources, collections)
        await self.settle()

    async def settle(self) -> None:
        """Wait until ingest has nothing left to do."""
        async with asyncio.timeout(SETTLE_S):
            await self.knowledge.wait_until_settled()

    async def sync(self, source: str = "docs", **options: Any) -> Any:
        """List a source and wait for what follows."""
        listing = await self.knowledge.sync_now(source, **options)
        await self.settle()
        return listing

    async def search(self, query: str, principal: Principal | None = None, **options: Any) -> SearchResult:
        """Search the collection ``all`` as somebody of the team ``support``."""
        options.setdefault("deadline", Deadline.after(20))
        return await self.knowledge.search(options.pop("collections", ["all"]), query, principal or SUPPORT, **options)

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file into the folder ``docs``."""
        path = self.folder / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


SUPPORT = Principal(id="k1", team="support")
SALES = Principal(id="k2", team="sales")
ADMINISTRATOR = Principal(id="k0", team="office", roles=frozenset({ADMIN}))

MakeBench = Callable[..., AbstractAsyncContextManager[Bench]]


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    """The real guard."""
    return Guard.open(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def make_bench(database: Database, tmp_path: Path, guard: Guard) -> MakeBench:
    """Makes running benches on one database, one after the other or side by side."""

    @asynccontextmanager
    async def make(**options: Any) -> AsyncIterator[Bench]:
        (tmp_path / "docs").mkdir(exist_ok=True)
        made = Bench(options.pop("database", database), tmp_path, **{"guard": guard, **options})
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    return make


@pytest.fixture
async def bench(make_bench: MakeBench) -> AsyncIterator[Bench]:
    """One running bench over an empty folder ``docs``."""
    async with make_bench() as made:
        yield made
