"""How an analytics answer is shown: its text, the ``roadbed.analytics`` object, and the citations of its rows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from roadbed.apps.analytics_desk import Cite, Missing, Prepared
from roadbed.apps.analytics_plan import Asks, Plan
from roadbed.apps.analytics_prompt import ASKED_BACK
from roadbed.apps.analytics_table import Table, markdown_of
from roadbed.apps.chart import choose, svg_of
from roadbed.apps.types import Citation
from roadbed.kernel.errors import RoadbedError

ROWS_IN_TEXT = 20
ROWS_IN_OBJECT = 200
QUOTE_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class AnalyticsAnswer:
    """A finished turn: its text, what ``roadbed`` says of it, and the whole table."""

    text: str
    facts: dict[str, Any]
    table: Table | None

    @property
    def analytics(self) -> dict[str, Any]:
        """The ``roadbed.analytics`` object."""
        found: dict[str, Any] = self.facts.get("analytics", {})
        return found


@dataclass(slots=True)
class Shown:
    """What is known of an answer so far; `text_of` and `object_of` say it."""

    prepared: Prepared | None = None
    table: Table | None = None
    cites: Sequence[Cite] = ()
    missing: Sequence[Missing] = ()
    sentence: str = ""
    notes: list[str] = field(default_factory=list)
    plan: Plan | None = None
    asks: Asks | None = None
    failure: RoadbedError | None = None
    offers: Sequence[str] = ()
    question: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    seal: str = ""
    age_s: float = 0.0
    words: str = ""


def text_of(shown: Shown) -> str:
    """The answer as text: what is said, the table in Markdown, notes and sources."""
    parts = [shown.words, shown.sentence]
    if shown.asks is not None:
        options = "\n".join(f"- {option}" for option in shown.asks.options)
        parts.append(f"{ASKED_BACK} {shown.asks.question}\n{options}".rstrip())
    if shown.table is not None:
        rows = len(shown.table.rows)
        parts.append(markdown_of(shown.table, ROWS_IN_TEXT) if rows else "The statement found no rows.")
        if rows > ROWS_IN_TEXT:
            parts.append(f"The first {ROWS_IN_TEXT} of {rows} rows.")
    if shown.age_s:
        parts.append(f"This result is {_age(shown.age_s)} old: its source does not answer now.")
    parts += [f"Note: {note}." for note in shown.notes]
    parts += [f"Missing: {one.source} does not answer ({one.code})." for one in shown.missing]
    if shown.offers:
        parts.append("I can answer:\n" + "\n".join(f"- {offer}" for offer in shown.offers))
    if shown.cites:
        lines = [
            f"[{number}] {cite.source}: {cite.rows} {'row' if cite.rows == 1 else 'rows'} of "
            f"{', '.join(cite.tables) or 'a statement'}, {_when(cite.as_of)}"
            for number, cite in enumerate(shown.cites, 1)
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def object_of(shown: Shown) -> dict[str, Any]:
    """The ``roadbed.analytics`` object."""
    prepared, table = shown.prepared, shown.table
    chart = choose(table, prepared.chart if prepared else "auto") if table is not None else None
    title = prepared.title if prepared else ""
    return {
        "title": title,
        "sentence": shown.sentence,
        "question": shown.question,
        "parameters": dict(shown.values),
        "statements": msgspec.to_builtins(prepared.parts) if prepared else [],
        "join": prepared.join if prepared else "",
        "prepared": msgspec.to_builtins(prepared) if prepared else None,
        "seal": shown.seal,
        "columns": msgspec.to_builtins(table.columns) if table else [],
        "rows": [list(row) for row in table.rows[:ROWS_IN_OBJECT]] if table else [],
        "row_count": len(table.rows) if table else 0,
        "is_truncated": table.is_truncated if table else False,
        "chart_kind": chart.kind if chart else "",
        "chart": svg_of(table, chart, title) if chart and table else "",
        "notes": list(shown.notes),
        "cites": [msgspec.to_builtins(cite) for cite in shown.cites],
        "missing": [msgspec.to_builtins(one) for one in shown.missing],
        "age_s": round(shown.age_s, 1),
        "plan": msgspec.to_builtins(shown.plan) if shown.plan else None,
        "asks": msgspec.to_builtins(shown.asks) if shown.asks else None,
        "failure": _failure(shown.failure),
        "offers": list(shown.offers),
    }


def citations_of(cites: Sequence[Cite]) -> tuple[Citation, ...]:
    """Each source's rows as a citation: no document, and the statement as its quote."""
    return tuple(
        Citation(
            number=number,
            document_id="",
            chunk_id="",
            title=cite.source,
            uri=f"source:{cite.source}",
            source=cite.source,
            collection="",
            start=0,
            end=0,
            quote=cite.statement[:QUOTE_CHARACTERS_MAX],
            location=f"{cite.rows} rows, {_when(cite.as_of)}",
        )
        for number, cite in enumerate(cites, 1)
    )


def _failure(error: RoadbedError | None) -> dict[str, str] | None:
    return {"code": error.code, "message": error.message, "hint": error.hint} if error is not None else None


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _age(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
