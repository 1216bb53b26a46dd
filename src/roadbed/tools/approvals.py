"""Approvals: calls that change something wait here for a person, run once, and tell the asker what came of it.

A call of a tool that writes makes a row with its exact arguments, a preview and a digest over them (RFC 8785); a person
approves it; the effect's row is committed before the call acts. The same call again by the same asker finds its
approval: it still waits, or was denied, or this is what came of it. The invariant: an approval starts at most one run,
and a run whose end is not known is never started again.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import Principal
from roadbed.sources.caller_errors import NOTHING_DONE
from roadbed.store.database import Database, Row
from roadbed.tools.canonical import canonical_json
from roadbed.tools.errors import ApprovalInvalid
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Provenance, Refused, Tool, ToolRequest

APPROVAL_S = 600
# A run is bounded by its tool's time; one that is pending for longer lost its process.
PENDING_S = 900
COLLECT_S = 86_400
WAITING_OF_ONE_MAX = 20
LISTED_MAX = 200
LOCK_SEED = 50
"""Sets the locks of calls apart from other advisory locks; the number of the migration that made the table."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One call that waits, or waited. ``effect_state`` is None until it was started."""

    id: str
    tool: str
    source: str
    effect: str
    arguments: Mapping[str, Any]
    digest: str
    nonce: str
    asker: str
    asker_name: str
    team: str
    preview: Mapping[str, Any]
    state: str
    decided_by: str | None
    reason: str
    asked: datetime
    expires: datetime
    effect_state: str | None
    outcome: Mapping[str, Any] | None

    def principal(self) -> Principal:
        """The asker, as whom the call runs; with no role that the call does not need."""
        return Principal(id=self.asker, team=self.team, name=self.asker_name)

    @property
    def is_waiting(self) -> bool:
        """Whether it may still be decided."""
        return self.state == "waiting" and self.expires > datetime.now(UTC)


_SELECT = """
SELECT a.id, a.tool, a.source, a.effect, a.arguments, a.digest, a.nonce, a.principal AS asker, a.name AS asker_name,
       a.team, a.preview, a.state, a.decided_by, a.reason, a.asked, a.expires, e.outcome,
       CASE WHEN e.state = 'pending' AND e.began < now() - make_interval(secs => $1) THEN 'unknown' ELSE e.state END
           AS effect_state
FROM tool_approval a LEFT JOIN tool_effect e ON e.approval = a.id
"""

_NEWEST = _SELECT + " WHERE a.call = $2 AND e.collected IS NULL ORDER BY a.asked DESC LIMIT 1"


class Approvals:
    """The rows, over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.before_approve: Callable[[Approval, Principal], Awaitable[None]] | None = None

    async def ask(self, tool: Tool, request: ToolRequest, preview: Mapping[str, Any]) -> Outcome:
        """Write a waiting approval; the same call made at once by another task finds it. `StoreUnavailable`."""
        waiting = await self._database.fetchval(
            "SELECT count(*) FROM tool_approval WHERE principal = $1 AND state = 'waiting' AND expires > now()",
            request.principal.id,
        )
        if waiting >= WAITING_OF_ONE_MAX:
            message = f"{waiting} calls of this caller wait for approval already"
            return Refused("tools.approvals_full", message, hint="wait until some of them are decided")
        nonce, approval_id = secrets.token_hex(16), new_id()
        digest, call = _digest(tool, request, nonce), _call_of(tool.name, request)
        expires = datetime.now(UTC) + timedelta(seconds=APPROVAL_S)
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", call, LOCK_SEED)
            row = await connection.fetchrow(_NEWEST, PENDING_S, call)
            if row is not None and self._waits_as_is(found := _approval(row), tool, request):
                return NeedsApproval(found.id, found.preview, found.digest, found.expires.timestamp())
            await connection.execute(
                """
                INSERT INTO tool_approval
                    (id, tool, source, effect, arguments, digest, call, nonce, principal, team, name, preview, expires)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                """,
                *(approval_id, tool.name, tool.source, tool.effect, dict(request.arguments), digest),
                *(call, nonce, request.principal.id, request.principal.team),
                *(request.principal.name, dict(preview), expires),
            )
        return NeedsApproval(approval_id, preview, digest, expires.timestamp())

    def _waits_as_is(self, found: Approval, tool: Tool, request: ToolRequest) -> bool:
        """Whether it waits, and for the tool as it is now."""
        return found.is_waiting and found.digest == _digest(tool, request, found.nonce)

    async def standing(self, tool: Tool, request: ToolRequest) -> Outcome | None:
        """How the newest approval of this call stands; None when it has to be asked for. An end is told once."""
        row = await self._database.fetchrow(_NEWEST, PENDING_S, _call_of(tool.name, request))
        if row is None:
            return None
        found = _approval(row)
        if self._waits_as_is(found, tool, request):
            return NeedsApproval(found.id, found.preview, found.digest, found.expires.timestamp())
        if found.state == "waiting" or (datetime.now(UTC) - found.expires).total_seconds() > COLLECT_S:
            return None
        if found.state == "denied":
            return await self._denied(found)
        if found.effect_state == "pending":
            return Failed("tools.running", f"{tool.name} was approved and runs", tool.source, True, "ask again soon")
        await self._database.execute("UPDATE tool_effect SET collected = now() WHERE approval = $1", found.id)
        return _told(found, tool)

    async def _denied(self, found: Approval) -> Outcome | None:
        """Told while the approval would have stood; after that the call may be asked for again."""
        if found.expires < datetime.now(UTC):
            return None
        reason = f": {found.reason}" if found.reason else ""
        return Refused("tools.denied", f"a person denied this call{reason}", hint="do not call it again as it is")

    async def find(self, approval_id: str) -> Approval:
        """One approval. `ApprovalInvalid`."""
        row = await self._database.fetchrow(_SELECT + " WHERE a.id = $2", PENDING_S, approval_id)
        if row is None:
            raise ApprovalInvalid("there is no such approval")
        return _approval(row)

    async def listed(self, *, only_waiting: bool) -> list[Approval]:
        """The newest approvals, at most `LISTED_MAX`."""
        where = " WHERE a.state = 'waiting' AND a.expires > now()" if only_waiting else ""
        rows = await self._database.fetch(f"{_SELECT}{where} ORDER BY a.asked DESC LIMIT {LISTED_MAX}", PENDING_S)
        return [_approval(row) for row in rows]

    async def begin(self, waiting: Approval, tool: Tool, approver: Principal) -> None:
        """Note the approval and the effect that is about to begin, in one transaction. `ApprovalInvalid`."""
        request = ToolRequest(waiting.arguments, waiting.principal(), Deadline(0.0))
        if _digest(tool, request, waiting.nonce) != waiting.digest or tool.effect != waiting.effect:
            raise ApprovalInvalid(
                "the call is not the one that was asked for", hint="ask for it anew: its tool may have changed"
            )
        self._check_approver(waiting, approver)
        if self.before_approve is not None:
            await self.before_approve(waiting, approver)
        async with self._database.transaction() as connection:
            done = await connection.fetchval(
                """
                UPDATE tool_approval SET state = 'approved', decided_by = $2, decided = now()
                WHERE id = $1 AND state = 'waiting' AND expires > now() RETURNING id
                """,
                *(waiting.id, approver.id),
            )
            if done is None:
                raise ApprovalInvalid("the approval was decided before, or has expired")
            await connection.execute(
                "INSERT INTO tool_effect (approval, key) VALUES ($1, $2)", waiting.id, effect_key(waiting)
            )

    def _check_approver(self, waiting: Approval, approver: Principal) -> None:
        if waiting.effect == "irreversible" and approver.id == waiting.asker:
            raise ApprovalInvalid(
                "what cannot be undone is not approved by who asks for it", hint="let another person approve it"
            )

    async def end(self, waiting: Approval, outcome: Outcome | None) -> None:
        """Note what came of a run: done, refused or failed before it acted, or not known. `StoreUnavailable`."""
        match outcome:
            case Ok():
                state = "done"
            case Refused():
                state = "failed"
            case Failed() if outcome.code in _NEVER_ACTED:
                state = "failed"
            case _:
                state = "unknown"
        body = msgspec.to_builtins(_body_of(outcome))
        await self._database.execute(
            "UPDATE tool_effect SET state = $2, outcome = $3, ended = now() WHERE approval = $1 AND state = 'pending'",
            *(waiting.id, state, body),
        )

    async def deny(self, approval_id: str, by: Principal, reason: str) -> None:
        """Decide against a call. `ApprovalInvalid`."""
        done = await self._database.fetchval(
            """
            UPDATE tool_approval SET state = 'denied', decided_by = $2, decided = now(), reason = $3
            WHERE id = $1 AND state = 'waiting' AND expires > now() RETURNING id
            """,
            *(approval_id, by.id, reason),
        )
        if done is None:
            raise ApprovalInvalid("there is no such approval, or it was decided before, or has expired")


# Failures of which it is known that nothing was changed.
_NEVER_ACTED = NOTHING_DONE | {"sources.busy", "sources.credentials_refused", "sources.rolled_back"}


def effect_key(waiting: Approval) -> str:
    """The idempotency key of an approval's one run."""
    return hashlib.sha256(f"{waiting.id}:{waiting.digest}".encode()).hexdigest()


def _digest(tool: Tool, request: ToolRequest, nonce: str) -> str:
    """What a person approves: this call of the tool as it is, and does, now."""
    bound = {**_named(tool.name, request), "nonce": nonce, "pin": tool.pin, "does": tool.does}
    return hashlib.sha256(canonical_json(bound)).hexdigest()


def _call_of(tool: str, request: ToolRequest) -> str:
    """What a call that is made again is found by, also when its tool has changed meanwhile."""
    return hashlib.sha256(canonical_json(_named(tool, request))).hexdigest()


def _named(tool: str, request: ToolRequest) -> dict[str, Any]:
    return {"tool": tool, "arguments": request.arguments, "principal": request.principal.id}


def _approval(row: Row) -> Approval:
    return Approval(**{name: row[name] for name in Approval.__dataclass_fields__})


def _body_of(outcome: Outcome | None) -> Any:
    match outcome:
        case Ok():
            return {"data": outcome.data, "source": outcome.provenance[0].source if outcome.provenance else ""}
        case Refused() | Failed():
            return {"code": outcome.code, "message": outcome.message, "hint": outcome.hint}
        case _:
            return {}


def _told(found: Approval, tool: Tool) -> Outcome:
    body = found.outcome or {}
    if found.effect_state == "done":
        origin = Provenance(tool.source, tool.name, time.time())
        return Ok(body.get("data"), (origin,), tool.label)
    if found.effect_state == "failed":
        return Refused(str(body.get("code", "tools.failed")), str(body.get("message", "")), str(body.get("hint", "")))
    return Failed(
        "tools.unknown_effect",
        f"{tool.name} was started and its end is not known",
        tool.source,
        is_retryable=False,
        hint="look in the source whether it took effect; it is not run again by itself",
    )
