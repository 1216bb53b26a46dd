"""BM25 over postings held as numpy arrays: weights, one-byte impacts, the best chunks.

Pure arithmetic: no SQL, no text, no caching. ``postings`` scores searches with the idf, the weights and `best` of this
file. `quantise`, `score_terms` and `exact_scores` score postings that are given whole, for ``bench/retrieval`` and as
the tests' reference. A chunk is a dense ``chunk_no`` of its generation, so that scores are one array.

The one scorer: ``idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))``,
``weight(t, d) = tf (k1 + 1) / (tf + k1 (1 - b + b length / average_length))``; the score is the sum of idf x weight
over the distinct terms of the query, each idf times its word's factor from ``analysis.query_words``. The invariant:
weights are in (0, k1 + 1] and an impact is never 0, so a touched chunk always has a positive score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IMPACT_MAX = 255

Impacts = NDArray[np.uint8]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Bm25:
    """The two parameters of BM25, fixed per generation: ``k1`` saturates repetition, ``b`` discounts length."""

    k1: float = 1.2
    b: float = 0.75


DEFAULT_PARAMETERS = Bm25()


class TermPostings(NamedTuple):
    """(Part of) one term's postings. A chunk occurs at most once; ``idf`` includes the query's factor.

    ``weights`` are impacts (uint8, from blocks) or exact weights (float32, from fresh rows); a term that has both is
    given as two.
    """

    idf: float
    chunks: NDArray[Any]
    weights: Impacts | Floats


class ForwardRow(NamedTuple):
    """What the index keeps of one chunk for exact rescoring: its length and its terms with their frequencies."""

    length: int
    term_ids: NDArray[Any]
    frequencies: NDArray[Any]


class Visibility(NamedTuple):
    """Which chunks a caller may see: ``visible_acls[acl_of_chunk[chunk_no]]``, less the dead ones."""

    acl_of_chunk: NDArray[np.int32]
    visible_acls: Flags
    dead: Flags | None = None

    def keep(self, chunks: NDArray[Any]) -> Flags:
        """True for the visible ones of these chunks. Masking the ids at hand is cheaper than building a full mask."""
        kept: Flags = self.visible_acls[self.acl_of_chunk[chunks]]
        return kept if self.dead is None else kept & ~self.dead[chunks]


class Scored(NamedTuple):
    """Chunks by falling score, then rising ``chunk_no``; ``touched`` counts all that matched."""

    chunks: NDArray[np.int64]
    scores: Floats
    touched: int


def inverse_document_frequency(documents: int, document_frequency: int) -> float:
    """How telling a term is; always positive. Slightly stale counts (deltas in, deletes not) do no harm."""
    frequency = min(document_frequency, documents)
    return math.log1p((documents - frequency + 0.5) / (frequency + 0.5))


def term_weights(
    frequencies: NDArray[Any],
    lengths: NDArray[Any],
    average_length: float,
    parameters: Bm25 = DEFAULT_PARAMETERS,
) -> Floats:
    """BM25 weights without idf, element by element."""
    counts = np.asarray(frequencies, dtype=np.float32)
    relative = np.asarray(lengths, dtype=np.float32) / np.float32(average_length or 1.0)
    saturation = parameters.k1 * (1.0 - parameters.b + parameters.b * relative)
    return np.asarray(counts * (parameters.k1 + 1.0) / (counts + saturation), dtype=np.float32)


def quantise(weights: NDArray[Any], parameters: Bm25 = DEFAULT_PARAMETERS) -> Impacts:
    """Weights as one byte, rounded up: ``ceil(weight / (k1 + 1) * 255)``, at least 1. Costs <= .002 nDCG@10."""
    scaled = np.ceil(np.asarray(weights, dtype=np.float64) * (IMPACT_MAX / (parameters.k1 + 1.0)) - 1e-6)
    return np.clip(scaled, 1, IMPACT_MAX).astype(np.uint8)


def impact_step(parameters: Bm25 = DEFAULT_PARAMETERS) -> float:
    """The weight of one unit of impact."""
    return (parameters.k1 + 1.0) / IMPACT_MAX


def best(chunks: NDArray[Any], scores: Floats, k: int) -> tuple[NDArray[np.int64], Floats]:
    """The ``k`` best by (falling score, rising chunk); equal scores at the cut go to the smaller chunks."""
    if len(chunks) > k:
        # Negated: introselect near the end of an array with many equal values took 194 ms for a million.
        cut = -np.partition(-scores, k - 1)[k - 1]
        above, equal = np.flatnonzero(scores > cut), np.flatnonzero(scores == cut)
        missing = k - len(above)
        if len(equal) > missing:
            equal = equal[np.argsort(chunks[equal], kind="stable")[:missing]]
        kept = np.concatenate([above, equal])
        chunks, scores = chunks[kept], scores[kept]
    order = np.lexsort((chunks, -scores))
    return chunks[order].astype(np.int64), scores[order]


def score_terms(
    postings: Sequence[TermPostings],
    size: int,
    k: int,
    *,
    visible: Visibility | None = None,
    parameters: Bm25 = DEFAULT_PARAMETERS,
) -> Scored:
    """The ``k`` best of the chunks that the postings name; ``size`` is one more than the largest ``chunk_no``.

    Terms are added one by one, so fancy indexing adds correctly (a chunk is unique within a term), and only touched
    chunks are looked at afterwards.
    """
    totals = np.zeros(size, dtype=np.float32)
    touched: list[NDArray[Any]] = []
    step = impact_step(parameters)
    for idf, chunks, weights in postings:
        if visible is not None and len(chunks):
            kept = visible.keep(chunks)
            chunks, weights = chunks[kept], weights[kept]
        factor = idf * step if weights.dtype == np.uint8 else idf
        before = totals[chunks]
        touched.append(chunks[before == 0.0])
        totals[chunks] = before + weights * np.float32(factor)
    if not touched or k <= 0:
        return Scored(np.zeros(0, np.int64), np.zeros(0, np.float32), sum(map(len, touched)))
    all_touched = np.concatenate(touched)
    chunks, scores = best(all_touched, totals[all_touched], k)
    return Scored(chunks, scores, len(all_touched))


def exact_scores(
    rows: Sequence[ForwardRow],
    idf_of_term: Mapping[int, float],
    average_length: float,
    parameters: Bm25 = DEFAULT_PARAMETERS,
) -> Floats:
    """Unquantised scores of candidate chunks from their forward rows, in the order of ``rows``."""
    if not rows or not idf_of_term:
        return np.zeros(len(rows), dtype=np.float32)
    wanted = np.array(sorted(idf_of_term), dtype=np.int64)
    idfs = np.array([idf_of_term[int(term)] for term in wanted])
    terms = np.concatenate([row.term_ids for row in rows]).astype(np.int64)
    row_of = np.repeat(np.arange(len(rows)), [len(row.term_ids) for row in rows])
    place = np.minimum(np.searchsorted(wanted, terms), len(wanted) - 1)
    hit = wanted[place] == terms
    frequencies = np.concatenate([row.frequencies for row in rows])[hit]
    lengths = np.array([row.length for row in rows])[row_of[hit]]
    contributions = term_weights(frequencies, lengths, average_length, parameters) * idfs[place[hit]]
    return np.bincount(row_of[hit], weights=contributions, minlength=len(rows)).astype(np.float32)
