"""What is known of each endpoint's health in this process: breaker, rest times, retry budget, requests in flight.

Owned by the gateway, read by routes and the console. State changes only through the pure functions of the kernel. The
invariant: what an `Admission` took (a slot, maybe the one probe) it gives back exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import BREAKER_FAILURES, UpstreamError
from roadbed.gateway.limits import Gauge
from roadbed.kernel import breaker as breakers
from roadbed.kernel import retry

QUOTA_REST_S = 600.0
CREDENTIAL_REST_S = 30.0
RATE_REST_S = 1.0
REST_S_MAX = 3600.0


@dataclass(slots=True)
class EndpointHealth:
    """One endpoint's state. ``resting_until_s`` is a rest that it asked for (throttling) or that its key needs."""

    name: str
    breaker: breakers.Breaker = breakers.CLOSED
    resting_until_s: float = 0.0
    resting_for: str = ""
    retry_budget: float = retry.BUDGET_MAX
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    last_failure: str = ""
    last_failure_s: float = 0.0
    first_event_ms: float | None = None
    successes_second: int = 0
    successes: int = 0
    gauge: Gauge | None = None

    def unavailable_for_s(self, now_s: float) -> float:
        """Seconds until it may be asked again; zero when it may be now."""
        return max(self.resting_until_s - now_s, self.breaker.retry_after_s(now_s), 0.0)

    def why_unavailable(self, now_s: float) -> str:
        """Why it may not be asked now; empty when it may."""
        if now_s < self.resting_until_s:
            return f"resting after {self.resting_for}"
        if self.gauge is not None and self.gauge.wait_s(now_s, 1.0) > 1e-9:
            return "its rate is used up"
        if not breakers.is_available(self.breaker, now_s):
            return "resting after failures" if self.breaker.phase == "open" else "being probed after failures"
        return ""


@dataclass(slots=True)
class HealthBoard:
    """The health of all endpoints, by name. ``chance`` gives a random number in [0, 1)."""

    monotonic_s: Callable[[], float]
    chance: Callable[[], float]
    settings: breakers.BreakerSettings = breakers.DEFAULT_SETTINGS
    _states: dict[str, EndpointHealth] = field(default_factory=dict)

    def of(self, name: str) -> EndpointHealth:
        """The state of one endpoint; a new one is healthy."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = EndpointHealth(name)
        return state

    def why_unavailable(self, endpoint: Endpoint) -> str:
        """Why the endpoint may not be asked now; empty when it may."""
        state = self.of(endpoint.name)
        if state.in_flight >= endpoint.max_connections:
            return "all its connections are busy"
        return state.why_unavailable(self.monotonic_s())

    def states(self) -> list[EndpointHealth]:
        """All that is known, by name."""
        return [self._states[name] for name in sorted(self._states)]

    def admit(self, name: str, *, has_alternative: bool) -> Admission | None:
        """A place for one attempt; None when the endpoint rests or, with an alternative, is being brought back
        slowly.
        """
        state = self.of(name)
        now_s = self.monotonic_s()
        if state.why_unavailable(now_s):
            return None
        chance = self.chance() if has_alternative else 0.0
        state.breaker, is_admitted = breakers.admit(state.breaker, now_s, chance, self.settings)
        if not is_admitted:
            return None
        self.take(state)
        return Admission(self, state)

    def take(self, state: EndpointHealth) -> None:
        """Take a place at an endpoint whose breaker is closed and that is known not to rest; to be given back by
        `succeeded` or through an `Admission`.
        """
        state.in_flight += 1
        state.requests += 1
        if state.gauge is not None:
            state.gauge.take(self.monotonic_s(), 1.0)
        if state.retry_budget < retry.BUDGET_MAX:
            state.retry_budget = retry.earn(state.retry_budget)

    def succeeded(self, state: EndpointHealth, first_event_s: float | None) -> None:
        """Give back a place: the endpoint answered."""
        if first_event_s is not None:
            state.first_event_ms = first_event_s * 1000.0
        breaker, now_s = state.breaker, self.monotonic_s()
        if breaker.phase != "closed" or breaker.failures_in_a_row:
            self.give_back(state, "success")
            return
        # Nearly every result: one more success of this second, counted where it costs nothing.
        state.in_flight -= 1
        second = int(now_s)
        if second != state.successes_second:
            self._count_successes(state)
            state.successes_second = second
        state.successes += 1

    def _count_successes(self, state: EndpointHealth) -> None:
        if state.successes:
            state.breaker = breakers.count_successes(
                state.breaker, state.successes, state.successes_second, self.settings
            )
            state.successes = 0

    def give_back(self, state: EndpointHealth, result: breakers.Result) -> None:
        """Give back a place, with what it told of the endpoint."""
        state.in_flight -= 1
        self._count_successes(state)
        state.breaker = breakers.record(state.breaker, result, self.monotonic_s(), self.chance(), self.settings)


@dataclass(slots=True)
class Admission:
    """One admitted attempt. Report it once, as success, failure or neither."""

    board: HealthBoard
    state: EndpointHealth
    is_open: bool = True

    def succeeded(self, first_event_s: float | None) -> None:
        """The endpoint answered."""
        if self.is_open:
            self.is_open = False
            self.board.succeeded(self.state, first_event_s)

    def told_nothing(self) -> None:
        """The attempt ended for reasons that are not the endpoint's (the caller left, the request was wrong)."""
        self._close("ignored")

    def failed(self, error: UpstreamError) -> None:
        """The endpoint failed."""
        if not self.is_open:
            return
        state, now_s = self.state, self.board.monotonic_s()
        state.failures += 1
        state.last_failure = f"{error.failure}: {error.reason}"
        state.last_failure_s = now_s
        if error.failure == "quota":
            _rest(state, now_s, QUOTA_REST_S, "its quota was spent")
        elif error.failure == "auth":
            _rest(state, now_s, CREDENTIAL_REST_S, "it refused our key")
        elif error.failure == "rate":
            _rest(state, now_s, RATE_REST_S if error.retry_after_s is None else error.retry_after_s, "it throttled us")
        elif error.failure == "overload" and error.retry_after_s:
            _rest(state, now_s, error.retry_after_s, "it was overloaded")
        if error.failure not in BREAKER_FAILURES or (error.failure == "overload" and not error.was_sent):
            self._close("ignored")
        else:
            self._close("failure" if error.was_sent else "connect_failure")

    def _close(self, result: breakers.Result) -> None:
        if not self.is_open:
            return
        self.is_open = False
        self.board.give_back(self.state, result)


def _rest(state: EndpointHealth, now_s: float, seconds: float, why: str) -> None:
    until_s = now_s + min(seconds, REST_S_MAX)
    if until_s > state.resting_until_s:
        state.resting_until_s = until_s
        state.resting_for = why
