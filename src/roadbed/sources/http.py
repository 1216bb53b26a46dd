"""`HttpSystem`: one HTTP API as a source: its address, credentials, rate, breaker, and the one repeat of a read.

`tools/` says which request; here it gets its credentials and leaves through `egress`. An answer below 500 is given
back, whatever it says; one that shows the API to be away is a `SourceUnavailable`, and counts against it. The
invariant: a credential leaves only with requests to the declared host, and a request that may change something is sent
at most once.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import random
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, DeadlineExceeded, RateLimited
from roadbed.kernel.limits import parse_rate
from roadbed.kernel.principal import Principal
from roadbed.kernel.retry import full_jitter_s
from roadbed.kernel.secrets import resolve_secret
from roadbed.kernel.token_bucket import Rate, take
from roadbed.sources.caller_auth import CallerAuths, Shown, shown_as
from roadbed.sources.caller_errors import CallerNotExchangeable
from roadbed.sources.caller_manifest import check_caller_auth
from roadbed.sources.circuit import Circuit
from roadbed.sources.egress import EgressClient, EgressPolicy, EgressRequest, EgressResponse
from roadbed.sources.errors import CredentialsRefused, EgressRefused, EndUnknown, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import HttpAuth, HttpSource
from roadbed.sources.outbound_url import USUAL_PORTS, parse_outbound
from roadbed.wire.address import Url, check_target
from roadbed.wire.errors import HeadTimeout, ResponseTimeout, UpstreamFailed
from roadbed.wire.resolver import Lookup, system_lookup
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

RETRY_AFTER_S_MAX = 3.0
RETRY_BASE_S = 0.2
SECRET_BYTES_MIN = 6
HANG_S = 2.0
"""Whoever got no answer for so long may say that the API hangs; a caller in more haste may not."""
_AWAY = frozenset((502, 503, 504))
_AUTH_WAYS = ("bearer", "basic", "header", "query")

Headers = tuple[tuple[bytes, bytes], ...]


class HttpSystem:
    """One API. Made inside a running loop."""

    def __init__(
        self,
        name: str,
        config: HttpSource,
        folder: Path,
        *,
        lookup: Lookup = system_lookup,
        trust: TrustDomain = DEFAULT_TRUST,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
        callers: CallerAuths | None = None,
    ) -> None:
        self._callers = callers
        self._name = name
        self._config = config
        self._folder = folder
        self._base = base_url(name, config)
        check_http_auth(name, config)
        host = self._base.origin.host
        policy = EgressPolicy(
            frozenset({host}),
            frozenset({host}) if config.private else frozenset(),
            frozenset({self._base.origin.port}) | frozenset(USUAL_PORTS.values()),
        )
        self._client = EgressClient(policy, connections_max=config.connections_max, lookup=lookup, trust=trust)
        self.circuit = Circuit(name, config.connections_max, clock=clock, chance=chance)
        self._timeout_s = parse_duration_s(config.timeout)
        self._rate = Rate(*_rate(config.rate)) if config.rate else None
        self._arrival_s = 0.0
        self._clock = clock
        self._chance = chance

    async def ask(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        deadline: Deadline,
        *,
        is_repeatable: bool,
        principal: Principal | None = None,
    ) -> EgressResponse:
        """The answer to one request below the base address; ``target`` is an encoded path and query.

        `SourceUnavailable` (`CredentialsRefused` for 401), `SourceTimeout`, `SourceBusy`, `RateLimited`,
        `EgressRefused`, `AnswerRefused`, `ConfigError`; for a source that knows its callers also `CallerNotTaken`.
        """
        deadline = deadline.share(1.0, at_most_s=self._timeout_s)
        shown = await self._shown(principal, deadline)
        credentials, secret_query = shown.headers, shown.query
        secrets = _spelled(shown.secret) if shown.secret else []
        path = self._base.target.decode("ascii").partition("?")[0].rstrip("/") + target
        if secret_query:
            path += ("&" if "?" in path else "?") + secret_query
        url = Url(self._base.origin, check_target(path.encode("ascii")))
        request = EgressRequest(method, url, headers, credentials, body)
        first = await self._try(request, deadline, is_last=not is_repeatable)
        if isinstance(first, EgressResponse):
            return _without(self._taken(first, shown), secrets)
        wait_s = first.retry_after_s or full_jitter_s(1, self._chance(), base_s=RETRY_BASE_S)
        if wait_s > RETRY_AFTER_S_MAX or wait_s >= deadline.remaining_s():
            raise first
        await asyncio.sleep(wait_s + RETRY_BASE_S * self._chance())
        answer = await self._try(request, deadline, is_last=True)
        assert isinstance(answer, EgressResponse)
        return _without(self._taken(answer, shown), secrets)

    async def hold(self, principal: Principal, deadline: Deadline) -> None:
        """Make sure that a call of this caller could be made, and keep what a later run of it shows. As `ask`."""
        auth = self._config.caller_auth
        if auth is not None:
            await self._known_callers().hold(self._name, auth, principal, deadline)

    def _taken(self, answer: EgressResponse, shown: Shown) -> EgressResponse:
        """An answer, unless it refuses a caller's own credential, which says nothing of how the API is."""
        auth = self._config.caller_auth
        if auth is not None and answer.status == 401:
            raise self._known_callers().refused(self._name, auth, shown)
        return answer

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def _try(
        self, request: EgressRequest, deadline: Deadline, *, is_last: bool
    ) -> EgressResponse | _Away | _Throttled:
        """One try: its answer; or, unless it is the last, the error after which a read is sent once more."""
        self._take_rate()
        try:
            async with self.circuit.admitted(deadline):
                return self._judged(await self._sent(request, deadline))
        except (_Away, _Throttled) as error:
            if is_last:
                raise
            return error

    async def _sent(self, request: EgressRequest, deadline: Deadline) -> EgressResponse:
        patience_s = deadline.remaining_s()
        try:
            return await self._client.send(request, deadline)
        except DeadlineExceeded:
            raise SourceTimeout(f"no time was left to ask {self._name}", hint="allow more time") from None
        except UpstreamFailed as error:
            if error.may_have_run and request.method not in ("GET", "HEAD"):
                raise EndUnknown(f"{self._name} was asked to change something and did not say whether it did") from None
            if isinstance(error, HeadTimeout | ResponseTimeout) and patience_s < min(HANG_S, self._timeout_s):
                raise SourceTimeout(f"{self._name} did not answer in time", hint="allow more time") from None
            raise _Away(f"{self._name} cannot be asked: {error.message}", hint=_HINT) from None

    def _judged(self, answer: EgressResponse) -> EgressResponse:
        if answer.status == 401 and self._config.caller_auth is None:
            raise CredentialsRefused(
                f"{self._name} refuses our credentials (status 401)",
                hint=f"set the value that sources.{self._name}.auth refers to; it is read again at the next try",
            )
        if answer.status == 429 or answer.status >= 500:
            after_s = retry_after_s(answer.get(b"retry-after"), self._clock)
            kind = _Throttled if answer.status == 429 else _Away if answer.status in _AWAY else SourceUnavailable
            raise kind(f"{self._name} answered with status {answer.status}", hint=_HINT, retry_after_s=after_s)
        return answer

    def _take_rate(self) -> None:
        if self._rate is None:
            return
        decision = take(self._rate, self._arrival_s, self._clock.monotonic_s())
        if not decision.is_allowed:
            raise RateLimited(
                f"the rate of the source {self._name} is spent",
                hint=f"sources.{self._name}.rate bounds it",
                retry_after_s=decision.retry_after_s,
            )
        self._arrival_s = decision.tat_s

    def _known_callers(self) -> CallerAuths:
        if self._callers is None:
            raise ConfigError(f"sources.{self._name}.caller_auth: callers are known to a running server alone")
        return self._callers

    async def _shown(self, principal: Principal | None, deadline: Deadline) -> Shown:
        """What shows who asks: the caller, or this deployment. Looked up anew at each call."""
        caller_auth = self._config.caller_auth
        if caller_auth is not None:
            if principal is None:
                raise CallerNotExchangeable(f"{self._name} is asked with the caller's own identity, and nobody calls")
            return await self._known_callers().shown(self._name, caller_auth, principal, deadline)
        auth = self._config.auth
        if auth is None:
            return Shown()
        way, reference = auth_way(self._name, auth)
        value = resolve_secret(reference, base=self._folder, where=f"sources.{self._name}.auth").reveal()
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"sources.{self._name}.auth: the secret holds characters that no request can carry")
        return shown_as(way, auth.header or auth.query, value)


class _Away(SourceUnavailable):
    """The API is away just now: a read may be sent once more."""


class _Throttled(RateLimited):
    """The API wants fewer requests: it is well, so that this does not count against it."""


_HINT = "ask again; other sources are not touched by it"


def base_url(name: str, config: HttpSource) -> Url:
    """The parsed base address of an API. Raises `ConfigError`."""
    match = config.url.removeprefix("http://").removeprefix("https://").partition("/")[0].rpartition(":")
    port = int(match[2]) if match[1] and match[2].isdigit() else 443
    try:
        return parse_outbound(config.url, ports=(port,))
    except EgressRefused as error:
        raise ConfigError(f"sources.{name}.url: {error.message}") from None


def check_http_auth(name: str, config: HttpSource) -> None:
    """Refuse a source that says in no way, or in two, how its requests show who asks. Raises `ConfigError`."""
    if config.auth is not None:
        auth_way(name, config.auth)
        if config.caller_auth is not None:
            raise ConfigError(f"sources.{name} has auth and caller_auth", hint="requests show one of the two")
    if config.caller_auth is not None:
        check_caller_auth(name, config.caller_auth, ways=_AUTH_WAYS)


def auth_way(name: str, auth: HttpAuth) -> tuple[str, str]:
    """(way, reference) of the one way that is set. Raises `ConfigError`."""
    ways = [way for way in _AUTH_WAYS if getattr(auth, way)]
    if len(ways) != 1:
        raise ConfigError(f"sources.{name}.auth needs exactly one of {', '.join(_AUTH_WAYS)}")
    way = ways[0]
    return way, auth.secret if way in ("header", "query") else getattr(auth, way)


def retry_after_s(value: bytes, clock: Clock) -> float | None:
    """Seconds of a ``Retry-After``: a number or a date (RFC 9110, 10.2.3); None when it is neither."""
    text = value.decode("latin-1").strip()
    if text.isdigit() and len(text) < 8:
        return float(text)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, IndexError):
        return None
    return max(0.0, date.timestamp() - clock.wall().timestamp())


def _spelled(value: str) -> list[bytes]:
    """A credential as an answer may repeat it: plain, in an address, in JSON, in base64; a password also alone."""
    values = (value, value.partition(":")[2])
    texts = {
        text
        for part in values
        for text in (part, quote(part, safe=""), quote(part), part.replace("/", "\\/"), part.replace('"', '\\"'))
    }
    texts.add(base64.b64encode(value.encode()).decode())
    found = [text.encode() for text in texts if len(text) >= SECRET_BYTES_MIN]
    return sorted(found, key=len, reverse=True)


def _without(answer: EgressResponse, secrets: list[bytes]) -> EgressResponse:
    """An answer in which our credentials, which some APIs repeat (links to the next page), do not stand."""
    body, headers = answer.body, answer.headers
    for secret in secrets:
        body = body.replace(secret, b"***")
        headers = tuple((name, value.replace(secret, b"***")) for name, value in headers)
    return EgressResponse(answer.status, headers, body, answer.url)


def _rate(text: str) -> tuple[float, float, float]:
    limit, period_s = parse_rate(text)
    return float(limit), period_s, float(limit)
