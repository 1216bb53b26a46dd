"""Plain text, logs, reStructuredText, Org and source code: paragraphs by blank lines, nothing else is interpreted.

The text stays as it is (canonical newlines only), so offsets are those of the file. Called by ``dispatch``.
"""

from __future__ import annotations

import re

from roadbed.knowledge.parse.document import (
    BLOCKS_MAX,
    TEXT_CHARS_MAX,
    Block,
    BlockKind,
    ParsedDocument,
    ParseFailure,
    one_line,
    stem,
)
from roadbed.knowledge.parse.encoding import decode
from roadbed.knowledge.parse.versions import parser_name

PARSER = parser_name("text")
LONG_PARAGRAPH_CHARS = 4_000
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
CODE_EXTENSIONS = frozenset(
    """py js mjs ts tsx jsx java kt go rs c h cc cpp hpp cs rb php pl sh bash zsh ps1 sql swift scala lua r m toml yaml
    yml ini cfg conf properties tf hcl proto graphql css scss less dockerfile makefile gradle groovy vb bat awk tcl jl
    ex exs erl hs clj""".split()  # noqa: SIM905
)
"""Extensions whose paragraphs are code blocks."""


def parse_plain(data: bytes, name: str, declared: str | None = None) -> ParsedDocument:
    """Read any text; paragraphs over 4,000 characters (logs) become one block per line."""
    text, encoding, certain = decode(data, declared=declared)
    warnings = [] if certain else [f"character encoding guessed: {encoding}"]
    if len(text) > TEXT_CHARS_MAX:
        cut = text.rfind("\n", 0, TEXT_CHARS_MAX)
        text = text[: cut if cut > 0 else TEXT_CHARS_MAX]
        warnings.append(f"only the first {len(text)} characters were read")
    is_code = name.rsplit(".", 1)[-1].lower() in CODE_EXTENSIONS
    blocks: list[Block] = []
    for match in _PARAGRAPH.finditer(text):
        start, end = match.span()
        if end - start <= LONG_PARAGRAPH_CHARS:
            blocks.append(Block("code" if is_code else "paragraph", start, end))
        else:
            kind: BlockKind = "code" if is_code else "row"
            blocks.extend(Block(kind, *line.span()) for line in _LINE.finditer(text, start, end))
        if len(blocks) >= BLOCKS_MAX:
            del blocks[BLOCKS_MAX:]
            warnings.append(f"only the first {BLOCKS_MAX} blocks are indexed")
            break
    if not blocks:
        raise ParseFailure("empty", f"{name} holds no text")
    return ParsedDocument(text, tuple(blocks), one_line(stem(name)), None, PARSER, "text/plain", tuple(warnings))
