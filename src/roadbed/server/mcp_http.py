"""``/mcp`` as a hot path: admission, origin and era of each POST, and the bridge from the wire to the SDK's transports.

Keys and tokens are admitted as for every other address. The request's task ends with its client, so a client that
leaves cancels the call, whatever its era; the whole body is read and bounded before anything runs. Clients of the older
versions get a sealed session id, and what they answer to our questions or cancel is taken here: the transports behind
are without sessions. Their streams are `mcp_streams`. The invariant: decisions are made from the credentials, the
session and the body, never from the headers that mirror the body.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from functools import partial
from typing import Any

import msgspec

from roadbed.kernel.errors import RoadbedError
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_bodies import BodyFault, Head, read_body
from roadbed.server.mcp_entry import Entry, Origins, refuse
from roadbed.server.mcp_questions import ANSWER_BYTES_MAX, call_name
from roadbed.server.mcp_session import principal_key
from roadbed.server.mcp_types import (
    BODY_BYTES_MAX,
    INVALID_REQUEST,
    MODERN_VERSION,
    PATH,
    UNSUPPORTED_VERSION,
    VERSIONS,
    Caller,
    Json,
)
from roadbed.server.running import RunningCalls
from roadbed.wire.request import HotRequest

VERSION_HEADER = b"mcp-protocol-version"
SESSION_HEADER = b"mcp-session-id"
STREAM_TYPE = b"text/event-stream"
OLDER_VERSIONS = ("2025-03-26", "2024-11-05")
ENDED = -32001
"""The number of the protocol error that ends a stream whose caller's access has ended."""

KNOWN_VERSIONS = frozenset((*VERSIONS, *OLDER_VERSIONS))
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date"))
_JSON = ((b"content-type", b"application/json"),)


class McpAddress:
    """The handler of ``POST /mcp``."""

    def __init__(self, mcp: Mcp, entry: Entry, origins: Origins, running: RunningCalls) -> None:
        self._running = running
        self._mcp = mcp
        self._entry = entry
        self._origins = origins

    def handle(self, request: HotRequest) -> None:
        """Admit, and answer in a task of the request's own."""
        if not self._origins.allows(request.get(b"origin")):
            request.send(403, _JSON, rpc_error(None, -32600, "this origin may not call"))
            return
        waited_for = self._entry.waits_for(request)
        if waited_for is not None:
            request.create_task(self._answer_after(waited_for, request))
            return
        admitted = self._admitted(request)
        if admitted is not None:
            caller, head = admitted
            task = request.create_task(self._answer(request, caller, head))
            if caller.ticket is not None:
                task.add_done_callback(caller.ticket.task_ended)

    async def _answer_after(self, waited_for: Awaitable[None], request: HotRequest) -> None:
        await waited_for
        admitted = self._admitted(request)
        if admitted is not None:
            await self._answer(request, *admitted)

    def _admitted(self, request: HotRequest) -> tuple[Caller, Head | None] | None:
        """The caller, and what the body says; None when the request was refused here."""
        try:
            admission, ticket = self._entry.admit(request)
        except RoadbedError as error:
            refuse(request, error, self._entry)
            return None
        caller = Caller(admission, ticket, traceparent=request.get(b"traceparent"))
        version = request.get(VERSION_HEADER)
        asked = version.decode("latin-1") if version is not None else None
        caller.is_legacy = asked != MODERN_VERSION
        # A longer body is refused by the transport, whatever it holds.
        read = read_body(request.body, is_legacy=caller.is_legacy) if len(request.body) <= BODY_BYTES_MAX else None
        head = read if isinstance(read, Head) else None
        refusal: tuple[int, bytes] | None = None
        if asked is not None and asked not in KNOWN_VERSIONS and head is not None:
            data = {"supported": list(VERSIONS), "requested": asked[:40]}
            refusal = 400, rpc_error(head.request_id, UNSUPPORTED_VERSION, "unsupported version", data)
        elif isinstance(read, BodyFault):
            status = 200 if read.is_params and caller.is_legacy else 400  # an error is an answer in the older versions
            refusal = status, rpc_error(read.id, read.number, read.message)
        elif head is not None and head.is_answer and not caller.is_legacy:
            refusal = 400, rpc_error(None, INVALID_REQUEST, "an answer is not taken: send a request or a notification")
        given = request.get(SESSION_HEADER)
        if given is not None and caller.is_legacy and refusal is None:
            caller.session = self._mcp.session_of(given, caller)
            if caller.session is None:
                refusal = 404, rpc_error(None, INVALID_REQUEST, "this session is none of yours, or over: initialize")
        if refusal is not None:
            request.send(refusal[0], _JSON, refusal[1])
            if ticket is not None:
                ticket.close()
            return None
        return caller, head

    def _in_stream(self, head: Head, caller: Caller, accept: bytes | None) -> bool:
        """Whether to answer in a stream: where it is wanted or may be needed, and the client takes one."""
        if accept is not None and STREAM_TYPE not in accept and b"*/*" not in accept:
            return False
        if head.method == "subscriptions/listen":
            return True
        params = head.params
        if params is None:
            return False
        if "progressToken" in params.meta or "io.modelcontextprotocol/logLevel" in params.meta:
            return True
        is_call = head.method == "tools/call" and isinstance(params.name, str)
        return is_call and self._mcp.offering.needs_stream(params.name, caller)

    async def _answer(self, request: HotRequest, caller: Caller, head: Head | None) -> None:
        call = self._running.enter(caller.principal)
        try:
            if head is not None and caller.is_legacy and await self._took(request, caller, head):
                return
            in_stream = head is not None and self._in_stream(head, caller, request.get(b"accept"))
            opening: tuple[bytes, bytes] | None = None
            if head is not None and caller.is_legacy and head.method == "initialize":
                session = self._mcp.sessions.opening(head.params.capabilities if head.params is not None else None)
                opening = SESSION_HEADER, self._mcp.sessions.sealed(session, caller.principal).encode()
            bridge = _Bridge(request, opening)
            if in_stream and caller.session is not None:
                caller.ask = partial(self._ask, bridge, caller)
            await self._mcp.answer(caller, bridge.scope, bridge.receive, bridge.send, in_stream=in_stream)
        except asyncio.CancelledError:
            self._end(request, head, call.ended())
        finally:
            call.leave()
            if caller.ticket is not None:
                caller.ticket.close()

    def _end(self, request: HotRequest, head: Head | None, error: RoadbedError) -> None:
        """The caller's access has ended during the call: the last event of its stream says so, or its response."""
        if not request.is_started:
            refuse(request, error, self._entry)
        elif not request.is_ended:
            said = rpc_error(head.request_id if head is not None else None, ENDED, error.message, {"code": error.code})
            request.end(b"event: message\r\ndata: %b\r\n\r\n" % said)

    async def _took(self, request: HotRequest, caller: Caller, head: Head) -> bool:
        """Whether the body was an answer to a question, or took back a call; then the client was told so."""
        questions = self._mcp.questions
        if head.is_answer:
            if len(request.body) > ANSWER_BYTES_MAX:
                request.send(413, _JSON, rpc_error(None, INVALID_REQUEST, "an answer has at most 64 KiB"))
                return True
            answer = {"result": head.result} if head.error is None else {"error": head.error}
            try:
                is_taken = await questions.answer(principal_key(caller.principal), head.id, answer)
            except RoadbedError as error:
                refuse(request, error, self._entry)
                return True
            if is_taken:
                request.send(202)
            else:
                request.send(404, _JSON, rpc_error(None, INVALID_REQUEST, "no question of this id waits for you"))
            return True
        if head.method == "notifications/cancelled" and caller.session is not None and head.params is not None:
            with contextlib.suppress(RoadbedError):  # a cancel is a wish
                await questions.cancel(call_name(caller.session.name, head.params.request_id))
            request.send(202)
            return True
        return False

    async def _ask(self, bridge: _Bridge, caller: Caller, method: str, params: Json, wait_s: float) -> Json | None:
        """See `Caller.ask`."""
        asked = ""

        async def send(question: str) -> None:
            nonlocal asked
            await bridge.say({"jsonrpc": "2.0", "id": question, "method": method, "params": params})
            asked = question

        answer = await self._mcp.questions.ask(principal_key(caller.principal), send, wait_s)
        if answer is None and asked:
            over = {"requestId": asked, "reason": "it was waited for long enough"}
            await bridge.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": over})
        result = answer.get("result") if answer is not None else None
        return result if isinstance(result, dict) else None


def sse_event(message: Json) -> bytes:
    """A message as an event of a stream."""
    return b"event: message\r\ndata: " + msgspec.json.encode(message) + b"\r\n\r\n"


class _Bridge:
    """One hot request as an ASGI scope with its two callables. ``opening`` is a header more of a whole answer."""

    def __init__(self, request: HotRequest, opening: tuple[bytes, bytes] | None = None) -> None:
        self._request = request
        self._opening = opening
        self._streams = asyncio.Event()
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
            headers = dict(message.get("headers", ()))
            if headers.get(b"content-type", b"").startswith(STREAM_TYPE):
                self._streams.set()
            return
        self._write(message.get("body", b""), message.get("more_body", False))
        if message.get("more_body", False) and not request.is_writable and not request.is_ended:
            drained = asyncio.get_running_loop().create_future()
            request.on_drain(lambda: None if drained.done() else drained.set_result(None))
            await drained

    async def say(self, message: Json) -> None:
        """Put a message of ours on the stream, between the transport's own; each of those is one piece."""
        await self._streams.wait()
        if not self._request.is_ended:
            self._write(sse_event(message), has_more=True)

    def _write(self, body: bytes, has_more: bool) -> None:
        request = self._request
        start, self._start = self._start, None
        if start is not None:
            headers = [pair for pair in start.get("headers", ()) if pair[0] not in _FRAMING]
            if self._opening is not None:
                headers.append(self._opening)
            if not has_more:
                request.send(start["status"], headers, body)
                return
            request.start_stream(start["status"], headers, body)
        elif has_more:
            request.write(body)
        else:
            request.end(body)


def rpc_error(id_: str | int | None, code: int, message: str, data: Any = None) -> bytes:
    """An error of the protocol as a body."""
    error = {"code": code, "message": message}
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id_, "error": error | ({"data": data} if data else {})})
