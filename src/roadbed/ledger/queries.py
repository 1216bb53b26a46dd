"""Reading traces and usage back, for the console and the API. Keyset pages, no counting, every list bounded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from roadbed.kernel.errors import NotFound
from roadbed.ledger.trace import DECLINED
from roadbed.store.database import Database

PAGE_MAX = 200


class NoSuchTrace(NotFound):
    """No trace with this id is kept; traces are deleted after ``traces.keep``."""

    code = "ledger.trace_not_found"


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request as a line of a list."""

    id: str
    started: datetime
    app: str
    release: str
    principal: str
    team: str
    rung: str
    status: str
    error_code: str
    duration_us: int
    model: str
    input_tokens: int
    output_tokens: int
    cost_microusd: int
    masked_count: int
    question: str | None
    answer: str | None
    attributes: dict[str, Any]

    @property
    def is_declined(self) -> bool:
        """Whether the answer was that the documents do not hold it."""
        return self.attributes.get(DECLINED) is True


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One step of a stored trace; times in microseconds from the trace's start."""

    number: int
    parent: int
    name: str
    kind: str
    start_us: int
    duration_us: int
    status: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TraceDetail:
    """A stored trace with its steps in order."""

    trace: TraceRow
    spans: list[SpanRow]


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """Requests, tokens and cost of one app since some time."""

    app: str
    requests: int
    input_tokens: int
    output_tokens: int
    cost_microusd: int


_TRACE_COLUMNS = (
    "id, started, app, release, principal, team, rung, status, error_code, duration_us, model, input_tokens,"
    " output_tokens, cost_microusd, masked_count, question, answer, attributes"
)


class LedgerReader:
    """Queries over the ledger's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def traces(
        self,
        *,
        limit: int = 50,
        before: str | None = None,
        app: str | None = None,
        rung: str | None = None,
        status: str | None = None,
        declined: bool = False,
        within: timedelta = timedelta(hours=24),
    ) -> list[TraceRow]:
        """The newest traces, newest first. ``before`` is the id that ended the last page (ids sort by time).

        ``declined``: only those whose answer was that the documents do not hold it.
        """
        rows = await self._database.fetch(
            f"SELECT {_TRACE_COLUMNS} FROM trace WHERE started >= now() - $1::interval"  # noqa: S608
            " AND ($2::text IS NULL OR (started, id) < (SELECT started, id FROM trace WHERE id = $2))"
            " AND ($3::text IS NULL OR app = $3) AND ($4::text IS NULL OR rung = $4)"
            " AND ($5::text IS NULL OR status = $5) AND ($7::jsonb IS NULL OR attributes @> $7)"
            " ORDER BY started DESC, id DESC LIMIT $6",
            within,
            before,
            app,
            rung,
            status,
            min(limit, PAGE_MAX),
            {DECLINED: True} if declined else None,
        )
        return [TraceRow(*row.values()) for row in rows]

    async def trace(self, trace_id: str) -> TraceDetail:
        """One trace with its spans. Raises `NoSuchTrace`."""
        row = await self._database.fetchrow(f"SELECT {_TRACE_COLUMNS} FROM trace WHERE id = $1", trace_id)  # noqa: S608
        if row is None:
            raise NoSuchTrace(f"no trace {trace_id[:40]} is kept")
        spans = await self._database.fetch(
            "SELECT number, parent, name, kind, start_us, duration_us, status, attributes FROM span"
            " WHERE trace_id = $1 ORDER BY number",
            trace_id,
        )
        return TraceDetail(TraceRow(*row.values()), [SpanRow(*span.values()) for span in spans])

    async def spend_by_endpoint(self, since: datetime) -> dict[str, int]:
        """What each endpoint cost since a time, in micro-USD."""
        rows = await self._database.fetch(
            "SELECT endpoint, sum(cost_microusd)::bigint FROM usage WHERE at >= $1 GROUP BY endpoint", since
        )
        return {str(row[0]): int(row[1]) for row in rows}

    async def usage_by_app(self, within: timedelta) -> list[UsageTotal]:
        """Requests, tokens and cost of each app in a time range."""
        rows = await self._database.fetch(
            "SELECT app, count(*)::int, coalesce(sum(input_tokens), 0)::bigint,"
            " coalesce(sum(output_tokens), 0)::bigint, coalesce(sum(cost_microusd), 0)::bigint"
            " FROM trace WHERE started >= now() - $1::interval GROUP BY app ORDER BY app",
            within,
        )
        return [UsageTotal(*row.values()) for row in rows]
