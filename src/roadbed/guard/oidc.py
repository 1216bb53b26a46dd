"""`Oidc`: signing in to the console through an issuer (OpenID Connect code flow, PKCE S256, RFC 9207, back-channel
logout).

Nothing is stored between leaving and coming back: state, nonce and verifier travel in a signed cookie of ten minutes,
and what came back once is kept as a digest, so that it does not come back twice.
Whose word is taken is decided by `Tokens`, which verifies. The invariants: a code is exchanged only for the browser
that asked, and an ID token counts only with the nonce of that attempt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import msgspec

from roadbed.guard.people import Claims, People
from roadbed.guard.token_manifest import SECURE_OR_LOCAL, IdentityConfig, IssuerConfig, SignInConfig
from roadbed.guard.tokens import KEYS_BYTES_MAX, Fetch, TokenRefused, Tokens, small_body
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import ConfigError, RoadbedError, Unauthorized, Unavailable
from roadbed.kernel.secrets import resolve_secret
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

ATTEMPT_S: Final = 600
ATTEMPT_CHARACTERS_MAX: Final = 3_500
CODE_CHARACTERS_MAX: Final = 4_096
GROUP_CHARACTERS_MAX: Final = 200
CLAIMED_GROUPS_MAX: Final = 1_000
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_TYPES: Final = frozenset(("", "jwt", "logout+jwt"))
LOGOUT_AGE_S: Final = 300.0

Post = Callable[[str, bytes, bytes], Awaitable[bytes]]
"""(address, form, authorization header or nothing) to the answer's body. Raises ``ValueError``, `UpstreamFailed`."""

Spend = Callable[[str, int], Awaitable[bool]]
"""(what may be used once, until when in seconds from 1970) to whether it was not used before."""


class SignInRefused(Unauthorized):
    """A sign-in through the issuer did not come back as it left: another browser, too late, or refused there."""

    code = "auth.sign_in_refused"
    hint = "begin again from the sign-in page"


class SignInAway(Unavailable):
    """The issuer that people sign in through cannot be reached, or says what cannot be understood."""

    code = "auth.sign_in_away"
    hint = "sign in with a key meanwhile; check that this machine reaches `identity.sign_in.issuer`"


class _Attempt(msgspec.Struct, frozen=True):
    """What is remembered of a browser that left for the issuer."""

    state: str
    nonce: str
    verifier: str
    destination: str
    expires: int


class _Provider(msgspec.Struct, frozen=True):
    """What the issuer's metadata says."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    authorization_response_iss_parameter_supported: bool = False


class SignInKeeper(Protocol):
    """Keeps the ID token of a person's last sign-in, for systems that want to know who asks (`credentials`)."""

    async def keep_sign_in(self, person: str, token: str, expires: float) -> None:
        """Keep it until it ends, in seconds from 1970."""
        ...

    async def forget_sign_in(self, issuer: str, subject: str) -> None:
        """Forget it."""
        ...


class Oidc:
    """Signing in through one issuer. ``address`` gives the deployment's own public address."""

    def __init__(
        self,
        people: People,
        fetch: Fetch,
        post: Post,
        key: bytes,
        address: Callable[[], str],
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._people = people
        self._fetch = fetch
        self._post = post
        self._key = key
        self._address = address
        self._clock = clock
        self._tokens = Tokens(fetch, clock=clock)
        self._config: SignInConfig | None = None
        self._folder: Path | None = None
        self._provider: _Provider | None = None
        self._kept: SignInKeeper | None = None
        self._keeps: Callable[[], bool] = lambda: False

    def keep_in(self, keeper: SignInKeeper, keeps: Callable[[], bool]) -> None:
        """Keep the ID tokens of people who sign in, while ``keeps`` says that some source has them exchanged."""
        self._kept, self._keeps = keeper, keeps

    def take(self, identity: IdentityConfig, folder: Path) -> None:
        """Go by this manifest from now on. Raises `ConfigError`."""
        config, self._folder = identity.sign_in, folder
        self._people.take(config, frozenset(issuer.issuer for issuer in identity.issuers))
        if config == self._config:
            return
        self._config, self._provider = config, None
        issuers = []
        if config is not None:
            issuers = [IssuerConfig(issuer=config.issuer, audience=config.client_id, team="people")]
        self._tokens.take(IdentityConfig(issuers=issuers))

    @property
    def is_on(self) -> bool:
        """Whether an issuer is configured."""
        return self._config is not None

    @property
    def label(self) -> str:
        """What the sign-in page calls the issuer."""
        config = self._config
        return (config.label or config.issuer.partition("://")[2]) if config is not None else ""

    @property
    def redirect(self) -> str:
        """Where the issuer sends people back to; it must be registered there exactly so."""
        return f"{self._address()}/console/sign-in/callback"

    async def begin(self, destination: str) -> tuple[str, str]:
        """Where to send a browser, and the cookie that it must bring back. `SignInAway`."""
        config, provider = await self._known()
        attempt = _Attempt(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(48),
            destination,
            int(self._clock.wall().timestamp()) + ATTEMPT_S,
        )
        query = {
            "response_type": "code",
            "client_id": config.client_id,
            "redirect_uri": self.redirect,
            "scope": " ".join(config.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": _encode(hashlib.sha256(attempt.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        joiner = "&" if "?" in provider.authorization_endpoint else "?"
        payload = _encode(msgspec.json.encode(attempt))
        return f"{provider.authorization_endpoint}{joiner}{urlencode(query)}", f"{payload}.{self._sign(payload)}"

    async def finish(self, query: Mapping[str, str], cookie: str, spend: Spend) -> tuple[str, str]:
        """The person who came back, and where they wanted to go. `SignInRefused`, `PersonRefused`, `SignInAway`."""
        config, provider = await self._known()
        attempt = self._attempt(cookie)
        if not hmac.compare_digest(query.get("state", "").encode(), attempt.state.encode()):
            raise SignInRefused("this sign-in was begun in another browser")
        issuer = query.get("iss")
        is_named = issuer is not None or provider.authorization_response_iss_parameter_supported
        if is_named and issuer != config.issuer:
            raise SignInRefused("the answer comes from another issuer")
        code = query.get("code", "")
        if not code or "error" in query or len(code) > CODE_CHARACTERS_MAX:
            raise SignInRefused("the issuer did not let you in")
        if not await spend(attempt.state, attempt.expires):
            raise SignInRefused("this sign-in was used before")
        claims, token = await self._exchange(config, provider, code, attempt)
        person = await self._people.sign_in(_claims(claims, config), provisioned_only=config.provisioned_only)
        await self._people.read()
        if self._kept is not None and self._keeps():
            await self._kept.keep_sign_in(person, token, float(claims["exp"]))
        return person, attempt.destination

    async def log_out(self, presented: str) -> str:
        """End the sessions of the person whom a logout token names: its subject. `TokenRefused`."""
        if self._config is None:
            raise TokenRefused
        token = presented.encode("utf-8", "replace")
        await self._tokens.prepare(token, LOGOUT_TYPES)
        claims = self._tokens.verified(token, LOGOUT_TYPES)
        events, subject, made = claims.get("events"), claims.get("sub"), claims.get("iat")
        is_logout = isinstance(events, dict) and isinstance(events.get(LOGOUT_EVENT), dict) and "nonce" not in claims
        is_fresh = isinstance(made, int | float) and self._clock.wall().timestamp() - made < LOGOUT_AGE_S
        if not is_logout or not is_fresh or not isinstance(subject, str):
            raise TokenRefused
        await self._people.end_sessions(self._config.issuer, subject)
        if self._kept is not None:
            await self._kept.forget_sign_in(self._config.issuer, subject)
        return subject

    # -- the issuer ---------------------------------------------------------------------------------------------------

    async def _known(self) -> tuple[SignInConfig, _Provider]:
        config = self._config
        if config is None:
            raise SignInRefused("nobody signs in here through an issuer")
        if self._provider is None:
            address = config.issuer.rstrip("/") + "/.well-known/openid-configuration"
            try:
                provider = msgspec.json.decode(await self._fetch(address), type=_Provider)
            except (UpstreamFailed, RoadbedError, ValueError) as error:
                raise SignInAway(f"the metadata of {config.issuer} cannot be read ({type(error).__name__})") from None
            addresses = provider.authorization_endpoint, provider.token_endpoint
            if provider.issuer != config.issuer or not all(re.match(SECURE_OR_LOCAL, one) for one in addresses):
                raise SignInAway(f"the metadata of {config.issuer} names another issuer, or addresses without TLS")
            self._provider = provider
        return config, self._provider

    async def _exchange(
        self, config: SignInConfig, provider: _Provider, code: str, attempt: _Attempt
    ) -> tuple[Mapping[str, Any], str]:
        """The verified claims of the ID token that a code stands for, and the token."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "client_id": config.client_id,
            "code_verifier": attempt.verifier,
        }
        if config.client_secret:
            try:
                form["client_secret"] = resolve_secret(config.client_secret, base=self._folder).reveal()
            except ConfigError as error:
                raise SignInAway(f"the client's secret cannot be read: {error.message}") from None
        try:
            found = msgspec.json.decode(await self._post(provider.token_endpoint, urlencode(form).encode(), b""))
        except UpstreamFailed:
            raise SignInAway(f"{config.issuer} does not answer") from None
        except ValueError:
            raise SignInRefused("the issuer did not take the code") from None
        token = found.get("id_token") if isinstance(found, dict) else None
        if not isinstance(token, str):
            raise SignInRefused("the issuer gave no ID token")
        presented = token.encode("utf-8", "replace")
        await self._tokens.prepare(presented)
        try:
            claims = self._tokens.verified(presented)
        except TokenRefused:
            raise SignInRefused("the issuer's ID token is not valid here") from None
        audience, party = claims.get("aud"), claims.get("azp")
        is_ours = party in (None, config.client_id) and (not isinstance(audience, list) or len(audience) == 1 or party)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()) or not is_ours:
            raise SignInRefused("the issuer's ID token was made for another sign-in")
        return claims, token

    # -- the cookie ---------------------------------------------------------------------------------------------------

    def _attempt(self, cookie: str) -> _Attempt:
        payload, _, signature = cookie[:ATTEMPT_CHARACTERS_MAX].rpartition(".")
        if not cookie.isascii() or not hmac.compare_digest(signature, self._sign(payload)):
            raise SignInRefused("this sign-in was begun in another browser")
        attempt = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=_Attempt)
        if attempt.expires <= self._clock.wall().timestamp():
            raise SignInRefused("this sign-in took too long")
        return attempt

    def _sign(self, payload: str) -> str:
        return _encode(hmac.digest(self._key, f"oidc\0{payload}".encode(), hashlib.sha256))


def poster(client: UpstreamClient) -> Post:
    """Posts forms through the deployment's HTTP client."""

    async def post(address: str, form: bytes, authorization: bytes) -> bytes:
        headers = [(b"accept", b"application/json"), (b"content-type", b"application/x-www-form-urlencoded")]
        if authorization:
            headers.append((b"authorization", authorization))
        request = UpstreamRequest(
            b"POST", parse_url(address), tuple(headers), form, credential_class="sign-in",
            response_bytes_max=KEYS_BYTES_MAX,
        )  # fmt: skip
        return await small_body(client, request)

    return post


def _claims(claims: Mapping[str, Any], config: SignInConfig) -> Claims:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255:
        raise SignInRefused("the issuer's ID token names nobody")
    given = claims.get(config.groups_claim)
    groups = [one[:GROUP_CHARACTERS_MAX] for one in given if isinstance(one, str)] if isinstance(given, list) else []
    team = claims.get(config.team_claim) if config.team_claim else ""
    name = next((claims[n] for n in ("preferred_username", "email") if isinstance(claims.get(n), str)), subject)
    shown = claims.get("name")
    linked = claims.get(config.link_claim)
    return Claims(
        issuer=config.issuer,
        subject=subject,
        user_name=str(name)[:200],
        display_name=shown[:200] if isinstance(shown, str) and shown.isprintable() else "",
        external_id=linked if isinstance(linked, str) else "",
        team=team[:63] if isinstance(team, str) else "",
        groups=frozenset(groups[:CLAIMED_GROUPS_MAX]),
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
