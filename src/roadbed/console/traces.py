"""Traces: the requests of a time range, and the timeline, facts and masked text of one of them.

For auditors and admins. Pages of the list hang on the id that ended the page before, never on a count; the time range
is always given.
"""

from __future__ import annotations

from datetime import timedelta

from starlette.routing import Route

from roadbed.apps.types import RUNGS
from roadbed.console.timeline import outcome, timeline
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.principal import AUDITOR
from roadbed.ledger.trace import CANCELLED, DECLINED, FAILED, OK, REFUSED

PAGE_TRACES = 50
RANGES = {
    "1h": ("last hour", timedelta(hours=1)),
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
}
OF_NO_APP = {"_tools": "a tool was called", "_mcp": "an MCP client asked"}
"""What the names of traces that belong to no app say."""
RANGE_DEFAULT = "24h"
ENDS = {
    OK: "answered",
    DECLINED: "declined",
    FAILED: "failed",
    REFUSED: "refused",
    CANCELLED: "cancelled",
}
"""How a request ended, as one filters for it. What was declined was answered, too: by saying so."""


def trace_routes(console: Console) -> list[Route]:
    """The routes of the pages."""
    return [
        *console.page("/console/traces", traces, role=AUDITOR),
        *console.page("/console/traces/{id}", trace, role=AUDITOR),
    ]


async def traces(visit: Visit) -> Page:
    """The list."""
    chosen = {
        "app": visit.query("app"),
        "rung": visit.query("rung") if visit.query("rung") in RUNGS else "",
        "status": visit.query("status") if visit.query("status") in ENDS else "",
        "within": visit.query("within") if visit.query("within") in RANGES else RANGE_DEFAULT,
    }
    before = visit.query("before")
    rows = await visit.services.reader.traces(
        limit=PAGE_TRACES + 1,
        before=before or None,
        app=chosen["app"] or None,
        rung=chosen["rung"] or None,
        status=OK if chosen["status"] == DECLINED else chosen["status"] or None,
        declined=chosen["status"] == DECLINED,
        within=RANGES[chosen["within"]][1],
    )
    has_more = len(rows) > PAGE_TRACES
    rows = rows[:PAGE_TRACES]
    context = {
        "rows": rows,
        "chosen": chosen,
        "before": before,
        "next_before": rows[-1].id if has_more else None,
        "apps": sorted({*visit.services.apps(), *visit.services.gateway.routes, chosen["app"]} - {""}),
        "rungs": RUNGS,
        "ends": ENDS,
        "of_no_app": OF_NO_APP,
        "ranges": {name: words for name, (words, _) in RANGES.items()},
        "is_filtered": bool(chosen["app"] or chosen["rung"] or chosen["status"]),
    }
    return Page("traces.html", "Traces", context, {"traces": rows, "next": context["next_before"]})


async def trace(visit: Visit) -> Page:
    """One request."""
    found = await visit.services.reader.trace(visit.request.path_params["id"])
    context = {
        "trace": found.trace,
        "timeline": timeline(found.trace, found.spans),
        "outcome": outcome(found.trace, found.spans),
    }
    return Page("trace.html", f"Trace {found.trace.id[:8]}", context, found)
