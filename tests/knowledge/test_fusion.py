"""Fusion: what each method makes of two legs, and the thinning behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.knowledge.fusion import (
    Fused,
    FusionSettings,
    fuse,
    limit_per_document,
    missing_scores,
)

CONVEX = FusionSettings("convex", 0.5)
RANKS = FusionSettings("ranks", 0.5)


def order(items: list[Fused]) -> list[int]:
    return [item.chunk for item in items]


def test_missing_scores_are_the_other_legs_candidates() -> None:
    assert missing_scores({1: 0.9, 4: 0.2}, {1: 3.0, 7: 2.0, 2: 1.0}) == ([2, 7], [4])


def test_convex_uses_theoretical_floors() -> None:
    fused = fuse({1: 0.5, 2: -1.0}, {2: 8.0, 1: 4.0}, CONVEX)
    assert order(fused) == [1, 2]
    assert [item.score for item in fused] == pytest.approx([0.75, 0.5])
    assert fused[0].vector_score == 0.5
    assert fused[0].lexical_score == 4.0


def test_last_hit_of_a_leg_keeps_its_worth() -> None:
    (only, absent) = fuse({1: 0.5, 2: 0.5}, {1: 2.0}, CONVEX)
    assert only.chunk == 1
    assert only.score == pytest.approx(1.0)
    assert absent.lexical_score is None


def test_ranks_follow_the_published_formula() -> None:
    fused = fuse({1: 0.9, 2: 0.8}, {2: 9.0, 3: 1.0}, RANKS)
    assert {item.chunk: item.score for item in fused} == pytest.approx(
        {1: 0.5 / 61, 2: 0.5 / 62 + 0.5 / 61, 3: 0.5 / 62}
    )
    assert order(fused) == [2, 1, 3]


def test_ranks_give_ties_one_rank_and_zero_none() -> None:
    fused = {item.chunk: item.score for item in fuse({}, {1: 2.0, 2: 2.0, 3: 0.0}, RANKS)}
    assert fused[1] == fused[2]
    assert fused[3] == 0.0


@pytest.mark.parametrize("settings", [CONVEX, RANKS])
def test_one_empty_leg_leaves_the_other_order(settings: FusionSettings) -> None:
    assert order(fuse({}, {5: 1.0, 3: 2.0}, settings)) == [3, 5]
    assert order(fuse({5: -0.1, 3: 0.3}, {}, settings)) == [3, 5]
    assert fuse({}, {}, settings) == []


@pytest.mark.parametrize("settings", [CONVEX, RANKS])
@given(
    vector=st.dictionaries(st.integers(0, 20), st.floats(-1, 1), max_size=12),
    lexical=st.dictionaries(st.integers(0, 20), st.floats(0, 50), max_size=12),
)
def test_order_is_total_and_independent_of_insertion(
    settings: FusionSettings, vector: dict[int, float], lexical: dict[int, float]
) -> None:
    fused = fuse(vector, lexical, settings)
    assert {item.chunk for item in fused} == vector.keys() | lexical.keys()
    assert fused == sorted(fused, key=lambda item: (-item.score, item.chunk))
    assert fused == fuse(dict(reversed(vector.items())), dict(reversed(lexical.items())), settings)


def ranking(*chunks: int) -> list[Fused]:
    return [Fused(chunk, 1.0 - place / 10, None, None) for place, chunk in enumerate(chunks)]


def test_the_first_places_hold_at_most_three_chunks_of_a_document() -> None:
    documents = {1: "a", 2: "a", 3: "b", 4: "a", 5: "a", 6: "b", 8: "a"}
    assert order(limit_per_document(ranking(1, 2, 3, 4, 5, 6, 7, 8), documents)) == [1, 2, 3, 4, 6, 7, 5, 8]
    assert order(limit_per_document(ranking(1, 2, 3, 4, 5, 6, 7, 8), documents, places=5)) == [1, 2, 3, 4, 6, 5, 7, 8]
    assert order(limit_per_document(ranking(1, 2, 3), documents, 1)) == [1, 3, 2]


def test_the_named_come_before_all_others_and_stay_in_order() -> None:
    plain = fuse({1: 0.9, 2: 0.5, 3: 0.4}, {1: 3.0, 2: 1.0})
    named = fuse({1: 0.9, 2: 0.5, 3: 0.4}, {1: 3.0, 2: 1.0}, named={3, 2})
    assert [item.chunk for item in plain] == [1, 2, 3]
    assert [item.chunk for item in named] == [2, 3, 1]
    assert all(0.0 <= item.score <= 1.0 for item in named)
