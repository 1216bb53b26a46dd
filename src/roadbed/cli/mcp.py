"""``roadbed mcp``: bring MCP clients that start programs to the running server, or print how to configure them.

``--stdio`` is a bridge: one JSON-RPC message a line in and out, each request an HTTP request of its own to ``/mcp``. It
holds no state but the version and session that the client's first message led to, and knows nothing of tools. A client
that follows resources gets a standing stream beside its requests.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
import threading
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from roadbed.cli.connection import KEY_VARIABLE, URL_VARIABLE, Server, add_arguments, connect
from roadbed.cli.main import EXIT_USAGE

SUMMARY = "bring desktop clients and editors to the tools of the running server (MCP)"
EXAMPLE = """\
  roadbed mcp config                       how to configure clients, with this server's address
  roadbed mcp config --client cursor
  roadbed mcp --stdio                      what such a configuration starts
"""
LINE_BYTES_MAX = 1024 * 1024
AT_ONCE = 16
CALL_S = 660.0
END_S = 5.0
LISTEN_AGAIN_S = 0.5
MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
CLIENTS = ("claude-desktop", "claude-code", "cursor", "vscode", "generic")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("what", nargs="?", choices=("config",), help="print configurations of clients")
    parser.add_argument("--stdio", action="store_true", help="speak MCP on standard input and output")
    parser.add_argument("--client", choices=CLIENTS, help="the client to configure (default: all)")
    add_arguments(parser)
    parser.set_defaults(parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.stdio:
        Bridge(connect(arguments), sys.stdin.buffer, sys.stdout.buffer).run()
        return 0
    if arguments.what != "config":
        arguments.parser.print_help(sys.stderr)
        print("\nroadbed mcp: say config or --stdio", file=sys.stderr)
        return EXIT_USAGE
    address = arguments.url or connect(arguments).url
    shown = configurations(address, command_of(arguments))
    names = [arguments.client] if arguments.client else list(CLIENTS)
    if arguments.json:
        print(json.dumps({name: shown[name][1] for name in names}, indent=2))
        return 0
    for name in names:
        where, body = shown[name]
        print(f"# {name}: {where}")
        print(body if isinstance(body, str) else json.dumps(body, indent=2))
        print()
    print(
        f"# a key of its own for each client: roadbed keys create --name CLIENT --team TEAM; it goes in {KEY_VARIABLE}"
    )
    return 0


def command_of(arguments: argparse.Namespace) -> list[str]:
    """The words that start the bridge from any folder."""
    words = ["roadbed", "mcp", "--stdio"]
    if arguments.url:
        return [*words, "--url", arguments.url]
    if arguments.state:
        return [*words, "--state", str(Path(arguments.state).resolve())]
    return [*words, "--workspace", str(Path(arguments.workspace).resolve())]


def configurations(url: str, command: list[str]) -> dict[str, tuple[str, Any]]:
    """By client: where its configuration lies, and what goes into it."""
    address = f"{url.rstrip('/')}/mcp"
    stdio = {"command": command[0], "args": command[1:]}
    by_http = {"url": address, "headers": {"Authorization": f"Bearer ${{env:{KEY_VARIABLE}}}"}}
    vscode = {
        "inputs": [{"id": "roadbed-key", "type": "promptString", "description": "Roadbed key", "password": True}],
        "servers": {
            "roadbed": {"type": "http", "url": address, "headers": {"Authorization": "Bearer ${input:roadbed-key}"}}
        },
    }
    line = f'claude mcp add --transport http roadbed {address} --header "Authorization: Bearer ${KEY_VARIABLE}"'
    return {
        "claude-desktop": ("claude_desktop_config.json", {"mcpServers": {"roadbed": stdio}}),
        "claude-code": ("run this", line),
        "cursor": (".cursor/mcp.json", {"mcpServers": {"roadbed": by_http}}),
        "vscode": (".vscode/mcp.json", vscode),
        "generic": (
            f"any client: streamable HTTP, or the program; {URL_VARIABLE} and {KEY_VARIABLE} point it elsewhere",
            {"mcpServers": {"roadbed": stdio, "roadbed-http": by_http}},
        ),
    }


class Bridge:
    """Lines of JSON-RPC on a pair of streams, to and from one server."""

    def __init__(self, server: Server, source: BinaryIO, sink: BinaryIO) -> None:
        self._server = server
        self._source = source
        self._sink = sink
        self._writing = threading.Lock()
        self._version: str | None = None
        self._session: str | None = None
        self._listening: http.client.HTTPConnection | None = None
        self._is_over = threading.Event()
        self._running: set[Future[None]] = set()
        self._open: dict[Any, http.client.HTTPConnection] = {}

    def run(self) -> None:
        """Serve until standard input ends; what runs then has `END_S` to end."""
        with ThreadPoolExecutor(AT_ONCE, "mcp") as pool:
            while line := self._source.readline(LINE_BYTES_MAX + 1):
                if len(line) > LINE_BYTES_MAX:
                    self._say(_error(None, -32600, "a message is larger than 1 MiB"))
                    break
                if line.strip():
                    self._take(line, pool)
            wait(set(self._running), END_S)
            self._is_over.set()
            for connection in [*self._open.values(), *([self._listening] if self._listening is not None else [])]:
                _cut(connection)
        # Nothing is written from now on: the thread of changes would hold the stream while the interpreter ends.
        self._writing.acquire(timeout=END_S)

    def _take(self, line: bytes, pool: ThreadPoolExecutor) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._say(_error(None, -32700, "Parse error"))
            return
        if not isinstance(message, dict):
            self._say(_error(None, -32600, "a message is one JSON object"))
            return
        if message.get("method") == "notifications/cancelled" and self._version is not None:
            params = message.get("params")
            connection = self._open.get(params.get("requestId") if isinstance(params, dict) else None)
            if self._session is not None:
                self._post(line, message)  # told before leaving, as leaving alone does not stop what changes something
            if connection is not None:
                _cut(connection)  # over HTTP a client that leaves is the cancel
            return
        if message.get("method") == "initialize":
            self._post(line, message)  # what follows needs the version that this agrees on
            return
        if message.get("method") == "resources/subscribe" and self._session is not None and self._listening is None:
            self._listen()
        future = pool.submit(self._post, line, message)
        self._running.add(future)
        future.add_done_callback(self._running.discard)

    def _post(self, line: bytes, message: dict[str, Any]) -> None:
        number = message.get("id") if "method" in message else None  # an answer of the client's gets none itself
        connection = _connection(self._server.url)
        if number is not None:
            self._open[number] = connection
        try:
            connection.request("POST", "/mcp", line, self._headers(message))
            response = connection.getresponse()
            if message.get("method") == "initialize":
                self._session = response.headers.get("mcp-session-id")
            kind = response.headers.get_content_type()
            if kind == "text/event-stream":
                for raw in response:
                    if raw.startswith(b"data:"):
                        self._pass_on(raw[5:].strip(), message)
            elif number is not None or (response.status >= 400 and "method" in message):
                self._pass_on(_rpc_body(response.read(LINE_BYTES_MAX * 8), response.status, kind, number), message)
            else:
                response.read()
        except (OSError, http.client.HTTPException, AttributeError, ValueError) as error:
            if number is not None:
                self._say(_error(number, -32603, f"the server does not answer ({type(error).__name__})"))
        finally:
            self._open.pop(number, None)
            connection.close()

    def _listen(self) -> None:
        """Pass on what changes, until standard input ends; a stream that breaks is opened again."""
        self._listening = connection = _connection(self._server.url)
        threading.Thread(target=self._pass_changes, args=(connection,), name="mcp-changes", daemon=True).start()

    def _pass_changes(self, connection: http.client.HTTPConnection) -> None:
        headers = {**self._headers({}), "accept": "text/event-stream"}
        while not self._is_over.wait(LISTEN_AGAIN_S):
            try:
                connection.request("GET", "/mcp", headers=headers)
                response = connection.getresponse()
                if response.status != 200:
                    return
                for raw in response:
                    if raw.startswith(b"data:"):
                        self._say(raw[5:].strip())
            except (OSError, http.client.HTTPException, AttributeError, ValueError):
                connection.close()

    def _headers(self, message: Mapping[str, Any]) -> dict[str, str]:
        method, params = str(message.get("method", "")), message.get("params")
        given = params if isinstance(params, dict) else {}
        meta = given.get("_meta")
        asked = meta.get(VERSION_KEY) if isinstance(meta, dict) else None
        headers = {
            "authorization": f"Bearer {self._server.key}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
        }
        version = asked or (self._version if method != "initialize" else None)
        if version:
            headers["mcp-protocol-version"] = str(version)
        if self._session is not None and not asked and method != "initialize":
            headers["mcp-session-id"] = self._session
        if asked:
            headers["mcp-method"] = _header_value(method)
            if method in NAMED and isinstance(given.get(NAMED[method]), str):
                headers["mcp-name"] = _header_value(given[NAMED[method]])
        return headers

    def _pass_on(self, data: bytes, asked: Mapping[str, Any]) -> None:
        if not data:
            return
        if asked.get("method") == "initialize":
            result = json.loads(data).get("result")
            if isinstance(result, dict):
                self._version = str(result.get("protocolVersion", ""))
        self._say(data)

    def _say(self, data: bytes) -> None:
        with self._writing:
            self._sink.write(data.replace(b"\n", b" ") + b"\n")
            self._sink.flush()


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=CALL_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=CALL_S)


def _cut(connection: http.client.HTTPConnection) -> None:
    """Close a connection that another thread reads from."""
    import socket

    if connection.sock is not None:
        try:
            connection.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _header_value(value: str) -> str:
    """A value as the protocol mirrors it in a header: plain where it may be, else base64 of its UTF-8."""
    is_plain = value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?base64?")
    return value if is_plain else f"=?base64?{b64encode(value.encode()).decode()}?="


def _rpc_body(data: bytes, status: int, kind: str, number: Any) -> bytes:
    """What the server said as JSON-RPC; a refusal of the HTTP side becomes an error of the request."""
    if kind == "application/json":
        return data
    try:
        said = str(json.loads(data).get("detail", ""))
    except (ValueError, AttributeError):
        said = ""
    return _error(number, -32603, said or f"the server answered {status}")


def _error(number: Any, code: int, message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}).encode()
