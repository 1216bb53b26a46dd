"""Numbers in text: from a run of digits and separators to cards, phone numbers and national ids.

A run is the longest stretch of digit groups with at most three separator characters between them. Candidates in it are
single groups, known shapes of groups (``4-4-4-4``), streaks of single digits ("4 1 1 1 ...") and the whole run; each is
checked for its surroundings, its checksum and, where the checksum is weak, for a telling word before it. All decisions
look at no more than `context.CONTEXT_CHARACTERS` to the left, which the streaming form relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from roadbed.guard.context import Lexicon
from roadbed.guard.finding import CARD, Finding
from roadbed.guard.national_ids import RULES
from roadbed.guard.number_rules import NumberRule

RUN: Final = re.compile(r"[0-9]+(?:[ .()/-]{1,3}[0-9]+)*")
_GROUP = re.compile(r"[0-9]+")
STREAK_DIGITS_MAX: Final = 24


LEXICON: Final = Lexicon()
for _rule in RULES.all:
    LEXICON.add(_rule.name, _rule.words)

_CODE = {length: chr(48 + length) for length in range(1, 41)}
_SHAPES = {"".join([_CODE[size] for size in shape]): RULES.by_shape[shape] for shape in RULES.shapes}
_SHAPE_SIZES = sorted({len(key) for key in _SHAPES})
_STREAK = re.compile(f"(?<!{_CODE[1]}){_CODE[1]}{{8,{STREAK_DIGITS_MAX}}}(?!{_CODE[1]})")


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


class _Words:
    """The kinds that the words before a place speak of, looked up when they are first asked for."""

    __slots__ = ("_known", "_view")

    def __init__(self, view: str) -> None:
        self._view = view
        self._known: dict[int, set[str]] = {}

    def speak_of(self, rule: NumberRule, start: int) -> bool:
        kinds = self._known.get(start)
        if kinds is None:
            kinds = self._known[start] = LEXICON.kinds_before(self._view, start)
        return rule.name in kinds


def numbers_in(view: str, run: Run, *, is_strict: bool = False) -> Iterator[Finding]:
    """Every card and identifier in a run; may overlap. ``is_strict``: a weak checksum is enough without a word."""
    groups, words = run.groups, _Words(view)
    for start, end in groups:
        for rule in RULES.by_length.get(end - start, ()):
            # Twelve and thirteen digits are few, and rare for cards: Luhn alone does not speak for them.
            is_enough = rule.is_bare_enough and (end - start not in (12, 13) or rule.type != CARD)
            if not (is_enough or is_strict or words.speak_of(rule, start)) or is_glued(view, start, end):
                continue
            if rule.check(view[start:end]):
                yield _found(rule, start, end)
    if len(groups) < 2:
        return
    codes = "".join([_CODE.get(end - start, "~") for start, end in groups])
    for size in _SHAPE_SIZES:
        for index in range(len(codes) - size + 1):
            rules = _SHAPES.get(codes[index : index + size])
            if rules is not None:
                yield from _shaped(view, groups[index : index + size], rules, words, is_strict)
    for match in _STREAK.finditer(codes):
        yield from _joined(view, groups[match.start() : match.end()], words, all_kinds=True)
    if 13 <= run.digit_count <= 19 and not any(view[a:b] in (".", "/") for (_, a), (b, _) in pairwise(groups)):
        yield from _joined(view, groups, words, all_kinds=False)


def _shaped(
    view: str, groups: list[tuple[int, int]], rules: Sequence[NumberRule], words: _Words, is_strict: bool
) -> Iterator[Finding]:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([view[a:b] for a, b in groups])
    written = (tuple([b - a for a, b in groups]), "".join([view[a:b] for (_, a), (b, _) in pairwise(groups)]))
    for rule in rules:
        is_enough = written in RULES.speaking[rule.name] or is_strict
        if not (is_enough or words.speak_of(rule, start)) or not rule.check(digits):
            continue
        if rule.type != CARD and is_glued(view, start, end):
            continue
        yield _found(rule, start, end)


def _joined(view: str, groups: list[tuple[int, int]], words: _Words, *, all_kinds: bool) -> Iterator[Finding]:
    start, end = groups[0][0], groups[-1][1]
    digits = "".join([view[a:b] for a, b in groups])
    for rule in RULES.by_length.get(len(digits), ()):
        if (all_kinds or rule.type == CARD) and rule.check(digits):
            if is_glued(view, start, end):
                continue
            if rule.type == CARD or words.speak_of(rule, start):
                yield _found(rule, start, end)


def _found(rule: NumberRule, start: int, end: int) -> Finding:
    return Finding(rule.type, start, end, rule.name, rule.confidence, False)
