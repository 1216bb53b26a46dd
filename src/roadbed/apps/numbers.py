"""Numbers and dates in prose, with their units: read, and compared between a sentence and a source.

``1.2 m``, ``1,200,000`` and ``1.2 million`` are one number, ``5 km`` and ``5 %`` are not; ``3 March 2026`` lies in
``March 2026``. Reads the original text, never a normalised one. Pure; the grounding check uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

_SMALL_TEXT = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
"""
_TENS_TEXT = "twenty thirty forty fifty sixty seventy eighty ninety"
_ORDINALS_TEXT = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
_SMALL = _SMALL_TEXT.split()
_TENS = _TENS_TEXT.split()
_WORDS: dict[str, float] = {
    **{word: float(value) for value, word in enumerate(_SMALL)},
    **{word: float(value * 10) for value, word in enumerate(_TENS, 2)},
    **{f"{ten}-{_SMALL[one]}": float(value * 10 + one) for value, ten in enumerate(_TENS, 2) for one in range(1, 10)},
    "once": 1.0,
    "twice": 2.0,
    "dozen": 12.0,
    "hundred": 100.0,
    "thousand": 1_000.0,
}
_ORDINALS: dict[str, float] = {word: float(value) for value, word in enumerate(_ORDINALS_TEXT.split(), 1)}
_SCALES: dict[str, float] = {
    "hundred": 1e2,
    "thousand": 1e3,
    "k": 1e3,
    "million": 1e6,
    "millions": 1e6,
    "mn": 1e6,
    "mio": 1e6,
    "billion": 1e9,
    "billions": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
    "dozen": 12.0,
}
_UNITS: dict[str, tuple[str, float]] = {}


def _define(family: str, names: str, factor: float = 1.0) -> None:
    for name in names.split():
        _UNITS[name] = (family, factor)


_define("percent", "% percent pct procent prozent")
_define("length", "mm millimetre millimetres millimeter millimeters", 0.001)
_define("length", "cm centimetre centimetres centimeter centimeters", 0.01)
_define("length", "m metre metres meter meters")
_define("length", "km kilometre kilometres kilometer kilometers", 1_000.0)
_define("length", "mile miles mi", 1_609.344)
_define("length", "foot feet ft", 0.3048)
_define("length", "inch inches", 0.0254)
_define("area", "m² sqm")
_define("area", "km²", 1e6)
_define("area", "hectare hectares ha", 1e4)
_define("area", "acre acres", 4_046.856)
_define("mass", "g gram grams gramme grammes", 0.001)
_define("mass", "kg kilogram kilograms")
_define("mass", "tonne tonnes", 1_000.0)
_define("time", "ms millisecond milliseconds", 0.001)
_define("time", "s sec second seconds")
_define("time", "min minute minutes", 60.0)
_define("time", "h hour hours hr hrs", 3_600.0)
_define("time", "day days", 86_400.0)
_define("time", "week weeks", 604_800.0)
_define("month", "month months")
_define("month", "quarter quarters", 3.0)
_define("month", "year years yr yrs", 12.0)
_define("working day", "workday workdays")
_define("bytes", "kb kib", 1e3)
_define("bytes", "mb mib", 1e6)
_define("bytes", "gb gib", 1e9)
_define("bytes", "tb tib", 1e12)
_define("degree", "°c celsius")
_define("fahrenheit", "°f fahrenheit")
_define("character", "character characters chars")
for _code, _names in {
    "usd": "$ usd us$ dollar dollars",
    "eur": "€ eur euro euros",
    "gbp": "£ gbp pound pounds",
    "nok": "nok kr kroner krone",
    "sek": "sek",
    "dkk": "dkk",
    "chf": "chf",
    "jpy": "¥ jpy yen",
    "inr": "₹ inr",
}.items():
    _define(_code, _names)

_CURRENCY_BEFORE = r"(?:(?P<before>US\$|[$€£¥₹]|\b(?:USD|EUR|GBP|NOK|SEK|DKK|CHF|JPY|INR|kr)\b)\.?\s?)?"
_DIGITS = r"(?P<digits>\d{1,3}(?:[,.\u00a0\u202f '’]\d{3})+(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
_WORD_NUMBER = "|".join(sorted((*_WORDS, *_ORDINALS), key=len, reverse=True))
_SCALE = r"(?:\s?-?(?P<scale>hundred|thousand|millions?|mn|mio|billions?|bn|trillion|dozen|k(?![\w.]))\b)?"
_UNIT_NAMES = "|".join(re.escape(name) for name in sorted(_UNITS, key=len, reverse=True))
_UNIT = (
    r"(?:[\s\u00a0\u202f-]?(?:(?P<square>square|sq\.?)\s)?(?P<working>working[ -]|business[ -])?"
    rf"(?P<unit>{_UNIT_NAMES}|per ?cent)(?![\w²]))?"
)
_QUANTITY = re.compile(
    rf"(?<![\w.,]){_CURRENCY_BEFORE}(?:(?P<sign>[-−–](?=\d))?{_DIGITS}(?P<ordinal>st|nd|rd|th)?|(?P<word>{_WORD_NUMBER}))"
    rf"(?![\d])(?!(?<=\d)[A-Za-z]{{4,}}){_SCALE}{_UNIT}",
    re.IGNORECASE,
)
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar",
            "february feb februar",
            "march mar märz",
            "april apr",
            "may mai",
            "june jun juni",
            "july jul juli",
            "august aug",
            "september sept sep",
            "october oct oktober",
            "november nov",
            "december dec dezember desember",
        ),
        1,
    )
    for name in names.split()
}
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"\b(?P<y1>\d{{4}})[-/.](?P<m1>\d{{1,2}})(?:[-/.](?P<d1>\d{{1,2}}))?\b(?!\d|[-/.]\d)"
    rf"|\b(?P<d2>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?:of\s+)?(?P<m2>{_MONTH})\b\.?,?(?:\s+(?P<y2>\d{{4}})\b)?"
    rf"|\b(?P<m3>{_MONTH})\b\.?\s+(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?\b(?:,?\s+(?P<y3>\d{{4}})\b)?"
    rf"|\b(?P<m4>{_MONTH})\b\.?,?\s+(?P<y4>\d{{4}})\b"
    r"|\b(?P<d5>\d{1,2})\.(?P<m5>\d{1,2})\.(?P<y5>\d{4})\b",
    re.IGNORECASE,
)
_RANGE = re.compile(r"\s*(?:and|to|or|-|–|—|bis|und|til|og)\s*", re.IGNORECASE)
_NOUN = re.compile(r"(?<![\w'])([^\W\d_]{4,})[ \u00a0]$")
NOUN_CHARACTERS_MAX = 30
BARE_VALUE_MIN = 100.0
_RELATIVE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in base units of its family; ``family`` is empty for a bare number.

    ``noun`` is the word right before a bare number ("grade 4"), casefolded and without a plural's s.
    """

    value: float
    family: str
    start: int
    end: int
    is_ordinal: bool = False
    is_word: bool = False
    noun: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A date as far as it is said: 0 stands for an unsaid year or day."""

    year: int
    month: int
    day: int
    start: int
    end: int

    def lies_in(self, other: Day) -> bool:
        """Whether the other says at least this much, and the same."""
        return (
            self.month == other.month
            and (not self.year or self.year == other.year)
            and (not self.day or self.day == other.day)
        )


def is_month(word: str) -> bool:
    """Whether a word names a month."""
    return word.casefold() in _MONTHS


def dates(text: str) -> list[Day]:
    """The dates of a text that name at least a month."""
    found = []
    for match in _DATE.finditer(text):
        for form in "12345":
            month = match.groupdict().get(f"m{form}")
            if month is None:
                continue
            number = int(month) if month.isdigit() else _MONTHS[month.casefold()]
            groups = match.groupdict()
            year, day = groups.get(f"y{form}"), groups.get(f"d{form}")
            if 1 <= number <= 12:
                found.append(Day(int(year or 0), number, int(day or 0), match.start(), match.end()))
    return found


def quantities(text: str, skip: Iterable[Day] = ()) -> list[Quantity]:
    """The numbers of a text outside the dates ``skip``, with their units; "9 and 12 %" are both percentages."""
    taken = [(day.start, day.end) for day in skip]
    found: list[Quantity] = []
    for quantity in _quantities(text):
        if any(start <= quantity.start < end for start, end in taken):
            continue
        before = found[-1] if found else None
        if before is not None and _shares_unit(text, before, quantity):
            factor = _UNITS.get(_last_unit(text, quantity), ("", 1.0))[1]
            found[-1] = replace(before, value=before.value * factor, family=quantity.family, noun="")
        found.append(quantity)
    return found


def _shares_unit(text: str, first: Quantity, second: Quantity) -> bool:
    if first.family or not second.family:
        return False
    return _RANGE.fullmatch(text, first.end, second.start) is not None


def _last_unit(text: str, quantity: Quantity) -> str:
    words = text[quantity.start : quantity.end].casefold().split()
    return words[-1] if words else ""


def _quantities(text: str) -> Iterator[Quantity]:
    for match in _QUANTITY.finditer(text):
        word = match["word"]
        if word is not None:
            key = word.casefold()
            value = _WORDS.get(key, _ORDINALS.get(key, 0.0))
        else:
            value = parse_number(match["digits"])
        if match["sign"] and (match.start() == 0 or text[match.start() - 1].isspace()):
            value = -value
        scale = match["scale"]
        if scale:
            value *= _SCALES[scale.casefold()]
        family, factor = _unit_of(match)
        is_ordinal = match["ordinal"] is not None or (word is not None and word.casefold() in _ORDINALS)
        before = _NOUN.search(text, max(0, match.start() - NOUN_CHARACTERS_MAX), match.start())
        noun = before[1].casefold().removesuffix("s") if before is not None and not family else ""
        yield Quantity(value * factor, family, match.start(), match.end(), is_ordinal, word is not None, noun)


def _unit_of(match: re.Match[str]) -> tuple[str, float]:
    unit = (match["unit"] or "").casefold().replace("per cent", "percent")
    before = (match["before"] or "").casefold()
    family, factor = _UNITS.get(unit, ("", 1.0))
    if match["square"] and family == "length":
        return "area", factor * factor
    if match["working"] and unit.startswith("day"):
        return "working day", 1.0
    if before and not family:
        return _UNITS[before][0], 1.0
    return family, factor


def parse_number(digits: str) -> float:
    """The value of digits with separators: three digits behind a comma are thousands, behind a point they are not
    unless it repeats.
    """
    plain = re.sub(r"[\u00a0\u202f '’]", "", digits)
    if "," in plain and "." in plain:
        last = max(plain.rfind(","), plain.rfind("."))
        whole = re.sub(r"[.,]", "", plain[:last])
        return float(f"{whole}.{plain[last + 1 :]}")
    for mark in ",.":
        if plain.count(mark) > 1:
            return float(plain.replace(mark, ""))
    if "," in plain:
        whole, _, rest = plain.partition(",")
        return float(whole + rest) if len(rest) == 3 else float(f"{whole}.{rest}")
    return float(plain)


def are_equal(first: float, second: float) -> bool:
    """Whether two values are the same but for binary rounding."""
    return abs(first - second) <= _RELATIVE_TOLERANCE * max(1.0, abs(first), abs(second))


def is_borne_out(claimed: Quantity, sources: Sequence[Quantity]) -> bool:
    """Whether some source has this number with a unit that does not contradict it.

    Where the sources number the same noun ("grade 4"), the claim must be one of those; where they count in the same
    unit, a small bare number elsewhere does not bear it out.
    """
    equal = [source for source in sources if are_equal(claimed.value, source.value)]
    if claimed.family:
        if any(source.family == claimed.family for source in equal):
            return True
        has_family = any(source.family == claimed.family for source in sources)
        is_telling = not has_family or abs(claimed.value) >= BARE_VALUE_MIN
        return is_telling and any(not source.family for source in equal)
    if claimed.noun and any(source.noun == claimed.noun for source in sources):
        return any(source.noun == claimed.noun for source in equal)
    return bool(equal)
