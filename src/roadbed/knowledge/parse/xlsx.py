"""XLSX: each row of each sheet as one block, with the column names repeated.

Reads the sheet XML as a stream instead of through openpyxl, which needs two passes to keep both values and
formulas, and walks a million empty rows when one far cell is styled. Called by ``dispatch``. The invariant: reading
stops after 1,000 empty rows.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import Archive, attribute, child, core_properties, local, read_xml
from roadbed.knowledge.parse.cells import place, show_number, style_of
from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, one_line
from roadbed.knowledge.parse.sheet import CELLS_MAX, Row, add_sheet
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from lxml.etree import _Element

PARSER = parser_name("xlsx")
MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EMPTY_ROWS_MAX = 1_000
COLUMNS_MAX = 1_000
CELL_CHARS_MAX = 32_767
MERGES_MAX = 20_000
MERGED_CHARS_MAX = 120
"""A text merged over rows that is longer is prose beside them, not their label: it is given once."""
_MERGE = re.compile(rb"<(?:\w+:)?mergeCell\s[^>]*?ref=[\"']([A-Z]+[0-9]+):([A-Z]+[0-9]+)[\"']")


def parse_xlsx(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read an XLSX, XLSM or XLTX workbook, hidden sheets (marked) included."""
    archive = Archive(data, name)
    main = archive.main_part("xl/workbook.xml")
    builder = DocumentBuilder()
    builder.title, builder.language = core_properties(archive)
    workbook = archive.xml(main)
    relations = archive.relations(main)
    properties = child(workbook, "workbookPr")
    is_1904 = properties is not None and attribute(properties, "date1904") in ("1", "true")
    reader = _Reader(archive, _shared_strings(archive, main), _styles(archive, main), is_1904)
    sheets = child(workbook, "sheets")
    for sheet in sheets if sheets is not None else ():
        kind, part = relations.get(_relation_id(sheet), ("", ""))
        if kind != "worksheet" or part not in archive or builder.full:
            continue
        title = one_line(attribute(sheet, "name") or "Sheet")
        hidden = attribute(sheet, "state") in ("hidden", "veryHidden")
        if hidden:
            builder.warn(f"sheet {title} is hidden")
        try:
            add_sheet(builder, title, reader.rows(archive.read(part), title, builder), hidden=hidden)
        except ParseFailure as failure:
            if failure.reason != "corrupt":
                raise
            builder.warn(f"sheet {title} is damaged and was read in part")
    return builder.finish(name=name, parser=PARSER, media_type=MEDIA_TYPE)


class _Reader:
    """Turns sheet XML into rows of shown text."""

    def __init__(self, archive: Archive, strings: list[str], styles: list[str], is_1904: bool) -> None:
        self._name = archive.name
        self._strings = strings
        self._styles = styles
        self._is_1904 = is_1904
        self._cells = 0

    def rows(self, data: bytes, title: str, builder: DocumentBuilder) -> Iterator[Row]:
        """``(row number, {column: text})`` of every row with text; labels merged over rows repeat downwards."""
        from lxml import etree

        if b"<!DOCTYPE" in data[:4096]:
            raise ParseFailure("unsafe", f"{self._name} carries a document type definition")
        merged = _merged_down(data)
        carried: dict[tuple[int, int], str] = {}
        number = last = 0
        try:
            for _, element in etree.iterparse(
                io.BytesIO(data), events=("end",), tag="{*}row", resolve_entities=False, no_network=True, load_dtd=False
            ):
                attribute_row = element.get("r") or ""
                number = int(attribute_row) if attribute_row.isdigit() and len(attribute_row) < 8 else number + 1
                if number - last > EMPTY_ROWS_MAX:
                    builder.warn(f"sheet {title}: rows after {EMPTY_ROWS_MAX} empty ones were left out")
                    return
                cells = self._row(element)
                for column in merged.get(number, ()):
                    text = carried.get((number, column)) or cells.get(column, "")
                    if 0 < len(text) <= MERGED_CHARS_MAX:
                        cells[column] = text
                        carried[number + 1, column] = text
                element.clear()
                while element.getprevious() is not None:
                    del element.getparent()[0]
                if cells:
                    last = number
                    yield number, cells
                if self._cells > CELLS_MAX:
                    builder.warn(f"only the first {CELLS_MAX} cells were read")
                    return
        except etree.XMLSyntaxError as error:
            raise ParseFailure("corrupt", f"{self._name} holds broken XML") from error

    def _row(self, element: _Element) -> dict[int, str]:
        cells: dict[int, str] = {}
        column = 0
        for cell in element:
            if local(cell) != "c":
                continue
            found = place(cell.get("r") or "")
            column = found[1] if found else column + 1
            if column > COLUMNS_MAX:
                break
            self._cells += 1
            text = one_line(self._cell(cell)[:CELL_CHARS_MAX])
            if text:
                cells[column] = text
        return cells

    def _cell(self, cell: _Element) -> str:
        kind = cell.get("t") or "n"
        if kind == "inlineStr":
            return _rich_text(child(cell, "is"))
        value, formula = child(cell, "v"), child(cell, "f")
        raw = (value.text or "") if value is not None else ""
        if not raw and not (kind == "str" and value is not None):
            # Written by a program that never calculated: the formula is all that there is.
            return f"={formula.text}" if formula is not None and formula.text else ""
        if kind == "s":
            index = int(raw) if raw.strip().isdigit() else -1
            return self._strings[index] if 0 <= index < len(self._strings) else ""
        if kind == "b":
            return "TRUE" if raw.strip() == "1" else "FALSE"
        if kind == "n":
            style = cell.get("s") or "0"
            index = int(style) if style.isdigit() else 0
            return show_number(
                raw.strip(), self._styles[index] if index < len(self._styles) else "", is_1904=self._is_1904
            )
        return raw.removesuffix("T00:00:00") if kind == "d" else raw


def _relation_id(sheet: _Element) -> str:
    for key, value in sheet.items():
        if str(key).endswith("}id"):
            return str(value)
    return ""


def _shared_strings(archive: Archive, main: str) -> list[str]:
    for kind, part in archive.relations(main).values():
        if kind == "sharedStrings" and part in archive:
            return [_rich_text(item) for item in read_xml(archive.read(part), archive.name) if local(item) == "si"]
    return []


def _rich_text(item: _Element | None) -> str:
    """The text of runs; phonetic guides (furigana) are not part of what a cell shows."""
    if item is None:
        return ""
    parts: list[str] = []
    for piece in item:
        tag = local(piece)
        if tag == "t":
            parts.append(piece.text or "")
        elif tag == "r":
            parts.extend(text.text or "" for text in piece if local(text) == "t")
    return "".join(parts)


def _styles(archive: Archive, main: str) -> list[str]:
    """The date/percent style of each cell format index."""
    root = archive.related(main, "styles")
    codes: dict[int, str] = {}
    custom = child(root, "numFmts")
    for item in custom if custom is not None else ():
        number = attribute(item, "numFmtId") or ""
        if number.isdigit():
            codes[int(number)] = attribute(item, "formatCode") or ""
    formats = child(root, "cellXfs")
    found: list[str] = []
    for item in formats if formats is not None else ():
        number = attribute(item, "numFmtId") or "0"
        format_id = int(number) if number.isdigit() else 0
        found.append(style_of(format_id, codes.get(format_id, "")))
    return found


def _merged_down(data: bytes) -> dict[int, list[int]]:
    """For each row the columns whose first cell is merged with the row below."""
    rows: dict[int, list[int]] = {}
    total = 0
    for match in _MERGE.finditer(data):
        first, last = place(match.group(1).decode()), place(match.group(2).decode())
        if first is None or last is None or last[0] <= first[0]:
            continue
        for row in range(first[0], min(last[0], first[0] + EMPTY_ROWS_MAX) + 1):
            rows.setdefault(row, []).append(first[1])
            total += 1
        if total > MERGES_MAX:
            break
    return rows
