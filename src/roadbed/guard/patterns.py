"""The triggers: the few patterns that every text is searched for, written for Hyperscan and for ``re`` alike.

A trigger says only "look here": that a detector's value may be near this offset. The exact span and its validity are
decided by the detectors (`guard.detect`), which both engines share, so both find the same. Bytes of the folded view;
no lookaround, no back-reference, bounded repeats.

Hyperscan searches them in passes (`guard.engine`), because a pattern that may begin at any letter costs as much as all
those that begin with a digit or a fixed text: `COMMON`; `CODED`, which is searched only where `LONG` is found; and
`LETTERED`, only where a gate says that an identifier of letters and digits may be there.

The invariants: every value that a detector accepts contains, at the place the detector expects, its trigger; a value
of a lettered rule has a gate in it or is a long word, and a text with a trigger of `CODED` has a `LONG`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Final, NamedTuple

from roadbed.guard import secret_forms
from roadbed.guard.decode import BASE64_LETTER, BASE64_TRIGGER, ESCAPE_TRIGGER
from roadbed.guard.letter_ids import FIRST_ID, LETTER_RULES
from roadbed.guard.secret_rules import CODED_ID, PREFIXES, SERVICE_WORDS
from roadbed.guard.secret_rules import USER_OPTION as USER_OPTION_EXPRESSION
from roadbed.guard.secret_words import CONTEXT_WORDS, SIGN
from roadbed.guard.word_values import VALUE_WORDS

AT: Final = 0
DIGITS: Final = 1
IBAN_HEAD: Final = 2
GATE: Final = 3
DOTTED: Final = 4
COLONS: Final = 5
CONTEXT: Final = 7
PEM: Final = 8
BEARER: Final = 9
USER_OPTION: Final = 10
ESCAPE: Final = 11
BASE64: Final = 12
SERVICE: Final = 14
STRUCTURED: Final = 15
FIRST_PREFIX: Final = 1_000

FORMS: Final = {
    "said": (secret_forms.SAID, True),
    "option": (secret_forms.OPTION, True),
    "stated": (secret_forms.STATED, True),
    "called": (secret_forms.CALLED, False),
    "paired": (secret_forms.PAIRED, True),
    "queried": (secret_forms.QUERIED, True),
    "commanded": (secret_forms.COMMANDED, True),
    "jwk": (secret_forms.JWK, False),
    "coded_user": (secret_forms.CODED_USER, False),
    "cookie": (secret_forms.COOKIE, True),
    "kubernetes": (secret_forms.KUBERNETES, False),
    "putty": (secret_forms.PUTTY, False),
}
"""Further ways to hand a secret over: each with its trigger, and whether case is of no account."""

FORM_IDS: Final = {name: 40 + index for index, name in enumerate(FORMS)}
WORD_VALUE_IDS: Final = {name: 20 + index for index, name in enumerate(VALUE_WORDS)}

_START = r"(?:^|[^A-Za-z0-9])"


class Trigger(NamedTuple):
    """One pattern; it reports its id, which patterns may share, and the offset of its end."""

    id: int
    expression: str
    is_caseless: bool = False
    is_once: bool = False  # that it is there is enough to know


# To the end of the run, with what shows that it ends: one report a run.
_RUN_END = r"(?:[ .()/-]{0,3}(?:[^0-9 .()/-]|$)|[ .()/-]{4})"
COMMON: Final = (
    Trigger(AT, r"[^ \t\r\n@]@[A-Za-z0-9]"),
    Trigger(DIGITS, r"[0-9](?:[ .()/-]{0,3}[0-9]){6}" + _RUN_END),
    Trigger(IBAN_HEAD, _START + r"[A-Za-z]{2}[0-9]{2}[ -]?[A-Za-z0-9]{4}"),
    *(
        Trigger(WORD_VALUE_IDS[name], f"(?:^|[^A-Za-z])(?:{words})", is_caseless=True)
        for name, words in VALUE_WORDS.items()
    ),
    Trigger(DOTTED, r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]"),
    Trigger(COLONS, r"[0-9a-f]::|(?:[0-9a-f]{1,4}:){6}", is_caseless=True),
    # Plain texts, which cost nothing; the reader sees whether a word begins there.
    *(Trigger(FIRST_PREFIX + index, re.escape(prefix)) for index, prefix in enumerate(PREFIXES)),
    Trigger(
        CONTEXT,
        "(?:" + "|".join(CONTEXT_WORDS) + ")" + SIGN,
        is_caseless=True,
    ),
    *(Trigger(FORM_IDS[name], expression, is_caseless) for name, (expression, is_caseless) in FORMS.items()),
    Trigger(SERVICE, "(?:" + "|".join(map(re.escape, SERVICE_WORDS)) + ")", is_caseless=True),
    Trigger(
        STRUCTURED, r"[0-9]Q~[A-Za-z0-9_~.-]{3}|[0-9]{15}[|][A-Za-z0-9_-]{3}|[0-9]{8}:AA[A-Za-z0-9_-]{3}|[.]atlasv1[.]"
    ),
    Trigger(STRUCTURED, r"[MNO][A-Za-z0-9_-]{23}[A-Za-z0-9_-]{0,2}[.][A-Za-z0-9_-]{6}[.]"),
    Trigger(STRUCTURED, CODED_ID),
    Trigger(PEM, r"-----BEGIN (?:[A-Z0-9 ]{0,40}PRIVATE KEY|OpenVPN Static key V1)"),
    Trigger(USER_OPTION, r"(?:^|[ \t\r\n])" + USER_OPTION_EXPRESSION),
    Trigger(ESCAPE, ESCAPE_TRIGGER),
    Trigger(BEARER, r"(?:bearer|basic) {1,3}[a-z0-9._~+/=-]{16}", is_caseless=True),
)
CODED: Final = (Trigger(BASE64, BASE64_TRIGGER),)
# What every run of `CODED` has. Where it begins is not asked, which makes it five times as fast.
LONG: Final = (Trigger(GATE, BASE64_LETTER + "{16}", is_once=True),)
LETTERED: Final = tuple(
    Trigger(FIRST_ID + index, _START + rule.shape, is_caseless=not rule.is_case_kept)
    for index, rule in enumerate(LETTER_RULES)
)
GATES: Final = (
    # A digit after a letter. As fixed texts, which Hyperscan searches beside the others; a class would be a pass more.
    Trigger(
        GATE,
        "(?:" + "|".join(letter + digit for letter in string.ascii_lowercase for digit in string.digits) + ")",
        is_caseless=True,
        is_once=True,
    ),
    *(
        Trigger(GATE, expression, is_caseless=True, is_once=True)
        for expression in (
            r"[0-9]{3}[.]?[0-9]{3}[ -]?[A-Z]",
            r"[0-9]{8}",
            r"(?:[0-9]{2}[ -]?){3}[A-D]",
            r"[0-9]{6}[+-][0-9]{3}",
            r"2[AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
            r":[0-9A-F]{2}:[0-9A-F]{2}:[0-9A-F]{2}:",
            r"-[0-9A-F]{2}-[0-9A-F]{2}-[0-9A-F]{2}-",
            r"[.][0-9A-F]{4}[.][0-9A-F]{4}",
            r"/[0-9A-Z]{4}-[0-9]{2}",
            r"0x[0-9A-F]{40}",
            r"(?:bc|tb|ltc)1[02-9ac-hj-np-z]{11}",
            # An Italian number's year behind a space, with letters for the digits after it.
            r"[0-9][0-9L-NP-V][A-Z][L-NP-V]{2}[ -]?[A-Z][L-NP-V]{3}[A-Z]",
        )
    ),
)
EVERY_GATE: Final = tuple(gate._replace(is_once=False) for gate in GATES)
TRIGGERS: Final = (*COMMON, *CODED, *LETTERED)

# What may do without a digit after a letter: keys of money, and an Italian number with letters for all its digits.
_LONG_WORD = re.compile(
    r"(?<![A-Za-z0-9_])(?:[13T][1-9A-HJ-NP-Za-km-z]{25}|[A-Za-z]{6}-?[L-NP-Vl-np-v]{2}[A-Za-z][L-NP-Vl-np-v]{2}-?[A-Za-z])"
)
_LONG_RUN = re.compile(r"[A-Za-z0-9+/_-]{16,4000}")


def has_long_word(view: str, hits: Sequence[tuple[int, int]]) -> bool:
    """Whether what was hit of `CODED` says that an identifier may be in the text which no gate shows."""
    for number, end in hits:
        if number == BASE64:
            run = _LONG_RUN.match(view, end - 16)
            if run is not None and _LONG_WORD.search(view, *run.span()):
                return True
    return False
