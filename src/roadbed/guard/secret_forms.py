"""Readers of the further ways to hand a secret over: options of commands, prose, pairs, calls, headers, old formats.

Called by `guard.detect` at a trigger of `guard.patterns`, with where it ended. What a telling word is, says
`guard.secret_words`; what a value must look like, `guard.secret_values`. Each looks no further back than
`stream_mask.BEHIND_CHARACTERS`, so that streams are masked as wholes are.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from roadbed.guard.finding import SECRET, Finding
from roadbed.guard.secret_rules import CONTEXT_VALUE, VALUE_CHARACTERS_MAX
from roadbed.guard.secret_values import entropy_share, is_key, is_password, is_placeholder, is_said_password
from roadbed.guard.secret_words import (
    KEY_WORDS,
    PASSWORD_WORDS,
    WEAK_WORDS,
    is_of_passwords,
    secret_key_before,
)

_VALUE = rf"(?P<value>[^\s\"'`<>,;|(){{}}\[\]]{{6,{VALUE_CHARACTERS_MAX}}}+)(?![^\s\"'`<>,;|(){{}}\[\]])"
_ENDING = ".:\\"
_ESCAPED_LINES = ("\\n", "\\r")

# Triggers begin or end with what is rare: a common word at an end (``is``) has Hyperscan look back at each of it.
SAID: Final = r"(?:" + "|".join(PASSWORD_WORDS) + r")[\"']? "
OPTION: Final = (
    r"(?:^|[ \t\r\n])--?[a-z0-9-]{0,24}(?:"
    + "|".join((*KEY_WORDS, *PASSWORD_WORDS[:4], "pass"))
    + r")[ \t]{1,3}[^ \t-]"
)
STATED: Final = (
    r"(?:set password(?: for [^ =]{1,60})? ?=|(?:env|arg|setx?|export) [a-z0-9_]{0,30}(?:"
    + "|".join((*KEY_WORDS, *PASSWORD_WORDS[:4], *WEAK_WORDS))
    + r")"
    r"|login [^ \t\r\n]{1,60}[ \t\r\n]{1,3}password|identified by|with(?: encrypted)? password"
    r"|convertto-securestring(?: -string)?)[ \t]{1,3}"
)
CALLED: Final = r"\([\"'][A-Za-z0-9_.-]{2,40}[\"'], {0,2}[\"']"
QUERIED: Final = r"[?&](?:sig|key|code)="
COMMANDED: Final = (
    r"(?:sshpass -p ?|(?:docker|podman|registry|az) login [^\n|;]{0,80}-p[ =]|redis-cli [^\n|;]{0,80}-a "
    r"|mysql(?:dump|admin|import)? (?:[^\n|;]{0,80} )?-p)[^ \t\r\n]"
)
JWK: Final = r"\"d\" {0,2}: {0,2}\"[A-Za-z0-9_-]{40}"
CODED_USER: Final = r"[\"_]auth\"? {0,2}[:=] {0,2}\"?[A-Za-z0-9+/]{8}"
COOKIE: Final = r"(?:phpsessid|jsessionid|sessionid|connect\.sid|asp\.net_sessionid|_session)="
KUBERNETES: Final = r"kind[\"']?: {1,3}[\"']?Secret[\"']?[\r\n,]"
PUTTY: Final = r"Private-Lines: [0-9]{1,3}\r?\n"
PAIRED: Final = r"(?:value|default)[\"']? {0,4}[:=]"
PUTTY_LINES_MAX: Final = 120
KUBERNETES_CHARACTERS_MAX: Final = 300

_SAID_VERB = re.compile(r"(?:is|lautet|ist|est|es|e|era|was)[ :]", re.IGNORECASE)
_BETWEEN = re.compile(r"(?:[a-z ]{1,40} )?", re.IGNORECASE)
_SAID_CHARACTERS_MAX = 48
_SAID_VALUE = re.compile(rf"(?: ?(?:now|set to|currently|:))? {{0,2}}[\"'`]?{_VALUE}")
_PLAIN_VALUE = re.compile(rf"[\"']?{_VALUE}")
_CALL_NAME = re.compile(r"\([\"'](?P<name>[A-Za-z0-9_.-]{2,40})[\"'], {0,2}(?P<quote>[\"'])\Z")
_LAST_WORD = re.compile(r"(?P<word>[A-Za-z]+)[ \t]{1,3}\Z")
_QUERY_VALUE = re.compile(r"(?P<value>[A-Za-z0-9%_.~+/=-]{20,400})(?![A-Za-z0-9%_.~+/=-])")
_JWK_VALUE = re.compile(rf"(?P<value>[A-Za-z0-9_-]{{40,{VALUE_CHARACTERS_MAX}}}+)\"")
_CODED_VALUE = re.compile(rf"(?P<value>[A-Za-z0-9+/]{{8,{VALUE_CHARACTERS_MAX}}}+={{0,2}})(?![A-Za-z0-9+/=])")
_PUTTY_LINE = re.compile(r"[A-Za-z0-9+/]{1,80}={0,2}(?:\r?\n|\Z)")
_KUBERNETES_DATA = re.compile(r"\b(?:data|stringData)[\"']?:[ {]{0,4}\r?\n?")
_KUBERNETES_VALUE = re.compile(
    r"[\"']?[A-Za-z0-9._-]{1,80}[\"']?: {1,3}[\"']?(?P<value>[A-Za-z0-9+/]{8,4000}={0,2})(?=[\s\"',}]|\Z)"
)
_QUERY_ENTROPY_MIN = 0.72


def without_ending(view: str, start: int, stop: int) -> int:
    """Where a value that was read up to ``stop`` ends: stops, colons and an escaped end of the line are not its own."""
    if view.endswith(_ESCAPED_LINES, start, stop):
        stop -= len(_ESCAPED_LINES[0])
    while stop > start and view[stop - 1] in _ENDING:
        stop -= 1
    return stop


def _trimmed(view: str, start: int, stop: int) -> tuple[int, int]:
    return start, without_ending(view, start, stop)


def said_password(view: str, end: int) -> Iterator[Finding]:
    """``the password for the portal is: Sommer2024!``; the blank after ``password`` ends at ``end``."""
    for verb in _SAID_VERB.finditer(view, end, end + _SAID_CHARACTERS_MAX):
        if _BETWEEN.fullmatch(view, end, verb.start()) is None:
            continue
        match = _SAID_VALUE.match(view, verb.end())
        if match is not None:
            start, stop = _trimmed(view, *match.span("value"))
            if is_said_password(view[start:stop]):
                yield Finding(SECRET, start, stop, "said_password", 0.7, True)


def option_value(view: str, end: int) -> Iterator[Finding]:
    """``--api-key VALUE``; the value's first character ends at ``end``."""
    yield from _stated(view, end - 1, "option_secret")


def stated_value(view: str, end: int) -> Iterator[Finding]:
    """``ENV DB_PASSWORD VALUE``, ``IDENTIFIED BY 'VALUE'``, a ``.netrc``; the value begins at ``end``."""
    if view[end : end + 1] not in (" ", "\t"):
        yield from _stated(view, end, "stated_secret")


def _stated(view: str, start: int, rule: str) -> Iterator[Finding]:
    match = _PLAIN_VALUE.match(view, start)
    if match is None:
        return
    before = view[max(0, start - 40) : start].rstrip(" \t=").lower()
    is_of_keys = before.endswith(("key", "secret", "token", "credential", "credentials"))
    if view.startswith("..", match.end() - 2):  # said to be cut short
        return
    first, stop = _trimmed(view, *match.span("value"))
    value = view[first:stop]
    if is_key(value) if is_of_keys else is_password(value) and any(map(str.isalpha, value)):
        yield Finding(SECRET, first, stop, rule, 0.75, True)


def called_value(view: str, end: int) -> Iterator[Finding]:
    """``define('DB_PASSWORD', 'VALUE')``; the value's quote ends at ``end``."""
    call = _CALL_NAME.search(view, max(0, end - 50), end)
    if call is None:
        return
    key = secret_key_before(call["name"] + "=", len(call["name"]) + 1)
    stop = view.find(call["quote"], end, end + VALUE_CHARACTERS_MAX)
    if key is None or stop < 0:
        return
    value = view[end:stop]
    if is_password(value) if is_of_passwords(key) else is_key(value):
        yield Finding(SECRET, end, stop, "called_secret", 0.72, True)


def paired_value(view: str, end: int) -> Iterator[Finding]:
    """``name: DB_PASSWORD`` with ``value: VALUE`` after it; the second sign ends at ``end``."""
    value = CONTEXT_VALUE.match(view, end)
    key = secret_key_before(view, end, is_apart=True) if value is not None else None
    if value is None or key is None:
        return
    start, stop = _trimmed(view, *value.span("value"))
    if is_password(view[start:stop]) if is_of_passwords(key) else is_key(view[start:stop]):
        yield Finding(SECRET, start, stop, "paired_secret", 0.65, True)


def queried_value(view: str, end: int) -> Iterator[Finding]:
    """A signature or key in an address: ``?sig=VALUE``."""
    match = _QUERY_VALUE.match(view, end)
    if match is not None and is_key(match["value"]) and entropy_share(match["value"]) >= _QUERY_ENTROPY_MIN:
        yield Finding(SECRET, *match.span("value"), "queried_secret", 0.75, True)


def commanded_value(view: str, end: int) -> Iterator[Finding]:
    """``sshpass -p VALUE``, ``mysql -pVALUE``; the value's first character ends at ``end``."""
    match = _PLAIN_VALUE.match(view, end - 1)
    if match is not None and any(map(str.isdigit, match["value"])) and is_password(match["value"]):
        yield Finding(SECRET, *match.span("value"), "option_password", 0.75, True)


def private_jwk(view: str, end: int) -> Iterator[Finding]:
    """The private part of a key in JSON, whose first forty characters end at ``end``."""
    match = _JWK_VALUE.match(view, end - 40)
    if match is not None and entropy_share(match["value"]) >= _QUERY_ENTROPY_MIN:
        yield Finding(SECRET, *match.span("value"), "private_jwk", 0.95, True)


def coded_user(view: str, end: int) -> Iterator[Finding]:
    """``"auth": "VALUE"``, the base64 of ``user:password``, whose first eight characters end at ``end``."""
    match = _CODED_VALUE.match(view, end - 8)
    if match is not None and is_coded_user(match["value"]):
        yield Finding(SECRET, *match.span("value"), "coded_user", 0.9, True)


def is_coded_user(value: str) -> bool:
    """Whether a value is the base64 of ``user:password``."""
    try:
        said = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return False
    user, sign, password = said.partition(":")
    return bool(user and sign and len(password) > 2) and said.isprintable()


def session_cookie(view: str, end: int) -> Iterator[Finding]:
    """The value of a cookie that is known to be a session's."""
    match = _QUERY_VALUE.match(view, end)
    if match is not None and is_key(match["value"]):
        yield Finding(SECRET, *match.span("value"), "session_cookie", 0.8, True)


def putty_key(view: str, end: int) -> Iterable[Finding]:
    """The private lines of a PuTTY key, which begin at ``end``; those that are not here yet belong to it."""
    lines = int(view[view.rfind(" ", 0, end) + 1 : end])
    stop = end
    for _ in range(min(lines, PUTTY_LINES_MAX)):
        line = _PUTTY_LINE.match(view, stop)
        if line is None:
            break
        stop = line.end()
    stop = end + len(view[end:stop].rstrip())
    return (Finding(SECRET, end, stop, "putty_key", 0.99, True),) if stop > end else ()


def kubernetes_secret(view: str, end: int) -> Iterator[Finding]:
    """The values in base64 of a manifest of kind ``Secret``, as far as its kind is near."""
    limit = end + KUBERNETES_CHARACTERS_MAX
    data = _KUBERNETES_DATA.search(view, end, limit)
    for match in _KUBERNETES_VALUE.finditer(view, data.end(), limit + VALUE_CHARACTERS_MAX) if data is not None else ():
        if match.start() > limit or view.find("---", end, match.start()) >= 0:
            return
        if len(match["value"]) % 4 == 0 and not is_placeholder(match["value"]):
            yield Finding(SECRET, *match.span("value"), "kubernetes_secret", 0.85, True)
