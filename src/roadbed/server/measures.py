"""Measures of the process that serves, for ``/metrics``: each endpoint's breaker and load, hedges and queues, and how
late the loop is.

Breakers are told one by one with their state as a label, so that the sum over several processes counts processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from roadbed.gateway.gateway import Gateway
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.store.jobs import Jobs

LAG_INTERVAL_S = 1.0
STATES = ("closed", "open", "half_open", "recovering")


def open_measures(stack: AsyncExitStack, metrics: Metrics, gateway: Gateway) -> Measures:
    """Measures that are closed with the stack."""
    measures = Measures(metrics, gateway)
    stack.callback(measures.close)
    return measures


def watch_jobs(metrics: Metrics, jobs: Jobs) -> None:
    """Show whether this process's jobs wait for the disk."""
    help_text = "1 while jobs wait for room on the disk of the database"
    metrics.gauge_from("roadbed_jobs_waiting_for_disk", help_text, lambda: float(jobs.waits_for_disk))


class Measures:
    """Brings the gauges up to date when they are shown, and watches the loop until it is closed."""

    def __init__(self, metrics: Metrics, gateway: Gateway) -> None:
        self._metrics = metrics
        self._gateway = gateway
        metrics.declare("roadbed_breaker_state", "gauge", "processes whose breaker is so", "endpoint", "state")
        metrics.declare("roadbed_endpoint_in_flight", "gauge", "calls of a model under way", "endpoint")
        metrics.declare("roadbed_loop_lag_seconds", "histogram", "how late a timer of one second came")
        metrics.declare("roadbed_hedges_total", "counter", "second calls: started, won, refused", "route", "event")
        metrics.declare("roadbed_shed_total", "counter", "requests turned away before they began", "route", "reason")
        metrics.declare("roadbed_queue_depth", "gauge", "requests that wait for a place on a route", "route")
        metrics.declare("roadbed_queue_wait_seconds", "histogram", "how long a request waited for its place", "route")
        metrics.before_showing(self._show)
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._look)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def count_finished(self, ledger: Ledger, export: Callable[[Trace], None]) -> None:
        """Count the tokens of each trace that ``ledger`` finishes from now on, and hand it on to ``export``. Once."""

        def see(trace: Trace) -> None:
            if self._gateway.limits_tokens:
                self._gateway.count_tokens(trace)
            export(trace)

        ledger.export_to(see)

    def _show(self) -> None:
        self._show_queues()
        for view in self._gateway.endpoints():
            self._metrics.set("roadbed_endpoint_in_flight", float(view.in_flight), (view.endpoint,))
            for state in STATES:
                self._metrics.set("roadbed_breaker_state", float(view.breaker == state), (view.endpoint, state))

    def _show_queues(self) -> None:
        metrics, hedges, gates = self._metrics, self._gateway.hedges, self._gateway.gates
        for (route, event), count in list(hedges.counts.items()):
            metrics.set("roadbed_hedges_total", float(count), (route, event))
        for (route, reason), count in list(gates.shed_counts.counts.items()):
            metrics.set("roadbed_shed_total", float(count), (route, reason))
        for route, gate in gates.all():
            metrics.set("roadbed_queue_depth", float(gate.queue.waiting), (route,))
            metrics.histogram("roadbed_queue_wait_seconds", (route,))[:] = gate.waited

    def _look(self) -> None:
        now_s = self._loop.time()
        self._metrics.observe("roadbed_loop_lag_seconds", max(0.0, now_s - self._due_s))
        self._due_s = now_s + LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._look)
