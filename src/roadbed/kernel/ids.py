"""Identifiers that sort by time: 48 bits of milliseconds and 80 random bits in Crockford base32 (the ULID layout).

Used for traces, documents, keys and jobs. `new_id` costs about a microsecond; ids are unguessable but not secret.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
IDS_AT_ONCE = 400
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
ID_LENGTH = 26
_TAIL_LENGTH = 16
_FIVE_BITS = (_ALPHABET * 8).encode()
"""For each byte the letter of its five low bits."""

_random: list[str] = []
os.register_at_fork(after_in_child=_random.clear)


def new_id(now_ms: int | None = None) -> str:
    """A fresh 26-character id; ids made later sort later (to the millisecond)."""
    try:
        tail = _random.pop()  # atomic: threads never get the same
    except IndexError:
        # One call of the system for many ids: one each costs more than all the rest here.
        fresh = os.urandom(_TAIL_LENGTH * IDS_AT_ONCE).translate(_FIVE_BITS).decode()
        _random.extend([fresh[at : at + _TAIL_LENGTH] for at in range(0, len(fresh), _TAIL_LENGTH)])
        tail = os.urandom(_TAIL_LENGTH).translate(_FIVE_BITS).decode()
    if now_ms is None:
        now_ms = time.time_ns() // 1_000_000
    return f"{_seconds_text(now_ms >> 10)}{_PAIRS[now_ms & 1023]}{tail}"


@lru_cache(maxsize=4)
def _seconds_text(about_seconds: int) -> str:
    """The first eight letters, which stay the same for about a second."""
    return "".join([_PAIRS[about_seconds >> shift & 1023] for shift in (30, 20, 10, 0)])


def ms_of(made: str) -> int:
    """The time, in milliseconds since 1970, at which an id was made."""
    found = 0
    for letter in made[: ID_LENGTH - _TAIL_LENGTH]:
        found = found << 5 | _ALPHABET.index(letter)
    return found


def is_id(text: str) -> bool:
    """Whether ``text`` has the shape of an id made by `new_id`."""
    return len(text) == ID_LENGTH and all(character in _ALPHABET for character in text)
