"""Markdown: the source itself is the canonical text, and each block is a true span of it.

Built on markdown-it-py's block tokens, whose line ranges are exact; inline syntax stays in the text, because
offsets into the file are worth more than prettier quotes. The title, which is no span, is plain. Front matter gives
title and language and is no block. HTML comments are ``hidden``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from roadbed.knowledge.parse.document import (
    BLOCKS_MAX,
    TEXT_CHARS_MAX,
    TITLE_CHARS_MAX,
    Block,
    BlockKind,
    ParsedDocument,
    ParseFailure,
    first_heading,
    one_line,
    stem,
)
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.versions import parser_name

if TYPE_CHECKING:
    from markdown_it.token import Token

PARSER = parser_name("markdown")
FRONT_MATTER_CHARS_MAX = 20_000
NESTING_MAX = 40
_FIELD = re.compile(r"^(?!---|\+\+\+)[^\n]*\w[^\n]*(?<=\S)", re.MULTILINE)
_HEADING_ID = re.compile(r"\s*\{#[\w:.-]+\}$")
_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
TITLE_SOURCE_CHARS_MAX = 2_000
TABLE_CHARS_MAX = 1_500
"""A longer table is given row by row, so that a chunk never has to cut inside a row."""


def parse_markdown(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read CommonMark with tables; raises `ParseFailure` (``empty``) when there is no block."""
    from markdown_it import MarkdownIt

    text, encoding, certain = decode(data, declared=declared)
    warnings = [] if certain else [f"character encoding guessed: {encoding}"]
    if len(text) > TEXT_CHARS_MAX:
        text = text[: text.rfind("\n", 0, TEXT_CHARS_MAX) + 1 or TEXT_CHARS_MAX]
        warnings.append(f"only the first {len(text)} characters were read")
    skip, fields = front_matter(text)
    reader = MarkdownIt("commonmark", {"maxNesting": NESTING_MAX}).enable("table").disable(["inline", "text_join"])
    body = "\n" * text.count("\n", 0, skip) + text[skip:]
    blocks = _Walk(text).blocks(reader.parse(body))
    if len(blocks) > BLOCKS_MAX:
        del blocks[BLOCKS_MAX:]
        warnings.append(f"only the first {BLOCKS_MAX} blocks are indexed")
    if not blocks and skip:
        # Pages of site generators can consist of data alone; then the data is the text.
        blocks = [
            Block("row", match.start(), match.end()) for match in _FIELD.finditer(text, 4, skip) if match.end() < skip
        ]
    if not blocks:
        raise ParseFailure("empty", f"{name} holds no text")
    title = plain_words(fields.get("title") or first_heading(text, blocks)) or stem(name)
    language = fields.get("lang") or fields.get("language") or None
    return ParsedDocument(
        text, tuple(blocks), title[:TITLE_CHARS_MAX], language, PARSER, "text/markdown", tuple(warnings)
    )


def plain_words(line: str) -> str:
    """A line as a reader sees it: emphasis, code and links as their words, pictures as what they show.

    Of ``## Moving to **2.0** {#moving}`` it is ``Moving to 2.0``.
    """
    from markdown_it import MarkdownIt

    line = _HEADING_ID.sub("", one_line(line)[:TITLE_SOURCE_CHARS_MAX])
    tokens = MarkdownIt("commonmark").enable("strikethrough").parseInline(line)
    waiting, words = [token for outer in tokens for token in outer.children or ()], ""
    for token in waiting:
        if token.type in ("softbreak", "hardbreak") or _LINE_BREAK.fullmatch(token.content):
            words += " "
        elif token.type != "html_inline":
            words += token.content
    return one_line(words)


def front_matter(text: str) -> tuple[int, dict[str, str]]:
    """``(offset behind the front matter, its scalar fields)``; offset 0 when the text opens with none.

    Only ``key: value`` lines count: that is what titles need, and a YAML library has no business with a stranger's
    file.
    """
    fence = text[:3]
    if fence not in ("---", "+++") or text[3:4] != "\n":
        return 0, {}
    end = text.find(f"\n{fence}", 3, FRONT_MATTER_CHARS_MAX)
    if end < 0:
        return 0, {}
    after = text.find("\n", end + 1)
    fields: dict[str, str] = {}
    for line in text[4:end].split("\n"):
        key, separator, value = line.partition(":" if fence == "---" else "=")
        value = value.strip().strip("\"'").strip()
        if separator and value and not line.startswith((" ", "\t", "-", "#")):
            fields[key.strip().lower()] = value
    return (after + 1 if after >= 0 else len(text)), fields


class _Walk:
    """One pass over the block tokens, turning line ranges into codepoint spans."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0]
        position = text.find("\n")
        while position >= 0:
            self._starts.append(position + 1)
            position = text.find("\n", position + 1)
        self._starts.append(len(text) + 1)
        self._done = 0
        self._found: list[Block] = []

    def blocks(self, tokens: Sequence[Token]) -> list[Block]:
        depth = 0
        in_table = False
        for token in tokens:
            kind = token.type
            if kind in ("bullet_list_open", "ordered_list_open"):
                depth += 1
            elif kind in ("bullet_list_close", "ordered_list_close"):
                depth -= 1
            elif kind == "table_open":
                in_table = True
                self._table(token)
            elif kind == "table_close":
                in_table = False
            elif kind == "heading_open":
                self._heading(token)
            elif kind == "paragraph_open" and not in_table:
                self._lines("list" if depth else "paragraph", token, level=depth)
            elif kind in ("fence", "code_block"):
                self._lines("code", token)
            elif kind == "html_block":
                self._html(token)
        return self._found

    def _span(self, first: int, last: int) -> tuple[int, int]:
        """The span of lines ``[first, last)`` without outer blanks, never before what was already given out."""
        start = max(self._starts[min(first, len(self._starts) - 1)], self._done)
        end = min(self._starts[min(last, len(self._starts) - 1)] - 1, len(self._text))
        while start < end and self._text[start].isspace():
            start += 1
        while end > start and self._text[end - 1].isspace():
            end -= 1
        return start, end

    def _emit(self, kind: BlockKind, start: int, end: int, *, level: int = 0, hidden: bool = False) -> None:
        if end > start:
            self._found.append(Block(kind, start, end, level, hidden=hidden))
            self._done = end

    def _lines(self, kind: BlockKind, token: Token, *, level: int = 0) -> None:
        if token.map:
            self._emit(kind, *self._span(*token.map), level=level)

    def _heading(self, token: Token) -> None:
        if not token.map:
            return
        start, end = self._span(*token.map)
        if token.markup.startswith("#"):
            while start < end and self._text[start] in "#> \t":
                start += 1
            bare = self._text[start:end].rstrip("#")
            if bare == "" or bare[-1] in " \t":
                end = start + len(bare.rstrip())
        else:
            end = start + len(self._text[start:end].rpartition("\n")[0].rstrip())
        self._emit("heading", start, end, level=int(token.tag[1:]))

    def _table(self, token: Token) -> None:
        if not token.map:
            return
        first, last = token.map
        start, end = self._span(first, last)
        if end - start <= TABLE_CHARS_MAX:
            self._emit("table", start, end)
            return
        self._emit("table", *self._span(first, first + 2))
        for line in range(first + 2, last):
            self._emit("row", *self._span(line, line + 1))

    def _html(self, token: Token) -> None:
        if not token.map:
            return
        start, end = self._span(*token.map)
        piece = self._text[start:end]
        is_comment = piece.startswith("<!--") and piece.find("-->") in (-1, len(piece) - 3)
        self._emit("note" if is_comment else "paragraph", start, end, hidden=is_comment)
