"""`ServedTools`: the tools of the manifest that serves: toolbox and approvals, made anew when the manifest changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from roadbed.guard.credentials import Credentials
from roadbed.guard.deployment_secrets import TOOL_SIGNING, load_deployment_secret
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.canary_objects import canary_tools, with_books
from roadbed.server.reached_tools import ReachedTools
from roadbed.server.teams import Teams
from roadbed.sources.caller_auth import CallerAuths
from roadbed.sources.caller_manifest import CallerAuth
from roadbed.sources.health import SourceHealth
from roadbed.sources.manifest import HttpSource, McpSource, SourceConfig
from roadbed.sources.registry import Sources
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.building import build_tools
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Tool
from roadbed.tools.upstreams.lock import ToolsLock, read_lock
from roadbed.tools.upstreams.upstream import Upstreams, upstream_tools


@dataclass(slots=True)
class ServedTools:
    """The toolbox, its approvals, and the connections behind it. ``manifest`` is the one that serves."""

    toolbox: ToolBox
    approvals: Approvals
    sources: Sources
    key: bytes
    reached: ReachedTools
    folder: Path
    upstreams: Upstreams
    callers: CallerAuths
    credentials: Credentials
    state: Path
    manifest: Manifest | None = None

    @classmethod
    async def open(
        cls,
        database: Database,
        sources: Sources,
        metrics: Metrics,
        teams: Teams,
        reached: ReachedTools,
        folder: Path,
        callers: CallerAuths,
        credentials: Credentials,
        state: Path,
    ) -> ServedTools:
        """With no tools yet."""
        key = await load_deployment_secret(database, TOOL_SIGNING)
        approvals = Approvals(database)
        toolbox = ToolBox(lambda: teams.guard, metrics, key, approvals, teams.may_call_tool)
        upstreams = Upstreams(folder, callers=callers)
        served = cls(toolbox, approvals, sources, key, reached, folder, upstreams, callers, credentials, state)
        served.upstreams.on_drift = served.hide_changed
        return served

    async def take(self, manifest: Manifest) -> None:
        """Serve a changed manifest's sources and tools. `ToolMisdeclared`."""
        lock = read_lock(self.folder)
        self.upstreams.use(manifest.sources, lock)
        tools = self._built(manifest, lock)
        await self.sources.use(with_books(manifest.sources, self.state))
        await self.reached.use(manifest.sources)
        await self.callers.use({name: caller_auth_of(source) for name, source in manifest.sources.items()})
        self.toolbox.take(tools)
        self.manifest = manifest

    def databases(self) -> dict[str, SourceConfig]:
        """The sources that apps may ask, with the canary control's own."""
        return with_books(self.manifest.sources if self.manifest is not None else {}, self.state)

    def exchanges(self) -> bool:
        """Whether some source takes tokens that are exchanged for its callers'."""
        auths = (caller_auth_of(source) for source in (self.manifest.sources if self.manifest else {}).values())
        return any(auth is not None and auth.exchange is not None for auth in auths)

    def hide_changed(self, source: str) -> None:
        """Take the tools that a server changed since their approval out of every list, or let them in again."""
        if self.manifest is not None:
            self.toolbox.take(self._built(self.manifest, read_lock(self.folder)))

    def states(self) -> list[SourceHealth]:
        """How every source that is reached over a connection is, by name. Asks nobody."""
        own = [state for state in self.sources.states() if not state.name.startswith("_")]
        found = [*own, *self.reached.states(), *self.upstreams.states()]
        return sorted(found, key=lambda state: state.name)

    def _built(self, manifest: Manifest, lock: ToolsLock) -> list[Tool]:
        sources = manifest.sources
        others = [
            *self.reached.tools(sources, manifest.tools),
            *upstream_tools(sources, lock, self.upstreams),
            *canary_tools(),
        ]
        return build_tools(sources, manifest.tools, self.sources, self.key, others, states=self.states)

    async def close(self) -> None:
        """Close the connections to other servers and end their programs."""
        await self.upstreams.close()


def caller_auth_of(source: SourceConfig) -> CallerAuth | None:
    """How a source knows its callers; None for one that is asked as this deployment."""
    return source.caller_auth if isinstance(source, HttpSource | McpSource) else None
