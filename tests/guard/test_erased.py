"""Erased values: found by digest as they are found by themselves, whatever stands between their words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.erased import ErasedValues, SubjectInvalid, WordFinder, checked_words, digest_of_words

KEY = b"k" * 32


def erased(*values: str) -> ErasedValues:
    """The digests of some values."""
    return ErasedValues(KEY, [(len(checked_words(v)), digest_of_words(KEY, checked_words(v))) for v in values])


@pytest.mark.parametrize(
    "text", ["Jane Q. Doe", "JANE q doe", "jane-q-doe", "Jane\n Q  Doe", "\uff2aane Q\u00a0Doe", "J\u0430ne Q Doe"]
)
def test_odd_forms_hide_nothing(text: str) -> None:
    whole = f"By {text}, signed."
    (found,) = erased("jane q doe", "max@example.org").findings(whole)
    assert whole[found.start : found.end] == text
    assert WordFinder("Jane Q Doe").redacted(whole) == "By [ERASED], signed."


def test_parts_of_words_and_other_people_stay() -> None:
    assert erased("jane doe").findings("Janet Doe met Jane Doerr and Doe, Jane.") == []
    assert WordFinder("jane doe").redacted("Janet Doe met Jane Roe") is None


@given(st.text(), st.text())
def test_a_digest_finds_what_its_value_finds(before: str, after: str) -> None:
    text = f"{before} kari-nordmann {after}"
    assert erased("kari nordmann").findings(text)
    assert WordFinder("Kari Nordmann").spans(text)


@pytest.mark.parametrize("value", ["", "abc", "....", "x" * 201, " ".join("abcdefghijklm")])
def test_a_value_that_would_hit_anything_is_refused(value: str) -> None:
    with pytest.raises(SubjectInvalid):
        checked_words(value)
