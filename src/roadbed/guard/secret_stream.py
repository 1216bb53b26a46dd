"""`SecretStream`: secrets masked in a model's answer that comes in pieces, at next to no cost for ordinary words.

A secret is one word, or a private key. No word of a few letters or digits alone is one: issuers' values, structures,
encodings and addresses are longer, or mix them, or have a sign, and what a telling word assigns is a name when it is
letters alone. So pieces of such words are let through up to the last blank after one search; all else is looked at by
the detector, with what was emitted before in view, as `StreamMasker` does. Held back is the last word, of one that does
not end (compact JSON, Thai) the last `HELD_CHARACTERS_MAX`.
The invariant, held by a property test: for any cut into pieces the joined output equals the masked whole, where no word
but a token is longer than that.
"""

from __future__ import annotations

import re
from typing import Final

from roadbed.guard.fold import fold
from roadbed.guard.mask import Replacer, placeholder
from roadbed.guard.secret_rules import PEM_CHARACTERS_MAX
from roadbed.guard.stream_mask import BEHIND_CHARACTERS, OPEN_PEM, WORD_CHARACTERS_MAX, Candidates, StreamMasker

LETTERS_MAX: Final = 13
"""Of the secrets that are letters alone the shortest has fourteen."""

WORD_MAX: Final = 30
"""And those that are written as a word is, with a capital at most at its beginning, have more than these."""

HELD_CHARACTERS_MAX: Final = 256
"""How much of a word that does not end is held: more than any key but those of `_LONG` has."""

STEP_CHARACTERS: Final = 128
"""How much of it is said at a time, so that it is not searched for every piece."""

# Tokens that show what they are at their end alone, and may be of any length.
_LONG = "eyJ"
_SEEN_CHARACTERS_MAX = 4 * BEHIND_CHARACTERS
# Letters that fold to letters: not the Cyrillic one that looks like a three.
_UPPER = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u024f\u0386-\u03ab\u0400-\u0416\u0418-\u042f"
_LETTERS = rf"a-z\u00df-\u00f6\u00f8-\u00ff\u03ac-\u03ff\u0430-\u052f{_UPPER}"
_APART = "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"  # writing without blanks: each folds to a separator
_SIGNS = ".,;\u3001\u3002\uff0c"
_odd = re.compile(
    rf"[^{_LETTERS}0-9{_APART} \n'\u2019{_SIGNS}]"  # another sign, another script
    rf"|[{_LETTERS}'\u2019][0-9]|[0-9][{_LETTERS}'\u2019]|[0-9]{{{LETTERS_MAX + 1}}}"
    rf"|[{_SIGNS}](?![\s{_APART}])"  # within a word
    rf"|(?=[{_LETTERS}]{{{LETTERS_MAX + 1}}})(?:[{_LETTERS}]+[{_UPPER}]|[{_LETTERS}]{{{WORD_MAX + 1}}})"
).search
_BREAK = re.compile(rf".*[ \n{_APART}]", re.DOTALL)
_LAST_WORD = re.compile(r"\S*\Z")
_BLANK = re.compile(r"\s")


class SecretStream(StreamMasker):
    """`feed` each piece, then `finish`. ``candidates`` gives secrets alone."""

    __slots__ = ("_is_open", "_seen", "_word")

    def __init__(self, candidates: Candidates, replace: Replacer = placeholder) -> None:
        super().__init__(candidates, replace)
        self._seen = ""  # what was emitted and still matters
        self._word = ""  # what is held
        self._is_open = False  # whether more than a word is held

    @property
    def held_count(self) -> int:
        """How many characters are held back just now."""
        return len(self._word)

    def feed(self, piece: str) -> str:
        """What can be said now that ``piece`` came; ``piece`` itself when nothing was held before or is now."""
        word = self._word
        text = word + piece if word else piece
        cut = (text.rfind(" ") if text.isascii() else _break_in(text)) + 1
        if "\n" in piece:
            cut = max(cut, text.rfind("\n") + 1)
        if self._is_open:
            return self._look(text, is_last=False)
        if not cut:
            if len(text) >= HELD_CHARACTERS_MAX + STEP_CHARACTERS:
                return self._look(text, is_last=False)
            self._word = text
            return ""
        ready = text[:cut]
        if _odd(ready) is not None:
            return self._look(text, is_last=False)
        self._word = text[cut:]
        self._seen = seen = self._seen + ready
        if len(seen) >= _SEEN_CHARACTERS_MAX:
            self._seen = seen[-BEHIND_CHARACTERS:]
        return ready

    def finish(self) -> str:
        """The rest. A stream that is cancelled is dropped and not finished."""
        return self._look(self._word, is_last=True) if self._word else ""

    def _look(self, text: str, *, is_last: bool) -> str:
        seen = self._seen[-BEHIND_CHARACTERS:]
        self._text, self._behind = seen + text, len(seen)
        hold = len(self._text) if is_last else _hold_from(self._text, self._behind)
        late = len(self._text) - HELD_CHARACTERS_MAX
        if hold < late and not (_LONG in text and len(text) < WORD_CHARACTERS_MAX) and "-----BEGIN" not in text:
            hold = late
        out = self._emit(hold, is_last=is_last)
        self._seen, self._word = self._text[: self._behind], self._text[self._behind :]
        self._is_open = _BLANK.search(self._word) is not None
        return out


def _break_in(text: str) -> int:
    """Where the last character that ends a word stands; -1 when none does."""
    match = _BREAK.match(text)
    return match.end() - 1 if match is not None else -1


def _hold_from(text: str, behind: int) -> int:
    """From where on the text must be held, at least ``behind``: the last word, and a private key that has begun."""
    window = max(behind, len(text) - PEM_CHARACTERS_MAX - 1)
    view = fold(text[window:])
    folded = view.text
    match = _LAST_WORD.search(folded, max(0, len(folded) - WORD_CHARACTERS_MAX))
    start = match.start() if match is not None else len(folded)
    opened = folded.rfind("-----BEGIN ")
    if opened >= 0 and OPEN_PEM.match(folded, opened):
        start = min(start, opened)
    if start >= len(folded):
        return len(text)
    return max(behind, window + view.source_span(start, start + 1)[0])
