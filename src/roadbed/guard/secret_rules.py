"""What secrets look like: issuers' prefixes with exact shapes, services' keys, structure, and what is assigned.

Tables and pure functions, read by `guard.patterns` (the triggers) and the readers. Prefix rules carry exact lengths
where the issuer fixes them; what only a telling word (`guard.secret_words`) speaks for is held to what its value looks
like (`guard.secret_values`), because a scanner that cries at every ``token_type=`` is switched off.
"""

from __future__ import annotations

import re
from typing import Final

from roadbed.guard.secret_table import PREFIX_TABLE, SERVICE_TABLE
from roadbed.guard.secret_values import DISTINCT_CHARACTERS_MIN, entropy_share
from roadbed.guard.secret_words import is_about

PEM_CHARACTERS_MAX: Final = 12_000
PEM_BODY_CHARACTERS_MIN: Final = 60  # the shortest, of Ed25519, has 64
VALUE_CHARACTERS_MAX: Final = 4_000
_SERVICE_ENTROPY_MIN = 0.5

_END = r"(?![A-Za-z0-9])"
_OPEN_CHARACTERS_MIN = 100  # a shape that may be as long as this has no exact length


def _widened(rest: str) -> str:
    """A shape whose open lengths may be as long as any: what is longer than was ever seen is a key all the same."""
    return re.sub(
        r"\{([0-9]+),([0-9]+)\}",
        lambda bounds: (
            f"{{{bounds[1]},{VALUE_CHARACTERS_MAX}}}" if int(bounds[2]) >= _OPEN_CHARACTERS_MIN else bounds[0]
        ),
        rest,
    )


PREFIX_RULES: Final[tuple[tuple[str, str, re.Pattern[str]], ...]] = tuple(
    sorted(
        (
            (prefix, name, re.compile(f"{re.escape(prefix)}(?:{_widened(rest)}){_END}"))
            for name, prefixes, rest in PREFIX_TABLE
            for prefix in prefixes
        ),
        key=lambda rule: -len(rule[0]),
    )
)
PREFIXES: Final = tuple(sorted({prefix for prefix, _, _ in PREFIX_RULES}))

_BEFORE_VALUE = re.compile(r"[=>]?[ \t]{0,4}[\"'`]?")
# Nothing shorter can match where all of a run does not, so nothing shorter is tried.
CONTEXT_VALUE: Final = re.compile(
    r"[=>]?[ \t]{0,4}(?P<quote>[\"'`]?)(?:(?:[Tt]oken|[Aa]pi[Kk]ey|[Kk]ey) {1,2})?"
    rf"(?P<value>[^\s\"'`<>,;&|(){{}}\[\]]{{6,{VALUE_CHARACTERS_MAX}}}+)(?![^\s\"'`<>,;&|(){{}}\[\]])"
)
PEM_BLOCK: Final = re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?|OpenVPN Static key V1)-----")
URL_USER: Final = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:\"'<>]{0,100}:(?P<value>[^\s/?#@\"'<>]{3,200})\Z", re.IGNORECASE
)
# The options that are written in one with it are named: any letters there would cost every text a tenth more.
USER_OPTION: Final = (
    r"(?:-(?:|s|k|i|v|L|f|sk|ks|sS|si|is|sL|sv|fs|iv)u|--(?:proxy-)?user)"
    r"[ =]{0,3}[\"']?[^ \t\r\n\"':${}]{0,60}[\"']?:[\"']?"
)
USER_OPTION_VALUE: Final = re.compile(r"(?<=['\"])[^'\"\s]{3,200}|[^\s\"'`<>|;&]{3,200}")
CODED_ID: Final = r"(?:[MNO][DTjz][AEIMQUYcgk][0-5w-z]){4}O[g-v]"
"""Base64 of twelve digits and a colon."""
BEARER_VALUE: Final = re.compile(r"(?:bearer|basic) {1,3}(?P<value>[a-z0-9._~+/-]{16,4000}={0,2})", re.IGNORECASE)


_SERVICE_WORDS = {word: (name, index) for index, (name, words, _) in enumerate(SERVICE_TABLE) for word in words.split()}
SERVICE_WORDS: Final = tuple(sorted(_SERVICE_WORDS, key=len, reverse=True))
_SERVICE_SHAPES = [re.compile(rf"(?:{shape})(?![A-Za-z0-9_=+/-])") for _, _, shape in SERVICE_TABLE]
_SERVICE_WORD_LENGTHS = sorted({len(word) for word in SERVICE_WORDS}, reverse=True)
_SERVICE_REST = re.compile(r"(?P<rest>[a-z0-9_. \t-]{0,30})[\"'\])]{0,3} {0,4}(?:=>|:=|[:=,])", re.IGNORECASE)


def service_value(view: str, end: int) -> tuple[str, int, int] | None:
    """The name and the span of a key that is assigned to a name with a service's word in it, which ends at ``end``."""
    before = view[max(0, end - _SERVICE_WORD_LENGTHS[0]) : end].lower()
    word = next((before[-length:] for length in _SERVICE_WORD_LENGTHS if before[-length:] in _SERVICE_WORDS), "")
    rest = _SERVICE_REST.match(view, end) if word else None
    if rest is None:
        return None
    start = end - len(word)
    if start and view[start - 1].isalpha() and not (view[start - 1].islower() and view[start].isupper()):
        return None
    if rest["rest"][:1].islower():  # another word that begins alike
        return None
    if is_about(rest["rest"]):
        return None
    name, index = _SERVICE_WORDS[word]
    sign = _BEFORE_VALUE.match(view, rest.end())
    value = _SERVICE_SHAPES[index].match(view, sign.end() if sign is not None else rest.end())
    if value is None or _is_service_sample(value[0]):
        return None
    is_mixed = any(c.isdigit() for c in value[0]) and any(c.isalpha() for c in value[0])
    if not is_mixed and ":" not in value[0]:
        return None
    return (name, *value.span()) if entropy_share(value[0]) > _SERVICE_ENTROPY_MIN else None


def _is_service_sample(value: str) -> bool:
    """As `is_sample`, without sequences: services' own examples of ids in their form are taken for keys."""
    return len(set(value)) < DISTINCT_CHARACTERS_MIN or value.endswith("EXAMPLE") or "xxxxx" in value.lower()
