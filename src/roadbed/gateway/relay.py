"""The short way of an answer: a caller's bytes go to an endpoint of the same dialect, and its answer comes back by
callbacks, without a task.

Taken by `Gateway.relay` for requests that need no masking. It makes the first attempt of a route's walk, under the
same limits, health and settlement as `AnswerStream`; what fails before the first content is handed back as a
`FirstTry`, from which an `AnswerStream` goes on. It writes to no caller: its listener does. The invariant: exactly
one of ``on_failed``, ``on_cut``, ``on_finished`` and ``on_crashed`` ends it, unless the caller aborts; by then health
and settlement have been told once.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from roadbed.gateway.answer_stream import FirstTry, Surroundings, earlier
from roadbed.gateway.attempt import (
    ANSWER_CHARACTERS_MAX,
    TRAILER_S,
    AttemptLimits,
    failure_of_response,
    failure_of_wire,
    limits_for,
    upstream_request,
)
from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import ERROR_BODY_BYTES_MAX
from roadbed.gateway.dialects.openai_chat import OpenAIChat, OpenAIDecoder, WholeText, whole_text
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.errors import NoCandidate, StreamCut, UpstreamError
from roadbed.gateway.health import Admission
from roadbed.gateway.route import Candidate, Route, may_take, plan
from roadbed.gateway.settlement import AttemptMeter, commit
from roadbed.gateway.splice import spliced
from roadbed.gateway.types import CONTENT_EVENTS, Call, Event, Finished, FinishReason, Outcome, ReasoningDelta
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import Label
from roadbed.wire.errors import EventTooLarge, ResponseTimeout, UpstreamFailed
from roadbed.wire.exchange import Exchange, ResponseHead
from roadbed.wire.sse import SseEvent, SseParser

PATH = "/chat/completions"
_DIALECT = OpenAIChat()


class RelayListener(Protocol):
    """Who is given the answer. Called from the loop, never from inside `begin`."""

    def on_events(self, events: list[Event]) -> None:
        """The next events; the first call has content in it, or the whole answer has none."""

    def on_whole(self, text: str, reason: FinishReason) -> None:
        """In place of all events: the answer is this one text. `on_finished` follows."""

    def on_finished(self) -> None:
        """The answer is whole."""

    def on_failed(self, tried: FirstTry) -> None:
        """The attempt failed and nothing was given yet: go on from here."""

    def on_cut(self, error: StreamCut) -> None:
        """The answer broke off after events were given."""

    def on_crashed(self, error: Exception) -> None:
        """The relay or its listener raised what nobody expected."""


class _Nobody:
    """Takes the place of a listener that has been told the end: they hold each other, and are freed at once so."""

    def on_events(self, events: list[Event]) -> None: ...

    def on_whole(self, text: str, reason: FinishReason) -> None: ...

    def on_finished(self) -> None: ...

    def on_failed(self, tried: FirstTry) -> None: ...

    def on_cut(self, error: StreamCut) -> None: ...

    def on_crashed(self, error: Exception) -> None: ...


_NOBODY = _Nobody()


class _Way(msgspec.Struct, frozen=True):
    """Where the first attempt goes, and with which bytes."""

    candidate: Candidate
    body: bytes
    rungs_left: int
    skipped: tuple[str, ...]


class Relay:
    """One attempt under way, driven by its exchange. `begin` makes it."""

    __slots__ = (
        "_admission", "_body", "_candidate", "_deadline", "_decoder", "_end_by_s", "_exchange",
        "_held", "_is_committed", "_is_done", "_is_paused", "_is_stream", "_limits", "_listener", "_loop", "_meter",
        "_parser", "_route", "_shared", "_trace", "finished", "first_event_at_s", "head", "outcome",
    )  # fmt: skip

    def __init__(
        self,
        shared: Surroundings,
        route: Route,
        way: _Way,
        call: Call,
        deadline: Deadline,
        admission: Admission,
        listener: RelayListener,
    ) -> None:
        candidate = way.candidate
        self._loop = shared.client.loop
        now_s = self._loop.time()
        self._limits: AttemptLimits = limits_for(deadline, candidate.endpoint, way.rungs_left, now_s)
        self._end_by_s = self._limits.end_by_s
        self._shared = shared
        self._route = route
        self._candidate = candidate
        self._deadline = deadline
        self._admission = admission
        self._listener = listener
        self._trace = call.trace
        self._decoder: OpenAIDecoder | None = None
        self._parser: SseParser | None = None
        self._body: list[bytes] = []
        self._held: list[Event] = []
        self._exchange: Exchange | None = None
        self._is_stream = self._is_committed = self._is_done = self._is_paused = False
        self.head: ResponseHead | None = None
        self.first_event_at_s: float | None = None
        self.finished = False
        self.outcome = Outcome(route.name, skipped=list(way.skipped))
        self._meter = AttemptMeter(self.outcome, candidate.endpoint, self, len(way.body), call.trace, self._loop)

    def start(self, body: bytes, *, stream: bool) -> None:
        """Send the request. Of a body that comes whole, all of the answer's time may pass before its head."""
        limits, endpoint = self._limits, self._candidate.endpoint
        key = b"authorization: Bearer %b\r\n" % endpoint.key.reveal().encode() if endpoint.key is not None else b""
        try:
            request = upstream_request(endpoint, PATH, b"content-type: application/json\r\n" + key, body)
            head_by_s = limits.first_event_by_s if stream else limits.end_by_s
            self._exchange = self._shared.client.send(request, self, limits.connect_by_s, head_by_s, limits.end_by_s)
        except ConfigError as error:
            self._loop.call_soon(self._fail, UpstreamError("fault", error.message, was_sent=False))

    def abort(self) -> None:
        """The caller left: the upstream connection is closed at once. Safe to call at any time."""
        if self._is_done:
            return
        self._leave()
        self._admission.told_nothing()
        self.outcome.cut_by = "caller"
        self._listener = _NOBODY
        self._meter.settle(self._shared.estimator, None, is_complete=False)

    def pause(self) -> None:
        """The caller reads slower than the answer comes."""
        if self._exchange is not None and not self._is_paused and not self._is_done:
            self._is_paused = True
            self._exchange.complete_by = self._end_by_s
            self._exchange.pause_reading()

    def resume(self) -> None:
        """The caller reads again."""
        if self._exchange is not None and self._is_paused:
            self._is_paused = False
            self._moved()
            self._exchange.resume_reading()

    # The exchange's calls.

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers are here."""
        self.head = head
        if head.status != 200:
            return
        kind = (head.get(b"content-type") or b"").lower()
        if kind.startswith(b"text/event-stream"):
            self._is_stream = True
            self._parser, self._decoder = SseParser(), OpenAIDecoder()
            if self._exchange is not None:
                self._exchange.complete_by = min(self._limits.first_event_by_s, self._end_by_s)
        elif not kind.startswith(b"application/json"):
            self._fail(malformed("it is neither an event stream nor JSON"))

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""
        if not self._is_done:
            try:
                self._take(data)
            except Exception as error:
                self._crash(error)

    def on_complete(self) -> None:
        """The body is whole."""
        self._exchange = None
        if not self._is_done:
            try:
                self._take_end()
            except Exception as error:
                self._crash(error)

    def on_error(self, error: UpstreamFailed) -> None:
        """The exchange failed, or its time is over."""
        self._exchange = None
        if not self._is_done:
            try:
                self._take_error(error)
            except Exception as crash:
                self._crash(crash)

    # Inside.

    def _take(self, data: bytes) -> None:
        if self._parser is not None:
            try:
                sse_events = self._parser.feed(data)
            except EventTooLarge:
                self._fail(malformed("an event is over the size limit"))
                return
            self._take_stream(sse_events)
            return
        self._body.append(data)
        if self.head is not None and self.head.status != 200 and sum(map(len, self._body)) > ERROR_BODY_BYTES_MAX:
            self._fail(failure_of_response(self.head, b"".join(self._body)))

    def _take_end(self) -> None:
        if self._parser is not None:
            self._take_stream(self._parser.finish())
        else:
            self._take_body()
        if not self._is_done:
            self._end()

    def _take_error(self, error: UpstreamFailed) -> None:
        if self.finished:
            self._end()
        elif self.head is not None and self.head.status != 200:
            self._fail(failure_of_response(self.head, b"".join(self._body)))
        elif isinstance(error, ResponseTimeout):
            self._fail(self._timeout())
        else:
            self._fail(failure_of_wire(error))

    def _take_body(self) -> None:
        assert self.head is not None
        body = b"".join(self._body)
        if self.head.status != 200:
            self._fail(failure_of_response(self.head, body))
            return
        whole = whole_text(body)
        if whole is not None:
            self._pass_on_whole(whole)
            return
        try:
            self._pass_on(_DIALECT.decode_body(body))
        except UpstreamError as error:
            self._fail(error)

    def _pass_on_whole(self, whole: WholeText) -> None:
        """`_pass_on` for an answer that is one text."""
        self._meter.saw_whole(whole.text, whole.usage)
        self.finished = True
        self.outcome.finish_reason = whole.reason
        self.first_event_at_s = self._loop.time()
        self._commit()
        self._listener.on_whole(whole.text, whole.reason)

    def _take_stream(self, sse_events: list[SseEvent]) -> None:
        decoder = self._decoder
        assert decoder is not None
        events: list[Event] = []
        failure: UpstreamError | None = None
        try:
            for sse_event in sse_events:
                events += decoder.feed(sse_event)
        except UpstreamError as error:
            failure = error
        if events:
            self._pass_on(events)
        if self._is_done:
            return
        if failure is not None and not self.finished:
            self._fail(failure)
        elif self.finished and (decoder.is_over or failure is not None):
            self._end()

    def _pass_on(self, events: list[Event]) -> None:
        """Count what came, keep the clock, and give it on once there is content in it."""
        has_content = is_progress = False
        saw = self._meter.saw
        for event in events:
            saw(event)
            kind = type(event)
            if kind in CONTENT_EVENTS:
                has_content = is_progress = True
            elif kind is ReasoningDelta:
                is_progress = True
            elif isinstance(event, Finished):
                self.finished = True
                self.outcome.finish_reason = event.reason
        if not self._is_committed:
            events = self._held + events if self._held else events
            if has_content or self.finished:
                self._commit()
            else:
                self._held = events
        if is_progress or self.finished:
            self._moved(is_progress)
        if self._is_committed:
            self._listener.on_events(events)
            if self._meter.bytes_out > ANSWER_CHARACTERS_MAX and not self.finished:
                self._fail(malformed("it is over the size limit"))

    def _moved(self, is_progress: bool = False) -> None:
        """Something came: the next limit counts from now."""
        now_s = self._loop.time()
        if is_progress and self.first_event_at_s is None:
            self.first_event_at_s = now_s
        if self._exchange is not None:
            stall_s = TRAILER_S if self.finished else self._limits.stall_s
            self._exchange.complete_by = min(now_s + stall_s, self._end_by_s)

    def _commit(self) -> None:
        self._is_committed, self._held = True, []
        commit(self.outcome, self._route, self._candidate, self._trace)
        self._end_by_s = self._loop.time() + self._deadline.remaining_s()

    def _timeout(self) -> UpstreamError:
        if self._loop.time() >= self._end_by_s:
            return UpstreamError("timeout", "the time for an answer was over")
        said = "it sent no first token in time" if self.first_event_at_s is None else "it fell silent in its answer"
        return UpstreamError("timeout", said)

    def _end(self) -> None:
        """The answer has ended; whether it is whole, its finish says."""
        if not self.finished:
            self._fail(cut())
            return
        self._is_done = True
        self.outcome.is_complete = True
        self._admission.succeeded(self._meter.first_event_s)
        self._meter.settle(self._shared.estimator, None, is_complete=True)
        self._listener.on_finished()
        self._listener = _NOBODY

    def _fail(self, error: UpstreamError) -> None:
        """The attempt failed, before or after the first content."""
        if self._is_done:
            return
        self._leave()
        if not self._is_committed:
            self._admission.failed(error)
            self._meter.settle(self._shared.estimator, error, is_complete=False)
            self._listener.on_failed(FirstTry(self._candidate.endpoint.name, error, self.outcome))
            self._listener = _NOBODY
            return
        is_late = self._deadline.has_passed()
        self.outcome.cut_by = "deadline" if is_late else error.failure
        if is_late:
            self._admission.told_nothing()
        else:
            self._admission.failed(error)
        self._meter.settle(self._shared.estimator, error, is_complete=False)
        why = "the request's deadline passed" if is_late else error.reason
        self._listener.on_cut(StreamCut(f"the answer of {self.outcome.endpoint} broke off: {why}"))
        self._listener = _NOBODY

    def _crash(self, error: Exception) -> None:
        """Our own code failed: this request fails, and the connection's callbacks stay whole."""
        self._leave()
        self._admission.told_nothing()
        self._meter.settle(self._shared.estimator, None, is_complete=False)
        self._listener.on_crashed(error)
        self._listener = _NOBODY

    def _leave(self) -> None:
        self._is_done = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abort()


def begin(
    shared: Surroundings, route: Route, incoming: Incoming, body: bytes, call: Call, listener: RelayListener
) -> Relay | None:
    """Send a request that needs no masking on its short way. None when it has to go the ordinary one.

    A caller who does not stream is served from one body only where no other endpoint could take over: a stream alone
    shows early that an endpoint hangs.
    """
    try:
        candidate, rungs_left, skipped = _first(shared, route, call.label.join(route.label))
    except NoCandidate:
        return None
    if candidate is None or candidate.endpoint.dialect != "openai":
        return None
    endpoint = candidate.endpoint
    state = shared.health.of(endpoint.name)
    if state.breaker.phase != "closed":
        return None
    is_stream = incoming.stream or rungs_left > 0
    sent = spliced(body, incoming, endpoint, stream=is_stream)
    deadline = earlier(call.deadline, route.deadline_s)
    if sent is None or deadline.has_passed():
        return None
    way = _Way(candidate, sent, rungs_left, skipped)
    relay = Relay(shared, route, way, call, deadline, shared.health.admit_closed(state), listener)
    relay.start(sent, stream=is_stream)
    return relay


def _first(shared: Surroundings, route: Route, label: Label) -> tuple[Candidate | None, int, tuple[str, ...]]:
    """The first of a route's candidates, how many come after it, and who was left out before. Raises `NoCandidate`."""
    ladder = route.ladder
    if len(ladder) == 1:  # most routes: who is left out of these leaves nobody
        only = ladder[0]
        is_free = not only.fault and may_take(only, label) and not shared.why_unavailable(only)
        return (Candidate(only, 0) if is_free else None), 0, ()
    chosen = plan(route, label, shared.why_unavailable)
    return (chosen.candidates[0] if chosen.candidates else None), len(chosen.candidates) - 1, chosen.skipped
