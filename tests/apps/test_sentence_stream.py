from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stopwatch import is_in_proportion

from roadbed.apps.sentence_stream import HELD_CHARACTERS_MAX, SentenceStream

ANSWER = "The fee is NOK 6,900. [1] It is paid to Dr. Smith [2]. Then [3][4] e.g. this. See [Note: x] now. Done. [5]"
WHOLE = [
    "The fee is NOK 6,900. [1] ",
    "It is paid to Dr. Smith [2]. ",
    "Then [3][4] e.g. this. ",
    "See [Note: x] now. ",
    "Done. [5]",
]


def cut(text: str, sizes: list[int]) -> list[str]:
    stream = SentenceStream()
    released: list[str] = []
    position = 0
    for size in sizes:
        released += stream.feed(text[position : position + size])
        position += size
    return released + stream.feed(text[position:]) + stream.finish()


@given(st.lists(st.integers(1, 12), max_size=60))
def test_sentences_are_the_same_however_the_stream_was_cut(sizes: list[int]) -> None:
    assert cut(ANSWER, sizes) == WHOLE


@given(st.text(alphabet="aB .!?[]12\n-", max_size=120), st.lists(st.integers(1, 9), max_size=40))
def test_nothing_is_lost_or_changed(text: str, sizes: list[int]) -> None:
    assert "".join(cut(text, sizes)) == text


def test_a_sentence_is_released_as_soon_as_the_next_word_is_whole() -> None:
    stream = SentenceStream()
    assert stream.feed("One is here. ") == []
    assert stream.feed("[1") == []
    assert stream.feed("] Two") == []
    assert stream.feed(" is") == ["One is here. [1] "]


def test_a_text_without_end_is_not_held_for_ever() -> None:
    stream = SentenceStream()
    text = "a" * (HELD_CHARACTERS_MAX + 1)
    released = "".join(stream.feed(text))
    assert len(released) >= HELD_CHARACTERS_MAX / 2
    assert released + "".join(stream.finish()) == text


@pytest.mark.parametrize("unit", ["漢字。", "a.", ". ", "..", "[", "1 "])
def test_time_grows_with_the_text_alone(unit: str) -> None:
    """A model may write without blanks for ever, as in Chinese; all of it once took time by the power of three."""

    def read(size: int) -> None:
        stream, text = SentenceStream(), unit * (size // len(unit))
        released = [sentence for at in range(0, len(text), 20) for sentence in stream.feed(text[at : at + 20])]
        assert "".join(released + stream.finish()) == text

    assert is_in_proportion(read, 16_000, within_s=2.0)


def test_chinese_sentences_are_released_as_they_end() -> None:
    stream = SentenceStream()
    assert stream.feed("费用是三百。" + "报告保存七年而草稿在九十天后删除。" * 3) != []
