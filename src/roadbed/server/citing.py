"""An app's text as events that say what each piece of it cites, for dialects that cite block by block.

Pure; one `CitedText` per answer. A piece ends behind its markers, so that a block holds what its citations bear out.
The invariant: the pieces are the text, in order, with nothing left out or added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from roadbed.apps.types import Citation
from roadbed.gateway.types import OWN_CITATION, Cited, Event, TextDelta, TextEnded

MARKER = re.compile(r"\[([0-9]{1,4})\]")
_MARKERS = re.compile(r"(?:\s?\[[0-9]{1,4}\])+[.,;:!?…)»”\"']*\s*")


class CitedText:
    """The text of one answer on its way out. ``know`` a citation before the text whose marker names it."""

    __slots__ = ("_is_begun", "_is_cited", "_known")

    def __init__(self) -> None:
        self._known: dict[int, Citation] = {}
        self._is_begun = False  # the open block holds words
        self._is_cited = False  # and cites for them, so that other words belong to another block

    def know(self, citation: Citation) -> None:
        """A citation that texts refer to from now on."""
        self._known[citation.number] = citation

    def events(self, text: str) -> list[Event]:
        """The events of the next text."""
        found: list[Event] = []
        for piece, citations in self._pieces(text):
            has_words = bool(MARKER.sub("", piece).strip(" \n\t.,;:!?"))
            if has_words and self._is_begun and (citations or self._is_cited):
                found.append(TextEnded())
                self._is_cited = False
            self._is_begun |= has_words
            self._is_cited |= bool(citations)
            found += [TextDelta(piece), *[Cited(OWN_CITATION, source_of(citation)) for citation in citations]]
        return found

    def _pieces(self, text: str) -> Iterator[tuple[str, list[Citation]]]:
        """The text in pieces, each with what the markers at its end cite."""
        begin = 0
        for match in _MARKERS.finditer(text):
            numbers = dict.fromkeys(int(number) for number in MARKER.findall(match.group()))
            cited = [self._known[number] for number in numbers if number in self._known]
            if cited:
                yield text[begin : match.end()], cited
                begin = match.end()
        if begin < len(text):
            yield text[begin:], []


def source_of(citation: Citation) -> dict[str, object]:
    """What is cited, in words of no dialect: a span of a document's text in codepoints, or a row as it is quoted."""
    row = citation.row
    return {
        "id": citation.document_id if row is None else f"{row.tool}:{row.key}",
        "title": citation.title if row is None else f"{citation.title}, {row.key}",
        "url": citation.uri,
        "start": citation.start if row is None else 0,
        "end": citation.end if row is None else len(citation.quote),
        "quote": citation.quote,
    }
