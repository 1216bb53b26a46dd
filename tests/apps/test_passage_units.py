from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.apps.passage_units import announced_end, is_link_only, units


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


def test_items_of_any_sign_are_items_and_stand_under_the_item_that_announces_them() -> None:
    text = (
        "Requirements:\n\n● Evidence must be current within:\n○ 120 days, without an authorization.\n"
        "○ 12 months, with one.\n● It must be complete.\n§ It must be signed."
    )
    found = units(text)
    assert [(unit.kind, text[unit.start]) for unit in found] == [
        ("intro", "R"),
        ("intro", "●"),
        ("item", "○"),
        ("item", "○"),
        ("item", "●"),
        ("item", "§"),
    ]
    leads = [text[slice(*unit.lead)] if unit.lead else "" for unit in found]
    assert leads[2] == leads[3] == "● Evidence must be current within:"
    assert leads[4] == leads[5] == "Requirements:"


def test_rows_are_records_whatever_their_cells_hold() -> None:
    rows = [
        "Number | Source | Correspondence and permanent address proof",
        "Number: 44; Source: Title 44; Chapter 31; Sections 3101 through 3107",
        "Number: 05; Source: Statement; Correspondence and permanent address proof: deleted",
        "Number: 06",
    ]
    assert kinds("\n".join(rows)) == [("header", rows[0]), *(("row", row) for row in rows[1:])]


def test_names_with_their_values_are_rows() -> None:
    text = "School: Hill Street\nGrade level: 4\nTelephone: 555 0199"
    assert kinds(text) == [("row", line) for line in text.split("\n")]


def test_a_long_row_is_quoted_in_parts_under_its_first_cells() -> None:
    row = "Number: 44; Field: E-MAIL; " + "; ".join(f"Column {number}: {'value ' * 12}" for number in range(20))
    found = units(row)
    assert len(found) > 3
    assert all(unit.kind == "row" and unit.end - unit.start <= 700 for unit in found)
    assert {row[slice(*unit.lead)][:26] for unit in found if unit.lead} == {"Number: 44; Field: E-MAIL;"}
    assert found[0].lead is None
    assert sum(row[unit.start : unit.end].count("Column") for unit in found) == 20


def test_a_long_cell_is_quoted_by_its_sentences_under_the_row() -> None:
    row = "Number: 7; Name: Maintenance; Text: " + "This sentence is one of many. " * 40 + "; Level: low"
    found = units(row)
    assert [unit.kind for unit in found].count("row") > 30
    assert {row[slice(*unit.lead)] for unit in found[2:] if unit.lead} == {"Number: 7; Name: Maintenance"}


def test_a_table_with_a_column_of_numbers_is_no_heading() -> None:
    text = "See the table.\n\n# | Topic | Compliant\n1 | Encryption | Yes\n2 | Logging | No"
    assert [unit.kind for unit in units(text)] == ["sentence", "header", "row", "row"]


def test_a_row_of_figures_names_no_columns() -> None:
    text = "See the history.\n\n03/12/2015 | 0.6 | Draft\n04/12/2015 | 0.7 | Draft"
    assert [unit.kind for unit in units(text)] == ["sentence", "row", "row"]


def test_a_passage_cut_inside_a_table_takes_no_row_for_its_header() -> None:
    assert [unit.kind for unit in units("DHS | Homeland Security\nDFR | Finding Review")] == ["row", "row"]
    found = units("Team | Place | Cups\nBlues | STL | 1\nFlyers | PHI | 2")
    assert [unit.kind for unit in found] == ["header", "row", "row"]


def test_placeholders_and_addresses_are_no_tags() -> None:
    assert not is_link_only("for <Insert the name of the provider>")
    assert is_link_only('<img alt="" style="' + "padding: 0; " * 40 + '">')


def test_items_that_name_their_values_stay_items() -> None:
    assert [kind for kind, _ in kinds("> - Status: Open\n> - Closing date: 2025-02-17")] == ["item", "item"]


def test_a_sentence_with_semicolons_and_colons_is_no_record() -> None:
    text = "Xhosa ( English : one ; Xhosa : two ; isi : three ) is a language . It is spoken there ."
    assert [kind for kind, _ in kinds(text)] == ["sentence", "sentence"]


def test_an_announcement_is_quoted_with_its_list() -> None:
    text = "They are:\n\n- One:\n  * a\n  * b\n- Two\n\nSomething else."
    found = units(text)
    assert text[found[0].start : announced_end(found, 0)] == "They are:\n\n- One:\n  * a\n  * b\n- Two"
    assert announced_end(found, len(found) - 1) == found[-1].end


def test_doubtful_names_of_columns_are_a_row_that_stands_above_the_others() -> None:
    text = "See below.\n\nISCP | Contingency plan\nDFR | Finding review"
    _, first, second = units(text)
    assert (first.kind, second.kind, second.lead) == ("row", "row", None)
    assert second.heading == (first.start, first.end)
