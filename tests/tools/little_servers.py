"""Little MCP servers that really listen: of both eras, answering as JSON or as events, and with every fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

ECHO: dict[str, Any] = {
    "name": "echo",
    "description": "Says what it is told.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string", "x-mcp-header": "Text"}},
        "required": ["text"],
    },
    "outputSchema": {
        "type": "object",
        "properties": {"said": {"type": "string"}},
        "required": ["said"],
        "additionalProperties": False,
    },
}
ADD: dict[str, Any] = {
    "name": "add",
    "description": "Adds two numbers.",
    "inputSchema": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
}


@dataclass
class Asked:
    """One request as it came."""

    method: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class LittleServer:
    """``fault`` is asked for at each ``tools/call``: stall, die, flood, endless, lie, garbage, big, …"""

    era: str = "modern"
    as_events: bool = False
    tools: list[dict[str, Any]] = field(default_factory=lambda: [ECHO, ADD])
    fault: str = ""
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    status: int = 200
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def count(self, method: str) -> int:
        return sum(asked.method == method for asked in self.asked)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.closed.set()
            writer.transport.abort()
            self._tasks.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", "0"))))
        self.asked.append(Asked(body.get("method", ""), headers, body))
        status, answer, extra = self._answer(headers, body)
        if body.get("method") == "tools/call" and self.fault:
            spoiled = await self._at_fault(answer, reader, writer)
            if spoiled is None:
                return False
            answer = spoiled
        await self._write(writer, status, answer, extra)
        return True

    async def _write(self, writer: asyncio.StreamWriter, status: int, answer: Any, extra: str) -> None:
        if answer == {}:
            writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{extra}\r\n".encode())
        elif self.as_events and status == 200:
            note = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}
            data = "".join(f"event: message\ndata: {json.dumps(part)}\n\n" for part in (note, answer))
            kind = f"content-type: text/event-stream\r\ncontent-length: {len(data)}\r\n"
            writer.write(f"HTTP/1.1 200 OK\r\n{kind}{extra}\r\n{data}".encode())
        else:
            data = json.dumps(answer)
            kind = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{kind}{extra}\r\n{data}".encode())
        await writer.drain()

    async def _at_fault(
        self, answer: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any] | None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
        result = answer.get("result", {})
        match self.fault:
            case "stall":
                await reader.read(1)  # until the caller hangs up
                return None
            case "die":
                return None
            case "endless" | "flood":
                is_stream = self.fault == "flood"
                writer.write(head % (b"text/event-stream" if is_stream else b"application/json"))
                piece = b'data: {"jsonrpc":"2.0","method":"x"}\n\n' * 100 if is_stream else b" " * 65536
                with suppress(ConnectionError):
                    while True:
                        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                        await writer.drain()
                return None
            case "lie":
                result["structuredContent"] = {"said": 7}
            case "garbage":
                return {"nothing": "of MCP"}
            case "big":
                result["structuredContent"] = {"said": "x" * 300_000}
            case "other_id":
                return {**answer, "id": 999_999}
            case "asks":
                answer["result"] = {"resultType": "input_required", "inputRequests": {}}
            case "error":
                return {
                    "jsonrpc": "2.0",
                    "id": answer["id"],
                    "error": {"code": -32602, "message": "SECRET of the server"},
                }
            case "is_error":
                answer["result"] = {"isError": True, "content": [{"type": "text", "text": "no such text"}]}
        return answer

    def _answer(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any], str]:
        method, number = body.get("method"), body.get("id")
        if self.status != 200:
            return self.status, {}, "location: http://127.0.0.1:1/\r\n"
        is_modern = headers.get("mcp-protocol-version") == "2026-07-28"
        if is_modern != (self.era == "modern"):
            error: dict[str, Any] = {"code": -32022 if is_modern else -32601, "message": "x", "data": {"supported": []}}
            return 400, {"jsonrpc": "2.0", "id": number, "error": error}, ""
        if method == "initialize":
            session = f"s{len(self.asked)}"
            self.sessions.add(session)
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
            return 200, {"jsonrpc": "2.0", "id": number, "result": result}, f"mcp-session-id: {session}\r\n"
        if number is None:
            return 202, {}, ""
        if self.era == "legacy" and headers.get("mcp-session-id") not in self.sessions:
            return 404, {}, ""
        return 200, {"jsonrpc": "2.0", "id": number, "result": self._result(method, body.get("params", {}))}, ""

    def _result(self, method: str | None, params: dict[str, Any]) -> dict[str, Any]:
        if method == "server/discover":
            return {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}}
        if method == "tools/list":
            half = len(self.tools) // 2
            if params.get("cursor") == "more":
                return {"tools": self.tools[half:]}
            return {"tools": self.tools[:half], "nextCursor": "more"} if half else {"tools": self.tools}
        if params.get("name") == "echo":
            said = params["arguments"]["text"]
            return {"content": [{"type": "text", "text": said}], "structuredContent": {"said": said}}
        total = str(params["arguments"]["a"] + params["arguments"]["b"])
        return {
            "content": [{"type": "text", "text": total}, {"type": "image", "data": "AAAA", "mimeType": "image/png"}]
        }


@asynccontextmanager
async def little_server(**how: Any) -> AsyncIterator[LittleServer]:
    """A server that listens, until the block ends."""
    server = LittleServer(**how)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


# A stdio server: lines in, lines out. ``FAULT`` of its environment says what is wrong with its calls.
STDIO = """
import json, os, socket, sys, time
fault = os.environ.get("FAULT", "")
modern = os.environ.get("ERA") == "modern"
ECHO = @ECHO@
def say(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    asked = json.loads(line)
    method, number = asked.get("method"), asked.get("id")
    if number is None or not method:
        continue
    if method == "initialize":
        if modern:
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "x"}})
        else:
            say({"jsonrpc": "2.0", "id": number, "result": {"protocolVersion": "2025-11-25", "capabilities": {}}})
        continue
    if modern and asked["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] != "2026-07-28":
        sys.exit(9)
    if method == "tools/list":
        say({"jsonrpc": "2.0", "id": 1 << 40, "method": "ping"})
        say({"jsonrpc": "2.0", "id": number, "result": {"tools": [ECHO]}})
        continue
    text = asked["params"]["arguments"]["text"]
    if fault == "stall":
        if os.fork() == 0:
            time.sleep(3600)
        time.sleep(3600)
    if fault == "die":
        sys.exit(3)
    if fault == "flood":
        while True:
            say({"jsonrpc": "2.0", "method": "x"})
    if fault == "endless":
        while True:
            sys.stdout.write("x" * 65536)
    if fault == "garbage":
        print("starting up ...", flush=True)
    if text == "environment":
        text = ",".join(sorted(os.environ))
    if text == "network":
        try:
            socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 1).close()
            text = "reached"
        except OSError:
            text = "none"
    say({"jsonrpc": "2.0", "id": number, "result": {"content": [], "structuredContent": {"said": text}}})
""".replace("@ECHO@", repr(ECHO))
