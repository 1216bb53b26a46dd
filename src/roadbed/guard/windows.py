"""Long texts in windows, so that memory is bounded by the window and not by the text.

Windows overlap by what a value and its telling words may need, and are cut at white space where there is any near. A
finding belongs to the window in which it starts. A private key may be longer than the overlap's left part alone, and is
found from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roadbed.guard.finding import Finding
from roadbed.guard.secret_rules import PEM_CHARACTERS_MAX

WINDOW_CHARACTERS: Final = 256_000
BEFORE_CHARACTERS: Final = 1_000
AFTER_CHARACTERS: Final = PEM_CHARACTERS_MAX + 4_500
_CUT_WITHIN: Final = 4_500


def candidates_of_long(candidates: Callable[[str], list[Finding]], text: str) -> list[Finding]:
    """What ``candidates`` finds in a text of any length."""
    found: list[Finding] = []
    start = 0
    while start < len(text):
        stop = _cut(text, start + WINDOW_CHARACTERS)
        begin, end = max(0, start - BEFORE_CHARACTERS), min(len(text), stop + AFTER_CHARACTERS)
        for finding in candidates(text[begin:end]):
            if start <= finding.start + begin < stop:
                found.append(finding._replace(start=finding.start + begin, end=finding.end + begin))
        start = stop
    return found


def _cut(text: str, place: int) -> int:
    """A place to cut, at or shortly before ``place``."""
    if place >= len(text):
        return len(text)
    for index in range(place, place - _CUT_WITHIN, -1):
        if text[index - 1].isspace():
            return index
    return place
