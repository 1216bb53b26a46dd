"""What one attempt used and cost, written where the trace and the ledger look: once, however the attempt ended.

It counts bytes while the attempt runs, and settles with the endpoint's report or an estimate. Failed attempts that an
endpoint may have begun to work on are settled too. The invariant: `settle` takes effect once.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from roadbed.gateway.affording import settle_hold
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UpstreamError
from roadbed.gateway.meter import TokenEstimator
from roadbed.gateway.route import Candidate, Route
from roadbed.gateway.types import (
    NO_USAGE,
    AttemptRecord,
    Event,
    Outcome,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.ledger.budget import Reservation
from roadbed.ledger.trace import CANCELLED, FAILED, OK, CallFacts, Span, Trace
from roadbed.wire.exchange import ResponseHead

PICOUSD_PER_MICROUSD = 1_000_000
TEXT_EVENTS = (TextDelta, ReasoningDelta, RefusalDelta)


class Observed(Protocol):
    """What is read of an attempt: the response's head and when the first token came; None while there is none."""

    @property
    def head(self) -> ResponseHead | None:
        """Status and headers of the response; None before they came."""

    @property
    def first_event_at_s(self) -> float | None:
        """The loop's time at the first token."""


def commit(outcome: Outcome, route: Route, candidate: Candidate, trace: Trace | None) -> None:
    """The answer has begun: from now on it comes from this endpoint alone."""
    endpoint = candidate.endpoint
    outcome.endpoint, outcome.model = endpoint.name, endpoint.model
    outcome.rung = route.rung(candidate.position)
    outcome.price = endpoint.price.source if endpoint.price is not None else "unknown"
    if trace is not None:
        trace.model = endpoint.name


def call_facts(
    route: str,
    endpoint: Endpoint,
    usage: Usage,
    cost_picousd: int,
    start_us: int,
    duration_us: int,
    first_event_s: float | None,
) -> CallFacts:
    """What the ledger keeps of a call that was answered whole."""
    return CallFacts(
        route,
        endpoint.name,
        endpoint.model,
        endpoint.is_local,
        start_us,
        duration_us,
        None if first_event_s is None else round(first_event_s * 1000, 1),
        usage.input_uncached,
        usage.cache_read,
        usage.cache_write_5m + usage.cache_write_1h,
        usage.output_visible + usage.output_reasoning,
        usage.output_reasoning,
        "estimated" if usage.is_estimated else "reported",
        -(-cost_picousd // PICOUSD_PER_MICROUSD),
    )


class AttemptMeter:
    """Watches one attempt from its start to its settlement."""

    __slots__ = (
        "_attempt", "_bytes_in", "_endpoint", "_is_settled", "_loop", "_outcome", "_reported", "_span", "_trace",
        "bytes_out", "hold", "record",
    )  # fmt: skip

    def __init__(
        self,
        outcome: Outcome,
        endpoint: Endpoint,
        attempt: Observed,
        bytes_in: int,
        trace: Trace | None,
        loop: asyncio.AbstractEventLoop,
        hold: Reservation | None = None,
    ) -> None:
        self._outcome = outcome
        self._endpoint = endpoint
        self._attempt: Observed | None = attempt
        self._bytes_in = bytes_in
        self._loop = loop
        self.bytes_out = 0
        self.hold = hold
        self._reported: Usage | None = None
        self._trace = trace
        self._span: Span | None = trace.open_span(f"model {endpoint.name}", "model") if trace is not None else None
        self._is_settled = False
        self.record = AttemptRecord(endpoint.name, endpoint.model, started_s=loop.time())
        outcome.attempts.append(self.record)

    def saw(self, event: Event) -> None:
        """Count what an event adds to the answer in bytes, and keep the usage that it reports."""
        if isinstance(event, TEXT_EVENTS):
            self.bytes_out += len(event.text)
        elif isinstance(event, ToolCallDelta):
            self.bytes_out += len(event.name) + len(event.arguments)
        elif isinstance(event, UsageReported):
            self._reported = event.usage

    def began(self, at_s: float, at_us: int) -> None:
        """It began earlier: at ``at_s`` of the loop's clock, ``at_us`` after its trace."""
        self.record.started_s = at_s
        if self._span is not None:
            self._span.start_us = at_us

    @property
    def first_event_s(self) -> float | None:
        """Seconds from the start to the first token; None when none came."""
        at_s = self._attempt.first_event_at_s if self._attempt is not None else None
        return None if at_s is None else at_s - self.record.started_s

    def settle(self, estimator: TokenEstimator, error: UpstreamError | None, *, is_complete: bool) -> None:
        """The attempt is over: fill its record, the outcome's sums and the span."""
        if self._is_settled:
            return
        self._is_settled = True
        record, outcome, endpoint = self.record, self._outcome, self._endpoint
        record.ended_s = self._loop.time()
        record.first_event_s = self.first_event_s
        head = self._attempt.head if self._attempt is not None else None
        self._attempt = None  # it holds this meter: freed at once, and not by the garbage collector
        record.status = head.status if head is not None else (error.status if error is not None else 0)
        if error is not None:
            record.failure, record.reason = error.failure, error.reason
        may_have_worked = is_complete or record.status == 200 or ((error is None or error.was_sent) and head is None)
        if may_have_worked:
            record.usage = estimator.settle(
                endpoint.model, self._reported, self._bytes_in, self.bytes_out, is_complete=is_complete
            ).clamped()
            if endpoint.price is not None:
                record.cost_picousd = endpoint.price.cost_picousd(record.usage)
        outcome.usage = record.usage if outcome.usage is NO_USAGE else outcome.usage.plus(record.usage)
        outcome.cost_picousd += record.cost_picousd
        if self.hold is not None:
            settle_hold(self.hold, record, is_complete=is_complete)
        self._close_span(error, is_complete)

    def _close_span(self, error: UpstreamError | None, is_complete: bool) -> None:
        if self._trace is None or self._span is None:
            return
        record, span = self.record, self._span
        facts = call_facts(
            self._outcome.route,
            self._endpoint,
            record.usage,
            record.cost_picousd,
            span.start_us,
            self._trace.now_us() - span.start_us,
            record.first_event_s,
        )
        facts.http_status = record.status
        facts.status = OK if is_complete else (FAILED if error is not None else CANCELLED)
        facts.failure, facts.reason = record.failure, record.reason
        facts.has_usage = record.usage is not NO_USAGE
        facts.record(self._trace, span)
