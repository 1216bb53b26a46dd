"""Telling words: which kinds of value the words before a place speak of.

A table from words to the kinds that they announce, and one look at the `CONTEXT_CHARACTERS` before a place. Words are
compared in the folded view, in lower case; of scripts that have no ASCII form the folded forms are searched instead.
The invariant: the answer depends on no more than those characters and the word that they cut.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

from roadbed.guard.fold import OPAQUES, fold

CONTEXT_CHARACTERS: Final = 48
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]+")
_OPAQUE = re.compile(f"[{OPAQUES}]")


class Lexicon:
    """The words of many kinds. ``add`` them once; then `kinds_before` any place."""

    def __init__(self) -> None:
        self._words: dict[str, set[str]] = defaultdict(set)
        self._opaque: list[tuple[str, str]] = []

    def add(self, kind: str, words: str) -> None:
        """Words of ``kind``, separated by commas; several words in a row are written with spaces between."""
        for word in (part.strip() for part in words.split(",")):
            # Capitals of other scripts may look like other Latin letters than the small ones do.
            for folded in {fold(word.lower()).text.lower(), fold(word.upper()).text.lower()}:
                if _OPAQUE.search(folded):
                    self._opaque.append((folded, kind))
                elif folded:
                    self._words[folded].add(kind)

    def kinds_before(self, view: str, start: int) -> set[str]:
        """The kinds whose words stand in the characters before ``start``."""
        begin = start - CONTEXT_CHARACTERS if start > CONTEXT_CHARACTERS else 0
        # From `begin` in the whole view, so that the look behind sees whether the first word is a whole one.
        return self._kinds_of([token.lower() for token in _WORD.findall(view, begin, start)], view[begin:start])

    def _kinds_of(self, tokens: list[str], window: str) -> set[str]:
        found: set[str] = set()
        words, before = self._words, ""
        for token in tokens:
            if token in words:
                found |= words[token]
            pair = f"{before} {token}"
            if pair in words:
                found |= words[pair]
            before = token
        if self._opaque and _OPAQUE.search(window):
            lowered = window.lower()
            found.update(kind for word, kind in self._opaque if word in lowered)
        return found
