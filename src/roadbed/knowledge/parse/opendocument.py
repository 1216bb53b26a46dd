"""OpenDocument text, sheets and slides (ODT, ODS, ODP): ``content.xml`` in order.

Called by ``dispatch``. Tracked deletions, comments and indexes are left out; notes follow their paragraph; hidden
slides and tables are marked. The invariant: repeat counts, which can claim a million rows, are honoured only for
cells that hold text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import Archive, attribute, child, local
from roadbed.knowledge.parse.detect import MEDIA_TYPES, detect
from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, one_line, squeeze
from roadbed.knowledge.parse.sheet import CELLS_MAX, Row, add_sheet
from roadbed.knowledge.parse.tables import add_table
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from lxml.etree import _Element

PARSER = parser_name("opendocument")
REPEAT_MAX = 100
EMPTY_ROWS_MAX = 1_000
DEPTH_MAX = 60
_SKIPPED = frozenset(
    [
        "tracked-changes",
        "annotation",
        "annotation-end",
        "table-of-content",
        "alphabetical-index",
        "illustration-index",
        "bibliography",
        "forms",
        "note",
        "sequence-decls",
        "notes",
        "dde-connection-decls",
        "calculation-settings",
        "named-expressions",
    ]
)


def parse_opendocument(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read an ODT, ODS or ODP file."""
    kind = detect(data, name)
    archive = Archive(data, name)
    manifest = archive.optional_xml("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive else None
    if manifest is not None and any(local(item) == "encryption-data" for item in manifest.iter()):
        raise ParseFailure("encrypted", f"{name} is protected with a password", hint="save a copy without the password")
    if "content.xml" not in archive:
        raise ParseFailure("corrupt", f"{name} has no content.xml")
    builder = DocumentBuilder()
    if "meta.xml" in archive:
        for item in archive.xml("meta.xml").iter():
            if local(item) == "title" and not builder.title:
                builder.title = one_line(item.text or "")
            elif local(item) == "language":
                builder.language = one_line(item.text or "") or None
    reader = _Reader(builder)
    body = child(archive.xml("content.xml"), "body")
    for part in body if body is not None else ():
        reader.blocks(part, 0)
    media_type = MEDIA_TYPES[kind] if kind in MEDIA_TYPES else MEDIA_TYPES["odt"]
    return builder.finish(name=name, parser=PARSER, media_type=media_type)


class _Reader:
    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._page: int | None = None
        self._hidden = False
        self._cells = 0

    def blocks(self, parent: _Element, lists: int, depth: int = 0) -> None:
        """Every block below ``parent``; ``lists`` is how many lists surround it."""
        if depth > DEPTH_MAX:
            return
        is_sheet = local(parent) == "spreadsheet"
        for item in parent:
            tag = local(item)
            if self._builder.full or tag in _SKIPPED:
                continue
            if tag == "h":
                level = attribute(item, "outline-level") or "1"
                self._text(item, "heading", int(level) if level.isdigit() else 1)
            elif tag == "p":
                self._text(item, "list" if lists else "paragraph", lists)
            elif tag in ("list", "list-item", "list-header"):
                self.blocks(item, lists + (tag == "list"), depth + 1)
            elif tag == "table" and is_sheet:
                title = one_line(attribute(item, "name") or "Sheet")
                add_sheet(self._builder, title, self._rows(item), hidden=attribute(item, "display") == "false")
            elif tag == "table":
                rows = [[cells.get(column, "") for column in range(1, max(cells) + 1)] for _, cells in self._rows(item)]
                add_table(self._builder, rows, page=self._page, location=self._location)
            elif tag == "frame" and attribute(item, "class") == "title":
                text = one_line(" ".join(_plain(part, [], []) for part in item.iter() if local(part) == "p"))
                self._builder.add("heading", text, level=1, page=self._page, location=self._location)
            elif tag == "page":
                self._page = (self._page or 0) + 1
                self.blocks(item, 0, depth + 1)
            else:
                self.blocks(item, lists, depth + 1)

    @property
    def _location(self) -> str:
        return f"slide {self._page}" if self._page else ""

    def _text(self, paragraph: _Element, kind: str, level: int) -> None:
        notes: list[str] = []
        boxes: list[_Element] = []
        text = _plain(paragraph, notes, boxes)
        if kind == "heading":
            self._builder.add("heading", one_line(text), level=level, page=self._page, location=self._location)
        elif kind == "list":
            self._builder.add("list", squeeze(text), level=level, page=self._page, location=self._location)
        else:
            self._builder.add("paragraph", squeeze(text), page=self._page, location=self._location)
        for note in notes:
            self._builder.add("note", one_line(note), page=self._page, location=self._location)
        for box in boxes:
            self.blocks(box, 0, DEPTH_MAX // 2)

    def _rows(self, table: _Element) -> Iterator[Row]:
        number = empty = 0
        for row in _table_rows(table):
            repeat = _count(attribute(row, "number-rows-repeated"))
            cells: dict[int, str] = {}
            column = 1
            for cell in row:
                if local(cell) not in ("table-cell", "covered-table-cell"):
                    continue
                span = _count(attribute(cell, "number-columns-repeated"))
                text = one_line(" ".join(_plain(item, [], []) for item in cell if local(item) in ("p", "h", "list")))
                if text:
                    self._cells += 1
                    for place in range(column, column + min(span, REPEAT_MAX)):
                        cells[place] = text
                column += span
            if not cells:
                number, empty = number + repeat, empty + repeat
                if empty > EMPTY_ROWS_MAX:
                    return
                continue
            empty = 0
            for _ in range(min(repeat, REPEAT_MAX)):
                number += 1
                yield number, cells
            if self._cells > CELLS_MAX:
                return


def _table_rows(table: _Element) -> Iterator[_Element]:
    for item in table:
        tag = local(item)
        if tag == "table-row":
            yield item
        elif tag in ("table-header-rows", "table-rows", "table-row-group"):
            yield from _table_rows(item)


def _plain(element: _Element, notes: list[str], boxes: list[_Element]) -> str:
    """The text of a paragraph with its spans; notes and text boxes are handed back apart."""
    parts = [element.text or ""]
    for item in element:
        tag = local(item)
        if tag == "s":
            parts.append(" " * min(_count(attribute(item, "c")), REPEAT_MAX))
        elif tag in ("tab", "line-break"):
            parts.append("\t" if tag == "tab" else "\n")
        elif tag == "note":
            body = child(item, "note-body")
            notes.append(
                " ".join("".join(str(piece) for piece in part.itertext()) for part in body) if body is not None else ""
            )
        elif tag == "text-box":
            boxes.append(item)
        elif tag not in _SKIPPED:
            parts.append(_plain(item, notes, boxes))
        parts.append(item.tail or "")
    return "".join(parts)


def _count(text: str | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 9 else 1
