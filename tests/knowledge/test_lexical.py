"""The scorer against the formula written out, and its choices at the edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.lexical import (
    Bm25,
    ForwardRow,
    TermPostings,
    Visibility,
    best,
    exact_scores,
    impact_step,
    inverse_document_frequency,
    quantise,
    score_terms,
    term_weights,
)

# documents as term -> frequency; stop-word-free, so length is the sum
DOCUMENTS = [{1: 2, 2: 1}, {2: 3, 3: 1, 4: 5}, {1: 1}, {4: 1, 5: 2}, {5: 1, 1: 4, 2: 2, 3: 7}]


def by_the_formula(documents: list[dict[int, int]], query: set[int], parameters: Bm25) -> list[float]:
    """BM25 written out for one document and term at a time."""
    average = sum(sum(document.values()) for document in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for term in query & document.keys():
            holders = sum(term in other for other in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            frequency, length = document[term], sum(document.values())
            saturation = parameters.k1 * (1 - parameters.b + parameters.b * length / average)
            score += idf * frequency * (parameters.k1 + 1) / (frequency + saturation)
        scores.append(score)
    return scores


def laid_out(
    documents: list[dict[int, int]], parameters: Bm25
) -> tuple[dict[int, TermPostings], list[ForwardRow], float]:
    """Exact postings by term, forward rows and the average length."""
    lengths = np.array([sum(document.values()) for document in documents])
    average = float(lengths.mean())
    postings = {}
    for term in sorted({term for document in documents for term in document}):
        chunks = np.array([number for number, document in enumerate(documents) if term in document], dtype=np.uint32)
        counts = np.array([documents[number][term] for number in chunks])
        idf = inverse_document_frequency(len(documents), len(chunks))
        postings[term] = TermPostings(idf, chunks, term_weights(counts, lengths[chunks], average, parameters))
    rows = [
        ForwardRow(int(length), np.array(list(document)), np.array(list(document.values())))
        for length, document in zip(lengths, documents, strict=True)
    ]
    return postings, rows, average


@pytest.mark.parametrize("parameters", [Bm25(), Bm25(2.0, 0.4)])
@pytest.mark.parametrize("query", [{1}, {2, 4}, {1, 2, 3, 4, 5}, {9}])
def test_scores_are_the_formulas(query: set[int], parameters: Bm25) -> None:
    expected = by_the_formula(DOCUMENTS, query, parameters)
    postings, rows, average = laid_out(DOCUMENTS, parameters)
    asked = [postings[term] for term in query if term in postings]
    found = score_terms(asked, len(DOCUMENTS), 10, parameters=parameters)
    assert dict(zip(found.chunks.tolist(), found.scores.tolist(), strict=True)) == pytest.approx(
        {number: score for number, score in enumerate(expected) if score > 0}
    )
    assert found.touched == sum(score > 0 for score in expected)
    idfs = {term: postings[term].idf for term in query if term in postings}
    assert exact_scores(rows, idfs, average, parameters).tolist() == pytest.approx(expected)


def test_impacts_round_up_and_are_never_zero() -> None:
    parameters = Bm25()
    weights = np.array([0.0, 1e-9, 0.5, 1.0, 2.199, 2.2], dtype=np.float32)
    impacts = quantise(weights, parameters)
    assert impacts.dtype == np.uint8
    assert impacts.tolist() == [1, 1, 58, 116, 255, 255]
    restored = impacts * impact_step(parameters)
    assert (restored >= weights - 1e-6).all()
    assert (restored - weights <= impact_step(parameters) + 1e-6).all()


def test_quantised_postings_score_within_a_step_per_term() -> None:
    postings, _, _ = laid_out(DOCUMENTS, Bm25())
    exact = score_terms(list(postings.values()), 5, 5)
    coarse = score_terms([term._replace(weights=quantise(term.weights)) for term in postings.values()], 5, 5)
    bound = impact_step() * sum(term.idf for term in postings.values())
    by_chunk = dict(zip(exact.chunks.tolist(), exact.scores.tolist(), strict=True))
    for chunk, score in zip(coarse.chunks.tolist(), coarse.scores.tolist(), strict=True):
        assert 0 <= score - by_chunk[chunk] + 1e-5 <= bound + 1e-4


def test_only_visible_and_live_chunks_are_scored() -> None:
    postings, _, _ = laid_out(DOCUMENTS, Bm25())
    acl_of_chunk = np.array([0, 1, 0, 2, 1], dtype=np.int32)
    seen = Visibility(acl_of_chunk, np.array([True, False, True]))
    assert sorted(score_terms(list(postings.values()), 5, 10, visible=seen).chunks) == [0, 2, 3]
    dead = np.array([True, False, False, False, False])
    found = score_terms(list(postings.values()), 5, 10, visible=seen._replace(dead=dead))
    assert sorted(found.chunks) == [2, 3]
    assert found.touched == 2


def test_best_breaks_ties_by_the_smaller_chunk() -> None:
    chunks = np.array([8, 2, 6, 4, 0])
    scores = np.array([1.0, 1.0, 3.0, 1.0, 0.5], dtype=np.float32)
    for k, expected in ((1, [6]), (2, [6, 2]), (3, [6, 2, 4]), (5, [6, 2, 4, 8, 0]), (9, [6, 2, 4, 8, 0])):
        assert best(chunks, scores, k)[0].tolist() == expected


def test_no_postings_and_no_k() -> None:
    assert score_terms([], 10, 5).chunks.tolist() == []
    postings, rows, average = laid_out(DOCUMENTS, Bm25())
    assert score_terms([postings[1]], 5, 0).chunks.tolist() == []
    assert exact_scores([], {1: 1.0}, average).tolist() == []
    assert exact_scores(rows, {}, average).tolist() == [0.0] * 5


def test_idf_stays_positive_with_stale_counts() -> None:
    assert inverse_document_frequency(10, 12) > 0
    assert inverse_document_frequency(0, 0) > 0
    assert inverse_document_frequency(1_000, 1) > inverse_document_frequency(1_000, 500)


@given(st.integers(0, 2**32 - 1))
def test_random_corpora_agree_with_the_formula(seed: int) -> None:
    chooser = np.random.default_rng(seed)
    documents = [
        {int(term): int(chooser.integers(1, 5)) for term in chooser.choice(12, chooser.integers(1, 8), replace=False)}
        for _ in range(30)
    ]
    query = {int(term) for term in chooser.choice(12, 3, replace=False)}
    postings, _, _ = laid_out(documents, Bm25())
    found = score_terms([postings[term] for term in query if term in postings], 30, 10)
    expected = by_the_formula(documents, query, Bm25())
    top = sorted((score for score in expected if score > 0), reverse=True)[:10]
    assert found.scores.tolist() == pytest.approx(top, rel=1e-5)
