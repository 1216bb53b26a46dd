"""Identifiers that sort by time: 48 bits of milliseconds and 80 random bits in Crockford base32 (the ULID layout).

Used for traces, documents, keys and jobs. `new_id` costs about a microsecond; ids are unguessable but not secret.
"""

from __future__ import annotations

import os
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
IDS_AT_ONCE = 400
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
ID_LENGTH = 26
_SHIFTS = tuple(range(120, -1, -10))
_random: list[int] = []
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """A fresh 26-character id; ids made later sort later (to the millisecond)."""
    try:
        tail = _random.pop()  # atomic: threads never get the same
    except IndexError:
        # One call of the system for many ids: one each costs more than all the rest here.
        fresh = os.urandom(10 * IDS_AT_ONCE)
        _random.extend([int.from_bytes(fresh[at : at + 10], "big") for at in range(0, len(fresh), 10)])
        tail = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80 | tail
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


def is_id(text: str) -> bool:
    """Whether ``text`` has the shape of an id made by `new_id`."""
    return len(text) == ID_LENGTH and all(character in _ALPHABET for character in text)
