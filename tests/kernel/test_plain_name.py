"""Names from outside: one line, nothing that a screen obeys, and honest names as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.kernel.plain_name import misleads, name_in_plain_sight, plain_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("report\u202efdp.exe", "reportfdp.exe"),
        ("a\nb\r\n  c\td", "a b c d"),
        ("\x1b[2Jwipe\x07", "[2Jwipe"),
        ("\u200eScan 4.pdf", "Scan 4.pdf"),
        ("x\u2066y\u2069\u2028z\x85", "xy z"),
    ],
)
def test_what_a_screen_obeys_goes(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize("name", ["Årsrapport (2).pdf", "گزارش‌ها.docx", "תקציב.xlsx", "👩\u200d💻 notes.md"])
def test_honest_names_stay(name: str) -> None:
    assert plain_name(name) == name
    assert not misleads(name)
    assert name_in_plain_sight(name) == name


@given(st.text())
def test_a_plain_name_is_one_line_and_stays_so(text: str) -> None:
    plain = plain_name(text)
    assert not misleads(plain)
    assert len(plain.splitlines()) <= 1
    assert plain_name(plain) == plain
    assert not misleads(name_in_plain_sight(text))
