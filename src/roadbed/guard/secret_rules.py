"""What secrets look like, in three tiers: exact prefixes, structure, and a telling word beside a value of high entropy.

Tables and pure functions, read by `guard.patterns` (the triggers) and `guard.detect`. Prefix rules carry exact lengths
where the issuer fixes them; the third tier is deliberately strict, because a scanner that cries at every
``token_type=`` is switched off.
"""

from __future__ import annotations

import re
from math import log2
from typing import Final

from roadbed.guard.secret_table import PREFIX_TABLE, SERVICE_TABLE

PEM_CHARACTERS_MAX: Final = 12_000
PEM_BODY_CHARACTERS_MIN: Final = 60  # the shortest, of Ed25519, has 64
DISTINCT_CHARACTERS_MIN: Final = 5
VALUE_CHARACTERS_MIN: Final = 10
PASSWORD_CHARACTERS_MIN: Final = 6
_SERVICE_ENTROPY_MIN = 0.5
_ENTROPY_MIN = 0.72  # of the most that the value's length allows

_END = r"(?![A-Za-z0-9])"

PREFIX_RULES: Final[tuple[tuple[str, str, re.Pattern[str]], ...]] = tuple(
    sorted(
        (
            (prefix, name, re.compile(f"{re.escape(prefix)}(?:{rest}){_END}"))
            for name, prefixes, rest in PREFIX_TABLE
            for prefix in prefixes
        ),
        key=lambda rule: -len(rule[0]),
    )
)
PREFIXES: Final = tuple(sorted({prefix for prefix, _, _ in PREFIX_RULES}))

CONTEXT_WORDS: Final = (
    "authorization", "secret", "token", "passwd", "password", "passwort", "passphrase", "pwd", "credential", "apikey",
    "api[_. -]?key", "access[_. -]?key", "account[_. -]?key", "private[_. -]?key", "encryption[_. -]?key",
    "signing[_. -]?key", "client[_. -]?key", "auth[_. -]?key", "master[_. -]?key", "license[_. -]?key",
    "service[_. -]?key",
)  # fmt: skip
_KEY = re.compile(
    r"(?P<word>" + "|".join(CONTEXT_WORDS) + r")(?P<rest>[a-z0-9_.-]{0,20})[\"'\])]{0,3}(?: value)? {0,4}[:=>]"
)  # of lower case
_ORDINARY_REST = re.compile(
    r"type|id|count|limit|name|url|uri|path|file|expir|length|size|header|version|hint|policy|reset|field|endpoint|ttl"
    r"|format|usage|s?max|min|budget|per|class|mode|scope|ref|arn|manager|store|_at|label|help|prompt",
    re.IGNORECASE,
)
_TELLING_REST = re.compile(r"key|secret|token|passw|auth|cred|access|client", re.IGNORECASE)
_OF_A_FORM = re.compile(r"(?:authenticity|csrf|xsrf)[_-]?\Z", re.IGNORECASE)  # good for one page, for one session
_KEY_CHARACTERS_MAX = 52
_BEFORE_VALUE = re.compile(r"[=>]?[ \t]{0,4}[\"'`]?")
CONTEXT_VALUE: Final = re.compile(
    r"[=>]?[ \t]{0,4}[\"'`]?(?:(?:[Tt]oken|[Aa]pi[Kk]ey|[Kk]ey) {1,2})?"
    r"(?P<value>[^\s\"'`<>,;&|(){}\[\]]{6,200})(?![^\s\"'`<>,;&|(){}\[\]])"
)
PEM_BLOCK: Final = re.compile(r"-----BEGIN (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----")
URL_USER: Final = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{1,20}://[^\s/?#@:\"'<>]{0,100}:(?P<value>[^\s/?#@\"'<>]{3,200})\Z", re.IGNORECASE
)
USER_OPTION_VALUE: Final = re.compile(r"(?<=['\"])[^'\"\s]{3,200}|[^\s\"'`<>|;&]{3,200}")
BEARER_VALUE: Final = re.compile(r"(?:bearer|basic) {1,3}(?P<value>[a-z0-9._~+/-]{16,4000}={0,2})", re.IGNORECASE)

_PLACEHOLDERS = (
    "xxxx", "***", "...", "redacted", "placeholder", "example", "changeme", "change_me", "your", "dummy", "sample",
    "testkey", "test_key", "1234567", "abcdef", "undefined", "null", "none", "true", "false", "process.env",
    "os.environ", "getenv", "${", "$(", "%(", "{{", "env:", "file:", "vault:", "secret:",
)  # fmt: skip
_IN_BRACKETS = re.compile(r"<[a-z]")
_SERVICE_WORDS = {word: (name, index) for index, (name, words, _) in enumerate(SERVICE_TABLE) for word in words.split()}
SERVICE_WORDS: Final = tuple(sorted(_SERVICE_WORDS, key=len, reverse=True))
_SERVICE_SHAPES = [re.compile(rf"(?:{shape})(?![A-Za-z0-9_=+/-])") for _, _, shape in SERVICE_TABLE]
_SERVICE_WORD = re.compile("(?:" + "|".join(SERVICE_WORDS) + r")\Z", re.IGNORECASE)
_SERVICE_WORD_CHARACTERS_MAX = max(map(len, SERVICE_WORDS))
_SERVICE_REST = re.compile(r"(?P<rest>[a-z0-9_. \t-]{0,30})[\"'\])]{0,3} {0,4}(?:=>|:=|[:=,])", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_UUID_CHARACTERS = 36
_OWN_TOKEN = re.compile(r"[A-Z]{2,6}_[A-Z2-7]{8}(?:[A-Z2-7]{5})?")
_PATH = re.compile(r"(?:\.{0,2}/|[A-Za-z]:\\|https?:|[a-z]+://)")
_IDENTIFIER = re.compile(r"[A-Za-z_]+(?:[._-][A-Za-z_]+|[A-Z][a-z]+)*[0-9]?\Z")
# ``prod-db-secret-1``: words and small numbers, which name something.
_NAME = re.compile(r"(?:[A-Za-z]{2,12}|[vV]?[0-9]{1,4})(?:[-_.:/](?:[A-Za-z]{2,12}|[vV]?[0-9]{1,4})){1,12}\Z")
_HEX = re.compile(r"[0-9a-f]+\Z", re.IGNORECASE)
_LOWER, _UPPER, _DIGIT = re.compile("[a-z]"), re.compile("[A-Z]"), re.compile("[0-9]")


_WEIGHTS = (0.0, *[count * log2(count) for count in range(1, 256)])


def entropy_share(value: str) -> float:
    """Shannon entropy of the characters, as a share of the most that a text of this length can have."""
    length = len(value)
    if length < 2:
        return 0.0
    weights, counts = _WEIGHTS, map(value.count, dict.fromkeys(value))
    parts = [weights[count] if count < 256 else count * log2(count) for count in counts if count > 1]
    return (log2(length) - sum(parts) / length) / log2(min(length, 64))


def character_classes(value: str) -> int:
    """How many of lower case, upper case, digits and other characters occur."""
    return (
        (_LOWER.search(value) is not None)
        + (_UPPER.search(value) is not None)
        + (_DIGIT.search(value) is not None)
        + (not value.isalnum() and value != "")
    )


def is_placeholder(value: str) -> bool:
    """Whether the value visibly stands for a secret (``${TOKEN}``, ``your-key``, ``xxxx``) or is one of our tokens."""
    lowered = value.lower()
    for word in _PLACEHOLDERS:
        if word in lowered:
            return True
    return (
        lowered.endswith("..")
        or ("<" in lowered and _IN_BRACKETS.search(lowered) is not None)
        or len(set(value)) < 4
        or _OWN_TOKEN.fullmatch(value) is not None
    )


def secret_key_before(view: str, end: int) -> str | None:
    """The telling word of the key that ends with the sign at ``end - 1``, or ``None`` when it tells nothing.

    The word must be a part of a name (``api_token``, ``accessToken``), not of another word (``tokenizer``), and the
    name must not say that the value is about a secret (``token_type``).
    """
    begin = max(0, end - _KEY_CHARACTERS_MAX)
    for match in _KEY.finditer(view[begin:end].lower()):
        if match.end() != end - begin:
            continue
        start, stop = begin + match.start("word"), begin + match.end("word")
        if start and view[start - 1].isalpha() and not (view[start - 1].islower() and view[start].isupper()):
            continue
        if _OF_A_FORM.search(view, max(0, start - 16), start):
            continue
        rest = view[stop : begin + match.end("rest")]
        rest = rest[1:] if rest[:1] in ("s", "S") else rest
        if rest[:1].isalpha() and not (rest[0].isupper() and view[stop - 1].islower()):
            continue
        if not _ORDINARY_REST.search(rest):
            return match["word"]
    return None


def is_sample(value: str, prefix: str = "") -> bool:
    """Whether a value with an issuer's prefix is one of the issuers' documentation."""
    few = len(set(value[len(prefix) :])) < DISTINCT_CHARACTERS_MIN
    return few or value.endswith("EXAMPLE") or "xxxxx" in value.lower()


def is_likely_secret(key: str, value: str) -> bool:
    """The third tier: whether ``value``, assigned to something named ``key``, is a secret and no ordinary value."""
    if is_placeholder(value) or _PATH.match(value):
        return False
    if key.startswith(("pass", "pwd")):
        is_word = _IDENTIFIER.match(value) is not None and _DIGIT.search(value) is None
        return (
            len(value) >= PASSWORD_CHARACTERS_MIN
            and character_classes(value) >= 2
            and not value.isdigit()
            and not is_word
        )
    if len(value) < VALUE_CHARACTERS_MIN or _IDENTIFIER.match(value) or _NAME.match(value):
        return False
    if len(value) == _UUID_CHARACTERS and _UUID.fullmatch(value):
        return True
    if _HEX.match(value):
        return len(value) >= 16 and not value.isdigit() and entropy_share(value) > 0.5
    return _DIGIT.search(value) is not None and character_classes(value) >= 2 and entropy_share(value) >= _ENTROPY_MIN


def service_value(view: str, end: int) -> tuple[str, int, int] | None:
    """The name and the span of a key that is assigned to a name with a service's word in it, which ends at ``end``."""
    word = _SERVICE_WORD.search(view, max(0, end - _SERVICE_WORD_CHARACTERS_MAX), end)
    rest = _SERVICE_REST.match(view, end) if word is not None else None
    if word is None or rest is None:
        return None
    start = word.start()
    if start and view[start - 1].isalpha() and not (view[start - 1].islower() and view[start].isupper()):
        return None
    if rest["rest"][:1].islower():  # another word that begins alike
        return None
    if _ORDINARY_REST.search(rest["rest"]) and not _TELLING_REST.search(rest["rest"]):
        return None
    name, index = _SERVICE_WORDS[word[0].lower()]
    before = _BEFORE_VALUE.match(view, rest.end())
    value = _SERVICE_SHAPES[index].match(view, before.end() if before is not None else rest.end())
    if value is None or is_sample(value[0]):
        return None
    is_mixed = any(c.isdigit() for c in value[0]) and any(c.isalpha() for c in value[0])
    if not is_mixed and ":" not in value[0]:
        return None
    return (name, *value.span()) if entropy_share(value[0]) > _SERVICE_ENTROPY_MIN else None
