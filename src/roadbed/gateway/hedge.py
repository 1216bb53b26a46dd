"""When a second endpoint is asked beside a slow one, and how often: pure rules and one budget per route.

A hedge cuts the tail only while few requests need one (Dean and Barroso, "The Tail at Scale", 2013), so each request
earns a twentieth of one, and the second endpoint's retry budget pays too. The invariant: hedges never pass the earned
share plus the cap.
"""

from __future__ import annotations

from typing import Literal

from roadbed.gateway.health import EndpointHealth
from roadbed.kernel import retry

SHARE = 0.95
SAMPLES_MIN = 200
WAIT_S_MIN = 0.3
BUDGET_PER_REQUEST = 0.05
BUDGET_MAX = 5.0
ROUTES_MAX = 4096
HedgeEvent = Literal["started", "won", "refused"]


def fire_after_s(primary: EndpointHealth) -> float | None:
    """Seconds after which the primary is slower than usual; None while too few of its answers are known."""
    usual_s = primary.first_event_s(SHARE, samples_min=SAMPLES_MIN)
    return None if usual_s is None else max(WAIT_S_MIN, usual_s)


class HedgeBudget:
    """What the routes may spend on hedges, by name."""

    def __init__(self) -> None:
        self._budgets: dict[str, float] = {}
        self.counts: dict[tuple[str, HedgeEvent], int] = {}

    def earn(self, route: str) -> None:
        """One more request of the route."""
        if route in self._budgets or len(self._budgets) < ROUTES_MAX:
            self._budgets[route] = min(BUDGET_MAX, self._budgets.get(route, 0.0) + BUDGET_PER_REQUEST)

    def spend(self, route: str, second: EndpointHealth) -> bool:
        """Take one hedge from the route's budget and from the second endpoint's; False where either has no room."""
        budget, retries = self._budgets.get(route, 0.0), retry.spend(second.retry_budget)
        if budget < 1.0 or retries is None:
            self.count(route, "refused")
            return False
        self._budgets[route] = budget - 1.0
        second.retry_budget = retries
        return True

    def count(self, route: str, event: HedgeEvent) -> None:
        """A hedge was begun, gave the answer, or had no room in a budget."""
        if (route, event) in self.counts or len(self.counts) < ROUTES_MAX:
            self.counts[route, event] = self.counts.get((route, event), 0) + 1
