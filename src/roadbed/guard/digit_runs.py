"""Numbers in text: from a run of digits and separators to cards, phone numbers and national ids.

A run is the longest stretch of digit groups with at most three separator characters between them. Candidates in it are
single groups, known shapes of groups (``4-4-4-4``), streaks of single digits ("4 1 1 1 ...") and the whole run; each is
checked for its surroundings, its checksum and, where the checksum is weak, for a telling word before it. Which parts of
a run are candidates, and for which rules, follows from how it is written alone: that is its `Plan`, worked out once for
each way of writing. All decisions look at no more than `context.CONTEXT_CHARACTERS` to the left, which the streaming
form relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence, Set
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from roadbed.guard.context import Lexicon
from roadbed.guard.finding import CARD, Finding
from roadbed.guard.national_ids import RULES
from roadbed.guard.number_rules import NumberRule

_GROUP = re.compile(r"9+")
_SEPARATOR_CHARACTERS: Final = " .()/-"
_RUN_ALPHABET: Final = "0123456789" + _SEPARATOR_CHARACTERS
# Groups with at most three separators between them, up to where a trigger ended: four characters after the last digit.
_RUN = re.compile(r"[0-9][0-9]*(?:[ .()/-]{1,3}[0-9]+)*(?=[^0-9]{0,4}\Z)")
_LOOK_BACK_CHARACTERS: Final = 36
_CHECKED_FIRST_MAX: Final = 2  # so many checksums cost less than a look at the words before
STREAK_DIGITS_MAX: Final = 24
CARD_DIGITS_MAX: Final = 19
PLANS_MAX: Final = 4_096
PLAN_CHARACTERS_MAX: Final = 64  # of runs whose plan is remembered


LEXICON: Final = Lexicon()
for _rule in RULES.all:
    LEXICON.add(_rule.name, _rule.words)

_CODE = {length: chr(48 + length) for length in range(1, 41)}
_SHAPES = {"".join([_CODE[size] for size in shape]): RULES.by_shape[shape] for shape in RULES.shapes}
_SHAPE_SIZES = sorted({len(key) for key in _SHAPES})
_STREAK = re.compile(f"(?<!{_CODE[1]}){_CODE[1]}{{8,{STREAK_DIGITS_MAX}}}(?!{_CODE[1]})")
_NINES = bytes.maketrans(b"012345678", b"999999999")
_SEPARATORS = _SEPARATOR_CHARACTERS.encode()


class Candidate(NamedTuple):
    """A part of a run, by offsets in it, with the rules that it is checked by, in order.

    Each with whether it needs a telling word and whether it heeds what the part is glued to.
    """

    start: int
    end: int
    rules: tuple[tuple[NumberRule, bool, bool], ...]
    words: frozenset[str]  # of the rules that need one
    has_free: bool  # whether some rule needs none
    by_word: dict[str, tuple[tuple[NumberRule, bool, bool], ...]]
    is_plain: bool  # no separators inside


class Plan(NamedTuple):
    """What follows from how a run is written: its groups and its candidates, without and with weak ones."""

    written: str  # with a 9 for each digit
    groups: tuple[tuple[int, int], ...]
    digit_count: int
    candidates: tuple[Candidate, ...]
    strict: tuple[Candidate, ...]
    card: bool | None  # whether the whole may be a card without a word, and if so, whether that heeds its surroundings


class Run:
    """A run in the view: ``view[start:end]`` is ``text``. Knows which kinds the words before its parts speak of."""

    __slots__ = ("_bytes", "_kinds", "end", "plan", "start", "text")

    def __init__(self, start: int, end: int, text: str) -> None:
        self.start, self.end, self.text = start, end, text
        self._bytes = text.encode("ascii")
        written = self._bytes.translate(_NINES)
        self.plan = _plans.get(written) or _plan_of(written)
        self._kinds: dict[int, Set[str]] = {}

    def digits(self, start: int, end: int) -> str:
        """The digits of ``text[start:end]``."""
        return self._bytes[start:end].translate(None, _SEPARATORS).decode()

    def kinds_before(self, view: str, start: int) -> Set[str]:
        """See `Lexicon.kinds_before`; ``start`` is an offset in the view."""
        kinds = self._kinds.get(start)
        if kinds is None:
            kinds = self._kinds[start] = LEXICON.kinds_before(view, start)
        return kinds


def run_at(view: str, end: int, after: int) -> Run | None:
    """The run that a trigger ended at or shortly after, at ``end``; none when it starts before ``after``."""
    begin = max(after, end - _LOOK_BACK_CHARACTERS)
    while begin > after and view[begin] in _RUN_ALPHABET and view[begin - 1] in _RUN_ALPHABET:
        begin = max(after, begin - (end - begin))  # longer than most: look twice as far back
    match = _RUN.search(view, begin, end)
    return Run(match.start(), match.end(), match[0]) if match is not None else None


_LOOSE: Final = frozenset(" \t\n,;:'\"()[]{}<>=")


def is_glued(view: str, start: int, end: int) -> bool:
    """Whether the span is a part of a longer word or number, such as a decimal, a version or an identifier."""
    if start and (before := view[start - 1]) not in _LOOSE:
        if before.isalnum() or before == "_":
            return True
        if before in "-./" and start > 1 and _ends_in_number(view, start - 1):
            return True
    if end < len(view) and (after := view[end]) not in _LOOSE:
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


def card_in(view: str, run: Run) -> Finding | None:
    """The card that the whole run is; what else its digits could be is of no account beside it."""
    heeds_glue = run.plan.card
    if heeds_glue is None or not _CARD.check(run.digits(0, len(run.text))):
        return None
    if heeds_glue and is_glued(view, run.start, run.end):
        return None
    return Finding(CARD, run.start, run.end, _CARD.name, _CARD.confidence, False)


(_CARD,) = (rule for rule in RULES.all if rule.type == CARD)


def numbers_in(view: str, run: Run, *, is_strict: bool = False) -> list[Finding]:
    """Every card and identifier in a run; may overlap. ``is_strict``: a weak checksum is enough without a word."""
    found: list[Finding] = []
    for candidate in run.plan.strict if is_strict else run.plan.candidates:
        offset, stop, rules, words, has_free, by_word, is_plain = candidate
        start = run.start + offset
        kinds: Set[str] | None = None
        if not has_free and len(rules) > _CHECKED_FIRST_MAX:
            kinds = run.kinds_before(view, start)
            spoken = words & kinds if kinds else None
            if not spoken:
                continue
            if len(spoken) == 1:
                rules = by_word[next(iter(spoken))]
        end = run.start + stop
        digits = run.text[offset:stop] if is_plain else run.digits(offset, stop)
        glued: bool | None = None
        for rule, needs_word, heeds_glue in rules:
            if needs_word and kinds is not None and rule.name not in kinds:
                continue
            if not rule.check(digits):
                continue
            if needs_word and kinds is None:
                kinds = run.kinds_before(view, start)
                if rule.name not in kinds:
                    continue
            if heeds_glue:
                if glued is None:
                    glued = is_glued(view, start, end)
                if glued:
                    continue
            found.append(Finding(rule.type, start, end, rule.name, rule.confidence, False))
    return found


_plans: dict[bytes, Plan] = {}


def _plan_of(key: bytes) -> Plan:
    """The plan of a run, by its text with a 9 for each digit, from now on in ``_plans``."""
    written = key.decode()
    groups = [match.span() for match in _GROUP.finditer(written)]
    plan = Plan(
        written,
        tuple(groups),
        sum(end - start for start, end in groups),
        _without_doubles(_candidates(written, groups, is_strict=False)),
        _without_doubles(_candidates(written, groups, is_strict=True)),
        _card_of(written, groups),
    )
    if len(written) <= PLAN_CHARACTERS_MAX:
        if len(_plans) >= PLANS_MAX:
            _plans.clear()
        _plans[key] = plan
    return plan


def _card_of(written: str, groups: list[tuple[int, int]]) -> bool | None:
    if len(written) > 4 * CARD_DIGITS_MAX:
        return None
    whole = [
        heeds_glue
        for candidate in _candidates(written, groups, is_strict=False)
        for rule, needs_word, heeds_glue in candidate.rules
        if (candidate.start, candidate.end) == (0, len(written)) and rule.type == CARD and not needs_word
    ]
    return all(whole) if whole else None


def _candidates(written: str, groups: list[tuple[int, int]], *, is_strict: bool) -> Iterator[Candidate]:
    for start, end in groups:
        if (checks := _of_group(end - start, is_strict)) is not None:
            yield Candidate(start, end, *checks, True)
    if len(groups) < 2:
        return
    codes = "".join([_CODE.get(end - start, "~") for start, end in groups])
    for size in _SHAPE_SIZES:
        for index in range(len(codes) - size + 1):
            shape = codes[index : index + size]
            if shape in _SHAPES:
                taken = groups[index : index + size]
                separators = "".join([written[a:b] for (_, a), (b, _) in pairwise(taken)])
                yield Candidate(taken[0][0], taken[-1][1], *_of_shape(shape, separators, is_strict), size == 1)
    for match in _STREAK.finditer(codes):
        first, last = groups[match.start()], groups[match.end() - 1]
        if (checks := _of_streak(match.end() - match.start())) is not None:
            yield Candidate(first[0], last[1], *checks, False)
    digit_count = sum(end - start for start, end in groups)
    if not 13 <= digit_count <= CARD_DIGITS_MAX:
        return
    if not any(written[a:b] in (".", "/") for (_, a), (b, _) in pairwise(groups)):
        rules = [(rule, False, True) for rule in RULES.by_length.get(digit_count, ()) if rule.type == CARD]
        if (checks := _checks(rules)) is not None:
            yield Candidate(groups[0][0], groups[-1][1], *checks, False)


def _without_doubles(candidates: Iterator[Candidate]) -> tuple[Candidate, ...]:
    """Without those that an earlier one of the same part says as freely: a card by its shape, and as the whole run."""
    kept: dict[tuple[int, int], list[Candidate]] = {}
    order: list[Candidate] = []
    for candidate in candidates:
        before = kept.setdefault((candidate.start, candidate.end), [])
        free = {(rule.name, False, False) for rule, _, _ in candidate.rules} if before else frozenset()
        if not any(free <= {(rule.name, *rest) for rule, *rest in known.rules} for known in before):
            before.append(candidate)
            order.append(candidate)
    return tuple(order)


_Rules = Sequence[tuple[NumberRule, bool, bool]]
_Checks = tuple[
    tuple[tuple[NumberRule, bool, bool], ...],
    frozenset[str],
    bool,
    dict[str, tuple[tuple[NumberRule, bool, bool], ...]],
]
"""Of a `Candidate`, what does not depend on where it stands. Remembered, because a run may have thousands of parts."""


@lru_cache(PLANS_MAX)
def _of_group(length: int, is_strict: bool) -> _Checks | None:
    # Twelve and thirteen digits are few, and rare for cards: Luhn alone does not speak for them.
    is_short = length in (12, 13)
    return _checks(
        [
            (rule, not (is_strict or (rule.is_bare_enough and not (is_short and rule.type == CARD))), True)
            for rule in RULES.by_length.get(length, ())
        ]
    )


@lru_cache(PLANS_MAX)
def _of_shape(codes: str, separators: str, is_strict: bool) -> _Checks:
    shape = (tuple([ord(code) - 48 for code in codes]), separators)
    checks = _checks(
        [(rule, not (is_strict or shape in RULES.speaking[rule.name]), rule.type != CARD) for rule in _SHAPES[codes]]
    )
    assert checks is not None  # a shape has a rule
    return checks


@lru_cache(PLANS_MAX)
def _of_streak(count: int) -> _Checks | None:
    return _checks([(rule, rule.type != CARD, True) for rule in RULES.by_length.get(count, ())])


def _checks(rules: _Rules) -> _Checks | None:
    if not rules:
        return None
    words = frozenset(rule.name for rule, needs_word, _ in rules if needs_word)
    by_word = {word: tuple(found for found in rules if found[0].name == word) for word in words}
    return tuple(rules), words, not all(needs for _, needs, _ in rules), by_word
