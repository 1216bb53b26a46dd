"""Audit: who did what and what was decided, newest first, and how far that is proven.

For auditors and admins. Pages hang on the place that ended the page before; requests are shown only when they are asked
for, since there are a thousand to an act.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.routing import Route

from roadbed.console.formatting import short
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.principal import AUDITOR

DIGEST_CHARACTERS = 64
PAGE_RECORDS = 50
RANGES = {
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
    "all": ("all", timedelta(days=36_500)),
}
RANGE_DEFAULT = "7d"
ACTIONS = {
    "": "all acts",
    "console.*": "in the console",
    "keys.*": "keys",
    "releases.*": "releases",
    "documents.*": "documents",
    "collections.*": "uploads",
    "endpoints.*": "endpoints",
    "manifest.*": "settings",
    "erasures.*": "erasures",
    "audit.*": "the audit itself",
    "request": "requests",
}


def audit_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [*console.page("/console/audit", audit, role=AUDITOR)]


async def audit(visit: Visit) -> Page:
    """The list and its state."""
    record = visit.services.audit
    chosen = {
        "actor": visit.query("actor").strip(),
        "action": visit.query("action") if visit.query("action") in ACTIONS else "",
        "within": visit.query("within") if visit.query("within") in RANGES else RANGE_DEFAULT,
    }
    actor = chosen["actor"]
    before = visit.query("before")
    rows, place = await record.page(
        actor=record.pseudonym(actor) if actor else "",
        action=chosen["action"],
        acts_only=not chosen["action"],
        start=datetime.now(UTC) - RANGES[chosen["within"]][1],
        before=before,
        limit=PAGE_RECORDS,
    )
    context = {
        "rows": [shown(row) for row in rows],
        "state": await record.head(),
        "chosen": chosen,
        "actions": ACTIONS,
        "ranges": {name: words for name, (words, _) in RANGES.items()},
        "before": before,
        "next_before": place,
    }
    return Page("audit.html", "Audit", context, {"records": rows, "next": place, "state": context["state"]})


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A record as a line of the table."""
    facts = ", ".join(f"{name} {_short(value)}" for name, value in row["detail"].items() if value not in ("", 0))
    return {**row, "when": datetime.fromtimestamp(row["at"] / 1e6, UTC), "facts": facts[:300]}


def _short(value: Any) -> Any:
    """The beginning of a digest, as every page writes one; the page's JSON twin has it whole."""
    is_digest = isinstance(value, str) and len(value) == DIGEST_CHARACTERS and set(value) <= set("0123456789abcdef")
    return short(value) if is_digest else value
