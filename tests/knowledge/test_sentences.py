"""Sentence ends, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.stopwatch import is_in_proportion

from roadbed.knowledge.sentences import SENTENCE_CHARS_MAX, sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Smith met J. R. Jones. They left.", ["Dr. Smith met J. R. Jones.", "They left."]),
        ("It costs 3.50 euros. Pay now.", ["It costs 3.50 euros.", "Pay now."]),
        ("See e.g. Figure 3, i.e. Fig. 4. Done.", ["See e.g. Figure 3, i.e. Fig. 4.", "Done."]),
        ("Use No. 5 today. No. That is wrong.", ["Use No. 5 today.", "No.", "That is wrong."]),
        ("Am 3. Oktober ist frei. Gut.", ["Am 3. Oktober ist frei.", "Gut."]),
        ("Das gilt z.B. Montags. Und bzw. Auch.", ["Das gilt z.B. Montags.", "Und bzw. Auch."]),
        ('He said "stop." Then he ran.', ['He said "stop."', "Then he ran."]),
        ("Wrapped\nline goes on. New one.", ["Wrapped\nline goes on.", "New one."]),
        ("Title\n\nBody text", ["Title", "Body text"]),
        ("Steps:\n1. Open it.\n2. Close it.\n- a dash", ["Steps:", "1. Open it.", "2. Close it.", "- a dash"]),
        ("今日は晴れです。明日は雨。", ["今日は晴れです。", "明日は雨。"]),
        ("It grew in 1999. The rest fell.", ["It grew in 1999.", "The rest fell."]),
        ("Version 2.3.1 of example.com works. ok", ["Version 2.3.1 of example.com works. ok"]),
        ("It may be given.23 After a year it ends.", ["It may be given.23", "After a year it ends."]),
        ("See Fig.3 and No.5 Bar. In v1.2 Too.", ["See Fig.3 and No.5 Bar.", "In v1.2 Too."]),
        ("These:\n● one\n§ two\n> - three\nas in\n§ 5", ["These:", "● one", "§ two", "> - three\nas in\n§ 5"]),
        ("Really?! Yes… Fine.", ["Really?!", "Yes…", "Fine."]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_split(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def test_endless_sentence_is_cut_at_blanks() -> None:
    parts = split("word " * 3_000)
    assert len(parts) > 1
    assert all(len(part) <= SENTENCE_CHARS_MAX and not part.startswith(" ") for part in parts)
    assert "".join(parts).replace(" ", "") == "word" * 3_000
    assert max(map(len, split("x" * 10_000))) == SENTENCE_CHARS_MAX


@given(st.text(alphabet=st.sampled_from("ab1. !?\n\t-。\"')N"), max_size=200))
def test_spans_are_ordered_trimmed_and_cover_everything(text: str) -> None:
    covered = 0
    for start, end in sentences(text):
        assert start < end
        assert not text[covered:start].strip()
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        covered = end
    assert not text[covered:].strip()


@pytest.mark.parametrize("unit", [".", "...", " ", " \t", "\n ", ".)", "。", "a. ", "…"])
def test_time_grows_with_the_text_alone(unit: str) -> None:
    """A page of leaders, or of blanks, once took time squared: some hundred kilobytes stopped the server."""

    def read(size: int) -> None:
        assert sentences("Start" + unit * (size // len(unit)) + "x")

    assert is_in_proportion(read, 300_000, within_s=2.0)
