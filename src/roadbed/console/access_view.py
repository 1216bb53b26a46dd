"""`AccessView`: what the console needs of who may do what, of second persons and of break-glass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from roadbed.guard.duties import Rules
from roadbed.guard.duty_requests import DutyRequest
from roadbed.guard.glasses import Glass
from roadbed.guard.people import Person
from roadbed.kernel.principal import Principal


class AccessView(Protocol):
    """Implemented over a deployment by ``server/console_access.py``."""

    def glasses(self) -> Sequence[Glass]:
        """Those that are in force, in this process's memory."""
        ...

    def is_raised(self, principal: Principal) -> bool:
        """Whether an emergency raises the caller's rights."""
        ...

    def may_break(self, principal: Principal) -> bool:
        """Whether the caller may break the glass."""
        ...

    def people(self) -> Sequence[Person]:
        """Everyone whom an issuer or a directory has named."""
        ...

    def policies(self) -> Sequence[tuple[str, str]]:
        """The policies that decide, by file name; the shipped ones where there are no others."""
        ...

    def actions(self) -> Sequence[str]:
        """What may be asked of `explain`."""
        ...

    async def explain(self, who: str, what: str, on: str) -> dict[str, Any]:
        """Every check of one act. `UnknownCaller`, `UnknownAction`, `InvalidRequest`."""
        ...

    async def rules(self) -> Rules:
        """What needs two persons."""
        ...

    async def waiting(self) -> Sequence[DutyRequest]:
        """What waits for a second person, the newest first."""
        ...

    async def promote(self, app: str, digest: str | None, principal: Principal, reason: str) -> DutyRequest | None:
        """Promote; what waits instead where that takes two."""
        ...

    async def approve(self, request_id: str, principal: Principal) -> DutyRequest | None:
        """Agree; what waits still where nobody had asked. `OwnRequest`, `RequestGone`."""
        ...

    async def decline(self, request_id: str, principal: Principal, note: str) -> DutyRequest:
        """Decide against it. `RequestGone`."""
        ...

    async def uses(self) -> Sequence[Glass]:
        """The newest uses of break-glass, of any state."""
        ...

    async def break_glass(self, principal: Principal, reason: str, minutes: int) -> Glass:
        """Raise the caller's rights. `NotPermitted`, `GlassInvalid`, `GlassBroken`."""
        ...

    async def end_glass(self, glass_id: str, principal: Principal) -> Glass:
        """End a use. `UnknownGlass`, `NotPermitted`."""
        ...

    async def review_glass(self, glass_id: str, principal: Principal, note: str) -> Glass:
        """Note that the caller looked at another's. `OwnRequest`, `UnknownGlass`."""
        ...
