from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.answer_limit import is_whole, limited, whole_sentences
from roadbed.apps.sentence_stream import SentenceStream
from roadbed.gateway.types import ChatRequest, Message


@pytest.mark.parametrize(
    "text", ["It is so.", "It is so [1]. ", "It is so. [1][2]", "« So? »", "- a row\n", "そうです。"]
)
def test_sentences_end(text: str) -> None:
    assert is_whole(text)


@pytest.mark.parametrize("text", ["It is", "It is so [1]", "A fee of 35 %", "1.5", "- a row\n- half a"])
def test_pieces_do_not(text: str) -> None:
    assert not is_whole(text)


@pytest.mark.parametrize(("asked", "sent"), [(None, 400), (50, 50), (400, 400), (9000, 400)])
def test_the_smaller_limit_counts(asked: int | None, sent: int) -> None:
    request = ChatRequest((Message("user", "Why?"),), max_tokens=asked)
    assert limited(request, 400).max_tokens == sent


@given(st.lists(st.sampled_from(["It is so. ", "Or not [1]. ", "Half a", " sentence", "! "]), max_size=8))
def test_nothing_but_the_last_piece_is_left_out(pieces: list[str]) -> None:
    stream = SentenceStream()
    said = [sentence for piece in pieces for sentence in stream.feed(piece)]
    rest = stream.finish()
    assert whole_sentences(rest, "stop") == rest
    kept = whole_sentences(rest, "length")
    assert kept in (rest, rest[:-1])
    assert not kept or is_whole(kept[-1]) or kept != rest
    assert "".join([*said, *rest]) == "".join(pieces)
