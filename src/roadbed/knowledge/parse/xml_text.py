"""XML of no known kind: its text, element by element.

An element with text of its own becomes one block, named by its tag when it is a short value; the rest is walked.
Called by ``dispatch``. The invariant: no entity is expanded and no DTD is loaded; a file that declares entities is
refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.archive import local
from roadbed.knowledge.parse.document import DocumentBuilder, ParsedDocument, ParseFailure, one_line
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from lxml.etree import _Element

PARSER = parser_name("xml")
VALUE_CHARS_MAX = 200
RECORD_CHARS_MAX = 2_000
_ENCODED = re.compile(r"(?:[A-Za-z0-9+/=]{40,} ?)+[A-Za-z0-9+/=]*")
_TITLES = ("title", "name", "heading", "head")


def parse_xml(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read well-formed XML; raises `ParseFailure` (``unsafe``) when it declares entities."""
    from lxml import etree

    if any("<!ENTITY".encode(encoding) in data for encoding in ("ascii", "utf-16-le", "utf-16-be")):
        raise ParseFailure("unsafe", f"{name} declares entities", hint="remove its document type definition")
    reader = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, reader)
    except etree.XMLSyntaxError as error:
        raise ParseFailure("corrupt", f"{name} holds broken XML") from error
    builder = DocumentBuilder()
    if root is not None:
        _walk(root, builder, 0)
    return builder.finish(name=name, parser=PARSER, media_type="application/xml")


def _walk(element: _Element, builder: DocumentBuilder, depth: int) -> None:
    if builder.full:
        return
    children = [item for item in element if local(item)]
    if _has_own_text(element) or not children:
        _leaf(element, builder)
        return
    record = _record(children)
    if record and depth > 0:
        builder.add("row", record, location=local(element))
        return
    for item in children:
        _walk(item, builder, depth + 1)


def _has_own_text(element: _Element) -> bool:
    return bool((element.text or "").strip()) or any((item.tail or "").strip() for item in element)


def _leaf(element: _Element, builder: DocumentBuilder) -> None:
    text = one_line("".join(str(piece) for piece in element.itertext()))
    if len(text) > VALUE_CHARS_MAX and _ENCODED.fullmatch(text):
        return  # a picture or another file in base64
    tag = local(element)
    if tag.lower() in _TITLES and text:
        builder.add("heading", text, level=1)
        if not builder.title:
            builder.title = text
    elif len(text) <= VALUE_CHARS_MAX and not len(element):
        builder.add("row", f"{tag}: {text}" if text else "")
    else:
        builder.add("paragraph", text)


def _record(children: list[_Element]) -> str:
    """``a: 1; b: 2`` for an element whose children are all short values; else an empty string."""
    if len(children) < 2 or any(len(item) for item in children):
        return ""
    values = [(local(item), one_line(item.text or "")) for item in children]
    text = "; ".join(f"{tag}: {value}" for tag, value in values if value)
    return text if len(text) <= RECORD_CHARS_MAX and all(len(value) <= VALUE_CHARS_MAX for _, value in values) else ""
