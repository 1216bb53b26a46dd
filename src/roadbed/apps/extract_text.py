"""Extracted sentences as text to read: markup taken off, table cells named by their headers, each with its citation.

The words stay the document's own; the citation's quote is the span as it stands. Pure; the copilot calls it.
"""

from __future__ import annotations

import re

from roadbed.apps.checked_answer import ABSTENTION
from roadbed.apps.citing import cite
from roadbed.apps.extractive import Extract, ExtractedSentence
from roadbed.apps.passage_units import TAG
from roadbed.apps.types import Citation
from roadbed.knowledge.sentences import ITEM_SIGN

LEAD_CHARACTERS_MAX = 200
_CELL = re.compile(r"\s*\|\s*")
_QUOTED = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)
_NUMBERED = re.compile(r"\w{1,3}[.)]\s")
_ITEM = re.compile(rf"^(?:{ITEM_SIGN}|\+)\s+")
_ITEMS = re.compile(rf"\n\s*(?={ITEM_SIGN}\s)")
_LINK = re.compile(r"!?\[([^\]\n]*)\]\((?:[^()\n]|\([^()\n]*\))*\)")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_SLANTED = re.compile(r"(?<![\w*])([*_])(?=[^\s*_])([^*_\n]+?)(?<=[^\s*_])\1(?![\w*])")
_TAG = re.compile(rf"(`[^`\n]{{1,200}}`)|{TAG.pattern}")
_HEADING = re.compile(r"^#{1,6}\s+")


def compose(found: Extract) -> tuple[str, tuple[Citation, ...]]:
    """The answer's text and its citations, numbered from 1 in the order of the text."""
    if found.is_abstention:
        return ABSTENTION, ()
    lines: list[str] = []
    citations: list[Citation] = []
    before: ExtractedSentence | None = None
    for sentence in found.sentences:
        citation = cite(sentence.hit, len(citations) + 1, sentence.start, sentence.end)
        citations.append(citation)
        is_led = before is not None and before.hit is sentence.hit and before.lead == sentence.lead
        lines.append(f"{shown(sentence, is_led=is_led)} [{citation.number}]")
        before = sentence
    return "\n\n".join(lines), tuple(citations)


def shown(sentence: ExtractedSentence, *, is_led: bool = False) -> str:
    """One sentence as it is shown: with its table's header, or the line before its list unless that ``is_led`` already.

    A list is shown item by item.
    """
    lead = sentence.hit.text[slice(*sentence.lead)] if sentence.lead is not None else ""
    if "|" in sentence.text and (not lead or "|" in lead):
        return row_text(lead, sentence.text)
    first, *items = _ITEMS.split(sentence.text)
    text = "\n".join([readable(first), *map(_listed, items)])
    return f"{readable(lead)} {text}" if lead and not is_led and len(lead) <= LEAD_CHARACTERS_MAX else text


def _listed(item: str) -> str:
    text = readable(item)
    return text if _NUMBERED.match(text) else f"- {text}"


def row_text(header: str, row: str) -> str:
    """``Fee: 6,900; Assignment: Detached house``: the cells of a row, each named when the header fits."""
    cells, names = _cells(row), _cells(header)
    if len(cells) != len(names):
        filled = [cell for cell in cells if cell]  # of two cells without a header the first names the second
        return readable((": " if len(filled) == 2 else " | ").join(filled))
    pairs = [f"{name.rstrip(':')}: {cell}" if name else cell for name, cell in zip(names, cells, strict=True) if cell]
    return readable("; ".join(pairs))


def readable(text: str) -> str:
    """Text on one line without marks of lists, quotations and emphasis, link targets and tags; items keep numbers."""
    text = " ".join(_QUOTED.sub("", text).split())
    if not _NUMBERED.match(text):
        text = _ITEM.sub("", text)
    text = _HEADING.sub("", text)
    text = _TAG.sub(lambda match: match[1] or "", _LINK.sub(r"\1", text))
    text = _SLANTED.sub(r"\2", _EMPHASIS.sub(r"\2", text))
    return " ".join(text.split())


def _cells(row: str) -> list[str]:
    return _CELL.split(row.strip().removeprefix("|").removesuffix("|").strip()) if row.strip() else []
