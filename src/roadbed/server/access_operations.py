"""The descriptions of who may do what (``/api/access``), for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER
from roadbed.server.break_glass_routes import GlassOrder, ReviewOrder
from roadbed.server.operations import Operation, Query
from roadbed.server.second_person_routes import DeclineOrder

_PAGE: Final = (
    Query("filter", "`ATTRIBUTE eq VALUE`: userName, externalId, id, displayName, active"),
    Query("startIndex", "where the page begins, from 1", "integer"),
    Query("count", "how many at most, 200", "integer"),
)
_RESOURCE: Final = {
    "type": "object",
    "description": "a user, a group, or a PatchOp, as RFC 7643 and RFC 7644 have them",
    "required": ["schemas"],
    "properties": {"schemas": {"type": "array", "items": {"type": "string"}}},
}
_REQUEST_OBJECT: Final = (
    "{id, duty: promotions|models|duties, what, subject, digest, asker, asker_name, reason, asked, expires, "
    "state: waiting|approved|declined|replaced|expired, decided_by, decided, note}"
)
_GLASS: Final = "{id, principal, name, reason, started, ends, ended, ended_by, reviewed, reviewed_by, review_note}"
_SCIM: Final = (
    ("GET", "/ServiceProviderConfig", "What is served of SCIM.", "a ServiceProviderConfig", 200),
    ("GET", "/ResourceTypes", "The kinds of resources.", "a ListResponse", 200),
    ("GET", "/Schemas", "What resources are made of.", "a ListResponse", 200),
    ("GET", "/Users", "List users.", "a ListResponse of users", 200),
    ("POST", "/Users", "Take a user in.", "the user", 201),
    ("GET", "/Users/{id}", "One user.", "the user", 200),
    ("PUT", "/Users/{id}", "Say a user anew.", "the user", 200),
    ("PATCH", "/Users/{id}", "Change a user; `active: false` ends keys, sessions and tokens at once.", "the user", 200),
    ("DELETE", "/Users/{id}", "Switch a user off for good.", "nothing", 204),
    ("GET", "/Groups", "List groups.", "a ListResponse of groups", 200),
    ("POST", "/Groups", "Make a group.", "the group", 201),
    ("GET", "/Groups/{id}", "One group.", "the group", 200),
    ("PUT", "/Groups/{id}", "Say a group anew.", "the group", 200),
    ("PATCH", "/Groups/{id}", "Change a group or its members.", "nothing", 204),
    ("DELETE", "/Groups/{id}", "Remove a group.", "nothing", 204),
)

ACCESS_OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "GET",
        "/api/access/explain",
        AUDITOR,
        "Access",
        "Whether a caller may do something, which check decides, and what would be needed.",
        "{who: {id, name, team, roles}, what, on, allowed, checks: [{kind, name, allows, needed}], needed: [text]}",
        query=(
            Query("who", "a key's id or name, a person's, team:NAME or team:NAME/ROLE", is_required=True),
            Query("what", "an action such as app.use", is_required=True),
            Query("on", "the app, route, tool or endpoint"),
        ),
    ),
    Operation(
        "GET",
        "/api/approvals",
        AUDITOR,
        "Access",
        "What waits for a second person: promotions, approvals of models, and dropping such a rule. The calls of tools "
        "that wait are at `/api/tools/approvals`.",
        f"{{two_persons, persons_only, approvals: [{_REQUEST_OBJECT}]}}",
        query=(Query("all", "1 for those of any state"),),
    ),
    Operation(
        "POST",
        "/api/approvals/{id}/approve",
        ADMIN,
        "Access",
        "Agree to what another person asked for: it is done. A saved change that nobody asked for yet is asked for by "
        "this, and waits for another person (202).",
        f"{{state: approved, duty, subject, digest}}, or {_REQUEST_OBJECT}",
    ),
    Operation(
        "POST",
        "/api/approvals/{id}/decline",
        ADMIN,
        "Access",
        "Decide against it.",
        _REQUEST_OBJECT,
        request=DeclineOrder,
    ),
    Operation(
        "POST",
        "/api/access/break-glass",
        MEMBER,
        "Access",
        "Take an admin's rights for a bounded time, where the policies permit `breakglass`. Everybody is told.",
        _GLASS,
        request=GlassOrder,
        status=201,
    ),
    Operation(
        "GET",
        "/api/access/break-glass",
        AUDITOR,
        "Access",
        "The uses that nobody else has looked at.",
        f"{{break_glass: [{_GLASS}]}}",
        query=(Query("all", "1 for those that were reviewed, too"),),
    ),
    Operation(
        "POST",
        "/api/access/break-glass/{id}/end",
        MEMBER,
        "Access",
        "End a use at once, in every process: one's own, or as an admin or auditor anybody's.",
        _GLASS,
    ),
    Operation(
        "POST",
        "/api/access/break-glass/{id}/review",
        AUDITOR,
        "Access",
        "Note that you looked at another person's use, and what you found.",
        _GLASS,
        request=ReviewOrder,
    ),
    *(
        Operation(
            method,
            f"/scim/v2{path}",
            MEMBER,
            "Directory (SCIM 2.0)",
            f"{summary} Needs a key with the scope `scim`.",
            answer,
            request=_RESOURCE if method in ("POST", "PUT", "PATCH") else None,
            query=_PAGE if path in ("/Users", "/Groups") and method == "GET" else (),
            status=status,
            media_type="application/scim+json",
        )
        for method, path, summary, answer, status in _SCIM
    ),
)
