"""`Glasses`: who has broken the glass: an admin's rights for a bounded time, with a reason.

The rows are in PostgreSQL; every process keeps those in force in memory, read with the keys and on the same notice, so
that one that is ended is over in every process within a second, and one whose time is up ends by the clock alone. Who
may break it is decided above. The invariant: rights are raised for at most `MINUTES_MAX`, and never without a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from roadbed.guard.duties import Actor
from roadbed.guard.people import CHANNEL
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import Conflict, InvalidRequest, NotFound
from roadbed.kernel.guarded import Guarded
from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.store.database import Connection, Database

MINUTES_MAX: Final = 60
REASON_CHARACTERS_MIN: Final = 10
REASON_CHARACTERS_MAX: Final = 500
LISTED_MAX: Final = 200
RAISED_MAX: Final = 1_000
TIME_UP: Final = "time"


class GlassInvalid(InvalidRequest):
    """A break-glass has a reason and a bounded time."""

    code = "access.break_glass_invalid"
    hint = f"say why in {REASON_CHARACTERS_MIN} characters or more, and for 1 to {MINUTES_MAX} minutes"


class GlassBroken(Conflict):
    """The caller's rights are raised already."""

    code = "access.break_glass_active"
    hint = "`roadbed access break-glass --end ID` ends it; a longer time needs a new reason after that"


class UnknownGlass(NotFound):
    """There is no such break-glass, or it is not in the state that this needs."""

    code = "access.break_glass_unknown"
    hint = "`roadbed access review` lists them"


@dataclass(frozen=True, slots=True)
class Glass:
    """One use of break-glass: whose rights were raised, why, from when until when, and who has reviewed it."""

    id: str
    principal: str
    name: str
    names: frozenset[str]
    lineage: frozenset[str]
    is_person: bool
    reason: str
    started: datetime
    ends: datetime
    ended: datetime | None
    ended_by: str
    reviewed: datetime | None
    reviewed_by: str
    reviewer_name: str
    review_note: str

    def actor(self) -> Actor:
        """Its user, for whoever judges whether another person reviews it."""
        return Actor(self.principal, self.name, self.names, self.lineage, self.is_person)


class Glasses:
    """The uses of a deployment, in one process. `read` is `Identity`'s business."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock
        self._broken: dict[str, Glass] = {}
        self._raised: dict[str, tuple[Principal, Principal]] = {}

    async def read(self) -> None:
        """Take a fresh snapshot of those in force. `StoreUnavailable`."""
        rows = await self._database.fetch("SELECT * FROM break_glass WHERE ended IS NULL AND ends > now()")
        self._broken = {row["principal"]: _glass(row) for row in rows}
        if len(self._raised) > RAISED_MAX:
            self._raised = {name: pair for name, pair in self._raised.items() if name in self._broken}

    # -- the request path ---------------------------------------------------------------------------------------------

    @property
    def is_any_broken(self) -> bool:
        """Whether anybody's rights were raised when the snapshot was read."""
        return bool(self._broken)

    def of(self, principal_id: str) -> Glass | None:
        """A caller's, while it is in force."""
        found = self._broken.get(principal_id)
        return found if found is not None and self._clock.wall() < found.ends else None

    def id_of(self, principal_id: str) -> str:
        """Its id, or nothing."""
        found = self.of(principal_id) if self._broken else None
        return found.id if found is not None else ""

    def active(self) -> list[Glass]:
        """All that are in force, the oldest first."""
        now = self._clock.wall()
        return sorted((glass for glass in self._broken.values() if now < glass.ends), key=lambda glass: glass.started)

    def raised(self, principal: Principal) -> Principal:
        """The caller with an admin's rights while theirs is in force; the same object for the same caller."""
        glass = self.of(principal.id)
        if glass is None:
            return principal
        known = self._raised.get(principal.id)
        if known is None or known[0] is not principal or known[1].break_glass != glass.id:
            raised = replace(principal, roles=principal.roles | {ADMIN}, break_glass=glass.id)
            known = self._raised[principal.id] = (principal, raised)
        return known[1]

    def base(self, principal: Principal) -> Principal:
        """The caller as it is while nothing raises its rights. Compared by value: a caller who was let in before the
        snapshot changed is still one whose rights were raised.
        """
        known = self._raised.get(principal.id)
        return known[0] if known is not None and known[1] == principal else principal

    # -- using it -----------------------------------------------------------------------------------------------------

    async def start(self, actor: Actor, reason: Guarded, minutes: int) -> Glass:
        """Raise a caller's rights. `GlassInvalid`, `GlassBroken`."""
        check_glass(reason.text, minutes)
        now = self._clock.wall()
        try:
            async with self._database.transaction() as connection:
                row = await connection.fetchrow(
                    "INSERT INTO break_glass (id, principal, name, names, lineage, is_person, reason, started, ends)"
                    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *",
                    *(new_id(), actor.id, actor.name, sorted(actor.names), sorted(actor.line), actor.is_person),
                    *(reason.text, now, now + timedelta(minutes=minutes)),
                )
                await self._notice(connection, actor.id)
        except asyncpg.UniqueViolationError:
            raise GlassBroken("this caller's rights are raised already") from None
        return _glass(row)

    async def end(self, glass_id: str, by: str) -> Glass:
        """End one before its time. `UnknownGlass`."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "UPDATE break_glass SET ended = $2, ended_by = $3 WHERE id = $1 AND ended IS NULL RETURNING *",
                *(glass_id, self._clock.wall(), by),
            )
            if row is None:
                raise UnknownGlass(f"no break-glass {glass_id[:40]!r} is in force")
            await self._notice(connection, row["principal"])
        return _glass(row)

    async def end_those_over(self) -> list[Glass]:
        """Note the end of those whose time is up; which they are, each told to one caller alone."""
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                "UPDATE break_glass SET ended = ends, ended_by = $2 WHERE ended IS NULL AND ends <= $1 RETURNING *",
                *(self._clock.wall(), TIME_UP),
            )
            for row in rows:
                await self._notice(connection, row["principal"])
        return [_glass(row) for row in rows]

    async def review(self, glass_id: str, reviewer: Actor, note: Guarded) -> Glass:
        """Note that somebody looked at one that is over. `UnknownGlass`."""
        row = await self._database.fetchrow(
            "UPDATE break_glass SET reviewed = $2, reviewed_by = $3, reviewer_name = $4, review_note = $5"
            " WHERE id = $1 AND ended IS NOT NULL AND reviewed IS NULL RETURNING *",
            *(glass_id, self._clock.wall(), reviewer.id, reviewer.name, note.text),
        )
        if row is None:
            raise UnknownGlass(f"no break-glass {glass_id[:40]!r} is over and waits for a review")
        return _glass(row)

    async def find(self, glass_id: str) -> Glass:
        """One of any state. `UnknownGlass`."""
        row = await self._database.fetchrow("SELECT * FROM break_glass WHERE id = $1", glass_id)
        if row is None:
            raise UnknownGlass(f"there is no break-glass {glass_id[:40]!r}")
        return _glass(row)

    async def listed(self, *, only_unreviewed: bool = False) -> list[Glass]:
        """The newest, at most `LISTED_MAX`."""
        rows = await self._database.fetch(
            "SELECT * FROM break_glass WHERE reviewed IS NULL OR NOT $1::boolean ORDER BY started DESC LIMIT $2",
            *(only_unreviewed, LISTED_MAX),
        )
        return [_glass(row) for row in rows]

    async def _notice(self, connection: Connection, principal_id: str) -> None:
        await self._database.notify(CHANNEL, principal_id, connection=connection)


def check_glass(reason: str, minutes: int) -> None:
    """`GlassInvalid` for a reason that is none, or a time without bound."""
    if len(reason.strip()) < REASON_CHARACTERS_MIN or len(reason) > REASON_CHARACTERS_MAX:
        raise GlassInvalid(
            f"a reason has {REASON_CHARACTERS_MIN} to {REASON_CHARACTERS_MAX} characters", param="reason"
        )
    if not 1 <= minutes <= MINUTES_MAX:
        raise GlassInvalid(f"{minutes} minutes", param="minutes")


def unreviewed(glasses: Iterable[Glass]) -> list[Glass]:
    """Those that nobody has looked at, the oldest first."""
    return sorted((glass for glass in glasses if glass.reviewed is None), key=lambda glass: glass.started)


def _glass(row: Any) -> Glass:
    values = {name: row[name] for name in Glass.__dataclass_fields__}
    return Glass(**{**values, "names": frozenset(row["names"]), "lineage": frozenset(row["lineage"])})
