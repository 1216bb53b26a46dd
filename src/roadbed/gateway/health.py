"""What is known of each endpoint's health in this process: breaker, rest times, retry budget, requests in flight.

Owned by the gateway, read by routes and the console. State changes only through the pure functions of the kernel. The
invariant: what an `Admission` took (a slot, maybe the one probe) it gives back exactly once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from roadbed.gateway.ejection import EJECTION_S, EJECTIONS_MAX, RESULTS_MIN, SWEEP_S, WINDOW_S, Results, Tally, outliers
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import BREAKER_FAILURES, RETRIED_ON_THE_SAME_ENDPOINT, UpstreamError
from roadbed.gateway.haste import was_hasty
from roadbed.gateway.key_ring import FORBIDDEN, FORBIDDEN_MAX, KEY_FAILURES, KeyRing
from roadbed.gateway.limits import Gauge, Slots
from roadbed.gateway.pace import SAMPLES_MAX, UNKNOWN_PACE, Pace, noted, quantile
from roadbed.kernel import breaker as breakers
from roadbed.kernel import retry
from roadbed.kernel.secrets import Secret

QUOTA_REST_S = 600.0
CREDENTIAL_REST_S = 30.0
RATE_REST_S = 1.0
REST_S_MAX = 3600.0
RATE_WAIT_S_MAX = 1.0
"""The longest wait for a throttling endpoint while another one could be asked instead."""
RECENT_FAILURES_MAX = 5
USUAL_SHARE = 0.95
USUAL_SAMPLES_MIN = 20


@dataclass(frozen=True, slots=True)
class SeenFailure:
    """One failed attempt: when, its class, and our own words for it; never a provider's."""

    at_s: float
    failure: str
    reason: str


@dataclass(slots=True)
class EndpointHealth:
    """One endpoint's state. ``resting_until_s`` is a rest that it asked for (throttling) or that its key needs.

    ``keys`` is set for an endpoint with several keys, each of which then rests by itself. Until ``whole_from_s`` one
    that was ejected comes back slowly: it takes a growing share. ``unproven_until`` is how many of its attempts had
    ended, telling something of it or not, when somebody closed its breaker by hand.
    """

    name: str
    breaker: breakers.Breaker = breakers.CLOSED
    resting_until_s: float = 0.0
    resting_for: str = ""
    whole_from_s: float = 0.0
    unproven_until: int = -1
    retry_budget: float = retry.BUDGET_MAX
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    faults: int = 0
    last_failure: str = ""
    first_events: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    pace: Pace = UNKNOWN_PACE
    successes_second: int = 0
    successes: int = 0
    gauge: Gauge | None = None
    token_gauges: tuple[Gauge, ...] = ()
    slots: Slots | None = None
    tally: Tally = field(default_factory=Tally)
    keys: KeyRing | None = None
    forbidden: int = 0
    forbidden_after: int = 0

    @property
    def first_event_ms(self) -> float | None:
        """How long the last answer's first token took; None before the first."""
        return self.first_events[-1] * 1000.0 if self.first_events else None

    def first_event_s(self, share: float, *, samples_min: int = 1) -> float | None:
        """The time within which this share of its latest answers began; None while fewer are known."""
        return quantile(self.first_events, share) if len(self.first_events) >= samples_min else None

    recent: deque[SeenFailure] = field(default_factory=lambda: deque(maxlen=RECENT_FAILURES_MAX))

    def count_forbidden(self) -> int:
        """One more 403: how many there were in a row, with no other end between them."""
        ended = self.requests - self.failures - self.in_flight
        self.forbidden = self.forbidden + 1 if ended == self.forbidden_after else 1
        self.forbidden_after = ended
        return self.forbidden

    @property
    def is_drained(self) -> bool:
        """Whether somebody told it to take no new requests; `orders` does and undoes it."""
        return self.resting_until_s == math.inf

    @property
    def is_unproven(self) -> bool:
        """Whether it was let back by hand, and no attempt since has told how it is."""
        return self.requests - self.in_flight <= self.unproven_until

    @property
    def failed_last(self) -> str:
        """Why its latest attempt failed, in our words; empty when it answered, or there was none."""
        is_failing = self.breaker.phase in ("open", "half_open") or self.breaker.failures_in_a_row
        return self.recent[-1].reason if is_failing and self.recent else ""

    def unavailable_for_s(self, now_s: float) -> float:
        """Seconds until it may be asked again; zero when it may be now, or when nobody can say."""
        if self.is_drained:
            return 0.0
        keys_s = self.keys.resting_for_s(now_s) if self.keys is not None else 0.0
        return max(self.resting_until_s - now_s, self.breaker.retry_after_s(now_s), keys_s, 0.0)

    def used_up(self, now_s: float) -> str:
        """Which limit of the manifest leaves no room for one more attempt; empty when none does."""
        if self.gauge is not None and self.gauge.wait_s(now_s, 1.0) > 1e-9:
            return "its rate is used up"
        if self.slots is not None and self.in_flight >= self.slots.most:
            return "as many attempts as it takes at a time are under way"
        for gauge in self.token_gauges:
            if gauge.wait_s(now_s, 1.0) > 1e-9:
                return f"its {gauge.kind.replace('_', ' ')} are used up"
        return ""

    def count_tokens(self, now_s: float, read: int, written: int) -> None:
        """An attempt has used so many."""
        for gauge in self.token_gauges:
            used = read + written if gauge.kind == "tokens" else read if gauge.kind == "input_tokens" else written
            if used:
                gauge.take(now_s, float(used))

    def why_unavailable(self, now_s: float) -> str:
        """Why it may not be asked now; empty when it may."""
        if self.is_drained:
            return self.resting_for
        if now_s < self.resting_until_s:
            return f"resting after {self.resting_for}"
        if self.keys is not None and self.keys.resting_for_s(now_s) > 0.0:
            return "all its keys rest"
        if why := self.used_up(now_s):
            return why
        if not breakers.is_available(self.breaker, now_s):
            return "resting after failures" if self.breaker.phase == "open" else "being probed after failures"
        return ""


@dataclass(slots=True)
class HealthBoard:
    """The health of all endpoints, by name. ``chance`` gives a random number in [0, 1)."""

    monotonic_s: Callable[[], float]
    chance: Callable[[], float]
    settings: breakers.BreakerSettings = breakers.DEFAULT_SETTINGS
    groups: tuple[tuple[str, ...], ...] = ()
    _next_sweep_s: float = 0.0
    _states: dict[str, EndpointHealth] = field(default_factory=dict)

    def of(self, name: str) -> EndpointHealth:
        """The state of one endpoint; a new one is healthy."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = EndpointHealth(name)
        return state

    def key_of(self, endpoint: Endpoint, admission: Admission) -> Secret:
        """The key for an admitted attempt at an endpoint with several."""
        state = self.of(endpoint.name)
        if state.keys is None or not state.keys.holds(endpoint.keys):
            state.keys = KeyRing(endpoint.keys)
        number = admission.key = state.keys.choose(self.monotonic_s())
        return endpoint.keys[number or 0]

    def why_unavailable(self, endpoint: Endpoint) -> str:
        """Why the endpoint may not be asked now; empty when it may."""
        state = self.of(endpoint.name)
        if state.in_flight >= endpoint.max_connections:
            return "all its connections are busy"
        return state.why_unavailable(self.monotonic_s())

    def states(self) -> list[EndpointHealth]:
        """All that is known, by name."""
        return [self._states[name] for name in sorted(self._states)]

    def note_pace(self, name: str, seconds: float, tokens: int) -> None:
        """An answer of so many tokens took so long."""
        state = self.of(name)
        state.pace = noted(state.pace, seconds, tokens, self.monotonic_s())

    def load(self, endpoint: Endpoint) -> float:
        """What one more request would wait for a token at the endpoint."""
        state = self.of(endpoint.name)
        return state.pace.load(state.in_flight)

    def sweep(self) -> None:
        """Put those to rest that fail clearly more often than their peers in ``groups``; at most every `SWEEP_S`."""
        now_s = self.monotonic_s()
        if now_s < self._next_sweep_s:
            return
        self._next_sweep_s = now_s + SWEEP_S
        grouped = {name for group in self.groups for name in group}
        states = [state for name, state in self._states.items() if name in grouped]
        counted = {state.name: Results(state.requests - state.in_flight, state.faults) for state in states}
        results = {state.name: state.tally.results(counted[state.name]) for state in states}
        is_out = {state.name for state in states if state.why_unavailable(now_s)}
        ejected = outliers(self.groups, results, is_out)
        for state in states:
            tally = state.tally
            if state.name in ejected:
                tally.ejections = min(EJECTIONS_MAX, tally.ejections + 1)
                _rest(state, now_s, EJECTION_S * tally.ejections, "failing more than its peers")
                state.whole_from_s = state.resting_until_s + self.settings.recovery_s
            elif results[state.name].count >= RESULTS_MIN and not results[state.name].faults:
                tally.ejections = max(0, tally.ejections - 1)
            if state.name in ejected or now_s - tally.since_s >= WINDOW_S:
                tally.base, tally.since_s = counted[state.name], now_s

    def admit(self, name: str, *, has_alternative: bool) -> Admission | None:
        """A place for one attempt; None when the endpoint rests or, with an alternative, is being brought back
        slowly.
        """
        state = self.of(name)
        now_s = self.monotonic_s()
        if state.why_unavailable(now_s):
            return None
        chance = self.chance() if has_alternative else 0.0
        if now_s < state.whole_from_s:
            began_s = state.whole_from_s - self.settings.recovery_s
            if chance >= breakers.recovery_share(began_s, now_s, self.settings):
                return None
        state.breaker, is_admitted = breakers.admit(state.breaker, now_s, chance, self.settings)
        if not is_admitted:
            return None
        self.take(state)
        return Admission(self, state)

    def first_wait_s(self, names: Iterable[str]) -> float | None:
        """Seconds until the first of these endpoints may be asked again; None when nothing is known."""
        now_s = self.monotonic_s()
        waits = [wait for name in names if (wait := self.of(name).unavailable_for_s(now_s)) > 0]
        return min(waits) if waits else None

    def retry_wait_s(self, name: str, failure: UpstreamError, *, rungs_left: int, spare_s: float) -> float | None:
        """Seconds until the same endpoint is tried once more, for which its budget then has paid; None when it is not.

        ``spare_s`` is the time that may be waited, so that what comes after still has its share.
        """
        if failure.failure not in RETRIED_ON_THE_SAME_ENDPOINT or failure.status == 404:
            return None
        if not failure.was_sent and rungs_left:
            return None
        if failure.failure == "rate":
            if failure.retry_after_s is None or (rungs_left and failure.retry_after_s > RATE_WAIT_S_MAX):
                return None
            wait_s = failure.retry_after_s
        else:
            wait_s = failure.retry_after_s or retry.full_jitter_s(0, self.chance())
        state = self.of(name)
        budget = retry.spend(state.retry_budget) if wait_s <= spare_s else None
        if budget is None:
            return None
        state.retry_budget = budget
        return wait_s

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
            state.first_events.append(first_event_s)
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
        if result == "ignored" and state.is_unproven:
            state.unproven_until += 1
        state.in_flight -= 1
        self._count_successes(state)
        state.breaker = breakers.record(state.breaker, result, self.monotonic_s(), self.chance(), self.settings)


@dataclass(slots=True)
class Admission:
    """One admitted attempt. Report it once, as success, failure or neither."""

    board: HealthBoard
    state: EndpointHealth
    is_open: bool = True
    key: int | None = None

    def succeeded(self, first_event_s: float | None) -> None:
        """The endpoint answered; ``first_event_s`` is what its first event took, if known. The first word holds."""
        if self.is_open:
            self.is_open = False
            if self.key is not None and self.state.keys is not None:
                self.state.keys.succeeded(self.key)
            self.board.succeeded(self.state, first_event_s)

    def told_nothing(self) -> None:
        """The attempt ended for reasons that are not the endpoint's (the caller left, the request was wrong)."""
        self._close("ignored")

    def failed(self, error: UpstreamError) -> None:
        """The endpoint failed, or was not given the time to answer, which tells nothing."""
        if not self.is_open:
            return
        state, now_s = self.state, self.board.monotonic_s()
        if was_hasty(error, state.first_event_s(USUAL_SHARE, samples_min=USUAL_SAMPLES_MIN)):
            self._close("ignored")
            return
        state.failures += 1
        state.last_failure = f"{error.failure}: {error.reason}"
        state.recent.append(SeenFailure(now_s, error.failure, error.reason))
        if self.key is not None and state.keys is not None and error.failure in KEY_FAILURES:
            state.keys.failed(self.key, error, now_s)
        elif error.failure == "quota":
            _rest(state, now_s, QUOTA_REST_S, "its quota was spent")
        elif error.failure == "auth":
            if error.status != FORBIDDEN:
                _rest(state, now_s, CREDENTIAL_REST_S, "it refused our key")
            elif state.count_forbidden() >= FORBIDDEN_MAX:
                _rest(state, now_s, CREDENTIAL_REST_S, f"it refused {FORBIDDEN_MAX} requests in a row (403)")
        elif error.failure == "rate":
            _rest(state, now_s, RATE_REST_S if error.retry_after_s is None else error.retry_after_s, "it throttled us")
        elif error.failure == "overload" and error.retry_after_s:
            _rest(state, now_s, error.retry_after_s, "it was overloaded")
        if error.failure not in BREAKER_FAILURES or (error.failure == "overload" and not error.was_sent):
            self._close("ignored")
        else:
            state.faults += 1
            self._close("failure" if error.was_sent else "connect_failure")
            self.board.sweep()

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
