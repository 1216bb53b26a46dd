"""However a value is written, it is found, and the span in the text as given covers it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from tests.guard.samples import WRITINGS, secrets_by_prefix
from tests.guard.test_detect import FOUND

from roadbed.guard.detect import Detector

DETECTOR = Detector()
CASES = [(rule, value, before) for rule, value, before, _ in FOUND if "\n" not in value]
CASES += [(name, value, "see ") for name, value in secrets_by_prefix(11)]
SHARE_MIN = 0.95


@pytest.mark.parametrize("writing", WRITINGS)
def test_odd_writing_hides_hardly_anything(writing: str) -> None:
    found, missed = 0, Counter[str]()
    for rule, value, before in CASES:
        odd = WRITINGS[writing](value)
        text = f"é {before}{odd} end"
        start = len(text) - len(odd) - 4
        covered = [f for f in DETECTOR.find(text) if f.start < start + len(odd) and f.end > start]
        if covered and covered[0].start <= start + len(odd) // 3 and covered[-1].end >= start + len(odd) * 2 // 3:
            found += 1
        else:
            missed[rule] += 1
    assert found >= SHARE_MIN * len(CASES), dict(missed)


@pytest.mark.parametrize("value", ["4111 1111 1111 1111", "4111111111111111", "BSN 111222333"])
@pytest.mark.parametrize("gap", [" ", "-", ".", "  ", "\u00a0"])
def test_spaced_digits_are_found(value: str, gap: str) -> None:
    words, digits = value.rstrip("0123456789 "), [c for c in value if c.isdigit()]
    text = f"{words} {gap.join(digits)} end"
    assert [f.type for f in DETECTOR.find(text)] in (["card"], ["national_id"])


def test_a_decoded_finding_covers_its_whole_run_and_nothing_else() -> None:
    dice = random.Random(3)
    for _ in range(200):
        lead = "".join(dice.choices("abc é漢%&;=", k=dice.randint(0, 40)))
        text = f"{lead} bob%40example.com, {lead}"
        (finding,) = [f for f in DETECTOR.find(text) if f.type == "email"]
        assert text[finding.start : finding.end] == "bob%40example.com"


def test_harmless_encodings_are_left_alone() -> None:
    for text in (
        "https://example.com/a%20b?x=%7B%22id%22%3A1%7D",
        "<p>Fish &amp; chips &#8211; 12&nbsp;000 pieces</p>",
        "aGVsbG8gd29ybGQsIHRoaXMgaXMgcGxhaW4gdGV4dA==",
        "InternalServerErrorHandlerFactoryBean",
    ):
        assert DETECTOR.find(text) == []
