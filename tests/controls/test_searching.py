"""A planted value is found in any encoding, across any two pieces, and nothing else is."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.controls.planted import Run
from roadbed.controls.searching import Searcher
from roadbed.guard.gate import Guard

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda data: data,
    "upper": bytes.upper,
    "url": lambda data: urllib.parse.quote(data).encode(),
    "json": lambda data: json.dumps(data.decode()).encode(),
    "hex": lambda data: data.hex().encode(),
    "upper hex": lambda data: data.hex().upper().encode(),
    "base64": base64.b64encode,
    "gzip": gzip.compress,
    "hex of gzip": lambda data: b"\\\\x" + gzip.compress(data).hex().encode(),
    "base64 in gzip": lambda data: gzip.compress(base64.b64encode(data)),
    "utf-16": lambda data: data.decode().encode("utf-16-le"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_each_encoding_at_each_alignment(encoding: str, before: str) -> None:
    run = Run()
    text = f"{before}{run.both('p')}."
    searcher = Searcher((run.mark, run.card_mark), run.values)
    searcher.feed("sink", b"before " + ENCODINGS[encoding](text.encode()) + b" after")
    assert {hit.value.kind for hit in searcher.hits} == {"secret", "mail", "card"}


@given(st.data())
def test_a_cut_hides_nothing(data: st.DataObject) -> None:
    run = Run()
    text = f"something before {run.both('p')} and after".encode()
    cut = data.draw(st.integers(0, len(text)))
    searcher = Searcher((run.mark, run.card_mark), run.values)
    searcher.feed("sink", text[:cut])
    searcher.feed("sink", text[cut:])
    assert len(searcher.hits) == 3


@given(st.binary(max_size=2000))
def test_other_bytes_are_no_hit(data: bytes) -> None:
    run = Run()
    run.both("p")
    searcher = Searcher((run.mark, run.card_mark), run.values)
    searcher.feed("sink", data)
    assert not searcher.hits


def test_the_guard_knows_every_planted_value_and_no_two_are_equal() -> None:
    guard, run = Guard.open(None), Run()
    for number in range(200):
        text = run.both(str(number))
        assert {finding.type for finding in guard.scan(text)} == {"email", "card", "secret"}
    assert len({value.core for value in run.values}) == 600
