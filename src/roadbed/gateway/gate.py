"""Admission to a route that queues: slots learned per endpoint, a fair queue before them, and shedding of batch work.

The shell around `limiter` and `fair_queue`: it owns futures, timers and the loop's lag. A `PolicyStream` enters before
its walk and leaves once. The invariant: a place that was taken is given back exactly once, however its request ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from roadbed.gateway import limiter
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import RouteOverloaded, TeamQueueFull, UpstreamError
from roadbed.gateway.fair_queue import TARGET_S, FairQueue
from roadbed.gateway.limiter import Limit
from roadbed.gateway.route import Route
from roadbed.kernel.deadline import Deadline
from roadbed.ledger.metrics import LATENCY_BUCKETS_S, observe_in

BEGIN_RESERVE_S = 1.0
"""What must be left of a deadline when a request begins, at most half of it."""

LAG_EVERY_S = 0.1
LAG_S_MAX = 0.05
LAG_WATCHED_S = 5.0
SHED_RETRY_AFTER_S = 5.0
GATES_MAX = 4096
ShedReason = Literal["batch", "late", "team_full", "given_up"]
TOO_MUCH = frozenset({"rate", "overload"})


class Shed:
    """How many requests were turned away before they began, by route and reason."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ShedReason], int] = {}

    def count(self, route: str, reason: ShedReason) -> None:
        """One more request of the route was turned away for this reason; new pairs beyond `GATES_MAX` do not count."""
        if (route, reason) in self.counts or len(self.counts) < GATES_MAX:
            self.counts[route, reason] = self.counts.get((route, reason), 0) + 1


class LoopLag:
    """How late the loop's timers are; measured while somebody asks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._asked_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def is_high(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether work that can wait should."""
        self._asked_at_s = loop.time()
        if self._timer is None:
            self._arm(loop)
        return self.seconds > LAG_S_MAX

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(LAG_EVERY_S, self._tick, loop, loop.time() + LAG_EVERY_S)

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._timer, self.seconds = None, loop.time() - due_s
        if loop.time() - self._asked_at_s < LAG_WATCHED_S:
            self._arm(loop)


class Gate:
    """The queue of one route."""

    def __init__(self, name: str, length_max: int, limits: Limits, shed: Shed) -> None:
        self._name = name
        self._limits = limits
        self._shed = shed
        self.queue: FairQueue[asyncio.Future[bool]] = FairQueue(length_max)
        self.waited = [0.0] * (len(LATENCY_BUCKETS_S) + 2)
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, route: Route, team: str, deadline: Deadline) -> Place:
        """A place, maybe after a wait.

        Raises `RouteOverloaded` when it would come too late, `TeamQueueFull` when too many of the team wait.
        """
        loop = asyncio.get_running_loop()
        now_s, left_s = loop.time(), deadline.remaining_s()
        begin_by_s = now_s + left_s - min(BEGIN_RESERVE_S, left_s / 2)
        ticket: asyncio.Future[bool] = loop.create_future()
        capacity = self._limits.capacity(route.ladder)
        verdict = self.queue.offer(ticket, team, now_s, begin_by_s, capacity)
        wait_s = self.queue.wait_s(capacity)
        if verdict == "late":
            self._shed.count(self._name, "late")
            raise RouteOverloaded(f"the route {self._name!r} would begin too late", retry_after_s=wait_s)
        if verdict == "full":
            self._shed.count(self._name, "team_full")
            message = f"too many requests of the team {team!r} wait for the route {self._name!r}"
            raise TeamQueueFull(message, retry_after_s=max(wait_s, TARGET_S))
        if verdict == "wait":
            self._watch(loop, route)
            try:
                is_let_in = await ticket
            except asyncio.CancelledError:
                if not self.queue.withdraw(ticket) and ticket.done() and not ticket.cancelled() and ticket.result():
                    self._leave(route, None)
                raise
            if not is_let_in:
                self._shed.count(self._name, "given_up")
                message = f"the route {self._name!r} is overloaded: the request was given up while it waited"
                raise RouteOverloaded(message, retry_after_s=max(wait_s, TARGET_S))
        observe_in(self.waited, loop.time() - now_s)
        return Place(self, route, loop.time())

    def _leave(self, route: Route, took_s: float | None) -> None:
        self.queue.leave(took_s)
        self._move(asyncio.get_running_loop(), route)

    def _move(self, loop: asyncio.AbstractEventLoop, route: Route) -> None:
        going, given_up = self.queue.next(loop.time(), self._limits.capacity(route.ladder))
        for tickets, is_let_in in ((going, True), (given_up, False)):
            for ticket in tickets:
                if not ticket.done():
                    ticket.set_result(is_let_in)
                elif is_let_in:
                    self.queue.leave(None)

    def _watch(self, loop: asyncio.AbstractEventLoop, route: Route) -> None:
        """Look again soon while somebody waits: time alone makes some give up."""
        if self._timer is None and self.queue.waiting:
            self._timer = loop.call_later(TARGET_S, self._look, loop, route)

    def _look(self, loop: asyncio.AbstractEventLoop, route: Route) -> None:
        self._timer = None
        self._move(loop, route)
        self._watch(loop, route)


class Place:
    """What one request holds of a gate; `leave` takes effect once."""

    __slots__ = ("_gate", "_route", "_since_s")

    def __init__(self, gate: Gate, route: Route, since_s: float) -> None:
        self._gate: Gate | None = gate
        self._route = route
        self._since_s = since_s

    def leave(self, *, is_complete: bool) -> None:
        """The request has ended."""
        gate, self._gate = self._gate, None
        if gate is not None:
            took_s = asyncio.get_running_loop().time() - self._since_s
            gate._leave(self._route, took_s if is_complete else None)


class Limits:
    """The limit of each endpoint that a queueing route uses, by name."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}

    def of(self, endpoint: Endpoint) -> Limit:
        """The endpoint's limit as it is now."""
        limit = self._limits.get(endpoint.name, Limit())
        return limit if limit.value <= endpoint.max_connections else _capped(limit, endpoint.max_connections)

    def capacity(self, endpoints: Sequence[Endpoint]) -> int:
        """How many requests the endpoints take together."""
        return sum(self.of(endpoint).slots for endpoint in endpoints if not endpoint.fault)

    def answered(self, endpoint: Endpoint, first_event_s: float | None, in_flight: int) -> None:
        """It answered while so many were in flight."""
        limit = self.of(endpoint)
        if not endpoint.is_local:
            self._limits[endpoint.name] = limiter.by_success(limit, in_flight, endpoint.max_connections)
        elif first_event_s is not None:
            self._limits[endpoint.name] = limiter.by_gradient(limit, first_event_s, in_flight, endpoint.max_connections)

    def failed(self, endpoint: Endpoint, failure: UpstreamError, now_s: float) -> None:
        """It failed; what says that it was too much lowers its limit."""
        if failure.failure in TOO_MUCH:
            self._limits[endpoint.name] = limiter.by_refusal(self.of(endpoint), now_s, endpoint.max_connections)


class Gates:
    """The gates of all routes, and what they share."""

    def __init__(self) -> None:
        self.limits = Limits()
        self.lag = LoopLag()
        self.shed_counts = Shed()
        self._gates: dict[str, Gate] = {}

    def of(self, route: Route) -> Gate:
        """The gate of a route that queues."""
        gate = self._gates.get(route.name)
        if gate is None:
            if len(self._gates) >= GATES_MAX:
                self._gates.clear()  # requests under way hold theirs
            gate = self._gates[route.name] = Gate(route.name, route.policy.queue, self.limits, self.shed_counts)
        gate.queue.length_max = route.policy.queue
        return gate

    def all(self) -> list[tuple[str, Gate]]:
        """Every gate that was needed so far, by its route's name."""
        return sorted(self._gates.items())

    def shed(self, route: Route) -> None:
        """Raises `RouteOverloaded` for batch work while the process is behind."""
        if route.policy.is_batch and self.lag.is_high(asyncio.get_running_loop()):
            self.shed_counts.count(route.name, "batch")
            message = f"the server is busy: the route {route.name!r} is for work that can wait"
            raise RouteOverloaded(message, retry_after_s=SHED_RETRY_AFTER_S)


def _capped(limit: Limit, limit_max: int) -> Limit:
    return Limit(float(limit_max), limit.base_s, limit.recent_s, limit.decreased_at_s)
