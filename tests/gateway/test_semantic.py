"""Which questions share an answer: near vectors, equal facts, one context. Pure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway import semantic
from roadbed.gateway.semantic import Question, SemanticIndex, facts_of, last_question, without_question
from roadbed.gateway.types import ChatRequest, ImagePart, Message, TextPart


def question(angle: float, facts: str = "", context: bytes = b"c") -> Question:
    vector = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    return Question(context, vector, facts_of(facts))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the fee in 2024?", "What is the fee in 2025?"),
        ("What does a 40 EUR order cost?", "What does a 41 EUR order cost?"),
        ("When is the office open on Monday?", "When is the office open on Friday?"),
        ("Is the deadline on 3 March?", "Is the deadline on 3 May 2026?"),
        ("Who is the manager of Anna Berg?", "Who is the manager of Otto Berg?"),
        ("How many people live in Paris?", "How many people live in London?"),
        ("Paris has how many inhabitants?", "London has how many inhabitants?"),
        ("Can I park here?", "Can I not park here?"),
        ("Can visitors park here?", "Can't visitors park here?"),
        ("How do I enable the alarm?", "How do I disable the alarm?"),
        ("What must I do before an audit?", "What must I do after an audit?"),
        ("What is the first step?", "What is the second step?"),
        ("What is the largest order?", "What is the minimum order?"),
        ("What is my name?", "What is your name?"),
        ("May I park here?", "Must I park here?"),
        ("Who gets a bonus?", "Who gives a bonus?"),
        ("When does the fee rise?", "When did the fee rise?"),
        ("did anna pay otto", "did otto pay anna"),
        ("who is the mayor of paris", "who is the mayor of london"),
        ("How do I get from Bern to Rome?", "How do I get from Rome to Bern?"),
        ("Which town surrounds Berlin?", "Which town is surrounded by Berlin?"),
        ("Write to EMAIL_K7Q2M4XA", "Write to EMAIL_AAAAAAAA"),
        ("What does error E-1001 mean?", "What does error E-1002 mean?"),
        ("Wie hoch ist die Gebühr am Montag?", "Wie hoch ist der Rabatt am Montag?"),
    ],
)
def test_questions_that_name_other_facts_never_share_an_answer(one: str, other: str) -> None:
    assert facts_of(one) != facts_of(other)
    index = SemanticIndex()
    index.put(question(0.0, one), b"key")
    assert index.near(question(0.0, other), 0.8) == []
    assert index.near(question(0.0, one), 0.8) == [b"key"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is the fee in 2024?", "In 2024, what's the fee"),
        ("Which forms do I need for a visa?", "Could you tell me which form I need for the visa, please?"),
        ("How do I reset my password?", "Please tell me how I reset my password"),
        ("What costs 1,000 USD?", "what is it that costs 1000 USD"),
        ("It’s not allowed?", "It isn't allowed?"),
    ],
)
def test_other_words_for_the_same_facts_may_share_one(one: str, other: str) -> None:
    assert facts_of(one) == facts_of(other)


@given(
    st.integers(0, 10**12), st.integers(0, 10**12), st.sampled_from(["order {}", "Is {} enough?", "v{} of it", "{}%"])
)
def test_two_numbers_are_two_facts(one: int, other: int, form: str) -> None:
    assert (facts_of(form.format(one)) == facts_of(form.format(other))) is (one == other)


def test_near_is_as_near_as_asked_and_only_in_one_context() -> None:
    index = SemanticIndex()
    index.put(question(0.0), b"far")
    index.put(question(0.2), b"near")
    assert index.near(question(0.25), 0.9) == [b"near", b"far"]
    assert index.near(question(0.25), 0.99) == [b"near"]
    assert index.near(question(0.25, context=b"other"), 0.8) == []
    index.forget(b"c", b"near")
    assert index.near(question(0.25), 0.99) == []
    assert len(index) == 1


def test_an_answer_that_is_made_anew_stands_once() -> None:
    index = SemanticIndex()
    for _ in range(3):
        index.put(question(0.0), b"key")
    assert (len(index), index.near(question(0.0), 0.9)) == (1, [b"key"])


def test_the_memory_is_bounded_in_each_context_and_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "CONTEXT_QUESTIONS_MAX", 3)
    index = SemanticIndex(questions_max=5)
    for number in range(6):
        index.put(question(0.0), bytes([number]))
    assert index.near(question(0.0), 0.9) == [b"\x05", b"\x04", b"\x03"]
    for number in range(3):
        index.put(question(0.0, context=b"d"), bytes([number]))
    assert len(index) == 3
    assert index.near(question(0.0), 0.9) == []


def test_only_a_last_turn_of_the_user_s_that_is_text_is_compared() -> None:
    earlier = Message("user", "before")
    for last, text in (
        (Message("user", "hello"), "hello"),
        (Message("user", (TextPart("hello"),)), "hello"),
        (Message("user", (TextPart("hello"), ImagePart("https://a.test/b.png"))), None),
        (Message("assistant", "hello"), None),
        (Message("user", "x" * (semantic.QUESTION_CHARACTERS_MAX + 1)), None),
        (Message("user", ""), None),
    ):
        assert last_question(ChatRequest((earlier, last))) == text
    assert last_question(ChatRequest(())) is None
    one, other = (without_question(ChatRequest((earlier, Message("user", text)))) for text in ("a", "b"))
    assert one == other
    assert one != without_question(ChatRequest((Message("user", "other"), Message("user", "a"))))
