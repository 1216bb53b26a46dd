"""Postal addresses and persons' names by small tables and rules: off unless the manifest turns them on.

Rules of a page cannot tell "Paris Hilton" from "Paris, Hilton", so they speak only where the writing helps: a title or
a telling phrase before a name, a common first name with a surname behind it, a street's word with its number. Measured
beside a statistical recogniser in `bench/guard`. Read on the folded view; no match is longer than `REACH_CHARACTERS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from roadbed.guard.finding import ADDRESS, PERSON, Finding

REACH_CHARACTERS: Final = 120

_AFTER = (
    "street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|square|sq|terrace|parkway|pkwy"
    "|highway|hwy|close|crescent|way|circle|cir|trail|mews|grove|row|hill|gardens"
)
_BEFORE = (
    "rue|avenue|boulevard|chemin|allee|impasse|quai|place|calle|avenida|paseo|via|viale|piazza|corso|rua|travessa|route"
)
_WITHIN = "strasse|strase|str\\.|weg|platz|allee|gasse|straat|laan|plein|gatan?|vej|veien|gata|katu|utca|ulica"
_NAME = r"[A-Z][a-z]+(?:['-][A-Z]?[a-z]+)?"
_ADDRESSES: Final = tuple(
    re.compile(rf"(?<![A-Za-z0-9])(?=({expression}))")
    for expression in (
        # 12 Old Kent Road, 1600 Pennsylvania Ave NW, Apt 4
        r"[0-9]{1,6}[A-Za-z]?,? (?:[NSEW]\.? )?(?:(?:[A-Z][A-Za-z.'-]{0,20}|[0-9]{1,3}(?:st|nd|rd|th)) ){1,4}"
        rf"(?i:{_AFTER})(?![A-Za-z])(?:,? (?:Apt|Suite|Unit|Ste|Flat|Apartment)\.? ?[0-9A-Z]{{1,6}})?"
        r"(?:,? [A-Z][A-Za-z.' -]{1,24},? [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?)?",
        # Hauptstrasse 12a, 10115 Berlin
        rf"[A-Z][a-z-]{{1,24}}(?: [A-Z][a-z]{{1,16}})?[ -]?(?i:{_WITHIN}) ?[0-9]{{1,4}} ?[a-z]?(?![A-Za-z0-9])"
        r"(?:, ?(?:[A-Z]{1,2}-)?[0-9]{4,5} [A-Z][a-z-]{1,24})?",
        # 12 bis, rue de la Paix, 75002 Paris
        rf"[0-9]{{1,4}}(?: (?:bis|ter))?,? (?i:{_BEFORE}) (?:(?:de|du|des|la|le|les|d|l|del|della|dei)[ '])*"
        rf"{_NAME}(?:[ -]{_NAME}){{0,3}}(?:, ?[0-9]{{4,5}} {_NAME})?",
        r"(?i:p\.? ?o\.? box) [0-9]{1,6}",
        r"[A-Z]{1,2}[0-9][A-Z0-9]? [0-9][ABD-HJLNP-UW-Z]{2}(?![A-Za-z0-9])",
        r"[A-Z][A-Za-z.'-]{1,20}(?: [A-Z][A-Za-z.'-]{1,20}){0,2}, [A-Z]{2} [0-9]{5}(?:-[0-9]{4})?(?![0-9])",
    )
)
_TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Herr|Frau|Sr|Sra|Mme|Monsieur|Madame|Signor|Signora|Hr)\.? "
_SAID = (
    r"(?i:my name is|name is|i am called|name:|named|sincerely,|regards,|ich heisse|mein name ist|je m'appelle"
    r"|me llamo) "
)
_WHOLE = rf"{_NAME}(?: (?:[A-Z]\.|van|von|de|der|da|di|al|bin|{_NAME})){{0,2}}"
_AFTER_TITLE = re.compile(rf"(?<![A-Za-z])(?={_TITLE}({_WHOLE}))")
_AFTER_WORDS = re.compile(rf"(?<![A-Za-z])(?={_SAID}\s?({_WHOLE}))")
_PAIR = re.compile(rf"(?<![A-Za-z@.])(?=({_NAME})((?: (?:[A-Z]\.|van|von|de|der|da|di|bin))? {_NAME}))")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FIRST_NAMES: Final = _words(
    """
    aaron adam adrian ahmed aisha alan albert alejandro alex alexander alexandra alfred ali alice alicia
    amanda amelia amir amy ana anders andrea andreas andrew andrzej angela anita anja ann anna anne anthony
    antonio arthur astrid barbara beatrice benjamin bernard bernd bjorn bob brandon brenda brian bruno camille
    carl carla carlos carmen carol caroline catherine cecilia charles charlotte chloe chris christian
    christina christine christopher claire claudia colin cynthia daniel daniela david deborah denise dennis
    diana diego dieter dmitri donald donna dorothy douglas eduardo edward eleanor elena elizabeth ella ellen
    emil emily emma eric erik erika ernst esther ethan eva evelyn fatima felix fernando florian frances
    francesca francesco francisco frank franz frederik gabriel gary george gerald giovanni giulia giuseppe
    gloria grace graham greg gregory guillaume gunther gustav hannah hans harold harry hassan heather heinrich
    helen helena helga henrik henry hiroshi howard hugo ian ibrahim igor ingrid irene isabel isabella ivan
    jack jacob jacqueline jacques james jan jane janet jason javier jean jeffrey jennifer jeremy jessica joan
    joanna johan johannes john jonas jonathan jorge jose josef joseph joshua juan judith julia julian julie
    jurgen justin karen karin karl katarzyna katherine kathleen katja keith kelly kenji kenneth kevin khalid
    klaus kristin kyle lars laura lauren laurent lena leonardo leonie liam linda lisa lorenzo louis louise
    luca lucas lucia luis luisa lukas magdalena manuel marc marco margaret maria marie mario marion mark
    markus marta martha martin martina mary mateo matthew matthias max megan mehmet melanie melissa michael
    michel michelle miguel mohamed mohammed monica monika muhammad nancy natalia natalie nathan nicholas
    nicola nicolas nicole nils nina noah olaf oleg olga oliver olivia omar oscar pablo pamela paolo patricia
    patrick paul paula paulo pavel pedro peter petra philip philippe pierre piotr rachel rafael rainer ralf
    ramon raymond rebecca renate ricardo richard robert roberto roger roland ronald rosa ruth ryan samantha
    samuel sandra sara sarah sebastian sergei sharon silvia simon sofia sophie stefan stefano stella stephanie
    stephen steven susan susanne sven sylvia takashi tanja tatiana theresa thomas tim timothy tobias tom
    tomasz tony tyler ursula ute valentina vanessa vera veronica victor victoria vincent virginia vladimir
    walter wayne wei wendy werner william wolfgang xavier yasmin yuki yusuf yvonne zoe
    """
)
_NO_SURNAMES: Final = _words(
    "street road avenue university college school hospital park church company and the day island lake city county "
    "airport station museum award prize monday tuesday wednesday thursday friday saturday sunday"
)


def addresses_in(view: str) -> Iterator[Finding]:
    """Postal addresses, a line of them at a time; may overlap."""
    for pattern in _ADDRESSES:
        for match in pattern.finditer(view):
            yield Finding(ADDRESS, *match.span(1), "address", 0.6, False)


def names_in(view: str) -> Iterator[Finding]:
    """Persons' names; may overlap."""
    for pattern in (_AFTER_TITLE, _AFTER_WORDS):
        for match in pattern.finditer(view):
            yield Finding(PERSON, *match.span(1), "name_after_title", 0.7, False)
    for match in _PAIR.finditer(view):
        surname = match[2].rsplit(" ", 1)[-1].lower()
        if match[1].lower() in _FIRST_NAMES and surname not in _NO_SURNAMES:
            yield Finding(PERSON, match.start(1), match.end(2), "first_name", 0.6, False)
