from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.apps.passage_units import is_link_only, units


def kinds(text: str, *headings: str) -> list[tuple[str, str]]:
    return [(unit.kind, text[unit.start : unit.end]) for unit in units(text, headings)]


def test_sentences_of_a_paragraph_stand_alone() -> None:
    assert kinds("The fee is 5 NOK. It is paid\nlater.") == [
        ("sentence", "The fee is 5 NOK."),
        ("sentence", "It is paid\nlater."),
    ]


def test_rows_keep_the_header_of_their_table() -> None:
    text = "| Assignment | Fee |\n|---|---|\n| Plot | 5,500 |\n| Row house | 6,400 |"
    found = units(text)
    assert [unit.kind for unit in found] == ["header", "row", "row"]
    lead = found[2].lead
    assert lead is not None
    assert text[slice(*lead)] == "| Assignment | Fee |"
    assert text[found[2].start : found[2].end] == "| Row house | 6,400 |"


def test_the_first_row_of_names_and_values_is_no_header() -> None:
    found = units("Appraisal | A-2026-0117\nParcel | 1042\nValue | 6,200,000")
    assert [unit.kind for unit in found] == ["row", "row", "row"]
    assert all(unit.lead is None for unit in found)


def test_records_are_rows() -> None:
    found = kinds("town | index\ntown: Bruvang; index: 100.0\ntown: Hellvik; index: 101.2")
    assert found[1:] == [("row", "town: Bruvang; index: 100.0"), ("row", "town: Hellvik; index: 101.2")]


def test_list_items_keep_the_line_before_them() -> None:
    text = "You need these papers:\n\n- A passport.\n- Two photographs\n  in colour."
    found = units(text)
    assert [unit.kind for unit in found] == ["intro", "item", "item"]
    for item in found[1:]:
        assert item.lead is not None
        assert text[slice(*item.lead)] == "You need these papers:"
    assert text[found[2].start : found[2].end] == "- Two photographs\n  in colour."


def test_headings_questions_links_and_code_are_told_from_text() -> None:
    text = (
        "## Travel\n\nHow much is paid?\n\nNOK 5.30 per kilometre.\n\n[Form](https://example.org/form)\n\n"
        "```\nrun it\n```\n\nAbout us\n\nWe value homes."
    )
    assert kinds(text) == [
        ("heading", "## Travel"),
        ("question", "How much is paid?"),
        ("sentence", "NOK 5.30 per kilometre."),
        ("link", "[Form](https://example.org/form)"),
        ("code", "```\nrun it\n```"),
        ("heading", "About us"),
        ("sentence", "We value homes."),
    ]


def test_an_answer_stands_under_its_question() -> None:
    text = "How much is paid?\n\nNOK 5.30 per kilometre."
    heading = units(text)[1].heading
    assert heading is not None
    assert text[slice(*heading)] == "How much is paid?"


def test_known_headings_are_headings_whatever_they_look_like() -> None:
    assert kinds("2.1 Fees for 2026\nAll fees include VAT.", "2.1 Fees for 2026")[0][0] == "heading"


def test_a_line_with_enough_words_beside_its_link_is_no_link() -> None:
    assert not is_link_only("Write to the office by [mail](mailto:a@example.org) before noon.")
    assert is_link_only("<https://example.org>")


@given(st.text(alphabet="ab .|\n-:#?*1`", max_size=200))
@example("``` ")
def test_units_are_ordered_spans_that_begin_and_end_at_a_character(text: str) -> None:
    reached = 0
    for unit in units(text):
        assert reached <= unit.start < unit.end <= len(text)
        assert not text[unit.start].isspace()
        assert not text[unit.end - 1].isspace()
        reached = unit.end


def test_a_table_that_goes_on_from_an_earlier_chunk_has_no_header() -> None:
    assert [unit.kind for unit in units("| a | 1 |\n| b | 2 |\n| c | 3 |")] == ["row", "row", "row"]
    assert [unit.kind for unit in units("| name | size |\n|---|---|\n| b | 2 |")] == ["header", "row"]
