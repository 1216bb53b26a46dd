"""Loopback fixtures: our protocol without uvicorn's main loop, a raw client, and a scripted upstream."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
import uvicorn
from uvicorn.server import ServerState

from roadbed.wire.acceptor import Acceptor
from roadbed.wire.hot import HotTable, Limits
from roadbed.wire.protocol import HotProtocol, hot_protocol
from roadbed.wire.request import HotRequest
from roadbed.wire.server import bind

PATIENCE_S = 20.0


class Recorder:
    """A hot handler that keeps what it is given and answers by a function."""

    def __init__(self, answer: Callable[[HotRequest], None] | None = None) -> None:
        self.requests: list[HotRequest] = []
        self.answer = answer or (lambda request: request.send(200, (), b"hot:" + request.body))

    def handle(self, request: HotRequest) -> None:
        self.requests.append(request)
        self.answer(request)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """Writes exact bytes and reads responses apart."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, method: str = "GET") -> Reply:
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            status = int(lines[0].split(" ")[1])
            if method == "HEAD" or status in (100, 204, 304):
                return Reply(status, headers, b"")
            if "content-length" in headers:
                return Reply(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
                return Reply(status, headers, body)
            return Reply(status, headers, await self.reader.read())

    async def closed(self) -> bytes:
        """All bytes until the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            rest = b""
            with suppress(ConnectionError):
                while piece := await self.reader.read(65536):
                    rest += piece
            return rest

    def abort(self) -> None:
        self.writer.transport.abort()


class Site:
    """A listening server, its application's log and its connections."""

    def __init__(self, app: Any, table: HotTable) -> None:
        self.table = table
        self.state = ServerState()
        self.config = uvicorn.Config(app, http=hot_protocol(table), log_config=None, access_log=False)
        self.config.load()
        self.acceptor: Acceptor | None = None
        self.port = 0
        self.clients: list[RawClient] = []

    async def open(self) -> None:
        def make() -> asyncio.Protocol:
            return self.config.http_protocol_class(  # type: ignore[call-arg]
                config=self.config, server_state=self.state, app_state={}
            )

        listener = bind("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        self.acceptor = Acceptor(listener, make, lambda: len(self.state.connections))

    @property
    def connection(self) -> HotProtocol:
        """The only connection, as the server sees it."""
        (connection,) = self.state.connections
        assert isinstance(connection, HotProtocol)
        return connection

    async def connect(self) -> RawClient:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def close(self) -> None:
        assert self.acceptor is not None
        await self.acceptor.close(PATIENCE_S)
        for connection in list(self.state.connections):
            connection.transport.abort()
        for client in self.clients:
            client.abort()
        for task in list(self.state.tasks):
            task.cancel()
        while self.state.connections or self.state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class EchoApp:
    """An ASGI application that answers with the body it read, and remembers whether it saw a disconnect."""

    def __init__(self) -> None:
        self.calls = 0
        self.bodies: list[bytes] = []
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.calls += 1
        if scope["path"] == "/early":
            await self._answer(send, b"early")
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.bodies.append(body)
        await self._answer(send, b"asgi:" + body)

    async def _answer(self, send: Send, body: bytes) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Upstream:
    """A raw scripted server: each connection runs ``script(reader, writer, number)``."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.left = asyncio.Event()
        self.tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.server: asyncio.Server | None = None
        self.port = 0

    async def open(self, context: ssl.SSLContext | None = None) -> None:
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request whole; raises ``IncompleteReadError`` when the client left."""
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length: "):
                head += await reader.readexactly(int(line[16:]))
        self.requests.append(head)
        return head

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks[task] = writer
        self.connections += 1
        try:
            await self.script(self, reader, writer, self.connections)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            del self.tasks[task]
            writer.close()

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        for writer in self.tasks.values():
            writer.transport.abort()
        await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), PATIENCE_S)
        await self.server.wait_closed()


Script = Callable[[Upstream, asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
OpenUpstream = Callable[..., Awaitable[Upstream]]


@pytest.fixture
async def open_upstream() -> AsyncIterator[OpenUpstream]:
    """A factory of scripted upstreams."""
    upstreams: list[Upstream] = []

    async def make(script: Script, context: ssl.SSLContext | None = None) -> Upstream:
        upstream = Upstream(script)
        upstreams.append(upstream)
        await upstream.open(context)
        return upstream

    yield make
    for upstream in upstreams:
        await upstream.close()


OpenSite = Callable[..., Awaitable[Site]]


@pytest.fixture
async def open_site() -> AsyncIterator[OpenSite]:
    """A factory of sites: hot handlers by ``METHOD /path``, limits, an application."""
    sites: list[Site] = []

    async def make(
        routes: dict[str, Any] | None = None,
        *,
        app: Any = None,
        limits: Limits | None = None,
        body_bytes_max: int = 4096,
    ) -> Site:
        table = HotTable(limits=limits or Limits())
        for route, handler in (routes or {}).items():
            method, path = route.split(" ")
            table.add(method, path, handler, body_bytes_max)
        site = Site(app or EchoApp(), table)
        sites.append(site)
        await site.open()
        return site

    yield make
    for site in sites:
        await site.close()
