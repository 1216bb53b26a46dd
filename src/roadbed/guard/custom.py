"""A workspace's own detectors: patterns and dictionaries of the manifest, checked when it is read.

A pattern is taken only when its cost is bounded: no anchors, look-around or back-references, no open repeats, no
variable repeat inside another, at most `PATTERN_CHARACTERS_MAX` long and `PATTERN_WAYS_MAX` ways to match at a place.
Dictionaries hold words or phrases, found as whole words whatever their case. Both are read on the folded view, so that
odd writing hides nothing. The invariant: a finding depends on its own characters and its two neighbours alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from roadbed.guard.finding import CUSTOM, Finding
from roadbed.guard.fold import fold
from roadbed.kernel.errors import ConfigError

PATTERN_CHARACTERS_MAX: Final = 256
PATTERN_WAYS_MAX: Final = 20_000
PATTERNS_MAX: Final = 100
TERM_CHARACTERS_MAX: Final = 100
TERMS_MAX: Final = 200_000
DICTIONARY_BYTES_MAX: Final = 20_000_000
_WORD = re.compile(r"[A-Za-z0-9]+")
_parser: Any = import_module("re._parser")


def refusal_of(pattern: str) -> str:
    """Why a pattern is not taken; empty when it is."""
    try:
        tree = _parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"it is no regular expression: {error}"
    longest = tree.getwidth()[1]
    reason, ways = _examine(tree, is_inside=False)
    if reason:
        return reason
    if tree.getwidth()[0] < 1:
        return "it matches an empty text"
    if longest > PATTERN_CHARACTERS_MAX:
        return f"it may match more than {PATTERN_CHARACTERS_MAX} characters; give its repeats smaller bounds"
    if ways > PATTERN_WAYS_MAX:
        return f"it has more than {PATTERN_WAYS_MAX} ways to match at one place; give its repeats smaller bounds"
    return ""


def _examine(tree: Any, *, is_inside: bool) -> tuple[str, int]:
    """A reason to refuse, and in how many ways the repeats and branches may divide a text."""
    ways = 1
    for operation, value in tree:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            low, high, inner = value
            if high == _parser.MAXREPEAT:
                return "a repeat has no upper bound; write {1,40} in place of + or *", 0
            reason, below = _examine(inner, is_inside=is_inside or low != high)
            if is_inside and low != high:
                return "a variable repeat stands inside another, which can take very long", 0
            ways *= min(int(high) - int(low) + 1, PATTERN_WAYS_MAX) * below ** min(int(high), 8)
        elif name == "SUBPATTERN":
            reason, below = _examine(value[-1], is_inside=is_inside)
            ways *= below
        elif name == "BRANCH":
            results = [_examine(branch, is_inside=is_inside) for branch in value[1]]
            reason = next((text for text, _ in results if text), "")
            ways *= sum(count for _, count in results) or 1
        elif name == "AT":
            reason = "" if "BOUNDARY" in str(value) else "^ and $ are not taken: a text may come in pieces"
        elif name in ("ASSERT", "ASSERT_NOT", "GROUPREF", "GROUPREF_EXISTS", "ATOMIC_GROUP"):
            reason = "look-around, back-references and atomic groups are not taken"
        else:
            reason = ""
        if reason:
            return reason, 0
        if ways > PATTERN_WAYS_MAX:
            return "", ways
    return "", ways


class CustomTerms:
    """Compiled patterns and dictionaries. `ConfigError` for one that is not taken, with the reason."""

    def __init__(self, patterns: Mapping[str, tuple[str, bool]], dictionaries: Mapping[str, Iterable[str]]) -> None:
        """``patterns``: name -> (expression, whether case matters); ``dictionaries``: name -> terms."""
        self._patterns: list[tuple[str, re.Pattern[str]]] = []
        self.reach_characters = 0
        for name, (expression, is_case_kept) in patterns.items():
            reason = refusal_of(expression)
            if reason:
                raise ConfigError(f"guard.patterns.{name}: {reason}", hint="bounded patterns only: [A-Z]{2}-[0-9]{4,8}")
            width = int(_parser.parse(expression).getwidth()[1])
            self.reach_characters = max(self.reach_characters, width + 2)
            flags = 0 if is_case_kept else re.IGNORECASE
            self._patterns.append((name, re.compile(f"(?=({expression}))", flags)))
        self._terms: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        count = 0
        for name, terms in dictionaries.items():
            for term in terms:
                count += self._add_term(name, term)
        if count > TERMS_MAX:
            raise ConfigError(f"guard.dictionaries: more than {TERMS_MAX} terms")

    def __bool__(self) -> bool:
        return bool(self._patterns or self._terms)

    def _add_term(self, name: str, term: str) -> int:
        folded = fold(term.strip()).text.lower()
        words = tuple(_WORD.findall(folded))
        if not words or len(folded) > TERM_CHARACTERS_MAX:
            if folded:
                raise ConfigError(f"guard.dictionaries.{name}: a term has no letters or is too long")
            return 0
        self._terms.setdefault(words[0], []).append((words, name))
        self.reach_characters = max(self.reach_characters, len(folded) + 3 * len(words))
        return 1

    def findings_in(self, view: str) -> Iterator[Finding]:
        """Every match, also overlapping ones."""
        for name, pattern in self._patterns:
            for match in pattern.finditer(view):
                yield Finding(CUSTOM, *match.span(1), f"pattern.{name}", 0.9, False)
        if self._terms:
            yield from self._terms_in(view)

    def _terms_in(self, view: str) -> Iterator[Finding]:
        lowered = view.lower()
        words = [match.span() for match in _WORD.finditer(lowered)]
        for index, (start, end) in enumerate(words):
            for term, name in self._terms.get(lowered[start:end], ()):
                stop = self._end_of(lowered, words, index, term)
                if stop:
                    yield Finding(CUSTOM, start, stop, f"dictionary.{name}", 0.95, False)

    @staticmethod
    def _end_of(view: str, words: Sequence[tuple[int, int]], index: int, term: tuple[str, ...]) -> int:
        """Where the term that begins at a word ends; 0 when it does not stand there."""
        if index + len(term) > len(words):
            return 0
        for offset, word in enumerate(term):
            start, end = words[index + offset]
            if view[start:end] != word or (offset and start - words[index + offset - 1][1] > 3):
                return 0
        return words[index + len(term) - 1][1]


def read_dictionary(path: Path) -> list[str]:
    """The terms of a file, one a line; lines that begin with # are remarks."""
    try:
        if path.stat().st_size > DICTIONARY_BYTES_MAX:
            raise ConfigError(f"guard.dictionaries: {path.name} is larger than {DICTIONARY_BYTES_MAX:,} bytes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"guard.dictionaries: {path.name} cannot be read: {type(error).__name__}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
