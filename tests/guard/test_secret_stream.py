"""Secrets in answers: however an answer is cut, what comes out is the masked whole, and hardly anything is held."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.finding import merge_overlaps
from roadbed.guard.mask import mask_text
from roadbed.guard.secret_rules import PREFIX_RULES
from roadbed.guard.secret_stream import HELD_CHARACTERS_MAX, LETTERS_MAX, STEP_CHARACTERS, SecretStream

from .test_stream_mask import FILLERS, VALUES

DETECTOR = Detector()
SECRETS = [
    "AKIAIOSFODNN7ABCDEFG", "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5", "postgres://owner:s3cr3tPw@db/x",
    "Bearer abcd1234efgh5678ijkl", "api_key = 'a8f5f167f44f4964e6c998dee827110c'", "password: hunter2!x",
    "Password = secret!", "password:   Token foo..bar", "curl -u admin:letters https://host", "secret: correct-horse",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQ abc\n-----END PRIVATE KEY-----", "password: aHVudGVyMiF4eHl6IQ==",
    "heroku_key = 'ab12cd34-1234-5678-9abc-def012345678'", "пароль password: hunter2!x", "密码password是：Hunter2!xy",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "sk-proj-abcDEF123ghiJKL456mnoPQR",
    "token=deadbeefcafedeadbeef", "cGFzc3dvcmQ6IGh1bnRlcjIheHl6", "pass%77ord: hunt%65r2!x",
    "hf_" + "abCdEfGhIj" * 3 + "klMn",
]  # fmt: skip
WORDS = [
    "ordinary",
    " well-known ",
    "don't ",
    "Übergröße ",
    "Конституция ",
    "这是一个很长的句子。",
    "ありがとう、",
    "x" * 20,
    "!",
    "3",
]
TEXTS = st.lists(
    st.sampled_from(SECRETS)
    | st.sampled_from(VALUES)
    | st.sampled_from(FILLERS)
    | st.sampled_from(WORDS)
    | st.text(max_size=4),
    max_size=14,
).map("".join)


def whole(text: str) -> str:
    return mask_text(text, merge_overlaps(found for found in DETECTOR.candidates(text) if found.is_secret))


def pieces(text: str, cuts: list[int]) -> str:
    stream = SecretStream(DETECTOR.secrets)
    places = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return "".join(
        stream.feed(text[start:stop]) for start, stop in zip([0, *places], places, strict=False)
    ) + stream.finish()  # fmt: skip


@settings(max_examples=400)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=40))
def test_any_cut_gives_the_masked_whole(text: str, cuts: list[int]) -> None:
    assert pieces(text, cuts) == whole(text)


@settings(max_examples=100)
@given(TEXTS)
@example(" and ".join(SECRETS))
def test_single_characters_give_the_masked_whole(text: str) -> None:
    assert pieces(text, list(range(len(text)))) == whole(text)


@pytest.mark.parametrize("secret", SECRETS)
def test_no_part_of_a_secret_comes_out_before_it_is_whole(secret: str) -> None:
    text = f"so it is {secret} and then more"
    assert pieces(text, list(range(len(text)))) == whole(text)


@pytest.mark.parametrize("letter", ["A", "a", "f"])
def test_the_secrets_that_are_letters_alone_are_longer_than_the_words_that_pass(letter: str) -> None:
    found = [rule for rule in PREFIX_RULES if rule[0].isalpha()]
    assert len(found) > 10
    for prefix, _, pattern in found:
        for length in range(LETTERS_MAX + 1 - len(prefix)):
            assert pattern.fullmatch(prefix + letter * length) is None


def test_the_documentation_is_let_through_with_less_than_128_characters_held() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path("docs").glob("*.md"))[:6]]
    rng = random.Random(5)
    held: list[int] = []
    for text in texts:
        stream = SecretStream(DETECTOR.secrets)
        out, place = [], 0
        while place < len(text):
            size = rng.randint(1, 12)
            out.append(stream.feed(text[place : place + size]))
            held.append(stream.held_count)
            place += size
        assert "".join(out) + stream.finish() == whole(text)
    held.sort()
    assert held[int(len(held) * 0.99)] <= 128
    assert held[len(held) // 2] <= 8


def test_ordinary_words_come_out_as_the_piece_that_came() -> None:
    stream = SecretStream(DETECTOR.secrets)
    for piece in ("The valuation ", "follows, as ", "we said.\n"):
        assert stream.feed(piece) is piece


def test_a_word_without_end_is_let_go_at_a_bound() -> None:
    stream = SecretStream(DETECTOR.secrets)
    out = "".join(stream.feed("abc") for _ in range(3_000))
    assert 0 < len(out) < 9_000
    assert stream.held_count <= 4_500
    assert out + stream.finish() == "abc" * 3_000


LONG_TOKEN = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIi" * 200 + ".dozjgNryP4J3jVmNHl0w5N"
COMPACT = "".join([f'{{"number":{number},"words":["one","two"]}},' for number in range(60)])


@pytest.mark.parametrize("secret", [LONG_TOKEN, "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"])
@pytest.mark.parametrize("size", [1, 7, 150])
def test_a_text_without_blanks_goes_on_and_hides_what_is_in_it(secret: str, size: int) -> None:
    text = f'[{COMPACT}"{secret}",{COMPACT}0]'
    stream, said, held = SecretStream(DETECTOR.secrets), "", 0
    for start in range(0, len(text), size):
        said += stream.feed(text[start : start + size])
        if start < len(COMPACT):
            held = max(held, stream.held_count)
    said += stream.finish()
    assert said == whole(text)
    assert secret not in said
    assert held < HELD_CHARACTERS_MAX + STEP_CHARACTERS + size
