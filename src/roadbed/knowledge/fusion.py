"""Joining the lexical and the vector ranking into one, and thinning the result.

Pure functions over scores by chunk: search gathers the legs' candidates, gives each its exact score in the other leg
(:func:`missing_scores` says which), and calls :func:`fuse`. The invariant: for the same scores the order is the same on
every machine; ties are broken by the smaller chunk.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

RANK_CONSTANT = 60
COSINE_FLOOR = -1.0
BM25_FLOOR = 0.0
CHUNKS_PER_DOCUMENT_MAX = 3
VARIED_PLACES = 8  # what one sees of a result, and a model of the passages

Scores = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How the two legs are weighed. ``vector_share`` is the vectors' part of one, the rest is the words'.

    The share was chosen on SciFact's training claims (809 queries): nDCG@10 .739 at .7, .724 by ranks. Cosines spread
    over a fifth of their theoretical range and BM25 over all of its own, so an equal share would favour the words.
    """

    method: Literal["convex", "ranks"] = "convex"
    vector_share: float = 0.7


class Fused(NamedTuple):
    """One chunk of the joint ranking; a leg's score is None when it has none there (a late leg, no vector)."""

    chunk: int
    score: float
    vector_score: float | None
    lexical_score: float | None


def missing_scores(vector: Scores, lexical: Scores) -> tuple[list[int], list[int]]:
    """Chunks that only the other leg found: (to be scored by vector, to be scored by words), each rising.

    Filling them in before fusing removes half of what a leg loses by ending at its k-th candidate.
    """
    return sorted(lexical.keys() - vector.keys()), sorted(vector.keys() - lexical.keys())


def _normalised(scores: Scores, floor: float) -> dict[int, float]:
    """Scores between the leg's theoretical floor and its best; never its worst, which would void the last hit."""
    top = max(scores.values(), default=floor)
    if top <= floor:
        return dict.fromkeys(scores, 0.0)
    return {chunk: (score - floor) / (top - floor) for chunk, score in scores.items()}


def _reciprocal_ranks(scores: Scores) -> dict[int, float]:
    """1 / (60 + rank), equal scores sharing the better rank so that ties do not vote."""
    reciprocal: dict[int, float] = {}
    rank, previous = 0, None
    for place, (chunk, score) in enumerate(sorted(scores.items(), key=lambda item: (-item[1], item[0])), start=1):
        if score != previous:
            rank, previous = place, score
        reciprocal[chunk] = 1.0 / (RANK_CONSTANT + rank)
    return reciprocal


def fuse(
    vector: Scores, lexical: Scores, settings: FusionSettings | None = None, named: Collection[int] = ()
) -> list[Fused]:
    """All candidates of both legs, best first; those ``named`` before all others, whatever their likeness.

    ``vector`` holds cosines, ``lexical`` BM25 scores. ``convex`` adds the normalised scores (floors -1 and 0),
    ``ranks`` adds reciprocal ranks; a chunk absent from a leg gets nothing from it. An empty leg leaves the other's
    order as it is. A BM25 of 0 (no term in common) counts as absent for ``ranks``.
    """
    settings = settings or FusionSettings()
    if settings.method == "convex":
        by_vector, by_words = _normalised(vector, COSINE_FLOOR), _normalised(lexical, BM25_FLOOR)
    else:
        by_vector = _reciprocal_ranks(vector)
        by_words = _reciprocal_ranks({chunk: score for chunk, score in lexical.items() if score > BM25_FLOOR})
    share = settings.vector_share
    fused = []
    for chunk in vector.keys() | lexical.keys():
        score = share * by_vector.get(chunk, 0.0) + (1.0 - share) * by_words.get(chunk, 0.0)
        if named:
            score = (score + (chunk in named)) / 2.0
        fused.append(Fused(chunk, score, vector.get(chunk), lexical.get(chunk)))
    return sorted(fused, key=lambda item: (-item.score, item.chunk))


def limit_per_document(
    ranked: Iterable[Fused],
    document_of: Mapping[int, Hashable],
    limit: int = CHUNKS_PER_DOCUMENT_MAX,
    places: int = VARIED_PLACES,
) -> list[Fused]:
    """The ranking with at most ``limit`` chunks of a document in its first ``places``; all others follow as ranked.

    A reader of the first results sees several documents, and whoever reads on gets what is likest, though it stands in
    one long document. A chunk without a document stands for itself.
    """
    seen: dict[Hashable, int] = {}
    first: list[Fused] = []
    rest: list[Fused] = []
    for item in ranked:
        document = document_of.get(item.chunk, ("chunk", item.chunk))
        seen[document] = seen.get(document, 0) + 1
        (first if len(first) < places and seen[document] <= limit else rest).append(item)
    return first + rest
