"""Checks of identifiers that belong to no state: vehicles, passports' machine lines, network cards, crypto addresses.

Pure functions of the bare value. Sources: ISO 3779, ICAO 9303, BIP 173 and 350, EIP-55.
"""

from __future__ import annotations

import hashlib
from typing import Final

from roadbed.guard.national_checks import check_731, is_date

_VIN_VALUES: Final = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", map(int, "12345678123457923456789"), strict=True))
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_CONSTANTS: Final = (1, 0x2BC830A3)
_GENERATORS: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def is_vin(text: str) -> bool:
    """Weights, modulus 11, at the ninth place; letters and digits both occur."""
    if text.isdigit() or text.isalpha():
        return False
    values = [int(c) if c.isdigit() else _VIN_VALUES[c] for c in text]
    total = sum(value * weight for value, weight in zip(values, _VIN_WEIGHTS, strict=True))
    return "0123456789X"[total % 11] == text[8] and text[13:].isdigit()


def is_mrz_passport(text: str) -> bool:
    """The second line of a passport: number, birth and expiry with their 7 3 1 digits."""
    if check_731(text[:9]) != text[9] or check_731(text[13:19]) != text[19] or check_731(text[21:27]) != text[27]:
        return False
    return is_date(int(text[15:17]), int(text[17:19]))


def is_mac(text: str) -> bool:
    """A network card's address: neither all zero nor broadcast."""
    bare = text.replace(":", "").replace(".", "")
    return len(set(bare)) > 2


def is_bitcoin(text: str) -> bool:
    """Base58Check of a version byte and 20 bytes."""
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    if number >> 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def is_bech32(text: str) -> bool:
    """Bech32 or Bech32m."""
    prefix, _, data = text.rpartition("1")
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + [_BECH32.index(c) for c in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for index, generator in enumerate(_GENERATORS):
            if top >> index & 1:
                check ^= generator
    return check in _BECH32_CONSTANTS


def is_ethereum(text: str) -> bool:
    """0x and forty hexadecimal digits that are no small number; the mixed-case check needs Keccak and is not made."""
    return len(set(text[2:].lower())) >= 8
