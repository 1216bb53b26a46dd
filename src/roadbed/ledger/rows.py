"""From finished traces to table rows: pure functions that write the lines of PostgreSQL's COPY text format.

A trace becomes one `Lines`; batches are joins of them, in tables and in the spool alike. Lines hold guarded text only
(`Trace.question` and `Trace.answer` are `Guarded`), so the spool is as clean as the tables. The invariant: each line
has the columns of its table in the order declared here, whatever the texts in it hold.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from roadbed.ledger.trace import Span, Trace, Usage

TRACE_COLUMNS: Final = (
    "id", "started", "app", "release", "principal", "team", "rung", "status", "error_code", "duration_us", "model",
    "input_tokens", "output_tokens", "cost_microusd", "masked_count", "question", "answer", "attributes",
)  # fmt: skip
SPAN_COLUMNS: Final = (
    "trace_id", "number", "parent", "started", "name", "kind", "start_us", "duration_us", "status", "attributes",
)  # fmt: skip
USAGE_COLUMNS: Final = (
    "id", "at", "trace_id", "team", "principal", "app", "release", "route", "endpoint", "model", "input_uncached",
    "cache_read", "cache_write", "output_tokens", "reasoning_tokens", "source", "cost_microusd",
)  # fmt: skip
TABLES: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("trace", TRACE_COLUMNS, "id"),
    ("span", SPAN_COLUMNS, "trace_id, number"),
    ("usage", USAGE_COLUMNS, "id"),
)
"""Name, columns and key of each table; in the order of `Lines`."""

# An escaped NUL, and not an escaped backslash before the letters u0000.
_NUL_IN_JSON = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
_ESCAPES = str.maketrans({"\0": "\ufffd", "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_US = 1_000_000

Lines = tuple[bytes, bytes, bytes]
"""The lines of one trace, for each of `TABLES`; each line ends with its line break."""


def lines_of(trace: Trace, *, keep_content: bool) -> Lines:
    """The rows of one finished trace."""
    question = _text(trace.question.text) if keep_content and trace.question is not None else "\\N"
    answer = _text(trace.answer.text) if keep_content and trace.answer is not None else "\\N"
    used = trace.usage
    given, made, cost = 0, 0, 0
    for usage in used:
        given += usage.input_uncached + usage.cache_read + usage.cache_write
        made += usage.output_tokens
        cost += usage.cost_microusd
    app, release, principal, team, rung, model, code = _names(
        trace.app, trace.release, trace.principal.id, trace.principal.team, trace.rung, trace.model, trace.error_code
    )
    started = _time(trace.started_us)
    line = (
        f"{trace.id}\t{started}\t{app}\t{release}\t{principal}\t{team}\t{rung}\t{trace.status}\t{code}\t"
        f"{trace.duration_us}\t{model}\t{given}\t{made}\t{cost}\t{trace.masked_count}\t{question}\t{answer}\t"
        f"{_json(trace.attributes)}\n"
    )
    spans = "".join([_span_line(trace, span) for span in trace.spans])
    who = f"{trace.id}\t{team}\t{principal}\t{app}\t{release}"
    usages = "".join([_usage_line(trace.id, started, who, number, usage) for number, usage in enumerate(used)])
    return _bytes(line), _bytes(spans), _bytes(usages)


def _span_line(trace: Trace, span: Span) -> str:
    name, kind, _ = _names(span.name, span.kind, "")
    return (
        f"{trace.id}\t{span.number}\t{span.parent}\t{_time(trace.started_us + span.start_us)}\t{name}\t{kind}\t"
        f"{span.start_us}\t{span.duration_us}\t{span.status}\t{_json(span.attributes)}\n"
    )


def _usage_line(trace_id: str, started: str, who: str, number: int, usage: Usage) -> str:
    route, endpoint, model = _names(usage.route, usage.endpoint, usage.model)
    return (
        f"{trace_id}-{number}\t{started}\t{who}\t{route}\t{endpoint}\t{model}\t{usage.input_uncached}\t"
        f"{usage.cache_read}\t{usage.cache_write}\t{usage.output_tokens}\t{usage.reasoning_tokens}\t{usage.source}\t"
        f"{usage.cost_microusd}\n"
    )


def _names(*names: str) -> tuple[str, ...]:
    """Names as fields; nearly always they are so already."""
    return names if _is_plain("".join(names)) else tuple([_text(name) for name in names])


def _is_plain(text: str) -> bool:
    """Whether a text is a field as it is; five searches for one byte are faster than a pattern."""
    return not ("\\" in text or "\n" in text or "\t" in text or "\r" in text or "\0" in text)


def _text(text: str) -> str:
    """A text as a field. NUL, which PostgreSQL does not store, becomes a replacement character."""
    return text if _is_plain(text) else text.translate(_ESCAPES)


def _bytes(lines: str) -> bytes:
    """UTF-8; halves of surrogate pairs, which people and models do write, become question marks."""
    return lines.encode("utf-8", "replace")


def _json(attributes: Any) -> str:
    if not attributes:
        return "{}"
    encoded = msgspec.json.encode(attributes).decode()
    if "\\" not in encoded:
        return encoded
    return _NUL_IN_JSON.sub(r"\1\\ufffd", encoded).replace("\\", "\\\\")


_second = 0
_second_text = ""


def _time(at_us: int) -> str:
    """Microseconds since 1970 as a timestamp with its zone; the text of the present second is kept."""
    global _second, _second_text
    second, rest_us = divmod(at_us, _US)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{rest_us:06d}+00"


def encode_batch(batch: Iterable[Lines]) -> bytes:
    """A batch as bytes for the spool."""
    return msgspec.msgpack.encode(batch)


def decode_batch(body: bytes) -> list[Lines]:
    """A batch back from the spool. `ValueError` when it is none."""
    return msgspec.msgpack.decode(body, type=list[Lines])
