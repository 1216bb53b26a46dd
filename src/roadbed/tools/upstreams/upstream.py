"""`Upstreams`: the other MCP servers of a manifest, and the tools that they lend, as ``tools.lock`` pins them.

Tools are listed from the lock, so a dead server takes none away. Before a call the server's definitions are compared
with the lock, at most every `DEFINITIONS_FRESH_S`; a tool that changed is refused and hidden, the others go on. Each
server has its own connections, sessions and breaker. The invariant: no text of a server reaches a model but the pinned
one and the results of its tools.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from roadbed.kernel import breaker as breakers
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import parse_label
from roadbed.kernel.secrets import Secret, resolve_secret
from roadbed.sources.caller_auth import CallerAuths, Shown
from roadbed.sources.caller_manifest import CallerAuth, check_caller_auth
from roadbed.sources.health import SourceHealth
from roadbed.sources.manifest import McpSource, SourceConfig
from roadbed.sources.pool import PoolState
from roadbed.tools.types import Outcome, Refused, Tool, ToolRequest
from roadbed.tools.upstreams.errors import UpstreamMisbehaved, UpstreamTimeout, UpstreamUnavailable
from roadbed.tools.upstreams.http_peer import CredentialNotTaken, HttpPeer
from roadbed.tools.upstreams.lock import Drift, LockedSource, LockedTool, ToolsLock, drift_of
from roadbed.tools.upstreams.messages import ErrorAnswered
from roadbed.tools.upstreams.results import Fits, fits_of, outcome_of
from roadbed.tools.upstreams.stdio_peer import StdioPeer
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient

DEFINITIONS_FRESH_S = 300.0
TOOLS_MAX = 2_000
PAGES_MAX = 100
BREAKER = breakers.BreakerSettings(failures_in_a_row_max=3, open_s=0.5, open_s_max=5.0, probe_s_max=15.0, recovery=())
OURS = "roadbed"
"""Under which caller definitions are listed, where a server keeps a session for each."""


@dataclass(slots=True)
class _Server:
    """One server: how it is reached, and what is known of it."""

    config: McpSource
    peer: HttpPeer | StdioPeer
    drift: Drift = field(default_factory=Drift)
    is_known_until_s: float = 0.0
    locked: LockedSource | None = None
    breaker: breakers.Breaker = breakers.CLOSED
    last_failure: str = ""
    last_failure_at: datetime | None = None
    listing: asyncio.Lock = field(default_factory=asyncio.Lock)


def _health(name: str, server: _Server) -> SourceHealth:
    notes = [f"{tool} was changed since it was approved; it is held back" for tool in sorted(server.drift.changed)]
    notes += [f"{tool} is no longer offered" for tool in server.drift.missing]
    notes += [f"{tool} is new and not approved" for tool in server.drift.added]
    if server.locked is None:
        notes.append(f"none of its tools is approved: roadbed tools lock --accept {name}")
    if not server.is_known_until_s and not server.last_failure:
        return SourceHealth(name, "mcp", None, (), tuple(notes))
    retry_after_s = server.breaker.retry_after_s(time.monotonic())
    pool = PoolState(0, 0, 0, 0, server.breaker.phase, retry_after_s, server.last_failure, server.last_failure_at)
    return SourceHealth(name, "mcp", pool, (), tuple(notes))


class Upstreams:
    """The servers by source name. Made inside a running loop."""

    def __init__(
        self, folder: Path, on_drift: Callable[[str], None] | None = None, callers: CallerAuths | None = None
    ) -> None:
        self._folder = folder
        self._callers = callers
        self.on_drift = on_drift
        self._client: UpstreamClient | None = None
        self._servers: dict[str, _Server] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def use(self, sources: Mapping[str, SourceConfig], lock: ToolsLock) -> None:
        """Take over a manifest's servers and the lock. What changed is reached anew."""
        wanted = {name: config for name, config in sources.items() if isinstance(config, McpSource)}
        for name, config in wanted.items():
            check_mcp_auth(name, config)
        for name in list(self._servers):
            if wanted.get(name) != self._servers[name].config:
                self._retire(self._servers.pop(name))
        for name, config in wanted.items():
            if name not in self._servers:
                self._servers[name] = _Server(config, self._peer(name, config))
            server = self._servers[name]
            locked = lock.sources.get(name)
            if server.locked != locked:
                server.locked, server.drift, server.is_known_until_s = locked, Drift(), 0.0

    def states(self) -> list[SourceHealth]:
        """The servers by name, as far as is known, with what differs from what was approved. Asks nobody."""
        return [_health(name, server) for name, server in sorted(self._servers.items())]

    def drift(self, source: str) -> Drift:
        """What a server is known to offer otherwise than it was approved."""
        return self._server(source).drift

    def is_hidden(self, source: str, tool: str) -> bool:
        """Whether a server's tool is known to differ from what was approved."""
        server = self._servers.get(source)
        return server is not None and tool in server.drift.refused

    async def offered(self, source: str, deadline: Deadline) -> list[dict[str, Any]]:
        """The definitions that a server offers now. `UpstreamUnavailable`, `UpstreamMisbehaved`, `UpstreamTimeout`."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        for _ in range(PAGES_MAX):
            page = await self._ask(source, "tools/list", params, deadline, caller=OURS, may_repeat=True)
            tools = page.get("tools")
            if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
                raise UpstreamMisbehaved(f"{source} gives no list of tools")
            found += tools
            if len(found) > TOOLS_MAX:
                break
            cursor = page.get("nextCursor")
            if not cursor:
                return found
            if not isinstance(cursor, str):
                raise UpstreamMisbehaved(f"{source} gives no list of tools")
            params = {"cursor": cursor}
        raise UpstreamMisbehaved(f"{source} offers more than {TOOLS_MAX} tools, or more than {PAGES_MAX} pages of them")

    async def check(self, source: str, deadline: Deadline) -> Drift:
        """Compare a server's definitions with the lock, now. As `offered`."""
        server = self._server(source)
        async with server.listing:
            found = await self.offered(source, deadline)
            before = server.drift
            server.drift = drift_of(server.locked, found) if server.locked is not None else Drift()
            server.is_known_until_s = time.monotonic() + DEFINITIONS_FRESH_S
        if server.drift.refused != before.refused and self.on_drift is not None:
            self.on_drift(source)
        return server.drift

    async def call(self, source: str, tool: LockedTool, fits: Fits | None, request: ToolRequest) -> Outcome:
        """Call an approved tool, unless the server changed it."""
        server = self._server(source)
        name = tool.definition["name"]
        if time.monotonic() >= server.is_known_until_s or not server.peer.is_running:
            # A program that is started anew may be another one by now.
            await self.check(source, request.deadline)
        if name in server.drift.refused:
            what = "was changed by" if name in server.drift.changed else "is no longer offered by"
            return Refused(
                "tools.definition_changed",
                f"{tool.name} {what} its server since it was approved",
                hint=f"an administrator reviews it: roadbed tools lock --check, then --accept {source}",
            )
        params = {"name": name, "arguments": dict(request.arguments)}
        schema = tool.definition.get("inputSchema", {})
        auth = server.config.caller_auth
        shown = await self._shown(source, auth, request) if auth is not None else None
        try:
            result = await self._ask(
                source,
                "tools/call",
                params,
                request.deadline,
                caller=request.principal.id,
                may_repeat=tool.effect == "read",
                schema=schema,
                shown=shown,
            )
        except CredentialNotTaken:
            if auth is None or shown is None:
                raise
            raise self._known_callers(source).refused(source, auth, shown) from None
        except ErrorAnswered as error:
            server.is_known_until_s = 0.0  # it may have changed; the next call looks
            return Refused(
                "tools.upstream_refused",
                f"{source} refused the call (error {error.code})",
                hint="check the arguments against the tool's schema",
            )
        return outcome_of(source, name, result, fits, parse_label(server.config.labels))

    async def hold(self, source: str, request: ToolRequest) -> None:
        """Make sure that a server which knows its callers can be asked for this one, and keep what a later run shows.

        `CallerNotTaken`, `ExchangeAway`, `StoreUnavailable`.
        """
        auth = self._server(source).config.caller_auth
        if auth is not None:
            await self._known_callers(source).hold(source, auth, request.principal, request.deadline)

    async def _shown(self, source: str, auth: CallerAuth, request: ToolRequest) -> Shown:
        return await self._known_callers(source).shown(source, auth, request.principal, request.deadline)

    def _known_callers(self, source: str) -> CallerAuths:
        if self._callers is None:
            raise ConfigError(f"sources.{source}.caller_auth: callers are known to a running server alone")
        return self._callers

    async def _ask(
        self, source: str, method: str, params: Mapping[str, Any], deadline: Deadline, **how: Any
    ) -> dict[str, Any]:
        """One request, behind the server's breaker."""
        server = self._server(source)
        server.breaker, is_admitted = breakers.admit(server.breaker, time.monotonic(), random.random(), BREAKER)
        if not is_admitted:
            after_s = server.breaker.retry_after_s(time.monotonic())
            raise UpstreamUnavailable(
                f"{source} failed and is asked again in {after_s:.1f} s: {server.last_failure}",
                retry_after_s=after_s or None,
            )
        result: breakers.Result = "ignored"
        try:
            answer = await server.peer.request(method, params, deadline, **how)
            result = "success"
            return answer
        except ErrorAnswered as error:
            result = "success"
            if method == "tools/call":
                raise
            raise UpstreamMisbehaved(f"{source} refused {method} (error {error.code})") from None
        except (UpstreamUnavailable, UpstreamTimeout, UpstreamMisbehaved) as error:
            result, server.last_failure, server.last_failure_at = "failure", error.message, datetime.now(UTC)
            raise
        finally:
            server.breaker = breakers.record(server.breaker, result, time.monotonic(), random.random(), BREAKER)

    def _server(self, source: str) -> _Server:
        try:
            return self._servers[source]
        except KeyError:
            raise UpstreamUnavailable(f"no source of type mcp is called {source}") from None

    def _peer(self, name: str, config: McpSource) -> HttpPeer | StdioPeer:
        if config.url:
            if self._client is None:
                self._client = UpstreamClient()
            return HttpPeer(name, parse_url(config.url), lambda: self._key(name, config), self._client)
        return StdioPeer(
            name,
            list(config.command),
            self._folder,
            lambda: {
                key: resolve_secret(reference, base=self._folder, where=f"sources.{name}.environment.{key}").reveal()
                for key, reference in config.environment.items()
            },
            memory_mib_max=config.memory_mib_max,
            may_use_network=config.network,
        )

    def _key(self, name: str, config: McpSource) -> Secret | None:
        return resolve_secret(config.key, base=self._folder, where=f"sources.{name}.key") if config.key else None

    def _retire(self, server: _Server) -> None:
        task = asyncio.get_running_loop().create_task(server.peer.close(), name="mcp server: close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close every connection and end every program."""
        for name in list(self._servers):
            self._retire(self._servers.pop(name))
        if self._closing:
            await asyncio.wait(self._closing)
        if self._client is not None:
            await self._client.close()
            self._client = None


def check_mcp_auth(name: str, config: McpSource) -> None:
    """Refuse a ``caller_auth`` that cannot be. Raises `ConfigError`."""
    if config.caller_auth is not None:
        if not config.url:
            raise ConfigError(
                f"sources.{name}.caller_auth needs a url", hint="a program of this machine is told nobody"
            )
        check_caller_auth(name, config.caller_auth)


def upstream_tools(sources: Mapping[str, SourceConfig], lock: ToolsLock, upstreams: Upstreams) -> list[Tool]:
    """The approved tools of a manifest's servers, but for those known to have changed. Reaches no server."""
    return list(_tools(sources, lock, upstreams))


def _tools(sources: Mapping[str, SourceConfig], lock: ToolsLock, upstreams: Upstreams) -> Iterable[Tool]:
    for source, config in sources.items():
        locked = lock.sources.get(source)
        if not isinstance(config, McpSource) or locked is None:
            continue
        for name, tool in locked.tools.items():
            if not upstreams.is_hidden(source, name):
                yield _tool(source, config, tool, upstreams)


def _tool(source: str, config: McpSource, tool: LockedTool, upstreams: Upstreams) -> Tool:
    definition = tool.definition
    output_schema = definition.get("outputSchema")
    fits = fits_of(output_schema)

    async def run(request: ToolRequest) -> Outcome:
        return await upstreams.call(source, tool, fits, request)

    async def preview(request: ToolRequest) -> Mapping[str, Any]:
        await upstreams.hold(source, request)
        return {"server": source, "tool": definition["name"], "arguments": dict(request.arguments)}

    return Tool(
        name=tool.name,
        title=str(definition.get("title", "")),
        description=str(definition.get("description", "")),
        source=source,
        run=run,
        preview=preview if tool.effect != "read" else None,
        input_schema=definition["inputSchema"],
        output_schema=output_schema,
        effect=tool.effect,
        label=parse_label(config.labels),
        visible_to=frozenset(config.visible_to) if config.visible_to is not None else None,
        timeout_s=parse_duration_s(config.timeout),
        is_outside=True,
    )
