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
