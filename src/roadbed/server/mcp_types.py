"""What the MCP server offers and to whom, without a word of the SDK.

An `Offering` says what there is (tools, resources, prompts) in the wire's own JSON; `server.mcp` brings it to clients
of every protocol era, `server.mcp_http` brings the requests in. The deployment's own offering is
`server.mcp_offering`; the conformance suite has another. The invariant: an offering is asked on behalf of one
`Caller`, and what it shows may depend on that caller alone, never on the connection or on earlier calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from roadbed.gateway.limits import Pass
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import Trace
from roadbed.server.admission import Admission
from roadbed.server.mcp_session import Session
from roadbed.tools.types import Outcome, Tool

PATH = "/mcp"
BODY_BYTES_MAX = 1024 * 1024
MODERN_VERSION = "2026-07-28"
LEGACY_VERSIONS = ("2025-11-25", "2025-06-18")
VERSIONS = (MODERN_VERSION, *LEGACY_VERSIONS)
META_PREFIX = "roadbed/"

INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
REQUEST_CANCELLED = -32800
UNSUPPORTED_VERSION = -32022
MISSING_CAPABILITY = -32021

Json = dict[str, Any]
Progress = Callable[[float, float | None, str | None], Awaitable[None]]
Log = Callable[[str, Any], Awaitable[None]]
Ask = Callable[[str, Json, float], Awaitable[Json | None]]


class Toolbox(Protocol):
    """The tools of a deployment, called under their rules."""

    def tools_for(self, principal: Principal, names: Collection[str] | None = None) -> list[Tool]:
        """The tools that a caller may see, in a stable order; of these names alone where some are given."""

    def tool_for(self, principal: Principal, name: str) -> Tool | None:
        """The tool of this name, where the caller may see it; as quick with a thousand tools as with one."""

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        principal: Principal,
        deadline: Deadline,
        trace: Trace | None = None,
        cursor: str = "",
        is_tainted: bool = False,
        is_for_caller: bool = False,
    ) -> Outcome:
        """What came of a call; ``is_for_caller`` says that the result is shown as it is."""


class McpFault(RoadbedError):
    """A request that MCP answers with an error instead of a result: its sender is at fault, not the model."""

    code = "mcp.request_refused"
    http_status = 400
    hint = "see the protocol error's code and message"

    def __init__(self, number: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.number = number
        self.data = data


async def _drop(*values: Any) -> None:
    """Nobody asked to be told."""


@dataclass(slots=True)
class Caller:
    """One request's sender, and what it wants to be told while the request runs.

    ``capabilities`` are the client's own words: they decide what it is asked, never what it may do. ``answers`` and
    ``state`` come with the retry of a request that was answered with ``input_required``; ``state`` was sealed for this
    principal, tool and arguments. ``tool`` is the called one, once an offering has looked for it. ``ticket`` is what
    admission counted; a trace that joins it closes it. ``session`` is an older client's; ``ask`` sends such a client a
    request on the stream of its call and gives the result, or None when no usable answer came in time;
    ``is_cancelled`` says that the client took its call back, which is more than leaving.
    """

    admission: Admission
    ticket: Pass | None = None
    is_legacy: bool = False
    traceparent: bytes | None = None
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, Any] = field(default_factory=dict)
    state: str | None = None
    tool: Tool | None = None
    progress: Progress = _drop
    log: Log = _drop
    session: Session | None = None
    ask: Ask | None = None
    is_cancelled: bool = False

    @property
    def principal(self) -> Principal:
        """Who calls."""
        return self.admission.principal

    @property
    def wants_progress(self) -> bool:
        """Whether the request asked to be told how far it is."""
        return "progressToken" in self.meta

    def can(self, name: str, mode: str = "") -> bool:
        """Whether the client declared a capability, and of it a mode. ``elicitation: {}`` means forms."""
        found = self.capabilities.get(name)
        if not isinstance(found, Mapping):
            return False
        return not mode or mode in found or (mode == "form" and not found)


class Follows(Protocol):
    """The resources that sessions of the older versions follow. ``add`` and ``remove`` may raise `McpFault`."""

    async def add(self, caller: Caller, uri: str) -> None:
        """Follow a resource that the caller may read."""

    async def remove(self, caller: Caller, uri: str) -> None:
        """Follow it no longer."""

    async def end(self, caller: Caller) -> None:
        """Follow nothing any longer in this session."""

    async def changed(self, caller: Caller) -> list[str]:
        """The followed resources that changed since this session was told last."""

    def watching(self) -> AbstractContextManager[asyncio.Event]:
        """An event that is set whenever anything may have changed."""


class Offering(Protocol):
    """What an MCP server shows. Lists are results of the wire (``{"tools": [...], "nextCursor": ...}``).

    Any of it may raise `McpFault`, or another `RoadbedError`.
    """

    name: str
    version: str
    instructions: str
    lists_ttl_s: float
    follows: Follows | None

    def input_schema(self, name: str, caller: Caller) -> Mapping[str, Any] | None:
        """A tool's input schema; None when the caller has no such tool."""

    def needs_stream(self, name: str, caller: Caller) -> bool:
        """Whether calls of a tool may last, or tell something on their way, so that they get an event stream."""

    async def tools(self, caller: Caller, cursor: str) -> Json:
        """A page of tools."""

    async def call(self, caller: Caller, name: str, arguments: Json) -> Json:
        """The result of a tool call, or ``input_required``."""

    async def resources(self, caller: Caller, cursor: str) -> Json:
        """A page of resources."""

    async def templates(self, caller: Caller, cursor: str) -> Json:
        """A page of resource templates."""

    async def read(self, caller: Caller, uri: str) -> Json:
        """A resource's contents."""

    async def prompts(self, caller: Caller, cursor: str) -> Json:
        """A page of prompts."""

    async def prompt(self, caller: Caller, name: str, arguments: Mapping[str, str]) -> Json:
        """A prompt's messages."""

    async def complete(self, caller: Caller, reference: Json, argument: str, value: str) -> list[str]:
        """Values of a prompt's or template's argument that begin like ``value``."""
