"""Which version of each parser this build has: what decides which documents an upgrade reads again.

Every parser names itself by `parser_name`, and the name is kept with each document. Whoever changes a parser so that it
may give another text, other blocks or another failure raises its number here (`COMMON` for what all of them share);
``tests/knowledge/parse/test_versions.py`` fails when the code changed and nobody said whether it matters. The
invariant: numbers only rise, and labels stay as they are.
"""

from __future__ import annotations

COMMON = 0
"""For what every parser goes through: detection of formats and encodings, canonical text, the limits of a document."""
_PARSERS = {
    "csv": ("csv", 2),
    "docx": ("docx/lxml", 1),
    "epub": ("epub/selectolax-lexbor", 1),
    "html": ("html/selectolax-lexbor", 1),
    "json": ("json", 1),
    "mail": ("mail/email", 1),
    "markdown": ("markdown/markdown-it-4", 3),
    "opendocument": ("opendocument/lxml", 2),
    "pdf": ("pdf/pypdfium2", 2),
    "pptx": ("pptx/lxml", 1),
    "rtf": ("rtf", 1),
    "text": ("text", 1),
    "xlsx": ("xlsx/lxml", 2),
    "xml": ("xml/lxml", 1),
}
_LABELS_BEFORE = ("pdf/pypdfium2-5.15.2:v1",)

READER = sum(own + COMMON for _, own in _PARSERS.values())
"""One number for all parsers together: what an earlier one could not read at all is tried once more by a later one."""


def parser_name(parser: str) -> str:
    """How a parser signs what it read: ``pdf/pypdfium2:v2``."""
    label, own = _PARSERS[parser]
    return f"{label}:v{own + COMMON}"


def older_names() -> list[str]:
    """How earlier versions of these parsers signed."""
    numbered = [f"{label}:v{number}" for label, own in _PARSERS.values() for number in range(1, own + COMMON)]
    return [*numbered, *_LABELS_BEFORE]
