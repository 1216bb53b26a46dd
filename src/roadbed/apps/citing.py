"""Citations in text: reading a model's markers, numbering them as the reader meets them, quoting the passage.

A model sees passages numbered from 1 and writes ``[2]`` or ``[1, 3]``. Readers get their own numbers in order of
first use. A number that was never shown to the model is stripped and counted, never passed on. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from roadbed.apps.types import Citation
from roadbed.knowledge.analysis import word_terms
from roadbed.knowledge.search import Hit
from roadbed.knowledge.sentences import sentences

QUOTE_CHARACTERS_MAX = 600
CONTEXT_CHARACTERS = 32
_MARKER = re.compile(r"\s?[\[【](\d{1,3}(?:\s*[,;]\s*\d{1,3})*)[\]】]")


@dataclass(slots=True)
class Citer:
    """Numbers the citations of one answer. ``stripped`` counts markers that named no passage."""

    hits: Sequence[Hit]
    citations: list[Citation] = field(default_factory=list)
    stripped: int = 0
    _numbers: dict[str, int] = field(default_factory=dict)

    def rewrite(self, sentence: str) -> tuple[str, list[Hit], list[Citation]]:
        """A sentence with the reader's markers; the hits it cites; the citations that are new with it."""
        cited: list[Hit] = []
        fresh: list[Citation] = []

        def replace(match: re.Match[str]) -> str:
            markers = []
            for word in re.split(r"[,;]", match[1]):
                index = int(word) - 1
                if 0 <= index < len(self.hits):
                    hit = self.hits[index]
                    cited.append(hit)
                    number, citation = self.number_of(hit, sentence)
                    if citation is not None:
                        fresh.append(citation)
                    markers.append(f"[{number}]")
                else:
                    self.stripped += 1
            return (" " + "".join(markers)) if markers else ""

        return _MARKER.sub(replace, sentence), cited, fresh

    def number_of(self, hit: Hit, sentence: str) -> tuple[int, Citation | None]:
        """The reader's number of a passage, and its citation when this is its first use."""
        number = self._numbers.get(hit.chunk_id)
        if number is not None:
            return number, None
        number = self._numbers[hit.chunk_id] = len(self._numbers) + 1
        start, end = best_span(hit.text, without_markers(sentence))
        citation = cite(hit, number, start, end)
        self.citations.append(citation)
        return number, citation


def without_markers(text: str) -> str:
    """Text without citation markers."""
    return _MARKER.sub("", text)


def has_marker(text: str) -> bool:
    """Whether some citation marker stands in the text."""
    return _MARKER.search(text) is not None


def starts_with_marker(text: str) -> bool:
    """Whether text begins with a marker, which then belongs to the sentence before it."""
    stripped = text.lstrip()
    return stripped[:1] in ("[", "【")


def best_span(passage: str, sentence: str) -> tuple[int, int]:
    """The sentence of a passage that shares most words with ``sentence``, as offsets into the passage."""
    wanted = set(word_terms(sentence))
    spans = sentences(passage) or [(0, len(passage))]

    def score(span: tuple[int, int]) -> float:
        found = set(word_terms(passage[span[0] : span[1]]))
        return len(wanted & found) / (len(found) ** 0.5 or 1.0) if found else 0.0

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
