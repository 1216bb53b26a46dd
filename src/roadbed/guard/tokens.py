"""`Tokens`: callers who show an access token of an authorization server in place of a key (RFC 9068, RFC 8725).

A token is read against the issuer's keys, which are fetched in the background, kept in memory, and asked for again
when a token names a key that is not among them, at most once in `REFETCH_S`; while an issuer is away its last keys go
on. `authenticate` touches no network. The invariant: the algorithm comes from the manifest's list, which knows no
symmetric ones, and a token counts only where issuer, audience, times and type all fit; a refusal does not say which
did not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import re
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec

from roadbed.guard.people import token_caller_id
from roadbed.guard.token_manifest import SECURE_OR_LOCAL, IdentityConfig, IssuerConfig
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import ConfigError, Forbidden, InvalidRequest, RoadbedError, Unauthorized, Unavailable
from roadbed.kernel.principal import MEMBER, Principal
from roadbed.kernel.secrets import Secret
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

TOKEN_BYTES_MAX: Final = 16 * 1024
SKEW_S: Final = 60.0
REFETCH_S: Final = 60.0
REFRESH_S: Final = 600.0
FETCH_S: Final = 5.0
KEYS_BYTES_MAX: Final = 512 * 1024
KEYS_MAX: Final = 100
REMEMBERED_S: Final = 60.0
REMEMBERED_MAX: Final = 10_000
TYPES: Final = frozenset(("", "jwt", "at+jwt", "application/at+jwt"))
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_KEY_TYPES = frozenset(("RSA", "EC", "OKP"))

log = logging.getLogger("roadbed.guard")

Fetch = Callable[[str], Awaitable[bytes]]


class TokenRefused(Unauthorized):
    """The token is expired, meant for somebody else, or not signed by an issuer that is trusted here."""

    code = "auth.token_refused"
    hint = "get a new token for this deployment's address from an issuer listed in the manifest's `identity`"

    def __init__(self) -> None:
        super().__init__("this token is not valid here")


class ScopeMissing(Forbidden):
    """The token is valid, but was not given for what this deployment asks of its issuer's tokens."""

    code = "auth.insufficient_scope"
    hint = "ask the issuer for a token with every scope that the message names"

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(f"the token needs the scopes {' '.join(scopes)}")
        self.scopes = scopes


class TokenInQuery(InvalidRequest):
    """A token stands in the address, where logs and histories keep it."""

    code = "auth.token_in_query"
    hint = "send it as `Authorization: Bearer`, and have the issuer revoke this one"


class IssuerAway(Unavailable):
    """The issuer's keys could not be read since the start, so that none of its tokens can be judged."""

    code = "auth.issuer_away"
    hint = "check that this machine reaches the issuer; `identity.issuers[].jwks_uri` names its keys"


class TokenReader(Protocol):
    """What `Identity` asks about a credential that looks like a token."""

    def is_token(self, presented: bytes) -> bool:
        """Whether it is for this reader to judge."""

    def authenticate(self, presented: bytes) -> Principal:
        """The caller. Raises `TokenRefused`, `ScopeMissing`, `IssuerAway`."""


class _Issuer:
    """An issuer and its keys by id. ``tried_s`` is when they were last asked for."""

    __slots__ = ("config", "keys", "lock", "tried_s")

    def __init__(self, config: IssuerConfig) -> None:
        self.config = config
        self.keys: dict[str, Any] | None = None
        self.tried_s: float | None = None
        self.lock = asyncio.Lock()


class Tokens:
    """The issuers of a deployment. `take` its manifest, then `start`; `serve_at` says what address tokens are for."""

    def __init__(self, fetch: Fetch, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._fetch = fetch
        self._clock = clock
        self._config = IdentityConfig()
        self._issuers: dict[str, _Issuer] = {}
        self._remembered: dict[bytes, tuple[float, Principal]] = {}
        self._url = ""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def take(self, config: IdentityConfig) -> None:
        """Trust these issuers from now on. Raises `ConfigError`."""
        for issuer in config.issuers:
            if not issuer.team and not issuer.team_claim:
                raise ConfigError(f"identity: the issuer {issuer.issuer} needs `team` or `team_claim`")
            if issuer.jwks_uri and re.match(SECURE_OR_LOCAL, issuer.jwks_uri) is None:
                raise ConfigError(f"identity: the jwks_uri of {issuer.issuer} must begin with https://")
        if config == self._config:
            return
        known = self._issuers
        self._config = config
        self._remembered.clear()
        self._issuers = {}
        for found in config.issuers:
            before = known.get(found.issuer)
            self._issuers[found.issuer] = before if before is not None and before.config == found else _Issuer(found)
        self._changed.set()

    def serve_at(self, url: str) -> None:
        """What the deployment is reached at where the manifest does not say it."""
        self._url = url
        self._remembered.clear()

    def start(self) -> None:
        """Read the issuers' keys, and go on reading them."""
        self._task = asyncio.create_task(self._keep_fresh(), name="issuers")

    async def stop(self) -> None:
        """Stop reading keys."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # -- what the deployment is ---------------------------------------------------------------------------------------

    @property
    def config(self) -> IdentityConfig:
        """The manifest section in force."""
        return self._config

    @property
    def address(self) -> str:
        """The deployment's public address: lower-case, without a slash at its end."""
        parts = urlsplit(self._config.address or self._url)
        return urlunsplit((parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), "", ""))

    @property
    def resource(self) -> str:
        """What tokens must be for (RFC 8707)."""
        return f"{self.address}/mcp"

    def metadata(self) -> dict[str, Any] | None:
        """The protected resource metadata (RFC 9728); None where no issuer is trusted."""
        if not self._issuers:
            return None
        scopes = sorted({scope for issuer in self._config.issuers for scope in issuer.scopes})
        return {
            "resource": self.resource,
            "authorization_servers": list(self._issuers),
            "bearer_methods_supported": ["header"],
            **({"scopes_supported": scopes} if scopes else {}),
        }

    def challenge(self, error: RoadbedError) -> bytes:
        """The ``WWW-Authenticate`` header of a refusal (RFC 6750, RFC 9728)."""
        if not self._issuers:
            return b"Bearer"
        scopes = sorted({scope for issuer in self._config.issuers for scope in issuer.scopes})
        parts = [f'resource_metadata="{self.address}/.well-known/oauth-protected-resource/mcp"']
        if isinstance(error, ScopeMissing):
            parts.insert(0, 'error="insufficient_scope"')
            scopes = list(error.scopes)
        elif isinstance(error, TokenRefused):
            parts.insert(0, 'error="invalid_token"')
        if scopes:
            parts.append(f'scope="{" ".join(scopes)}"')
        return f"Bearer {', '.join(parts)}".encode("ascii", "replace")

    # -- callers ------------------------------------------------------------------------------------------------------

    def is_token(self, presented: bytes) -> bool:
        """Whether a credential has the shape of a signed token, and some issuer is trusted."""
        return bool(self._issuers) and presented.startswith(b"eyJ") and presented.count(b".") == 2

    def needs_keys(self, presented: bytes) -> bool:
        """Whether `prepare` could help before this credential is judged."""
        if not self.is_token(presented):
            return False
        try:
            issuer, header, _ = self._look_at(presented)
        except TokenRefused:
            return False
        return issuer.keys is None or _key_of(issuer.keys, header) is None

    async def prepare(self, presented: bytes, types: frozenset[str] = TYPES) -> None:
        """Ask the issuer for its keys if the token names one that is not known: before `authenticate`, where there is
        time to wait.
        """
        with contextlib.suppress(TokenRefused):
            issuer, header, _ = self._look_at(presented, types)
            if issuer.keys is None or _key_of(issuer.keys, header) is None:
                await self._refresh(issuer)

    def authenticate(self, presented: bytes) -> Principal:
        """The caller who shows this token. Raises `TokenRefused`, `ScopeMissing`, `IssuerAway`."""
        digest = hashlib.sha256(presented).digest()
        now = self._clock.wall().timestamp()
        known = self._remembered.get(digest)
        if known is not None and now < known[0]:
            return _showing(known[1], presented)
        claims, issuer, expires = self._judged(presented, TYPES)
        principal = _principal(claims, issuer.config)
        if len(self._remembered) >= REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[digest] = (min(expires + SKEW_S, now + REMEMBERED_S), principal)
        return _showing(principal, presented)

    def verified(self, presented: bytes, types: frozenset[str] = TYPES) -> Mapping[str, Any]:
        """The claims of a token that is good here. Raises as `authenticate`."""
        return self._judged(presented, types)[0]

    def _judged(self, presented: bytes, types: frozenset[str]) -> tuple[Mapping[str, Any], _Issuer, float]:
        issuer, header, _ = self._look_at(presented, types)
        if issuer.keys is None:
            self._changed.set()
            raise IssuerAway(f"the keys of {issuer.config.issuer} have not been read yet", retry_after_s=1.0)
        key = _key_of(issuer.keys, header)
        if key is None:
            self._changed.set()
            raise TokenRefused
        claims = _verified(presented, key, str(header["alg"]))
        return claims, issuer, self._check(claims, issuer.config, self._clock.wall().timestamp())

    def _look_at(
        self, presented: bytes, types: frozenset[str] = TYPES
    ) -> tuple[_Issuer, Mapping[str, Any], Mapping[str, Any]]:
        """Whose keys must have signed a token, by its unverified words."""
        if len(presented) > TOKEN_BYTES_MAX:
            raise TokenRefused
        header, claims = _unverified(presented)
        issuer = self._issuers.get(claims.get("iss", "")) if isinstance(claims.get("iss"), str) else None
        kind = header.get("typ", "")
        fits = issuer is not None and header.get("alg") in issuer.config.algorithms
        if issuer is None or not fits or not isinstance(kind, str) or kind.lower() not in types or "crit" in header:
            raise TokenRefused
        return issuer, header, claims

    def _check(self, claims: Mapping[str, Any], config: IssuerConfig, now: float) -> float:
        audience, wanted = claims.get("aud"), config.audience or self.resource
        is_for_us = audience == wanted or (isinstance(audience, list) and wanted in audience)
        expires, begins, made = claims.get("exp"), claims.get("nbf", 0), claims.get("iat", 0)
        has_times = all(isinstance(t, int | float) and not isinstance(t, bool) for t in (expires, begins, made))
        if claims.get("iss") != config.issuer or not is_for_us or not has_times:
            raise TokenRefused
        assert isinstance(expires, int | float)
        if not (now < expires + SKEW_S and begins <= now + SKEW_S and made <= now + SKEW_S):
            raise TokenRefused
        if not set(config.scopes) <= _words(claims, "scope") | _words(claims, "scp"):
            raise ScopeMissing(tuple(config.scopes))
        return float(expires)

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def _keep_fresh(self) -> None:
        while True:
            self._changed.clear()
            for issuer in list(self._issuers.values()):
                await self._refresh(issuer)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), REFRESH_S)

    async def _refresh(self, issuer: _Issuer) -> None:
        """Read an issuer's keys, unless that was tried a moment ago; what cannot be read leaves those there were."""
        async with issuer.lock:
            now = self._clock.monotonic_s()
            if issuer.tried_s is not None and now - issuer.tried_s < (REFETCH_S if issuer.keys is not None else 1.0):
                return
            issuer.tried_s = now
            try:
                uri = issuer.config.jwks_uri or await self._keys_address(issuer.config.issuer)
                keys = await asyncio.to_thread(_keys_of, await self._fetch(uri))
            except (UpstreamFailed, RoadbedError, ValueError) as error:
                state = "its last ones go on" if issuer.keys is not None else "its tokens are refused"
                log.warning("the keys of %s cannot be read (%s): %s", issuer.config.issuer, type(error).__name__, state)
                return
            if issuer.keys is None or keys.keys() != issuer.keys.keys():
                self._remembered.clear()
            issuer.keys = keys

    async def _keys_address(self, issuer: str) -> str:
        """Where an issuer's metadata says that its keys are (RFC 8414, OpenID Connect Discovery)."""
        parts = urlsplit(issuer)
        inserted = f"/.well-known/oauth-authorization-server{parts.path.rstrip('/')}"
        addresses = (
            issuer.rstrip("/") + "/.well-known/openid-configuration",
            urlunsplit((parts.scheme, parts.netloc, inserted, "", "")),
        )
        for address in addresses:
            with contextlib.suppress(UpstreamFailed, RoadbedError, ValueError):
                found = msgspec.json.decode(await self._fetch(address))
                if isinstance(found, dict) and found.get("issuer") == issuer:
                    uri = str(found.get("jwks_uri", ""))
                    if re.match(SECURE_OR_LOCAL, uri):
                        return uri
        raise ValueError("no metadata names the keys")


def fetcher(client: UpstreamClient) -> Fetch:
    """Reads small documents through the deployment's HTTP client."""

    async def fetch(address: str) -> bytes:
        request = UpstreamRequest(
            b"GET", parse_url(address), ((b"accept", b"application/json"),), credential_class="issuers",
            response_bytes_max=KEYS_BYTES_MAX,
        )  # fmt: skip
        return await small_body(client, request)

    return fetch


async def small_body(client: UpstreamClient, request: UpstreamRequest) -> bytes:
    """The body of an issuer's answer, at most `KEYS_BYTES_MAX` of it. `ValueError` for any status but 200."""
    response = await client.request(request, head_s=FETCH_S, complete_s=FETCH_S)
    async with response:
        body = await response.read(KEYS_BYTES_MAX)
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    return body


def _unverified(presented: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    head, _, rest = presented.partition(b".")
    found = []
    for part in (head, rest.partition(b".")[0]):
        try:
            value = msgspec.json.decode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
        except (ValueError, UnicodeDecodeError, RecursionError):
            raise TokenRefused from None
        if not isinstance(value, dict):
            raise TokenRefused
        found.append(value)
    return found[0], found[1]


def _verified(presented: bytes, key: Any, algorithm: str) -> dict[str, Any]:
    from joserfc import jwt
    from joserfc.errors import JoseError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that `EdDSA` has a newer name; issuers will use both for years
            return dict(jwt.decode(presented.decode("ascii"), key, algorithms=[algorithm]).claims)
    except (JoseError, ValueError, TypeError):  # a key of another type than the algorithm's is a ValueError
        raise TokenRefused from None


def _keys_of(document: bytes) -> dict[str, Any]:
    """The public signature keys of a JWKS, by id. Raises ``ValueError``."""
    from joserfc.errors import JoseError
    from joserfc.jwk import import_key

    found = msgspec.json.decode(document)
    entries = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError("not a key set")
    keys: dict[str, Any] = {}
    for entry in entries[:KEYS_MAX]:
        usable = isinstance(entry, dict) and entry.get("kty") in _KEY_TYPES and entry.get("use", "sig") == "sig"
        if usable:
            with contextlib.suppress(JoseError, ValueError, TypeError):
                public = {name: value for name, value in entry.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
                keys[str(entry.get("kid", ""))] = import_key(public)
    return keys


def _key_of(keys: Mapping[str, Any], header: Mapping[str, Any]) -> Any:
    """The key that a token names; the only one there is where it names none."""
    kid = header.get("kid")
    if kid is None:
        return next(iter(keys.values())) if len(keys) == 1 else None
    return keys.get(kid) if isinstance(kid, str) else None


def _principal(claims: Mapping[str, Any], config: IssuerConfig) -> Principal:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise TokenRefused
    team = claims.get(config.team_claim, config.team) if config.team_claim else config.team
    if not isinstance(team, str) or _TEAM.fullmatch(team) is None:
        raise TokenRefused
    held = _words(claims, config.role_claim) if config.role_claim else set()
    roles = frozenset({MEMBER, *(role for value, role in config.roles.items() if value in held)})
    name = next((claims[n] for n in ("preferred_username", "email") if isinstance(claims.get(n), str)), subject)
    return Principal(id=token_caller_id(config.issuer, subject), team=team, roles=roles, name=str(name)[:200])


def _showing(principal: Principal, presented: bytes) -> Principal:
    """The caller with the token that they came with, which is remembered for nobody."""
    return replace(principal, shown=Secret(presented.decode("ascii", "replace")))


def _words(claims: Mapping[str, Any], name: str) -> set[str]:
    """A claim that is a list of words, or words with spaces between."""
    value = claims.get(name)
    if isinstance(value, str):
        return set(value.split())
    return {word for word in value if isinstance(word, str)} if isinstance(value, list) else set()
