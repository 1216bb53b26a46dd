"""The standing streams of ``/mcp`` for clients of the older versions: GET opens one, DELETE ends a session.

A stream tells what changed of the resources that its session follows, and nothing else. It holds nothing: what was told
lies behind `Follows`, so that a client whose stream breaks opens another, on any process. The invariant: a stream is
bounded in number and in what waits to be written, and ends with its caller's credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable

from roadbed.kernel.errors import RoadbedError
from roadbed.server.mcp import Mcp
from roadbed.server.mcp_entry import Entry, Origins, refuse
from roadbed.server.mcp_http import SESSION_HEADER, STREAM_TYPE, VERSION_HEADER, McpAddress, rpc_error, sse_event
from roadbed.server.mcp_session import principal_key
from roadbed.server.mcp_types import BODY_BYTES_MAX, INVALID_REQUEST, MODERN_VERSION, PATH, Caller, Follows
from roadbed.server.running import RunningCalls
from roadbed.wire.hot import HotTable
from roadbed.wire.request import HotRequest

STREAMS_MAX = 256
STREAMS_OF_ONE_MAX = 8
KEEP_S = 15.0
BETWEEN_S = 0.2
_HEADERS = (
    (b"content-type", STREAM_TYPE),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
_JSON = ((b"content-type", b"application/json"),)


class StreamsFull(RoadbedError):
    """Too many standing MCP streams are open, of this caller or at all."""

    code = "mcp.streams_full"
    hint = "close streams that are not needed; calls work without one"
    http_status = 429
    retryable = True
    retry_after_s = 30.0


class McpStreams:
    """The handler of ``GET /mcp`` and ``DELETE /mcp``."""

    def __init__(self, mcp: Mcp, entry: Entry, origins: Origins) -> None:
        self._mcp = mcp
        self._entry = entry
        self._origins = origins
        self._open: Counter[str] = Counter()

    def handle(self, request: HotRequest) -> None:
        """Admit, and answer in a task of the request's own."""
        if not self._origins.allows(request.get(b"origin")):
            request.send(403, _JSON, rpc_error(None, INVALID_REQUEST, "this origin may not call"))
            return
        request.create_task(self._answer(request, self._entry.waits_for(request)))

    async def _answer(self, request: HotRequest, waited_for: Awaitable[None] | None) -> None:
        if waited_for is not None:
            await waited_for
        try:
            admission, ticket = self._entry.admit(request)
            if ticket is not None:
                ticket.close()  # a stream stands for hours: it counts as a request, not among those at work
            caller = Caller(admission, is_legacy=True)
            follows = self._mcp.offering.follows
            given = request.get(SESSION_HEADER)
            if follows is None or given is None or request.get(VERSION_HEADER) == MODERN_VERSION.encode():
                request.send(405, ((b"allow", b"POST"),))
                return
            caller.session = self._mcp.session_of(given, caller)
            if caller.session is None:
                said = "this session is none of yours, or over: initialize"
                request.send(404, _JSON, rpc_error(None, INVALID_REQUEST, said))
            elif request.method == b"DELETE":
                await follows.end(caller)
                await self._mcp.questions.end_session(caller.session.name)
                request.send(204)
            else:
                await self._stream(request, caller, follows)
        except RoadbedError as error:
            refuse(request, error, self._entry)

    async def _stream(self, request: HotRequest, caller: Caller, follows: Follows) -> None:
        accept = request.get(b"accept") or b""
        if STREAM_TYPE not in accept and b"*/*" not in accept:
            said = rpc_error(None, INVALID_REQUEST, "the client must accept text/event-stream")
            request.send(406, _JSON, said)
            return
        mine = principal_key(caller.principal)
        if self._open[mine] >= STREAMS_OF_ONE_MAX or self._open.total() >= STREAMS_MAX:
            raise StreamsFull("too many streams are open")
        self._open[mine] += 1
        try:
            with follows.watching() as changed:
                self._mcp.waking.add(changed)
                try:
                    await self._tell(request, caller, follows, changed)
                finally:
                    self._mcp.waking.discard(changed)
        finally:
            self._open[mine] -= 1
            if not self._open[mine]:
                del self._open[mine]

    async def _tell(self, request: HotRequest, caller: Caller, follows: Follows, changed: asyncio.Event) -> None:
        request.start_stream(200, _HEADERS, b": open\r\n\r\n")
        assert caller.session is not None
        while not self._mcp.is_ending and not self._mcp.questions.has_ended(caller.session.name):
            changed.clear()
            try:
                caller.admission = self._entry.check(request)
                found = await follows.changed(caller)
            except RoadbedError as error:
                if error.http_status in (401, 403):
                    break  # the key was revoked meanwhile
                found = []  # the database is away: asked again at the next change, or at the next beat
            for uri in found:
                updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}}
                request.write(sse_event(updated))
            if not request.is_writable:
                break  # a client that does not read can open another stream later
            await asyncio.sleep(BETWEEN_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), KEEP_S)
                continue
            request.write(b": \r\n\r\n")
        request.end()


def add_mcp(table: HotTable, mcp: Mcp, entry: Entry, origins: Origins, running: RunningCalls | None = None) -> None:
    """Serve ``/mcp`` on the hot paths of a table; ``running`` ends calls whose callers' access ends."""
    running = running if running is not None else RunningCalls()
    table.add("POST", PATH, McpAddress(mcp, entry, origins, running), BODY_BYTES_MAX)
    streams = McpStreams(mcp, entry, origins)
    for method in ("GET", "DELETE"):
        table.add(method, PATH, streams, BODY_BYTES_MAX)
