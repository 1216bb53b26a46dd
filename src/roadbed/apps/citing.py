"""Citations in text: reading a model's markers, numbering them as the reader meets them, quoting the passage.

A model sees passages numbered from 1 and writes ``[2]`` or ``[1, 3]``. Readers get their own numbers in order of
first use. A number that was never shown to the model is stripped and counted, never passed on. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from roadbed.apps.numbers import are_equal, quantities
from roadbed.apps.passage_units import units
from roadbed.apps.tool_rows import ToolRow
from roadbed.apps.types import Citation
from roadbed.knowledge.analysis import word_terms
from roadbed.knowledge.search import Hit

QUOTE_CHARACTERS_MAX = 600
CONTEXT_CHARACTERS = 32
_PASSAGE = r"(?:passages?|sources?|documents?)?\s?"
_ONE_MARKER = rf"[\[【]{_PASSAGE}\d{{1,3}}(?:\s*[,;–-]\s*{_PASSAGE}\d{{1,3}})*[\]】]"
_MARKERS = re.compile(rf"\s?{_ONE_MARKER}(?:\s?{_ONE_MARKER})*", re.IGNORECASE)
_LEADING = re.compile(rf"\s*{_ONE_MARKER}(?:\s?{_ONE_MARKER})*", re.IGNORECASE)
_UNFINISHED = re.compile(rf"\s*(?:{_ONE_MARKER}\s?)*[\[【][^\]】\n]{{0,24}}$", re.IGNORECASE)
_NUMBERS = re.compile(r"(\d{1,3})(?:\s*[–-]\s*(\d{1,3}))?")
RANGE_MAX = 10


Evidence = Hit | ToolRow
"""What a sentence may rest on: a passage of a document, or a row of a tool's result."""


@dataclass(slots=True)
class Citer:
    """Numbers the citations of one answer, one number for each quoted span or row.

    ``stripped`` counts markers that named no passage.
    """

    hits: Sequence[Evidence]
    citations: list[Citation] = field(default_factory=list)
    stripped: int = 0
    _numbers: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def rewrite(self, sentence: str) -> tuple[str, list[int], list[Citation]]:
        """A sentence with the reader's markers; the places of the hits it cites; the citations that are new with it."""
        cited: list[int] = []
        fresh: list[Citation] = []
        bare = without_markers(sentence)

        def replace(match: re.Match[str]) -> str:
            markers: list[str] = []
            for place in dict.fromkeys(_places(match.group())):
                if not 0 <= place < len(self.hits):
                    self.stripped += 1
                    continue
                if place not in cited:
                    cited.append(place)
                number, citation = self.number_of(place, bare)
                if citation is not None:
                    fresh.append(citation)
                markers.append(f"[{number}]")
            return (" " + "".join(dict.fromkeys(markers))) if markers else ""

        return _MARKERS.sub(replace, sentence), cited, fresh

    def number_of(self, place: int, sentence: str) -> tuple[int, Citation | None]:
        """The reader's number of what a passage says about a sentence, and its citation when this is its first use."""
        hit = self.hits[place]
        if isinstance(hit, ToolRow):
            return self._number_of_row(hit, place, sentence)
        start, end = best_span(hit.text, without_markers(sentence), hit.heading_path)
        key = (hit.chunk_id, start, end)
        number = self._numbers.get(key)
        if number is not None:
            return number, None
        number = self._numbers[key] = len(self._numbers) + 1
        citation = cite(hit, number, start, end)
        self.citations.append(citation)
        return number, citation

    def _number_of_row(self, row: ToolRow, place: int, sentence: str) -> tuple[int, Citation | None]:
        key = ("row", place, 0)
        number = self._numbers.get(key)
        if number is not None:
            return number, None
        number = self._numbers[key] = len(self._numbers) + 1
        citation = cite_row(row, number, sentence)
        self.citations.append(citation)
        return number, citation


def _places(marker: str) -> list[int]:
    """The places, from 0, that a run of markers names; ``[2-4]`` names three."""
    places: list[int] = []
    for match in _NUMBERS.finditer(marker):
        first, last = int(match[1]), int(match[2] or match[1])
        places += range(first - 1, last) if first <= last < first + RANGE_MAX else (first - 1, last - 1)
    return places


def evidence_of(hit: Evidence) -> str:
    """What a passage or a row says to a reader: titles, headings and the names of columns belong to it."""
    if isinstance(hit, ToolRow):
        return hit.evidence
    return "\n\n".join((hit.title, *hit.heading_path, hit.text))


def without_markers(text: str) -> str:
    """Text without citation markers."""
    return _MARKERS.sub("", text)


def leading_markers(text: str) -> int | None:
    """How many characters at the start are blanks and markers, which belong to the sentence before.

    None when a marker may have begun that is not whole yet.
    """
    if _UNFINISHED.fullmatch(text):
        return None
    match = _LEADING.match(text)
    return match.end() if match else 0


def best_span(passage: str, sentence: str, headings: Sequence[str] = ()) -> tuple[int, int]:
    """The sentence, item or row of a passage that shares most words with ``sentence``, as offsets into the passage."""
    wanted = set(word_terms(sentence))
    found = [unit for unit in units(passage, headings) if unit.kind not in ("heading", "header", "link")]
    spans = [(unit.start, unit.end) for unit in found] or [(0, len(passage))]

    def score(span: tuple[int, int]) -> float:
        terms = set(word_terms(passage[span[0] : span[1]]))
        shared = sum(2.0 if any(map(str.isdigit, term)) else 1.0 for term in wanted & terms)
        return float(shared / (len(terms) + 4.0) ** 0.5)

    start, end = max(spans, key=score)
    return start, min(end, start + QUOTE_CHARACTERS_MAX)


def cite(hit: Hit, number: int, start: int, end: int) -> Citation:
    """The citation of a span of a hit's text."""
    return Citation(
        number=number,
        document_id=hit.document_id,
        chunk_id=hit.chunk_id,
        title=hit.title,
        uri=hit.uri,
        source=hit.source,
        collection=hit.collection,
        start=hit.start + start,
        end=hit.start + end,
        quote=hit.text[start:end],
        version=hit.version,
        page=hit.page,
        location=hit.location,
        before=hit.text[max(0, start - CONTEXT_CHARACTERS) : start],
        after=hit.text[end : end + CONTEXT_CHARACTERS],
    )


def cite_row(row: ToolRow, number: int, sentence: str) -> Citation:
    """The citation of a row, with those of its cells that a sentence speaks of."""
    wanted = set(word_terms(sentence))
    told = tuple(cell for cell in row.cells if wanted & set(word_terms(cell[1])) or _says(sentence, cell[1]))
    cells: list[tuple[str, str]] = []
    used = 0
    for name, value in told or row.cells:
        value = value if len(value) <= QUOTE_CHARACTERS_MAX else value[:QUOTE_CHARACTERS_MAX] + " …"
        used += len(name) + len(value)
        if cells and used > QUOTE_CHARACTERS_MAX:
            break
        cells.append((name, value))
    origin = replace(row.origin, cells=tuple(cells))
    resource = origin.resource or row.tool
    return Citation(
        number=number,
        document_id="",
        chunk_id="",
        title=f"{row.source}: {resource}",
        uri="",
        source=row.source,
        collection="",
        start=0,
        end=0,
        quote=" · ".join(f"{name} {value}" for name, value in cells),
        location=origin.key,
        row=origin,
    )


def _says(sentence: str, value: str) -> bool:
    """Whether a sentence holds a number of a cell, however either writes it."""
    claimed = quantities(sentence)
    return any(are_equal(one.value, other.value) for one in claimed for other in quantities(value[:200]))
