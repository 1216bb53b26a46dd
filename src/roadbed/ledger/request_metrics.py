"""What finished requests and their calls of models raise in the metrics: counted many at a time, off their path.

The cells of each kind of request are kept at hand, and what is measured goes into its histogram by the thousand. The
invariant: after `fold`, all that was counted is in the metrics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from roadbed.ledger.metrics import Metrics, Samples
from roadbed.ledger.overhead import OVERHEAD_BOUNDS_S, overhead_us
from roadbed.ledger.trace import CANCELLED, OK, Attribute, Trace

TALLIES_MAX = 5_000
UNFOLDED_MAX = 1_000
STREAM_CUT = "gateway.stream_cut"


class _Tally(NamedTuple):
    """The cells of the metrics that one kind of request raises."""

    requests: list[float]
    seconds: Samples
    overhead_s: Samples
    tokens_in: list[float]
    tokens_out: list[float]
    cost: list[float]


class _CallTally(NamedTuple):
    """The same of one kind of call of a model."""

    attempts: list[float]
    first_token_s: Samples


class RequestMetrics:
    """Counts finished requests in the metrics of their process."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tallies: dict[tuple[str, str, str], _Tally] = {}
        self._call_tallies: dict[tuple[str, str], _CallTally] = {}
        self._unfolded = 0
        metrics.declare("roadbed_requests_total", "counter", "finished requests", "app", "status", "rung")
        metrics.declare("roadbed_request_seconds", "histogram", "time from admission to last byte", "app")
        metrics.declare(
            "roadbed_overhead_seconds",
            "histogram",
            "what a request took besides its calls of models",
            "app",
            bounds=OVERHEAD_BOUNDS_S,
        )
        metrics.declare("roadbed_tokens_total", "counter", "tokens used", "app", "direction")
        metrics.declare("roadbed_cost_microusd_total", "counter", "cost of model calls", "app")
        metrics.declare("roadbed_attempts_total", "counter", "calls of models", "endpoint", "outcome")
        metrics.declare("roadbed_attempt_ttft_seconds", "histogram", "time to a call's first token", "endpoint")
        metrics.declare("roadbed_stream_cuts_total", "counter", "answers that broke off after their first words", "app")
        metrics.declare("roadbed_client_gone_total", "counter", "requests whose caller left", "app")

    def count(self, traces: Iterable[Trace]) -> None:
        """Count these, each once."""
        tallies = self._tallies
        for trace in traces:
            key = (trace.app, trace.status, trace.rung)
            tally = tallies[key] if key in tallies else self._new_tally(key)
            took_us, call = trace.duration_us, trace.only_call
            tally.requests[0] += 1
            tally.seconds.add(took_us / 1e6)
            if call is not None:
                tally.overhead_s.add(max(0, took_us - call.duration_us) / 1e6)
                tally.tokens_in[0] += call.input_tokens
                tally.tokens_out[0] += call.output_tokens
                tally.cost[0] += call.cost_microusd
                self._count_call((call.endpoint, OK), call.first_token_ms)
            else:
                self._count_steps(trace, tally)
            if trace.error_code == STREAM_CUT:
                self._metrics.add("roadbed_stream_cuts_total", (trace.app,))
            elif trace.status == CANCELLED:
                self._metrics.add("roadbed_client_gone_total", (trace.app,))
            self._unfolded += 1
        if self._unfolded >= UNFOLDED_MAX:
            self.fold()

    def fold(self) -> None:
        """Bring what was measured into the histograms."""
        self._unfolded = 0
        for tally in self._tallies.values():
            tally.seconds.fold()
            tally.overhead_s.fold()
        for calls in self._call_tallies.values():
            calls.first_token_s.fold()

    def _count_steps(self, trace: Trace, tally: _Tally) -> None:
        """The calls of a trace that had none, several, or other steps."""
        own_us = overhead_us(trace)
        if own_us is not None:
            tally.overhead_s.add(own_us / 1e6)
        for usage in trace.usage:
            tally.tokens_in[0] += usage.input_tokens
            tally.tokens_out[0] += usage.output_tokens
            tally.cost[0] += usage.cost_microusd
        for span in trace.spans:
            facts = span.attributes
            if span.kind == "model" and "endpoint" in facts:
                outcome = str(facts.get("failure") or span.status)
                self._count_call((str(facts["endpoint"]), outcome), facts.get("first_token_ms"))

    def _count_call(self, key: tuple[str, str], first_token_ms: Attribute) -> None:
        """What one call of a model came to, by endpoint and outcome."""
        tallies = self._call_tallies
        tally = tallies[key] if key in tallies else self._new_call_tally(key)
        tally.attempts[0] += 1
        if first_token_ms is not None:
            tally.first_token_s.add(float(first_token_ms) / 1000)

    def _new_tally(self, key: tuple[str, str, str]) -> _Tally:
        metrics, app = self._metrics, key[0]
        self._make_room(self._tallies)
        tally = self._tallies[key] = _Tally(
            metrics.counter("roadbed_requests_total", key),
            metrics.samples("roadbed_request_seconds", (app,)),
            metrics.samples("roadbed_overhead_seconds", (app,)),
            metrics.counter("roadbed_tokens_total", (app, "input")),
            metrics.counter("roadbed_tokens_total", (app, "output")),
            metrics.counter("roadbed_cost_microusd_total", (app,)),
        )
        return tally

    def _new_call_tally(self, key: tuple[str, str]) -> _CallTally:
        self._make_room(self._call_tallies)
        tally = self._call_tallies[key] = _CallTally(
            self._metrics.counter("roadbed_attempts_total", key),
            self._metrics.samples("roadbed_attempt_ttft_seconds", (key[0],)),
        )
        return tally

    def _make_room(self, tallies: dict[Any, Any]) -> None:
        """Let go of the ways into the metrics, not of the numbers, where there are too many."""
        if len(tallies) >= TALLIES_MAX:
            self.fold()
            tallies.clear()
