"""`ErasedValues`: values that were erased at a person's request, known by keyed digests alone, found in any text.

A text is folded (`fold.py`) and cut into words; runs of as many words as an erased value has are compared by digest. So
punctuation, case, spacing and odd forms of letters hide nothing, and the values themselves are stored nowhere. Called
by `Guard` for text on its way into the index, and by erasure for what is stored. The invariant: what `WordFinder` finds
of a value, `ErasedValues` with its digest finds too.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Final

from roadbed.guard.finding import ERASED, Finding
from roadbed.guard.fold import fold
from roadbed.kernel.errors import InvalidRequest

WORDS_MAX = 12
CHARACTERS_MIN, CHARACTERS_MAX = 4, 200
PLACEHOLDER: Final = "[ERASED]"
_WORD = re.compile(r"[^\W_]+")


class SubjectInvalid(InvalidRequest):
    """The value to erase is too short, too long or has no words: it would hit what is not meant, or nothing."""

    code = "erasure.subject_invalid"
    hint = "give one value that names the person: an e-mail address, a full name, a number"


def words_of(text: str) -> list[tuple[str, int, int]]:
    """(folded word, start, end) of a text; the offsets are the text's own."""
    view = fold(text)
    found = []
    for match in _WORD.finditer(view.text):
        start, end = view.source_span(match.start(), match.end())
        found.append((match[0].casefold(), start, end))
    return found


def checked_words(value: str) -> list[str]:
    """The words of a value to erase. Raises `SubjectInvalid`."""
    words = [word for word, _, _ in words_of(value)]
    if not CHARACTERS_MIN <= len(value.strip()) <= CHARACTERS_MAX or not 1 <= len(words) <= WORDS_MAX:
        raise SubjectInvalid(
            f"a value has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters and 1 to {WORDS_MAX} words", param="subject"
        )
    return words


def digest_of_words(key: bytes, words: Iterable[str]) -> bytes:
    """The keyed digest by which an erased value is known."""
    return hmac.digest(key, " ".join(words).encode(), "sha256")


class ErasedValues:
    """The digests, by how many words each value has."""

    def __init__(self, key: bytes, digests: Iterable[tuple[int, bytes]]) -> None:
        self._key = key
        self._by_count: dict[int, set[bytes]] = {}
        for count, digest in digests:
            self._by_count.setdefault(count, set()).add(digest)

    def findings(self, text: str) -> list[Finding]:
        """Where erased values stand."""
        if not self._by_count:
            return []
        words = words_of(text)
        found = []
        for count, digests in self._by_count.items():
            for at in range(len(words) - count + 1):
                run = words[at : at + count]
                if digest_of_words(self._key, [word for word, _, _ in run]) in digests:
                    found.append(Finding(ERASED, run[0][1], run[-1][2], "erased", 1.0, True))
        return found


class WordFinder:
    """Finds one value in stored texts: exactly, and folded word by word."""

    def __init__(self, value: str) -> None:
        self.value = value.strip()
        self.words = checked_words(value)
        self._exact = re.compile(re.escape(self.value), re.IGNORECASE)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where the value stands, in order and disjoint."""
        spans = [match.span() for match in self._exact.finditer(text)]
        words, count = words_of(text), len(self.words)
        for at in range(len(words) - count + 1):
            if words[at][0] == self.words[0] and [word for word, _, _ in words[at : at + count]] == self.words:
                spans.append((words[at][1], words[at + count - 1][2]))
        merged: list[tuple[int, int]] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def redacted(self, text: str) -> str | None:
        """The text with the value replaced; None when it holds none."""
        spans = self.spans(text)
        for start, end in reversed(spans):
            text = text[:start] + PLACEHOLDER + text[end:]
        return text if spans else None


NOTHING_ERASED: Final = ErasedValues(b"", ())
