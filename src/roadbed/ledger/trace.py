"""`Trace` and `Span`: what happened in one request, collected in memory while it runs.

A trace is one small object owned by the request; nothing here waits or touches the database. Span attributes are typed
facts (names, counts, durations, codes), never text of a prompt, document or answer: such text enters a trace only as
`Guarded`, through `Trace.question` and `Trace.answer`. Times are microseconds from the start of the trace.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from roadbed.kernel.guarded import Guarded
from roadbed.kernel.ids import new_id
from roadbed.kernel.label import PUBLIC, Label
from roadbed.kernel.principal import Principal
from roadbed.ledger.budgets import Purse

SPANS_MAX = 500
ATTRIBUTE_CHARACTERS_MAX = 300
Attribute = str | int | float | bool | None

TRACEPARENT = "traceparent"
HEDGE_ENDPOINT = "hedge_endpoint"
HEDGE_WON = "hedge_won"
"""Attributes of a trace: which endpoint was asked beside a slow one, and whether the answer is its."""
DECLINED = "declined"
"""An attribute of a trace: it was answered by saying that the documents do not hold it."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

OK = "ok"
FAILED = "failed"
REFUSED = "refused"
CANCELLED = "cancelled"


def valid_traceparent(raw: bytes | None) -> str:
    """A W3C ``traceparent`` of version 00 (or a later one's first four fields); empty for anything else."""
    if raw is None or len(raw) != 55 or not raw.isascii():
        return ""
    text = raw.decode("ascii")
    return text if _TRACEPARENT.fullmatch(text) else ""


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


class CallFacts(msgspec.Struct, gc=False):
    """One call of a model that is over: what its span and its usage say. ``output_tokens`` include reasoning.

    ``has_usage`` is False where it is known to have used nothing. ``cost_microusd`` is rounded up.
    """

    route: str
    endpoint: str
    model: str
    is_local: bool
    start_us: int
    duration_us: int
    first_token_ms: float | None
    input_uncached: int
    cache_read: int
    cache_write: int
    output_tokens: int
    reasoning_tokens: int
    source: str
    cost_microusd: int
    http_status: int = 200
    status: str = OK
    failure: str = ""
    reason: str = ""
    has_usage: bool = True

    @property
    def input_tokens(self) -> int:
        """All input tokens, cached or not."""
        return self.input_uncached + self.cache_read + self.cache_write

    def record(self, trace: Trace, span: Span) -> None:
        """Close ``span`` with these facts, and add the usage."""
        span.duration_us = self.duration_us
        span.status = self.status
        span.attributes = {
            "endpoint": self.endpoint,
            "model": self.model,
            "is_local": self.is_local,
            "http_status": self.http_status,
            "failure": self.failure,
            "reason": self.reason[:ATTRIBUTE_CHARACTERS_MAX],
            "first_token_ms": self.first_token_ms,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        if self.has_usage:
            trace.usage.append(
                Usage(
                    self.endpoint,
                    self.model,
                    self.route,
                    self.input_uncached,
                    self.cache_read,
                    self.cache_write,
                    self.output_tokens,
                    self.reasoning_tokens,
                    self.source,
                    self.cost_microusd,
                )
            )


class LateFacts(Protocol):
    """Facts that are worked out when the trace is read or stored: off the request's path, and many traces at once."""

    def record(self, trace: Trace) -> None:
        """Write them into the trace."""


class Ticket(Protocol):
    """What admission counted for a request, to be given back and settled when it ends."""

    headers: bytes
    notes: list[str]

    def close(self, trace: Trace) -> None:
        """The request is over."""

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """A task of the request ended, maybe before its first step."""


class Trace:
    """One request from admission to its last byte. ``started_us`` counts from 1970.

    ``purse`` holds the budgets that its calls count against, ``tags`` what its caller books it on, comma-separated.
    ``label`` is the label of all that went into the answer so far, ``cut_by`` the code of what cancelled it, where that
    was not its caller.
    """

    # Defaults on the class: setting all of them on each request would cost a microsecond.
    rung = error_code = model = ""
    status = OK
    duration_us = _masked_count = 0
    _question: Guarded | None = None
    _answer: Guarded | None = None
    _late: LateFacts | None = None
    _call: CallFacts | None = None
    _attributes: dict[str, Attribute] | None = None
    purse: Purse | None = None
    ticket: Ticket | None = None
    tags = cut_by = ""
    label: Label = PUBLIC

    def __init__(self, app: str, principal: Principal, release: str = "") -> None:
        self.app = app
        self.principal = principal
        self.release = release
        self.started_us = started_us = time.time_ns() // 1000
        self.started_ns = time.perf_counter_ns()
        self.id = new_id(started_us // 1000)
        self._spans: list[Span] = []
        self._usage: list[Usage] = []

    @property
    def attributes(self) -> dict[str, Attribute]:
        """Facts about the whole request."""
        if self._attributes is None:
            self._attributes = {}
        return self._attributes

    def take_parent(self, raw: bytes | None) -> None:
        """Note a caller's ``traceparent``, where it is a valid one."""
        found = valid_traceparent(raw)
        if found:
            self.attributes[TRACEPARENT] = found

    @property
    def started(self) -> datetime:
        """When the request was admitted, in UTC."""
        return datetime.fromtimestamp(self.started_us / 1e6, UTC)

    @property
    def spans(self) -> list[Span]:
        """The steps so far, in the order in which they began."""
        if self._call is not None:
            self._work_out_call()
        return self._spans

    @property
    def usage(self) -> list[Usage]:
        """What each call of a model used."""
        if self._call is not None:
            self._work_out_call()
        return self._usage

    @property
    def only_call(self) -> CallFacts | None:
        """The call of `note_call`, where the trace has no other step: its rows and sums need no `Span`."""
        return self._call if not self._spans and not self._usage else None

    @property
    def question(self) -> Guarded | None:
        """What was asked, as a record may hold it."""
        if self._late is not None:
            self._work_out()
        return self._question

    @question.setter
    def question(self, question: Guarded) -> None:
        self._question = question

    @property
    def answer(self) -> Guarded | None:
        """What was answered, as a record may hold it."""
        if self._late is not None:
            self._work_out()
        return self._answer

    @answer.setter
    def answer(self, answer: Guarded) -> None:
        self._answer = answer

    @property
    def masked_count(self) -> int:
        """How many values were masked on the way to a model or a record."""
        if self._late is not None:
            self._work_out()
        return self._masked_count

    @masked_count.setter
    def masked_count(self, count: int) -> None:
        self._masked_count = count

    def recorded(self) -> tuple[Guarded | None, Guarded | None, int, CallFacts | None]:
        """`question`, `answer`, `masked_count` and `only_call` in one, for whoever writes records of many."""
        if self._late is not None:
            self._work_out()
        call = self._call if not self._spans and not self._usage else None
        return self._question, self._answer, self._masked_count, call

    def add_late(self, facts: LateFacts) -> None:
        """Take question and answer, guarded when somebody asks for them."""
        if self._late is not None:
            self._work_out()
        self._late = facts

    def drop_content(self) -> None:
        """Forget question and answer, which were recorded or are not to be."""
        self._work_out()
        self._question = self._answer = None

    def note_call(self, call: CallFacts) -> None:
        """Take a call that was answered whole; it becomes a `Span` and a `Usage` when somebody asks for those."""
        if self._call is not None:
            self._work_out_call()
        self._call = call

    def _work_out(self) -> None:
        late, self._late = self._late, None
        if late is not None:
            late.record(self)

    def _work_out_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.record(self, self.add_span(f"model {call.endpoint}", "model", call.start_us))

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
        span = Span(len(self._spans), -1, name, kind, start_us)
        if len(self._spans) < SPANS_MAX:
            self._spans.append(span)
        return span

    def absorb(self, other: Trace) -> None:
        """Take over the steps and the usage of a call that was recorded apart, and is over."""
        after_us = (other.started_ns - self.started_ns) // 1000
        for span in other.spans:
            own = self.add_span(span.name, span.kind, span.start_us + after_us)
            own.duration_us, own.status, own.attributes = span.duration_us, span.status, span.attributes
        self.usage.extend(other.usage)
        self.masked_count += other.masked_count
        self.model = other.model or self.model

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
