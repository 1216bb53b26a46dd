"""The descriptions of ``/mcp``, for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import MEMBER
from roadbed.server.operations import Operation

MCP_OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "POST",
        "/mcp",
        MEMBER,
        "MCP",
        "Model Context Protocol, versions 2026-07-28, 2025-11-25 and 2025-06-18: tools, the documents that the key may "
        "read, and the apps' questions. A key or an issuer's access token as `Authorization: Bearer`.",
        "one JSON-RPC response, or server-sent events that end with it; 401 names the issuers' metadata",
    ),
    Operation(
        "GET",
        "/mcp",
        MEMBER,
        "MCP",
        "The standing stream of a session of the two older versions (`Mcp-Session-Id`): followed documents that "
        "changed.",
        "server-sent events; 405 without a session",
        media_type="text/event-stream",
    ),
    Operation(
        "DELETE",
        "/mcp",
        MEMBER,
        "MCP",
        "End a session of the two older versions: nothing is followed any longer.",
        "nothing; 405 without a session",
        status=204,
    ),
)
