"""`DeploymentParts`: what controls, readiness and governance read of a deployment; `Services` is one."""

from __future__ import annotations

from typing import Protocol

from roadbed.apps.registry import AppRegistry
from roadbed.controls.register import Controls
from roadbed.guard.identity import Identity
from roadbed.knowledge.embed import EmbeddingWorker
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import Workspace
from roadbed.server.audit import AuditTrail
from roadbed.server.canary_ground import HttpCaller
from roadbed.server.erasure import Erasures
from roadbed.server.settings import Settings
from roadbed.server.teams import Teams
from roadbed.sources.registry import Sources
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.toolbox import ToolBox


class DeploymentParts(Protocol):
    """The services by their names there."""

    settings: Settings
    workspace: Workspace
    metrics: Metrics
    embedded: EmbeddedPostgres | None
    database: Database
    teams: Teams
    identity: Identity
    trail: AuditTrail
    erasures: Erasures
    ledger: Ledger
    embedder: EmbeddingWorker
    knowledge: Knowledge
    registry: AppRegistry
    sources: Sources
    controls: Controls
    own_calls: HttpCaller

    @property
    def toolbox(self) -> ToolBox:
        """The tools that serve."""

    @property
    def manifest(self) -> Manifest:
        """The manifest that serves."""

    @property
    def auto_promote(self) -> bool:
        """Whether a saved change goes live by itself."""

    def problem(self) -> str | None:
        """Why the manifest on disk is not what serves."""

    def show_canary(self, url: str) -> None:
        """Serve the canary control's own objects."""
