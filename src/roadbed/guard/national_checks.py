"""Checksums of the world's national, tax and health numbers: pure functions of the bare digits or upper-case letters.

As `guard.validators`, of which this is the longer shelf: each answers "could this be one". Formulas are those of the
issuing authorities; the tests compare each with an independent implementation on random numbers.
"""

from __future__ import annotations

from typing import Final

from roadbed.guard.validators import luhn, weighted

_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_VERHOEFF_D: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip
_CURP: Final = "0123456789ABCDEFGHIJKLMN&OPQRSTUVWXYZ"
_TW_LETTERS: Final = dict(
    zip("ABCDEFGHJKLMNPQRSTUVXYWZIO", (*range(10, 34), 34, 35), strict=True)  # A10..H17 J18..N22 P23..V29 X30 Y31 W32
)
_PRIMES: Final = (3, 7, 13, 17, 19, 23, 29, 37, 41, 43, 47, 53, 59, 67, 71)


def is_date(month: int, day: int) -> bool:
    """Whether a year may have that day."""
    return 1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]


def is_dated(digits: str, order: str) -> bool:
    """Whether the first six digits are a date, in the order ``ymd`` or ``dmy``."""
    first, month, last = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    return is_date(month, last if order == "ymd" else first)


def _is_same(digits: str) -> bool:
    return digits.count(digits[0]) == len(digits)


def _mod11_10(digits: str) -> bool:
    """ISO 7064 mod 11,10."""
    product = 10
    for character in digits[:-1]:
        product = ((int(character) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[-1])


def is_us_itin(digits: str) -> bool:
    """9xx, and a group of those in use."""
    group = int(digits[3:5])
    return digits[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def is_us_ein(digits: str) -> bool:
    """A prefix of a campus; no checksum."""
    return digits[:2] not in ("00", "07", "08", "09", "17", "18", "19", "28", "29", "49", "69", "70", "78", "79", "89")


def is_us_npi(digits: str) -> bool:
    """Luhn with the prefix 80840."""
    return digits[0] in "12" and luhn("80840" + digits)


def is_ca_sin(digits: str) -> bool:
    """Luhn."""
    return digits[0] not in "08" and luhn(digits)


def is_br_cpf(digits: str) -> bool:
    """Two check digits, modulus 11."""
    if _is_same(digits):
        return False
    for length in (9, 10):
        check = 11 - weighted(digits[:length], tuple(range(length + 1, 1, -1))) % 11
        if (0 if check > 9 else check) != int(digits[length]):
            return False
    return True


def is_br_cnpj(text: str) -> bool:
    """Two check digits, modulus 11; letters count as their code minus 48."""
    if _is_same(text):
        return False
    for weights in ((5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2), (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2)):
        check = 11 - weighted(text[: len(weights)], weights) % 11
        if (0 if check > 9 else check) != ord(text[len(weights)]) - 48:
            return False
    return True


def is_ar_cuit(digits: str) -> bool:
    """Weights 5432765432."""
    if digits[:2] not in ("20", "23", "24", "27", "30", "33", "34", "50", "51", "55"):
        return False
    check = 11 - weighted(digits[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return {11: 0, 10: 9}.get(check, check) == int(digits[10])


def is_cl_rut(text: str) -> bool:
    """From the right 2 to 7, modulus 11; K is 10."""
    total = sum(int(character) * (2 + index % 6) for index, character in enumerate(reversed(text[:-1])))
    check = 11 - total % 11
    return {11: "0", 10: "K"}.get(check, str(check)) == text[-1]


def is_co_nit(digits: str) -> bool:
    """Primes from the right, modulus 11."""
    rest = sum(int(character) * weight for character, weight in zip(reversed(digits[:-1]), _PRIMES, strict=False)) % 11
    return (rest if rest < 2 else 11 - rest) == int(digits[-1])


def is_ec_ci(digits: str) -> bool:
    """A province, then Luhn with the odd places doubled."""
    province = int(digits[:2])
    return (1 <= province <= 24 or province == 30) and digits[2] < "6" and luhn(digits)


def is_mx_curp(text: str) -> bool:
    """Weights 18 to 2, modulus 10."""
    if not is_dated(text[4:10], "ymd"):
        return False
    total = sum(_CURP.index(character) * (18 - index) for index, character in enumerate(text[:17]))
    return (10 - total % 10) % 10 == ord(text[17]) - 48


def is_uk_utr(digits: str) -> bool:
    """The check digit stands first."""
    return "21987654321"[weighted(digits[1:], (6, 7, 8, 9, 10, 5, 4, 3, 2)) % 11] == digits[0]


def is_ie_pps(text: str) -> bool:
    """Weights 8 to 2, a second letter by 9, modulus 23."""
    second = text[8] if len(text) == 9 else "W"
    total = weighted(text[:7], (8, 7, 6, 5, 4, 3, 2)) + (0 if second == "W" else ord(second) - 64) * 9
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == text[7]


def is_pt_nif(digits: str) -> bool:
    """Weights 9 to 2, modulus 11."""
    check = 11 - weighted(digits[:8], (9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return digits[0] != "0" and (0 if check > 9 else check) == int(digits[8])


def is_be_national(digits: str) -> bool:
    """A date, a serial and 97 minus the rest; born after 1999 with a 2 before."""
    month = int(digits[2:4])
    if not (month % 20 <= 12 and month < 60) or int(digits[4:6]) > 31:
        return False
    body, check = digits[:9], int(digits[9:])
    return check in (97 - int(body) % 97, 97 - int("2" + body) % 97)


def is_at_svnr(digits: str) -> bool:
    """The fourth digit is the check; then DDMMYY."""
    day, month = int(digits[4:6]), int(digits[6:8])
    if digits[0] == "0" or not 1 <= day <= 31 or not 1 <= month <= 15:
        return False
    return weighted(digits, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(digits[3])


def is_ch_ahv(digits: str) -> bool:
    """756 and EAN-13."""
    return digits.startswith("756") and weighted(digits, (1, 3) * 6 + (1,)) % 10 == 0


def is_gr_amka(digits: str) -> bool:
    """A date and Luhn."""
    return is_dated(digits, "dmy") and luhn(digits)


def is_gr_afm(digits: str) -> bool:
    """Powers of two, modulus 11."""
    total = sum(int(character) << (8 - index) for index, character in enumerate(digits[:8]))
    return not _is_same(digits) and total % 11 % 10 == int(digits[8])


def is_pl_pesel(digits: str) -> bool:
    """A date whose month tells the century; weights 1379."""
    if not is_date(int(digits[2:4]) % 20, int(digits[4:6])):
        return False
    return (10 - weighted(digits[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(digits[10])


def is_pl_nip(digits: str) -> bool:
    """Weights 657234567, modulus 11."""
    return not _is_same(digits) and weighted(digits, (6, 5, 7, 2, 3, 4, 5, 6, 7)) % 11 == int(digits[9])


def is_cz_rodne(digits: str) -> bool:
    """YYMMDD, women + 50, since 2004 also + 20 and + 70; ten digits: modulus 11."""
    month = int(digits[2:4])
    month -= 50 if month > 50 else 0
    month -= 20 if month > 20 else 0
    if not is_date(month, int(digits[4:6])):
        return False
    return len(digits) == 9 or int(digits[:9]) % 11 % 10 == int(digits[9])


def is_hu_tax(digits: str) -> bool:
    """Starts with 8; places 1 to 9 as weights, modulus 11."""
    return digits[0] == "8" and weighted(digits[:9], tuple(range(1, 10))) % 11 == int(digits[9])


def is_hu_taj(digits: str) -> bool:
    """Weights 3 and 7, modulus 10."""
    return weighted(digits[:8], (3, 7) * 4) % 10 == int(digits[8]) and not _is_same(digits)


def is_hr_oib(digits: str) -> bool:
    """ISO 7064 mod 11,10."""
    return _mod11_10(digits)


def is_emso(digits: str) -> bool:
    """DDMMYYY of the former Yugoslavia's registers, modulus 11."""
    if not is_dated(digits, "dmy"):
        return False
    check = 11 - weighted(digits[:12], (7, 6, 5, 4, 3, 2) * 2) % 11
    return check % 11 % 10 == int(digits[12])


def is_ro_cnp(digits: str) -> bool:
    """Weights 279146358279, modulus 11."""
    if digits[0] == "0" or not is_dated(digits[1:], "ymd"):
        return False
    check = weighted(digits[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return (1 if check == 10 else check) == int(digits[12])


def is_bg_egn(digits: str) -> bool:
    """Month + 20 in the 1800s, + 40 in the 2000s; modulus 11."""
    if int(digits[2:4]) > 52 or not is_date(int(digits[2:4]) % 20, int(digits[4:6])):
        return False
    return weighted(digits[:9], (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10 == int(digits[9])


def is_baltic(digits: str) -> bool:
    """The Estonian and Lithuanian personal code: G YYMMDD NNN C."""
    if not "1" <= digits[0] <= "8" or not is_dated(digits[1:], "ymd"):
        return False
    check = weighted(digits[:10], (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if check == 10:
        check = weighted(digits[:10], (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return check == int(digits[10])


def is_lv_code(digits: str) -> bool:
    """Born codes: a date and modulus 11; codes from 2017 begin with 32 and say nothing."""
    if digits[:2] == "32":
        return True
    if not is_dated(digits, "dmy"):
        return False
    return (1 + weighted(digits[:10], (10, 5, 8, 4, 2, 1, 6, 3, 7, 9))) % 11 % 10 == int(digits[10])


def is_dk_cpr(digits: str) -> bool:
    """A date; the checksum is no longer kept."""
    return is_dated(digits, "dmy")


def is_fi_hetu(text: str) -> bool:
    """DDMMYY, a sign of the century, three digits and a character, modulus 31."""
    if not is_dated(text, "dmy"):
        return False
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(text[:6] + text[-4:-1]) % 31] == text[-1]


def is_is_kennitala(digits: str) -> bool:
    """Weights 32765432, modulus 11; the last digit is the century."""
    day = int(digits[:2])
    if not is_date(int(digits[2:4]), day - 40 if day > 40 else day) or digits[9] not in "890":
        return False
    return weighted(digits[:9], (3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


def is_ua_rntrc(digits: str) -> bool:
    """Weights -1 5 7 9 4 6 10 5 7, modulus 11."""
    return weighted(digits[:9], (-1, 5, 7, 9, 4, 6, 10, 5, 7)) % 11 % 10 == int(digits[9])


def is_ru_inn(digits: str) -> bool:
    """Ten or twelve digits, modulus 11."""
    tail = (2, 4, 10, 3, 5, 9, 4, 6, 8)
    if len(digits) == 10:
        return weighted(digits[:9], tail) % 11 % 10 == int(digits[9])
    first = weighted(digits[:10], (7, *tail)) % 11 % 10
    return first == int(digits[10]) and weighted(digits[:11], (3, 7, *tail)) % 11 % 10 == int(digits[11])


def is_ru_snils(digits: str) -> bool:
    """Weights 9 to 1, modulus 101."""
    return weighted(digits[:9], (9, 8, 7, 6, 5, 4, 3, 2, 1)) % 101 % 100 == int(digits[9:])


def is_kz_iin(digits: str) -> bool:
    """YYMMDD; modulus 11 with a second row of weights."""
    if not is_dated(digits, "ymd"):
        return False
    check = weighted(digits[:11], tuple(range(1, 12))) % 11
    if check == 10:
        check = weighted(digits[:11], (3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2)) % 11
    return check == int(digits[11])


def is_tr_tckn(digits: str) -> bool:
    """Two check digits of sums."""
    odd, even = sum(map(int, digits[:9:2])), sum(map(int, digits[1:8:2]))
    return (
        digits[0] != "0"
        and (7 * odd - even) % 10 == int(digits[9])
        and sum(map(int, digits[:10])) % 10 == int(digits[10])
    )


def is_luhn_id(digits: str) -> bool:
    """Luhn and not one digit repeated (Israel, and others behind their words)."""
    return not _is_same(digits) and luhn(digits)


def is_za_id(digits: str) -> bool:
    """YYMMDD, citizenship, Luhn."""
    return is_dated(digits, "ymd") and digits[10] in "012" and luhn(digits)


def is_ae_id(digits: str) -> bool:
    """784, a year, Luhn."""
    return digits.startswith(("78419", "78420")) and luhn(digits)


def is_sa_id(digits: str) -> bool:
    """Starts with 1 or 2, Luhn."""
    return digits[0] in "12" and luhn(digits)


def is_eg_id(digits: str) -> bool:
    """A century digit, YYMMDD and a governorate."""
    return digits[0] in "23" and is_dated(digits[1:], "ymd") and 1 <= int(digits[7:9]) <= 88


def is_in_aadhaar(digits: str) -> bool:
    """Verhoeff; not a palindrome."""
    return digits[0] not in "01" and digits != digits[::-1] and _verhoeff(digits)


def _verhoeff(digits: str) -> bool:
    check = 0
    for index, code in enumerate(digits[::-1].encode()):
        check = _VERHOEFF[check][_VERHOEFF_PLACES[index % 8][code - 48]]
    return check == 0


_VERHOEFF: Final = tuple(tuple(map(int, row)) for row in _VERHOEFF_D)
_VERHOEFF_PLACES: Final = tuple(tuple(map(int, row)) for row in _VERHOEFF_P)


def is_in_pan(text: str) -> bool:
    """The fourth letter is the kind of holder."""
    return text[3] in "ABCFGHJLPT" and text[5:9] != "0000"


def is_pk_cnic(digits: str) -> bool:
    """A province and a locality; the last digit is the sex."""
    return digits[0] in "1234567" and digits[12] != "0"


def is_cn_ric(text: str) -> bool:
    """A place, YYYYMMDD, a serial; modulus 11."""
    if not text[:17].isdigit() or not 1800 < int(text[6:10]) < 2100 or not is_date(int(text[10:12]), int(text[12:14])):
        return False
    return "10X98765432"[sum(int(text[index]) * pow(2, 17 - index, 11) for index in range(17)) % 11] == text[17]


def is_hk_id(text: str) -> bool:
    """One or two letters, six digits, a check character; modulus 11."""
    text = text.rjust(8 + 1)
    values = [36 if c == " " else int(c, 36) for c in text]
    total = sum(value * weight for value, weight in zip(values, range(9, 0, -1), strict=True))
    return total % 11 == 0


def is_tw_id(text: str) -> bool:
    """A letter of two digits; weights 1 9 8 7 6 5 4 3 2 1 1."""
    return weighted(str(_TW_LETTERS[text[0]]) + text[1:], (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def is_kr_rrn(digits: str) -> bool:
    """A date and a century digit; the checksum is no longer kept."""
    return is_dated(digits, "ymd") and digits[6] in "0123456789"


def is_jp_my_number(digits: str) -> bool:
    """Weights from the right 2..7, 2..6; modulus 11."""
    rest = weighted(digits[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(digits[11])


def is_sg_nric(text: str) -> bool:
    """Weights 2765432, modulus 11, letters by series."""
    offset = {"T": 4, "G": 4, "M": 3}.get(text[0], 0)
    rest = (weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + offset) % 11
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "XWUTRQPNJLK"}.get(text[0], "XWUTRQPNMLK")
    return letters[rest] == text[8]


def is_th_pin(digits: str) -> bool:
    """Weights 13 to 2, modulus 11."""
    return digits[0] not in "09" and (11 - weighted(digits[:12], tuple(range(13, 1, -1))) % 11) % 10 == int(digits[12])


def is_my_nric(digits: str) -> bool:
    """A date and a place of birth."""
    return is_dated(digits, "ymd") and digits[6:8] not in ("00", "17", "18", "19", "20", "69", "70", "73", "80", "81")


def is_id_nik(digits: str) -> bool:
    """A province, DDMMYY with 40 added for women, a serial."""
    day = int(digits[6:8])
    return 11 <= int(digits[:2]) <= 96 and is_date(int(digits[8:10]), day - 40 if day > 40 else day)


def is_au_tfn(digits: str) -> bool:
    """Weights 1 4 3 7 5 8 6 9 10, modulus 11."""
    return not _is_same(digits) and weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def is_au_medicare(digits: str) -> bool:
    """Weights 1 3 7 9, modulus 10; starts with 2 to 6."""
    return digits[0] in "23456" and weighted(digits[:8], (1, 3, 7, 9) * 2) % 10 == int(digits[8])


def is_au_abn(digits: str) -> bool:
    """The first less one; modulus 89."""
    if digits[0] == "0":
        return False
    return (weighted(digits, (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)) - 10) % 89 == 0


def is_nz_ird(digits: str) -> bool:
    """Between 10 and 150 million; modulus 11 with a second row of weights."""
    if not 10_000_000 < int(digits) < 150_000_000:
        return False
    body, check = digits[:-1].zfill(8), int(digits[-1])
    rest = -weighted(body, (3, 2, 7, 6, 5, 4, 3, 2)) % 11
    if rest == 10:
        rest = -weighted(body, (7, 4, 3, 2, 5, 2, 7, 6)) % 11
    return rest == check


def is_de_kvnr(text: str) -> bool:
    """A letter as two digits, then Luhn from the left, modulus 10."""
    digits = f"{ord(text[0]) - 64:02d}{text[1:9]}"
    total = sum(sum(divmod(int(character) * (1 + index % 2), 10)) for index, character in enumerate(digits))
    return total % 10 == int(text[9])


def is_de_svnr(text: str) -> bool:
    """An area, DDMMYY, a letter, a serial and a check digit."""
    if not is_date(int(text[4:6]), int(text[2:4]) or 1):
        return False
    digits = f"{text[:8]}{ord(text[8]) - 64:02d}{text[9:11]}"
    weights = (2, 1, 2, 5, 7, 1, 2, 1, 2, 1, 2, 1)
    total = sum(sum(divmod(int(c) * weight, 10)) for c, weight in zip(digits, weights, strict=True))
    return total % 10 == int(text[11])


def is_document_731(text: str) -> bool:
    """An identity document whose last digit is its 7 3 1 check (German and machine-readable ones)."""
    return check_731(text[:-1]) == text[-1]


def check_731(text: str) -> str:
    """The check digit of ICAO 9303: weights 7 3 1, modulus 10; ``<`` is 0."""
    total = sum((0 if c == "<" else int(c, 36)) * (7, 3, 1)[index % 3] for index, c in enumerate(text))
    return str(total % 10)


def is_us_dea(text: str) -> bool:
    """Odd digits plus twice the even ones."""
    digits = text[2:]
    total = sum(map(int, digits[:5:2])) + 2 * sum(map(int, digits[1:6:2]))
    return total % 10 == int(digits[6])


def is_es_cif(text: str) -> bool:
    """Luhn-like; the check is a digit or its letter."""
    total = sum(int(c) for c in text[2:8:2])
    total += sum(sum(divmod(int(c) * 2, 10)) for c in text[1:8:2])
    check = -total % 10
    return text[8] in (str(check), "JABCDEFGHI"[check])


def is_vat_id(text: str) -> bool:
    """A VAT number with its country: the ones whose checks are kept here, in Germany and Austria."""
    if text.startswith("ATU"):
        digits = text[3:]
        total = sum(int(c) for c in digits[0:7:2]) + sum(sum(divmod(int(c) * 2, 10)) for c in digits[1:6:2])
        return (10 - (total + 4) % 10) % 10 == int(digits[7])
    return _mod11_10(text[2:])
