"""Acts of administration by the address that does them: which action of the policies each is, and who may do it.

Used by every address that asks for the role auditor or admin, under ``/api`` and ``/console`` alike. The invariant:
an address without a line here is `deployment.read` or `deployment.change`, never unguarded.
"""

from __future__ import annotations

from typing import Final

from roadbed.guard.access import ACTIONS, NotPermitted, Resource
from roadbed.guard.keys import (
    ADMIN_SCOPE,
    AUDIT_SCOPE,
    CHAT_SCOPE,
    INGEST_SCOPE,
    MCP_SCOPE,
    SEARCH_SCOPE,
    require_scope,
)
from roadbed.kernel.principal import ADMIN, AUDITOR, Principal
from roadbed.server.admission import RoleMissing, require_role
from roadbed.server.teams import Teams

CHAT_PATHS: Final = ("/v1/chat", "/v1/responses", "/v1/messages", "/v1/models")
READING: Final = frozenset({"GET", "HEAD"})
# What an address begins with, below /api or /console: (action when it reads, action when it changes something).
ACTS: Final = (
    ("keys", "keys.manage", "keys.manage"),
    ("sign-in-links", "keys.manage", "keys.manage"),
    ("people", "people.manage", "people.manage"),
    ("releases", "deployment.read", "release.promote"),
    ("audit/witness", "audit.read", "audit.read"),
    ("audit", "audit.read", "deployment.change"),
    ("erasures", "audit.read", "erase"),
    ("traces", "trace.read", "deployment.change"),
    ("access/approvals", "deployment.read", "approval.decide"),
    ("access/break-glass", "audit.read", "audit.read"),
    ("approvals", "deployment.read", "approval.decide"),
    ("tools/approvals", "deployment.read", "approval.decide"),
    ("models", "deployment.read", "endpoint.order"),
    ("documents", "deployment.read", "document.change"),
    ("collections", "deployment.read", "document.change"),
    ("ingest", "deployment.read", "document.change"),
)


def act_of(method: str, path: str) -> tuple[str, str]:
    """The action that a call of an address is, and the name in the address, where one follows."""
    below = path.strip("/").removesuffix(".json").partition("/")[2]
    for beginning, reads, changes in ACTS:
        if below == beginning or below.startswith(f"{beginning}/"):
            rest = below[len(beginning) :].strip("/").partition("/")[0]
            return (reads if method in READING else changes), rest
    return ("deployment.read" if method in READING else "deployment.change"), ""


def scope_of(role: str, method: str, path: str) -> str:
    """The use that a key with scopes must have been made for, to call an address."""
    if role in (ADMIN, AUDITOR):
        action, _ = act_of(method, path)
        return INGEST_SCOPE if action == "document.change" else AUDIT_SCOPE if role == AUDITOR else ADMIN_SCOPE
    if path.startswith("/api/tools"):
        return MCP_SCOPE
    return CHAT_SCOPE if path.startswith(CHAT_PATHS) else SEARCH_SCOPE


def require_act(teams: Teams, principal: Principal, role: str, method: str, path: str) -> None:
    """Refuse a caller who may not do what an address does. Without policies of the workspace's own its ``role`` is
    what counts. Raises `RoleMissing`, `NotPermitted`.
    """
    if principal.scopes is not None:
        require_scope(principal, scope_of(role, method, path))
    if role not in (ADMIN, AUDITOR) or not teams.access.is_own:
        require_role(principal, role)
        return
    action, named = act_of(method, path)
    # Keys are listed for auditors in the console; what an address's role says in its reading is kept here.
    if action in ("keys.manage", "people.manage") and role == AUDITOR:
        action = "deployment.read"
    if not teams.access.allows(principal, action, resource_of(teams, action, named)):
        if not principal.roles & {ADMIN, AUDITOR}:
            raise RoleMissing(f"this call needs a key with the role {role}, or a policy that permits {action}")
        raise NotPermitted(f"the workspace's policies do not permit {action} here")


def resource_of(teams: Teams, action: str, named: str) -> Resource:
    """What an act is done on, as policies see it."""
    match ACTIONS[action][1]:
        case "App":
            return teams.release_of(named)
        case "Endpoint":
            return Resource("Endpoint", named)
        case _:
            return teams.deployment
