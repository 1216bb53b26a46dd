"""Telling words: which kinds of value the words before a place speak of.

A table from words to the kinds that they announce, and one look at the `CONTEXT_CHARACTERS` before a place. Words are
compared in the folded view, in lower case; of scripts that have no ASCII form the folded forms are searched instead.
The invariant: the answer depends on no more than those characters and the word that they cut.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Set
from typing import Final

from roadbed.guard.fold import OPAQUES, fold

CONTEXT_CHARACTERS: Final = 48
_OPAQUE = re.compile(f"[{OPAQUES}]")
_MARK: Final = b"~"  # stands for an opaque character where words are told apart
# Letters in lower case, all else apart. Of bytes, which are told apart in half the time of characters.
_APART: Final = bytes(
    _MARK[0] if chr(code) in OPAQUES else ord(chr(code).lower()) if code < 128 and chr(code).isalpha() else 32
    for code in range(256)
)
_NO_KINDS: Final[frozenset[str]] = frozenset()


class Lexicon:
    """The words of many kinds. ``add`` them once; then `kinds_before` any place."""

    def __init__(self) -> None:
        self._words: dict[bytes, set[str]] = defaultdict(set)
        self._opaque: list[tuple[str, str]] = []
        self._parts: set[bytes] = set()  # every single word that an entry has
        self._seconds: set[bytes] = set()  # of those in a row

    def add(self, kind: str, words: str) -> None:
        """Words of ``kind``, separated by commas; several words in a row are written with spaces between."""
        for word in (part.strip() for part in words.split(",")):
            # Capitals of other scripts may look like other Latin letters than the small ones do.
            for folded in {fold(word.lower()).text.lower(), fold(word.upper()).text.lower()}:
                if _OPAQUE.search(folded):
                    self._opaque.append((folded, kind))
                elif folded:
                    self._words[folded.encode("ascii")].add(kind)
                    self._parts.update(folded.encode("ascii").split())
                    self._seconds.update(folded.encode("ascii").split()[1:])

    def kinds_before(self, view: str, start: int) -> Set[str]:
        """The kinds whose words stand in the characters before ``start``."""
        begin = start - CONTEXT_CHARACTERS if start > CONTEXT_CHARACTERS else 0
        apart = view[begin:start].encode("ascii").translate(_APART)
        is_opaque = _MARK in apart
        tokens = (apart.replace(_MARK, b" ") if is_opaque else apart).split()
        if begin and view[begin - 1].isalpha() and view[begin].isalpha():
            del tokens[0]  # the rest of a word that began before
        if is_opaque:
            return self._kinds_of(tokens, view[begin:start])
        # Most words before a number tell nothing, which one comparison of sets says; of the others, most stand alone.
        told = self._parts.intersection(tokens)
        if not told:
            return _NO_KINDS
        if not self._seconds.isdisjoint(told):
            return self._kinds_of(tokens, "")
        if len(told) == 1:
            return self._words.get(told.pop(), _NO_KINDS)
        return _NO_KINDS.union(*[self._words[token] for token in told if token in self._words])

    def _kinds_of(self, tokens: list[bytes], opaque: str) -> set[str]:
        found: set[str] = set()
        words, before = self._words, b""
        for token in tokens:
            if token in words:
                found |= words[token]
            if token in self._seconds and (pair := b"%b %b" % (before, token)) in words:
                found |= words[pair]
            before = token
        if opaque:
            lowered = opaque.lower()
            found.update(kind for word, kind in self._opaque if word in lowered)
        return found
