"""One answer of a route with a policy: its strategy chooses, its rules say what moves on, a slow endpoint is hedged.

It walks as `AnswerStream` does, with the same attempts, health and settlement, and goes on with answers that broke
off where the route's contract is ``continue``. Made by `Gateway` for routes that are not plain. The invariant: no
endpoint is asked that the label forbids, whatever a rule names, and none is begun with twice in one walk.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from roadbed.gateway.affording import UNAFFORDABLE, hold_for, unpaid
from roadbed.gateway.answer_stream import FirstTry, Running, Surroundings
from roadbed.gateway.attempt import MIN_USEFUL_S
from roadbed.gateway.continuation import CONTINUATIONS_MAX, Seam, continued, told_to_continue
from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import (
    InvalidChatRequest,
    NoCandidate,
    RouteOverloaded,
    StreamCut,
    TeamQueueFull,
    UnsupportedFeature,
    UpstreamError,
)
from roadbed.gateway.failure import Failure, ladder_spent, rejected
from roadbed.gateway.gate import Gate, Place
from roadbed.gateway.health import Admission
from roadbed.gateway.json_schema import why_unfit
from roadbed.gateway.masking import guard_request
from roadbed.gateway.output_limit import told
from roadbed.gateway.policy import Asked, Policy, what_happened
from roadbed.gateway.racing_stream import RacingStream
from roadbed.gateway.route import Candidate, Plan, Route, plan
from roadbed.gateway.strategy import choose, prefix_of
from roadbed.gateway.types import (
    CONTENT_EVENTS,
    Call,
    ChatRequest,
    Cited,
    Event,
    Finished,
    ProviderBlock,
    ReasoningDelta,
    ReasoningSealed,
    RefusalDelta,
    Rung,
    TextDelta,
    TextEnded,
    ToolCallDelta,
    UsageReported,
)
from roadbed.ledger.budget import Reservation
from roadbed.ledger.trace import CANCELLED, OK, REFUSED

FIRST_EVENT_SHARE = 0.99
FIRST_EVENT_TIMES = 3.0
FIRST_EVENT_S_MIN = 2.0
FIRST_EVENT_SAMPLES_MIN = 200
MINUTES_AN_HOUR = 60
_RUNGS: tuple[Rung, ...] = ("full", "fallback", "local")
_NOT_CONTINUED = (ReasoningDelta, ReasoningSealed, RefusalDelta, ToolCallDelta, TextEnded, Cited, ProviderBlock)
_FAULTS_OF_THE_REQUEST = frozenset({"client", "context"})


def buffers(policy: Policy, request: ChatRequest, *, is_whole: bool) -> bool:
    """Whether the route keeps an answer back until it is whole and good: always by its contract ``restart``, and
    otherwise for a caller who waits for all of it anyway, unless a broken one is continued.
    """
    is_checked = request.response_format is not None and policy.target("invalid_json") != "fail"
    return policy.on_cut == "restart" or (is_whole and (policy.on_cut != "continue" or is_checked))


class PolicyStream(RacingStream):
    """As `AnswerStream`. ``is_whole`` says that the caller does not stream, so that the route may buffer."""

    def __init__(
        self,
        shared: Surroundings,
        route: Route,
        request: ChatRequest,
        call: Call,
        *,
        is_buffered: bool = False,
        is_whole: bool = False,
        first_try: FirstTry | None = None,
    ) -> None:
        is_buffered = is_buffered or buffers(route.policy, request, is_whole=is_whole)
        super().__init__(shared, route, request, call, is_buffered=is_buffered, first_try=first_try)
        self._whole_route = route
        self._policy = route.policy
        self._asked = self._describe()
        self._seam: Seam | None = None
        self._place_held: Place | None = None
        self._is_continuable = (
            route.policy.on_cut == "continue" and not request.tools and request.response_format is None
        )

    def close(self) -> None:
        """Stop, as `AnswerStream.close`, and give back the place in the route's queue."""
        super().close()
        self._leave(is_complete=False)

    async def open(self) -> None:
        """As `AnswerStream.open`, after the wait for a place where the route queues.

        Raises `RouteOverloaded` and `TeamQueueFull` besides.
        """
        if self._is_open:
            return
        gates, route = self._shared.gates, self._whole_route
        gates.shed(route)
        if route.policy.queue:
            self._place_held = await self._take_place(gates.of(route))
        try:
            await super().open()
        except BaseException:
            self._leave(is_complete=False)
            raise

    async def _take_place(self, gate: Gate) -> Place:
        """A place in the route's queue; the wait for it is a step of the trace."""
        trace = self._call.trace
        span = trace.open_span("queue", "queue") if trace is not None else None
        status = CANCELLED
        try:
            place = await gate.enter(self._whole_route, self._call.principal.team, self._deadline)
            status = OK
            return place
        except (RouteOverloaded, TeamQueueFull):
            status = REFUSED
            raise
        finally:
            if trace is not None and span is not None:
                trace.close_span(span, status, route=self._whole_route.name)

    def _leave(self, *, is_complete: bool) -> None:
        if self._place_held is not None:
            self._place_held.leave(is_complete=is_complete)

    # Choosing.

    def _describe(self) -> Asked:
        request, call = self._request, self._call
        size = sum(len(message.text().encode("utf-8", "replace")) for message in request.messages)
        now = call.deadline.clock.wall()
        return Asked(
            self._label,
            call.principal.team,
            self._shared.estimator.tokens("", size),
            request.max_tokens,
            call.headers,
            now.hour * MINUTES_AN_HOUR + now.minute,
            prefix_of(request) if self._policy.strategy == "sticky" else b"",
        )

    def _plan(self) -> Plan:
        self._noted_label()
        self._shared.hedges.earn(self._route.name)
        return self._choose()

    def _choose(self) -> Plan:
        health = self._shared.health
        choice = choose(self._whole_route, self._asked, self._why_unavailable, health.load, health.chance)
        self._route = choice.route
        return choice.plan

    async def _walk(self, chosen: Plan) -> None:
        self._queue = queue = deque(chosen.candidates)
        failures: list[Failure] = []
        unsupported: UnsupportedFeature | None = None
        while queue:
            candidate = queue.popleft()
            name = candidate.endpoint.name
            if name in self._tried:
                continue
            self._tried.add(name)
            known = len(failures)
            try:
                if await self._climb(candidate, len(queue), failures):
                    return
            except UnsupportedFeature as error:
                unsupported = error
                self.outcome.skipped.append(f"{name}: cannot carry {error.param}")
                continue
            failures += self._hedge_failures
            self._hedge_failures = []
            if len(failures) > known and not self._moves_on(candidate.endpoint, failures[-1][1]):
                break
        if unsupported is not None and not failures:
            raise unsupported
        if (no_money := unpaid(self._unaffordable)) is not None and not failures:
            raise no_money
        if failures and failures[-1][1].failure in _FAULTS_OF_THE_REQUEST:
            raise rejected(*failures[-1])
        names = [endpoint.name for endpoint in self._route.endpoints if not endpoint.fault]
        wait_s = self._shared.health.first_wait_s(names)
        raise ladder_spent(self._route.name, failures, self.outcome.skipped, wait_s)

    def _moves_on(self, failed: Endpoint, failure: UpstreamError) -> bool:
        """Whether another endpoint is asked after this failure. The one that a rule names comes next."""
        happened = what_happened(failure)
        target = self._policy.target(happened)
        if target == "fail":
            return False
        if target != "next":
            self._jump(target)
        elif happened == "context_length" and failed.context_tokens is not None:
            for candidate in list(self._queue):
                window = candidate.endpoint.context_tokens
                if window is not None and window <= failed.context_tokens:
                    self._queue.remove(candidate)
                    self.outcome.skipped.append(f"{candidate.endpoint.name}: its window is no larger")
        return True

    def _jump(self, name: str) -> None:
        endpoint = self._endpoint_of(name)
        if endpoint is None or name in self._tried:
            return
        for candidate in self._queue:
            if candidate.endpoint.name == name:
                self._queue.remove(candidate)
                self._queue.appendleft(candidate)
                return
        try:
            found = plan(replace(self._route, ladder=(endpoint,)), self._label, self._why_unavailable)
        except NoCandidate:
            self.outcome.skipped.append(f"{name}: {endpoint.fault or 'not cleared for this label'}")
            return
        self.outcome.skipped.extend(found.skipped)
        if found.candidates:
            self._queue.appendleft(Candidate(endpoint, self._place(endpoint)))

    def _place(self, endpoint: Endpoint) -> int:
        """Its place on the ladder of this walk, at the end where it had none."""
        if endpoint not in self._route.ladder:
            self._route = replace(self._route, ladder=(*self._route.ladder, endpoint))
        return self._route.ladder.index(endpoint)

    # What is otherwise than on a plain ladder.

    def _ends_the_walk(self, failure: UpstreamError) -> bool:
        if failure.failure not in _FAULTS_OF_THE_REQUEST:
            return False
        return self._policy.target(what_happened(failure)) == "fail"

    def _fault_of(self, running: Running, rungs_left: int) -> UpstreamError | None:
        if self._seam is not None:
            return None
        if running.finish_reason == "content_filter":
            target = self._policy.target("content_filter")
            has_other = rungs_left > 0 if target == "next" else target not in ("fail", *self._tried)
            return UpstreamError("filtered", "its content filter stopped the answer") if has_other else None
        wanted = self._request.response_format
        if wanted is None or not self._is_buffered or self._policy.target("invalid_json") == "fail":
            return None
        if running.finish_reason == "tool_calls":
            return None
        text = "".join(event.text for event in running.pending if isinstance(event, TextDelta))
        fault = why_unfit(text, wanted.schema)
        return UpstreamError("invalid", fault) if fault else None

    def _start(
        self,
        endpoint: Endpoint,
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None,
    ) -> Running:
        """Begin an attempt. With others left, the wait for its first token is cut to what it usually needs."""
        usual_s = admission.state.first_event_s(FIRST_EVENT_SHARE, samples_min=FIRST_EVENT_SAMPLES_MIN)
        if rungs_left and usual_s is not None:
            limit_s = min(endpoint.first_event_s, max(FIRST_EVENT_S_MIN, FIRST_EVENT_TIMES * usual_s))
            endpoint = replace(endpoint, first_event_s=limit_s)
        return super()._start(endpoint, encoded, rungs_left, admission, hold)

    def _complete(self, running: Running) -> None:
        in_flight = running.admission.state.in_flight
        super()._complete(running)
        record = running.meter.record
        self._shared.health.note_pace(record.endpoint, record.ended_s - record.started_s, record.usage.output_tokens)
        endpoint = self._endpoint_of(record.endpoint)
        if self._place_held is not None and endpoint is not None:
            self._shared.gates.limits.answered(endpoint, record.first_event_s, in_flight)
        self._leave(is_complete=True)

    def _give_up(self, running: Running, failure: UpstreamError) -> None:
        super()._give_up(running, failure)
        endpoint = self._endpoint_of(running.meter.record.endpoint)
        if self._place_held is not None and endpoint is not None:
            self._shared.gates.limits.failed(endpoint, failure, self._shared.health.monotonic_s())

    def _why_unavailable(self, endpoint: Endpoint) -> str:
        reason = super()._why_unavailable(endpoint)
        if reason or self._place_held is None:
            return reason
        slots = self._shared.gates.limits.of(endpoint).slots
        is_full = self._shared.health.of(endpoint.name).in_flight >= slots
        return f"all of its {slots} learned slots are taken" if is_full else ""

    def _endpoint_of(self, name: str) -> Endpoint | None:
        return next((endpoint for endpoint in self._whole_route.endpoints if endpoint.name == name), None)

    def _pass_on(self, running: Running, event: Event) -> None:
        if self._seam is not None:
            self._join(running, self._seam, event)
            return
        if self._is_continuable:
            if isinstance(event, TextDelta):
                running.texts.append(event.text)
            elif isinstance(event, _NOT_CONTINUED):
                self._is_continuable = False
        if self._is_buffered and isinstance(event, CONTENT_EVENTS):
            self.outcome.is_begun = True
        super()._pass_on(running, event)

    # Going on after a cut.

    async def _recovered(self, running: Running, cut: StreamCut) -> bool:
        if await self._goes_on(running):
            return True
        self._leave(is_complete=False)
        return False

    async def _goes_on(self, running: Running) -> bool:
        prefix = "".join(running.texts)
        failed = self.outcome.endpoint
        if (
            not self._is_continuable
            or self._is_buffered
            or not prefix.strip()
            or self.outcome.finish_reason is not None
        ):
            return False
        try:
            candidates = list(self._choose().candidates)
        except NoCandidate:
            return False
        candidates.sort(key=lambda candidate: candidate.endpoint.name == failed)  # itself only when no other is left
        for candidate in candidates:
            if self.outcome.continued >= CONTINUATIONS_MAX or self._deadline.remaining_s() < MIN_USEFUL_S:
                return False
            if candidate.endpoint.continues and await self._continue(candidate, running, prefix):
                return True
        return False

    async def _continue(self, candidate: Candidate, broken: Running, prefix: str) -> bool:
        """Ask one endpoint for the rest. True when its text joins."""
        endpoint, shared = candidate.endpoint, self._shared
        tokens = shared.estimator.tokens(self.outcome.model, len(prefix.encode("utf-8", "replace")))
        request = continued(self._request, prefix, tokens)
        team = self._call.principal.team
        guarded = guard_request(
            shared.guard, request, self._label, is_local=endpoint.is_local, vault=self._vault, team=team
        )
        try:
            sent = told(guarded.request, endpoint, shared.estimator)
            encoded = told_to_continue(DIALECTS[endpoint.dialect].encode(sent, endpoint), endpoint)
            hold = await hold_for(self._call.trace, endpoint, encoded.body, request)
        except (UnsupportedFeature, InvalidChatRequest, *UNAFFORDABLE):
            return False
        admission = shared.health.admit(endpoint.name, has_alternative=False)
        if admission is None:
            if hold is not None:
                hold.settle(0)
            return False
        self._seam = Seam(guarded.request.messages[-1].text(), prefix[len(prefix.rstrip()) :])
        running = self._running = self._start(endpoint, encoded, 0, admission, hold)
        running.texts.append(prefix)
        if broken.unmasker.holds_back:
            running.unmasker = broken.unmasker  # it may hold back the begin of a token or a secret
            running.unmasker.renew()
        try:
            failure = await self._begin(running, 0)
        except asyncio.CancelledError:
            self.close()
            raise
        if failure is not None:
            self._running = None
            self._give_up(running, failure)
            return False
        rung, self.outcome.cut_by = self.outcome.rung, ""
        self.outcome.continued += 1
        self._pending = running.pending
        self._adopt(candidate, running)
        self.outcome.rung = max(rung, self.outcome.rung, key=_RUNGS.index)
        return True

    def _join(self, running: Running, seam: Seam, event: Event) -> None:
        """The events of a continuation: text that joins, its end and its usage; reasoning has no place in it."""
        running.meter.saw(event)
        if isinstance(event, TextDelta | Finished):
            text = seam.feed(event.text) if isinstance(event, TextDelta) else seam.finish()
            if text:
                running.texts.append(text)
                running.pending.extend(running.unmasker.feed(TextDelta(text)))
        if isinstance(event, Finished):
            running.finish_reason = self.outcome.finish_reason = event.reason
        if isinstance(event, Finished | UsageReported):
            running.pending.extend(running.unmasker.feed(event))
