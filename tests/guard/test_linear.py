"""Texts made to cost much: the guard's work grows with their length, and not with its square."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

import pytest

from roadbed.guard.detect import Detector
from roadbed.guard.secret_rules import VALUE_CHARACTERS_MAX

DETECTOR = Detector()
LENGTH = 6_000
UNITS = (
    *("4111 1111 1111 1111 ", "536-90-4399 ", "212-736-5000 ", "0047 22 33 ", "+47 22 ", "1", "1 ", "1.", "1-", "(1"),
    *("@", "a@", "a@b.co ", "a@b.", ".", "1.2.3.4.", "a::", "a:b:", "00:1A:2b:", "NO93 8601 ", "AB12", "P<UTO"),
    *("password=", "password:", "password ", 'password="', "api_key:", "authorization=basic ", "bearer "),
    *(
        "aws_secret=",
        "aws",
        "('password', '",
        "mysql -p",
        "-u a:",
        " --token ",
        "env ",
        "password\nvalue:",
        "kind: Secret\ndata:\n",
    ),
    *("sk-", "ghp_", "eyJ", "-----BEGIN ", "a://b:c@", "%41", "%2541", "&amp;", "\\u0041", "QUJD", "aB3dE5gH7jK9mN1p "),
    *("aGVsbG8gdGhlcmUgbXkgZnJpZW5kIA ", "a\u200b", "\u00fc", "born on 1", "passport ", "licence plate AB 1", "x"),
)


def calls_for(text: str) -> Counter[str]:
    """How often each function is called, of ours and of the library."""
    DETECTOR.find(text)  # what is remembered of ways of writing is no work of a text
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            counted[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        DETECTOR.find(text)
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize("unit", UNITS)
def test_twice_the_length_is_twice_the_work(unit: str) -> None:
    count = LENGTH // len(unit)
    once, twice = calls_for(unit * count).total(), calls_for(unit * (2 * count)).total()
    assert twice <= 2.2 * once + 500


def test_of_a_word_that_is_too_long_for_a_value_only_the_end_is_read() -> None:
    signs = 10_000
    counted = calls_for("password=" * signs)
    assert counted["secret_key_before"] < 6 * (VALUE_CHARACTERS_MAX // len("password=") + 20)


@pytest.mark.parametrize(
    "text",
    [
        "password=s3cretX9&token=a8f5f167f44f4964e6c998dee827110c",
        "password=password=s3cretX9",
        "token=password=s3cretX9 pwd=Zx9!kq",
        "pwd='abc1token=\"a8f5f167f44f4964e6c998dee827110c\" x'",
        "password=" * 900 + "s3cretX9",
    ],
)
def test_every_sign_is_looked_at(text: str) -> None:
    found = DETECTOR.find(text)
    for value in ("s3cretX9", "a8f5f167f44f4964e6c998dee827110c", "Zx9!kq"):
        at = text.find(value)
        assert at < 0 or any(finding.start <= at and at + len(value) <= finding.end for finding in found), value


@pytest.mark.parametrize("scheme", ["Bearer", "basic  "])
def test_a_scheme_is_read_where_the_trigger_was(scheme: str) -> None:
    text = f"basic basic {scheme} aB3dE5gH7jK9mN1pQ3sT5"
    assert [(f.rule, text[f.start : f.end]) for f in DETECTOR.find(text)] == [("bearer_token", "aB3dE5gH7jK9mN1pQ3sT5")]
