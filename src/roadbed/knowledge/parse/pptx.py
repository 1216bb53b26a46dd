"""PPTX: slide by slide, shapes from top to bottom, with tables, diagrams and speaker notes.

Shapes come in drawing order, which is not reading order, so they are sorted by their place; groups are unfolded
with their own coordinates. Hidden slides are marked ``hidden``, speaker notes become ``note`` blocks. Called by
``dispatch``.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import Archive, attribute, child, core_properties, local
from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, one_line, squeeze
from roadbed.knowledge.parse.tables import add_table
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from lxml.etree import _Element

PARSER = parser_name("pptx")
MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
SLIDES_MAX = 5_000
GROUPS_DEPTH_MAX = 20
ROW_EMU = 180_000
"""Shapes whose tops differ by less than this (half a centimetre) are read from left to right."""
_SKIPPED_PLACEHOLDERS = ("dt", "ftr", "sldNum", "hdr", "sldImg")


@dataclass(frozen=True, slots=True)
class _Frame:
    """Affine map from a group's child coordinates to the slide."""

    x: float = 0.0
    y: float = 0.0
    scale_x: float = 1.0
    scale_y: float = 1.0


@dataclass(frozen=True, slots=True)
class _Shape:
    element: _Element
    role: str
    left: float
    top: float
    order: int


def parse_pptx(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read a PPTX, PPTM, PPSX or POTX presentation."""
    archive = Archive(data, name)
    main = archive.main_part("ppt/presentation.xml")
    builder = DocumentBuilder()
    title, builder.language = core_properties(archive)
    relations = archive.relations(main)
    slides = child(archive.xml(main), "sldIdLst")
    for number, entry in enumerate(slides if slides is not None else (), 1):
        link = next((str(value) for key, value in entry.items() if str(key).endswith("}id")), "")
        _, part = relations.get(link, ("", ""))
        if part in archive and number <= SLIDES_MAX:
            _slide(archive, part, number, builder)
    builder.title = title if len(title) > 3 and not title.lower().startswith(("powerpoint", "slide 1")) else ""
    return builder.finish(name=name, parser=PARSER, media_type=MEDIA_TYPE)


def _slide(archive: Archive, part: str, number: int, builder: DocumentBuilder) -> None:
    root = archive.xml(part)
    hidden = attribute(root, "show") in ("0", "false")
    location = f"slide {number}"
    shapes: list[_Shape] = []
    tree = child(root, "cSld", "spTree")
    if tree is not None:
        _collect(tree, _Frame(), shapes, 0)
    shapes.sort(key=lambda shape: (shape.role != "title", round(shape.top / ROW_EMU), shape.left, shape.order))
    relations = archive.relations(part)
    for shape in shapes:
        _shape(archive, relations, shape, number, builder, hidden)
    for kind, target in relations.values():
        if kind == "notesSlide" and target in archive:
            notes: list[_Shape] = []
            tree = child(archive.xml(target), "cSld", "spTree")
            if tree is not None:
                _collect(tree, _Frame(), notes, 0)
            text = "\n".join(
                filter(None, (squeeze("\n".join(_paragraph(p) for p in _paragraphs(s.element))) for s in notes))
            )
            builder.add("note", text, page=number, location=f"{location} notes", hidden=hidden)


def _collect(tree: _Element, frame: _Frame, shapes: list[_Shape], depth: int) -> None:
    """Every shape with text below ``tree``, with its place on the slide."""
    for item in tree:
        tag = local(item)
        if tag == "grpSp" and depth < GROUPS_DEPTH_MAX:
            _collect(item, _inside(item, frame), shapes, depth + 1)
        elif tag == "AlternateContent":
            for choice in item:
                if local(choice) in ("Choice", "Fallback"):
                    _collect(choice, frame, shapes, depth + 1)
                    break
        elif tag in ("sp", "graphicFrame", "cxnSp", "pic"):
            placeholder = child(
                item, next((local(part) for part in item if local(part).startswith("nv")), ""), "nvPr", "ph"
            )
            kind = (attribute(placeholder, "type") or "body") if placeholder is not None else ""
            if kind in _SKIPPED_PLACEHOLDERS:
                continue
            role = "title" if kind in ("title", "ctrTitle") else kind
            offset = child(item, "xfrm", "off") if tag == "graphicFrame" else child(item, "spPr", "xfrm", "off")
            if offset is None:
                # A placeholder without a place has its layout's: below the title, in drawing order.
                left, top = 0.0, 0.0 if role == "title" else 1_500_000.0
            else:
                left = frame.x + _number(offset, "x") * frame.scale_x
                top = frame.y + _number(offset, "y") * frame.scale_y
            shapes.append(_Shape(item, role, left, top, len(shapes)))


def _inside(group: _Element, frame: _Frame) -> _Frame:
    place = child(group, "grpSpPr", "xfrm")
    offset, extent = child(place, "off"), child(place, "ext")
    inner, size = child(place, "chOff"), child(place, "chExt")
    if offset is None or extent is None or inner is None or size is None:
        return frame
    scale_x = _number(extent, "cx") / (_number(size, "cx") or 1.0)
    scale_y = _number(extent, "cy") / (_number(size, "cy") or 1.0)
    return _Frame(
        frame.x + (_number(offset, "x") - _number(inner, "x") * scale_x) * frame.scale_x,
        frame.y + (_number(offset, "y") - _number(inner, "y") * scale_y) * frame.scale_y,
        frame.scale_x * scale_x,
        frame.scale_y * scale_y,
    )


def _shape(
    archive: Archive,
    relations: dict[str, tuple[str, str]],
    shape: _Shape,
    number: int,
    builder: DocumentBuilder,
    hidden: bool,
) -> None:
    location = f"slide {number}"
    table = child(shape.element, "graphic", "graphicData", "tbl")
    if table is not None:
        rows = [
            [one_line(" ".join(_paragraph(p) for p in _paragraphs(cell))) for cell in row if local(cell) == "tc"]
            for row in table
            if local(row) == "tr"
        ]
        add_table(builder, rows, page=number, location=location, hidden=hidden)
        return
    if shape.role == "title":
        text = one_line(" ".join(_paragraph(paragraph) for paragraph in _paragraphs(shape.element)))
        builder.add("heading", text, level=1, page=number, location=location, hidden=hidden)
        return
    element = _diagram(archive, relations, shape.element)
    if element is None:
        element = shape.element
    for paragraph in _paragraphs(element):
        text = squeeze(_paragraph(paragraph))
        properties = child(paragraph, "pPr")
        depth = attribute(properties, "lvl") if properties is not None else None
        if shape.role in ("subTitle", "") or depth is None:
            builder.add("paragraph", text, page=number, location=location, hidden=hidden)
        else:
            level = int(depth) + 1 if depth.isdigit() else 1
            builder.add("list", text, level=level, page=number, location=location, hidden=hidden)


def _diagram(archive: Archive, relations: dict[str, tuple[str, str]], element: _Element) -> _Element | None:
    """The text of a SmartArt drawing lives in a part of its own."""
    data = child(element, "graphic", "graphicData", "relIds")
    link = next((str(value) for key, value in data.items() if str(key).endswith("}dm")), "") if data is not None else ""
    _, part = relations.get(link, ("", ""))
    return archive.xml(part) if part and posixpath.basename(part) and part in archive else None


def _paragraphs(element: _Element) -> list[_Element]:
    return [item for item in element.iter() if local(item) == "p" and str(item.tag).find("drawingml") >= 0]


def _paragraph(paragraph: _Element) -> str:
    parts: list[str] = []
    for item in paragraph:
        tag = local(item)
        if tag in ("r", "fld"):
            text = child(item, "t")
            parts.append((text.text or "") if text is not None else "")
        elif tag == "br":
            parts.append("\n")
    return "".join(parts)


def _number(element: _Element, name: str) -> float:
    try:
        return float(element.get(name) or 0)
    except ValueError:
        return 0.0
