"""Hybrid search: a lexical and a vector leg at once, fused, thinned, and read back under the caller's permissions.

The steps are those of the field's algorithm A: analyse, fetch postings, mask what the caller may not see, score,
fuse, few chunks of one document in the first places, and last one SQL statement that joins live documents with the acl
of this moment. Each leg has a share of the deadline; one that is late or away is left out and named in ``missing``. The
`Knowledge` facade calls it. The invariant: text leaves this file only from that last statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, Unavailable
from roadbed.kernel.label import Label, Sink, parse_label
from roadbed.knowledge.analysis import QUERY_CHARS_MAX, QueryWord, query_identifiers, query_words
from roadbed.knowledge.fusion import Fused, FusionSettings, fuse, limit_per_document
from roadbed.knowledge.generations import Generation
from roadbed.knowledge.language import DEFAULT_LANGUAGE
from roadbed.knowledge.lexical import best, inverse_document_frequency
from roadbed.knowledge.permissions import VISIBLE_TO_GROUPS, VisibleSets
from roadbed.knowledge.postings import Postings, PostingsCache, lexical_scores, visible_positions
from roadbed.knowledge.snapshot import GenerationSnapshot, Snapshots
from roadbed.knowledge.vectors import ABSENT, choose_plan, cosines, cosines_by_sql

K_MAX = 200
COLLECTIONS_MAX = 16
CANDIDATES = (200, 800)
SNAPSHOT_SHARE = 0.2
SNAPSHOT_WAIT_S_MAX = 0.25
LEG_SHARE = 0.7
INLINE_ROWS_MAX = 30_000  # below it, a leg's arithmetic takes less than handing it to a thread

T = TypeVar("T")
_NO_LANGUAGES: Mapping[str, Sequence[str]] = {}


class QueryEmbedder(Protocol):
    """What search needs of ``embed.EmbeddingWorker``."""

    @property
    def digest(self) -> str:
        """The name of the function from text to vector."""

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that answers a query. ``start`` and ``end`` are codepoint offsets into its document's text.

    A leg's score is ``None`` when that leg has none for it: ``vector_score`` is a cosine, ``lexical_score`` a BM25.
    """

    chunk_id: str
    document_id: str
    version: str
    title: str
    uri: str
    source: str
    collection: str
    text: str
    start: int
    end: int
    page: int | None
    location: str
    heading_path: tuple[str, ...]
    score: float
    vector_score: float | None
    lexical_score: float | None
    label: Label


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and how they were found.

    ``missing`` names what was left out (``lexical``, ``vector``, ``fresh documents``). ``generations`` and
    ``watermark`` hold each collection's generation and its epoch. ``term_weights`` is the idf of each word of the
    query by its first term, by the collections' joint frequency; a word that no document holds has the weight of the
    rarest. ``term_names`` is that first term, for each term of a word.
    """

    hits: tuple[Hit, ...]
    missing: tuple[str, ...] = ()
    generations: Mapping[str, int] = field(default_factory=dict)
    watermark: Mapping[str, int] = field(default_factory=dict)
    term_weights: Mapping[str, float] = field(default_factory=dict)
    term_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Part:
    """One collection's side of a search. Its rows are numbered from ``offset`` in the joint ranking.

    ``named`` are the rows that hold an identifier of the query.
    """

    collection: str
    generation: Generation
    snapshot: GenerationSnapshot
    visible: NDArray[np.bool_]
    offset: int
    lexical: NDArray[np.float32] | None = None
    vector: NDArray[np.float32] | None = None
    languages: Sequence[str] = (DEFAULT_LANGUAGE,)
    words: Sequence[QueryWord] = ()
    postings: Mapping[str, Postings] = field(default_factory=dict)
    named: frozenset[int] = frozenset()


class Search:
    """Searches generations; holds the caches that this takes."""

    def __init__(
        self,
        database: Any,
        embedder: QueryEmbedder,
        *,
        snapshots: Snapshots | None = None,
        settings: FusionSettings | None = None,
    ) -> None:
        self._database = database
        self._embedder = embedder
        self.snapshots = snapshots or Snapshots(database)
        self.postings = PostingsCache(database)
        self._visible = VisibleSets(database)
        self._settings = settings or FusionSettings()

    async def search(
        self,
        generations: Mapping[str, Generation],
        query: str,
        groups: frozenset[str],
        *,
        k: int,
        deadline: Deadline,
        label_sink: Sink | None = None,
        languages: Mapping[str, Sequence[str]] = _NO_LANGUAGES,
    ) -> SearchResult:
        """The best ``k`` chunks of these collections' generations that ``groups`` may see and ``label_sink`` may get.

        ``languages`` are those of a collection's questions; where none are given, those of its documents.
        Raises `DeadlineExceeded` when both legs were late, and `Unavailable` when the database is away.
        """
        if not 0 < k <= K_MAX:
            raise InvalidRequest(f"k must be between 1 and {K_MAX}", param="k")
        if len(generations) > COLLECTIONS_MAX:
            raise InvalidRequest(f"at most {COLLECTIONS_MAX} collections can be searched at once", param="collections")
        if not query.strip() or not generations:
            return SearchResult(())
        missing: list[str] = []
        parts = await self._open(generations, groups, deadline, missing)
        for part in parts:
            part.languages = languages.get(part.collection) or part.snapshot.languages or (DEFAULT_LANGUAGE,)
        await self._run_legs(parts, query[:QUERY_CHARS_MAX], deadline, missing)
        hits: list[Hit] = []
        for candidates in CANDIDATES:
            ranked, is_all = _rank(parts, candidates, self._settings)
            hits = await self._read(parts, ranked, groups, k, label_sink)
            if len(hits) >= k or is_all:
                break
        return SearchResult(
            tuple(hits),
            tuple(dict.fromkeys(missing)),
            {part.collection: part.generation.id for part in parts},
            {part.collection: part.snapshot.epoch for part in parts},
            *_term_weights(parts),
        )

    def keep_only(self, generations: frozenset[int]) -> None:
        """Free what is held of generations that no longer serve."""
        for generation in self.snapshots.keep_only(generations):
            self.postings.forget(generation)

    async def aclose(self) -> None:
        """Stop background reading."""
        await self.snapshots.aclose()

    async def _open(
        self, generations: Mapping[str, Generation], groups: frozenset[str], deadline: Deadline, missing: list[str]
    ) -> list[_Part]:
        wait_s = deadline.share(SNAPSHOT_SHARE, at_most_s=SNAPSHOT_WAIT_S_MAX).remaining_s()
        parts: list[_Part] = []
        offset = 0
        for collection, generation in generations.items():
            snapshot, is_current = await self.snapshots.current(
                generation.id, generation.recipe.dimensions, wait_s=wait_s
            )
            if not is_current:
                missing.append("fresh documents")
            acls = await self._visible.visible(groups, snapshot.acl_id_max)
            visible = snapshot.visible_rows(acls)
            parts.append(_Part(collection, generation, snapshot, visible, offset))
            offset += len(visible)
        return parts

    async def _run_legs(self, parts: list[_Part], query: str, deadline: Deadline, missing: list[str]) -> None:
        share = deadline.share(LEG_SHARE)
        lexical, vector = await asyncio.gather(
            _within(self._lexical_leg(parts, query), share), _within(self._vector_leg(parts, query), share)
        )
        if not lexical:
            missing.append("lexical")
        if not vector:
            missing.append("vector")
        if not lexical and not vector:
            if not self._database.is_available:
                raise Unavailable("the index cannot be read: the database does not answer")
            raise DeadlineExceeded("the deadline passed while searching")

    async def _lexical_leg(self, parts: list[_Part], query: str) -> None:
        for part in parts:
            words = query_words(query, part.languages)
            part.postings = await self.postings.get(part.snapshot, [term for word in words for term in word.terms])
            part.words = words
            part.lexical = await _compute(part, lexical_scores, part.snapshot, part.postings, words, part.visible)
            part.named = _named(part, query)

    async def _vector_leg(self, parts: list[_Part], query: str) -> None:
        wanted = [part for part in parts if part.generation.recipe.embedder == self._embedder.digest]
        if len(wanted) < len(parts) or not wanted:
            raise Unavailable("a collection was indexed with another embedding model")
        vector = await self._embedder.embed_query(query)
        for part in wanted:
            plan = choose_plan(
                rows=len(part.visible),
                visible=int(part.visible.sum()),
                in_memory=part.snapshot.vectors is not None,
                has_hnsw=part.generation.has_hnsw,
                limit=CANDIDATES[0],
            )
            if plan == "memory":
                part.vector = await _compute(part, cosines, part.snapshot, vector, part.visible)
            else:
                part.vector = await cosines_by_sql(
                    self._database, part.snapshot, vector, part.visible, limit=CANDIDATES[0], plan=plan
                )

    async def _read(
        self, parts: list[_Part], ranked: list[Fused], groups: frozenset[str], k: int, label_sink: Sink | None
    ) -> list[Hit]:
        """The texts of the best, from live documents whose acl allows it now; equal texts only once."""
        hits: list[Hit] = []
        texts: set[str] = set()
        batch = max(2 * k, 20)
        for start in range(0, len(ranked), batch):
            items = ranked[start : start + batch]
            owners = [_owner(parts, item.chunk) for item in items]
            rows = await self._database.fetch(
                _READ,
                [part.generation.id for part in owners],
                [int(part.snapshot.number[item.chunk - part.offset]) for part, item in zip(owners, items, strict=True)],
                sorted(groups),
            )
            for row in rows:
                item, part = items[row["place"] - 1], owners[row["place"] - 1]
                label = parse_label(row["guarded_label"])
                if row["text"] in texts or (label_sink is not None and not label.may_flow_to(label_sink)):
                    continue
                texts.add(row["text"])
                hits.append(_hit(row, part.collection, item, label))
                if len(hits) == k:
                    return hits
        return hits


_READ = f"""
SELECT w.place, c.chunk_id, c.document_id, c.text, c.start_at, c.end_at, c.page, c.location, c.heading_path,
       d.version, d.title, d.uri, d.source, d.guarded_label
FROM unnest($1::int[], $2::int[]) WITH ORDINALITY AS w(generation, chunk_no, place)
JOIN chunk c ON c.generation = w.generation AND c.chunk_no = w.chunk_no
JOIN document d ON d.id = c.document_id AND d.version IS NOT NULL
WHERE {VISIBLE_TO_GROUPS.format("$3")}
ORDER BY w.place
"""  # noqa: S608 - constants only


async def _within(leg: Awaitable[None], deadline: Deadline) -> bool:
    """Whether the leg ended well in its time; what it could not reach is left to the other leg."""
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            await leg
    except (TimeoutError, Unavailable, DeadlineExceeded):
        return False
    return True


async def _compute(part: _Part, function: Any, *arguments: Any) -> Any:
    if len(part.visible) <= INLINE_ROWS_MAX:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _rank(parts: list[_Part], candidates: int, settings: FusionSettings) -> tuple[list[Fused], bool]:
    """The joint ranking of the legs' best, thinned; and whether no further candidate exists."""
    vector: dict[int, float] = {}
    lexical: dict[int, float] = {}
    document_of: dict[int, tuple[int, int]] = {}
    is_all = True
    for part in parts:
        chosen: set[int] = set()
        for scores, floor in ((part.lexical, 0.0), (part.vector, ABSENT)):
            if scores is None:
                continue
            found = np.flatnonzero(scores > floor)
            is_all = is_all and len(found) <= candidates
            chosen.update(best(found, scores[found], candidates)[0].tolist())
        for position in chosen:
            key = part.offset + position
            # Documents are told apart by their number, whatever the collection.
            document_of[key] = (0, int(part.snapshot.document[position]))
            if part.lexical is not None and part.lexical[position] > 0:
                lexical[key] = float(part.lexical[position])
            if part.vector is not None and part.vector[position] > ABSENT:
                vector[key] = float(part.vector[position])
    named = {part.offset + position for part in parts for position in part.named}
    return limit_per_document(fuse(vector, lexical, settings, named), document_of), is_all


def _owner(parts: list[_Part], key: int) -> _Part:
    return next(part for part in reversed(parts) if key >= part.offset)


def _hit(row: Any, collection: str, item: Fused, label: Label) -> Hit:
    return Hit(
        chunk_id=row["chunk_id"],
        document_id=row["document_id"],
        version=row["version"],
        title=row["title"] or row["uri"],
        uri=row["uri"],
        source=row["source"],
        collection=collection,
        text=row["text"],
        start=row["start_at"],
        end=row["end_at"],
        page=row["page"],
        location=row["location"],
        heading_path=tuple(row["heading_path"]),
        score=item.score,
        vector_score=item.vector_score,
        lexical_score=item.lexical_score,
        label=label,
    )


def _named(part: _Part, query: str) -> frozenset[int]:
    """The rows that the caller may see and that hold an identifier of the query."""
    rows: set[int] = set()
    for identifier in query_identifiers(query):
        postings = part.postings.get(identifier)
        if postings is not None:
            rows.update(visible_positions(part.snapshot, postings, part.visible)[0].tolist())
    return frozenset(rows)


def _term_weights(parts: list[_Part]) -> tuple[dict[str, float], dict[str, str]]:
    """idf by the joint counts of what the caller may see in all parts, and which term each word goes by."""
    rows = sum(int(np.count_nonzero(part.visible)) for part in parts)
    frequency: dict[str, int] = {}
    name_of: dict[str, str] = {}
    for part in parts:
        for word in part.words:
            name = next((name_of[term] for term in word.terms if term in name_of), word.terms[0])
            name_of.update(dict.fromkeys(word.terms, name))
            seen = (visible_positions(part.snapshot, part.postings[term], part.visible)[0] for term in word.terms)
            frequency[name] = frequency.get(name, 0) + sum(map(len, seen))
    weights = {name: inverse_document_frequency(rows, min(rows, count)) for name, count in frequency.items()}
    return weights, name_of
