"""``/mcp`` as a hot path: admission, origin and era of each POST, and the bridge from the wire to the SDK's transports.

Keys and tokens are admitted as for every other address. The request's task ends with its client, so a client that
leaves cancels the call, whatever its era; the whole body is read and bounded before anything runs. The invariant:
decisions are made from the credentials and the body, never from the headers that mirror the body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Protocol
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
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_types import PATH, UNSUPPORTED_VERSION, VERSIONS, Caller
from roadbed.server.running import RunningCalls
from roadbed.wire.request import HotRequest

log = logging.getLogger("roadbed.mcp")

VERSION_HEADER = b"mcp-protocol-version"
OLDER_VERSIONS = ("2025-03-26", "2024-11-05")
KNOWN_VERSIONS = frozenset((*VERSIONS, *OLDER_VERSIONS))
LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
METADATA_PATHS = ("/.well-known/oauth-protected-resource", f"/.well-known/oauth-protected-resource{PATH}")
COUNTED_AS = "mcp"
ENDED = -32001
"""The number of the protocol error that ends a stream whose caller's access has ended."""

_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date"))
_JSON = ((b"content-type", b"application/json"),)
_PROBLEM = b"application/problem+json"


class _Params(msgspec.Struct):
    name: Any = None
    meta: dict[str, msgspec.Raw] = msgspec.field(name="_meta", default_factory=dict)


class _Head(msgspec.Struct):
    """What a body says about how to answer it."""

    method: Any = None
    id: Any = None
    params: _Params | None = None


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

    def challenge(self, error: RoadbedError) -> bytes:
        """The ``WWW-Authenticate`` header of a refusal."""


class McpAddress:
    """The handler of ``POST /mcp``."""

    def __init__(self, mcp: Mcp, entry: Entry, origins: Origins, running: RunningCalls | None = None) -> None:
        self._running = running if running is not None else RunningCalls()
        self._mcp = mcp
        self._entry = entry
        self._origins = origins

    def handle(self, request: HotRequest) -> None:
        """Admit, and answer in a task of the request's own."""
        if not self._origins.allows(request.get(b"origin")):
            request.send(403, _JSON, _rpc_error(None, -32600, "this origin may not call"))
            return
        waited_for = self._entry.waits_for(request)
        if waited_for is not None:
            request.create_task(self._answer_after(waited_for, request))
            return
        admitted = self._admitted(request)
        if admitted is not None:
            caller, in_stream = admitted
            task = request.create_task(self._answer(request, caller, in_stream))
            if caller.ticket is not None:
                task.add_done_callback(caller.ticket.task_ended)

    async def _answer_after(self, waited_for: Awaitable[None], request: HotRequest) -> None:
        await waited_for
        admitted = self._admitted(request)
        if admitted is not None:
            await self._answer(request, *admitted)

    def _admitted(self, request: HotRequest) -> tuple[Caller, bool] | None:
        """The caller, and whether to answer in a stream; None when the request was refused here."""
        try:
            admission, ticket = self._entry.admit(request)
        except RoadbedError as error:
            self._refuse(request, error)
            return None
        head = _head_of(request.body)
        version = request.get(VERSION_HEADER)
        asked = version.decode("latin-1") if version is not None else None
        if asked is not None and asked not in KNOWN_VERSIONS and head is not None:
            data = {"supported": list(VERSIONS), "requested": asked[:40]}
            request.send(400, _JSON, _rpc_error(_id_of(head), UNSUPPORTED_VERSION, "unsupported version", data))
            if ticket is not None:
                ticket.close()
            return None
        caller = Caller(admission, ticket, traceparent=request.get(b"traceparent"))
        return caller, head is not None and self._in_stream(head, caller)

    def _in_stream(self, head: _Head, caller: Caller) -> bool:
        if head.method == "subscriptions/listen":
            return True
        params = head.params
        if params is None:
            return False
        if "progressToken" in params.meta or "io.modelcontextprotocol/logLevel" in params.meta:
            return True
        is_call = head.method == "tools/call" and isinstance(params.name, str)
        return is_call and self._mcp.offering.needs_stream(params.name, caller)

    async def _answer(self, request: HotRequest, caller: Caller, in_stream: bool) -> None:
        bridge = _Bridge(request)
        call = self._running.enter(caller.principal)
        try:
            await self._mcp.answer(caller, bridge.scope, bridge.receive, bridge.send, in_stream=in_stream)
        except asyncio.CancelledError:
            self._end(request, call.ended())
        finally:
            call.leave()
            if caller.ticket is not None:
                caller.ticket.close()

    def _end(self, request: HotRequest, error: RoadbedError) -> None:
        """The caller's access has ended during the call: the last event of its stream says so, or its response."""
        if not request.is_started:
            self._refuse(request, error)
        elif not request.is_ended:
            head = _head_of(request.body)
            said = _rpc_error(_id_of(head) if head is not None else None, ENDED, error.message, {"code": error.code})
            request.end(b"event: message\r\ndata: %b\r\n\r\n" % said)

    def _refuse(self, request: HotRequest, error: RoadbedError) -> None:
        headers: list[tuple[bytes, bytes]] = [(b"content-type", _PROBLEM)]
        if isinstance(error, RateExceeded):
            lines = (line.partition(b": ") for line in error.headers.splitlines())
            headers += [(name, value) for name, _, value in lines]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
        if error.http_status in (401, 403):
            headers.append((b"www-authenticate", self._entry.challenge(error)))
        request.send(error.http_status, headers, msgspec.json.encode(error.problem()))


class _Bridge:
    """One hot request as an ASGI scope with its two callables."""

    def __init__(self, request: HotRequest) -> None:
        self._request = request
        self._is_read = False
        self._start: dict[str, Any] | None = None
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": request.scheme,
            "path": PATH,
            "raw_path": request.path,
            "root_path": "",
            "query_string": request.query,
            "headers": request.headers,
            "client": request.peer,
            "server": None,
        }

    async def receive(self) -> dict[str, Any]:
        """The body; after it nothing: a client that leaves cancels the task that waits here."""
        if self._is_read:
            await asyncio.get_running_loop().create_future()
        self._is_read = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    async def send(self, message: Any) -> None:
        """The response's head is held until its first piece, so that whole answers go out in one packet."""
        request = self._request
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, has_more = message.get("body", b""), message.get("more_body", False)
        start, self._start = self._start, None
        if start is not None:
            headers = [pair for pair in start.get("headers", ()) if pair[0] not in _FRAMING]
            if not has_more:
                request.send(start["status"], headers, body)
                return
            request.start_stream(start["status"], headers, body)
        elif has_more:
            request.write(body)
        else:
            request.end(body)
        if has_more and not request.is_writable and not request.is_ended:
            drained = asyncio.get_running_loop().create_future()
            request.on_drain(lambda: None if drained.done() else drained.set_result(None))
            await drained


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
        return admission, self._entrance.ticket(len(request.body), admission.principal, COUNTED_AS)

    def challenge(self, error: RoadbedError) -> bytes:
        """See `Entry`."""
        return self._tokens.challenge(error)


def _head_of(body: bytes) -> _Head | None:
    """What can be said of a body; None for what is no single JSON object, which the transport refuses."""
    try:
        return msgspec.json.decode(body, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _id_of(head: _Head) -> str | int | None:
    return head.id if isinstance(head.id, str | int) and not isinstance(head.id, bool) else None


def _rpc_error(id_: str | int | None, code: int, message: str, data: Any = None) -> bytes:
    error = {"code": code, "message": message}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id_, "error": error | ({"data": data} if data else {})})
