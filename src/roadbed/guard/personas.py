"""Made-up people: values of each kind of personal data that belong to nobody, and texts in which they stand.

Mail addresses are at reserved names, telephone numbers in ranges kept for fiction, cards of test ranges. Used by
``roadbed data synth``. The invariant: what is found in a text is not in what comes out, and the same value is replaced
by the same one throughout.
"""

from __future__ import annotations

import random
import re
from typing import Final

from roadbed.guard import finding as kinds
from roadbed.guard.finding import Finding
from roadbed.guard.gate import Guard
from roadbed.guard.mask import mask_text, placeholder

FIRST: Final = (
    "Alda", "Bram", "Cleo", "Dagny", "Edvin", "Fenna", "Gorm", "Hedda", "Ivo", "Jorun", "Kaia", "Lasse", "Mirre",
    "Nils", "Oda", "Pelle", "Quinta", "Runa", "Sven", "Tyra", "Ulla", "Viggo", "Wilma", "Yrsa",
)  # fmt: skip
LAST: Final = (
    "Ashgrove", "Brookmoor", "Cloudberry", "Dunmarsh", "Elmwater", "Fernhill", "Greyholt", "Heathfold", "Inglewick",
    "Kelpstone", "Larkspring", "Mossgate", "Nettlefen", "Oakhurst", "Pinebarrow", "Reedmere", "Stonebeck", "Thornwell",
)  # fmt: skip
TOWNS: Final = ("Northhaven", "Elderby", "Saltmere", "Westering", "Highfold", "Lowbridge", "Fairmoor", "Greenwick")
_NUMBER = re.compile(r"(?<![\w.,-])\d{3,}(?![\w])")
_TEST_CARD = "411111"
_NOBODYS = re.compile(
    r"@(?:[\w.-]+\.)?example\.(?:com|org|net)\Z|\.(?:test|example|invalid)\Z|\b555[ -]?01\d\d\Z|\A411111"
    r"|\A(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+\Z",
    re.IGNORECASE,
)


def made_value(kind: str, chance: random.Random) -> str:
    """A value of a kind of personal data that belongs to nobody."""
    first, last = chance.choice(FIRST), chance.choice(LAST)
    match kind:
        case kinds.EMAIL:
            return f"{first}.{last}{chance.randrange(10_000)}@example.com".lower()
        case kinds.PHONE:
            return f"+1 {chance.randrange(200, 990)}-555-01{chance.randrange(100):02d}"
        case kinds.PERSON:
            return f"{first} {last}"
        case kinds.ADDRESS:
            return f"{chance.randrange(1, 200)} {chance.choice(LAST)} Road, {chance.choice(TOWNS)}"
        case kinds.CARD:
            return _with_luhn(_TEST_CARD + "".join(str(chance.randrange(10)) for _ in range(9)))
        case kinds.IP:
            return f"192.0.2.{chance.randrange(1, 255)}"
        case kinds.BIRTH_DATE:
            return f"{chance.randrange(1940, 2006)}-{chance.randrange(1, 13):02d}-{chance.randrange(1, 29):02d}"
        case _:
            return f"{kind.upper().replace('_', '-')}-{chance.randrange(10**8):08d}"


def is_nobodys(value: str) -> bool:
    """Whether a value is one that is kept for examples: of a reserved name, range or card."""
    return _NOBODYS.search(value) is not None


def kind_of_text(guard: Guard, text: str) -> str:
    """The kind of personal data that a whole text is; empty for none."""
    if not text or len(text) > 200:
        return ""
    found = [item for item in guard.scan(text) if item.is_personal and item.end - item.start >= 0.7 * len(text)]
    return found[0].type if found else ""


def rewritten(guard: Guard, text: str, chance: random.Random, known: dict[tuple[str, str], str]) -> str:
    """A text with every finding replaced by a made-up value, and its longer numbers by others of their length.

    ``known`` remembers what stands for what, over all texts of one run. Secrets become placeholders.
    """

    def replace(item: Finding, value: str) -> str:
        if item.is_secret:
            return placeholder(item, value)
        key = (item.type, value)
        if key not in known:
            while (made := made_value(item.type, chance)) == value or made in text:
                continue
            known[key] = made
        return known[key]

    done = text
    for _ in range(3):  # a replacement may bring two parts of a value beside each other
        found = [item for item in guard.scan(done) if not _is_made(done[item.start : item.end], known)]
        if not found:
            break
        done = mask_text(done, found, replace)
    made = set(known.values())

    def number(match: re.Match[str]) -> str:
        inside = any(match[0] in value for value in made)
        return match[0] if inside or _is_year(match[0]) else "".join(str(chance.randrange(10)) for _ in match[0])

    return _NUMBER.sub(number, done)


def _is_made(value: str, known: dict[tuple[str, str], str]) -> bool:
    return value in known.values()


def _is_year(digits: str) -> bool:
    return len(digits) == 4 and 1900 <= int(digits) <= 2100


def _with_luhn(digits: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit) * (2 if place % 2 == 0 else 1)
        total += number - 9 if number > 9 else number
    return f"{digits}{-total % 10}"
