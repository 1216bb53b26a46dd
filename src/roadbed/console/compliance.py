"""Compliance: the controls that run all the time, how each stands, its history, and which clauses it is evidence for.

For auditors and admins; an admin runs one at once. Every page shows a banner while a control does not hold. What is
shown are counts, bounds and paths: evidence holds no value.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.controls.evidence import Evidence
from roadbed.controls.frameworks import control_map
from roadbed.controls.register import Stands
from roadbed.kernel.principal import AUDITOR

HISTORY_DAYS = 7
HISTORY_MAX = 60


def compliance_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [
        *console.page("/console/compliance", compliance, role=AUDITOR),
        *console.action("/console/compliance/{id}/run", run_now, role="admin"),
    ]


async def compliance(visit: Visit) -> Page:
    """The controls."""
    controls = visit.services.controls
    standing = await controls.stand(is_fresh=True) if controls is not None else []
    start = datetime.now(UTC) - timedelta(days=HISTORY_DAYS)
    history = await controls.history(start) if controls is not None else []
    mapped = control_map()
    rows = [shown(stands, [kept for kept in history if kept.control == stands.id]) for stands in standing]
    today = datetime.now(UTC).date().isoformat()
    context = {
        "rows": rows,
        "failed_count": sum(row["is_failed"] for row in rows),
        "map": mapped,
        "titles": {name: framework.title for name, framework in mapped.frameworks.items()},
        "today": today,
    }
    data = {"map": mapped.version, "controls": rows}
    return Page("compliance.html", "Compliance", context, data)


async def run_now(visit: Visit) -> Response:
    """Run one control."""
    assert visit.services.controls is not None
    await visit.services.controls.run(visit.request.path_params["id"])
    return seen("/console/compliance")


def shown(stands: Stands, history: Sequence[Evidence]) -> dict[str, Any]:
    """One control as the page lists it."""
    last = stands.last.document() if stands.last is not None else {}
    return {
        "id": stands.id,
        "title": stands.title,
        "standing": stands.standing,
        "is_failed": stands.is_failed,
        "at": stands.last.at if stands.last is not None else None,
        "period_s": stands.period_s,
        "summary": last.get("summary", "it has not run yet"),
        "problems": last.get("problems", []),
        "facts": last.get("facts", {}),
        "n": last.get("n", 0),
        "bound": last.get("bound"),
        "history": [{"at": kept.at, "outcome": kept.outcome} for kept in history[-HISTORY_MAX:]],
        "clauses": control_map().clauses(stands.id),
    }
