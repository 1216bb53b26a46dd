"""HTML: the visible text of a page as blocks, without scripts, hidden parts and navigation.

Built on selectolax's lexbor tree, walked without recursion (pages nest thousands deep). ``read_html`` appends to a
builder, because mail and EPUB are made of HTML too. The invariant: text of two blocks is never glued together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.document import (
    BlockKind,
    DocumentBuilder,
    ParsedDocument,
    canonical,
    one_line,
    squeeze,
)
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.tables import add_table
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from selectolax.lexbor import LexborNode

PARSER = parser_name("html")
NODES_MAX = 2_000_000
LINK_DENSITY_MAX = 0.5
"""A navigation-like element whose text is in links to a larger share is dropped."""
TABLE_CELLS_MAX = 100_000

_REMOVED = (
    "script, style, template, noscript, svg, iframe, object, embed, canvas, audio, video, select, textarea, "
    "button, input, head, dialog:not([open]), [hidden]"
)
_HIDDEN_STYLE = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9])", re.IGNORECASE
)
_BOILERPLATE = (
    "nav, footer, aside, header, [role=navigation], [role=contentinfo], [role=banner], [role=search], "
    "[class*=breadcrumb], [class*=sidebar], [class*=navbar], [class*=menu], [id*=menu], [id*=sidebar], "
    "[id*=navigation], [class*=footer], [id*=footer], [class*=skip-link], [class*=cookie], [id*=cookie]"
)
_BLANK = re.compile(r"\s+")
_PARAGRAPHS = re.compile(r"\n{2,}")
_CONTENT = ("html", "body", "main", "article", "h1", "h2", "h3", "p")
_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "nav",
        "ol",
        "optgroup",
        "option",
        "p",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
        "caption",
        "pre",
        "frameset",
        "noframes",
    ]
)


def parse_html(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read one page; ``declared`` is the charset of the HTTP header, if the source knows it."""
    source, encoding, certain = decode(data, declared=declared)
    builder = DocumentBuilder()
    if not certain:
        builder.warn(f"character encoding guessed: {encoding}")
    read_html(builder, source)
    return builder.finish(name=name, parser=PARSER, media_type="text/html")


def read_html(builder: DocumentBuilder, source: str, *, location: str = "", keep_boilerplate: bool = False) -> None:
    """Append the visible blocks of ``source``; sets the builder's title and language if they are still unset.

    When dropping navigation leaves nothing, the page is navigation, and is read again in full.
    """
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(source)
    root = tree.root
    if root is None:
        return
    title = tree.css_first("head > title")
    if title is not None and not builder.title:
        builder.title = one_line(title.text())
    if builder.language is None:
        builder.language = _language(root)
    for node in tree.css(_REMOVED):
        node.decompose()
    for node in tree.css("[style]"):
        if _HIDDEN_STYLE.search(node.attributes.get("style") or ""):
            node.decompose()
    dropped = 0 if keep_boilerplate else _drop_boilerplate(root)
    before = len(builder)
    _Walk(builder, location).run(root)
    if dropped and len(builder) == before and not builder.full:
        read_html(builder, source, location=location, keep_boilerplate=True)


def _language(root: LexborNode) -> str | None:
    html = root if root.tag == "html" else root.css_first("html")
    value = (html.attributes.get("lang") or html.attributes.get("xml:lang")) if html is not None else None
    return one_line(value)[:20] or None if value else None


def _drop_boilerplate(root: LexborNode) -> int:
    dropped = 0
    for node in root.css(_BOILERPLATE):
        if node.tag in _CONTENT or node.css_first("main, article, h1") is not None:
            continue
        total = len(one_line(node.text()))
        linked = sum(len(one_line(link.text())) for link in node.css("a"))
        if total == 0 or linked / total > LINK_DENSITY_MAX:
            node.decompose()
            dropped += 1
    return dropped


class _Walk:
    """Depth-first over the tree; inline text gathers until a block boundary flushes it as one block."""

    def __init__(self, builder: DocumentBuilder, location: str) -> None:
        self._builder = builder
        self._location = location
        self._buffer: list[str] = []
        self._lists = 0
        self._items = 0
        self._heading = 0

    def run(self, root: LexborNode) -> None:
        node: LexborNode | None = root
        depth = 0
        budget = NODES_MAX
        while node is not None and budget and not self._builder.full:
            budget -= 1
            child = node.first_child if self._enter(node) else None
            if child is not None:
                node, depth = child, depth + 1
                continue
            self._leave(node)
            while node is not None and depth and node.next is None:
                node, depth = node.parent, depth - 1
                if node is not None:
                    self._leave(node)
            node = node.next if node is not None and depth else None
        self._flush()

    def _enter(self, node: LexborNode) -> bool:
        """Handle the opening of ``node``; False means that its children are done."""
        tag = node.tag or ""
        if tag == "-text":
            self._buffer.append(_BLANK.sub(" ", node.text()))
            return False
        if tag.startswith("-"):
            return tag == "-document"
        if tag == "br":
            self._buffer.append("\n")
            return False
        if tag not in _BLOCKS:
            if tag == "img" and node.attributes.get("alt"):
                self._buffer.append(f" {node.attributes['alt']} ")
            return True
        self._flush()
        if tag == "pre":
            self._builder.add("code", canonical(node.text()).rstrip(), location=self._location)
            return False
        if tag == "table":
            rows = _data_rows(node)
            if rows is not None:
                add_table(self._builder, rows[0], has_header=rows[1], location=self._location)
                return False
        self._count(tag, 1)
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = node.tag or ""
        if tag in _BLOCKS and tag != "pre":
            self._flush()
            self._count(tag, -1)

    def _count(self, tag: str, step: int) -> None:
        if tag in ("ul", "ol", "menu"):
            self._lists = max(0, self._lists + step)
        elif tag in ("li", "dd"):
            self._items = max(0, self._items + step)
        elif tag in _HEADINGS:
            self._heading = _HEADINGS[tag] if step > 0 else 0

    def _flush(self) -> None:
        if not self._buffer:
            return
        raw = "".join(self._buffer)
        self._buffer.clear()
        kind: BlockKind = "heading" if self._heading else "list" if self._items else "paragraph"
        # Two line breaks in a row are how old pages separate paragraphs.
        texts = [one_line(raw)] if self._heading else _PARAGRAPHS.split(squeeze(raw))
        level = self._heading or (max(1, self._lists) if self._items else 0)
        for text in texts:
            self._builder.add(kind, text, level=level, location=self._location)


def _data_rows(table: LexborNode) -> tuple[list[list[str]], bool | None] | None:
    """``(rows, has header)`` of a data table; None for a layout table, whose cells are read as blocks."""
    if table.css_first("h1, h2, h3, td ul, td pre") is not None:
        return None
    if any(inner.mem_id != table.mem_id for inner in table.css("table")):
        return None
    rows: list[list[str]] = []
    cells = 0
    longest = 0
    for line in table.css("tr"):
        row: list[str] = []
        for cell in line.css("td, th"):
            text = one_line(cell.text(separator=" "))
            longest = max(longest, len(text))
            row.append(text)
            span = cell.attributes.get("colspan") or "1"
            row.extend([""] * (min(int(span), 100) - 1 if span.isdigit() else 0))
            cells += 1
        rows.append(row)
        if cells > TABLE_CELLS_MAX:
            break
    filled = [row for row in rows if sum(1 for cell in row if cell) > 1]
    if not filled or longest > 2_000:
        return None
    first = table.css_first("tr")
    has_header = bool(first is not None and first.css("th") and not first.css("td")) or None
    return rows, has_header
