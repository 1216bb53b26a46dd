"""Costs: what was spent in a time range, by day and by whatever one chooses, and how the budgets stand.

For auditors and admins. The charts are SVG made here; every number in them is in a table too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.routing import Route

from roadbed.console.charts import bar_chart, share
from roadbed.console.formatting import money
from roadbed.console.visits import Console, Page, Visit
from roadbed.kernel.principal import AUDITOR
from roadbed.ledger.usage_report import UsageRange, UsageReport

RANGES = {
    "24h": ("last 24 hours", timedelta(hours=24)),
    "7d": ("last 7 days", timedelta(days=7)),
    "30d": ("last 30 days", timedelta(days=30)),
    "90d": ("last 90 days", timedelta(days=90)),
}
RANGE_DEFAULT = "30d"
GROUPS = ("team", "app", "route", "endpoint", "model", "release", "key", "tag")
ROWS_SHOWN = 50


def cost_routes(console: Console) -> list[Route]:
    """The route of the page."""
    return [*console.page("/console/costs", costs, role=AUDITOR)]


async def costs(visit: Visit) -> Page:
    """Usage of a range by one dimension, its cost by day, and how the budgets stand."""
    by = visit.query("by") if visit.query("by") in GROUPS else GROUPS[0]
    within = visit.query("within") if visit.query("within") in RANGES else RANGE_DEFAULT
    now = datetime.now(UTC)
    wanted = UsageRange(now - RANGES[within][1], now)
    usage = visit.services.usage
    found, days = await usage.report([by], wanted), await usage.report(["day"], wanted)
    budgets = [budget_line(row, now) for row in await usage.budgets()]
    dearest = max([row["cost_microusd"] for row in found.rows], default=0)
    rows = [{**row, "name": row[by] or "(none)", "share": share(row["cost_microusd"], dearest)} for row in found.rows]
    context = {
        "chosen": {"by": by, "within": within},
        "groups": GROUPS,
        "ranges": {name: words for name, (words, _) in RANGES.items()},
        "rows": rows[:ROWS_SHOWN],
        "left_out": max(0, len(rows) - ROWS_SHOWN),
        "total": found.total,
        "days": days.rows,
        "chart": bar_chart(filled(days, wanted)),
        "budgets": budgets,
        "summary": summary(found, budgets, RANGES[within][0]),
    }
    data = {"by": by, "within": within, "rows": found.rows, "days": days.rows, "total": found.total, "budgets": budgets}
    return Page("costs.html", "Costs", context, data)


def filled(days: UsageReport, wanted: UsageRange) -> list[tuple[str, int]]:
    """Cost by day, days without any too."""
    known = {row["day"]: row["cost_microusd"] for row in days.rows}
    day, points = wanted.start.date(), []
    while day <= wanted.end.date():
        points.append((day.isoformat(), known.get(day.isoformat(), 0)))
        day += timedelta(days=1)
    return points


def budget_line(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """One budget as the page shows it."""
    percent = share(row["settled"], row["cap"])
    owner, _, unit = row["id"].partition("/")
    state = "spent" if percent >= 99 else ("near its end" if percent >= 80 else "within")
    return {**row, "owner": owner.replace(":", " ", 1), "unit": unit, "percent": percent, "state": state}


def summary(found: UsageReport, budgets: list[dict[str, Any]], words: str) -> str:
    """One sentence: how much, and which budget wants attention."""
    dollars, calls = money(found.total["cost_microusd"]), found.total["calls"]
    text = f"{dollars} USD for {calls:,} model {'call' if calls == 1 else 'calls'} in the {words}."
    near = [budget["owner"] for budget in budgets if budget["state"] != "within"]
    return f"{text} Near the end of their budget: {', '.join(near)}." if near else text
