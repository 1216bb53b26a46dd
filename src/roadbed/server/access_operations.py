"""The descriptions of who may do what (``/api/access``), for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import AUDITOR, MEMBER
from roadbed.server.operations import Operation, Query

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
