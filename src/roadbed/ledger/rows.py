"""From finished traces to table rows: pure functions, and the wire form of a batch in the spool.

A batch is three lists of tuples in the column order declared here. It holds guarded text only (`Trace.question` and
`Trace.answer` are `Guarded`), so the spool is as clean as the tables.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from roadbed.ledger.trace import Span, Trace

TRACE_COLUMNS = (
    "id",
    "started",
    "app",
    "release",
    "principal",
    "team",
    "rung",
    "status",
    "error_code",
    "duration_us",
    "model",
    "input_tokens",
    "output_tokens",
    "cost_microusd",
    "masked_count",
    "question",
    "answer",
    "attributes",
)
SPAN_COLUMNS = (
    "trace_id",
    "number",
    "parent",
    "started",
    "name",
    "kind",
    "start_us",
    "duration_us",
    "status",
    "attributes",
)
USAGE_COLUMNS = (
    "id",
    "at",
    "trace_id",
    "team",
    "principal",
    "app",
    "release",
    "route",
    "endpoint",
    "model",
    "input_uncached",
    "cache_read",
    "cache_write",
    "output_tokens",
    "reasoning_tokens",
    "source",
    "cost_microusd",
)
TABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "trace": (TRACE_COLUMNS, "id"),
    "span": (SPAN_COLUMNS, "trace_id, number"),
    "usage": (USAGE_COLUMNS, "id"),
}
# An escaped NUL, and not an escaped backslash before the letters u0000.
_NUL_IN_JSON = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
Row = tuple[Any, ...]
Batch = dict[str, list[Row]]
_TRACE_ID = {
    "trace": TRACE_COLUMNS.index("id"),
    "span": SPAN_COLUMNS.index("trace_id"),
    "usage": USAGE_COLUMNS.index("trace_id"),
}


def rows_of(trace: Trace, *, keep_content: bool) -> Batch:
    """The rows of one finished trace, by table."""
    question = _storable(trace.question.text) if keep_content and trace.question is not None else None
    answer = _storable(trace.answer.text) if keep_content and trace.answer is not None else None
    principal = trace.principal
    row: Row = (
        trace.id,
        trace.started,
        trace.app,
        trace.release,
        principal.id,
        principal.team,
        trace.rung,
        trace.status,
        trace.error_code,
        trace.duration_us,
        trace.model,
        sum(usage.input_tokens for usage in trace.usage),
        sum(usage.output_tokens for usage in trace.usage),
        trace.cost_microusd,
        trace.masked_count,
        question,
        answer,
        _json(trace.attributes),
    )
    return {"trace": [row], "span": [_span_row(trace, span) for span in trace.spans], "usage": _usage_rows(trace)}


def _storable(text: str) -> str:
    """Text as PostgreSQL takes it: what people and models write may hold NUL or halves of surrogate pairs."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _json(attributes: dict[str, Any]) -> str:
    if not attributes:
        return "{}"
    encoded = msgspec.json.encode(attributes).decode()
    return _NUL_IN_JSON.sub(r"\1\\ufffd", encoded) if "\\u0000" in encoded else encoded


def _span_row(trace: Trace, span: Span) -> Row:
    return (
        trace.id,
        span.number,
        span.parent,
        trace.started + timedelta(microseconds=span.start_us),
        span.name,
        span.kind,
        span.start_us,
        span.duration_us,
        span.status,
        _json(span.attributes),
    )


def _usage_rows(trace: Trace) -> list[Row]:
    return [
        (
            f"{trace.id}-{number}",
            trace.started,
            trace.id,
            trace.principal.team,
            trace.principal.id,
            trace.app,
            trace.release,
            usage.route,
            usage.endpoint,
            usage.model,
            usage.input_uncached,
            usage.cache_read,
            usage.cache_write,
            usage.output_tokens,
            usage.reasoning_tokens,
            usage.source,
            usage.cost_microusd,
        )
        for number, usage in enumerate(trace.usage)
    ]


def merge(batches: Iterable[Batch]) -> Batch:
    """One batch of many."""
    result: Batch = {table: [] for table in TABLES}
    for batch in batches:
        for table, rows in batch.items():
            result[table].extend(rows)
    return result


def split(batch: Batch) -> list[Batch]:
    """One batch per trace."""
    by_trace: defaultdict[str, Batch] = defaultdict(lambda: {table: [] for table in TABLES})
    for table, rows in batch.items():
        place = _TRACE_ID[table]
        for row in rows:
            by_trace[row[place]][table].append(row)
    return list(by_trace.values())


def encode_batch(batch: Batch) -> bytes:
    """A batch as bytes for the spool."""
    return msgspec.msgpack.encode(batch)


_SPAN_STARTED = SPAN_COLUMNS.index("started")
_TRACE_STARTED = TRACE_COLUMNS.index("started")
_USAGE_AT = USAGE_COLUMNS.index("at")


def decode_batch(body: bytes) -> Batch:
    """A batch back from the spool."""
    raw: dict[str, list[list[Any]]] = msgspec.msgpack.decode(body)
    times = {"trace": _TRACE_STARTED, "span": _SPAN_STARTED, "usage": _USAGE_AT}
    result: Batch = {}
    for table, rows in raw.items():
        place = times[table]
        for row in rows:
            row[place] = msgspec.convert(row[place], datetime)
        result[table] = [tuple(row) for row in rows]
    return result
