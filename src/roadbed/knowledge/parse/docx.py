"""DOCX: the body of a Word document in order, read from its XML.

python-docx loses tracked insertions, content controls and text boxes, so the parts are walked here. Deleted text,
tables of contents, running headers and comments are left out; footnotes follow their paragraph as notes; hidden
runs are marked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import Archive, attribute, child, core_properties, local
from roadbed.knowledge.parse.document import BlockKind, DocumentBuilder, ParsedDocument, one_line, squeeze
from roadbed.knowledge.parse.numbering import Numbering
from roadbed.knowledge.parse.tables import add_table
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from lxml.etree import _Element

PARSER = parser_name("docx")
MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
NESTING_MAX = 40
CELL_CHARS_MAX = 2_500
"""A table with a longer cell is a layout: its cells are read as blocks."""
MERGED_CHARS_MAX = 120
"""A cell merged downwards repeats its text in each row up to this length."""
_SKIPPED = frozenset(
    ["del", "moveFrom", "instrText", "delText", "rPr", "pPr", "sectPr", "commentReference", "annotationRef", "Fallback"]
)
_OFF = ("0", "false", "off")


@dataclass(slots=True)
class _Style:
    name: str = ""
    parent: str = ""
    outline: int | None = None
    numbering: tuple[str, int] | None = None


@dataclass(slots=True)
class _Gathered:
    """What one paragraph holds besides its own text."""

    shown: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    boxes: list[_Element] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def parse_docx(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read a DOCX, DOCM or DOTX file."""
    archive = Archive(data, name)
    main = archive.main_part("word/document.xml")
    builder = DocumentBuilder()
    title, builder.language = core_properties(archive)
    reader = _Reader(archive, main, builder)
    body = child(archive.xml(main), "body")
    if body is not None:
        reader.blocks(body, 0)
    builder.title = reader.title or title
    return builder.finish(name=name, parser=PARSER, media_type=MEDIA_TYPE)


class _Reader:
    def __init__(self, archive: Archive, main: str, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._styles = _read_styles(archive.related(main, "styles"))
        self._numbering = Numbering(archive.related(main, "numbering"))
        self._notes = {
            kind: {attribute(note, "id") or "": note for note in root if attribute(note, "type") is None}
            for kind in ("footnote", "endnote")
            if (root := archive.related(main, f"{kind}s")) is not None
        }
        self._note_count = 0
        self.title = ""

    def blocks(self, parent: _Element, depth: int) -> None:
        """Every paragraph and table below ``parent`` in order, through content controls and tracked insertions."""
        if depth > NESTING_MAX:
            self._builder.warn("parts nested too deeply were left out")
            return
        for item in parent:
            if self._builder.full:
                return
            tag = local(item)
            if tag == "p":
                self._paragraph(item, depth)
            elif tag == "tbl":
                self._table(item, depth)
            elif tag in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "AlternateContent", "Choice"):
                self.blocks(item, depth + 1)

    def _paragraph(self, paragraph: _Element, depth: int) -> None:
        gathered = _Gathered()
        self._runs(paragraph, gathered, 0)
        style_id, style = self._style(paragraph)
        text = squeeze("".join(gathered.shown))
        if text and not style.name.startswith(("toc ", "table of figures")):
            kind, level, label = self._role(paragraph, style_id, style)
            if kind == "heading":
                text = one_line(text)
                if style.name == "title" and not self.title:
                    self.title = text
            self._builder.add(kind, f"{label} {text}" if label else text, level=level)
        self._builder.add("paragraph", squeeze("".join(gathered.hidden)), hidden=True)
        for kind_of_note, note_id in gathered.notes:
            self._note(kind_of_note, note_id)
        for box in gathered.boxes:
            self.blocks(box, depth + 1)

    def _role(self, paragraph: _Element, style_id: str, style: _Style) -> tuple[BlockKind, int, str]:
        """``(kind, level, computed label)`` of a paragraph with text."""
        properties = child(paragraph, "pPr")
        place = child(properties, "numPr")
        label, depth = "", -1
        if place is not None:
            list_id = _value(child(place, "numId")) or (style.numbering[0] if style.numbering else "")
            depth = _integer(_value(child(place, "ilvl")), style.numbering[1] if style.numbering else 0)
            label = self._numbering.label(list_id, depth)
            if list_id == "0":
                depth = -1
        elif style.numbering is not None:
            list_id, depth = style.numbering
            label = self._numbering.label(list_id, depth)
        outline = child(properties, "outlineLvl")
        level = _integer(_value(outline), 9) if outline is not None else style.outline
        if style.name == "title":
            return "heading", 1, label if label != "-" else ""
        if level is not None and 0 <= level < 9:
            return "heading", level + 1, label if label != "-" else ""
        if depth >= 0:
            return "list", depth + 1, label
        return "paragraph", 0, ""

    def _style(self, paragraph: _Element) -> tuple[str, _Style]:
        style_id = _value(child(paragraph, "pPr", "pStyle")) or ""
        return style_id, self._styles.get(style_id, _Style())

    def _runs(self, parent: _Element, gathered: _Gathered, depth: int) -> None:
        """Collect the text below ``parent``; bounded by the XML reader's own depth of 256."""
        hidden = local(parent) == "r" and _is_on(child(parent, "rPr", "vanish"))
        target = gathered.hidden if hidden else gathered.shown
        chosen = False
        for item in parent:
            tag = local(item)
            if tag == "t":
                target.append(item.text or "")
            elif tag in ("tab", "ptab"):
                target.append("\t")
            elif tag in ("br", "cr"):
                target.append("\n")
            elif tag == "noBreakHyphen":
                target.append("-")
            elif tag in ("footnoteReference", "endnoteReference"):
                gathered.notes.append((tag.removesuffix("Reference"), attribute(item, "id") or ""))
            elif tag == "txbxContent":
                gathered.boxes.append(item)
            elif tag == "AlternateContent":
                for choice in item:
                    if local(choice) == "Choice" and not chosen:
                        self._runs(choice, gathered, depth + 1)
                        break
            elif tag == "docPr":
                continue
            elif tag not in _SKIPPED and len(item):
                self._runs(item, gathered, depth + 1)

    def _note(self, kind: str, note_id: str) -> None:
        note = self._notes.get(kind, {}).pop(note_id, None)
        if note is None:
            return
        self._note_count += 1
        text = one_line(" ".join(self._plain(note)))
        if text:
            self._builder.add("note", f"[{self._note_count}] {text}")

    def _plain(self, parent: _Element) -> Iterator[str]:
        for paragraph in parent.iter():
            if local(paragraph) == "p":
                gathered = _Gathered()
                self._runs(paragraph, gathered, 0)
                yield "".join(gathered.shown)

    def _table(self, table: _Element, depth: int) -> None:
        rows: list[list[str]] = []
        has_header = False
        for row in _through(table, "tr"):
            if child(row, "trPr", "del") is not None:
                continue
            if not rows and child(row, "trPr", "tblHeader") is not None:
                has_header = True
            cells: list[str] = []
            for cell in _through(row, "tc"):
                merge = child(cell, "tcPr", "vMerge")
                is_continued = merge is not None and (attribute(merge, "val") or "continue") == "continue"
                above = rows[-1][len(cells)] if is_continued and rows and len(cells) < len(rows[-1]) else ""
                text = above if len(above) <= MERGED_CHARS_MAX else ""
                cells.append(text if is_continued else self._cell(cell))
                cells.extend([""] * (min(_integer(_value(child(cell, "tcPr", "gridSpan")), 1), 60) - 1))
            rows.append(cells)
        is_layout = any(len(cell) > CELL_CHARS_MAX for row in rows for cell in row)
        if is_layout or max((sum(1 for cell in row if cell) for row in rows), default=0) <= 1:
            for row in _through(table, "tr"):
                for cell in _through(row, "tc"):
                    self.blocks(cell, depth + 1)
            return
        add_table(self._builder, rows, has_header=has_header or None)

    def _cell(self, cell: _Element) -> str:
        """A cell on one line; its list items keep their labels, a nested table its cell borders."""
        parts: list[str] = []
        for item in _through(cell, "p", "tbl"):
            if local(item) == "tbl":
                for row in _through(item, "tr"):
                    parts.append(" / ".join(filter(None, (self._cell(inner) for inner in _through(row, "tc")))))
                continue
            gathered = _Gathered()
            self._runs(item, gathered, 0)
            text = one_line("".join(gathered.shown))
            for box in gathered.boxes:
                text = one_line(f"{text} {' '.join(self._plain(box))}")
            if text:
                _, _, label = self._role(item, *self._style(item))
                parts.append(f"{label} {text}" if label else text)
        return " ".join(parts)


def _through(parent: _Element, *wanted: str) -> Iterator[_Element]:
    """Children of the wanted kinds, looking through content controls and tracked insertions."""
    for item in parent:
        tag = local(item)
        if tag in wanted:
            yield item
        elif tag in ("sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"):
            yield from _through(item, *wanted)


def _read_styles(root: _Element | None) -> dict[str, _Style]:
    styles: dict[str, _Style] = {}
    for item in root if root is not None else ():
        if local(item) != "style" or attribute(item, "type") not in ("paragraph", None):
            continue
        style = _Style(name=(_value(child(item, "name")) or "").lower(), parent=_value(child(item, "basedOn")) or "")
        properties = child(item, "pPr")
        outline = child(properties, "outlineLvl")
        if outline is not None:
            style.outline = _integer(_value(outline), 9)
        elif style.name.startswith("heading ") and style.name[8:].isdigit():
            style.outline = int(style.name[8:]) - 1
        place = child(properties, "numPr")
        if place is not None:
            style.numbering = (_value(child(place, "numId")) or "", _integer(_value(child(place, "ilvl")), 0))
        styles[attribute(item, "styleId") or ""] = style
    for style in styles.values():
        _inherit(style, styles)
    return styles


def _inherit(style: _Style, styles: dict[str, _Style]) -> None:
    """Take outline level and numbering from the nearest ancestor that has them."""
    parent, seen = style.parent, 0
    while parent in styles and seen < 20:
        above = styles[parent]
        if style.outline is None:
            style.outline = above.outline
        if style.numbering is None:
            style.numbering = above.numbering
        parent, seen = above.parent, seen + 1


def _value(element: _Element | None) -> str | None:
    return attribute(element, "val") if element is not None else None


def _integer(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isdigit() and len(text) < 6 else default


def _is_on(element: _Element | None) -> bool:
    return element is not None and (attribute(element, "val") or "1").lower() not in _OFF
