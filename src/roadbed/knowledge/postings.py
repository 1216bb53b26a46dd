"""Postings of a generation as numpy arrays: fetched by term, kept in memory, scored with BM25 over a snapshot.

Reads lex_term and lex_delta; writes nothing. Search's lexical leg calls it. A cached term is complete for chunk
numbers below its watermark, so catching up is one range read; chunks that went away are dropped by the snapshot. The
invariant: document frequency, lengths and totals come from the live rows of one snapshot, so a score depends on the
index's content alone and not on its history.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roadbed.knowledge.analysis import QueryWord
from roadbed.knowledge.lexical import (
    DEFAULT_PARAMETERS,
    Bm25,
    Floats,
    TermPostings,
    inverse_document_frequency,
    term_weights,
)
from roadbed.knowledge.snapshot import GenerationSnapshot

CACHE_BYTES_MAX = 256 * 1024 * 1024
ENTRY_OVERHEAD_BYTES = 400


class Postings(NamedTuple):
    """One term's chunks below ``next_no`` by rising number, with how often each holds it."""

    next_no: int
    chunks: NDArray[np.int32]
    frequencies: NDArray[np.int16]

    @property
    def bytes_held(self) -> int:
        """What keeping it costs."""
        return self.chunks.nbytes + self.frequencies.nbytes + ENTRY_OVERHEAD_BYTES


EMPTY = Postings(0, np.zeros(0, np.int32), np.zeros(0, np.int16))

_FETCH = """
SELECT w.term, coalesce(string_agg(int4send(d.chunk_no), '' ORDER BY d.chunk_no), '') AS chunks,
       coalesce(string_agg(int2send(d.tf), '' ORDER BY d.chunk_no), '') AS frequencies
FROM unnest($2::text[], $3::int[]) AS w(term, first)
JOIN lex_term t ON t.generation = $1 AND t.term = w.term
JOIN lex_delta d ON d.generation = $1 AND d.term_id = t.term_id AND d.chunk_no >= w.first AND d.chunk_no < $4
GROUP BY w.term
"""


class PostingsCache:
    """Postings by (generation, term), the least used dropped first, bounded in bytes."""

    def __init__(self, database: Any, *, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._database = database
        self._bytes_max = bytes_max
        self._bytes = 0
        self._cache: OrderedDict[tuple[int, str], Postings] = OrderedDict()
        self.fetches = 0

    async def get(self, snapshot: GenerationSnapshot, terms: Iterable[str]) -> dict[str, Postings]:
        """The postings of these terms, complete for the chunks that the snapshot knows."""
        generation, next_no = snapshot.generation, snapshot.next_no
        found = {term: self._cache.get((generation, term), EMPTY) for term in terms}
        behind = [term for term, postings in found.items() if postings.next_no < next_no]
        if behind:
            self.fetches += 1
            firsts = [found[term].next_no for term in behind]
            rows = await self._database.fetch(_FETCH, generation, behind, firsts, next_no)
            fresh = {row["term"]: row for row in rows}
            for term in behind:
                found[term] = _extended(found[term], fresh.get(term), next_no)
                self._keep((generation, term), found[term])
        for term in found:
            if (generation, term) in self._cache:
                self._cache.move_to_end((generation, term))
        return found

    def forget(self, generation: int) -> None:
        """Free what is held of a generation."""
        for key in [key for key in self._cache if key[0] == generation]:
            self._bytes -= self._cache.pop(key).bytes_held

    def _keep(self, key: tuple[int, str], postings: Postings) -> None:
        old = self._cache.pop(key, None)
        if old is not None:
            self._bytes -= old.bytes_held
        self._cache[key] = postings
        self._bytes += postings.bytes_held
        while self._bytes > self._bytes_max and self._cache:
            _, dropped = self._cache.popitem(last=False)
            self._bytes -= dropped.bytes_held


def _extended(known: Postings, row: Mapping[str, Any] | None, next_no: int) -> Postings:
    if row is None:
        return Postings(next_no, known.chunks, known.frequencies)
    chunks = np.frombuffer(row["chunks"], ">i4").astype(np.int32)
    frequencies = np.frombuffer(row["frequencies"], ">i2").astype(np.int16)
    return Postings(next_no, np.concatenate([known.chunks, chunks]), np.concatenate([known.frequencies, frequencies]))


def lexical_scores(
    snapshot: GenerationSnapshot,
    postings: Mapping[str, Postings],
    words: Iterable[QueryWord],
    visible: NDArray[np.bool_],
    parameters: Bm25 = DEFAULT_PARAMETERS,
) -> Floats:
    """The BM25 score of every row of the snapshot; 0 for rows without a term of the query or not visible."""
    totals = np.zeros(len(visible), dtype=np.float32)
    for term in weighted_terms(snapshot, postings, words, visible, parameters):
        totals[term.chunks] += term.weights * np.float32(term.idf)
    return totals


def weighted_terms(
    snapshot: GenerationSnapshot,
    postings: Mapping[str, Postings],
    words: Iterable[QueryWord],
    visible: NDArray[np.bool_],
    parameters: Bm25 = DEFAULT_PARAMETERS,
) -> list[TermPostings]:
    """Each term's rows that the caller may see, with exact weights.

    How telling a word is, is counted over those rows alone: else the scores of what a caller sees would tell which
    words the documents hold that he does not see. Terms come in a fixed order, so that sums are the same on every run.
    """
    weighted: dict[str, TermPostings] = {}
    rows = int(np.count_nonzero(visible))
    for word in words:
        found = {term: visible_positions(snapshot, postings[term], visible) for term in word.terms if term in postings}
        frequency = min(rows, sum(len(positions) for positions, _ in found.values()))
        idf = inverse_document_frequency(rows, frequency) * word.factor
        for term, (positions, live) in found.items():
            if len(positions):
                counts = postings[term].frequencies[: len(live)][live]
                weights = term_weights(counts, snapshot.length[positions], snapshot.average_length, parameters)
                weighted[term] = TermPostings(idf, positions, weights)
    return [weighted[term] for term in sorted(weighted)]


def visible_positions(
    snapshot: GenerationSnapshot, entry: Postings, visible: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The visible rows of a term, and which of its known chunks they are."""
    known = int(np.searchsorted(entry.chunks, snapshot.next_no))  # the cache may be ahead of this snapshot
    positions = snapshot.position_of[entry.chunks[:known]]
    live = (positions >= 0) & (positions < len(visible))
    live[live] = visible[positions[live]]
    return positions[live], live
