"""One answer that comes whole: the walk down a route's ladder for embeddings or a ranking.

The same labels, health, shares of the deadline, failure classes and settlement as `AnswerStream`'s, over the same
attempts; but nothing is given before the whole answer is here, so every failure may be recovered by the next endpoint.
Made by `Gateway` for one request. The invariant: every attempt is aborted or finished, reported to its endpoint's
health once, and settled once, however the caller leaves; and an answer comes from one endpoint alone.
"""

from __future__ import annotations

import asyncio
from typing import Generic

from roadbed.gateway.affording import UNAFFORDABLE, hold_tokens, kept, unpaid
from roadbed.gateway.answer_stream import RETRIES_MAX, Surroundings, earlier
from roadbed.gateway.attempt import MIN_USEFUL_S, Attempt, limits_for
from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect, malformed
from roadbed.gateway.dialects.whole import WholeCodec
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import ENDS_THE_LADDER, UnsupportedFeature, UpstreamError
from roadbed.gateway.failure import Failure, deadline_passed, ladder_spent, rejected
from roadbed.gateway.health import Admission
from roadbed.gateway.route import Candidate, Route, plan
from roadbed.gateway.settlement import AttemptMeter, commit
from roadbed.gateway.tasks import Asked, Given, GuardedText, WholeTask
from roadbed.gateway.types import Call, Event, Finished, Outcome, UsageReported
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import RoadbedError
from roadbed.ledger.budget import Reservation
from roadbed.wire.sse import SseEvent

LOOP_CHARACTERS_MAX = 32_000
"""Longer requests are guarded in a thread, so that others on the loop do not wait for it."""


class WholeCall(Generic[Asked, Given]):
    """One request. ``outcome`` is filled as the walk goes on, and final when `run` has ended."""

    def __init__(
        self, shared: Surroundings, route: Route, task: WholeTask[Asked, Given], asked: Asked, call: Call
    ) -> None:
        self.outcome = Outcome(route=route.name)
        self._shared = shared
        self._route = route
        self._task = task
        self._asked = asked
        self._call = call
        label = task.label_of(asked, call.label).join(route.label)
        self._label = shared.guard.label_for_models(label, call.principal.team)
        if call.trace is not None:
            call.trace.label = call.trace.label.join(self._label)
        self._vault = call.vault if call.vault is not None else Vault()
        self._deadline = earlier(call.deadline, route.deadline_s)
        self._guarded: dict[bool, Asked] = {}
        self._failures: list[Failure] = []
        self._unaffordable: list[RoadbedError] = []

    async def run(self) -> Given:
        """The answer. Raises `NoCandidate`, `UnsupportedFeature`, an error of the ladder's failures, or
        `GatewayDeadline`.
        """
        chosen = plan(self._route, self._label, self._shared.health.why_unavailable)
        self.outcome.skipped[:] = chosen.skipped
        unsupported: UnsupportedFeature | None = None
        for number, candidate in enumerate(chosen.candidates):
            try:
                given = await self._climb(candidate, len(chosen.candidates) - number - 1)
            except UnsupportedFeature as error:
                unsupported = error
                self.outcome.skipped.append(f"{candidate.endpoint.name}: cannot carry {error.param}")
                continue
            if given is not None:
                return given
        if unsupported is not None and not self._failures:
            raise unsupported
        if (no_money := unpaid(self._unaffordable)) is not None and not self._failures:
            raise no_money
        names = [endpoint.name for endpoint in self._route.ladder if not endpoint.fault]
        wait_s = self._shared.health.first_wait_s(names)
        raise ladder_spent(self._route.name, self._failures, self.outcome.skipped, wait_s)

    async def _climb(self, candidate: Candidate, rungs_left: int) -> Given | None:
        """Try one endpoint, maybe twice. None when it did not answer."""
        endpoint, health = candidate.endpoint, self._shared.health
        asked = await self._guarded_for(endpoint)
        codec = self._task.codecs[endpoint.dialect]
        encoded = codec.encode(asked, endpoint)
        for tries in range(RETRIES_MAX + 1):
            if self._deadline.has_passed():
                raise deadline_passed(self._route.name, self._failures)
            input_bytes = len(encoded.body) + self._task.repeated_bytes(asked)
            try:
                hold = await hold_tokens(self._call.trace, endpoint, input_bytes)
            except UNAFFORDABLE as error:
                self._unaffordable.append(error)
                self.outcome.skipped.append(f"{endpoint.name}: {error.code}")
                return None
            admission = health.admit(endpoint.name, has_alternative=rungs_left > 0 or bool(self._failures))
            if admission is None:
                if hold is not None:
                    hold.settle(0)
                self.outcome.skipped.append(f"{endpoint.name}: being brought back slowly after failures")
                return None
            answer = _Answer(codec, asked)
            failure = await self._try(candidate, answer, encoded, rungs_left, admission, hold)
            if failure is None:
                return answer.given
            self._failures.append((endpoint.name, failure))
            if failure.failure in ENDS_THE_LADDER:
                raise rejected(endpoint.name, failure)
            if tries == RETRIES_MAX:
                break
            spare_s = self._deadline.remaining_s() - MIN_USEFUL_S * (rungs_left + 1)
            wait_s = health.retry_wait_s(endpoint.name, failure, rungs_left=rungs_left, spare_s=spare_s)
            if wait_s is None:
                break
            await asyncio.sleep(wait_s)
        if self._deadline.has_passed():
            raise deadline_passed(self._route.name, self._failures)
        return None

    async def _try(
        self,
        candidate: Candidate,
        answer: _Answer[Asked, Given],
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None,
    ) -> UpstreamError | None:
        """One attempt to its end. None when it answered."""
        endpoint, shared, loop = candidate.endpoint, self._shared, asyncio.get_running_loop()
        with kept(hold):
            attempt = Attempt(answer, endpoint, limits_for(self._deadline, endpoint, rungs_left, loop.time()), loop)
            meter = AttemptMeter(self.outcome, endpoint, attempt, len(encoded.body), self._call.trace, loop, hold)
            attempt.start(shared.client, encoded)
        self.outcome.dropped = (*self._task.dropped(self._asked), *encoded.dropped)
        try:
            while (event := await attempt.next()) is not None:
                meter.saw(event)
        except UpstreamError as error:
            attempt.abort()
            admission.failed(error)
            meter.settle(shared.estimator, error, is_complete=False)
            return error
        except asyncio.CancelledError:
            attempt.abort()
            admission.told_nothing()
            self.outcome.cut_by = "caller"
            meter.settle(shared.estimator, None, is_complete=False)
            raise
        commit(self.outcome, self._route, candidate, self._call.trace)
        self.outcome.is_complete = True
        admission.succeeded(None)
        meter.settle(shared.estimator, None, is_complete=True)
        return None

    async def _guarded_for(self, endpoint: Endpoint) -> Asked:
        """The request as this kind of endpoint may see it; guarded once per kind."""
        found = self._guarded.get(endpoint.is_local)
        if found is not None:
            return found
        guard = GuardedText(
            self._shared.guard, self._label, endpoint.is_local, self._vault, team=self._call.principal.team
        )
        if self._task.characters(self._asked) > LOOP_CHARACTERS_MAX:
            found = await asyncio.to_thread(self._task.guarded, self._asked, guard)
        else:
            found = self._task.guarded(self._asked, guard)
        self._guarded[endpoint.is_local] = found
        if self._call.trace is not None:
            self._call.trace.masked_count += guard.masked_count
        return found


class _Answer(ServerSentDialect, Generic[Asked, Given]):
    """One attempt's answer, read by the attempt as it reads a dialect's: it has a body and no stream."""

    def __init__(self, codec: WholeCodec[Asked, Given], asked: Asked) -> None:
        self._codec = codec
        self._asked = asked
        self.given: Given | None = None
        self.is_finished = False
        self.is_over = False

    def decoder(self) -> _Answer[Asked, Given]:
        """Itself, in case a server streams where nobody asked it to."""
        return self

    def feed(self, event: SseEvent) -> list[Event]:
        """A stream is no answer."""
        raise malformed("it is a stream")

    def finish(self) -> None:
        """A stream without events is none either."""
        raise malformed("it is a stream")

    def decode_body(self, body: bytes) -> list[Event]:
        """Take the answer."""
        given = self.given = self._codec.decode(body, self._asked)
        return [Finished("stop")] if given.usage is None else [UsageReported(given.usage), Finished("stop")]
