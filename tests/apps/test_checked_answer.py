from __future__ import annotations

import pytest

from roadbed.apps.checked_answer import ABSTENTION, CheckedAnswer
from roadbed.apps.types import Cited, Delta

from .conftest import MakeHit

FEES = "Reports are kept for seven years. A rush order costs 35 % more."
DOGS = "Dogs are not allowed in the office."


def released(checked: CheckedAnswer, *sentences: str) -> str:
    events = [event for sentence in sentences for event in checked.release(sentence)] + checked.finish()
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == checked.text
    return text


def test_a_cited_sentence_passes_with_its_citation_before_it(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(DOGS), make_hit(FEES)])
    events = checked.release("Reports are kept for 7 years [2]. ")
    assert [type(event) for event in events] == [Cited, Delta]
    assert checked.text == "Reports are kept for 7 years [1]. "
    assert (checked.sentences, checked.supported, checked.unsupported) == (1, 1, [])


def test_a_sentence_without_a_citation_gets_the_one_that_bears_it_out(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(DOGS), make_hit(FEES)])
    assert released(checked, "Reports are kept for seven years.") == "Reports are kept for seven years. [1]"
    assert checked.citer.citations[0].quote == "Reports are kept for seven years."


def test_a_wrong_citation_is_joined_by_the_right_one(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(DOGS), make_hit(FEES)])
    assert released(checked, "Reports are kept for seven years [1].") == "Reports are kept for seven years [1]. [2]"
    assert checked.supported == 1


def test_what_no_passage_bears_out_is_said_but_marked(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    text = released(checked, "Reports are kept for seven years [1]. ", "A rush order costs 45 % more [1].")
    assert (checked.sentences, checked.supported) == (2, 1)
    ((start, end),) = checked.unsupported
    assert text[start:end] == "A rush order costs 45 % more [2]."


def test_unknown_markers_never_pass(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    assert "[9]" not in released(checked, "Reports are kept for seven years [9].")
    assert checked.citer.stripped == 1


@pytest.mark.parametrize("said", ["NOT_IN_DOCUMENTS", "**NOT_IN_DOCUMENTS**.", "NOT IN DOCUMENTS. Look elsewhere."])
def test_not_found_is_said_in_words_and_ends_the_answer(make_hit: MakeHit, said: str) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    assert released(checked, said, "Reports are kept for nine years.") == ABSTENTION
    assert checked.abstained
    assert checked.citer.citations == []


def test_not_found_after_chatter_is_an_abstention_too(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    assert released(checked, "Here is what I found: ", "NOT_IN_DOCUMENTS").endswith(ABSTENTION)
    assert checked.abstained


def test_not_found_behind_a_supported_sentence_is_dropped(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    text = released(checked, "Reports are kept for seven years [1]. ", "NOT_IN_DOCUMENTS")
    assert text.strip() == "Reports are kept for seven years [1]."
    assert not checked.abstained


def test_a_model_that_declines_in_its_own_words_abstains(make_hit: MakeHit) -> None:
    checked = CheckedAnswer([make_hit(FEES)])
    assert released(checked, "I could not find this in the documents.") == "I could not find this in the documents."
    assert checked.abstained
