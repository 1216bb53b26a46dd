"""The triggers: the few patterns that every text is searched for, written for Hyperscan and for ``re`` alike.

A trigger says only "look here": that a detector's value may be near this offset. The exact span and its validity are
decided by the detectors (`guard.detect`), which both engines share, so both find the same. Bytes of the folded view;
no lookaround, no back-reference, bounded repeats.

The invariant: every value that a detector accepts contains, at the place the detector expects, its trigger.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from roadbed.guard.secret_rules import CONTEXT_WORDS, PREFIXES

AT: Final = 0
DIGITS: Final = 1
IBAN_HEAD: Final = 2
LETTER_ID: Final = 3
DOTTED: Final = 4
COLONS: Final = 5
PREFIX: Final = 6
CONTEXT: Final = 7
PEM: Final = 8
BEARER: Final = 9
USER_OPTION: Final = 10

_START = r"(?:^|[^A-Za-z0-9])"
_LETTER_IDS = (
    r"[A-Za-z]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-Da-d]",  # UK NINO
    r"[A-Za-z]{6}[ -]?[0-9L-NP-Vl-np-v]{2}[A-Za-z][0-9L-NP-Vl-np-v]{2}[ -]?[A-Za-z][0-9L-NP-Vl-np-v]{3}[A-Za-z]",
    r"[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-Za-z]",  # ES DNI
    r"[XYZxyz][ -]?[0-9]\.?[0-9]{3}\.?[0-9]{3}[ -]?[A-Za-z]",  # ES NIE
    r"[1-478] ?[0-9]{2} ?[0-9]{2} ?2[ABab] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",  # FR NIR of Corsica
)


class Trigger(NamedTuple):
    """One pattern; it reports its id, which patterns may share, and the offset of its end."""

    id: int
    expression: str
    is_caseless: bool = False


TRIGGERS: Final = (
    Trigger(AT, r"[^ \t\r\n@]@[A-Za-z0-9]"),
    Trigger(DIGITS, r"[0-9](?:[ .()/-]{0,3}[0-9]){6}"),
    Trigger(IBAN_HEAD, _START + r"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}"),
    *(Trigger(LETTER_ID, _START + expression) for expression in _LETTER_IDS),
    Trigger(DOTTED, r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    Trigger(COLONS, r"[0-9a-f]::|(?:[0-9a-f]{1,4}:){6}", is_caseless=True),
    Trigger(PREFIX, _START + "(?:" + "|".join(re.escape(prefix) for prefix in PREFIXES) + ")"),
    Trigger(CONTEXT, "(?:" + "|".join(CONTEXT_WORDS) + r")[a-z0-9_.-]{0,20}[\"'\])]{0,3} {0,4}[:=>]", is_caseless=True),
    Trigger(PEM, r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"),
    Trigger(USER_OPTION, r"(?:^|[ \t\r\n])(?:-u|--user)[ =]{0,3}[\"']?[^ \t\r\n\"':${}]{1,60}:"),
    Trigger(BEARER, r"(?:bearer|basic) {1,3}[a-z0-9._~+/=-]{16}", is_caseless=True),
)
