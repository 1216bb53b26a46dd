"""`Trace` and `Span`: what happened in one request, collected in memory while it runs.

A trace is one small object owned by the request; nothing here waits or touches the database. Span attributes are typed
facts (names, counts, durations, codes), never text of a prompt, document or answer: such text enters a trace only as
`Guarded`, through `Trace.question` and `Trace.answer`. Times are microseconds from the start of the trace.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from roadbed.kernel.guarded import Guarded
from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import Principal

SPANS_MAX = 500
ATTRIBUTE_CHARACTERS_MAX = 300
Attribute = str | int | float | bool | None

OK = "ok"
FAILED = "failed"
REFUSED = "refused"
CANCELLED = "cancelled"


class Usage(msgspec.Struct, gc=False):
    """Tokens and cost of one attempt at one endpoint. The token classes are disjoint; cost is in micro-USD."""

    endpoint: str
    model: str
    route: str = ""
    input_uncached: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    source: str = "reported"
    cost_microusd: int = 0

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not."""
        return self.input_uncached + self.cache_read + self.cache_write


class Span:
    """One step of a trace. ``parent`` is the number of the span that it runs in; -1 at the top.

    ``attributes`` are facts by name, or one struct of them.
    """

    __slots__ = ("attributes", "duration_us", "kind", "name", "number", "parent", "start_us", "status")

    def __init__(self, number: int, parent: int, name: str, kind: str, start_us: int) -> None:
        self.number = number
        self.parent = parent
        self.name = name
        self.kind = kind
        self.start_us = start_us
        self.duration_us = 0
        self.status = OK
        self.attributes: dict[str, Attribute] = {}

    def set(self, **attributes: Attribute) -> None:
        """Add facts to the span; long strings are cut at `ATTRIBUTE_CHARACTERS_MAX`."""
        for name, value in attributes.items():
            if type(value) is str and len(value) > ATTRIBUTE_CHARACTERS_MAX:
                attributes[name] = value[:ATTRIBUTE_CHARACTERS_MAX]
        self.attributes.update(attributes)


class RecordedCall(Protocol):
    """A finished call of a model, kept as its caller has it until the trace is read or stored."""

    def record(self, trace: Trace) -> None:
        """Add the call's span and usage to the trace."""


class Trace:
    """One request from admission to its last byte. ``started_us`` counts from 1970."""

    __slots__ = (
        "_calls", "_spans", "_usage", "answer", "app", "attributes", "dropped_spans", "duration_us", "error_code", "id", "masked_count", "model",
        "principal", "question", "release", "rung", "started_ns", "started_us", "status",
    )  # fmt: skip

    def __init__(self, app: str, principal: Principal, release: str = "") -> None:
        self.app = app
        self.principal = principal
        self.release = release
        self.started_us = time.time_ns() // 1000
        self.started_ns = time.perf_counter_ns()
        self.id = new_id(self.started_us // 1000)
        self._spans: list[Span] = []
        self._usage: list[Usage] = []
        self._calls: list[RecordedCall] | None = None
        self.rung = self.error_code = self.model = ""
        self.status = OK
        self.duration_us = self.masked_count = self.dropped_spans = 0
        self.question: Guarded | None = None
        self.answer: Guarded | None = None
        self.attributes: dict[str, Attribute] = {}

    @property
    def started(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.started_us / 1e6, UTC)

    @property
    def spans(self) -> list[Span]:
        """The steps so far, in the order in which they began."""
        if self._calls is not None:
            self._record_calls()
        return self._spans

    @property
    def usage(self) -> list[Usage]:
        """What each call of a model used."""
        if self._calls is not None:
            self._record_calls()
        return self._usage

    def add_call(self, call: RecordedCall) -> None:
        """Take a finished call of a model; its span and usage are made when somebody asks for them."""
        if self._calls is None:
            self._calls = []
        self._calls.append(call)

    def _record_calls(self) -> None:
        calls, self._calls = self._calls, None
        for call in calls or ():
            call.record(self)

    def now_us(self) -> int:
        """Microseconds since the trace began."""
        return (time.perf_counter_ns() - self.started_ns) // 1000

    def open_span(self, name: str, kind: str, *, parent: Span | None = None) -> Span:
        """Begin a span that the caller closes with `close_span`; for steps that are not one block of code."""
        span = self.add_span(name, kind, self.now_us())
        if parent is not None:
            span.parent = parent.number
        return span

    def add_span(self, name: str, kind: str, start_us: int) -> Span:
        """A span that began at ``start_us``, for steps that are recorded when they are over."""
        span = Span(len(self.spans), -1, name, kind, start_us)
        if len(self.spans) < SPANS_MAX:
            self.spans.append(span)
        else:
            self.dropped_spans += 1
        return span

    def close_span(self, span: Span, status: str = OK, **attributes: Attribute) -> None:
        """End a span."""
        span.duration_us = self.now_us() - span.start_us
        span.status = status
        if attributes:
            span.set(**attributes)

    @contextmanager
    def span(self, name: str, kind: str, *, parent: Span | None = None, **attributes: Attribute) -> Iterator[Span]:
        """A span around a block; an error that leaves the block marks it failed with the error's code."""
        span = self.open_span(name, kind, parent=parent)
        span.set(**attributes)
        try:
            yield span
        except BaseException as error:
            self.close_span(span, FAILED, error=getattr(error, "code", type(error).__name__))
            raise
        self.close_span(span, span.status)

    @property
    def cost_microusd(self) -> int:
        """What all attempts of the request cost together."""
        return sum(usage.cost_microusd for usage in self.usage)
