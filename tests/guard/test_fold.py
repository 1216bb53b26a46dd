"""Folding keeps a way back to every source character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.fold import DISTINCT_MAX, fold


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("plain", "plain"),
        ("Müller", "Muller"),
        ("１２３", "123"),
        ("a\u200bb\u00adc\ufe0f", "abc"),
        ("pаураl", "paypal"),
        ("4–1‑1", "4-1-1"),
        ("a\u00a0b\u2003c", "a b c"),
        ("ﬁx", "fix"),
        ("e\u0301", "e"),
        ("١٢٣ १२३", "123 123"),
        ("漢字", "\x1e\x1f"),
        ("\U000e0041\U000e0042", "AB"),
        ("\ud800", "\x1c"),
    ],
)
def test_folded(text: str, view: str) -> None:
    assert fold(text).text == view


@given(st.text(max_size=80))
def test_the_view_is_ascii_and_each_character_maps_back_in_order(text: str) -> None:
    view = fold(text)
    assert view.text.isascii()
    places = [view.source_span(index, index + 1) for index in range(len(view.text))]
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert places == sorted(places)
    for index, (start, end) in enumerate(places):
        assert view.text[index] in fold(text[start:end]).text


def test_many_distinct_characters_fold_as_few_do() -> None:
    many = "".join(chr(code) for code in range(0xC0, 0xC0 + 4 * DISTINCT_MAX) if chr(code).isalpha())
    assert fold(many).text == "".join(fold(character).text for character in many)
