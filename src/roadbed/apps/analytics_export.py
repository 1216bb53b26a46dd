"""A table as CSV or XLSX, written by hand with the standard library. Pure.

A spreadsheet runs what looks like a formula: in CSV a text that begins like one gets an apostrophe, in XLSX texts are
inline strings, which are never run. The invariant: numbers stay numbers, and every other cell stays a text.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from roadbed.apps.analytics_table import NOT_XML, NUMERIC, Table, number_of
from roadbed.kernel.errors import InvalidRequest, NotFound

CELL_CHARACTERS_MAX = 32_767
EXACT_DIGITS = 15
ROWS_MAX = 100_000
_FORMULA = re.compile(r"[\s\x00]*[=+\-@\t\r]")
MEDIA = {
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_MADE = (1980, 1, 1, 0, 0, 0)

_TYPES = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
    '<Override PartName="/xl/worksheets/sheet1.xml" '
    'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
)
_ROOT = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Target="xl/workbook.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)
_BOOK = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
    'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
    '<sheets><sheet name="Result" sheetId="1" r:id="rId1"/></sheets></workbook>'
)
_BOOK_RELATIONS = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Target="worksheets/sheet1.xml" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/></Relationships>'
)


def csv_of(table: Table) -> bytes:
    """The table as CSV (RFC 4180) with a header and a byte order mark, by which spreadsheets know UTF-8."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_harmless(column.name) for column in table.columns])
    kinds = [column.type for column in table.columns]
    for row in table.rows:
        writer.writerow([_csv_cell(value, kind) for value, kind in zip(row, kinds, strict=True)])
    return out.getvalue().encode("utf-8-sig", "replace")


def _csv_cell(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if number_of(value, kind) is not None:
        return str(value)
    return _harmless(_plain(value))


def _harmless(text: str) -> str:
    text = text.replace("\0", "")
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def xlsx_of(table: Table) -> bytes:
    """The table as one sheet of an Office Open XML workbook; the same bytes for the same table."""
    kinds = [column.type for column in table.columns]
    rows = [_row(1, [_text_cell(column.name) for column in table.columns])]
    rows += [
        _row(number, [_xlsx_cell(value, kind) for value, kind in zip(row, kinds, strict=True)])
        for number, row in enumerate(table.rows[:ROWS_MAX], 2)
    ]
    sheet = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        f"{''.join(rows)}</sheetData></worksheet>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _ROOT),
            ("xl/workbook.xml", _BOOK),
            ("xl/_rels/workbook.xml.rels", _BOOK_RELATIONS),
            ("xl/worksheets/sheet1.xml", sheet),
        ):
            entry = zipfile.ZipInfo(name, _MADE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text.encode("utf-8"))
    return out.getvalue()


def _row(number: int, cells: list[str]) -> str:
    placed = "".join(
        cell.replace("<c", f'<c r="{column_letters(place)}{number}"', 1) for place, cell in enumerate(cells) if cell
    )
    return f'<row r="{number}">{placed}</row>'


def column_letters(place: int) -> str:
    """``A`` for 0, ``AA`` for 26."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _xlsx_cell(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if number_of(value, kind) is not None and (kind in NUMERIC or not isinstance(value, str)):
        text = str(value)
        if sum(character.isdigit() for character in text.partition("e")[0]) <= EXACT_DIGITS + 2:
            return f"<c><v>{text}</v></c>"
        return _text_cell(text)  # a spreadsheet's numbers would lose digits of it
    return _text_cell(_plain(value))


def _text_cell(text: str) -> str:
    shown = escape(NOT_XML.sub("\ufffd", text)[:CELL_CHARACTERS_MAX]).replace("\r", "&#13;")
    return f'<c t="inlineStr"><is><t xml:space="preserve">{shown}</t></is></c>'


class NothingToExport(NotFound):
    """There is no result to make a file of: the question was not answered with rows."""

    code = "apps.nothing_to_export"
    hint = "run it without format to see why"


@dataclass(frozen=True, slots=True)
class Export:
    """A file to download."""

    body: bytes
    media_type: str
    headers: Mapping[str, str]


def export_of(table: Table | None, name: str, format_: str, now: datetime) -> Export:
    """A table as a file. `NothingToExport`, and `InvalidRequest` for an unknown format."""
    if format_ not in MEDIA:
        raise InvalidRequest("format is csv or xlsx", param="format")
    if table is None:
        raise NothingToExport("there is no result to make a file of")
    headers = {
        "content-disposition": f'attachment; filename="{export_name(name, format_, now)}"',
        "x-content-type-options": "nosniff",
        **({"x-roadbed-truncated": "true"} if table.is_truncated else {}),
    }
    return Export(csv_of(table) if format_ == "csv" else xlsx_of(table), MEDIA[format_], headers)


def export_name(name: str, format_: str, now: datetime) -> str:
    """A file name of plain characters."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "result"
    return f"{plain}-{now:%Y-%m-%d}.{format_}"
