"""Figures and times as pages write them, and citation contexts cut at words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.console import formatting
from roadbed.console.conversation import (
    HISTORY_BYTES_MAX,
    TURNS_MAX,
    PastTurn,
    decode_history,
    encode_history,
    first_words,
    last_words,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("message", "html"),
    [
        ("there is no app 'HelpDesk'", "There is no app &#39;HelpDesk&#39;."),
        ("run: `roadbed keys list`", "Run: <code>roadbed keys list</code>."),
        ("say <b>`<i>`</b>!", "Say &lt;b&gt;<code>&lt;i&gt;</code>&lt;/b&gt;!"),
        ("", ""),
    ],
)
def test_a_message_is_a_sentence_that_keeps_its_names(message: str, html: str) -> None:
    assert formatting.sentence(message) == html


@pytest.mark.parametrize(
    ("value_us", "text"),
    [
        (0, "0.0 ms"),
        (90, "0.1 ms"),
        (19_400, "19 ms"),
        (1_920_000, "1.92 s"),
        (42_000_000, "42 s"),
        (125_000_000, "2 min 5 s"),
        (120_000_000, "2 min"),
        (7_260_000_000, "2 h 1 min"),
    ],
)
def test_durations(value_us: int, text: str) -> None:
    assert formatting.duration_us(value_us) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0 B"), (999, "999 B"), (2048, "2.0 kB"), (37_400, "37 kB")])
def test_sizes(value: int, text: str) -> None:
    assert formatting.size(value) == text


@pytest.mark.parametrize(("microusd", "text"), [(0, "0.00"), (3_100, "0.0031"), (12_345_678, "12.35")])
def test_money(microusd: int, text: str) -> None:
    assert formatting.money(microusd) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (40, "40 s ago"), (180, "3 min ago"), (7200, "2 h ago"), (-90_000, "in 1 d")],
)
def test_relative_times(seconds: int, text: str) -> None:
    assert formatting.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_the_exact_time_is_on_hover() -> None:
    assert 'title="2026-11-21 12:00:00 UTC"' in formatting.when(NOW)


def test_contexts_are_cut_at_words() -> None:
    assert last_words("ow a comparable sale\nis chosen ") == "… a comparable sale is chosen "
    assert first_words(" A sale that fails one test is n") == " A sale that fails one test is …"
    assert first_words("") == last_words("") == ""


@given(st.lists(st.text(max_size=50), max_size=40))
def test_a_conversation_keeps_its_last_turns(answers: list[str]) -> None:
    turns = [PastTurn("q", answer) for answer in answers]
    assert list(decode_history(encode_history(turns))) == turns[-TURNS_MAX:]


def test_a_conversation_that_grows_too_large_loses_its_oldest_turns() -> None:
    turns = [PastTurn(str(number), "x" * 60_000) for number in range(8)]
    encoded = encode_history(turns)
    assert len(encoded) <= HISTORY_BYTES_MAX
    kept = decode_history(encoded)
    assert kept
    assert list(kept) == turns[-len(kept) :]
