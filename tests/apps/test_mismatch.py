"""What a question has and the passage lacks: numbers, names, opposites, negations, the value that was asked for."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.answer_type import answer_type
from roadbed.apps.calibration import THRESHOLD, Signals, confidence
from roadbed.apps.mismatch import OPPOSITES, Mismatch, mismatch, named_things

PASSAGE = (
    "The National Science Foundation (NSF) achieved an agency authorization in four months. Version 5.0 of 2024 was "
    "updated. A scan must be made within 30 days of the first deployment in Germany, and its fee is USD 1,200."
)


def of(question: str, sentence: str = PASSAGE, document: str = PASSAGE, language: str = "en") -> Mismatch:
    """What a question has and this passage lacks; every name is rare."""
    return mismatch(question, answer_type(question), [sentence], document, language, lambda word: 1.0)


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("How long did NSF take?", ""),
        ("How long did NASA take?", "name"),
        ("How long did the National Science Foundation take?", ""),
        ("How long did the Nationall Science Fundation take?", ""),
        ("How long did the German agency take?", ""),
        ("What was updated in version 5.0?", ""),
        ("What was updated in version 6.0?", "number"),
        ("What was updated in version 5?", "number"),
        ("What happened in 2024?", ""),
        ("What happened in 2025?", "number"),
        ("When does the 30-day window end?", ""),
        ("When does the 90-day window end?", "number"),
        ("Which CVSSv4 score counts?", "number"),
        ("How Long Did It Take Bergen And Oslo?", ""),
        ("What fee is due at the last deployment?", "opposite"),
        ("When must a scan not be made?", "negation"),
        ("What is the fee?", ""),
        ("What percentage of scans fails?", "value"),
    ],
)
def test_what_the_passage_lacks_is_noticed(question: str, missing: str) -> None:
    found = of(question)
    noticed = {
        "number": found.number_missing,
        "name": found.name_missing,
        "opposite": found.opposite_said,
        "negation": found.negation_missing,
        "value": found.value_missing,
    }
    assert {name for name, value in noticed.items() if value} == set(missing.split())


def test_a_value_is_missed_only_where_one_was_asked_for() -> None:
    assert of("How much is the fee?", "The fee is due at once.").value_missing == 1.0
    assert of("How often is it tested?", "It is tested on an annual basis.").value_missing == 0.0
    assert of("What is the phone number of the desk?", "The desk answers calls.").value_missing == 1.0
    assert of("What is the phone number of the desk?", "Call +47 22 33 44 55.").value_missing == 0.0


def test_an_acronym_is_found_by_the_words_that_it_stands_for() -> None:
    assert of("What does the PTO cover?", document="Paid time off covers vacations.").name_missing == 0.0
    assert of("What does the PTO cover?", document="Vacations are paid.").name_missing == 1.0


def test_nouns_of_german_are_no_names_and_titles_name_nothing() -> None:
    question = "Wie viele Urlaubstage hat ein Mitarbeiter im Jahr?"
    assert of(question, document="Jedem stehen 30 Tage zu.", language="de").name_missing == 0.0
    assert named_things("What Is The Policy Of Acme?") == ([], [])
    assert named_things("Who? Anna signed. Bergen's office did") == ([], [])


def test_a_name_that_every_document_has_counts_for_little() -> None:
    found = mismatch("What does Acme pay?", "other", ["We pay."], "We pay.", "en", lambda word: 0.05)
    assert found.name_missing == 0.05


@pytest.mark.parametrize(
    ("question", "document", "is_missing"),
    [
        ("Which shops opened in the 1950s?", "The shop opened in 1958.", False),
        ("Which shops opened in the 1950s?", "The shop opened in 1948.", True),
        ("Who ruled in the 1600s?", "Christian ruled from 1588 to 1648.", False),
        ("Who ruled in the 1600s?", "In the 17th century Christian ruled.", False),
        ("Who ruled in the 1600s?", "Christian ruled from 1588.", True),
        ("Who ruled in the 16th century?", "Christian ruled from 1588.", False),
        ("Who ruled in the 16th century?", "Christian ruled in the 16th and the 17th century.", False),
        ("Who ruled in the 15th century?", "Christian ruled from 1588.", True),
        ("Who won World War 2?", "World War II ended in 1945.", False),
        ("Who won World War 3?", "World War II ended in 1945.", True),
        ("Which 4-letter acronym names the club?", "The club is called LARP.", False),
        ("Which of the 4 clubs is named?", "The club is called LARP.", True),
    ],
)
def test_numbers_are_told_in_more_than_one_way(question: str, document: str, is_missing: bool) -> None:
    found = mismatch(question, "other", [document], document, "en", lambda word: 1.0)
    assert bool(found.number_missing) == is_missing


@given(st.text(alphabet="abcdefgh zyxw?.", max_size=80), st.text(max_size=200))
def test_a_question_without_names_numbers_and_opposites_is_judged_by_its_words_alone(
    question: str, passage: str
) -> None:
    if not any(word in OPPOSITES for word in question.split()) and answer_type(question) == "other":
        assert not any(astuple(of(question, passage, passage)))


def test_one_cue_makes_a_likely_answer_doubtful_and_a_doubtful_one_none() -> None:
    good = Signals(0.75, 0.9, 1.0, 0.75, 0.6, 1.0, 0.5, 0.0)
    fair = Signals(0.6, 0.6, 0.8, 0.6, 0.5, 1.0, 0.5, 0.3)
    for cue in ("name_missing", "opposite_said", "negation_missing", "value_missing"):
        assert confidence(good) - confidence(Signals(*good.values()[:8], **{cue: 1.0})) > 0.3
        assert confidence(fair) > THRESHOLD > confidence(Signals(*fair.values()[:8], **{cue: 1.0}))
