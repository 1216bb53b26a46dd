"""The descriptions of who may do what (``/api/access``), for ``openapi.py``."""

from __future__ import annotations

from typing import Final

from roadbed.kernel.principal import AUDITOR
from roadbed.server.operations import Operation, Query

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
)
