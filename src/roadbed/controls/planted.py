"""The synthetic values of one canary run: unique, recognisable by machine, and nobody's. Pure but for randomness.

Mail addresses stand under the reserved domain ``example.com``, cards in a range of test numbers, secrets have the
form of our own keys and belong to none. Every value of a run begins with the run's mark, so that one search for the
mark tells whether anything of the run is there. The invariant: no value is ever used twice.
"""

from __future__ import annotations

import base64
import random
import secrets
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["secret", "mail", "card"]
MARK_CHARACTERS: Final = 8
OWN_CHARACTERS: Final = 8
CARD_RANGE: Final = "400012"
CARD_MARK_DIGITS: Final = 5
_FIRST = "bcdfghjkmnpqrtvwz"
_REST = "bcdfghjkmnpqrtvwz23456789"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Value:
    """One value and the core by which it is found in any encoding. ``path`` names the way it was sent."""

    path: str
    kind: Kind
    text: str
    core: str


@dataclass(slots=True)
class Run:
    """The values of one run."""

    mark: str = field(default_factory=lambda: _word(MARK_CHARACTERS))
    card_mark: str = field(default_factory=lambda: CARD_RANGE + _digits(CARD_MARK_DIGITS))
    values: list[Value] = field(default_factory=list)

    def person(self, path: str) -> str:
        """A person as people write them: name, mail address and card; both values are planted under ``path``."""
        core = self.mark + _word(OWN_CHARACTERS)
        mail = self._kept(Value(path, "mail", f"{core}@example.com", core))
        taken = {value.core for value in self.values}
        card = next(card for card in iter(lambda: _card(self.card_mark), "") if card not in taken)
        self._kept(Value(path, "card", card, card))
        return f"Canary Rowan <{mail.text}>, card {card}"

    def secret(self, path: str) -> str:
        """A key of our own form that opens nothing."""
        core = self.mark + _word(OWN_CHARACTERS)
        tail = "".join(secrets.choice(_BASE62) for _ in range(43 - len(core)))
        return self._kept(Value(path, "secret", f"rbk_{core}_{core}{tail}", core)).text

    def both(self, path: str) -> str:
        """A sentence with a person and a secret."""
        return f"{self.person(path)}, uses the key {self.secret(path)} daily"

    def mail_of(self, path: str) -> str:
        """The mail address that was planted under a path."""
        return next(value.text for value in self.values if value.path == path and value.kind == "mail")

    def _kept(self, value: Value) -> Value:
        self.values.append(value)
        return value


def forms(core: str) -> list[bytes]:
    """The byte strings that show a core in raw or URL or JSON form, folded, UTF-16, hex, and base64 at three offsets.

    Cores are letters and digits, which URL and JSON leave as they are; case is folded by whoever searches, so only
    base64 is exact.
    """
    raw = core.encode()
    return [raw, core.encode("utf-16-le"), raw.hex().encode()]


def base64_forms(core: str) -> list[bytes]:
    """The characters of base64 that stand for a core whatever comes before and after it, at each offset."""
    raw = core.encode()
    found = []
    for offset in range(3):
        coded = base64.b64encode(b"\0" * offset + raw)
        start = (0, 2, 3)[offset]
        end = (offset + len(raw)) * 8 // 6
        found.append(coded[start:end])
    return found


def _word(length: int) -> str:
    return secrets.choice(_FIRST) + "".join(secrets.choice(_REST) for _ in range(length - 1))


def _digits(length: int) -> str:
    return "".join(str(_random.randrange(10)) for _ in range(length))


def _card(mark: str) -> str:
    """A 16-digit number that begins with ``mark`` and has a right check digit."""
    body = mark + _digits(15 - len(mark))
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * 2 if place % 2 == 0 else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)
