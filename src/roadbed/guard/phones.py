"""Telephone numbers: which runs of digits may be one, and whether numbering plans know them.

`guard.numbering_plans` (libphonenumber's data) judges candidates only. A candidate needs a ``+``, parentheses, a word
such as "phone", or a shape in which the numbers of the configured countries are written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from roadbed.guard.digit_runs import LEXICON, Run, is_glued
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
_NO_DIGITS = re.compile(r"[^0-9]+")
_EXTENSION = re.compile(r" ?(?:x|ext\.?) ?[0-9]{1,6}(?![A-Za-z0-9])", re.IGNORECASE)


def phones_in(view: str, run: Run, regions: Sequence[str]) -> Iterator[Finding]:
    """The telephone numbers of a run; may overlap."""
    groups = run.groups
    first = groups[0][0]
    lead = view[max(0, first - 2) : first]
    if lead.endswith("+") or lead in ("+(", "(+"):
        yield from _international(view, groups, first - (1 if lead.endswith("+") else 2), "+")
    elif view.startswith("00", first) and run.digit_count >= 10:
        yield from _international(view, groups, first, "00")
    for taken in _national(view, groups):
        start, end = taken[0][0], taken[-1][1]
        if start and view[start - 1] == "(":
            start -= 1
        if is_glued(view, start, _with_extension(view, end)):
            continue
        digits = "".join([view[a:b] for a, b in taken])
        if _LABEL.search(view, max(0, start - 20), start) or any(is_valid(digits, region) for region in regions):
            yield Finding(PHONE, start, _with_extension(view, end), "phone_national", 0.7, False)


def _international(view: str, groups: list[tuple[int, int]], start: int, lead: str) -> Iterator[Finding]:
    """The longest valid prefix of the groups."""
    digits, ends = "", []
    for a, b in groups[:GROUPS_MAX]:
        digits += view[a:b]
        if len(digits) - (2 if lead == "00" else 0) > DIGITS_MAX:
            break
        ends.append((b, digits))
    if start and (view[start - 1].isalnum() or view[start - 1] in "_+"):
        return
    for end, number in reversed(ends):
        if len(number) < DIGITS_MIN:
            return
        if end < len(view) and ((view[end].isalnum() and view[end] not in "xXeE") or view[end] == "_"):
            continue
        bare = number.removeprefix("00") if lead == "00" else number
        # A number written with + names itself; plans are open to new ranges, so a possible length is enough.
        if is_possible(bare) or is_possible(_without_trunk_zero(view, start, end)):
            yield Finding(PHONE, start, _with_extension(view, end), "phone_international", 0.9, False)
            return


def _with_extension(view: str, end: int) -> int:
    """The end of an extension such as ``x123`` after the number, or ``end``."""
    match = _EXTENSION.match(view, end)
    return match.end() if match is not None else end


def _without_trunk_zero(view: str, start: int, end: int) -> str:
    """``+44 (0)20 ...`` as it is dialled."""
    return _NO_DIGITS.sub("", view[start:end].replace("(0)", "").lstrip("+(0"))


def _national(view: str, groups: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Stretches of groups that are written like a telephone number or follow a word that says so."""
    sizes = [b - a for a, b in groups]
    total = sum(sizes)
    start = groups[0][0]
    if DIGITS_MIN <= total <= DIGITS_MAX and len(groups) <= GROUPS_MAX:
        is_code = start > 0 and view[start - 1] == "(" and view.startswith(")", groups[0][1])
        has_parenthesis = is_code and len(groups) > 1
        if has_parenthesis or _is_written_as_phone(view, groups, sizes) or _KIND in LEXICON.kinds_before(view, start):
            yield groups
        return
    for index in range(len(groups) - 2):
        part = groups[index : index + 3]
        if sizes[index : index + 3] == [3, 3, 4] and _is_written_as_phone(view, part, [3, 3, 4]):
            yield part


def _is_written_as_phone(view: str, groups: list[tuple[int, int]], sizes: list[int]) -> bool:
    """American ``555-123-4567`` and ``1-555-...``; elsewhere a leading zero and one kind of separator."""
    separators = {view[a:b].strip() for (_, a), (b, _) in pairwise(groups)}
    if sizes[-3:] == [3, 3, 4] and (len(sizes) == 3 or (len(sizes) == 4 and sizes[0] == 1)):
        return separators <= {"-", "."} or separators == {""}
    if len(sizes) < 2 or view[groups[0][0]] != "0" or not 9 <= sum(sizes) <= 12:
        return False
    is_date = sizes[:3] in ([2, 2, 4], [2, 2, 2])
    return not is_date and 2 <= sizes[0] <= 5 and separators <= {"", "-", "/"}
