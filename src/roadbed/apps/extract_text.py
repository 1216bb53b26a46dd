"""Extracted sentences as text to read: markup taken off, table cells named by their headers, each with its citation.

The words stay the document's own; the citation's quote is the span as it stands. Pure; the copilot calls it.
"""

from __future__ import annotations

import re

from roadbed.apps.checked_answer import ABSTENTION
from roadbed.apps.citing import cite
from roadbed.apps.extractive import Extract, ExtractedSentence
from roadbed.apps.types import Citation

LEAD_CHARACTERS_MAX = 200
_CELL = re.compile(r"\s*\|\s*")
_ITEM = re.compile(r"^(?:[-*+•‣▪–]|\d{1,3}[.)])\s+")
_LINK = re.compile(r"!?\[([^\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_SLANTED = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])")
_TAG = re.compile(r"(`[^`\n]{1,200}`)|</?[a-zA-Z][^<>\n]{0,200}>")
_HEADING = re.compile(r"^#{1,6}\s+")


def compose(found: Extract) -> tuple[str, tuple[Citation, ...]]:
    """The answer's text and its citations, numbered from 1 in the order of the text."""
    if found.is_abstention:
        return ABSTENTION, ()
    lines: list[str] = []
    citations: list[Citation] = []
    for sentence in found.sentences:
        citation = cite(sentence.hit, len(citations) + 1, sentence.start, sentence.end)
        citations.append(citation)
        lines.append(f"{shown(sentence)} [{citation.number}]")
    return "\n\n".join(lines), tuple(citations)


def shown(sentence: ExtractedSentence) -> str:
    """One sentence as it is shown: with its table's header or the line before its list."""
    lead = sentence.hit.text[slice(*sentence.lead)] if sentence.lead is not None else ""
    if "|" in sentence.text:
        return row_text(lead, sentence.text)
    if lead and len(lead) <= LEAD_CHARACTERS_MAX:
        return f"{readable(lead)} {readable(sentence.text)}"
    return readable(sentence.text)


def row_text(header: str, row: str) -> str:
    """``Fee: 6,900; Assignment: Detached house``: the cells of a row, each named when the header fits."""
    cells, names = _cells(row), _cells(header)
    if len(cells) != len(names):
        filled = [cell for cell in cells if cell]  # of two cells without a header the first names the second
        return readable((": " if len(filled) == 2 else " | ").join(filled))
    pairs = [f"{name}: {cell}" if name else cell for name, cell in zip(names, cells, strict=True) if cell]
    return readable("; ".join(pairs))


def readable(text: str) -> str:
    """Text on one line without list markers, emphasis, link targets and tags."""
    text = _HEADING.sub("", _ITEM.sub("", text.strip()))
    text = _TAG.sub(lambda match: match[1] or "", _LINK.sub(r"\1", text))
    text = _SLANTED.sub(r"\1", _EMPHASIS.sub(r"\2", text))
    return " ".join(text.split())


def _cells(row: str) -> list[str]:
    return _CELL.split(row.strip().removeprefix("|").removesuffix("|").strip()) if row.strip() else []
