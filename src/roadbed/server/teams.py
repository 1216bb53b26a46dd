"""`Teams`: the parts of the manifest that admission and the guard read on every request, swapped when it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from roadbed.guard.access import Access, NotPermitted, Resource
from roadbed.guard.erased import ErasedValues
from roadbed.guard.gate import Guard
from roadbed.guard.mask import OffsetMap
from roadbed.guard.rules import Direction, SinkName, Told
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import Trace
from roadbed.releases.manifest import Manifest
from roadbed.server.admission import may_call, require_app
from roadbed.tools.types import Tool


class Teams:
    """The guard and the teams of the manifest that serves. Itself the guard of ``knowledge/``, always the newest."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.access = Access()
        self.deployment = Resource("Deployment", "")
        self._apps: dict[str, frozenset[str] | None] = {}
        self._resources: dict[str, Resource] = {}

    def take(self, manifest: Manifest, folder: Path | None = None) -> None:
        """Use a changed manifest from now on; the guard's dictionaries lie in ``folder``."""
        self._apps = {
            name: frozenset(team.apps) if team.apps is not None else None for name, team in manifest.teams.items()
        }
        self.deployment = Resource("Deployment", manifest.name)
        self._resources = {name: Resource("App", name, (("kind", app.kind),)) for name, app in manifest.apps.items()}
        self.guard = self.guard.with_config(manifest.guard, manifest.teams, folder=folder)

    def tell(self, told: Told) -> None:
        """Tell ``told`` of each rule of the manifest that applied."""
        self.guard = self.guard.with_observer(told)

    def take_erased(self, erased: ErasedValues) -> None:
        """Replace these values in all that is indexed from now on."""
        self.guard = self.guard.with_erased(erased)

    def apps_of(self, team: str) -> frozenset[str] | None:
        """The apps and routes that a team's keys may call; None when they may call all."""
        return self._apps.get(team)

    def may_call(self, principal: Principal, name: str) -> bool:
        """Whether a caller may call an app or route: by the key, by the team, and by the workspace's policies."""
        return may_call(principal, name, self._apps.get(principal.team)) and self._permits(principal, name)

    def require_app(self, principal: Principal, name: str) -> None:
        """Refuse a caller who may not call ``name``. Raises `AppNotAllowed`, `NotPermitted`."""
        apps = self._apps.get(principal.team)
        if principal.apps is not None or apps is not None:
            require_app(principal, name, apps)
        if self.access.is_own and not self._permits(principal, name):
            raise NotPermitted(f"the workspace's policies do not permit the use of {name}")

    def may_call_tool(self, principal: Principal, tool: Tool) -> bool:
        """Whether the workspace's policies let a caller see and call a tool."""
        return not self.access.is_own or self.access.allows(principal, "tool.call", tool_resource(tool))

    def resource_of(self, name: str) -> Resource:
        """An app or a route, as policies see it."""
        return self._resources.get(name) or Resource("Route", name)

    def release_of(self, app: str) -> Resource:
        """What has a release, as policies see it: an app, or all routes together."""
        return self._resources.get(app) or Resource("App", app, (("kind", "release"),))

    def _permits(self, principal: Principal, name: str) -> bool:
        if not self.access.is_own:
            return True
        resource = self.resource_of(name)
        return self.access.allows(principal, "app.use" if resource.type == "App" else "route.use", resource)

    def region_of(self, team: str) -> str:
        """As `Guard.region_of`."""
        return self.guard.region_of(team)

    def lets(self, label: Label, sink: SinkName, team: str = "") -> bool:
        """As `Guard.lets`."""
        return self.guard.lets(label, sink, team)

    def lets_trace(self, trace: Trace, sink: Literal["record", "export"]) -> bool:
        """Whether question and answer of a trace may be recorded, or exported, by its label."""
        return self.guard.lets(trace.label, sink, trace.principal.team)

    def check_label(self, label: Label, sink: SinkName, team: str = "", *, direction: Direction = "out") -> None:
        """As `Guard.check_label`."""
        self.guard.check_label(label, sink, team, direction=direction)

    def for_index(self, text: str, label: Label) -> Guarded:
        """As `Guard.for_index`."""
        return self.guard.for_index(text, label)

    def for_index_with_map(self, text: str, label: Label) -> tuple[Guarded, OffsetMap]:
        """As `Guard.for_index_with_map`."""
        return self.guard.for_index_with_map(text, label)

    def for_embedder(self, text: str, label: Label, *, is_local: bool) -> Guarded:
        """As `Guard.for_embedder`."""
        return self.guard.for_embedder(text, label, is_local=is_local)


def tool_resource(tool: Tool) -> Resource:
    """A tool, as policies see it."""
    attributes = (("source", tool.source), ("effect", tool.effect), ("level", int(tool.label.level)))
    return Resource("Tool", tool.name, attributes)
