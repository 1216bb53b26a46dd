"""Keeping who approved which model: what stands in the register of models, and in the cards that are made of it.

Called by ``governance.py``, and by the canary control with words of its own. The invariant: a name that holds a secret
is refused, and a note is kept with placeholders for what the guard finds.
"""

from __future__ import annotations

from typing import Protocol

from roadbed.kernel.errors import InvalidRequest
from roadbed.kernel.ids import new_id
from roadbed.server.audit import AuditTrail
from roadbed.server.teams import Teams
from roadbed.server.written import written
from roadbed.store.database import Database


class Keeping(Protocol):
    """What it needs of the services."""

    database: Database
    teams: Teams
    trail: AuditTrail


async def keep_approval(parts: Keeping, model: str, digest: str, who: str, note: str, actor: str) -> None:
    """Keep one approval. `InvalidRequest` for a name with a secret in it."""
    if parts.teams.guard.holds_secret(who):
        hint = "say who approves it; what stands there is kept and shown as it is"
        raise InvalidRequest("by: a secret stands in it", hint=hint, param="by")
    await parts.database.execute(
        "INSERT INTO model_approval (id, model, digest, who, actor, note) VALUES ($1, $2, $3, $4, $5, $6)",
        *(new_id(), model, digest, who, parts.trail.pseudonym(actor), written(parts.teams, note).text),
    )
