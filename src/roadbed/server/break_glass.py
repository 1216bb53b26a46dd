"""`BreakGlass`: an admin's rights in an emergency: who may take them, what is recorded, who is told, who looks after.

Start and end are audit records, and so is everything done in between, as ``AuditTrail.emergency_of`` names the use in
each. An alarm goes where failed controls go. The owner notes the end of a use whose time is up; the rights themselves
end by the clock, in every process. The invariant: nothing is raised before its record stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final

from roadbed.guard.access import NotPermitted
from roadbed.guard.duties import require_other
from roadbed.guard.glasses import TIME_UP, Glass, check_glass
from roadbed.guard.keys import ADMIN_SCOPE, require_scope
from roadbed.kernel.errors import DeadlineExceeded, RoadbedError, Unavailable
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.server.control_parts import DeploymentParts
from roadbed.server.written import written

log = logging.getLogger("roadbed.server")

LOOK_S: Final = 10.0
TASKS_MAX: Final = 50
CONTROL: Final = "break-glass"


class BreakGlass:
    """One per process. `start_watch` in the owner alone."""

    def __init__(self, services: DeploymentParts) -> None:
        self._services = services
        self._glasses = services.identity.glasses
        self._tasks: set[asyncio.Task[Any]] = set()
        services.trail.emergency_of = self._glasses.id_of

    def start_watch(self) -> None:
        """Note the ends of uses whose time is up from now on."""
        task = asyncio.create_task(self._watch(), name="break-glass")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; alarms under way are given up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def may_break(self, principal: Principal) -> bool:
        """Whether the workspace's policies, or the shipped ones, let the caller: as it is without any emergency."""
        teams = self._services.teams
        base = self._glasses.base(principal)
        return teams.access.decide(base, "breakglass", teams.deployment).is_allowed

    async def start(self, principal: Principal, reason: str, minutes: int) -> Glass:
        """Raise the caller's rights. `NotPermitted`, `GlassInvalid`, `GlassBroken`, `AuditUnavailable`."""
        services, base = self._services, self._glasses.base(principal)
        if base.scopes is not None:
            require_scope(base, ADMIN_SCOPE)
        if not self.may_break(principal):
            raise NotPermitted("the policies do not permit breakglass here")
        check_glass(reason, minutes)
        await self.note_ends()
        said = written(services.teams, reason)
        actor = await services.identity.actor_of(base)
        await services.trail.act("breakglass.start", base.id, minutes=minutes, reason=said.text)
        glass = await self._glasses.start(actor, said, minutes)
        await services.identity.refresh()
        services.trail.note("breakglass.start", base.id, glass.id, minutes=minutes, until=glass.ends.isoformat())
        self._tell(f"{glass.name} took an admin's rights for {minutes} minutes: {said.text} ({glass.id})")
        return glass

    async def end(self, glass_id: str, principal: Principal) -> Glass:
        """End a use before its time, in every process: one's own, or anybody's for who may watch or break it.
        `UnknownGlass`, `NotPermitted`.
        """
        found = await self._glasses.find(glass_id)
        is_own = found.principal == principal.id
        if not (is_own or principal.roles & {ADMIN, AUDITOR} or self.may_break(principal)):
            raise NotPermitted("another caller's break-glass is ended by admins and auditors")
        await self._services.trail.act("breakglass.end", principal.id, glass_id)
        glass = await self._glasses.end(glass_id, principal.id)
        await self._services.identity.refresh()
        self._services.trail.note("breakglass.end", glass.principal, glass.id, "ended", break_glass=glass.id)
        self._tell(f"the break-glass {glass.id} of {glass.name} was ended; it waits for a review")
        return glass

    async def review(self, glass_id: str, principal: Principal, note: str) -> Glass:
        """Note that the caller looked at another's use. `OwnRequest`, `UnknownGlass`."""
        services = self._services
        reviewer = await services.identity.actor_of(principal)
        require_other(reviewer, (await self._glasses.find(glass_id)).actor(), "a break-glass is not reviewed")
        said = written(services.teams, note)
        await services.trail.act("breakglass.review", principal.id, glass_id, note=said.text)
        glass = await self._glasses.review(glass_id, reviewer, said)
        self._look()
        return glass

    async def note_ends(self) -> None:
        """Record the end of each use whose time is up. `StoreUnavailable`."""
        for glass in await self._glasses.end_those_over():
            self._services.trail.note("breakglass.end", glass.principal, glass.id, TIME_UP, break_glass=glass.id)
            self._tell(f"the break-glass {glass.id} of {glass.name} is over; it waits for a review")

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                await self.note_ends()
            await asyncio.sleep(LOOK_S)

    def _tell(self, message: str) -> None:
        self._run(self._services.trail.shipping.alarm("break_glass", message))
        self._look()

    def _look(self) -> None:
        self._run(self._run_control())

    async def _run_control(self) -> None:
        try:
            await self._services.controls.run(CONTROL)
        except RoadbedError as error:
            log.warning("the control %s was not run: %s", CONTROL, error.code)

    def _run(self, work: Any) -> None:
        if len(self._tasks) >= TASKS_MAX:
            work.close()
            log.critical("break-glass: too many alarms at once, one is in the log alone")
            return
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def glass_object(glass: Glass) -> dict[str, Any]:
    """One use on the wire."""
    return {
        "id": glass.id,
        "principal": glass.principal,
        "name": glass.name,
        "reason": glass.reason,
        "started": glass.started,
        "ends": glass.ends,
        "ended": glass.ended,
        "ended_by": glass.ended_by,
        "reviewed": glass.reviewed,
        "reviewed_by": glass.reviewer_name,
        "review_note": glass.review_note,
    }
