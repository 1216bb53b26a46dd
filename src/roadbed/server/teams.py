"""`Teams`: the parts of the manifest that admission and the guard read on every request, swapped when it changes."""

from __future__ import annotations

from pathlib import Path

from roadbed.guard.erased import ErasedValues
from roadbed.guard.gate import Guard
from roadbed.guard.mask import OffsetMap
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.label import Label
from roadbed.releases.manifest import Manifest


class Teams:
    """The guard and the teams of the manifest that serves. Itself the guard of ``knowledge/``, always the newest."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._apps: dict[str, frozenset[str] | None] = {}

    def take(self, manifest: Manifest, folder: Path | None = None) -> None:
        """Use a changed manifest from now on; the guard's dictionaries lie in ``folder``."""
        self._apps = {
            name: frozenset(team.apps) if team.apps is not None else None for name, team in manifest.teams.items()
        }
        self.guard = self.guard.with_config(manifest.guard, manifest.teams, folder=folder)

    def take_erased(self, erased: ErasedValues) -> None:
        """Replace these values in all that is indexed from now on."""
        self.guard = self.guard.with_erased(erased)

    def apps_of(self, team: str) -> frozenset[str] | None:
        """The apps and routes that a team's keys may call; None when they may call all."""
        return self._apps.get(team)

    def for_index(self, text: str, label: Label) -> Guarded:
        """As `Guard.for_index`."""
        return self.guard.for_index(text, label)

    def for_index_with_map(self, text: str, label: Label) -> tuple[Guarded, OffsetMap]:
        """As `Guard.for_index_with_map`."""
        return self.guard.for_index_with_map(text, label)

    def for_embedder(self, text: str, label: Label, *, is_local: bool) -> Guarded:
        """As `Guard.for_embedder`."""
        return self.guard.for_embedder(text, label, is_local=is_local)
