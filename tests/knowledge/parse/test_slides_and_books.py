"""PPTX, OpenDocument and EPUB: reading order, notes, hidden parts, protection."""

from __future__ import annotations

import io
from collections.abc import Callable

import pptx
import pytest
from pptx.util import Inches

from roadbed.knowledge.parse.dispatch import parse_bytes
from roadbed.knowledge.parse.document import ParsedDocument, ParseFailure

OFFICE = 'xmlns:office="o" xmlns:text="t" xmlns:table="b" xmlns:draw="d" xmlns:presentation="p"'


def kinds(document: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, document.text[block.start : block.end]) for block in document.blocks]


def test_slides_are_read_from_top_to_bottom() -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    for text, top in (("low", 5), ("high", 2)):
        slide.shapes.add_textbox(Inches(1), Inches(top), Inches(3), Inches(1)).text_frame.text = text
    slide.shapes.title.text = "Plan"
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Inches(1), Inches(3), Inches(3), Inches(1)).text_frame.text = "grouped"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(6), Inches(4), Inches(1)).table
    for number, text in enumerate(("Year", "Sum", "2026", "7")):
        table.cell(number // 2, number % 2).text = text
    slide.notes_slide.notes_text_frame.text = "say hello"
    hidden = deck.slides.add_slide(deck.slide_layouts[5])
    hidden.shapes.title.text = "Backup"
    hidden._element.set("show", "0")
    target = io.BytesIO()
    deck.save(target)
    document = parse_bytes(target.getvalue(), name="plan.pptx")
    assert kinds(document) == [
        ("heading", "Plan"),
        ("paragraph", "high"),
        ("paragraph", "grouped"),
        ("paragraph", "low"),
        ("table", "Year | Sum\n2026 | 7"),
        ("note", "say hello"),
        ("heading", "Backup"),
    ]
    assert [block.location for block in document.blocks][-2:] == ["slide 1 notes", "slide 2"]
    assert document.blocks[-1].hidden
    assert document.blocks[0].page == 1


def test_opendocument_text(zip_of: Callable[..., bytes]) -> None:
    content = f"""<office:document-content {OFFICE}><office:body><office:text>
      <text:tracked-changes><text:p>gone</text:p></text:tracked-changes>
      <text:h text:outline-level="2">Leave</text:h><text:p>Two<text:s text:c="3"/>words<text:note><text:note-body>
      <text:p>aside</text:p></text:note-body></text:note></text:p>
      <text:list><text:list-item><text:p>one</text:p></text:list-item></text:list>
      <table:table><table:table-row><table:table-cell><text:p>A</text:p></table:table-cell>
      <table:table-cell><text:p>B</text:p></table:table-cell></table:table-row></table:table>
      </office:text></office:body></office:document-content>"""
    data = zip_of({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})
    document = parse_bytes(data, name="a.odt")
    assert kinds(document) == [
        ("heading", "Leave"),
        ("paragraph", "Two words"),
        ("note", "aside"),
        ("list", "one"),
        ("table", "A | B"),
    ]


def test_opendocument_sheet_with_a_million_repeats(zip_of: Callable[..., bytes]) -> None:
    content = f"""<office:document-content {OFFICE}><office:body><office:spreadsheet><table:table table:name="S">
      <table:table-row><table:table-cell><text:p>x</text:p></table:table-cell></table:table-row>
      <table:table-row table:number-rows-repeated="1048575"><table:table-cell table:number-columns-repeated="16384"/>
      </table:table-row></table:table></office:spreadsheet></office:body></office:document-content>"""
    data = zip_of({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": content})
    assert kinds(parse_bytes(data, name="a.ods")) == [("heading", "S"), ("paragraph", "x")]


def test_protected_opendocument_is_named(zip_of: Callable[..., bytes]) -> None:
    manifest = '<m:manifest xmlns:m="m"><m:file-entry><m:encryption-data/></m:file-entry></m:manifest>'
    data = zip_of(
        {"mimetype": "application/vnd.oasis.opendocument.text", "META-INF/manifest.xml": manifest, "content.xml": "x"}
    )
    with pytest.raises(ParseFailure) as caught:
        parse_bytes(data, name="a.odt")
    assert caught.value.reason == "encrypted"


def test_epub_follows_the_spine(zip_of: Callable[..., bytes]) -> None:
    package = """<package><metadata><title>Book</title><language>en</language></metadata><manifest>
      <item id="b" href="b.xhtml"/><item id="a" href="a.xhtml"/></manifest>
      <spine><itemref idref="a"/><itemref idref="b"/></spine></package>"""
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="x/p.opf"/></rootfiles></container>',
        "x/p.opf": package,
        "x/a.xhtml": "<html><body><h1>One</h1></body></html>",
        "x/b.xhtml": "<html><body><p>Two</p></body></html>",
    }
    document = parse_bytes(zip_of(parts), name="a.epub")
    assert kinds(document) == [("heading", "One"), ("paragraph", "Two")]
    assert (document.title, document.language, document.blocks[1].location) == ("Book", "en", "chapter 2")
