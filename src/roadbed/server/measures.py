"""Measures of the process that serves, for ``/metrics``: each endpoint's breaker and load, and how late the loop is.

Breakers are told one by one with their state as a label, so that the sum over several processes counts processes.
"""

from __future__ import annotations

import asyncio

from roadbed.gateway.gateway import Gateway
from roadbed.ledger.metrics import Metrics

LAG_INTERVAL_S = 1.0
STATES = ("closed", "open", "half_open", "recovering")


class Measures:
    """Brings the gauges up to date when they are shown, and watches the loop until it is closed."""

    def __init__(self, metrics: Metrics, gateway: Gateway) -> None:
        self._metrics = metrics
        self._gateway = gateway
        metrics.declare("roadbed_breaker_state", "gauge", "processes whose breaker is so", "endpoint", "state")
        metrics.declare("roadbed_endpoint_in_flight", "gauge", "calls of a model under way", "endpoint")
        metrics.declare("roadbed_loop_lag_seconds", "histogram", "how late a timer of one second came")
        metrics.before_showing(self._show)
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._look)

    def close(self) -> None:
        """Watch no more."""
        self._timer.cancel()

    def _show(self) -> None:
        for view in self._gateway.endpoints():
            self._metrics.set("roadbed_endpoint_in_flight", float(view.in_flight), (view.endpoint,))
            for state in STATES:
                self._metrics.set("roadbed_breaker_state", float(view.breaker == state), (view.endpoint, state))

    def _look(self) -> None:
        now_s = self._loop.time()
        self._metrics.observe("roadbed_loop_lag_seconds", max(0.0, now_s - self._due_s))
        self._due_s = now_s + LAG_INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._look)
