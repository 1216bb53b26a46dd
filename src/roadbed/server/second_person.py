"""`SecondPerson`: what waits until a second person agrees: promotions, models, and dropping such a rule itself.

Every way to promote or to approve comes through here, and `guard/duties.py` alone decides whether the caller may. What
is asked for is kept with its digest, so that what is approved is exactly that. What the manifest once switched on stays
in force, in the database, until two persons drop it: a saved file is no way round it. The invariant: a request is
carried out at most once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from roadbed.controls.governance import model_digest
from roadbed.guard.duties import (
    APPROVALS,
    DUTIES,
    MODELS,
    PROMOTIONS,
    Actor,
    Duty,
    NotAPerson,
    OwnRequest,
    Rules,
    Verdict,
    judge,
    require_second_for_call,
    rules_of,
)
from roadbed.guard.duty_requests import SETTINGS, DutyRequest, request_of
from roadbed.kernel.errors import Conflict, Forbidden, NotFound, RoadbedError
from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import Principal
from roadbed.releases.aliases import AliasMove, Releases
from roadbed.releases.manifest import Manifest
from roadbed.releases.moves import CANDIDATE, RETIRE, SAVE
from roadbed.server.control_parts import DeploymentParts
from roadbed.server.governance import approve, check_model, require_approval
from roadbed.server.written import written
from roadbed.tools.approvals import Approval

log = logging.getLogger("roadbed.server")

WAITS: Final = timedelta(days=7)
LISTED_MAX: Final = 200


class SecondPersonNeeded(Forbidden):
    """This takes a second person, and came by a way that asks nobody."""

    code = "access.second_person_needed"
    hint = "`roadbed promote APP` asks for it; another person approves it: roadbed approvals approve ID"


class RequestGone(Conflict):
    """The request was decided before, has expired, or is not of what is there now."""

    code = "access.request_gone"
    hint = "`roadbed approvals list` shows what waits; ask for it again"


class UnknownRequest(NotFound):
    """Nothing that waits for a second person has this id."""

    code = "access.request_unknown"
    hint = "`roadbed approvals list` shows what waits"


@dataclass(frozen=True, slots=True)
class Done:
    """A request that was carried out; ``move`` for a promotion."""

    duty: str
    subject: str
    digest: str
    move: AliasMove | None = None


class SecondPerson:
    """One per process, over its services."""

    def __init__(self, services: DeploymentParts, releases: Releases) -> None:
        self._services = services
        self._releases = releases
        self._database = services.database
        self.known = Rules()

    async def rules(self) -> Rules:
        """What is in force: the manifest's, and what was switched on before. `StoreUnavailable`."""
        kept = await self._kept()
        self.known = rules_of(self._services.manifest.access, kept)
        return self.known

    async def _kept(self) -> list[str]:
        return [row["name"] for row in await self._database.fetch("SELECT name FROM two_person_duty")]

    # -- the manifest -------------------------------------------------------------------------------------------------

    async def take(self, manifest: Manifest) -> bool:
        """Switch on what the manifest asks for, and let what it asks for no longer wait; whether a save has to wait."""
        wanted, kept = rules_of(manifest.access).names, await self._kept()
        for name in sorted(wanted.difference(kept)):
            await self._services.trail.act("two_persons.on", "workspace", name)
            await self._database.execute("INSERT INTO two_person_duty (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
        await self._close(DUTIES, wanted)
        for name in sorted(set(kept) - wanted):
            if await self._waiting_for(DUTIES, name) is None:
                log.warning("access.two_persons: %s stays in force until two persons drop it", name)
                await self._file(DUTIES, name, _digest_of(name), None, "the saved manifest no longer asks for it")
        self.known = rules_of(manifest.access, kept)
        return self.known.needs_two(PROMOTIONS)

    async def saved(self, moves: Iterable[AliasMove], settings: str) -> None:
        """Let saved releases wait that did not go live, and forget those that are no candidates any more. ``settings``
        names the sections in which the saved settings differ.
        """
        for move in moves:
            if move.name != CANDIDATE:
                continue
            if move.action == SAVE and move.digest is not None and self.known.needs_two(PROMOTIONS):
                reason = f"a saved change of {settings}" if move.app == SETTINGS else "a saved change"
                await self._file(PROMOTIONS, move.app, move.digest, None, reason)
            elif move.action == RETIRE:
                await self._close(PROMOTIONS, {move.app}, digest=move.previous)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def promote(self, app: str, digest: str | None, principal: Principal, reason: str) -> Done | DutyRequest:
        """Promote, or ask for it, or agree to what another asked for. `NoSuchRelease`, `NotAPerson`."""
        chosen = await self._releases.wanted(app, digest)
        await require_approval(self._services, app)
        return await self._wish(PROMOTIONS, app, chosen, principal, reason)

    async def approve_model(self, model: str, principal: Principal, by: str, note: str) -> Done | DutyRequest:
        """Approve a model as it is, or ask for it, or agree to it. `UnknownRegistered`, `NotAPerson`."""
        check_model(self._services, model)
        digest = model_digest(model, self._services.manifest)
        return await self._wish(MODELS, model, digest, principal, note, by)

    async def _wish(
        self, duty: Duty, subject: str, digest: str, principal: Principal, reason: str, by: str = ""
    ) -> Done | DutyRequest:
        actor = await self._services.identity.actor_of(principal)
        waiting = await self._waiting_for(duty, subject)
        if waiting is not None and waiting.digest != digest:
            waiting = None
        match judge(duty, await self.rules(), actor, waiting.actor() if waiting is not None else None):
            case Verdict.GO:
                return await self._carry_out(waiting, duty, subject, digest, actor, reason, by)
            case Verdict.NOT_A_PERSON:
                raise NotAPerson(f"{duty} are for people here, and this key belongs to none")
            case Verdict.OWN if waiting is not None:
                return waiting
            case _:
                return await self._file(duty, subject, digest, actor, reason, by)

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def approve(self, request_id: str, principal: Principal) -> Done | DutyRequest:
        """Agree to a request. One that nobody asked for yet is asked for by that. `OwnRequest`, `RequestGone`."""
        found = await self._find(request_id)
        actor = await self._services.identity.actor_of(principal)
        duty: Duty = found.duty  # type: ignore[assignment]
        match judge(duty, await self.rules(), actor, found.actor()):
            case Verdict.GO:
                return await self._carry_out(found, duty, found.subject, found.digest, actor, found.reason, "")
            case Verdict.OWN:
                raise OwnRequest(f"to {found.what} is not approved by who asks for it")
            case Verdict.NOT_A_PERSON:
                raise NotAPerson(f"{duty} are for people here, and this key belongs to none")
            case _:
                return await self._file(duty, found.subject, found.digest, actor, found.reason, found.said_by)

    async def decline(self, request_id: str, principal: Principal, note: str) -> DutyRequest:
        """Decide against a request, one's own too. `RequestGone`."""
        await self._find(request_id)
        actor = await self._services.identity.actor_of(principal)
        found = await self._decide(request_id, "declined", actor, self._clean(note))
        self._note("declined", found, principal.id)
        return found

    async def require_second_for(self, waiting: Approval, approver: Principal) -> None:
        """Refuse an approver who may not decide a tool's call. `OwnRequest`, `NotAPerson`."""
        rules, identity = await self.rules(), self._services.identity
        is_final = waiting.effect == "irreversible"
        if is_final or rules.needs_two(APPROVALS):
            actor, asker = await identity.actor_of(approver), await identity.actor_of(waiting.principal())
            require_second_for_call(rules, actor, asker, f"a call of {waiting.tool}", is_final=is_final)

    async def before_promote(self, app: str, agreed: str) -> None:
        """What `Releases.promote` asks first. `SecondPersonNeeded`, `ModelUnapproved`."""
        await require_approval(self._services, app)
        if not agreed and (await self.rules()).needs_two(PROMOTIONS):
            raise SecondPersonNeeded(f"{app} is promoted by two persons")

    async def before_rollback(self, app: str, was_live: bool) -> None:
        """What `Releases.rollback` asks about a release that is named. `SecondPersonNeeded`."""
        if not was_live and (await self.rules()).needs_two(PROMOTIONS):
            raise SecondPersonNeeded(f"{app} has never served that release, so to go to it is a promotion")

    async def _carry_out(
        self, found: DutyRequest | None, duty: Duty, subject: str, digest: str, actor: Actor, reason: str, by: str
    ) -> Done:
        """Do it; a request whose act fails goes on waiting."""
        if found is not None:
            await self._decide(found.id, "approved", actor, "")
        try:
            done = await self._do(found, duty, subject, digest, actor, reason, by)
        except RoadbedError:
            if found is not None:
                await self._database.execute(
                    "UPDATE two_person_request SET state = 'waiting', decider = NULL, decided = NULL WHERE id = $1"
                    " AND NOT EXISTS (SELECT FROM two_person_request WHERE duty = $2 AND subject = $3"
                    " AND state = 'waiting')",
                    *(found.id, duty, subject),
                )
            raise
        if found is not None:
            self._note("approved", found, actor.id)
        await self._close(duty, {subject})
        return done

    async def _do(
        self, found: DutyRequest | None, duty: Duty, subject: str, digest: str, actor: Actor, reason: str, by: str
    ) -> Done:
        asker = found.asker_name if found is not None and found.asker is not None else ""
        who = f"{asker}, approved by {actor.name}" if asker else actor.name
        if actor.breaks_glass:
            who = f"{who} (break-glass)"
        if duty == PROMOTIONS:
            move = await self._releases.promote(subject, digest, actor=who, reason=reason, agreed=actor.id)
            return Done(duty, subject, digest, move)
        if duty == MODELS:
            if model_digest(subject, self._services.manifest) != digest:
                raise RequestGone(f"the model {subject} is not what it was when this was asked for")
            first = found.said_by if found is not None else ""
            people = " and ".join(name for name in (first, by or actor.name) if name) if first else by or actor.name
            await approve(self._services, subject, people, reason, actor.id)
        else:
            await self._services.trail.act("two_persons.off", actor.id, subject)
            await self._database.execute("DELETE FROM two_person_duty WHERE name = $1", subject)
        return Done(duty, subject, digest)

    # -- the rows -----------------------------------------------------------------------------------------------------

    async def waiting(self) -> list[DutyRequest]:
        """What waits, the newest first. `StoreUnavailable`."""
        return await self._rows("state = 'waiting' AND expires > now()")

    async def listed(self) -> list[DutyRequest]:
        """The newest of any state."""
        return await self._rows("true")

    async def _rows(self, where: str) -> list[DutyRequest]:
        rows = await self._database.fetch(
            f"SELECT * FROM two_person_request WHERE {where} ORDER BY asked DESC LIMIT {LISTED_MAX}"  # noqa: S608
        )
        return [request_of(row) for row in rows]

    async def _find(self, request_id: str) -> DutyRequest:
        row = await self._database.fetchrow("SELECT * FROM two_person_request WHERE id = $1", request_id)
        if row is None:
            raise UnknownRequest(f"nothing with the id {request_id[:40]!r} waits")
        found = request_of(row)
        if found.state != "waiting" or found.expires <= datetime.now(UTC):
            raise RequestGone("the request was decided before, or has expired")
        return found

    async def _waiting_for(self, duty: str, subject: str) -> DutyRequest | None:
        row = await self._database.fetchrow(
            "SELECT * FROM two_person_request WHERE duty = $1 AND subject = $2 AND state = 'waiting'"
            " AND expires > now()",
            *(duty, subject),
        )
        return request_of(row) if row is not None else None

    async def _file(
        self, duty: Duty, subject: str, digest: str, actor: Actor | None, reason: str, by: str = ""
    ) -> DutyRequest:
        """Let it wait, in place of what waited for the same before."""
        name = actor.name if actor is not None else ""
        async with self._database.transaction() as connection:
            await connection.execute("LOCK TABLE two_person_request IN SHARE ROW EXCLUSIVE MODE")
            await connection.execute(
                "UPDATE two_person_request SET state = 'replaced', decided = now()"
                " WHERE duty = $1 AND subject = $2 AND state = 'waiting'",
                *(duty, subject),
            )
            row = await connection.fetchrow(
                "INSERT INTO two_person_request (id, duty, subject, digest, asker, asker_name, asker_names,"
                " asker_lineage, asker_is_person, said_by, reason, expires)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + $12) RETURNING *",
                *(new_id(), duty, subject, digest, actor.id if actor is not None else None, name),
                *(sorted(actor.names) if actor is not None else [], sorted(actor.line) if actor is not None else []),
                *(actor is not None and actor.is_person, self._clean(by), self._clean(reason), WAITS),
            )
        found = request_of(row)
        self._note("asked", found, actor.id if actor is not None else "workspace")
        return found

    async def _decide(self, request_id: str, state: str, actor: Actor, note: str) -> DutyRequest:
        """Claim a waiting request, once. `RequestGone`."""
        row = await self._database.fetchrow(
            "UPDATE two_person_request SET state = $2, decider = $3, decider_name = $4, decided = now(), note = $5"
            " WHERE id = $1 AND state = 'waiting' AND expires > now() RETURNING *",
            *(request_id, state, actor.id, actor.name, note),
        )
        if row is None:
            raise RequestGone("the request was decided before, or has expired")
        return request_of(row)

    async def _close(self, duty: str, subjects: Iterable[str], *, digest: str | None = None) -> None:
        """What waited for these is overtaken."""
        await self._database.execute(
            "UPDATE two_person_request SET state = 'replaced', decided = now() WHERE duty = $1 AND subject = ANY($2)"
            " AND state = 'waiting' AND ($3::text IS NULL OR digest = $3)",
            *(duty, sorted(subjects), digest),
        )

    def _clean(self, text: str) -> str:
        return written(self._services.teams, text).text

    def _note(self, how: str, found: DutyRequest, principal_id: str) -> None:
        trail = self._services.trail
        asker = trail.pseudonym(found.asker) if found.asker is not None else "workspace"
        detail = {"duty": found.duty, "digest": found.digest, "asker": asker, "request": found.id}
        trail.note(f"two_persons.{how}", principal_id, found.subject, **detail)


def request_object(found: DutyRequest) -> dict[str, Any]:
    """One request on the wire."""
    return {
        "id": found.id,
        "duty": found.duty,
        "what": found.what,
        "subject": found.subject,
        "digest": found.digest,
        "asker": found.asker,
        "asker_name": found.asker_name,
        "reason": found.reason,
        "asked": found.asked,
        "expires": found.expires,
        "state": "expired" if found.state == "waiting" and found.expires <= datetime.now(UTC) else found.state,
        "decided_by": found.decider_name or found.decider,
        "decided": found.decided,
        "note": found.note,
    }


def _digest_of(name: str) -> str:
    return hashlib.sha256(f"two persons no longer: {name}".encode()).hexdigest()
