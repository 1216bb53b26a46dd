"""`HeldSettings`: where promotions take two persons, the settings that belong to no app are a release of their own.

Without that, one person's saved file would change the guard, teams, sources or policies at once. The release is named
``_settings`` and moves like an app's: a save makes a candidate, a second person lets it serve, a rollback brings back
what served. The invariant: what serves of these sections is what the live release says, whatever the file says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from roadbed.guard.duty_requests import SETTINGS
from roadbed.kernel.release import Release
from roadbed.releases.aliases import Releases
from roadbed.releases.compile import seal
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import Workspace

log = logging.getLogger("roadbed.server")

POLICIES: Final = "policies"
# All of a manifest but what releases of apps pin, its name, and ``access``, which `SecondPerson` keeps by itself.
HELD: Final = (
    "prices", "sources", "collections", "tools", "teams", "identity", "guard", "traces", "audit", "retention",
    "governance",
)  # fmt: skip


class HeldSettings:
    """One per process; the owner's `effective` decides."""

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.digest = ""

    async def effective(self, saved: Workspace) -> Workspace:
        """The saved workspace with the settings that serve; the saved ones before there are others."""
        live = await self._releases.serving(SETTINGS)
        if live is None:
            self.digest = release_of(saved).digest
            return saved
        self.digest = live.digest
        try:
            return with_settings(saved, live.document)
        except msgspec.ValidationError as error:  # written by a version that knew other settings
            log.critical("the settings that two persons agreed to cannot be read (%s); the saved ones serve", error)
            return saved

    def is_overtaken(self, live: Mapping[str, Release]) -> bool:
        """Whether other settings than those that were taken have to serve now."""
        found = live.get(SETTINGS)
        return found is not None and bool(self.digest) and found.digest != self.digest


def release_of(workspace: Workspace) -> Release:
    """The settings of a workspace as a release."""
    document: dict[str, Any] = {name: msgspec.to_builtins(getattr(workspace.manifest, name)) for name in HELD}
    return seal(SETTINGS, {"kind": "settings", **document, POLICIES: workspace.policies})


def with_settings(workspace: Workspace, document: Mapping[str, Any]) -> Workspace:
    """A workspace with the settings of a release in place of its own. `ValidationError`."""
    sections = {name: document[name] for name in HELD if name in document}
    read = msgspec.convert({"name": workspace.manifest.name, **sections}, Manifest)
    manifest = msgspec.structs.replace(workspace.manifest, **{name: getattr(read, name) for name in sections})
    return replace(workspace, manifest=manifest, policies=dict(document.get(POLICIES, {})))


def changes_of(serving: Workspace, saved: Workspace) -> str:
    """The sections that differ, by name."""
    names = [name for name in HELD if getattr(serving.manifest, name) != getattr(saved.manifest, name)]
    return ", ".join([*names, *([POLICIES] if serving.policies != saved.policies else [])])
