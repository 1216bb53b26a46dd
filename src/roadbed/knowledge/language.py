"""Which language a document is written in, from its script and its function words.

It serves the choice of a stemmer, nothing else, so it knows the languages that the analyzer can treat apart and answers
``en`` for all others: an unknown Latin text loses little under the English stemmer. Callers give documents, never
queries: a few words do not tell a language. Pure; the invariant is that the answer depends on the text alone.
"""

from __future__ import annotations

import re
from collections import Counter

from roadbed.knowledge.stop_words import STOP_WORDS

DEFAULT_LANGUAGE = "en"
DETECT_CHARS_MAX = 8_192
DETECT_CHARS_MIN = 200
SCRIPT_CHARS_MIN = 2
SCRIPT_SHARE_MIN = 0.3  # of the letters; Chinese with Latin product names is still Chinese
WORD_SHARE_MIN = 0.08  # of the words, each counted by how few languages share it
LEAD_MIN = 1.1  # over the second language

# Code-point ranges of the scripts that decide alone.
_SCRIPTS: tuple[tuple[str, int, int], ...] = (
    ("ja", 0x3040, 0x30FF),
    ("ko", 0xAC00, 0xD7A3),
    ("zh", 0x3400, 0x9FFF),
    ("th", 0x0E00, 0x0E7F),
    ("el", 0x0370, 0x03FF),
    ("he", 0x0590, 0x05FF),
    ("ar", 0x0600, 0x06FF),
    ("hi", 0x0900, 0x097F),
    ("ta", 0x0B80, 0x0BFF),
    ("hy", 0x0530, 0x058F),
    ("ru", 0x0400, 0x04FF),
)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_UKRAINIAN = frozenset("іїєґ")


def _profile() -> dict[str, dict[str, float]]:
    """word -> language -> weight, where a word shared by n languages weighs 1/n in each."""
    shared = Counter(word for words in STOP_WORDS.values() for word in words)
    weights: dict[str, dict[str, float]] = {}
    for language, words in STOP_WORDS.items():
        for word in words:
            weights.setdefault(word, {})[language] = 1.0 / shared[word]
    return weights


_PROFILE = _profile()


def script_language(text: str) -> str | None:
    """The language that the script of ``text`` implies, or None for Latin, unknown or no letters."""
    counts: Counter[str] = Counter()
    letters = 0
    for character in text:
        if not character.isalpha():
            continue
        letters += 1
        point = ord(character)
        if point >= 0x0370:
            for language, first, last in _SCRIPTS:
                if first <= point <= last:
                    counts[language] += 1
                    break
    if not counts:
        return None
    if (
        counts["ja"]
        and counts["ja"] + counts["zh"] >= SCRIPT_SHARE_MIN * letters
        and counts["ja"] >= counts["zh"] * 0.1
    ):
        return "ja"
    language, count = counts.most_common(1)[0]
    if count < SCRIPT_CHARS_MIN or count < SCRIPT_SHARE_MIN * letters:
        return None
    return language


def detect_language(text: str) -> str:
    """The ISO 639-1 code of a document's language; ``en`` for a short Latin text and for what it does not know."""
    sample = text[:DETECT_CHARS_MAX].casefold().replace("’", "'")
    implied = script_language(sample)
    if implied == "ru" and any(character in _UKRAINIAN for character in sample):
        return "uk"
    if implied is not None:
        return implied
    if len(sample) < DETECT_CHARS_MIN:
        return DEFAULT_LANGUAGE
    words = _WORD.findall(sample)
    scores: Counter[str] = Counter()
    for word in words:
        for language, weight in _PROFILE.get(word, {}).items():
            scores[language] += weight  # type: ignore[assignment]  # a Counter of floats
    ranked = scores.most_common(2)
    if not ranked or ranked[0][1] < WORD_SHARE_MIN * len(words):
        return DEFAULT_LANGUAGE
    if len(ranked) == 2 and ranked[0][1] < LEAD_MIN * ranked[1][1]:
        return ranked[0][0] if {ranked[0][0], ranked[1][0]} == {"da", "no"} else DEFAULT_LANGUAGE
    return ranked[0][0]
