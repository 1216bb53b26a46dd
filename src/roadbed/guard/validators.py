"""Checksums and shapes of identifiers: pure functions of the bare digits or letters, without separators.

Each answers "could this be one", never "is it written as one": boundaries, separators and context words are the
business of `guard.numbers` and `guard.detect`. Formulas: ISO 7064, ISO 13616, ISO/IEC 7812 and the issuing
authorities' own descriptions; the tests hold valid and invalid examples of each.
"""

from __future__ import annotations

import string
from datetime import date
from operator import mul

_IBAN_VALUES = str.maketrans({letter: str(int(letter, 36)) for letter in string.ascii_uppercase})
_VALUES = bytes((code - 48) % 256 for code in range(256))  # of digits' codes
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_SSN_SAMPLES = frozenset({"078051120", "219099999", "123456789"})
_NINO_PREFIXES_UNUSED = frozenset({"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"})
_CODICE_MONTHS = "ABCDEHLMPRST"
_CODICE_OMOCODE = str.maketrans("LMNPQRSTUV", "0123456789")
_CODICE_ODD_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_CODICE_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
IBAN_LENGTHS: dict[str, int] = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}


def luhn(digits: str) -> bool:
    """ISO/IEC 7812 check over all digits, the last being the check digit."""
    # As character codes: 48 is taken off each.
    codes = digits.encode()
    return (sum(codes[-1::-2]) + sum(codes[-2::-2].translate(_DOUBLED)) - 48 * len(digits)) % 10 == 0


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """The sum of digit times weight, left to right."""
    return sum(map(mul, digits.encode().translate(_VALUES), weights))


def is_card(digits: str) -> bool:
    """A payment card: an issuer's range with a length that it uses, and Luhn."""
    length = len(digits)
    if not 12 <= length <= 19 or digits[0] not in "123456" or digits.count(digits[0]) == length:
        return False
    return luhn(digits) and _issuer_takes(digits, length)


def _issuer_takes(digits: str, length: int) -> bool:
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    if length == 12 and digits[0] not in "56":
        return False
    if digits[0] == "4":
        return length in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720 or 2200 <= four <= 2204:
        return length == 16
    if two in (34, 37):
        return length == 15
    if 300 <= three <= 305 or two in (36, 38, 39):
        return length == 14
    if four in (1800, 2131):
        return length == 15
    if 3528 <= four <= 3589:
        return 16 <= length <= 19
    if two in (60, 62, 65) or 644 <= three <= 649 or three == 508:
        return 16 <= length <= 19
    return (two in (50, 56, 57, 58) or 61 <= two <= 69) and length in (12, 16)


def is_iban(text: str) -> bool:
    """An IBAN in upper case: the length of its country and ISO 7064 mod 97."""
    if IBAN_LENGTHS.get(text[:2]) != len(text) or not text[2:4].isdigit():
        return False
    return int((text[4:] + text[:4]).translate(_IBAN_VALUES)) % 97 == 1


def is_us_ssn(digits: str) -> bool:
    """A number that the US administration may have issued; there is no checksum."""
    if digits in _SSN_SAMPLES or digits.count(digits[0]) == 9:
        return False
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def is_uk_nino(text: str) -> bool:
    """A UK national insurance number in upper case: two letters, six digits, A to D."""
    first, second = text[0], text[1]
    if first in "DFIQUV" or second in "DFIOQUV" or text[:2] in _NINO_PREFIXES_UNUSED:
        return False
    return text[2:8].isdigit() and text[8] in "ABCD"


def is_uk_nhs(digits: str) -> bool:
    """An NHS number: weights 10 to 2, modulus 11."""
    check = 11 - weighted(digits[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return check != 10 and check % 11 == int(digits[9]) and digits.count(digits[0]) != 10


def is_de_steuer_id(digits: str) -> bool:
    """A German tax id: one digit of the first ten repeats two or three times, ISO 7064 mod 11,10."""
    if digits[0] == "0":
        return False
    counts = sorted((digits[:10].count(digit) for digit in set(digits[:10])), reverse=True)
    if counts[0] not in (2, 3) or (len(counts) > 1 and counts[1] > 1):
        return False
    product = 10
    for character in digits[:10]:
        total = (int(character) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_fr_nir(text: str) -> bool:
    """A French social security number of 15: key = 97 - (N mod 97); Corsica's 2A and 2B count as 19 and 18."""
    body = text[:13].replace("2A", "19", 1) if text[5:7] == "2A" else text[:13]
    body = body.replace("2B", "18", 1) if text[5:7] == "2B" else body
    if not body.isdigit() or not text[13:].isdigit() or text[0] not in "1234678":
        return False
    month = int(body[3:5])
    if not (1 <= month <= 12 or 20 <= month <= 42 or 50 <= month <= 99):
        return False
    return 97 - int(body) % 97 == int(text[13:])


def is_es_dni(text: str) -> bool:
    """A Spanish DNI: eight digits and their letter, modulus 23."""
    return text[:8].isdigit() and text[8] == _DNI_LETTERS[int(text[:8]) % 23]


def is_es_nie(text: str) -> bool:
    """A Spanish foreigner's number: X, Y or Z stand for 0, 1, 2 before seven digits and the letter."""
    return text[0] in "XYZ" and is_es_dni(str("XYZ".index(text[0])) + text[1:])


def is_it_codice_fiscale(text: str) -> bool:
    """An Italian codice fiscale in upper case, also with letters in place of digits (omocodia)."""
    digits = "".join(text[index] for index in (6, 7, 9, 10, 12, 13, 14)).translate(_CODICE_OMOCODE)
    if not digits.isdigit() or text[8] not in _CODICE_MONTHS or not text[:6].isalpha():
        return False
    if not (1 <= int(digits[2:4]) <= 31 or 41 <= int(digits[2:4]) <= 71):
        return False
    total = 0
    for index, character in enumerate(text[:15]):
        value = int(character) if character.isdigit() else ord(character) - 65
        if index % 2:
            total += value
        else:
            total += _CODICE_ODD_DIGITS[value] if character.isdigit() else _CODICE_ODD_LETTERS[value]
    return chr(65 + total % 26) == text[15]


def is_no_fodselsnummer(digits: str) -> bool:
    """A Norwegian birth or D number: a date and two check digits, modulus 11."""
    day, month = int(digits[:2]) % 40, int(digits[2:4]) % 40
    if not (1 <= day <= 31 and 1 <= month <= 12):
        return False
    first = (11 - weighted(digits[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - weighted(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return first == int(digits[9]) and second == int(digits[10])


def is_se_personnummer(digits: str) -> bool:
    """A Swedish personal or coordination number of 10 or 12 digits: a date and Luhn over the last ten."""
    if len(digits) == 12 and digits[:2] not in ("18", "19", "20"):
        return False
    ten = digits[-10:]
    day = int(ten[4:6])
    return _is_month_day(int(ten[2:4]), day - 60 if day > 60 else day) and luhn(ten)


def _is_month_day(month: int, day: int) -> bool:
    try:
        date(2000, month, day)
    except ValueError:
        return False
    return True


def is_nl_bsn(digits: str) -> bool:
    """A Dutch citizen service number of nine digits: the eleven test with -1 for the last."""
    return weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and digits.count(digits[0]) != 9
