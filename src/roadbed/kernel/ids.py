"""Identifiers that sort by time: 48 bits of milliseconds and 80 random bits in Crockford base32 (the ULID layout).

Used for traces, documents, keys and jobs. `new_id` costs about a microsecond; ids are unguessable but not secret.
"""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
ID_LENGTH = 26


def new_id() -> str:
    """A fresh 26-character id; ids made later sort later (to the millisecond)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10))


def is_id(text: str) -> bool:
    """Whether ``text`` has the shape of an id made by `new_id`."""
    return len(text) == ID_LENGTH and all(character in _ALPHABET for character in text)
