"""The passes: what one of them leaves to another is found all the same."""

from __future__ import annotations

import base64
import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.guard.detect import Detector
from roadbed.guard.engine import HyperscanEngine, PortableEngine, parts_around
from roadbed.guard.letter_ids import FIRST_ID, LENGTH_MAX, LETTER_RULES, SHAPES, LetterRule
from roadbed.guard.national_ids import RULES

ENGINE = HyperscanEngine()
DETECTOR = Detector(engine=ENGINE)
PORTABLE = Detector(engine=PortableEngine())
WORDS = ("", "card ", "ssn: ", "BSN ", "tel. ", "dni ", "rut ", "vat id ", "IBAN ", "born ", "token=", "x", "5", "1.")
VALUES = (
    *("bob@example.com", "+47 22 33 44 55", "NO93 8601 1117 947", "api_key=a8f5f167f44f4964e6c998dee827110c"),
    *("8.8.8.8", "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5", "RSSMRA85T10A562S", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
    *("131052-308T", "1EG4-TE5-MK73", "0x52908400098527886E0F7030069857D2E4169EE7", "00:1A:2b:3c:4d:5e", "12345678Z"),
)


@pytest.mark.parametrize("index", range(len(LETTER_RULES)), ids=[rule.name for rule in LETTER_RULES])
def test_an_identifier_with_letters_opens_the_gate_to_its_pass(index: int) -> None:
    rule = LETTER_RULES[index]

    @settings(max_examples=15, derandomize=True, deadline=None, database=None)
    @given(st.from_regex(re.compile(rf"\A(?:{rule.shape})\Z", re.ASCII)).map(str.strip))
    def opens(value: str) -> None:
        if value.isascii() and SHAPES[index].search(value) and _is_one(rule, value):
            hits = ENGINE.hits(f"see {value} there")
            assert (FIRST_ID + index, len(value) + 4) in hits, value

    opens()


def _is_one(rule: LetterRule, value: str) -> bool:
    """Whether a value may be one: of keys and cars, which are long, only with digits and letters as they all have."""
    if rule.name in ("vin", "tron", "it_codice_fiscale", "de_document"):
        return bool(re.search(r"[A-Za-z][0-9]", value))
    return True


FAR = "The parcels of the other street were adjusted as the manual says in its last section. " * 40
SAMPLES = (
    *("RSSMRA 8LALL-HLLLL", "RSSMRA85T10A562S", "RSSMRA-8LT10A562S", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
    *("X-1.234.567-L", "12 345678 A 123", "DE136695976", "1M8GDM9AXKP042788", "2 55 08 2A 168 025 38"),
)


@pytest.mark.parametrize("index", range(len(LETTER_RULES)), ids=[rule.name for rule in LETTER_RULES])
def test_an_identifier_in_a_long_text_is_found_around_its_own_gate(index: int) -> None:
    rule = LETTER_RULES[index]

    @settings(max_examples=15, derandomize=True, deadline=None, database=None)
    @given(st.from_regex(re.compile(rf"\A(?:{rule.shape})\Z", re.ASCII)).map(str.strip))
    def is_found(value: str) -> None:
        if value.isascii() and SHAPES[index].search(value) and _is_one(rule, value):
            before = f"{FAR}see A4 there. {FAR}"
            hits = ENGINE.hits(f"{before} {value} {FAR}")
            assert (FIRST_ID + index, len(before) + 1 + len(value)) in hits, value

    is_found()


def test_an_italian_number_whose_only_digit_stands_behind_a_space_opens_the_gate() -> None:
    index = next(index for index, rule in enumerate(LETTER_RULES) if rule.name == "it_codice_fiscale")
    assert (FIRST_ID + index, 22) in ENGINE.hits("see RSSMRA 8LALL-HLLLL there")


@given(
    st.lists(
        st.tuples(st.sampled_from((*VALUES, *SAMPLES, "A4", "x")), st.sampled_from(("", " ", FAR, FAR[:80]))),
        max_size=6,
    )
)
@settings(max_examples=15, deadline=None)
def test_parts_of_a_long_text_hold_what_all_of_it_holds(parts: list[tuple[str, str]]) -> None:
    text = f"{FAR}{FAR} A4 " + "".join([f"{value} {gap}" for value, gap in parts])
    assert DETECTOR.find(text) == PORTABLE.find(text)


@given(st.lists(st.integers(1, 3_000), max_size=8), st.integers(3_000, 3_100))
def test_the_parts_around_places_are_apart_and_hold_them_with_their_reach(ends: list[int], size: int) -> None:
    parts = parts_around(ends, size)
    assert all(begin < stop for begin, stop in parts)
    assert all(before[1] < after[0] for before, after in pairwise(parts))
    for end in ends:
        assert any(
            begin <= max(0, end - LENGTH_MAX - 1) and min(size, end + LENGTH_MAX) <= stop for begin, stop in parts
        )


def test_a_short_part_of_a_long_text_is_searched_for_identifiers() -> None:
    text = f"{FAR}see A4 there. {FAR}"
    searched = ENGINE._near_gates(ENGINE._threads.scans[4], text.encode()) if ENGINE.hits(text) is not None else []
    assert len(searched) == 1
    assert searched[0][1] - searched[0][0] < 200


def test_ordinary_prose_does_not_open_the_gate() -> None:
    text = "Parcels were adjusted by 4 percent in 2024, as the manual of 2019 says in section 3.2; see 12 May. " * 20
    assert DETECTOR.find(text) == []
    assert ENGINE.hits(text) == []


def test_the_passes_find_what_one_pattern_at_a_time_finds() -> None:
    rng = random.Random(20_261_128)
    written = [form.replace("_", " ") for rule in RULES.all for form in f"{rule.formats} {rule.shapes}".split()]
    found = 0
    for _ in range(500):
        text = "".join(
            rng.choice(WORDS) + _part(rng, written) + rng.choice((" ", ", ", "\n", "    ")) for _ in range(3)
        )
        expected = PORTABLE.find(text)
        assert DETECTOR.find(text) == expected, text
        found += len(expected)
    assert found > 300


def _part(rng: random.Random, written: list[str]) -> str:
    kind = rng.random()
    if kind < 0.4:
        return re.sub("9", lambda _: rng.choice("0123456789"), rng.choice(written))
    if kind < 0.6:
        return rng.choice(VALUES)
    if kind < 0.7:
        return base64.b64encode(rng.choice(VALUES).encode()).decode()
    return "".join(rng.choice("00112233456789 .-/()+ABCabcTx") for _ in range(rng.randint(7, 40)))
