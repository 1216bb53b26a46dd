"""What finished requests raise in the metrics: counted, folded by the thousand, none forgotten."""

from __future__ import annotations

import pytest

from roadbed.kernel.principal import Principal
from roadbed.ledger import request_metrics
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.request_metrics import UNFOLDED_MAX, RequestMetrics
from roadbed.ledger.trace import CANCELLED, CallFacts, Trace

WHO = Principal("key", "team")


def asked(app: str = "fast", *, took_us: int = 10_000, call_us: int = 7_000) -> Trace:
    trace = Trace(app, WHO)
    trace.duration_us, trace.rung = took_us, "full"
    trace.note_call(CallFacts(app, "a", "m", True, 100, call_us, 2.5, 12, 3, 0, 8, 0, "reported", 40))
    return trace


def test_requests_and_their_only_calls_are_counted() -> None:
    metrics = Metrics()
    measured = RequestMetrics(metrics)
    measured.count([asked(took_us=15_625, call_us=0), asked(took_us=31_250, call_us=15_625)])
    measured.fold()
    shown = metrics.render()
    for line in (
        'roadbed_requests_total{app="fast",status="ok",rung="full"} 2',
        'roadbed_request_seconds_sum{app="fast"} 0.046875',
        'roadbed_request_seconds_count{app="fast"} 2',
        'roadbed_overhead_seconds_bucket{app="fast",le="0.01"} 0',
        'roadbed_overhead_seconds_bucket{app="fast",le="0.025"} 2',
        'roadbed_overhead_seconds_sum{app="fast"} 0.03125',
        'roadbed_tokens_total{app="fast",direction="input"} 30',
        'roadbed_tokens_total{app="fast",direction="output"} 16',
        'roadbed_cost_microusd_total{app="fast"} 80',
        'roadbed_attempts_total{endpoint="a",outcome="ok"} 2',
        'roadbed_attempt_ttft_seconds_bucket{endpoint="a",le="0.005"} 2',
    ):
        assert line in shown.splitlines(), line


def test_a_trace_of_several_steps_counts_each_call_and_what_was_no_call() -> None:
    metrics = Metrics()
    measured = RequestMetrics(metrics)
    trace = Trace("helpdesk", WHO)
    for number, (endpoint, failure) in enumerate((("a", "timeout"), ("b", ""))):
        span = trace.add_span(f"model {endpoint}", "model", 1_000 + 3_000 * number)
        span.duration_us = 3_000
        span.set(endpoint=endpoint, failure=failure)
    trace.duration_us, trace.status = 9_000, CANCELLED
    measured.count([trace])
    measured.fold()
    assert metrics.value("roadbed_attempts_total", ("a", "timeout")) == 1
    assert metrics.value("roadbed_attempts_total", ("b", "ok")) == 1
    assert metrics.value("roadbed_client_gone_total", ("helpdesk",)) == 1
    assert 'roadbed_overhead_seconds_sum{app="helpdesk"} 0.003' in metrics.render()


def test_no_more_measurements_wait_than_are_allowed() -> None:
    metrics = Metrics()
    measured = RequestMetrics(metrics)
    measured.count([asked() for _ in range(UNFOLDED_MAX - 1)])
    assert 'roadbed_request_seconds_count{app="fast"} 0' in metrics.render()
    measured.count([asked()])
    assert f'roadbed_request_seconds_count{{app="fast"}} {UNFOLDED_MAX}' in metrics.render()


def test_too_many_kinds_of_request_lose_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_metrics, "TALLIES_MAX", 3)
    metrics = Metrics()
    measured = RequestMetrics(metrics)
    for _ in range(2):
        measured.count([asked(f"app{number}") for number in range(10)])
    measured.fold()
    for number in range(10):
        assert metrics.value("roadbed_requests_total", (f"app{number}", "ok", "full")) == 2
        assert f'roadbed_request_seconds_count{{app="app{number}"}} 2' in metrics.render()
