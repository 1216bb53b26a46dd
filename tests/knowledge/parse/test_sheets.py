"""XLSX and CSV: rows with their column names, shown as a reader sees them."""

from __future__ import annotations

import datetime
import io

import openpyxl
import pytest

from roadbed.knowledge.parse.cells import column_name, place, show_date, show_number, style_of
from roadbed.knowledge.parse.delimited import find_delimiter
from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParsedDocument


def rows(document: ParsedDocument) -> list[tuple[str, str]]:
    return [
        (block.location, document.text[block.start : block.end]) for block in document.blocks if block.kind == "row"
    ]


def saved(book: openpyxl.Workbook) -> bytes:
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def test_rows_repeat_their_header() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Staff"
    sheet.append(["Name", "Start", "Share", "Pay", "Sum"])
    sheet.append(["Ada", datetime.date(2026, 1, 31), 0.125, 1234.5, "=D2*2"])
    sheet["C2"].number_format = "0.0%"
    document = parse_bytes(saved(book), name="s.xlsx")
    assert rows(document) == [
        ("Staff!A1:E1", "Name | Start | Share | Pay | Sum"),
        ("Staff!A2:E2", "Name: Ada; Start: 2026-01-31; Share: 12.5%; Pay: 1234.5; Sum: =D2*2"),
    ]
    assert document.blocks[0].kind == "heading"


def test_hidden_sheets_are_marked_and_far_cells_end_the_reading() -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "seen"
    book.active["A1048576"] = "far"
    secret = book.create_sheet("Secret")
    secret["A1"] = "unseen"
    secret.sheet_state = "veryHidden"
    document = parse_bytes(saved(book), name="s.xlsx")
    shown = {document.text[block.start : block.end]: block.hidden for block in document.blocks}
    assert shown == {"Sheet": False, "seen": False, "Secret": True, "unseen": True}
    assert any("1000 empty" in warning for warning in document.warnings)


def test_merged_labels_and_second_table() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["Team", "Person", "Days"],
        ["North", "Ada", 3],
        [None, "Bo", 4],
        [],
        ["Item", "Price", "Unit", "Shop", "Note"],
    ):
        sheet.append(row)
    sheet.append(["Pen", 2, "box", "X", "blue"])
    sheet.merge_cells("A2:A3")
    text = parse_bytes(saved(book), name="s.xlsx").text
    assert "Team: North; Person: Bo; Days: 4" in text
    assert "Item: Pen; Price: 2; Unit: box; Shop: X; Note: blue" in text


def test_two_columns_of_text_are_pairs() -> None:
    book = openpyxl.Workbook()
    for row in (["Company", "Acme"], ["City", "Oslo"], ["Owner", "Ada"]):
        book.active.append(row)
    assert "City | Oslo" in parse_bytes(saved(book), name="s.xlsx").text


@pytest.mark.parametrize(
    ("raw", "style", "shown"),
    [("0.1", "", "0.1"), ("0.30000000000000004", "", "0.3"), ("12", "", "12"), ("1E+20", "", "1e+20"),
     ("0.5", "percent:0", "50%"),
     ("45000", "date", "2023-03-15"), ("45000.5", "datetime", "2023-03-15 12:00"), ("0.75", "time", "18:00"),
     ("x", "", "x"),
     ("59", "date", "1900-02-28"), ("61", "date", "1900-03-01"), ("-5", "date", "-5")],
)  # fmt: skip
def test_shown_numbers(raw: str, style: str, shown: str) -> None:
    assert show_number(raw, style) == shown


def test_number_formats_and_places() -> None:
    assert style_of(14, "") == "date"
    assert style_of(200, "[$-409]d\\-mmm\\-yy;@") == "date"
    assert style_of(201, "yyyy-mm-dd hh:mm") == "datetime"
    assert style_of(202, '#,##0.00 "days"') == ""
    assert style_of(203, "0.00%") == "percent:2"
    assert style_of(204, "[h]:mm:ss") == "time"
    assert show_date(0, "date", is_1904=True) == "1904-01-01"
    assert place("AB12") == (12, 28)
    assert column_name(28) == "AB"
    assert place("nonsense") is None


def test_csv_quotes_delimiters_and_encoding() -> None:
    source = 'Name;Bemerkung;Größe\nAda;"zwei\nZeilen; eine Zelle";170\n'
    document = parse_bytes(source.encode("cp1252"), name="l.csv")
    assert rows(document)[1] == ("l!A2:C2", "Name: Ada; Bemerkung: zwei Zeilen; eine Zelle; Größe: 170")
    assert find_delimiter("a\tb\n1\t2\n", ",") == "\t"
    assert find_delimiter("name\nada, lovelace\nbo\n", ",") == ","
    assert find_delimiter("sep=|\na|b\n", ",") == "|"


def test_csv_with_an_endless_field_is_no_crash() -> None:
    document = parse_bytes(b'a,b\n1,"' + b"x" * 1_200_000, name="l.csv")
    assert document.warnings


def test_prose_merged_over_rows_is_given_once() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (["Instructions", "Step", "Days"], ["Read this first. " * 20, "Plan", 3], [None, "Build", 4]):
        sheet.append(row)
    sheet.merge_cells("A2:A3")
    text = parse_bytes(saved(book), name="s.xlsx").text
    assert text.count("Read this first. Read") == 10
    assert "Step: Build; Days: 4" in text


def test_a_form_above_a_table_names_none_of_its_columns() -> None:
    book = openpyxl.Workbook()
    for row in (
        ["Deliverables"],
        ["Provider:", "Acme", "Offering:", "Cloud", "Level:", "low"],
        ["Activity", "Control", "Frequency", "Owner"],
        ["Scanning", "RA-5", "Monthly", "Provider"],
        ["Testing", "CA-8", "Annually", "Assessor"],
    ):
        book.active.append(row)
    text = parse_bytes(saved(book), name="s.xlsx").text
    assert "Provider: | Acme | Offering: | Cloud | Level: | low" in text
    assert "Activity: Testing; Control: CA-8; Frequency: Annually; Owner: Assessor" in text
