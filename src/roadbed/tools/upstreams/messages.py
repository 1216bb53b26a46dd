"""The messages of MCP, as far as a caller of other servers' tools needs them: what is sent, what came back. Pure.

Two eras: 2026-07-28 has no sessions and names its version, method and tool in headers too; before it, ``initialize``
opens a session. The invariant: what a server sent is either a result of a shape that is known here, or an error of
ours.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

import roadbed
from roadbed.tools.upstreams.errors import UpstreamMisbehaved

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
BODY_BYTES_MAX = 1024 * 1024
HEADER_DEPTH_MAX = 8

# Codes of JSON-RPC and MCP.
METHOD_NOT_FOUND, UNSUPPORTED_VERSION = -32601, -32022

_PREFIX = "io.modelcontextprotocol/"
_META = {
    f"{_PREFIX}protocolVersion": MODERN,
    f"{_PREFIX}clientCapabilities": {},
    f"{_PREFIX}clientInfo": {"name": "roadbed", "version": roadbed.__version__},
}
INITIALIZE = {
    "protocolVersion": LEGACY[0],
    "capabilities": {},
    "clientInfo": {"name": "roadbed", "version": roadbed.__version__},
}

encoder = msgspec.json.Encoder()


class RpcError(msgspec.Struct, frozen=True):
    """An error of JSON-RPC. Its message is the server's text."""

    code: int
    message: str = ""
    data: Any = None


class Message(msgspec.Struct, frozen=True):
    """Anything that a server sends."""

    id: int | str | None = None
    method: str = ""
    result: dict[str, Any] | None = None
    error: RpcError | None = None


_decoder = msgspec.json.Decoder(Message)


class ErrorAnswered(Exception):
    """A server answered with an error of JSON-RPC."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def request_body(number: int, method: str, params: Mapping[str, Any], *, is_modern: bool) -> bytes:
    """One request."""
    whole = {**params, "_meta": _META} if is_modern else params
    return encoder.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": whole})


def notification_body(method: str) -> bytes:
    """One notification."""
    return encoder.encode({"jsonrpc": "2.0", "method": method})


def parse_message(source: str, body: bytes) -> Message:
    """`UpstreamMisbehaved` for what is no message."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        raise UpstreamMisbehaved(f"{source} sent something that is no message of MCP") from None


def result_of(source: str, message: Message) -> dict[str, Any]:
    """The result in an answer. `ErrorAnswered`, `UpstreamMisbehaved`."""
    if message.error is not None:
        raise ErrorAnswered(message.error.code)
    if message.result is None:
        raise UpstreamMisbehaved(f"{source} sent an answer without a result")
    return message.result


def modern_headers(method: str, params: Mapping[str, Any], schema: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """What a request of 2026-07-28 repeats in its headers."""
    headers = [(b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", method.encode())]
    if "name" in params:
        headers.append((b"mcp-name", header_value(params["name"])))
        headers += [
            (f"mcp-param-{name.lower()}".encode(), header_value(value))
            for name, value in _marked(schema, params.get("arguments") or {}, 0)
        ]
    return headers


def _marked(schema: Mapping[str, Any], arguments: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """The arguments whose property is marked ``x-mcp-header``; those that are null or left out have no header."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or depth > HEADER_DEPTH_MAX:
        return
    for name, inner in properties.items():
        value = arguments.get(name)
        if not isinstance(inner, Mapping) or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _marked(inner, value, depth + 1)
        elif isinstance(inner.get("x-mcp-header"), str) and isinstance(value, str | int | bool):
            yield inner["x-mcp-header"], value


def header_value(value: Any) -> bytes:
    """A value as a header carries it: as it is where it is plain, else its UTF-8 bytes in base64."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    is_plain = text.isascii() and text.isprintable() and text == text.strip() and not text.startswith("=?")
    if is_plain and text:
        return text.encode("ascii")
    return b"=?base64?" + base64.b64encode(text.encode("utf-8", "surrogatepass")) + b"?="
