"""Console sessions: a signed cookie that stands for a key, one-time sign-in links, and tokens against forged forms.

A cookie holds a session id, the key's id and an expiry, signed; no session is stored but the end of one that somebody
signed out of (`ended_sessions`), and each request asks
`Identity` for the key again, so that revoking the key ends its sessions everywhere. One-time tokens are stored as
digests and used once, whatever the number of processes. The invariant: nothing in a cookie is believed before its
signature was checked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Final

from roadbed.guard.deployment_secrets import SESSION_SIGNING, load_deployment_secret
from roadbed.guard.ended_sessions import EndedSessions
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KeyRefused, require_scope
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import Forbidden, Unauthorized
from roadbed.kernel.principal import Principal
from roadbed.store.database import Database

SESSION_COOKIE: Final = "roadbed_session"
SESSION_S: Final = 12 * 3600
SIGN_IN_TOKEN_S: Final = 15 * 60
COOKIE_CHARACTERS_MAX: Final = 512
_TOKEN_PREFIX = "rbs_"  # noqa: S105 - the visible beginning of every one-time token


class SessionRefused(Unauthorized):
    """There is no session: the cookie is missing, expired or forged, or its key was revoked."""

    code = "auth.session_refused"
    hint = "sign in again"

    def __init__(self) -> None:
        super().__init__("you are not signed in")


class SignInTokenRefused(Unauthorized):
    """The one-time sign-in link was used already, is older than 15 minutes, or is not one of ours."""

    code = "auth.sign_in_token_refused"
    hint = "sign in with a key (roadbed keys create makes one); roadbed up prints a new link when it starts"

    def __init__(self) -> None:
        super().__init__("this sign-in link is not valid any more")


class FormTokenRefused(Forbidden):
    """A form came without the token of this session: it was sent by another site, or the session changed."""

    code = "auth.form_token_refused"
    hint = "load the page again and repeat"


class Sessions:
    """The sessions of a deployment; make it with `open`."""

    def __init__(self, database: Database, identity: Identity, signing_key: bytes, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._identity = identity
        self._key = signing_key
        self._clock = clock
        self.ended = EndedSessions(database, clock)

    @classmethod
    async def open(cls, database: Database, identity: Identity, *, clock: Clock = SYSTEM_CLOCK) -> Sessions:
        """Sessions signed with the deployment's key. `StoreUnavailable`."""
        sessions = cls(database, identity, await load_deployment_secret(database, SESSION_SIGNING), clock)
        await sessions.ended.open()
        return sessions

    def start(self, principal: Principal) -> str:
        """The value of a new session's cookie (set it HttpOnly, SameSite=Lax, Max-Age `SESSION_S`). A key that was made
        for some uses opens none: `KeyScopeMissing`.
        """
        require_scope(principal, "console")
        expires = int(self._clock.wall().timestamp()) + SESSION_S
        payload = f"1.{secrets.token_urlsafe(12)}.{expires}.{_encode(principal.id.encode())}"
        return f"{payload}.{self._sign('session', payload)}"

    def principal_of(self, cookie: str | None) -> Principal:
        """Who is signed in with this cookie. `SessionRefused`, and `IdentityNotReady` before the keys were read."""
        if not cookie or len(cookie) > COOKIE_CHARACTERS_MAX or not cookie.isascii():
            raise SessionRefused
        payload, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(signature, self._sign("session", payload)):
            raise SessionRefused
        version, _, rest = payload.partition(".")
        parts = rest.split(".")
        if version != "1" or len(parts) != 3 or int(parts[1]) <= self._clock.wall().timestamp():
            raise SessionRefused
        if cookie in self.ended:
            raise SessionRefused
        try:
            return self._identity.principal_of(_decode(parts[2]).decode(), int(parts[1]) - SESSION_S)
        except KeyRefused:
            raise SessionRefused from None

    async def end(self, cookie: str) -> None:
        """End a session whose cookie was checked: it is refused from now on, in every process."""
        await self.ended.add(cookie, int(cookie.split(".")[2]))

    def form_token(self, cookie: str) -> str:
        """The token that every form of this session carries (CSRF)."""
        return self._sign("form", cookie)

    def check_form_token(self, cookie: str, presented: str | None) -> None:
        """`FormTokenRefused` unless the form belongs to this session."""
        if not presented or not presented.isascii() or not hmac.compare_digest(presented, self.form_token(cookie)):
            raise FormTokenRefused("this form does not belong to your session")

    async def create_sign_in_token(self, key_id: str) -> str:
        """A token that signs in once as this key, within 15 minutes. `KeyRefused`, `StoreUnavailable`."""
        self._identity.principal_of(key_id)
        token = _TOKEN_PREFIX + secrets.token_urlsafe(32)
        now = self._clock.wall()
        await self._database.execute("DELETE FROM sign_in_token WHERE expires < $1", now - timedelta(days=1))
        await self._database.execute(
            "INSERT INTO sign_in_token (digest, key_id, expires) VALUES ($1, $2, $3)",
            *(hashlib.sha256(token.encode()).digest(), key_id, now + timedelta(seconds=SIGN_IN_TOKEN_S)),
        )
        return token

    async def redeem(self, token: str) -> str:
        """Use a one-time token: the cookie of a new session. `SignInTokenRefused`, `StoreUnavailable`."""
        if not token.startswith(_TOKEN_PREFIX) or len(token) > COOKIE_CHARACTERS_MAX or not token.isascii():
            raise SignInTokenRefused
        key_id = await self._database.fetchval(
            "UPDATE sign_in_token SET used = $2 WHERE digest = $1 AND used IS NULL AND expires > $2 RETURNING key_id",
            *(hashlib.sha256(token.encode()).digest(), self._clock.wall()),
        )
        if key_id is None:
            raise SignInTokenRefused
        try:
            return self.start(self._identity.principal_of(key_id))
        except KeyRefused:
            raise SignInTokenRefused from None

    def _sign(self, purpose: str, text: str) -> str:
        return _encode(hmac.digest(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise SessionRefused from None
