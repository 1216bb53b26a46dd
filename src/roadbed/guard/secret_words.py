"""The words that say that a secret follows, in names of settings and in the languages of the world.

Tables and one function, read by `guard.patterns` for the triggers and by the readers. Words are regular expressions of
lower case on the folded view (`guard.fold`), so that ``contraseña`` is written ``contrasena`` here.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from roadbed.guard.fold import OPAQUES, fold

_FOREIGN = (
    "passwort", "kennwort", "wachtwoord", "losenord", "passord", "adgangskode", "kodeord", "haslo", "salasana",
    "sifre", "sifresi", "parola", "parole", "heslo", "jelszo", "lozinka", "geslo", "parool", "slaptazodis", "senha",
    "contrasena", "motdepasse", "mdp",
)  # fmt: skip
_OTHER_SCRIPTS = [
    fold(form).text for word in ("пароль", "パスワード", "비밀번호") for form in dict.fromkeys((word, word.title()))
]
PASSWORD_WORDS: Final = (
    "password", "passwd", "passphrase", "pwd", *_FOREIGN, "mot de passe", "kata sandi", "mat khau",
    *map(re.escape, _OTHER_SCRIPTS),
)  # fmt: skip
"""What says password alone, wherever it stands."""

WEAK_WORDS: Final = ("pass", "pw")
"""What says it as a part of a name, or beside a user's name."""

KEY_WORDS: Final = (
    "authorization", "secret", "token", "credential",
    *(
        f"{kind}[_. -]?key"
        for kind in (
            *("api", "access", "account", "private", "encryption", "decryption", "validation", "signing", "client"),
            *("auth", "master", "license", "service", "subscription", "shared", "storage", "session", "deploy", "app"),
            *("application", "consumer", "functions", "hmac", "jwt", "admin", "write", "server", "webhook"),
        )
    ),
)  # fmt: skip

CONTEXT_WORDS: Final = (*KEY_WORDS, *PASSWORD_WORDS, *WEAK_WORDS)


def _by_first_letter(words: Sequence[str]) -> str:
    """The words as one expression, in their order, in which a place is given up at its first letter."""
    groups: dict[str, list[str]] = {}
    for word in words:
        groups.setdefault(word[0], []).append(word[1:])
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in groups.items())


_REST: Final = r"[a-z0-9_.-]{0,20}"
_SIGN: Final = r"[\"'\])]{0,3}(?: value)? {0,4}[:=>]"
_APART: Final = r"[\"']?(?:,[ \t]{0,2}|[ \t]{0,2}\{)?[ \t]{0,2}\r?\n?[ \t]{0,24}[\"']?(?:value|default)[\"']? {0,4}[:=]"
SIGN: Final = _REST + _SIGN
"""From a word to the sign after the name that it is a part of."""

_WORD = rf"(?P<word>{_by_first_letter(CONTEXT_WORDS)})(?P<rest>{_REST})"
_KEY, _KEY_APART = re.compile(_WORD + _SIGN), re.compile(_WORD + _APART)
_ORDINARY_REST = re.compile(
    r"type|id|count|limit|name|url|uri|path|file|expir|length|size|header|version|hint|policy|reset|field|endpoint|ttl"
    r"|format|usage|s?max|min|budget|per|class|mode|scope|ref|arn|manager|store|_at|label|help|prompt"
    r"|hash|algo|digest|sha[0-9]|md5|checksum|fingerprint|public|strength|valid|pattern|provider|generator|salt|role|colou?r|required|missing",
    re.IGNORECASE,
)
_TELLING_REST = re.compile(r"key|secret|token|passw|auth|cred|access|client", re.IGNORECASE)
_DIGEST_REST = re.compile(r"sha-?[0-9]|md5|digest|checksum|commit|revision|etag|fingerprint|hash", re.IGNORECASE)
_OF_NO_SECRET = tuple(
    word + sign
    for word in (
        *("authenticity", "csrf", "xsrf", "pubkey", "pub_key", "pub-key", "publickey", "public_key", "public-key"),
        *("public", "dummy", "fake", "mock"),
    )
    for sign in ("", "_", "-")
)
_OF_NO_SECRET_CHARACTERS: Final = max(map(len, _OF_NO_SECRET))
# What is written in one with the word after it, as in ``PGPASSWORD`` and ``authtoken``.
_COMPOUND = re.compile(
    r"(?<![a-z])(?:pg|db|my|ssh|smtp|imap|ftp|user|admin|root|client|app|api|auth|access|bot|refresh|session|bearer|deploy"
    r"|push|web|ldap|mail|mysql|redis|mongo|postgres|mariadb|rabbitmq|new|old|login|account|service|master|key|trust"
    r"|keystore|truststore|vault|sudo|become|proxy|wifi|shared|consumer|oauth|clear|plain|text|cleartext|bind|cert)\Z",
    re.IGNORECASE,
)
_NAME_CHARACTERS = string.ascii_lowercase + string.digits + "_.-" + OPAQUES
_ENDS_OF_SPACED = ("key", "passe", "sandi", "khau")  # api key, mot de passe
_SPACED_CHARACTERS_MAX = 16
_USER_NEAR = re.compile(r"user|login|e-?mail|account|host", re.IGNORECASE)
_USER_NEAR_CHARACTERS = 60
_KEY_CHARACTERS_MAX = 64
_APART_CHARACTERS_MAX = 120


_KEYS = re.compile("|".join(KEY_WORDS))


@lru_cache(512)
def is_of_passwords(word: str) -> bool:
    """Whether a word of a key says password, for which short values of two kinds of character are enough."""
    return _KEYS.fullmatch(word) is None


def secret_key_before(view: str, end: int, *, is_apart: bool = False) -> str | None:
    """The telling word of the key that ends with the sign at ``end - 1``, or ``None`` when it tells nothing.

    The word must be a part of a name (``api_token``, ``accessToken``), not of another word (``tokenizer``), and the
    name must not say that the value is about a secret (``token_type``).
    """
    begin = max(0, end - (_APART_CHARACTERS_MAX if is_apart else _KEY_CHARACTERS_MAX))
    window = view[begin:end].lower()
    first = 0 if is_apart else _name_start(window)
    for match in (_KEY_APART if is_apart else _KEY).finditer(window, first):
        if match.end() != end - begin:
            continue
        start, stop = begin + match.start("word"), begin + match.end("word")
        word = match["word"]
        if not begins_name(view, start, word):
            continue
        if view[max(0, start - _OF_NO_SECRET_CHARACTERS) : start].lower().endswith(_OF_NO_SECRET):
            continue
        rest = view[stop : begin + match.end("rest")]
        rest = rest[1:] if rest[:1] in ("s", "S") else rest
        if rest[:1].isalpha() and not (rest[0].isupper() and view[stop - 1].islower()):
            continue
        if not _ORDINARY_REST.search(rest):
            return word
    return None


def _name_start(window: str) -> int:
    """Where the name before the sign at the end of ``window`` begins, with the words before it that belong to it."""
    body = window[:-1].rstrip(" ").rstrip("\"'])")
    start = len(body.rstrip(_NAME_CHARACTERS))
    name = body[start:]
    if name == "value":
        return 0
    return max(0, start - _SPACED_CHARACTERS_MAX) if name.startswith(_ENDS_OF_SPACED) else start


def begins_name(view: str, start: int, word: str) -> bool:
    """Whether the telling word at ``start`` begins a name or a part of one."""
    before = view[start - 1] if start else " "
    if before.isalpha() and not (before.islower() and view[start].isupper()):
        return word not in WEAK_WORDS and _COMPOUND.search(view, max(0, start - 12), start) is not None
    if word in WEAK_WORDS and before not in "_-." and not before.islower():
        return _USER_NEAR.search(view, max(0, start - _USER_NEAR_CHARACTERS), start) is not None
    return True


def is_about(rest: str) -> bool:
    """Whether the rest of a name with a service's word in it says that the value is no key."""
    if _DIGEST_REST.search(rest):
        return True
    return _ORDINARY_REST.search(rest) is not None and _TELLING_REST.search(rest) is None
