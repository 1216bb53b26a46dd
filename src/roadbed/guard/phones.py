"""Telephone numbers: which runs of digits may be one, and whether numbering plans know them.

`guard.numbering_plans` (libphonenumber's data) judges candidates only. A candidate needs a ``+``, parentheses, a word
such as "phone", or a shape in which the numbers of the configured countries are written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from roadbed.guard.digit_runs import LEXICON, PLAN_CHARACTERS_MAX, PLANS_MAX, Plan, Run, is_glued
from roadbed.guard.finding import PHONE, Finding
from roadbed.guard.numbering_plans import is_possible, is_valid

DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 15
GROUPS_MAX: Final = 8
_KIND: Final = "phone"
LEXICON.add(
    _KIND,
    "phone, phones, telephone, tel, telefon, telefono, teléfono, telefonnummer, telefoon, telefonisch, mobile, mobil, "
    "mobiel, movil, móvil, celular, cellulare, portable, mobilnummer, cell, cellphone, call, calling, called, ring, "
    "rang, fax, whatsapp, sms, dial, dialed, tlf, handy, handynummer, rufnummer, hotline, contact, reach, reached, "
    "téléphone, appeler, appelez, llamar, llame, chiamare, anrufen, ligue, telefone, telemovel, puhelin, "
    "puhelinnumero, telefonszam, telefonszám, телефон, тел, 電話, 电话, 手机, 전화, โทร, هاتف, טלפון, "
    "text me, texted, landline, voicemail",
)


_LABEL = re.compile(r"(?<![a-z])(?:phone|telephone|telefon|tel|mobile|mobil|cell|fax|tlf)\.?:\s{0,3}\Z", re.IGNORECASE)
_NINES = re.compile("9+")
_NO_DIGITS = re.compile(r"[^0-9]+")
_EXTENSION_BEGINS = frozenset(" xXeE")
_EXTENSION = re.compile(r" ?(?:x|ext\.?) ?[0-9]{1,6}(?![A-Za-z0-9])", re.IGNORECASE)


def phones_in(view: str, run: Run, regions: Sequence[str]) -> list[Finding]:
    """The telephone numbers of a run; may overlap."""
    plan, first = run.plan, run.start
    found: list[Finding] = []
    before = view[first - 1] if first else ""
    if before == "+" or (before == "(" and first > 1 and view[first - 2] == "+"):
        found += _international(view, run, first - (1 if before == "+" else 2), "+")
    elif plan.digit_count >= 10 and view.startswith("00", first):
        found += _international(view, run, first, "00")
    if found and found[0].end >= run.end:
        return found  # it names itself, and there is no more
    for low, high in _national(view, run):
        begin, finish = plan.groups[low][0], plan.groups[high - 1][1]
        start, end = first + begin, first + finish
        if start and view[start - 1] == "(":
            start -= 1
        stop = _with_extension(view, end)
        if is_glued(view, start, stop):
            continue
        digits = run.digits(begin, finish)
        is_labelled = ":" in view[max(0, start - 4) : start] and _LABEL.search(view, max(0, start - 20), start)
        if is_labelled or _is_valid_in(regions, digits):
            found.append(Finding(PHONE, start, stop, "phone_national", 0.7, False))
    return found


def _is_valid_in(regions: Sequence[str], digits: str) -> bool:
    for region in regions:  # noqa: SIM110 - a generator costs as much as a plan's answer
        if is_valid(digits, region):
            return True
    return False


def _international(view: str, run: Run, start: int, lead: str) -> Sequence[Finding]:
    """The longest valid prefix of the groups."""
    if start and (view[start - 1].isalnum() or view[start - 1] in "_+"):
        return ()
    digits_max = DIGITS_MAX + (2 if lead == "00" else 0)
    for _, stop in reversed(run.plan.groups[:GROUPS_MAX]):
        number, end = run.digits(0, stop), run.start + stop
        if len(number) > digits_max:
            continue
        if len(number) < DIGITS_MIN:
            break
        if end < len(view) and ((view[end].isalnum() and view[end] not in "xXeE") or view[end] == "_"):
            continue
        bare = number.removeprefix("00") if lead == "00" else number
        # A number written with + names itself; plans are open to new ranges, so a possible length is enough.
        if is_possible(bare) or is_possible(_without_trunk_zero(view, start, end)):
            return (Finding(PHONE, start, _with_extension(view, end), "phone_international", 0.9, False),)
    return ()


def _with_extension(view: str, end: int) -> int:
    """The end of an extension such as ``x123`` after the number, or ``end``."""
    match = _EXTENSION.match(view, end) if view[end : end + 1] in _EXTENSION_BEGINS else None
    return match.end() if match is not None else end


def _without_trunk_zero(view: str, start: int, end: int) -> str:
    """``+44 (0)20 ...`` as it is dialled."""
    return _NO_DIGITS.sub("", view[start:end].replace("(0)", "").lstrip("+(0"))


def _national(view: str, run: Run) -> Sequence[tuple[int, int]]:
    """Stretches of groups, by number, that are written like a telephone number or follow a word that says so."""
    form, stretches = _stretches_of(run.plan)
    if form == _AMERICAN or not stretches or (form == _ELSEWHERE and run.text[0] == "0"):
        return stretches
    groups, start = run.plan.groups, run.start
    if start and view[start - 1].isalnum():
        return ()  # a part of something else, whatever stands before that
    if _KIND in run.kinds_before(view, start):
        return stretches
    is_code = len(groups) > 1 and start > 0 and view[start - 1] == "(" and run.text[groups[0][1]] == ")"
    return stretches if is_code else ()


def _stretches_of(plan: Plan) -> tuple[int, Sequence[tuple[int, int]]]:
    """The form of a run, and its stretches that may be a number; of one that is too long the American ones."""
    known = _stretches.get(plan.written)
    if known is not None:
        return known
    groups, total = len(plan.groups), plan.digit_count
    found: tuple[int, Sequence[tuple[int, int]]] = _OTHER, ()
    if total > DIGITS_MAX or groups > GROUPS_MAX:
        found = _AMERICAN, _american_parts(plan.written)
    elif total >= DIGITS_MIN:
        found = _form_of(plan.written), ((0, groups),)
    if len(plan.written) <= PLAN_CHARACTERS_MAX:
        if len(_stretches) >= PLANS_MAX:
            _stretches.clear()
        _stretches[plan.written] = found
    return found


_stretches: dict[str, tuple[int, Sequence[tuple[int, int]]]] = {}


_AMERICAN, _ELSEWHERE, _OTHER = 1, 2, 0


def _form_of(written: str) -> int:
    """American ``555-123-4567`` and ``1-555-...``; elsewhere, with a leading zero, one kind of separator."""
    groups = [match.span() for match in _NINES.finditer(written)]
    sizes = [b - a for a, b in groups]
    separators = {written[a:b].strip() for (_, a), (b, _) in pairwise(groups)}
    if sizes[-3:] == [3, 3, 4] and (len(sizes) == 3 or (len(sizes) == 4 and sizes[0] == 1)):
        return _AMERICAN if separators <= {"-", "."} or separators == {""} else _OTHER
    if len(sizes) < 2 or not 9 <= sum(sizes) <= 12:
        return _OTHER
    is_date = sizes[:3] in ([2, 2, 4], [2, 2, 2])
    return _ELSEWHERE if not is_date and 2 <= sizes[0] <= 5 and separators <= {"", "-", "/"} else _OTHER


def _american_parts(written: str) -> list[tuple[int, int]]:
    """The stretches of three groups in a long run that are written as an American number."""
    groups = [match.span() for match in _NINES.finditer(written)]
    return [
        (index, index + 3)
        for index in range(len(groups) - 2)
        if [b - a for a, b in groups[index : index + 3]] == [3, 3, 4]
        and _form_of(written[groups[index][0] : groups[index + 2][1]]) == _AMERICAN
    ]
