"""A server over streamable HTTP, in both eras, answers as JSON or as a stream of events.

Written on our own HTTP client, because a hop through the SDK's costs several times the CPU. The era is found by one
``server/discover`` and remembered; sessions of the older era are one a caller, so that nobody's state is seen by
another. Redirects are not followed. The invariant: an answer over `messages.BODY_BYTES_MAX` or past the deadline
closes its connection, and nothing that may change a system is sent twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.caller_auth import Headers, Shown
from roadbed.tools.upstreams.errors import UpstreamMisbehaved, UpstreamTimeout, UpstreamUnavailable
from roadbed.tools.upstreams.messages import (
    BODY_BYTES_MAX,
    INITIALIZE,
    LEGACY,
    MODERN,
    UNSUPPORTED_VERSION,
    ErrorAnswered,
    Message,
    modern_headers,
    notification_body,
    parse_message,
    request_body,
    result_of,
)
from roadbed.wire.address import Url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import EventTooLarge, ResponseTooLarge, UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.response import UpstreamResponse
from roadbed.wire.sse import SseParser

CONNECT_S = 5.0
SESSIONS_MAX = 64
EVENTS_MAX = 1_000
SECRET_BYTES_MIN = 6
_FIXED = [(b"content-type", b"application/json"), (b"accept", b"application/json, text/event-stream")]
_NOTHING: Mapping[str, Any] = {}

Era = Literal["modern", "legacy"]


@dataclass(frozen=True, slots=True)
class Session:
    """What ``initialize`` gave: the version that both speak, and the server's id of the session, if it has any."""

    version: str
    id: bytes


class StatusAnswered(Exception):
    """A server answered with a status and no message of MCP."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class CredentialNotTaken(Exception):
    """A server refused the credential of a caller, which says nothing of how it is."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """What all messages of one request have in common; ``shown`` is the caller's own credential."""

    deadline: Deadline
    shown: Shown | None

    def without_secret(self, answer: bytes) -> bytes:
        """An answer in which the caller's credential, which some servers repeat in errors, does not stand."""
        secret = self.shown.secret if self.shown is not None else ""
        return answer.replace(secret.encode(), b"***") if len(secret) >= SECRET_BYTES_MIN else answer


class HttpPeer:
    """One server. ``credential`` is asked for at each request, so that a changed secret is used at once."""

    is_running = True

    def __init__(self, name: str, url: Url, credential: Callable[[], Secret | None], client: UpstreamClient) -> None:
        self.era: Era | None = None
        self._name = name
        self._url = url
        self._credential = credential
        self._client = client
        self._number = 0
        self._probing = asyncio.Lock()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    async def request(
        self,
        method: str,
        params: Mapping[str, Any],
        deadline: Deadline,
        *,
        caller: str,
        may_repeat: bool,
        schema: Mapping[str, Any] = _NOTHING,
        shown: Shown | None = None,
    ) -> dict[str, Any]:
        """The result of one request. `ErrorAnswered`, `UpstreamUnavailable`, `UpstreamMisbehaved`, `UpstreamTimeout`;
        `CredentialNotTaken` when ``shown``, which is the caller's own, was refused.

        ``schema`` is that of a tool's arguments, some of which go into headers.
        """
        asking = _Asking(deadline, shown)
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                return await self._request(method, params, asking, caller, schema, may_repeat=may_repeat)
        except TimeoutError:
            raise UpstreamTimeout(f"{self._name} did not answer in time") from None
        except StatusAnswered as error:
            if shown is not None and error.status in (401, 403):
                raise CredentialNotTaken from None
            raise self._refused(error.status) from None
        except (ResponseTooLarge, EventTooLarge):
            raise UpstreamMisbehaved(f"{self._name} sent more than {BODY_BYTES_MAX} bytes") from None
        except UpstreamFailed as error:
            if deadline.has_passed():
                raise UpstreamTimeout(f"{self._name} did not answer in time") from None
            raise UpstreamUnavailable(f"{self._name} cannot be reached ({type(error).__name__})") from None

    async def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        asking: _Asking,
        caller: str,
        schema: Mapping[str, Any],
        *,
        may_repeat: bool,
    ) -> dict[str, Any]:
        if await self._found_era(asking) == "modern":
            try:
                return await self._modern(method, params, asking, schema)
            except ErrorAnswered as error:
                if error.code != UNSUPPORTED_VERSION:
                    raise
                self.era = "legacy"  # it was replaced by an older one; the request was refused unread
        session = self._sessions.get(caller) or await self._open(asking, caller)
        try:
            return await self._legacy(session, method, params, asking)
        except StatusAnswered as error:
            if error.status not in (400, 404):
                raise
            self._sessions.pop(caller, None)  # the server forgot the session, or is another by now
            self.era = None
            if not may_repeat:
                raise
        if await self._found_era(asking) == "modern":
            return await self._modern(method, params, asking, schema)
        return await self._legacy(await self._open(asking, caller), method, params, asking)

    async def _found_era(self, asking: _Asking) -> Era:
        if self.era is not None:
            return self.era
        async with self._probing:
            if self.era is None:
                self.era = await self._probe(asking)
            return self.era

    async def _probe(self, asking: _Asking) -> Era:
        try:
            found = await self._modern("server/discover", {}, asking, _NOTHING)
        except ErrorAnswered:
            return "legacy"
        except StatusAnswered as error:
            if error.status not in (400, 404, 405, 406, 422):
                raise
            return "legacy"
        return "modern" if MODERN in (found.get("supportedVersions") or [MODERN]) else "legacy"

    async def _modern(
        self, method: str, params: Mapping[str, Any], asking: _Asking, schema: Mapping[str, Any]
    ) -> dict[str, Any]:
        self._number += 1
        body = request_body(self._number, method, params, is_modern=True)
        message, _ = await self._send(body, self._number, modern_headers(method, params, schema), asking)
        return result_of(self._name, message)

    async def _legacy(
        self, session: Session, method: str, params: Mapping[str, Any], asking: _Asking
    ) -> dict[str, Any]:
        self._number += 1
        body = request_body(self._number, method, params, is_modern=False)
        message, _ = await self._send(body, self._number, _session_headers(session), asking)
        return result_of(self._name, message)

    async def _open(self, asking: _Asking, caller: str) -> Session:
        self._number += 1
        body = request_body(self._number, "initialize", INITIALIZE, is_modern=False)
        message, response = await self._send(body, self._number, [], asking)
        version = result_of(self._name, message).get("protocolVersion")
        if version not in LEGACY:
            raise UpstreamMisbehaved(f"{self._name} speaks no version of MCP that is known here")
        session = Session(version, response.get(b"mcp-session-id") or b"")
        await self._send(notification_body("notifications/initialized"), None, _session_headers(session), asking)
        while len(self._sessions) >= SESSIONS_MAX:
            self._sessions.popitem(last=False)
        self._sessions[caller] = session
        return session

    async def _send(
        self, body: bytes, number: int | None, headers: list[tuple[bytes, bytes]], asking: _Asking
    ) -> tuple[Message, UpstreamResponse]:
        """Send one message; the answer to it, or an empty one to a notification."""
        headers = [*headers, *self._shown(asking)]
        request = UpstreamRequest(
            b"POST",
            self._url,
            tuple(_FIXED + headers),
            body,
            credential_class=f"mcp:{self._name}",
            response_bytes_max=BODY_BYTES_MAX,
        )
        left_s = asking.deadline.remaining_s()
        response = await self._client.request(
            request, connect_s=min(CONNECT_S, left_s), head_s=left_s, complete_s=left_s
        )
        async with response:
            if number is None and 200 <= response.status < 300:
                await response.read(BODY_BYTES_MAX)
                return Message(), response
            kind = (response.get(b"content-type") or b"").partition(b";")[0].strip().lower()
            if kind == b"text/event-stream" and response.status == 200:
                return await self._event(response, number, asking), response
            if kind == b"application/json" and (response.status == 200 or 400 <= response.status < 500):
                message = parse_message(self._name, asking.without_secret(await response.read(BODY_BYTES_MAX)))
                if response.status != 200 and message.error is None:
                    raise StatusAnswered(response.status)
                if response.status in (401, 403):
                    raise StatusAnswered(response.status)
                if message.error is None and message.id != number:
                    raise UpstreamMisbehaved(f"{self._name} answered another request")
                if message.error is not None and response.status == 404 and b"mcp-session-id" in dict(headers):
                    raise StatusAnswered(404)
                return message, response
            if response.status == 200:
                raise UpstreamMisbehaved(f"{self._name} answered with neither JSON nor events")
            raise StatusAnswered(response.status)

    def _shown(self, asking: _Asking) -> Headers:
        """What shows who asks: the caller, where there is one of whom the server wants to know, or this deployment."""
        if asking.shown is not None:
            return asking.shown.headers
        credential = self._credential()
        if credential is None:
            return ()
        return ((b"authorization", b"Bearer " + credential.reveal().encode("utf-8")),)

    async def _event(self, response: UpstreamResponse, number: int | None, asking: _Asking) -> Message:
        """The answer among the events of a stream; what else is in it was not asked for."""
        parser = SseParser(BODY_BYTES_MAX)
        seen = size = 0
        async for piece in response:
            size += len(piece)
            if size > BODY_BYTES_MAX:
                raise ResponseTooLarge(f"a stream of {self._name} is over {BODY_BYTES_MAX} bytes")
            for event in parser.feed(piece):
                seen += 1
                if seen > EVENTS_MAX:
                    raise UpstreamMisbehaved(f"{self._name} sent more than {EVENTS_MAX} events")
                if not event.data:
                    continue
                message = parse_message(self._name, asking.without_secret(event.data))
                if message.id == number and not message.method:
                    return message
        raise UpstreamMisbehaved(f"{self._name} ended its answer without a result")

    def _refused(self, status: int) -> UpstreamUnavailable | UpstreamMisbehaved:
        if status in (401, 403):
            return UpstreamMisbehaved(
                f"{self._name} refuses the credentials (status {status})", hint="set what the source's key refers to"
            )
        if 300 <= status < 400:
            return UpstreamMisbehaved(
                f"{self._name} answers with a redirect, which is not followed", hint="give its new url"
            )
        return UpstreamUnavailable(f"{self._name} answered with the status {status}")

    async def close(self) -> None:
        """Nothing is open: connections belong to the client, sessions end at the server by themselves."""
        self._sessions.clear()


def _session_headers(session: Session) -> list[tuple[bytes, bytes]]:
    headers = [(b"mcp-protocol-version", session.version.encode())]
    return [*headers, (b"mcp-session-id", session.id)] if session.id else headers
