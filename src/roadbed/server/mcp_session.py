"""Session ids of the older MCP versions: what a client said when it opened, sealed for it, so that no process keeps it.

A session id is a payload and a MAC (HMAC-SHA-256) over it and the principal. It says what the client can do and gives a
name to what belongs together (what it follows, which call it cancels); it is no credential: every request is admitted
by its key or token. The invariant: `Sessions.opened` returns nothing that `Sessions.sealed` did not make for the same
principal.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from roadbed.kernel.principal import Principal

SESSION_S = 24 * 3_600
SESSION_CHARACTERS_MAX = 512
NAME_BYTES = 16
_MAC_BYTES = 16
_MODES = ("form", "url")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """What is known of an older client: ``name`` tells it from others; ``asks`` are the ways to ask its user."""

    name: str
    opened_s: int
    asks: tuple[str, ...] = ()
    can_sample: bool = False

    def capabilities(self) -> dict[str, Any]:
        """As the client would say it today."""
        found: dict[str, Any] = {}
        if self.asks:
            found["elicitation"] = {mode: {} for mode in self.asks}
        return found | ({"sampling": {}} if self.can_sample else {})


def session_of(capabilities: Any, now_s: float) -> Session:
    """A new session for what a client declares in ``initialize``. ``elicitation: {}`` means forms."""
    given = capabilities if isinstance(capabilities, Mapping) else {}
    elicitation = given.get("elicitation")
    asks: tuple[str, ...] = ()
    if isinstance(elicitation, Mapping):
        asks = tuple(mode for mode in _MODES if mode in elicitation) or ("form",)
    return Session(secrets.token_hex(NAME_BYTES), int(now_s), asks, isinstance(given.get("sampling"), Mapping))


def principal_key(principal: Principal) -> str:
    """One name for a principal, as what is asked and followed is bound to it; a digest that names nobody."""
    return hashlib.sha256(_bytes_of(principal)).hexdigest()[:32]


def _bytes_of(principal: Principal) -> bytes:
    return msgspec.msgpack.encode((principal.team, principal.id))


class Sessions:
    """Seals and opens session ids with one key, which all processes of a deployment share."""

    def __init__(self, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def opening(self, capabilities: Any) -> Session:
        """A session that begins now."""
        return session_of(capabilities, self._clock())

    def sealed(self, session: Session, principal: Principal) -> str:
        """The session's id."""
        body = msgspec.msgpack.encode(session)
        return base64.urlsafe_b64encode(self._mac(body, principal) + body).decode().rstrip("=")

    def opened(self, sealed: bytes, principal: Principal) -> Session | None:
        """The session of an id; None when it is none of this principal, or too old."""
        if len(sealed) > SESSION_CHARACTERS_MAX:
            return None
        try:
            raw = base64.b64decode(sealed + b"=" * (-len(sealed) % 4), b"-_", validate=True)
            mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(body, principal)):
                return None
            session = msgspec.msgpack.decode(body, type=Session)
        except (ValueError, msgspec.DecodeError):
            return None
        return session if session.opened_s + SESSION_S > self._clock() else None

    def _mac(self, body: bytes, principal: Principal) -> bytes:
        bound = b"mcp-session" + _bytes_of(principal) + body
        return hmac.new(self._key, bound, hashlib.sha256).digest()[:_MAC_BYTES]
