"""`ServedTools`: the tools of the manifest that serves: toolbox and approvals, made anew when the manifest changes."""

from __future__ import annotations

from dataclasses import dataclass

from roadbed.guard.deployment_secrets import TOOL_SIGNING, load_deployment_secret
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.teams import Teams
from roadbed.sources.registry import Sources
from roadbed.store.database import Database
from roadbed.tools.approvals import Approvals
from roadbed.tools.building import build_tools
from roadbed.tools.toolbox import ToolBox


@dataclass(frozen=True, slots=True)
class ServedTools:
    """The toolbox, its approvals, and the connections behind it."""

    toolbox: ToolBox
    approvals: Approvals
    sources: Sources
    key: bytes

    @classmethod
    async def open(cls, database: Database, sources: Sources, metrics: Metrics, teams: Teams) -> ServedTools:
        """With no tools yet."""
        key = await load_deployment_secret(database, TOOL_SIGNING)
        approvals = Approvals(database)
        return cls(ToolBox(lambda: teams.guard, metrics, key, approvals), approvals, sources, key)

    async def take(self, manifest: Manifest) -> None:
        """Serve a changed manifest's sources and tools. `ToolMisdeclared`."""
        tools = build_tools(manifest.sources, manifest.tools, self.sources, self.key)
        await self.sources.use(manifest.sources)
        self.toolbox.take(tools)
