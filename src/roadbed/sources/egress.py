"""The one guarded way out: requests to hosts that a manifest names, at addresses that were judged before connecting.

Names are resolved here, once; every answer must be allowed, and the connection goes to those very addresses, with the
name in ``Host`` and SNI. Redirects are followed by hand, cookies and proxy variables do not exist, bodies are bounded
packed and unpacked. How a request is made and what its answer means is its caller's business. The invariant: no
connection is opened to an address that `public_address` and the policy did not both allow.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from roadbed.kernel.deadline import Deadline
from roadbed.sources.errors import AnswerRefused, EgressRefused
from roadbed.sources.outbound_url import parse_outbound
from roadbed.sources.public_address import kind_of
from roadbed.wire.address import Url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import NotSent, ResponseTooLarge
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.pool import PoolLimits
from roadbed.wire.proxy import ProxySettings
from roadbed.wire.resolver import Lookup, Resolver, is_literal, system_lookup
from roadbed.wire.response import UpstreamResponse
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

REQUEST_S_MAX = 10.0
CONNECT_S_MAX = 5.0
BODY_BYTES_MAX = 5 * 1024 * 1024
REQUEST_BYTES_MAX = 1024 * 1024
REDIRECTS_MAX = 3
UNPACKED_TIMES_MAX = 10
UNPACKED_BYTES_FREE = 64 * 1024
"""What is unpacked whatever it was packed to: short texts of one kind pack better than tenfold."""

_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_PORTS = {"http": 80, "https": 443}
_CREDENTIALS = frozenset((b"authorization", b"cookie", b"proxy-authorization"))


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Where requests may go: ``hosts`` alone, of which ``private_hosts`` may stand in private networks."""

    hosts: frozenset[str]
    private_hosts: frozenset[str] = frozenset()
    ports: frozenset[int] = frozenset()

    def check(self, url: Url) -> None:
        """Refuse a host or port that is not of the list. Raises `EgressRefused`."""
        if url.origin.host not in self.hosts:
            raise EgressRefused("an address may not be asked: its host is not one that the manifest names")
        if url.origin.port not in self.ports and url.origin.port != _PORTS[url.origin.scheme]:
            raise EgressRefused("an address may not be asked: its port is not allowed")
        if is_literal(url.origin.host):
            self.check_addresses(url.origin.host, [url.origin.host])

    def check_addresses(self, host: str, addresses: Sequence[str]) -> None:
        """Refuse a host when one of its addresses is not allowed. Raises `EgressRefused`."""
        allowed = ("public", "private") if host in self.private_hosts else ("public",)
        if not addresses or not all(kind_of(address) in allowed for address in addresses):
            raise EgressRefused(f"{host} may not be asked: it has an address that is not public")


@dataclass(frozen=True, slots=True)
class EgressRequest:
    """What to send. ``credentials`` are headers that leave with the first origin alone."""

    method: str
    url: Url
    headers: tuple[tuple[bytes, bytes], ...] = ()
    credentials: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class EgressResponse:
    """A whole answer. ``body`` is unpacked; ``url`` is where it came from at last."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    url: Url

    def get(self, name: bytes) -> bytes:
        """The value of a header by its lower-case name; empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")


class GuardedResolver(Resolver):
    """A resolver whose answers are allowed by a policy, each time that they are used."""

    def __init__(self, policy: EgressPolicy, lookup: Lookup = system_lookup) -> None:
        super().__init__(lookup)
        self._policy = policy

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of ``host``, all of them allowed. Raises ``NameUnresolved``, `AddressRefused`."""
        addresses = await super().resolve(host, port)
        try:
            self._policy.check_addresses(host, addresses)
        except EgressRefused as error:
            raise AddressRefused(error.message) from None
        return addresses


class AddressRefused(NotSent):
    """The host of a request has an address that may not be asked; nothing was sent."""

    code = "sources.address_refused"
    retryable = False


class EgressClient:
    """Sends requests under one policy. Made inside a running loop, closed by ``close``."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        connections_max: int = 4,
        lookup: Lookup = system_lookup,
        trust: TrustDomain = DEFAULT_TRUST,
    ) -> None:
        self._policy = policy
        self._trust = trust
        self._client = UpstreamClient(
            limits=PoolLimits(connections_max=connections_max, waiting_max=64),
            proxies=ProxySettings(),
            resolver=GuardedResolver(policy, lookup),
        )

    async def send(
        self, request: EgressRequest, deadline: Deadline, *, bytes_max: int = BODY_BYTES_MAX
    ) -> EgressResponse:
        """The answer to a request, redirects followed. `EgressRefused`, `AnswerRefused`, ``UpstreamFailed``.

        All of it takes at most `REQUEST_S_MAX` and never outlives the deadline (`DeadlineExceeded` before it begins).
        """
        deadline.check("asking an API")
        if len(request.body) > REQUEST_BYTES_MAX:
            raise EgressRefused(f"a request is at most {REQUEST_BYTES_MAX} bytes", hint="send less")
        complete_by = asyncio.get_running_loop().time() + min(REQUEST_S_MAX, deadline.remaining_s())
        url, credentials = request.url, request.credentials
        for _ in range(REDIRECTS_MAX + 1):
            self._policy.check(url)
            try:
                answer = await self._once(request, url, credentials, complete_by, bytes_max)
            except AddressRefused as error:
                raise EgressRefused(error.message) from None
            location = answer.get(b"location")
            if answer.status not in _REDIRECTS or not location:
                return answer
            following = _redirected(request.method, url, location, self._policy)
            if following.origin != url.origin:
                credentials = ()
            url = following
        raise AnswerRefused(f"{url.origin.host} redirects more than {REDIRECTS_MAX} times")

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    async def _once(
        self,
        request: EgressRequest,
        url: Url,
        credentials: tuple[tuple[bytes, bytes], ...],
        complete_by: float,
        bytes_max: int,
    ) -> EgressResponse:
        headers = tuple(pair for pair in request.headers if pair[0].lower() not in _CREDENTIALS)
        sent = UpstreamRequest(
            method=request.method.encode("ascii"),
            url=url,
            headers=(*headers, *credentials),
            body=request.body,
            trust=self._trust,
            response_bytes_max=bytes_max,
        )
        loop = asyncio.get_running_loop()
        response = UpstreamResponse(loop)
        connect_by = min(complete_by, loop.time() + CONNECT_S_MAX)
        exchange = self._client.send(sent, response, connect_by, complete_by, complete_by)
        response.exchange = exchange
        if request.method not in ("GET", "HEAD"):
            exchange.is_retried = True  # the client repeats once what a closing connection swallowed; no write may be
        await response.wait_head()
        async with response:
            body = await _read(response, bytes_max)
            return EgressResponse(response.status, tuple(response.headers), body, url)


def _redirected(method: str, url: Url, location: bytes, policy: EgressPolicy) -> Url:
    """Where an answer redirects to. Raises `EgressRefused` unless it is the same host, and as safe as before."""
    if method not in ("GET", "HEAD"):
        raise EgressRefused(f"{url.origin.host} redirects a request that is not for reading")
    text = location.decode("latin-1").partition("#")[0]
    if text.startswith("/") and not text.startswith("//"):
        text = f"{url.origin.scheme}://{_authority(url)}{text}"
    following = parse_outbound(text, ports=policy.ports)
    if following.origin.host != url.origin.host:
        raise EgressRefused(f"{url.origin.host} redirects to another host")
    if url.origin.is_tls and not following.origin.is_tls:
        raise EgressRefused(f"{url.origin.host} redirects from https to http")
    return following


def _authority(url: Url) -> str:
    return url.origin.host_header.decode("ascii")


async def _read(response: UpstreamResponse, bytes_max: int) -> bytes:
    host = "the answer"
    coding = (response.get(b"content-encoding") or b"identity").strip().lower()
    if coding not in (b"identity", b"gzip", b"x-gzip", b"deflate"):
        raise AnswerRefused(f"{host} is packed in a way that is not read")
    try:
        packed = await response.read(bytes_max)
    except ResponseTooLarge:
        raise AnswerRefused(f"{host} is over {bytes_max} bytes") from None
    return packed if coding == b"identity" else unpack(packed, bytes_max)


def unpack(packed: bytes, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The content of a gzip or zlib body, bounded while it is unpacked. Raises `AnswerRefused`."""
    limit = min(bytes_max, max(UNPACKED_BYTES_FREE, UNPACKED_TIMES_MAX * len(packed)))
    worker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        content = worker.decompress(packed, limit + 1)
    except zlib.error:
        raise AnswerRefused("the packed body of the answer cannot be read") from None
    if len(content) > limit:
        raise AnswerRefused(f"the answer unpacks to more than {limit} bytes")
    if not worker.eof or worker.unused_data:
        raise AnswerRefused("the packed body of the answer is cut or has something behind it")
    return content
