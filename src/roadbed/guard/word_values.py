"""Values that nothing but the words before them gives away: dates of birth, plates, passports and driving licences.

Each begins with a telling word that is a trigger (`guard.patterns`); the value is read from the word's end. Values lie
within `REACH_CHARACTERS` after it, which the streaming form relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from roadbed.guard.finding import BIRTH_DATE, NATIONAL_ID, VEHICLE, Finding

_BORN = (
    "born(?: on)?|d\\.?o\\.?b\\.?|date of birth|birth ?date|birthday|birth|geb\\.?|geboren(?: am)?|geburtsdatum"
    "|geboortedatum|nee le|ne le|ne\\(e\\) le|date de naissance|fecha de nacimiento|nacid[oa](?: el)?|data di nascita"
    "|nat[oa] il|data de nascimento|nascid[oa] em|fodt|fodselsdato|fodelsedatum|fodd|foedselsdag|syntymaaika"
    "|data urodzenia|urodzon[ya]|datum narozeni|narozen[ya]?"
)
_PLATE = (
    "licen[sc]e plate|number plate|registration plate|plate(?: (?:no|number))?|kennzeichen|immatriculation|matricula"
    "|targa|kenteken|registreringsnummer|plaque"
)
_PASSPORT = "passport|passeport|pasaporte|passaporto|reisepass(?:nummer)?|paspoort(?:nummer)?|passnummer"
_LICENCE = (
    "driver'?s?'? ?licen[sc]e|driving licen[sc]e|fuhrerschein(?:nummer)?|permis de conduire|licencia de conducir"
    "|patente di guida|rijbewijs(?:nummer)?|driver_?licen[sc]e"
)
MONTHS = (
    "jan[a-z]{0,6}|feb[a-z]{0,6}|mar[a-z]{0,4}|maerz|apr[a-z]{0,3}|abril|avril|may|mai|mayo|maggio|jun[a-z]{0,2}|juin"
    "|jul[a-z]{0,4}|juil[a-z]{0,4}|aug[a-z]{0,4}|aout|agosto|sep[a-z]{0,7}|o[ck]t[a-z]{0,5}|nov[a-z]{0,6}"
    "|de[cz][a-z]{0,6}|ene[a-z]{0,2}|gen[a-z]{0,4}"
)
_DATE = (
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/. ]{1,2}[0-9]{1,2}[-/. ]{1,2}(?:[0-9]{4}|[0-9]{2})"
    rf"|[0-9]{{1,2}}(?:st|nd|rd|th|\.)? ?(?:de |of )?(?:{MONTHS})\.?,? ?(?:de )?[0-9]{{4}}"
    rf"|(?:{MONTHS})\.? [0-9]{{1,2}}(?:st|nd|rd|th)?,? [0-9]{{4}}"
)
_AFTER_BORN = re.compile(rf"(?:[^\n0-9]{{0,24}}?[^\n0-9A-Za-z])?(?P<value>{_DATE})(?![0-9])", re.IGNORECASE)
_LINK = (
    r"(?i:[ :=#.\"'(]|(?<![A-Za-z])(?:is|was|no|nr|num|number|nummer|numero|registration|with|ist|lautet|est|es)"
    r"(?![A-Za-z])){1,8}"
)
_AFTER_PLATE = re.compile(
    rf"{_LINK}(?P<value>(?=[A-Z0-9 -]{{0,8}}[0-9])[A-Z0-9]{{1,4}}(?:[ -]?[A-Z0-9]{{1,4}}){{1,2}})(?![A-Za-z0-9_])"
)
_AFTER_PASSPORT = re.compile(rf"{_LINK}(?P<value>[A-Z0-9]{{6,11}})(?![A-Za-z0-9_])")
_AFTER_LICENCE = re.compile(rf"{_LINK}(?P<value>[A-Z]{{0,5}}[0-9][A-Z0-9-]{{4,17}})(?![A-Za-z0-9_])")
_DOCUMENT_DIGITS_MIN: Final = 5
VALUE_WORDS: Final = {"born": _BORN, "plate": _PLATE, "passport": _PASSPORT, "licence": _LICENCE}
REACH_CHARACTERS: Final = 60


def birth_date(view: str, end: int) -> Iterator[Finding]:
    """A date after a word such as ``born``."""
    match = _AFTER_BORN.match(view, end) if not view[end : end + 1].isalpha() else None
    if match is not None:
        yield Finding(BIRTH_DATE, *match.span("value"), "birth_date", 0.8, False)


def plate(view: str, end: int) -> Iterator[Finding]:
    """A vehicle's registration after its word."""
    match = _AFTER_PLATE.match(view, end)
    if match is not None and len(match["value"].replace(" ", "").replace("-", "")) >= _DOCUMENT_DIGITS_MIN:
        yield Finding(VEHICLE, *match.span("value"), "plate", 0.7, False)


def passport(view: str, end: int) -> Iterator[Finding]:
    """A passport's number after its word."""
    match = _AFTER_PASSPORT.match(view, end)
    if match is not None and sum(c.isdigit() for c in match["value"]) >= _DOCUMENT_DIGITS_MIN:
        yield Finding(NATIONAL_ID, *match.span("value"), "passport", 0.75, False)


def driving_licence(view: str, end: int) -> Iterator[Finding]:
    """A driving licence's number after its word."""
    match = _AFTER_LICENCE.match(view, end)
    if match is not None and sum(c.isdigit() for c in match["value"]) >= _DOCUMENT_DIGITS_MIN:
        yield Finding(NATIONAL_ID, *match.span("value"), "driving_licence", 0.75, False)
