"""One answer whose first content may come from either of two endpoints: a second is asked when the first is slow.

It changes how an attempt is begun, and nothing of what comes after its first content; `PolicyStream` extends it. The
invariant: of two that race one is adopted at most, and the other is aborted, told to health once and settled once.
"""

from __future__ import annotations

import asyncio
from collections import deque

from roadbed.gateway.affording import UNAFFORDABLE, hold_at_once, kept
from roadbed.gateway.answer_stream import AnswerStream, FirstTry, Running, Surroundings
from roadbed.gateway.dialects.base import EncodedRequest
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature, UpstreamError
from roadbed.gateway.failure import Failure
from roadbed.gateway.health import Admission
from roadbed.gateway.hedge import fire_after_s
from roadbed.gateway.route import Candidate, Route
from roadbed.gateway.types import Call, ChatRequest
from roadbed.ledger.budget import Reservation
from roadbed.ledger.trace import HEDGE_ENDPOINT, HEDGE_WON


class RacingStream(AnswerStream):
    """As `AnswerStream`. Who extends it keeps who is next in ``_queue``, and who was begun with in ``_tried``."""

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
        super().__init__(shared, route, request, call, is_buffered=is_buffered, first_try=first_try)
        self._queue: deque[Candidate] = deque()
        self._tried: set[str] = set()
        self._racing: list[Running] = []
        self._hedge_failures: list[Failure] = []

    def close(self) -> None:
        """Stop, as `AnswerStream.close`; attempts that race are stopped too."""
        for running in self._racing:
            self._drop(running)
        self._racing = []
        super().close()

    async def _try(
        self,
        candidate: Candidate,
        encoded: EncodedRequest,
        rungs_left: int,
        admission: Admission,
        hold: Reservation | None = None,
    ) -> UpstreamError | None:
        after_s = fire_after_s(admission.state) if self._route.policy.is_hedged and not self.outcome.hedged else None
        if after_s is None:
            return await super()._try(candidate, encoded, rungs_left, admission, hold)
        first = self._start(candidate.endpoint, encoded, rungs_left, admission, hold)
        self._racing = [first]
        racing = {asyncio.ensure_future(self._begin(first, rungs_left)): (candidate, first)}
        failure: UpstreamError | None = None
        try:
            done, _ = await asyncio.wait(racing, timeout=after_s)
            is_silent = not done and first.meter.first_event_s is None  # one that is to be whole has maybe begun
            second = self._second() if is_silent else None
            if second is not None:
                self._racing.append(second[1])
                racing[asyncio.ensure_future(self._begin(second[1], rungs_left))] = second
            while racing:
                done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
                task = next(task for task in racing if task in done)
                entrant, running = racing.pop(task)
                self._racing.remove(running)
                error = task.result()
                if error is None:
                    if running is not first:
                        self._shared.hedges.count(self._route.name, "won")
                        self._note(HEDGE_WON, value=True)
                    self._win(entrant, running)
                    return None
                self._give_up(running, error)
                if running is first:
                    failure = error
                else:
                    self._hedge_failures.append((entrant.endpoint.name, error))
            return failure
        finally:
            for task, (_, running) in racing.items():
                task.cancel()
                self._drop(running)
            self._racing = []
            await asyncio.gather(*racing, return_exceptions=True)

    def _second(self) -> tuple[Candidate, Running] | None:
        """Begin at the next endpoint that is whole, if the budgets have room."""
        shared = self._shared
        for candidate in self._queue:
            endpoint = candidate.endpoint
            state = shared.health.of(endpoint.name)
            if state.breaker.phase != "closed" or self._why_unavailable(endpoint):
                continue
            try:
                encoded = self._encoded(endpoint)
                hold = hold_at_once(self._call.trace, endpoint, encoded.body, self._request)
            except (UnsupportedFeature, InvalidChatRequest, *UNAFFORDABLE):
                continue
            with kept(hold):
                if not shared.hedges.spend(self._route.name, state):
                    break
                admission = shared.health.admit(endpoint.name, has_alternative=True)
                if admission is None:
                    break
                self._tried.add(endpoint.name)
                self.outcome.hedged = True
                shared.hedges.count(self._route.name, "started")
                self._note(HEDGE_ENDPOINT, value=endpoint.name)
                self._note(HEDGE_WON, value=False)
                return candidate, self._start(endpoint, encoded, 0, admission, hold)
        return None

    def _note(self, name: str, *, value: str | bool) -> None:
        if self._call.trace is not None:
            self._call.trace.attributes[name] = value

    def _win(self, candidate: Candidate, running: Running) -> None:
        """The first content is this one's: the answer is its own from here on."""
        self._running = running
        self._pending = running.pending
        self.outcome.finish_reason = running.finish_reason
        self._adopt(candidate, running)

    def _drop(self, running: Running) -> None:
        """An attempt that is not needed any more: it told nothing of its endpoint, and is paid for."""
        running.attempt.abort()
        running.admission.told_nothing()
        running.meter.settle(self._shared.estimator, None, is_complete=False)
