"""Masking in pieces equals masking the whole, and does not wait for the end."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.mask import mask_text, mask_text_with_map
from roadbed.guard.stream_mask import StreamMasker

DETECTOR = Detector()
VALUES = [
    "bob@example.com", "+47 22 33 44 55", "(212) 736-5000", "212-736-5000 x123", "4111 1111 1111 1111",
    "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "GB29 NWBK 6016 1331 9268 19", "536-90-4399", "social security 536904399",
    "AB 12 34 56 C", "943 476 5919", "86 095 742 719", "2 55 08 14 168 025 38", "X-1234567-L", "RSSMRA85T10A562S",
    "151086 95088", "BSN 111222333", "8.8.8.8", "2001:4860:4860::8888", "AKIAIOSFODNN7ABCDEFG", "telefon 22 33 44 55",
    "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5", "postgres://owner:s3cr3tPw@db/x", "Bearer abcd1234efgh5678ijkl",
    "api_key = 'a8f5f167f44f4964e6c998dee827110c'", "password: hunter2!x", "curl -u admin:d2LkV78zLx https://host",
    "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQabc " * 7 + "\n-----END PRIVATE KEY-----",
    "４１１１ １１１１ １１１１ １１１１",
    "born on May 3rd, 1990", "Date of birth: 12 of March 1984", "Kennzeichen: M AB 1234", "passport no: C01X00T47",
    "driving licence: MORGA657054SM9IJ", "CPF 123.456.789-09", "RUT 12.531.909-2", "A123456(3)", "СНИЛС 112-233-445 95",
    "bob%40example.com", "4111%201111 1111%201111", "&#52;111 1111 1111 &#49;111", "Ym9iQGV4YW1wbGUuY29tIGFuZCBtb3Jl",
    "00:1A:2B:3C:4D:5E", "1M8GDM9AXKP042788", "身分證字號 A123456789",
    "heroku_key = 'ab12cd34-1234-5678-9abc-def012345678'",
    "NRIC S1234567D", "35-209900-176148-1 IMEI 35-209900-176148-1",
    "41\u200b11 1111 1111 1111", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
]  # fmt: skip
FILLERS = [
    " ",
    ", ",
    "\n",
    ". ",
    " and ",
    " the quick brown fox ",
    "é",
    "-",
    "12",
    "A",
    ": ",
    "x",
    " call ",
    "(",
    ")",
    ".",
]
TEXTS = st.lists(st.sampled_from(VALUES) | st.sampled_from(FILLERS) | st.text(max_size=4), max_size=14).map("".join)


def mask_whole(text: str) -> str:
    return mask_text(text, DETECTOR.find(text))


def mask_pieces(text: str, cuts: list[int]) -> str:
    masker = StreamMasker(DETECTOR.candidates)
    places = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    done, out = 0, []
    for place in places:
        out.append(masker.feed(text[done:place]))
        done = place
    out.append(masker.finish())
    return "".join(out)


@settings(max_examples=400)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=40))
def test_any_cut_gives_the_masked_whole(text: str, cuts: list[int]) -> None:
    assert mask_pieces(text, cuts) == mask_whole(text)


@settings(max_examples=60)
@given(TEXTS)
@example("-AB 12 34 56 C")
@example('id:AB 12 34 56 C and "GB29 NWBK 6016 1331 9268 19"')
def test_single_characters_give_the_masked_whole(text: str) -> None:
    assert mask_pieces(text, list(range(len(text)))) == mask_whole(text)


@pytest.mark.parametrize("value", VALUES)
def test_no_part_of_a_value_comes_out_before_it_is_whole(value: str) -> None:
    masker = StreamMasker(DETECTOR.candidates)
    out = "".join(masker.feed(character) for character in f"see {value} and more text") + masker.finish()
    assert out == mask_whole(f"see {value} and more text")
    assert value not in out


def test_ordinary_text_is_hardly_held_back() -> None:
    masker = StreamMasker(DETECTOR.candidates)
    text = "The valuation follows the comparable sales of the last two years in the same district. " * 4
    held = []
    for character in text:
        masker.feed(character)
        held.append(masker.held_count)
    assert max(held) <= 40


def test_a_private_key_without_end_is_not_shown() -> None:
    text = "key -----BEGIN PRIVATE KEY-----\n" + "MIIEvQabc \n" * 50
    assert mask_pieces(text, list(range(0, len(text), 3))) == "key [SECRET]"


def test_what_is_cancelled_stays_unsaid() -> None:
    masker = StreamMasker(DETECTOR.candidates)
    assert masker.feed("my card 4111 1111 1111") == "my "


@given(TEXTS, st.integers(0, 500))
def test_the_map_of_offsets_finds_each_character_again(text: str, place: int) -> None:
    found = DETECTOR.find(text)
    masked, offsets = mask_text_with_map(text, found)
    place = min(place, len(text))
    there = offsets.to_masked(place)
    assert 0 <= there <= len(masked)
    inside = next((f for f in found if f.start < place < f.end), None)
    if inside is None:
        if place < len(text) and not any(f.start == place for f in found):
            assert masked[there] == text[place]
    else:
        assert there == offsets.to_masked(inside.start)
