"""Folding: one ASCII view of a text on which every detector works, with the way back to the source's offsets.

Full-width forms, other scripts' digits, dashes and spaces, combining marks, invisible characters and the letters that
look like Latin ones are folded away, so that writing a value oddly does not hide it. ASCII text is its own view and
costs nothing. Called by `guard.detect`; it masks nothing itself.

The invariant: each character of the view comes from exactly one character of the source, in the same order.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# One of these stands for a character without an ASCII form. No detector accepts one in a value; four of them, so that a
# telling word in another script is still told from others (`guard.context`). All count as white space.
OPAQUES: Final = "\x1c\x1d\x1e\x1f"
DISTINCT_MAX: Final = 48
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\ufe58\ufe63\uff0d"
_DOTS = "\u2024\u3002\ufe52\uff0e\uff61"
_LOOKALIKES = dict(
    zip(
        "авеԁһіјкмнорԛѕтухԝАВЕНІЈКМОРЅТУХЗаοαιντυχρκΑΒΕΖΗΙΚΜΝΟΡΤΥΧ٭⁎ᎪᏴᏟᎠᎬᎻᎫᏦᏞᎷᏢᏒᎢᏙᏃɑɡıℓ⧸∕⁄сСøØłŁđĐðÐæÆœŒß",
        "abedhijkmhopqstyxwABEHIJKMOPSTYX3aoaivtuxpkABEZHIKMNOPTYX**ABCDEHJKLMPRTVZagil///cCoOlLdDdDaAoOs",
        strict=True,
    )
)


def _fold_character(code: int) -> str:
    """The ASCII form of one character: usually one character, none for invisible ones, more for ligatures."""
    character = chr(code)
    if 0xE0020 <= code <= 0xE007E:  # tag characters spell ASCII invisibly
        return chr(code - 0xE0000)
    if character in _LOOKALIKES:
        return _LOOKALIKES[character]
    if character in _DASHES:
        return "-"
    if character in _DOTS:
        return "."
    category = unicodedata.category(character)
    if category in ("Mn", "Me", "Cf"):
        return ""
    if category == "Zs":
        return " "
    if category in ("Zl", "Zp"):
        return "\n"
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    folded = ""
    for part in unicodedata.normalize("NFKD", character):
        if part.isascii():
            folded += part
        elif part in _LOOKALIKES:
            folded += _LOOKALIKES[part]
        elif unicodedata.category(part) not in ("Mn", "Me", "Cf"):
            return _opaque(character)
    return folded or _opaque(character)


def _opaque(character: str) -> str:
    return OPAQUES[ord(character.lower()[0]) % len(OPAQUES)]


class _Table(dict[int, str]):
    """The folding of every character seen so far; those that do not fold to exactly one are in `uneven`."""

    def __init__(self) -> None:
        super().__init__()
        self.uneven: set[str] = set()

    def __missing__(self, code: int) -> str:
        folded = _fold_character(code)
        if len(folded) != 1:
            self.uneven.add(chr(code))
        self[code] = folded
        return folded


_TABLE = _Table()


class View:
    """The folded text and its map: `source_span` turns a span of the view into one of the source."""

    __slots__ = ("_origin", "text")

    def __init__(self, text: str, origin: list[int] | None) -> None:
        self.text = text
        self._origin = origin

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the source that the view's ``[start, end)`` came from; ``end`` is after ``start``."""
        if self._origin is None:
            return start, end
        return self._origin[start], self._origin[end - 1] + 1


def fold(text: str) -> View:
    """The view of ``text``; the text itself when it is ASCII."""
    if text.isascii():
        return View(text, None)
    kinds = set("".join(_NON_ASCII.findall(text)))
    if len(kinds) > DISTINCT_MAX:
        folded = _NON_ASCII.sub(_fold_run, text)
    else:
        # Prose in another language has few distinct characters: replacing each is four times faster than the runs.
        folded = text
        for character in kinds:
            folded = folded.replace(character, _TABLE[ord(character)])
    return View(folded, None if _TABLE.uneven.isdisjoint(kinds) else _origin_of(text))


def _fold_run(match: re.Match[str]) -> str:
    return match[0].translate(_TABLE)


def _origin_of(text: str) -> list[int]:
    """For each character of the view, the index of the source character it came from."""
    origin: list[int] = []
    done = 0
    for match in _NON_ASCII.finditer(text):
        origin.extend(range(done, match.start()))
        for index, character in enumerate(match[0], match.start()):
            origin.extend([index] * len(_TABLE[ord(character)]))
        done = match.end()
    origin.extend(range(done, len(text)))
    return origin
