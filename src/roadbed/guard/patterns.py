"""The triggers: the few patterns that every text is searched for, written for Hyperscan and for ``re`` alike.

A trigger says only "look here": that a detector's value may be near this offset. The exact span and its validity are
decided by the detectors (`guard.detect`), which both engines share, so both find the same. Bytes of the folded view;
no lookaround, no back-reference, bounded repeats.

The invariant: every value that a detector accepts contains, at the place the detector expects, its trigger.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from roadbed.guard.decode import BASE64_TRIGGER, ESCAPE_TRIGGER
from roadbed.guard.letter_ids import FIRST_ID, LETTER_RULES
from roadbed.guard.secret_rules import CONTEXT_WORDS, PREFIXES, SERVICE_WORDS
from roadbed.guard.word_values import VALUE_WORDS

AT: Final = 0
DIGITS: Final = 1
IBAN_HEAD: Final = 2
DOTTED: Final = 4
COLONS: Final = 5
PREFIX: Final = 6
CONTEXT: Final = 7
PEM: Final = 8
BEARER: Final = 9
USER_OPTION: Final = 10
ESCAPE: Final = 11
BASE64: Final = 12
MRZ: Final = 13
SERVICE: Final = 14
STRUCTURED: Final = 15

WORD_VALUE_IDS: Final = {name: 20 + index for index, name in enumerate(VALUE_WORDS)}

_START = r"(?:^|[^A-Za-z0-9])"


class Trigger(NamedTuple):
    """One pattern; it reports its id, which patterns may share, and the offset of its end."""

    id: int
    expression: str
    is_caseless: bool = False


TRIGGERS: Final = (
    Trigger(AT, r"[^ \t\r\n@]@[A-Za-z0-9]"),
    Trigger(DIGITS, r"[0-9](?:[ .()/-]{0,3}[0-9]){6}"),
    Trigger(IBAN_HEAD, _START + r"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}"),
    *(
        Trigger(FIRST_ID + index, _START + rule.shape, is_caseless=not rule.is_case_kept)
        for index, rule in enumerate(LETTER_RULES)
    ),
    *(
        Trigger(WORD_VALUE_IDS[name], f"(?:^|[^A-Za-z])(?:{words})", is_caseless=True)
        for name, words in VALUE_WORDS.items()
    ),
    Trigger(DOTTED, r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    Trigger(COLONS, r"[0-9a-f]::|(?:[0-9a-f]{1,4}:){6}", is_caseless=True),
    Trigger(PREFIX, _START + "(?:" + "|".join(re.escape(prefix) for prefix in PREFIXES) + ")"),
    Trigger(CONTEXT, "(?:" + "|".join(CONTEXT_WORDS) + r")[a-z0-9_.-]{0,20}[\"'\])]{0,3} {0,4}[:=>]", is_caseless=True),
    Trigger(SERVICE, "(?:" + "|".join(map(re.escape, SERVICE_WORDS)) + ")", is_caseless=True),
    Trigger(
        STRUCTURED, r"[0-9]Q~[A-Za-z0-9_~.-]{3}|[0-9]{15}[|][A-Za-z0-9_-]{3}|[0-9]{8}:AA[A-Za-z0-9_-]{3}|[.]atlasv1[.]"
    ),
    Trigger(STRUCTURED, r"[MNO][A-Za-z0-9_-]{23}[A-Za-z0-9_-]{0,2}[.][A-Za-z0-9_-]{6}[.]"),
    Trigger(PEM, r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY"),
    Trigger(USER_OPTION, r"(?:^|[ \t\r\n])(?:-u|--user)[ =]{0,3}[\"']?[^ \t\r\n\"':${}]{1,60}:[\"']?"),
    Trigger(ESCAPE, ESCAPE_TRIGGER),
    Trigger(MRZ, r"[0-9][A-Z<]{3}[0-9]{7}[MFX<][0-9]{7}"),
    Trigger(BASE64, BASE64_TRIGGER),
    Trigger(BEARER, r"(?:bearer|basic) {1,3}[a-z0-9._~+/=-]{16}", is_caseless=True),
)
