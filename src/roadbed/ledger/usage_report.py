"""What was used and what it cost, summed up by whatever one wants to see: the query behind ``/api/usage``.

Read-only, bounded in groups and rows, over the ledger's usage rows (which stay when traces are swept). A call with
two tags counts in full under each. The invariant: names of columns come from `GROUPS`, never from a caller.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from roadbed.kernel.errors import InvalidRequest
from roadbed.store.database import Database

GROUPS: Final = {
    "team": "team",
    "app": "app",
    "route": "route",
    "endpoint": "endpoint",
    "model": "model",
    "release": "release",
    "key": "principal",
    "tag": "coalesce(tag, '')",
    "day": "to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
GROUPS_MAX = 3
ROWS_MAX = 1000
DAYS_MAX = 400
MEASURES = ("calls", "input_tokens", "output_tokens", "reasoning_tokens", "cost_microusd", "estimated_microusd")


class UsageQueryInvalid(InvalidRequest):
    """Usage was asked for by an unknown group, or for a range that cannot be."""

    code = "ledger.usage_query_invalid"
    hint = f"group by up to {GROUPS_MAX} of {', '.join(GROUPS)}, over {DAYS_MAX} days at most"


@dataclass(frozen=True, slots=True)
class UsageRange:
    """From a moment to before another."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class UsageReport:
    """Rows of names and measures, dearest first; ``by`` names the groups in order."""

    by: tuple[str, ...]
    start: datetime
    end: datetime
    rows: list[dict[str, Any]]
    total: dict[str, int]
    is_cut: bool

    def csv(self) -> str:
        """The rows with a heading. Cells that a spreadsheet would take for a formula are quoted."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*self.by, *MEASURES])
        for row in self.rows:
            names = [str(row[name]) for name in self.by]
            plain = ["'" + name if name[:1] in "=+-@\t\r" and name else name for name in names]
            writer.writerow([*plain, *[row[measure] for measure in MEASURES]])
        return out.getvalue()


def groups_of(text: str) -> tuple[str, ...]:
    """``team,day`` as names. Raises `UsageQueryInvalid`."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",", GROUPS_MAX + 1)))
    for name in names:
        if name not in GROUPS:
            raise UsageQueryInvalid(f"usage is not grouped by {name[:40]!r}", param="by")
    if len(names) > GROUPS_MAX:
        raise UsageQueryInvalid(f"usage is grouped by {GROUPS_MAX} names at most", param="by")
    return names


def range_of(start: str, end: str, within: timedelta, now: datetime) -> UsageRange:
    """Dates, the last one included, or the time before now. Raises `UsageQueryInvalid`."""
    try:
        until = datetime.combine(date.fromisoformat(end), time(), UTC) + timedelta(days=1) if end else now
        since = datetime.combine(date.fromisoformat(start), time(), UTC) if start else until - within
    except (ValueError, OverflowError):
        raise UsageQueryInvalid("a range is given in dates such as 2026-11-01", param="from") from None
    if not timedelta(0) < until - since <= timedelta(days=DAYS_MAX):
        raise UsageQueryInvalid(f"the range ends before it begins, or is over {DAYS_MAX} days", param="from")
    return UsageRange(since, until)


async def report(database: Database, by: Sequence[str], within: UsageRange) -> UsageReport:
    """The sums of a range."""
    columns = ", ".join(f'{GROUPS[name]} AS "{name}"' for name in by)
    numbers = ", ".join(str(number) for number in range(1, len(by) + 1))
    tags = " LEFT JOIN LATERAL unnest(tags) AS t(tag) ON true" if "tag" in by else ""
    sums = (
        "count(*)::bigint AS calls,"
        " coalesce(sum(input_uncached::bigint + cache_read + cache_write), 0)::bigint AS input_tokens,"
        " coalesce(sum(output_tokens), 0)::bigint AS output_tokens,"
        " coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,"
        " coalesce(sum(cost_microusd), 0)::bigint AS cost_microusd,"
        " coalesce(sum(cost_microusd) FILTER (WHERE source = 'estimated'), 0)::bigint AS estimated_microusd"
    )
    where = "WHERE at >= $1 AND at < $2"
    order = '"day", ' if "day" in by else ""
    rows = await database.fetch(
        f"SELECT {columns}, {sums} FROM usage{tags} {where} GROUP BY {numbers}"  # noqa: S608 - names from GROUPS
        f" ORDER BY {order}cost_microusd DESC, calls DESC, {numbers} LIMIT {ROWS_MAX + 1}",
        *(within.start, within.end),
    )
    total = await database.fetchrow(f"SELECT {sums} FROM usage {where}", within.start, within.end)  # noqa: S608
    assert total is not None
    return UsageReport(
        tuple(by),
        within.start,
        within.end,
        [dict(row) for row in rows[:ROWS_MAX]],
        {name: total[name] for name in MEASURES},
        len(rows) > ROWS_MAX,
    )
