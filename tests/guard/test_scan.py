"""Whole files: offsets in code points, long lines in windows, and what is no text."""

from __future__ import annotations

import pytest

from roadbed.guard.detect import Detector
from roadbed.guard.finding import merge_overlaps
from roadbed.guard.gate import Guard
from roadbed.guard.scan import SCAN_BYTES_MAX, NotText, scan_report
from roadbed.guard.windows import WINDOW_CHARACTERS, candidates_of_long
from roadbed.kernel.errors import TooLarge

GUARD = Guard(Detector())


def test_spans_are_code_points() -> None:
    text = "𝒳é bob@example.com"
    (span,) = scan_report(GUARD, text.encode()).findings
    assert (span.start, span.end, span.rule) == (3, 18, "email")


@pytest.mark.parametrize("data", [b"a\0b", b"\xff\xfe", b"abc\xc3", "x".encode("utf-16")])
def test_what_is_no_text_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(NotText):
        scan_report(GUARD, data)


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(TooLarge):
        scan_report(GUARD, b"a" * (SCAN_BYTES_MAX + 1))


@pytest.mark.parametrize("filler", ["word ", "x", "é", "1"])
def test_a_long_line_is_looked_through_in_windows(filler: str) -> None:
    value = " bob@example.com "
    size = WINDOW_CHARACTERS // len(filler)
    text = filler * size + value + filler * size + value + filler * 10
    places = [f.start for f in GUARD.scan(text) if f.type == "email"]
    assert places == [text.find(value) + 1, text.rfind(value) + 1]


def test_windows_find_what_the_whole_has_at_every_place() -> None:
    unit = (
        "mail bob@example.com, card 4111 1111 1111 1111, token = 'a8f5f167f44f4964e6c998dee827110c', BSN: 111222333. "
    )
    text = unit * 6_000
    candidates = Detector().candidates
    assert merge_overlaps(candidates_of_long(candidates, text)) == merge_overlaps(candidates(text))
