from __future__ import annotations

from roadbed.apps.citing import Citer, best_span, leading_markers, without_markers
from roadbed.knowledge.search import Hit

from .conftest import MakeHit

FEES = "Fees include VAT. A plot costs 5,500 NOK.\n\n| House | Fee |\n|---|---|\n| Detached | 6,900 |"


def test_numbers_follow_the_order_of_first_use(make_hit: MakeHit) -> None:
    citer = Citer([make_hit("Apples are red."), make_hit("Pears are green.")])
    text, cited, fresh = citer.rewrite("Pears are green [2].")
    assert (text, cited, [item.number for item in fresh]) == ("Pears are green [1].", [1], [1])
    text, cited, fresh = citer.rewrite("Apples are red [1], pears are green [2].")
    assert text == "Apples are red [2], pears are green [1]."
    assert [item.quote for item in citer.citations] == ["Pears are green.", "Apples are red."]


def test_numbers_that_were_never_shown_are_stripped_and_counted(make_hit: MakeHit) -> None:
    citer = Citer([make_hit("Apples are red.")])
    assert citer.rewrite("Apples are red [7][0].") == ("Apples are red.", [], [])
    assert citer.stripped == 2


def test_lists_ranges_names_and_repeats_are_read(make_hit: MakeHit) -> None:
    citer = Citer([make_hit(f"Fruit {number} is red.") for number in range(4)])
    assert citer.rewrite("Fruit is red [1, 3].")[1] == [0, 2]
    assert citer.rewrite("Fruit is red [2-4].")[1] == [1, 2, 3]
    assert citer.rewrite("Fruit is red [Passage 2][Source 2].")[1] == [1]
    assert citer.rewrite("Fruit 0 is red【1】.")[0].count("[") == 1


def test_each_quoted_span_has_its_own_number(make_hit: MakeHit) -> None:
    citer = Citer([make_hit(FEES)])
    citer.rewrite("A plot costs 5,500 NOK [1].")
    text, _, fresh = citer.rewrite("A detached house costs 6,900 [1].")
    assert text.endswith("[2].")
    assert fresh[0].quote == "| Detached | 6,900 |"
    hit = citer.hits[0]
    assert isinstance(hit, Hit)
    assert hit.text[fresh[0].start - hit.start : fresh[0].end - hit.start] == fresh[0].quote


def test_the_best_span_is_a_sentence_not_a_heading() -> None:
    passage = "# Rush orders\n\nRush orders cost 35 % more. Nothing else does."
    start, end = best_span(passage, "A rush order costs 35 % more.")
    assert passage[start:end] == "Rush orders cost 35 % more."
    assert best_span("", "anything") == (0, 0)


def test_markers_at_the_start_belong_to_the_sentence_before() -> None:
    assert leading_markers("[1] [2] Next") == len("[1] [2]")
    assert leading_markers("[Note] Next") == 0
    assert leading_markers("[1") is None
    assert without_markers("It is so [1][2]. And so 【3】") == "It is so. And so"
