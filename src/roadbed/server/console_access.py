"""The console's view of who may do what: the same objects that decide for requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from roadbed.guard.access import ACTIONS, SHIPPED
from roadbed.guard.access_files import DEFAULT_NAME, default_text
from roadbed.guard.duties import Rules
from roadbed.guard.duty_requests import DutyRequest
from roadbed.guard.glasses import Glass
from roadbed.guard.people import Person
from roadbed.kernel.principal import Principal
from roadbed.server.access_report import caller_named, explain_access
from roadbed.server.second_person import Done
from roadbed.server.services import Services


class ConsoleAccess:
    """What the page Access shows and does."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def glasses(self) -> Sequence[Glass]:
        """Those that are in force."""
        return self._services.identity.glasses.active()

    def is_raised(self, principal: Principal) -> bool:
        """Whether an emergency raises the caller's rights."""
        return self._services.identity.glasses.of(principal.id) is not None

    def may_break(self, principal: Principal) -> bool:
        """Whether the caller may break the glass."""
        return self._services.duties.emergency.may_break(principal)

    def people(self) -> Sequence[Person]:
        """Everyone who is known."""
        return self._services.identity.people.all()

    def policies(self) -> Sequence[tuple[str, str]]:
        """The workspace's files, and the shipped set unless one of them takes its place."""
        texts = self._services.teams.access.texts
        return [*texts.items(), *([] if DEFAULT_NAME in texts else [(SHIPPED, default_text())])]

    def actions(self) -> Sequence[str]:
        """Every action that policies know."""
        return list(ACTIONS)

    async def explain(self, who: str, what: str, on: str) -> dict[str, Any]:
        """Every check of one act."""
        return explain_access(self._services, await caller_named(self._services, who), what, on)

    async def rules(self) -> Rules:
        """What needs two persons."""
        return await self._services.duties.second.rules()

    async def waiting(self) -> Sequence[DutyRequest]:
        """What waits for a second person."""
        return await self._services.duties.second.waiting()

    async def promote(self, app: str, digest: str | None, principal: Principal, reason: str) -> DutyRequest | None:
        """Promote; what waits instead where that takes two."""
        found = await self._services.duties.second.promote(app, digest, principal, reason)
        return None if isinstance(found, Done) else found

    async def approve(self, request_id: str, principal: Principal) -> DutyRequest | None:
        """Agree to a request."""
        found = await self._services.duties.second.approve(request_id, principal)
        return None if isinstance(found, Done) else found

    async def decline(self, request_id: str, principal: Principal, note: str) -> DutyRequest:
        """Decide against a request."""
        return await self._services.duties.second.decline(request_id, principal, note)

    async def uses(self) -> Sequence[Glass]:
        """The newest uses of break-glass."""
        return await self._services.identity.glasses.listed()

    async def break_glass(self, principal: Principal, reason: str, minutes: int) -> Glass:
        """Raise the caller's rights."""
        return await self._services.duties.emergency.start(principal, reason, minutes)

    async def end_glass(self, glass_id: str, principal: Principal) -> Glass:
        """End a use."""
        return await self._services.duties.emergency.end(glass_id, principal)

    async def review_glass(self, glass_id: str, principal: Principal, note: str) -> Glass:
        """Note that the caller looked at another's."""
        return await self._services.duties.emergency.review(glass_id, principal, note)
