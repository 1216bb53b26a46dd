"""Reversible tokens: personal data leaves as ``EMAIL_K7Q2M4XA`` and comes back in the caller's answer.

A token is a keyed hash of type and value, so the same person has the same token within a scope and another in every
other scope: nothing joins across callers. A scope is one request: the gateway makes each a `Vault` with a key of its
own, which is the only way back, and lives in memory for that request. A conversation is sent whole each time.

The invariants: a token that this vault did not make is left as it is; a token in an address (``https://...``) is never
restored, because an address is how a planted instruction would carry the value away; any cut of a stream into pieces
restores the same text as the whole.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from typing import Final

from roadbed.guard.finding import (
    ADDRESS,
    BIRTH_DATE,
    CARD,
    CRYPTO,
    CUSTOM,
    DEVICE,
    EMAIL,
    IBAN,
    IP,
    NATIONAL_ID,
    PERSON,
    PHONE,
    VEHICLE,
)

TOKEN_WORDS: Final = {
    EMAIL: "EMAIL", PHONE: "PHONE", CARD: "CARD", IBAN: "IBAN", NATIONAL_ID: "ID", IP: "IP", DEVICE: "DEVICE",
    VEHICLE: "CAR", CRYPTO: "WALLET", BIRTH_DATE: "BORN", ADDRESS: "PLACE", PERSON: "NAME", CUSTOM: "TERM",
}  # fmt: skip
VAULT_VALUES_MAX: Final = 100_000
LINE_CHARACTERS_MAX: Final = 4_096
_SHORT, _LONG = 8, 13
_WORDS = "|".join(sorted(TOKEN_WORDS.values(), key=len, reverse=True))
# Models write tokens in lower case, escape the underscore for Markdown, or put a space after it.
_TOKEN = re.compile(
    rf"(?<![A-Za-z0-9_])({_WORDS})\\?_ ?([A-Z2-7]{{{_LONG}}}|[A-Z2-7]{{{_SHORT}}})(?![A-Za-z0-9_])", re.IGNORECASE
)
_WORD_STARTS = "|".join(
    sorted({re.escape(word[:size]) for word in TOKEN_WORDS.values() for size in range(1, len(word) + 1)}, key=len)
)
_OPEN_TAIL = re.compile(
    rf"(?<![A-Za-z0-9_])(?:(?:{_WORD_STARTS})|(?:{_WORDS})\\|(?:{_WORDS})\\?_ ?[A-Z2-7]{{0,{_LONG}}})\Z", re.IGNORECASE
)
_TAIL_CHARACTERS_MAX: Final = 24
_OPEN_TAG = re.compile(r"<[A-Za-z/!][^>]*\Z")
_OPEN_LINK = re.compile(r"\]\([^)]*\Z")
_DIGITS_ONLY = re.compile(r"[^0-9+]")


def canonical(kind: str, value: str) -> str:
    """The form in which two spellings of one value are equal."""
    if kind == EMAIL:
        return value.lower()
    if kind in (PHONE, CARD):
        return _DIGITS_ONLY.sub("", value)
    return value.replace(" ", "").replace(".", "").replace("-", "").replace("/", "").upper()


def _token_of(kind: str, digest: bytes, letters: int) -> str:
    # Only the bytes that the letters say: base32 costs as much as all the rest of a token.
    return f"{TOKEN_WORDS[kind]}_{base64.b32encode(digest[: (letters + 7) // 8 * 5]).decode()[:letters]}"


class Vault:
    """The tokens of one scope. Not shared between requests; not thread-safe."""

    __slots__ = ("_key", "_tokens", "_values")

    def __init__(self, key: bytes | None = None) -> None:
        """``key`` makes the tokens; left out, a random one makes them such that no other request repeats them."""
        self._key = key if key is not None else secrets.token_bytes(32)
        self._values: dict[str, str] = {}
        self._tokens: dict[tuple[str, str], str] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Vault({len(self._values)} values)"

    def token_for(self, kind: str, value: str) -> str:
        """The token that stands for ``value``; the first spelling of a value is the one that comes back."""
        bare = canonical(kind, value)
        known = self._tokens.get((kind, bare))
        if known is not None:
            return known
        digest = hmac.digest(self._key, f"{kind}\0{bare}".encode(), hashlib.sha256)
        token = _token_of(kind, digest, _SHORT)
        if token in self._values:  # another value has it already: a chance of 5e-5 among 10,000 values
            token = _token_of(kind, digest, _LONG)
        if len(self._values) < VAULT_VALUES_MAX:
            self._values[token] = value
            self._tokens[kind, bare] = token
        return token

    def value_of(self, token: str) -> str | None:
        """The value behind a token of this vault, or ``None``."""
        return self._values.get(token)

    def restore(self, text: str) -> str:
        """``text`` with the tokens of this vault replaced by their values, save those in addresses."""
        return _restore(self, text, 0) if self._values else text


def _restore(vault: Vault, text: str, start: int) -> str:
    """``text[start:]`` restored; what stands before is only looked at."""
    parts: list[str] = []
    done = start
    for match in _TOKEN.finditer(text, start):
        value = vault.value_of(f"{match[1].upper()}_{match[2].upper()}")
        if value is None or _is_in_address(text, match.start()):
            continue
        parts.append(text[done : match.start()])
        parts.append(value)
        done = match.end()
    parts.append(text[done:])
    return "".join(parts)


def _is_in_address(text: str, offset: int) -> bool:
    """Whether the offset lies in a link, an image source or a tag: no white space since ``//``, or ``<`` still open."""
    line = text[max(text.rfind("\n", 0, offset) + 1, offset - LINE_CHARACTERS_MAX) : offset]
    if _OPEN_TAG.search(line) or _OPEN_LINK.search(line):
        return True
    word = line.rsplit(None, 1)[-1] if line and not line[-1].isspace() else ""
    return "//" in word or "www." in word.lower() or "mailto:" in word.lower()


class StreamUnmasker:
    """`Vault.restore` for text that comes in pieces: `feed` each, then `finish`.

    Holds back at most a partial token (24 characters). With ``is_permitted`` false everything passes unchanged.
    """

    __slots__ = ("_buffer", "_seen", "_vault")

    def __init__(self, vault: Vault, *, is_permitted: bool = True) -> None:
        self._vault = vault if is_permitted and len(vault) else None
        self._buffer = ""  # the current line as far as it was seen, then what is held
        self._seen = 0  # how much of the buffer was given out

    def feed(self, piece: str) -> str:
        """What can be said now that ``piece`` came."""
        if self._vault is None:
            return piece
        text = self._buffer + piece
        tail = _OPEN_TAIL.search(text, max(self._seen, len(text) - _TAIL_CHARACTERS_MAX))
        return self._give(text, tail.start() if tail is not None else len(text))

    def finish(self) -> str:
        """What was still held."""
        if self._vault is None:
            return ""
        return self._give(self._buffer, len(self._buffer))

    def _give(self, text: str, stop: int) -> str:
        assert self._vault is not None
        out = _restore(self._vault, text[:stop], self._seen)
        keep = max(text.rfind("\n", 0, stop) + 1, stop - LINE_CHARACTERS_MAX - _TAIL_CHARACTERS_MAX, 0)
        self._buffer, self._seen = text[keep:], stop - keep
        return out
