from __future__ import annotations

import pytest

from roadbed.apps.followup import leans_on_history, question_of, search_query
from roadbed.gateway.types import Message


def talk(*questions: str) -> tuple[Message, ...]:
    return tuple(Message("user", question) for question in questions)


def test_the_question_is_the_last_of_the_user() -> None:
    messages = (
        Message("user", "First"),
        Message("assistant", "Answer"),
        Message("user", " Second "),
        Message("tool", "x"),
    )
    assert question_of(messages) == "Second"
    assert question_of((Message("system", "rules"),)) == ""


@pytest.mark.parametrize(
    "question", ["What does it cost?", "How long do they keep them?", "And why?", "What about Hellvik?"]
)
def test_a_question_that_leans_takes_rare_words_of_the_one_before(question: str) -> None:
    query = search_query(talk("Which rules hold for a boathouse in Kvitnes?", question))
    assert query.startswith(question)
    assert {"Kvitnes", "boathouse"} <= set(query.split())


def test_a_question_of_its_own_is_searched_as_it_is() -> None:
    question = "How many photographs must be taken of a house?"
    assert search_query(talk("Which rules hold for a boathouse?", question)) == question
    assert search_query(talk("What does it cost?")) == "What does it cost?"
    assert not leans_on_history("Which mileage rate applies to private cars?")


def test_words_that_the_question_has_are_not_added_again() -> None:
    assert (
        search_query(talk("Is the garage heated?", "What does the garage cost, and what is in it?")).count("garage")
        == 1
    )


@pytest.mark.parametrize(
    "before",
    [
        "Tell me about rush orders.",
        "Rush orders: how much are they?",
        "How much is charged for rush orders?",
        "I want to know: are there rush orders?",
        "Please explain rush orders",
    ],
)
def test_how_somebody_asked_before_is_not_searched_but_what_about(before: str) -> None:
    query = search_query(talk(before, "And how fast is it?"))
    added = query.removeprefix("And how fast is it?").split()
    assert {"rush", "orders"} <= set(added) <= {"rush", "orders", "charged"}  # no capital makes a name of them


def test_a_chain_of_leaning_questions_reaches_the_turn_that_names_its_subject() -> None:
    turns = ["Are there rush orders?", "And how fast is it?", "And what does it cost?"]
    query = search_query(talk(*turns))
    assert {"rush", "orders"} <= set(query.split())
    assert "boathouse" not in search_query(talk("Is a boathouse heated?", "Are there rush orders today?", *turns[1:]))


def test_what_a_turn_measured_is_taken_after_its_subject() -> None:
    assert search_query(talk("How long is the report valid?", "Can it be extended?")).endswith(" report valid long")
    assert "far" not in search_query(talk("How far is Kvitnes from Hellvik by ferry?", "And by car?")).split()
