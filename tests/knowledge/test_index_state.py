"""Any sequence of events leaves the index as a fresh build would, and search as brute force over visible documents."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import Label
from roadbed.kernel.principal import EVERYONE
from roadbed.knowledge.analysis import analyse, query_words
from roadbed.knowledge.builder import Builder
from roadbed.knowledge.catalog import declare_source
from roadbed.knowledge.chunk import Chunk, chunk_document
from roadbed.knowledge.connectors.connector import Content, DocumentGone, Listed, NotTaken
from roadbed.knowledge.documents import document_id_of
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.knowledge.fusion import FusionSettings
from roadbed.knowledge.generations import live_generations
from roadbed.knowledge.ingest import Ingest, Prepared
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParsedDocument
from roadbed.knowledge.reader import Reader, SourceSpec
from roadbed.knowledge.search import Search
from roadbed.knowledge.sync import Sync
from roadbed.store.database import Database
from roadbed.testing.embedder import ScriptedEmbedder

pytestmark = pytest.mark.services

SCHEMA = "roadbed_test"
EVEN = FusionSettings(method="convex", vector_share=0.5)
KEYS = ("a.txt", "b.txt", "c.md")
TEAMS = ("red", "blue")
WORDS = ("alpha", "beta", "gamma", "delta", "lamp", "river", "stone", "zebra", "kettle", "violet")
GROUP_SETS = (frozenset({EVERYONE}), frozenset({"team:red"}), frozenset({"team:red", "team:blue"}), frozenset[str]())
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8), min_size=1, max_size=6).map(
    lambda paragraphs: "\n\n".join(" ".join(words).capitalize() + "." for words in paragraphs)
)


@dataclass
class Shelf:
    """A source in memory: implements the connector seam."""

    documents: dict[str, tuple[str, frozenset[str], int]]
    kind: str = "files"

    async def listing(self) -> AsyncIterator[Sequence[Listed | NotTaken]]:
        """All of it in one page."""
        yield [
            Listed(key, key, key, str(edition), len(text), groups)
            for key, (text, groups, edition) in sorted(self.documents.items())
        ]

    async def read(self, key: str) -> Content:
        """One text."""
        if key not in self.documents:
            raise DocumentGone(key)
        text, _, edition = self.documents[key]
        return Content(name=key, data=text.encode(), version=str(edition))

    def changes(self) -> None:
        """Tells nothing."""
        return


class Queue:
    """Jobs wait until the machine says so."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.waiting: list[tuple[str, dict[str, Any]]] = []

    def register(self, name: str, handler: Any, **options: Any) -> None:
        """Remember the handler."""
        self.handlers[name] = handler

    async def enqueue(
        self, connection: Any, name: str, payload: Any, dedupe_key: str | None = None, **options: Any
    ) -> bool:
        """Remember the job."""
        return await self.enqueue_many(connection, name, [(payload, dedupe_key)]) > 0

    async def enqueue_many(self, connection: Any, name: str, items: Any, **options: Any) -> int:
        """Remember jobs that do not wait yet."""
        new = [(name, payload) for payload, _ in items if (name, payload) not in self.waiting]
        self.waiting += new
        return len(new)


@dataclass
class Job:
    """What a handler looks at."""

    payload: dict[str, Any]


class ParseHere:
    """Parses in this process."""

    async def parse(self, path_or_bytes: bytes, *, name: str, media_type: str | None = None) -> ParsedDocument:
        """One document."""
        return parse_bytes(path_or_bytes, name=name, media_type=media_type)


class Machine(RuleBasedStateMachine):
    """Events of a source in any order; ``settle`` finishes the work and compares everything."""

    def __init__(self, dsn: str, guard: Guard) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.dsn, self.guard = dsn, guard
        self.edition = 0
        self.shelf = Shelf({})
        self.chunk_tokens = 64
        self.numbers: list[Any] = []
        self.refills: list[Prepared] = []
        self.runner.run(self._open())

    async def _open(self) -> None:
        self.database = await Database.open(self.dsn, SCHEMA, max_size=4)
        await self.database.execute(
            "TRUNCATE source, document, chunk, lex_term, lex_delta, chunk_lex, vector_cache, tombstone, acl, "
            "acl_member, collection, collection_source, generation, index_event CASCADE"
        )
        self.embedder = ScriptedEmbedder(dimensions=32)
        self.worker = EmbeddingWorker(self.embedder)
        self.queue = Queue()
        self.ingest = Ingest(self.database, self.guard, self.worker)
        self.sync = Sync(self.database, self.queue, Reader(self.database, self.ingest, ParseHere()))
        self.builder = Builder(self.database, self.queue, self.ingest, self.worker)
        self.sync.register_jobs()
        self.builder.register_jobs()
        self.sync.use({"shelf": SourceSpec("shelf", self.shelf, Label(), frozenset({EVERYONE}))})
        await declare_source(self.database, "shelf", "files", frozenset({EVERYONE}), Label())
        await self.builder.declare({"all": (["shelf"], self.chunk_tokens)})
        self.old_search = Search(
            self.database, self.worker, settings=EVEN
        )  # lives through all events: its caches must catch up

    def teardown(self) -> None:
        """Close what was opened."""
        self.runner.run(self._close())
        self.runner.close()

    async def _close(self) -> None:
        await self.old_search.aclose()
        await self.worker.aclose()
        await self.database.close()

    # -- events -------------------------------------------------------------------------------------------------------

    @initialize(texts=st.tuples(TEXTS, TEXTS, TEXTS))
    def begin(self, texts: tuple[str, str, str]) -> None:
        """There is something to find from the start, and a search that has seen it."""
        for key, text in zip(KEYS, texts, strict=True):
            self.put(key, text, frozenset({EVERYONE}))
        self.settle()

    @rule(key=st.sampled_from(KEYS), text=TEXTS, groups=st.sampled_from(GROUP_SETS))
    def put(self, key: str, text: str, groups: frozenset[str]) -> None:
        """A document is written or changed at the source."""
        self.edition += 1
        self.shelf.documents[key] = (text, groups, self.edition)

    @rule(place=st.integers(0, 9))
    def remove(self, place: int) -> None:
        """A document vanishes from the source."""
        if self.shelf.documents:
            del self.shelf.documents[sorted(self.shelf.documents)[place % len(self.shelf.documents)]]

    @rule(place=st.integers(0, 9), groups=st.sampled_from(GROUP_SETS))
    def share(self, place: int, groups: frozenset[str]) -> None:
        """A document gets other readers."""
        if self.shelf.documents:
            key = sorted(self.shelf.documents)[place % len(self.shelf.documents)]
            text, _, edition = self.shelf.documents[key]
            self.shelf.documents[key] = (text, groups, edition)

    @rule(place=st.integers(0, 9), groups=st.sampled_from(GROUP_SETS))
    def share_and_settle(self, place: int, groups: frozenset[str]) -> None:
        """The same, and everything is looked at at once: caches have no other reason to be fresh."""
        self.share(place, groups)
        self.settle()

    @rule(place=st.integers(0, 9))
    def remove_and_settle(self, place: int) -> None:
        """As above for a deletion."""
        self.remove(place)
        self.settle()

    @rule()
    def list_source(self) -> None:
        """The source is listed; deletions and acls are in force afterwards, reading waits."""
        self.runner.run(self.sync.list_source("shelf"))
        self.runner.run(self._nothing_hidden_is_shown())

    @rule(place=st.integers(0, 9))
    def run_one_job(self, place: int) -> None:
        """One waiting job is done, in any order, perhaps twice."""
        if self.queue.waiting:
            name, payload = self.queue.waiting[place % len(self.queue.waiting)]
            self.runner.run(self.queue.handlers[name](Job(payload)))
            if place % 3:
                self.queue.waiting.remove((name, payload))

    @rule(tokens=st.sampled_from([64, 96]))
    def change_recipe(self, tokens: int) -> None:
        """The manifest wants other chunks: a new generation is to be built."""
        self.chunk_tokens = tokens
        self.runner.run(self.builder.declare({"all": (["shelf"], tokens)}))

    @rule(key=st.sampled_from(KEYS))
    def prepare_refill(self, key: str) -> None:
        """A builder has cut a document and is slow to write it."""
        self.runner.run(self._prepare_refill(document_id_of("shelf", key)))

    async def _prepare_refill(self, document_id: str) -> None:
        live = await live_generations(self.database)
        prepared = await self.ingest.prepare_again(document_id, live["all"])
        if prepared is not None and prepared.chunk_count:
            self.refills.append(prepared)

    @rule()
    def store_refills(self) -> None:
        """The slow builder writes, whatever has happened meanwhile."""
        while self.refills:
            self.runner.run(self.ingest.store(self.refills.pop()))

    @rule()
    def search_meanwhile(self) -> None:
        """A search at any moment shows nothing that its caller may not see."""
        self.runner.run(self._nothing_hidden_is_shown())

    @rule()
    def settle(self) -> None:
        """All work is done: now everything must be as if built afresh."""
        self.runner.run(self._settle())
        self.runner.run(self._compare())

    # -- checks -------------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        await self.sync.list_source("shelf")
        while self.queue.waiting:
            name, payload = self.queue.waiting.pop(0)
            await self.queue.handlers[name](Job(payload))

    async def _nothing_hidden_is_shown(self) -> None:
        rows = await self.database.fetch(
            "SELECT d.id, array_remove(array_agg(m.group_name), NULL) AS groups FROM document d "
            "LEFT JOIN acl_member m USING (acl_id) GROUP BY d.id"
        )
        groups_of = {row["id"]: set(row["groups"]) for row in rows}
        live = await live_generations(self.database)
        for team in TEAMS:
            groups = frozenset({EVERYONE, f"team:{team}"})
            self.old_search.snapshots.note_change(None)
            found = await self.old_search.search(live, " ".join(WORDS), groups, k=50, deadline=Deadline.after(20))
            for hit in found.hits:
                assert groups_of[hit.document_id] & groups, "a hidden document was shown"

    async def _compare(self) -> None:
        expected = self._fresh_build()
        live = await live_generations(self.database)
        assert live["all"].recipe.chunk_tokens == self.chunk_tokens
        await self._compare_tables(expected, live["all"].id)
        self.numbers = await self.database.fetch("SELECT chunk_id, chunk_no FROM chunk")
        fresh = Search(self.database, self.worker, settings=EVEN)
        self.old_search.snapshots.note_change(None)
        for team in TEAMS:
            groups = frozenset({EVERYONE, f"team:{team}"})
            for query in ("alpha", "river stone lamp", "Zebra kettle violet beta"):
                wanted = self._brute_force(expected, query, groups)
                for search in (self.old_search, fresh):
                    result = await search.search(live, query, groups, k=10, deadline=Deadline.after(20))
                    assert result.missing == ()
                    assert [hit.chunk_id for hit in result.hits] == [chunk_id for chunk_id, _ in wanted]
                    np.testing.assert_allclose([h.score for h in result.hits], [s for _, s in wanted], rtol=1e-4)
        await fresh.aclose()

    def _fresh_build(self) -> list[tuple[Chunk, str, frozenset[str]]]:
        """(chunk, document, groups) of what the source holds now, in order of document."""
        built = []
        for key, (text, groups, _) in sorted(self.shelf.documents.items()):
            parsed = parse_bytes(text.encode(), name=key)
            document_id = document_id_of("shelf", key)
            count = self.embedder.token_count
            for piece in chunk_document(document_id, parsed.text, parsed.blocks, count, self.chunk_tokens):
                built.append((piece, document_id, groups))
        return built

    async def _compare_tables(self, expected: list[tuple[Chunk, str, frozenset[str]]], generation: int) -> None:
        rows = await self.database.fetch(
            "SELECT c.*, l.dl, v.embedding FROM chunk c JOIN chunk_lex l USING (generation, chunk_no) "
            f"LEFT JOIN chunk_vector_{generation} v USING (chunk_no) ORDER BY c.chunk_id"
        )
        wanted = sorted(expected, key=lambda item: item[0].chunk_id)
        assert [(r["chunk_id"], r["document_id"], r["start_at"], r["end_at"], r["text"]) for r in rows] == [
            (piece.chunk_id, document_id, piece.start, piece.end, piece.text) for piece, document_id, _ in wanted
        ]
        for row, (piece, _, _) in zip(rows, wanted, strict=True):
            vector = self.embedder.embed([piece.embed_text()])[0].astype(np.float16)
            np.testing.assert_array_equal(row["embedding"], vector)
            assert row["dl"] == analyse(piece.embed_text()).length
        number_of = {row["chunk_no"]: row["chunk_id"] for row in rows}
        postings = await self.database.fetch(
            "SELECT t.term, d.chunk_no, d.tf FROM lex_term t JOIN lex_delta d USING (term_id)"
        )
        assert {(r["term"], number_of[r["chunk_no"]], r["tf"]) for r in postings} == {
            (term, piece.chunk_id, tf)
            for piece, _, _ in wanted
            for term, tf in analyse(piece.embed_text()).frequencies.items()
        }
        # Nothing of what went away is left: no word, no vector, no cached vector.
        terms = {row["term"] for row in await self.database.fetch("SELECT term FROM lex_term")}
        assert terms == {row["term"] for row in postings}
        assert await self.database.fetchval(f"SELECT count(*) FROM chunk_vector_{generation}") == len(rows)
        left = "SELECT count(*) FROM vector_cache v WHERE NOT EXISTS (SELECT FROM chunk c WHERE c.vector_key = v.key)"
        assert await self.database.fetchval(left) == 0
        assert await self.database.fetchval("SELECT count(*) FROM chunk_lex") == len(rows)

    def _brute_force(
        self, expected: list[tuple[Chunk, str, frozenset[str]]], query: str, groups: frozenset[str]
    ) -> list[tuple[str, float]]:
        """(chunk id, score) by loops over everything, in the order that search promises."""
        words = {piece.chunk_id: analyse(piece.embed_text()) for piece, _, _ in expected}
        total = len(words)
        mean = sum(found.length for found in words.values()) / total if total else 1.0
        lexical: defaultdict[str, float] = defaultdict(float)
        seen = {piece.chunk_id for piece, _, readers in expected if readers & groups}
        for (term, *_), factor in query_words(query):
            frequency = sum(term in words[chunk_id].frequencies for chunk_id in seen)
            idf = math.log1p((len(seen) - frequency + 0.5) / (frequency + 0.5)) * factor
            for chunk_id, found in words.items():
                tf = found.frequencies[term]
                lexical[chunk_id] += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * found.length / (mean or 1.0)))
        vector = self.embedder.embed([query])[0]
        visible = [(piece, document_id) for piece, document_id, readers in expected if readers & groups]
        cosine = {
            piece.chunk_id: float(
                self.embedder.embed([piece.embed_text()])[0].astype(np.float16).astype(np.float32) @ vector
            )
            for piece, _ in visible
        }
        best_cosine = max(cosine.values(), default=0.0) + 1.0
        best_lexical = max((lexical[chunk_id] for chunk_id in cosine), default=0.0) or 1.0
        scores = {i: 0.5 * (c + 1.0) / best_cosine + 0.5 * lexical[i] / best_lexical for i, c in cosine.items()}
        return self._thinned(visible, scores)

    def _thinned(self, visible: list[tuple[Chunk, str]], scores: dict[str, float]) -> list[tuple[str, float]]:
        """At most three chunks of a document, equal texts once. Chunk numbers break ties, so ask the index for them."""
        numbers = {row["chunk_id"]: row["chunk_no"] for row in self.numbers}
        ranked = sorted(visible, key=lambda item: (-round(scores[item[0].chunk_id], 6), numbers[item[0].chunk_id]))
        taken: Counter[str] = Counter()
        texts: set[str] = set()
        kept = []
        for piece, document_id in ranked:
            taken[document_id] += 1
            if taken[document_id] <= 3 and piece.text not in texts:
                texts.add(piece.text)
                kept.append((piece.chunk_id, scores[piece.chunk_id]))
        return kept[:10]


def test_any_sequence_of_events_ends_as_a_fresh_build(dsn: str, guard: Guard) -> None:
    run_state_machine_as_test(
        lambda: Machine(dsn, guard),  # type: ignore[arg-type]
        settings=settings(
            max_examples=12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.reuse, Phase.generate),  # shrinking takes minutes, and short sequences come up anyway
        ),
    )


@pytest.fixture
def machine(dsn: str, guard: Guard) -> Iterator[Machine]:
    """A machine to be driven by hand, with three settled documents."""
    made = Machine(dsn, guard)
    made.begin(("Alpha lamp.", "Beta river.", "Gamma stone."))
    yield made
    made.teardown()


def test_a_slow_builder_does_not_write_an_older_version(machine: Machine) -> None:
    machine.put("a.txt", "Zebra kettle.", frozenset({EVERYONE}))
    machine.list_source()
    machine.prepare_refill("a.txt")  # cut from the old content while the new one is pending
    machine.settle()
    machine.store_refills()
    machine.runner.run(machine._compare())


def test_a_stale_cache_shows_nothing_hidden(machine: Machine) -> None:
    live = machine.runner.run(live_generations(machine.database))
    groups = frozenset({EVERYONE, "team:red"})

    def found() -> list[str]:
        search = machine.old_search.search(live, "alpha lamp", groups, k=9, deadline=Deadline.after(20))
        return [hit.text for hit in machine.runner.run(search).hits]

    assert "Alpha lamp." in found()
    machine.shelf.documents["a.txt"] = ("Alpha lamp.", frozenset({"team:blue"}), 1)
    machine.runner.run(machine.sync.list_source("shelf"))
    assert "Alpha lamp." not in found()  # nobody told this process, and its copy is younger than the polling interval
