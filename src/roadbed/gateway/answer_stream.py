"""One answer: the walk down a route's ladder until an endpoint's first content, then its events to the end.

Before the first content everything is recoverable by the next endpoint; after it the endpoint does not change, and a
failure raises `StreamCut`. A buffered answer commits only when it is whole. Made by `Gateway`, read by one caller on
one loop. The invariant: every attempt is aborted or finished, reported to its endpoint's health once, and settled
once, however the caller leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from roadbed.gateway.affording import UNAFFORDABLE, hold_for, limited, unpaid
from roadbed.gateway.attempt import MIN_USEFUL_S, Attempt, limits_for
from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import (
    ENDS_THE_LADDER,
    RETRIED_ON_THE_SAME_ENDPOINT,
    GatewayDeadline,
    StreamCut,
    UnsupportedFeature,
    UpstreamError,
)
from roadbed.gateway.failure import Failure, ladder_spent, rejected
from roadbed.gateway.health import Admission, EndpointHealth, HealthBoard
from roadbed.gateway.masking import GuardedRequest, Unmasker, guard_request
from roadbed.gateway.meter import TokenEstimator
from roadbed.gateway.route import Candidate, Plan, Route, plan
from roadbed.gateway.settlement import AttemptMeter, commit
from roadbed.gateway.types import CONTENT_EVENTS, Answer, Call, ChatRequest, Event, Finished, Outcome
from roadbed.gateway.ways import Ways
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel import retry
from roadbed.kernel.deadline import DEADLINE_S_MAX, Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.ledger.budget import Reservation
from roadbed.wire.client import UpstreamClient

RETRIES_MAX = 1
RATE_WAIT_S_MAX = 1.0
"""The longest wait for a throttling endpoint while another one could be asked instead."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all answers of a gateway share."""

    client: UpstreamClient
    guard: Guard
    health: HealthBoard
    estimator: TokenEstimator
    ways: Ways


@dataclass(frozen=True, slots=True)
class FirstTry:
    """An attempt that was made already, with its failure: the walk begins as if it had made it itself."""

    endpoint: str
    failure: UpstreamError
    outcome: Outcome


@dataclass(slots=True)
class _Running:
    """The attempt under way."""

    attempt: Attempt
    admission: Admission
    meter: AttemptMeter
    unmasker: Unmasker


class AnswerStream:
    """An async iterator of events, and an async context manager that stops the upstream when it is left.

    ``outcome`` is filled as the answer goes on. Read it to the end, or leave the context, or call `close`.
    """

    def __init__(
        self,
        shared: Surroundings,
        route: Route,
        request: ChatRequest,
        call: Call,
        *,
        is_buffered: bool = False,
        first_try: FirstTry | None = None,
    ) -> None:
        self.outcome = Outcome(route=route.name) if first_try is None else first_try.outcome
        self._first_try = first_try
        self._shared = shared
        self._route = route
        self._request = limited(request, call.trace)
        self._unaffordable: list[RoadbedError] = []
        self._call = call
        self._is_buffered = is_buffered
        self._vault = call.vault if call.vault is not None else Vault()
        self._deadline = earlier(call.deadline, route.deadline_s)
        self._guarded: dict[bool, GuardedRequest] = {}
        self._pending: deque[Event] = deque()
        self._running: _Running | None = None
        self._is_open = False

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> Event:
        if not self._is_open:
            await self.open()
        while not self._pending:
            running = self._running
            if running is None:
                raise StopAsyncIteration
            try:
                event = await running.attempt.next()
            except UpstreamError as error:
                raise self._cut(running, error) from None
            except asyncio.CancelledError:
                self.close()
                raise
            if event is None:
                self._complete(running)
            else:
                self._pass_on(running, event)
        return self._pending.popleft()

    async def __aenter__(self) -> AnswerStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """As `close`."""
        self.close()

    def close(self) -> None:
        """Stop: the upstream connection is closed at once and what was used is settled. Safe to call at any time."""
        self._is_open = True
        self._pending.clear()
        running, self._running = self._running, None
        if running is not None:
            running.attempt.abort()
            running.admission.told_nothing()
            self.outcome.cut_by = "caller"
            running.meter.settle(self._shared.estimator, None, is_complete=False)

    async def answer(self) -> Answer:
        """The whole answer."""
        answer = Answer()
        async for event in self:
            answer.add(event)
        answer.usage = self.outcome.usage
        return answer

    async def open(self) -> None:
        """Walk the ladder until the answer's first content is here; afterwards ``outcome`` names endpoint and rung.

        Raises `NoCandidate`, an error of the ladder's failures, or `GatewayDeadline`. Called by the first `__anext__`
        otherwise.
        """
        if self._is_open:
            return
        self._is_open = True
        label = self._call.label_of(self._request).join(self._route.label)
        chosen = plan(self._route, label, self._why_unavailable)
        self.outcome.skipped[:] = chosen.skipped
        failures: list[Failure] = []
        unsupported: UnsupportedFeature | None = None
        for number, candidate in enumerate(chosen.candidates):
            rungs_left = len(chosen.candidates) - number - 1
            try:
                is_answering = await self._climb(candidate, rungs_left, failures, chosen)
            except UnsupportedFeature as error:
                unsupported = error
                self.outcome.skipped.append(f"{candidate.endpoint.name}: cannot carry {error.param}")
                continue
            if is_answering:
                return
        if unsupported is not None and not failures:
            raise unsupported
        if (no_money := unpaid(self._unaffordable)) is not None and not failures:
            raise no_money
        raise ladder_spent(self._route.name, failures, self.outcome.skipped, self._wait_s())

    # The walk.

    async def _climb(self, candidate: Candidate, rungs_left: int, failures: list[Failure], chosen: Plan) -> bool:
        """Try one endpoint, maybe twice. True when its answer has begun."""
        endpoint = candidate.endpoint
        health = self._shared.health.of(endpoint.name)
        encoded = DIALECTS[endpoint.dialect].encode(self._guarded_for(endpoint).request, endpoint)
        for tries in range(RETRIES_MAX + 1):
            first, self._first_try = self._first_try, None
            if first is not None and first.endpoint == endpoint.name:
                failure: UpstreamError | None = first.failure
            else:
                if self._deadline.has_passed():
                    raise self._late(failures)
                try:
                    hold = await hold_for(self._call.trace, endpoint, encoded.body, self._request)
                except UNAFFORDABLE as error:
                    self._unaffordable.append(error)
                    self.outcome.skipped.append(f"{endpoint.name}: {error.code}")
                    return False
                admission = self._shared.health.admit(endpoint.name, has_alternative=rungs_left > 0 or bool(failures))
                if admission is None:
                    if hold is not None:
                        hold.settle(0)
                    self.outcome.skipped.append(f"{endpoint.name}: being brought back slowly after failures")
                    return False
                failure = await self._try(candidate, encoded, rungs_left, admission, hold)
            if failure is None:
                return True
            failures.append((endpoint.name, failure))
            if failure.failure in ENDS_THE_LADDER:
                raise rejected(endpoint.name, failure)
            wait_s = self._retry_wait_s(failure, health, rungs_left) if tries < RETRIES_MAX else None
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        if self._deadline.has_passed():
            raise self._late(failures)
        return False

    async def _try(
        self,
        candidate: Candidate,
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None = None,
    ) -> UpstreamError | None:
        """One attempt up to its commit. None when it is answering."""
        running = self._running = self._start(candidate.endpoint, encoded, rungs_left, admission)
        running.meter.hold = hold
        try:
            while True:
                event = await running.attempt.next()
                if event is None:
                    self._commit(candidate, running)
                    self._complete(running)
                    return None
                self._pass_on(running, event)
                if not self._is_buffered and any(isinstance(item, CONTENT_EVENTS) for item in self._pending):
                    self._commit(candidate, running)
                    return None
        except UpstreamError as error:
            self._running = None
            self._pending.clear()
            running.attempt.abort()
            admission.failed(error)
            running.meter.settle(self._shared.estimator, error, is_complete=False)
            return error
        except asyncio.CancelledError:
            self.close()
            raise

    def _start(self, endpoint: Endpoint, encoded: EncodedRequest, rungs_left: int, admission: Admission) -> _Running:
        call, shared, loop = self._call, self._shared, asyncio.get_running_loop()
        limits = limits_for(self._deadline, endpoint, rungs_left, loop.time())
        attempt = Attempt(DIALECTS[endpoint.dialect], endpoint, limits, loop)
        meter = AttemptMeter(self.outcome, endpoint, attempt, len(encoded.body), call.trace, loop)
        attempt.start(shared.client, encoded)
        self.outcome.dropped = encoded.dropped
        return _Running(attempt, admission, meter, Unmasker(shared.guard, self._vault, call.principal))

    def _guarded_for(self, endpoint: Endpoint) -> GuardedRequest:
        """The request as this kind of endpoint may see it; guarded once per kind."""
        guarded = self._guarded.get(endpoint.is_local)
        if guarded is None:
            label = self._call.label_of(self._request).join(self._route.label)
            guarded = guard_request(
                self._shared.guard, self._request, label, is_local=endpoint.is_local, vault=self._vault
            )
            self._guarded[endpoint.is_local] = guarded
            if self._call.trace is not None:
                self._call.trace.masked_count += guarded.masked_count
        return guarded

    def _pass_on(self, running: _Running, event: Event) -> None:
        running.meter.saw(event)
        if isinstance(event, Finished):
            self.outcome.finish_reason = event.reason
        self._pending.extend(running.unmasker.feed(event))

    def _commit(self, candidate: Candidate, running: _Running) -> None:
        commit(self.outcome, self._route, candidate, self._call.trace)
        running.attempt.extend(asyncio.get_running_loop().time() + self._deadline.remaining_s())

    # The end.

    def _complete(self, running: _Running) -> None:
        self._running = None
        self.outcome.is_complete = True
        running.admission.succeeded(running.meter.first_event_s)
        running.meter.settle(self._shared.estimator, None, is_complete=True)

    def _cut(self, running: _Running, error: UpstreamError) -> StreamCut:
        self._running = None
        running.attempt.abort()
        is_late = self._deadline.has_passed()
        self.outcome.cut_by = "deadline" if is_late else error.failure
        if is_late:
            running.admission.told_nothing()
        else:
            running.admission.failed(error)
        running.meter.settle(self._shared.estimator, error, is_complete=False)
        why = "the request's deadline passed" if is_late else error.reason
        return StreamCut(f"the answer of {self.outcome.endpoint} broke off: {why}")

    def _retry_wait_s(self, failure: UpstreamError, health: EndpointHealth, rungs_left: int) -> float | None:
        """Seconds until the same endpoint is tried once more; None when it is not."""
        if failure.failure not in RETRIED_ON_THE_SAME_ENDPOINT or failure.status == 404:
            return None
        if not failure.was_sent and rungs_left:
            return None
        if failure.failure == "rate":
            if failure.retry_after_s is None or (rungs_left and failure.retry_after_s > RATE_WAIT_S_MAX):
                return None
            wait_s = failure.retry_after_s
        else:
            wait_s = failure.retry_after_s or retry.full_jitter_s(0, self._shared.health.chance())
        if wait_s + MIN_USEFUL_S * (rungs_left + 1) > self._deadline.remaining_s():
            return None
        budget = retry.spend(health.retry_budget)
        if budget is None:
            return None
        health.retry_budget = budget
        return wait_s

    def _why_unavailable(self, endpoint: Endpoint) -> str:
        if self._first_try is not None and self._first_try.endpoint == endpoint.name:
            return ""  # it was available when it was tried
        return self._shared.health.why_unavailable(endpoint)

    def _wait_s(self) -> float | None:
        """Seconds until the first endpoint of the ladder may be asked again; None when nothing is known."""
        now_s = self._shared.health.monotonic_s()
        waits = [self._shared.health.of(e.name).unavailable_for_s(now_s) for e in self._route.ladder if not e.fault]
        known = [wait for wait in waits if wait > 0]
        return min(known) if known else None

    def _late(self, failures: list[Failure]) -> GatewayDeadline:
        tried = "; ".join(f"{name}: {failure.failure}, {failure.reason}" for name, failure in failures)
        return GatewayDeadline(f"the deadline passed before the route {self._route.name!r} answered ({tried})")


def earlier(deadline: Deadline, route_s: float) -> Deadline:
    """The request's deadline, or the route's when that comes first."""
    at_s = deadline.clock.monotonic_s() + min(route_s, DEADLINE_S_MAX)
    return deadline if deadline.at_s <= at_s else Deadline(at_s, deadline.clock)
