"""`Duties`: second persons, held settings and break-glass over one deployment, wired to what they stand before.

`open_duties` is the one place that puts them in the way of promotions, rollbacks and approvals. The invariant: the
owner takes no workspace but through `effective` and `save`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Protocol

from roadbed.guard.duty_requests import SETTINGS
from roadbed.kernel.release import Release
from roadbed.releases.aliases import AliasMove, Releases
from roadbed.releases.workspace import Workspace
from roadbed.server.break_glass import BreakGlass
from roadbed.server.control_parts import DeploymentParts
from roadbed.server.held_settings import HeldSettings, changes_of, release_of
from roadbed.server.second_person import SecondPerson
from roadbed.server.served_tools import ServedTools


class DutyParts(DeploymentParts, Protocol):
    """The services by their names there."""

    releases: Releases
    tools: ServedTools


class Duties:
    """One per process. ``on_overtaken`` is told that other settings have to serve; the owner takes them then."""

    def __init__(self, services: DutyParts) -> None:
        self.second = SecondPerson(services, services.releases)
        self.emergency = BreakGlass(services)
        self.held = HeldSettings(services.releases)
        self.on_overtaken: Callable[[], None] = lambda: None
        self._releases = services.releases
        self._needs_two = False

    async def effective(self, saved: Workspace) -> Workspace:
        """What is to serve of a saved workspace: all of it, or, where two persons promote, what they agreed to."""
        self._needs_two = await self.second.take(saved.manifest)
        return await self.held.effective(saved) if self._needs_two else saved

    async def save(
        self,
        compiled: Mapping[str, Release],
        saved: Workspace,
        serving: Workspace,
        *,
        auto_promote: bool,
        actor: str,
    ) -> list[AliasMove]:
        """As `Releases.save`, and what does not go live by itself waits for a second person."""
        chosen = {**compiled, SETTINGS: release_of(saved)} if self._needs_two else dict(compiled)
        moves = await self._releases.save(
            chosen, auto_promote=auto_promote, actor=actor, needs_two=self._needs_two, goes_first=SETTINGS
        )
        await self.second.saved(moves, changes_of(serving, saved))
        return moves

    def moved(self, live: Mapping[str, Release]) -> None:
        """Hear that other releases serve: settings that wait are overtaken where others went live."""
        if self.held.is_overtaken(live):
            self.on_overtaken()


def open_duties(stack: AsyncExitStack, services: DutyParts) -> Duties:
    """Over the services, in the way of every promotion and approval."""
    duties = Duties(services)
    stack.push_async_callback(duties.emergency.close)
    services.releases.on_change(duties.moved)
    services.releases.before_promote = duties.second.before_promote
    services.releases.before_rollback = duties.second.before_rollback
    services.tools.approvals.before_approve = duties.second.require_second_for
    return duties
