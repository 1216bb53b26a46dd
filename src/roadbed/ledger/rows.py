"""From finished traces to table rows: pure functions that write the lines of PostgreSQL's COPY text format.

A trace becomes one `Lines`; batches are joins of them, in tables and in the spool alike. Lines hold guarded text only
(`Trace.question` and `Trace.answer` are `Guarded`), so the spool is as clean as the tables. The invariant: each line
has the columns of its table in the order declared here, whatever the texts in it hold.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec

from roadbed.ledger.trace import Trace

TRACE_COLUMNS: Final = (
    "id", "started", "app", "release", "principal", "team", "rung", "status", "error_code", "duration_us", "model",
    "input_tokens", "output_tokens", "cost_microusd", "masked_count", "question", "answer", "attributes",
)  # fmt: skip
SPAN_COLUMNS: Final = (
    "trace_id", "number", "parent", "started", "name", "kind", "start_us", "duration_us", "status", "attributes",
)  # fmt: skip
USAGE_COLUMNS: Final = (
    "id", "at", "trace_id", "principal", "team", "app", "release", "route", "endpoint", "model", "input_uncached",
    "cache_read", "cache_write", "output_tokens", "reasoning_tokens", "source", "cost_microusd", "tags",
)  # fmt: skip
TABLES: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    ("trace", TRACE_COLUMNS, "id"),
    ("span", SPAN_COLUMNS, "trace_id, number"),
    ("usage", USAGE_COLUMNS, "id"),
)
"""Name, columns and key of each table; in the order of `Lines`."""

# An escaped NUL, and not an escaped backslash before the letters u0000.
_NUL_IN_JSON = re.compile(r"((?<!\\)(?:\\\\)*)\\u0000")
# The backslash first, as the others bring new ones.
_ESCAPES: Final = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"), ("\0", "\ufffd"))
_US = 1_000_000
NAMES_KEPT = 4096

Lines = tuple[bytes, bytes, bytes]
"""The lines of one trace, for each of `TABLES`; each line ends with its line break."""


def lines_of(trace: Trace, *, keep_content: bool) -> Lines:
    """The rows of one finished trace."""
    asked, answered, masked, call = trace.recorded()
    question = _text(asked.text) if keep_content and asked is not None else "\\N"
    answer = _text(answered.text) if keep_content and answered is not None else "\\N"
    trace_id, started_us, principal = trace.id, trace.started_us, trace.principal
    started = _time(started_us)
    app_release, caller, end, model = _trace_names(
        *(trace.app, trace.release, principal.id, principal.team),
        *(trace.rung, trace.status, trace.error_code, trace.model),
    )
    given = made = cost = 0
    span_lines = usage_lines = ""
    usage_begin, tags = f"\t{started}\t{trace_id}\t{caller}\t{app_release}\t", trace.tags
    if call is not None:  # nearly all traces, and by far the most where many come
        uncached, cache_read, cache_write, made = (
            call.input_uncached, call.cache_read, call.cache_write, call.output_tokens,
        )  # fmt: skip
        given, cost, start_us, first_ms = (
            uncached + cache_read + cache_write,
            call.cost_microusd,
            call.start_us,
            call.first_token_ms,
        )
        span_names, usage_names, attributes = _call_names(call.route, call.endpoint, call.model, call.is_local)
        span_lines = (
            f"{trace_id}\t0\t-1\t{_time(started_us + start_us)}\t{span_names}\t{start_us}\t{call.duration_us}\tok\t"
            f'{attributes}{"null" if first_ms is None else first_ms},"input_tokens":{given},"output_tokens":{made}}}\n'
        )
        usage_lines = (
            f"{trace_id}-0{usage_begin}{usage_names}\t{uncached}\t{cache_read}\t{cache_write}\t{made}\t"
            f"{call.reasoning_tokens}\t{call.source}\t{cost}\t{{{tags}}}\n"
        )
    else:
        for span in trace.spans:
            start_us = span.start_us
            span_lines += (
                f"{trace_id}\t{span.number}\t{span.parent}\t{_time(started_us + start_us)}\t"
                f"{_names((span.name, span.kind))}\t{start_us}\t{span.duration_us}\t{span.status}\t"
                f"{_json(span.attributes)}\n"
            )
        for number, usage in enumerate(trace.usage):
            given += usage.input_tokens
            made += usage.output_tokens
            cost += usage.cost_microusd
            usage_lines += (
                f"{trace_id}-{number}{usage_begin}{_names((usage.route, usage.endpoint, usage.model))}\t"
                f"{usage.input_uncached}\t{usage.cache_read}\t{usage.cache_write}\t{usage.output_tokens}\t"
                f"{usage.reasoning_tokens}\t{usage.source}\t{usage.cost_microusd}\t{{{tags}}}\n"
            )
    line = (
        f"{trace_id}\t{started}\t{app_release}\t{caller}\t{end}\t{trace.duration_us}\t{model}\t{given}\t"
        f"{made}\t{cost}\t{masked}\t{question}\t{answer}\t{_json(trace.attributes)}\n"
    )
    return _bytes(line), _bytes(span_lines), _bytes(usage_lines)


@lru_cache(maxsize=NAMES_KEPT)
def _trace_names(
    app: str, release: str, principal: str, team: str, rung: str, status: str, error_code: str, model: str
) -> tuple[str, str, str, str]:
    """What the rows of a trace say of its app, of its caller, of its end and of its model."""
    return _names((app, release)), _names((principal, team)), _names((rung, status, error_code)), _text(model)


@lru_cache(maxsize=NAMES_KEPT)
def _call_names(route: str, endpoint: str, model: str, is_local: bool) -> tuple[str, str, str]:
    """What the rows of a whole call say of its endpoint: in the span, in the usage, and how the attributes begin."""
    known = {
        "endpoint": endpoint,
        "model": model,
        "is_local": is_local,
        "http_status": 200,
        "failure": "",
        "reason": "",
    }
    attributes = _json(known)[:-1] + ',"first_token_ms":'
    return _names((f"model {endpoint}", "model")), _names((route, endpoint, model)), attributes


@lru_cache(maxsize=NAMES_KEPT)
def _names(names: tuple[str, ...]) -> str:
    """Some names as fields beside each other. The same few come again and again."""
    return "\t".join([_text(name) for name in names])


def _is_plain(text: str) -> bool:
    """Whether a text is a field as it is; five searches for one byte are faster than a pattern."""
    return not ("\\" in text or "\n" in text or "\t" in text or "\r" in text or "\0" in text)


def _text(text: str) -> str:
    """A text as a field. NUL, which PostgreSQL does not store, becomes a replacement character."""
    if not _is_plain(text):
        for character, escape in _ESCAPES:  # some twenty times faster than `str.translate`
            text = text.replace(character, escape)
    return text


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


_second = -1  # none yet
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
    return [(*lines[:2], _with_tags(lines[2])) for lines in msgspec.msgpack.decode(body, type=list[Lines])]


def _with_tags(usage_lines: bytes) -> bytes:
    """Lines that a build before the column ``tags`` spooled get an empty one."""
    lines = usage_lines.splitlines(keepends=True)
    if not lines or lines[0].count(b"\t") == len(USAGE_COLUMNS) - 1:
        return usage_lines
    return b"".join([line[:-1] + b"\t{}\n" for line in lines])
