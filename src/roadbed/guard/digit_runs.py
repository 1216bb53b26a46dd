"""Numbers in text: from a run of digits and separators to cards, phone numbers and national ids.

A run is the longest stretch of digit groups with at most three separator characters between them. Candidates in it are
single groups, known shapes of groups (``4-4-4-4``), streaks of single digits ("4 1 1 1 ...") and the whole run; each is
checked for its surroundings, its checksum and, where the checksum is weak, for a telling word before it. All decisions
look at no more than `CONTEXT_CHARACTERS` to the left, which the streaming form relies on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from roadbed.guard import validators
from roadbed.guard.finding import CARD, NATIONAL_ID, Finding

CONTEXT_CHARACTERS: Final = 48
RUN: Final = re.compile(r"[0-9]+(?:[ .()/-]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
STREAK_DIGITS_MAX: Final = 24


def word_pattern(*words: str) -> re.Pattern[str]:
    """A pattern for whole words, or words that end at ``_``, in the text before a number."""
    return re.compile(r"(?<![a-z])(?:" + "|".join(words) + r")(?![a-z])", re.IGNORECASE)


class NumberRule(NamedTuple):
    """A kind of number: lengths without separators, shapes of groups, and when a telling word is needed."""

    name: str
    type: str
    check: Callable[[str], bool]
    lengths: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    separators: str  # with these between the groups the shape speaks for itself
    words: re.Pattern[str]
    is_bare_enough: bool  # the checksum is strong: no word needed
    confidence: float


_CARD_SHAPES = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3), (4, 4, 4, 1), (6, 13), (4, 4, 5), (4, 4, 8))
NUMBER_RULES: Final = (
    NumberRule(
        "card", CARD, validators.is_card, tuple(range(12, 20)), _CARD_SHAPES, " -./",
        word_pattern("card", "maestro", "karte", "carte", "kort", "tarjeta"), True, 0.95,
    ),
    NumberRule(
        "us_ssn", NATIONAL_ID, validators.is_us_ssn, (9,), ((3, 2, 4),), "-",
        word_pattern("ssn", "ssns", "social security", "soc sec", "social", "tax ?id", "taxpayer", "tin"), False, 0.85,
    ),
    NumberRule(
        "uk_nhs", NATIONAL_ID, validators.is_uk_nhs, (10,), ((3, 3, 4),), "",
        word_pattern("nhs", "national health", "patient", "health service"), False, 0.85,
    ),
    NumberRule(
        "de_steuer_id", NATIONAL_ID, validators.is_de_steuer_id, (11,), ((2, 3, 3, 3),), " /",
        word_pattern("steuer", "steuer-?id", "idnr", "steuernummer", "tax", "tin", "identifikationsnummer"), True, 0.85,
    ),
    NumberRule(
        "fr_nir", NATIONAL_ID, validators.is_fr_nir, (15,), ((1, 2, 2, 2, 3, 3, 2), (13, 2)), " .",
        word_pattern("nir", "insee", "sécu", "secu", "sécurité sociale", "securite sociale"), True, 0.9,
    ),
    NumberRule(
        "no_fodselsnummer", NATIONAL_ID, validators.is_no_fodselsnummer, (11,), ((6, 5),), " -",
        word_pattern("f.?dselsnummer", "fodselsnummer", "fnr", "personnummer", "f.?dselsnr", "d-nummer"), True, 0.9,
    ),
    NumberRule(
        "se_personnummer", NATIONAL_ID, validators.is_se_personnummer, (10, 12), ((6, 4), (8, 4)), "-",
        word_pattern("personnummer", "personnr", "pnr", "samordningsnummer"), False, 0.85,
    ),
    NumberRule(
        "nl_bsn", NATIONAL_ID, validators.is_nl_bsn, (9,), ((4, 2, 3), (3, 3, 3), (3, 2, 4), (4, 3, 2)), "",
        word_pattern("bsn", "burgerservicenummer", "sofi", "sofinummer", "citizen service"), False, 0.85,
    ),
)  # fmt: skip

_BY_LENGTH: dict[int, tuple[NumberRule, ...]] = {
    length: tuple(rule for rule in NUMBER_RULES if length in rule.lengths) for length in range(9, 20)
}
_CODE = {length: chr(48 + length) for length in range(1, 41)}
_SHAPES: dict[str, tuple[NumberRule, ...]] = {}
for _rule in NUMBER_RULES:
    for _shape in _rule.shapes:
        _key = "".join(_CODE[size] for size in _shape)
        _SHAPES[_key] = (*_SHAPES.get(_key, ()), _rule)
_SHAPE_KEYS = sorted(_SHAPES, key=len, reverse=True)
_SHAPE_AT = re.compile("(?=" + "|".join(re.escape(key) for key in _SHAPE_KEYS) + ")")
_STREAK = re.compile(f"(?<!{_CODE[1]}){_CODE[1]}{{9,{STREAK_DIGITS_MAX}}}(?!{_CODE[1]})")


class Run(NamedTuple):
    """A run in the view and the spans of its digit groups."""

    start: int
    end: int
    groups: list[tuple[int, int]]

    @property
    def digit_count(self) -> int:
        """How many digits the run has."""
        return sum(end - start for start, end in self.groups)


def run_at(view: str, end: int, after: int) -> Run | None:
    """The run that a trigger ending at ``end`` lies in; none when it starts before ``after`` (already looked at)."""
    match = RUN.search(view, max(after, end - 40))
    while match is not None and match.end() < end:
        match = RUN.search(view, match.end())
    if match is None or match.start() >= end:
        return None
    start, stop = match.span()
    return Run(start, stop, [group.span() for group in _GROUP.finditer(view, start, stop)])


def is_glued(view: str, start: int, end: int) -> bool:
    """Whether the span is a part of a longer word or number, such as a decimal, a version or an identifier."""
    if start:
        before = view[start - 1]
        if before.isalnum() or before == "_":
            return True
        if before in "-./" and start > 1 and _ends_in_number(view, start - 1):
            return True
    if end < len(view):
        after = view[end]
        if after.isalnum() or after == "_":
            return True
        if after in "-./" and end + 1 < len(view) and view[end + 1].isdigit():
            return True
    return False


def _ends_in_number(view: str, end: int) -> bool:
    """Whether the word that ends at ``end`` has a digit in its last eight characters."""
    for index in range(end - 1, max(end - 9, -1), -1):
        if view[index].isdigit():
            return True
        if not view[index].isalnum():
            return False
    return False


def has_word(view: str, start: int, words: re.Pattern[str]) -> bool:
    """Whether one of ``words`` stands within `CONTEXT_CHARACTERS` before ``start``."""
    return words.search(view, max(0, start - CONTEXT_CHARACTERS), start) is not None


def numbers_in(view: str, run: Run) -> Iterator[Finding]:
    """Every card and national id in a run; may overlap."""
    groups = run.groups
    for start, end in groups:
        for rule in _BY_LENGTH.get(end - start, ()):
            if not rule.check(view[start:end]) or is_glued(view, start, end):
                continue
            # Twelve and thirteen digits are few, and rare for cards: Luhn alone does not speak for them.
            if (rule.is_bare_enough and end - start not in (12, 13)) or has_word(view, start, rule.words):
                yield _found(rule, start, end)
    if len(groups) < 2:
        return
    codes = "".join([_CODE.get(end - start, "~") for start, end in groups])
    for match in _SHAPE_AT.finditer(codes):
        for key in _SHAPE_KEYS:
            if codes.startswith(key, match.start()):
                yield from _shaped(view, groups[match.start() : match.start() + len(key)], _SHAPES[key])
    for match in _STREAK.finditer(codes):
        yield from _joined(view, groups[match.start() : match.end()], all_kinds=True)
    if 13 <= run.digit_count <= 19 and not any(view[a:b] in (".", "/") for (_, a), (b, _) in pairwise(groups)):
        yield from _joined(view, groups, all_kinds=False)


def _shaped(view: str, groups: list[tuple[int, int]], rules: tuple[NumberRule, ...]) -> Iterator[Finding]:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([view[a:b] for a, b in groups])
    separators = {view[a:b] for (_, a), (b, _) in pairwise(groups)}
    for rule in rules:
        if not rule.check(digits):
            continue
        if rule.type != CARD and is_glued(view, start, end):
            continue
        speaks = len(separators) == 1 and all(separator in rule.separators for separator in separators)
        if speaks or has_word(view, start, rule.words):
            yield _found(rule, start, end)


def _joined(view: str, groups: list[tuple[int, int]], *, all_kinds: bool) -> Iterator[Finding]:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([view[a:b] for a, b in groups])
    for rule in _BY_LENGTH.get(len(digits), ()):
        if (all_kinds or rule.type == CARD) and rule.check(digits):
            if is_glued(view, start, end):
                continue
            if rule.type == CARD or has_word(view, start, rule.words):
                yield _found(rule, start, end)


def _found(rule: NumberRule, start: int, end: int) -> Finding:
    return Finding(rule.type, start, end, rule.name, rule.confidence, False)
