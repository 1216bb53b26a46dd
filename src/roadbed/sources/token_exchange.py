"""`TokenExchange`: a caller's token for one of another system, at that system's authorization server (RFC 8693).

`exchange_form` and `read_exchange` are pure; `Exchanger` sends what they make through `egress`, behind a breaker of its
own, and remembers what it got. The invariants: what was given for one caller, for one of their tokens, is never used
for another; a token that came back unchanged is none that was exchanged; nothing is kept longer than a minute before
its end.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_plus, urlencode
from weakref import WeakValueDictionary

import msgspec

from roadbed.guard.credentials import ACCESS_TOKEN, Subject
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import DeadlineExceeded
from roadbed.kernel.secrets import Secret, resolve_secret
from roadbed.sources.caller_errors import ExchangeAway, ExchangeRefused
from roadbed.sources.caller_manifest import TokenExchange, exchange_url
from roadbed.sources.circuit import Circuit
from roadbed.sources.egress import EgressClient, EgressPolicy, EgressRequest, EgressResponse
from roadbed.sources.outbound_url import USUAL_PORTS
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.resolver import Lookup, system_lookup
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ISSUED_TYPES: Final = frozenset((ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"))
ANSWER_BYTES_MAX: Final = 128 * 1024
TOKEN_CHARACTERS_MAX: Final = 16 * 1024
KEPT_MAX: Final = 2_000
KEPT_S_MAX: Final = 3_600.0
EARLY_S: Final = 60.0
PLACES: Final = 8
# Words of RFC 6749 and RFC 8693, which say nothing of a person; any other is not repeated.
_REASONS = frozenset(
    ("invalid_request", "invalid_grant", "invalid_target", "invalid_scope", "access_denied", "unsupported_grant_type")
)
_OPERATORS = frozenset(("invalid_client", "unauthorized_client"))

Key = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Issued:
    """A token of the other system. ``lasts_s`` is 0 where the server did not say for how long it is good."""

    token: Secret
    lasts_s: float


class _Answer(msgspec.Struct):
    access_token: str = ""
    issued_token_type: str = ""
    token_type: str = ""
    expires_in: float | None = None
    error: str = ""


def exchange_form(config: TokenExchange, subject: Subject, secret: Secret | None) -> tuple[bytes, bytes]:
    """(body, authorization header or nothing) of a request for a token. Pure."""
    form = {
        "grant_type": GRANT,
        "subject_token": subject.token.reveal(),
        "subject_token_type": subject.kind,
        "requested_token_type": ACCESS_TOKEN,
    }
    if config.audience:
        form["audience"] = config.audience
    if config.resource:
        form["resource"] = config.resource
    if config.scopes:
        form["scope"] = " ".join(config.scopes)
    authorization = b""
    if secret is not None and config.client_auth == "basic":
        pair = f"{quote_plus(config.client_id)}:{quote_plus(secret.reveal())}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    elif config.client_id:
        form["client_id"] = config.client_id
        if secret is not None:
            form["client_secret"] = secret.reveal()
    return urlencode(form).encode(), authorization


def read_exchange(source: str, status: int, body: bytes, subject: Subject) -> Issued:
    """What an authorization server answered. Pure. `ExchangeRefused`, `ExchangeAway`."""
    where = f"the issuer of {source}"
    if status == 429 or status >= 500:
        raise ExchangeAway(f"{where} answered with status {status}")
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ExchangeAway(f"{where} answered what is no token (status {status})") from None
    if status != 200:
        if status == 401 or answer.error in _OPERATORS:
            raise ExchangeRefused(
                f"{where} does not know this deployment as a client that may exchange tokens",
                hint=f"check client_id, client_secret and the client's rights: sources.{source}.caller_auth.exchange",
            )
        reason = f" ({answer.error})" if answer.error in _REASONS else ""
        raise ExchangeRefused(f"{where} gives no token for this caller{reason}")
    token = answer.access_token
    fits = answer.issued_token_type in ISSUED_TYPES and answer.token_type.lower() == "bearer"
    if not fits or not 0 < len(token) <= TOKEN_CHARACTERS_MAX or not token.isascii() or not token.isprintable():
        raise ExchangeRefused(
            f"{where} gave a token of a kind that cannot be used",
            hint="it must be an access token of the type Bearer",
        )
    if subject.token.equals(token):
        raise ExchangeRefused(
            f"{where} gave the caller's own token back, which goes to no source",
            hint="have the issuer give a token for the source's audience",
        )
    lasts_s = answer.expires_in
    return Issued(Secret(token), min(lasts_s, KEPT_S_MAX) if lasts_s is not None and lasts_s > 0 else 0.0)


class Exchanger:
    """The exchange of one source. Made inside a running loop."""

    def __init__(
        self,
        source: str,
        config: TokenExchange,
        folder: Path,
        *,
        lookup: Lookup = system_lookup,
        trust: TrustDomain = DEFAULT_TRUST,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._source = source
        self._config = config
        self._folder = folder
        self._url = exchange_url(source, config)
        host = self._url.origin.host
        policy = EgressPolicy(
            frozenset({host}),
            frozenset({host}) if config.private else frozenset(),
            frozenset({self._url.origin.port}) | frozenset(USUAL_PORTS.values()),
        )
        self._client = EgressClient(policy, connections_max=PLACES, lookup=lookup, trust=trust)
        self.circuit = Circuit(f"{source} (its issuer)", PLACES, clock=clock)
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, Secret]] = OrderedDict()
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def token(self, subject: Subject, deadline: Deadline) -> Secret:
        """The source's token for a caller. `ExchangeRefused`, `ExchangeAway`, `SourceBusy`, `DeadlineExceeded`."""
        key = _key_of(subject)
        known = self._known(key)
        if known is not None:
            return known
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        async with lock:  # callers who come at once share one exchange
            known = self._known(key)
            if known is not None:
                return known
            began_s = self._clock.monotonic_s()
            issued = await self._exchanged(subject, deadline)
            if issued.lasts_s > EARLY_S:
                while len(self._kept) >= KEPT_MAX:
                    self._kept.popitem(last=False)
                self._kept[key] = (began_s + issued.lasts_s - EARLY_S, issued.token)
            return issued.token

    def forget(self, subject: Subject, token: Secret) -> None:
        """Use a token no more that the source refused."""
        key = _key_of(subject)
        known = self._kept.get(key)
        if known is not None and known[1].equals(token.reveal()):
            del self._kept[key]

    async def close(self) -> None:
        """Forget everything and close every connection."""
        self._kept.clear()
        await self._client.close()

    def _known(self, key: Key) -> Secret | None:
        known = self._kept.get(key)
        if known is None or self._clock.monotonic_s() >= known[0]:
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return known[1]

    async def _exchanged(self, subject: Subject, deadline: Deadline) -> Issued:
        config = self._config
        where = f"sources.{self._source}.caller_auth.exchange.client_secret"
        secret = resolve_secret(config.client_secret, base=self._folder, where=where) if config.client_secret else None
        body, authorization = exchange_form(config, subject, secret)
        headers = ((b"content-type", b"application/x-www-form-urlencoded"), (b"accept", b"application/json"))
        credentials = ((b"authorization", authorization),) if authorization else ()
        request = EgressRequest("POST", self._url, headers, credentials, body)
        async with self.circuit.admitted(deadline):
            answer = await self._sent(request, deadline)
            return read_exchange(self._source, answer.status, answer.body, subject)

    async def _sent(self, request: EgressRequest, deadline: Deadline) -> EgressResponse:
        try:
            return await self._client.send(request, deadline, bytes_max=ANSWER_BYTES_MAX)
        except UpstreamFailed as error:
            if deadline.has_passed():
                raise DeadlineExceeded(f"the issuer of {self._source} did not answer in time") from None
            raise ExchangeAway(f"the issuer of {self._source} cannot be asked: {error.message}") from None


def _key_of(subject: Subject) -> Key:
    """One caller with one of their tokens: a token with fewer rights must not profit from one with more."""
    return subject.owner, hashlib.sha256(subject.token.reveal().encode()).digest()
