"""Who may call ``/mcp``: credentials, web origins, and how a refusal looks; where tokens come from (RFC 9728).

Keys and tokens are judged as for every other address. What a caller may do with what it asks for is the offering's.
The invariant: decisions are made from the credentials alone.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from roadbed.gateway.limits import Pass, RateExceeded
from roadbed.guard.identity import Identity
from roadbed.guard.keys import MCP_SCOPE, require_scope
from roadbed.guard.networks import caller_address
from roadbed.guard.tokens import TokenInQuery, Tokens
from roadbed.kernel.errors import RoadbedError
from roadbed.server.admission import DEADLINE_HEADER, LABEL_HEADER, TAG_HEADER, Admission, admit, check_credentials
from roadbed.server.client_certificates import certificate_of
from roadbed.server.entrance import Entrance
from roadbed.server.mcp_types import PATH
from roadbed.wire.request import HotRequest

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
METADATA_PATHS = ("/.well-known/oauth-protected-resource", f"/.well-known/oauth-protected-resource{PATH}")
COUNTED_AS = "mcp"
_PROBLEM = b"application/problem+json"


class Origins:
    """The web origins whose pages may call: this machine's own, the deployment's address, and the listed ones.

    A page of any other origin that reaches us through a name that it rebound to our address is turned away here.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    def allows(self, origin: bytes | None) -> bool:
        """Whether a request with this ``Origin`` header may go on; programs send none."""
        if origin is None:
            return True
        text = origin.decode("latin-1").lower()
        if self._tokens is not None:
            listed = (*self._tokens.config.origins, self._tokens.address)
            if text in [known.rstrip("/").lower() for known in listed]:
                return True
        try:
            parts = urlsplit(text)
            return parts.scheme in ("http", "https") and (parts.hostname or "") in LOOPBACK_NAMES
        except ValueError:
            return False


class Entry(Protocol):
    """Who may come in, and until when."""

    def waits_for(self, request: HotRequest) -> Awaitable[None] | None:
        """What must be waited for before `admit` can judge the request; None when nothing."""

    def admit(self, request: HotRequest) -> tuple[Admission, Pass | None]:
        """Let a request in and count it, or raise why not."""

    def check(self, request: HotRequest) -> Admission:
        """Judge a request's credentials again, without counting it; raises why they no longer hold."""

    def challenge(self, error: RoadbedError) -> bytes:
        """The ``WWW-Authenticate`` header of a refusal."""


class KnownCallers:
    """The entry of a deployment: keys and tokens, admitted and counted as for every other address."""

    def __init__(self, identity: Identity, tokens: Tokens, entrance: Entrance, *, behind_proxy: bool) -> None:
        self._identity = identity
        self._tokens = tokens
        self._entrance = entrance
        self._behind_proxy = behind_proxy

    def waits_for(self, request: HotRequest) -> Awaitable[None] | None:
        """See `Entry`: the issuer's keys, for a token that names one that is not known."""
        scheme, _, token = (request.get(b"authorization") or b"").partition(b" ")
        if scheme.lower() == b"bearer" and self._tokens.needs_keys(token.strip()):
            return self._tokens.prepare(token.strip())
        return None

    def admit(self, request: HotRequest) -> tuple[Admission, Pass | None]:
        """See `Entry`."""
        admission = self.check(request)
        return admission, self._entrance.ticket(len(request.body), admission.principal, COUNTED_AS)

    def check(self, request: HotRequest) -> Admission:
        """See `Entry`."""
        if b"access_token=" in request.query:
            raise TokenInQuery("a token must not stand in the address")
        check_credentials(request.headers)
        admission = admit(
            self._identity,
            request.get(b"authorization"),
            request.get(b"x-api-key"),
            request.get(DEADLINE_HEADER),
            caller_address(request.peer, request.get(b"x-forwarded-for"), behind_proxy=self._behind_proxy),
            request.get(TAG_HEADER),
            request.get(LABEL_HEADER),
            certificate_of(request),
        )
        require_scope(admission.principal, MCP_SCOPE)
        return admission

    def challenge(self, error: RoadbedError) -> bytes:
        """See `Entry`."""
        return self._tokens.challenge(error)


def refuse(request: HotRequest, error: RoadbedError, entry: Entry) -> None:
    """Answer a request that was not let in."""
    headers: list[tuple[bytes, bytes]] = [(b"content-type", _PROBLEM)]
    if isinstance(error, RateExceeded):
        lines = (line.partition(b": ") for line in error.headers.splitlines())
        headers += [(name, value) for name, _, value in lines]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    if error.http_status in (401, 403):
        headers.append((b"www-authenticate", entry.challenge(error)))
    request.send(error.http_status, headers, msgspec.json.encode(error.problem()))


def metadata_routes(tokens: Tokens) -> list[Route]:
    """Which authorization servers give tokens for this deployment (RFC 9728)."""

    async def metadata(request: Request) -> Response:
        found = tokens.metadata()
        if found is None:
            return Response(status_code=404)
        return Response(msgspec.json.encode(found), media_type="application/json")

    return [Route(path, metadata) for path in METADATA_PATHS]


def mcp_routes() -> list[Route]:
    """What the ASGI side answers at the address: that it takes POST alone."""

    async def needs_post(request: Request) -> Response:
        return Response(status_code=405, headers={"allow": "POST"})

    return [Route(PATH, needs_post, methods=["GET", "PUT", "DELETE", "PATCH"])]
