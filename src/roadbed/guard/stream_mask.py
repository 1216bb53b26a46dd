"""`StreamMasker`: masking of a text that comes in pieces, without waiting for its end.

Held back is only what might still become part of a finding: the last word, a chain of words that numbers and
identifiers are written in, an open private key. Already emitted text stays in view behind, for the words that give a
number its meaning. The invariant, held by a property test: for any cut into pieces the joined output equals the
masked whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from roadbed.guard.finding import Finding, merge_overlaps
from roadbed.guard.fold import fold
from roadbed.guard.mask import Replacer, mask_text, placeholder
from roadbed.guard.secret_rules import PEM_CHARACTERS_MAX
from roadbed.guard.word_values import MONTHS

WORD_CHARACTERS_MAX: Final = 4_400  # longer than the longest secret that is one word
CHAIN_CHARACTERS_MAX: Final = 260
BEHIND_CHARACTERS: Final = 320
_GAP_MAX = 3
_LAST_WORD = re.compile(r"\S*\s*\Z")
_PIECE_LEFT = re.compile(r"(?P<word>\S{1,80}) {1,3}\Z")
_ONLY_SEPARATORS = re.compile(r"[().+/-]+\Z")
_DATE_WORD = re.compile(rf"[().+/-]+\Z|(?:of|de|{MONTHS})[.,]?\Z", re.IGNORECASE)
_LETTERS = re.compile(r"(?<![A-Za-z0-9])(?P<letters>[A-Za-z]{1,6})\.?\Z")
_DIGIT = re.compile(r"[0-9]")
OPEN_PEM: Final = re.compile(r"-----BEGIN [A-Za-z0-9 ]{0,60}-{0,5}\Z")

Candidates = Callable[[str], list[Finding]]


class StreamMasker:
    """`feed` each piece, then `finish`. ``candidates`` is `Detector.candidates`, possibly filtered."""

    __slots__ = ("_behind", "_candidates", "_reach", "_replace", "_text")

    def __init__(self, candidates: Candidates, replace: Replacer = placeholder, *, reach: int = 0) -> None:
        """``reach``: so many characters are always held, for values that no rule of this module knows of."""
        self._candidates = candidates
        self._replace = replace
        self._reach = reach
        self._text = ""  # what was emitted and still matters, then what is held
        self._behind = 0  # how much of it was emitted

    @property
    def held_count(self) -> int:
        """How many characters are held back just now."""
        return len(self._text) - self._behind

    def feed(self, piece: str) -> str:
        """What can be said now that ``piece`` came."""
        self._text += piece
        hold = _hold_from(self._text, self._behind)
        hold = max(self._behind, min(hold, len(self._text) - self._reach)) if self._reach else hold
        return self._emit(hold, is_last=False)

    def finish(self) -> str:
        """The rest. A stream that is cancelled is dropped and not finished."""
        return self._emit(len(self._text), is_last=True)

    def _emit(self, hold: int, *, is_last: bool) -> str:
        text, behind = self._text, self._behind
        if hold <= behind:
            return ""
        found = merge_overlaps(finding for finding in self._candidates(text) if finding.start >= behind)
        for finding in found:
            if finding.start < hold and (finding.end > hold or (finding.end == hold and not is_last)):
                hold = finding.start
        ready = [finding for finding in found if finding.end <= hold and (is_last or finding.start < hold)]
        out = (
            mask_text(text[:hold], ready, self._replace)[behind:]
            if behind == 0
            else _masked_after(text[:hold], ready, self._replace, behind)
        )
        keep = max(0, hold - BEHIND_CHARACTERS)
        self._text, self._behind = text[keep:], hold - keep
        return out


def _masked_after(text: str, found: list[Finding], replace: Replacer, start: int) -> str:
    """``text[start:]`` masked; all findings start there or later."""
    shifted = [finding._replace(start=finding.start - start, end=finding.end - start) for finding in found]
    return mask_text(text[start:], shifted, replace)


def _hold_from(text: str, behind: int) -> int:
    """From where on the text must be held, at least ``behind``."""
    window = max(behind, len(text) - PEM_CHARACTERS_MAX - 1)
    view = fold(text[window:])
    folded = view.text
    if not folded:
        return behind
    start = _chain_start(folded)
    opened = folded.rfind("-----BEGIN ")
    if opened >= 0 and OPEN_PEM.match(folded, opened):
        start = min(start, opened)
    if start >= len(folded):
        return len(text)
    return max(behind, window + view.source_span(start, start + 1)[0])


def _chain_start(view: str) -> int:
    """Where the last word begins, with the words before it that a number or identifier may reach back over."""
    match = _LAST_WORD.search(view, max(0, len(view) - WORD_CHARACTERS_MAX))
    start = match.start() if match is not None else len(view)
    limit = len(view) - CHAIN_CHARACTERS_MAX
    right = view[start:].rstrip()
    while start > max(0, limit):
        left = _PIECE_LEFT.search(view, max(0, start - 80 - _GAP_MAX), start)
        if left is None:
            break
        word = left["word"]
        if not (_DIGIT.search(word) or _DATE_WORD.match(word) or _reaches_over(word, right)):
            break
        start, right = left.start(), word
    return start


def _reaches_over(word: str, right: str) -> bool:
    """Whether letters at a word's end belong to the identifier on their right, as in ``GB29 NWBK 6016``, ``(AB 12``."""
    ending = _LETTERS.search(word)
    if ending is None:
        return False
    return bool(_DIGIT.search(right) or _ONLY_SEPARATORS.match(right)) or (
        ending["letters"].isupper() and right.isupper()
    )
