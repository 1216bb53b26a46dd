"""One answer: the walk down a route's ladder until an endpoint's first content, then its events to the end.

Before the first content everything is recoverable by the next endpoint; after it the endpoint does not change, and a
failure raises `StreamCut`. A buffered answer commits only when it is whole. Made by `Gateway`, read by one caller on
one loop. The invariant: every attempt is aborted or finished, reported to its endpoint's health once, and settled
once, however the caller leaves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace
from types import TracebackType

from roadbed.gateway.affording import UNAFFORDABLE, hold_for, kept, limited, unpaid
from roadbed.gateway.answer_rules import answer_filter
from roadbed.gateway.attempt import MIN_USEFUL_S, Attempt, limits_for
from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.dialects.registry import DIALECTS, encoded_for
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import (
    ENDS_THE_LADDER,
    StreamCut,
    UnsupportedFeature,
    UpstreamError,
)
from roadbed.gateway.failure import Failure, deadline_passed, ladder_spent, rejected
from roadbed.gateway.gate import Gates
from roadbed.gateway.health import Admission, HealthBoard
from roadbed.gateway.hedge import HedgeBudget
from roadbed.gateway.key_ring import KEY_FAILURES
from roadbed.gateway.masking import GuardedRequest, Unmasker, guard_request
from roadbed.gateway.meter import TokenEstimator, text_bytes
from roadbed.gateway.output_limit import kept_here, told
from roadbed.gateway.route import Candidate, Plan, Route, plan
from roadbed.gateway.settlement import AttemptMeter, commit
from roadbed.gateway.types import CONTENT_EVENTS, Answer, Call, ChatRequest, Event, Finished, FinishReason, Outcome
from roadbed.gateway.ways import Ways
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.deadline import DEADLINE_S_MAX, Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import PUBLIC, Label
from roadbed.ledger.budget import Reservation
from roadbed.wire.client import UpstreamClient

RETRIES_MAX = 1
GUARDED_INLINE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all answers of a gateway share."""

    client: UpstreamClient
    guard: Guard
    health: HealthBoard
    estimator: TokenEstimator
    ways: Ways
    hedges: HedgeBudget
    gates: Gates


@dataclass(frozen=True, slots=True)
class FirstTry:
    """An attempt that was made already, with its failure: the walk begins as if it had made it itself, and ends when
    it would have, at ``deadline_s`` of the deadline's clock.
    """

    endpoint: str
    failure: UpstreamError
    outcome: Outcome
    deadline_s: float


@dataclass(slots=True)
class Running:
    """The attempt under way."""

    attempt: Attempt
    admission: Admission
    meter: AttemptMeter
    unmasker: Unmasker
    pending: deque[Event] = field(default_factory=deque)
    texts: list[str] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    is_over: bool = False
    tokens_max: int | None = None


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
        self._deadline = (
            earlier(call.deadline, route.deadline_s)
            if first_try is None
            else Deadline(first_try.deadline_s, call.deadline.clock)
        )
        self._guarded: dict[bool, GuardedRequest] = {}
        self._pending: deque[Event] = deque()
        self._running: Running | None = None
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
                cut = self._cut(running, error)
                if not await self._recovered(running, cut):
                    raise cut from None
                continue
            except asyncio.CancelledError:
                self.close()
                raise
            if event is None:
                self._complete(running)
            else:
                self._pass_on(running, event)
                if self._ends_here(running):
                    self._complete(running)
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
        chosen = self._plan()
        self.outcome.skipped[:] = chosen.skipped
        await self._walk(chosen)

    # The walk.

    @property
    def _label(self) -> Label:
        label = self._call.label_of(self._request).join(self._route.label)
        return self._shared.guard.label_for_models(label, self._call.principal.team)

    def _plan(self) -> Plan:
        return plan(self._route, self._noted_label(), self._why_unavailable)

    def _noted_label(self) -> Label:
        """The label, which the trace learns."""
        label, trace = self._label, self._call.trace
        if trace is not None and label is not PUBLIC:
            trace.label = trace.label.join(label)
        return label

    async def _walk(self, chosen: Plan) -> None:
        failures: list[Failure] = []
        unsupported: UnsupportedFeature | None = None
        for number, candidate in enumerate(chosen.candidates):
            rungs_left = len(chosen.candidates) - number - 1
            try:
                is_answering = await self._climb(candidate, rungs_left, failures)
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
        names = [endpoint.name for endpoint in self._route.ladder if not endpoint.fault]
        wait_s = self._shared.health.first_wait_s(names)
        raise ladder_spent(self._route.name, failures, self.outcome.skipped, wait_s)

    async def _climb(self, candidate: Candidate, rungs_left: int, failures: list[Failure]) -> bool:
        """Try one endpoint, maybe twice. True when its answer has begun."""
        endpoint, health = candidate.endpoint, self._shared.health
        await self._guard_aside(endpoint)
        encoded = self._encoded(endpoint)
        for tries in range(RETRIES_MAX + 1):
            first, self._first_try = self._first_try, None
            if first is not None and first.endpoint == endpoint.name:
                failure: UpstreamError | None = first.failure
            else:
                if self._deadline.has_passed():
                    raise deadline_passed(self._route.name, failures)
                try:
                    hold = await hold_for(self._call.trace, endpoint, encoded.body, self._request)
                except UNAFFORDABLE as error:
                    self._unaffordable.append(error)
                    self.outcome.skipped.append(f"{endpoint.name}: {error.code}")
                    return False
                admission = health.admit(endpoint.name, has_alternative=rungs_left > 0 or bool(failures))
                if admission is None:
                    if hold is not None:
                        hold.settle(0)
                    self.outcome.skipped.append(f"{endpoint.name}: being brought back slowly after failures")
                    return False
                failure = await self._try(candidate, encoded, rungs_left, admission, hold)
                if failure is not None and endpoint.keys:
                    failure = await self._try_other_keys(candidate, encoded, rungs_left, failures, failure)
            if failure is None:
                return True
            failures.append((endpoint.name, failure))
            if self._ends_the_walk(failure):
                raise rejected(endpoint.name, failure)
            if tries == RETRIES_MAX:
                break
            spare_s = self._deadline.remaining_s() - MIN_USEFUL_S * (rungs_left + 1)
            wait_s = health.retry_wait_s(endpoint.name, failure, rungs_left=rungs_left, spare_s=spare_s)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        if self._deadline.has_passed():
            raise deadline_passed(self._route.name, failures)
        return False

    async def _try_other_keys(
        self,
        candidate: Candidate,
        encoded: EncodedRequest,
        rungs_left: int,
        failures: list[Failure],
        failure: UpstreamError,
    ) -> UpstreamError | None:
        """Go on with the endpoint's next key while one is refused or throttled; each at most once."""
        endpoint = candidate.endpoint
        for _ in range(len(endpoint.keys) - 1):
            if failure.failure not in KEY_FAILURES or self._deadline.has_passed():
                return failure
            try:
                hold = await hold_for(self._call.trace, endpoint, encoded.body, self._request)
            except UNAFFORDABLE as error:
                self._unaffordable.append(error)
                return failure
            admission = self._shared.health.admit(endpoint.name, has_alternative=False)
            if admission is None:
                if hold is not None:
                    hold.settle(0)
                return failure
            failures.append((endpoint.name, failure))
            next_failure = await self._try(candidate, encoded, rungs_left, admission, hold)
            if next_failure is None:
                return None
            failure = next_failure
        return failure

    async def _try(
        self,
        candidate: Candidate,
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None = None,
    ) -> UpstreamError | None:
        """One attempt up to its commit. None when it is answering."""
        running = self._running = self._start(candidate.endpoint, encoded, rungs_left, admission, hold)
        self._pending = running.pending
        try:
            failure = await self._begin(running, rungs_left)
        except asyncio.CancelledError:
            self.close()
            raise
        if failure is None:
            self._adopt(candidate, running)
            return None
        self._running = None
        self._give_up(running, failure)
        return failure

    async def _begin(self, running: Running, rungs_left: int) -> UpstreamError | None:
        """Read to the first content, or to the end where the answer is buffered or has none. None when it is good."""
        try:
            while True:
                event = await running.attempt.next()
                if event is None:
                    running.is_over = True
                    return self._fault_of(running, rungs_left)
                self._pass_on(running, event)
                if self._ends_here(running):
                    running.is_over = True
                    return self._fault_of(running, rungs_left)
                if not self._is_buffered and any(isinstance(item, CONTENT_EVENTS) for item in running.pending):
                    return None
        except UpstreamError as error:
            return error

    def _adopt(self, candidate: Candidate, running: Running) -> None:
        """The answer is this attempt's."""
        self._commit(candidate, running)
        if running.is_over:
            self._complete(running)

    def _give_up(self, running: Running, failure: UpstreamError) -> None:
        """The attempt failed before its answer was begun."""
        running.pending.clear()
        running.attempt.abort()
        running.admission.failed(failure)
        running.meter.settle(self._shared.estimator, failure, is_complete=running.is_over)

    # What a route's policy may decide otherwise (`PolicyStream`).

    def _ends_the_walk(self, failure: UpstreamError) -> bool:
        return failure.failure in ENDS_THE_LADDER

    def _fault_of(self, running: Running, rungs_left: int) -> UpstreamError | None:
        """What is wrong with an answer that is whole and not sent yet."""
        return None

    async def _recovered(self, running: Running, cut: StreamCut) -> bool:
        """Whether an answer that broke off goes on after all."""
        return False

    # One attempt.

    def _start(
        self,
        endpoint: Endpoint,
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None,
    ) -> Running:
        """Begin an attempt. Its meter settles ``hold``, however it ends."""
        call, shared, loop = self._call, self._shared, asyncio.get_running_loop()
        with kept(hold):
            limits = limits_for(self._deadline, endpoint, rungs_left, loop.time())
            if endpoint.keys:
                keyed = replace(endpoint, key=shared.health.key_of(endpoint, admission))
                encoded = self._encoded(keyed)
            attempt = Attempt(DIALECTS[endpoint.dialect], endpoint, limits, loop)
            meter = AttemptMeter(self.outcome, endpoint, attempt, len(encoded.body), call.trace, loop, hold)
            attempt.start(shared.client, encoded)
        self.outcome.dropped = encoded.dropped
        passed = answer_filter(shared.guard, self._vault, call.principal, self._label, is_local=endpoint.is_local)
        return Running(attempt, admission, meter, passed, tokens_max=kept_here(self._request, endpoint))

    def _encoded(self, endpoint: Endpoint) -> EncodedRequest:
        """The request as this endpoint is sent it. Raises as `Dialect.encode`."""
        request = told(self._guarded_for(endpoint).request, endpoint, self._shared.estimator)
        return encoded_for(request, endpoint)

    async def _guard_aside(self, endpoint: Endpoint) -> None:
        """Guard much text for an endpoint outside in a thread: masking it here would hold up others."""
        if endpoint.is_local or False in self._guarded or text_bytes(self._request) <= GUARDED_INLINE_BYTES_MAX:
            return
        guarded = await asyncio.to_thread(
            guard_request, self._shared.guard, self._request, self._label, is_local=False, vault=self._vault
        )
        self._note_guarded(endpoint, guarded)

    def _note_guarded(self, endpoint: Endpoint, guarded: GuardedRequest) -> GuardedRequest:
        self._guarded[endpoint.is_local] = guarded
        if self._call.trace is not None:
            self._call.trace.masked_count += guarded.masked_count
        return guarded

    def _guarded_for(self, endpoint: Endpoint) -> GuardedRequest:
        """The request as this kind of endpoint may see it; guarded once per kind."""
        guarded = self._guarded.get(endpoint.is_local)
        if guarded is None:
            guarded = guard_request(
                self._shared.guard,
                self._request,
                self._label,
                is_local=endpoint.is_local,
                vault=self._vault,
                team=self._call.principal.team,
            )
            self._note_guarded(endpoint, guarded)
        return guarded

    def _pass_on(self, running: Running, event: Event) -> None:
        running.meter.saw(event)
        if isinstance(event, Finished):
            running.finish_reason = self.outcome.finish_reason = event.reason
        running.pending.extend(running.unmasker.feed(event))

    def _ends_here(self, running: Running) -> bool:
        """Whether the answer has reached a limit that its endpoint was not told: then that is its end."""
        if running.tokens_max is None or running.finish_reason is not None:
            return False
        if self._shared.estimator.tokens(running.meter.record.model, running.meter.bytes_out) <= running.tokens_max:
            return False
        running.attempt.abort()
        self._pass_on(running, Finished("length"))
        return True

    def _commit(self, candidate: Candidate, running: Running) -> None:
        commit(self.outcome, self._route, candidate, self._call.trace)
        running.attempt.extend(asyncio.get_running_loop().time() + self._deadline.remaining_s())

    # The end.

    def _complete(self, running: Running) -> None:
        self._running = None
        self.outcome.is_complete = True
        running.admission.succeeded(running.meter.first_event_s)
        running.meter.settle(self._shared.estimator, None, is_complete=True)

    def _cut(self, running: Running, error: UpstreamError) -> StreamCut:
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

    def _why_unavailable(self, endpoint: Endpoint) -> str:
        if self._first_try is not None and self._first_try.endpoint == endpoint.name:
            return ""  # it was available when it was tried
        return self._shared.health.why_unavailable(endpoint)


def earlier(deadline: Deadline, route_s: float) -> Deadline:
    """The request's deadline, or the route's when that comes first."""
    at_s = deadline.clock.monotonic_s() + min(route_s, DEADLINE_S_MAX)
    return deadline if deadline.at_s <= at_s else Deadline(at_s, deadline.clock)
