"""The short way of an answer: a caller's bytes go to an endpoint of the same dialect, and its answer comes back by
callbacks, without a task.

Taken for requests that need no masking (`open_relay` says whether). It makes the first attempt of a route's walk,
under the same limits, health and settlement as `AnswerStream`; what fails before the first content is handed back as a
`FirstTry`, from which an `AnswerStream` goes on. It writes to no caller: the class that extends it does, so that one
request is one object. The invariant: exactly one of ``on_failed``, ``on_cut``, ``on_finished`` and ``on_crashed`` ends
it, unless the caller aborts; by then health and settlement have been told once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from roadbed.gateway.affording import bounded, microusd
from roadbed.gateway.answer_stream import FirstTry, Surroundings
from roadbed.gateway.attempt import (
    ANSWER_CHARACTERS_MAX,
    CONNECT_S_MAX,
    CONNECT_SHARE,
    MIN_USEFUL_S,
    TRAILER_S,
    failure_of_response,
    failure_of_wire,
)
from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import ERROR_BODY_BYTES_MAX
from roadbed.gateway.dialects.openai_chat import OpenAIChat, OpenAIDecoder, whole_text
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.errors import SILENT, StreamCut, UpstreamError
from roadbed.gateway.haste import waited_s
from roadbed.gateway.health import Admission
from roadbed.gateway.route import Route
from roadbed.gateway.settlement import TEXT_EVENTS, AttemptMeter, call_facts, commit
from roadbed.gateway.splice import outgoing
from roadbed.gateway.text_frame import TextFrame, learn_frame
from roadbed.gateway.types import (
    CONTENT_EVENTS,
    NO_USAGE,
    Call,
    Event,
    Finished,
    FinishReason,
    Outcome,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.gateway.ways import First
from roadbed.ledger.budget import Reservation
from roadbed.wire.errors import ConnectTimeout, EventTooLarge, ResponseTimeout, UpstreamFailed
from roadbed.wire.exchange import Exchange, ResponseHead, UpstreamRequest
from roadbed.wire.sse import SseEvent, SseParser

FRAMES_MAX = 8
"""How often a stream's frame is learned: one that is another for each chunk is not worth it."""

_DIALECT = OpenAIChat()


class Opening(msgspec.Struct, frozen=True):
    """A first attempt that can be made at once: where it goes, with which bytes, until when.

    ``texts`` is the part of ``body`` that holds what the caller wrote: the guard must have looked at it before. It is
    text where its escapes are undone.
    ``is_whole`` where the caller waits for all of the answer, so that nothing is lost while it is not whole.
    """

    shared: Surroundings
    first: First
    body: bytes
    texts: str | bytes
    is_stream: bool
    call: Call
    worth_microusd: int = 0
    is_whole: bool = False


def open_relay(shared: Surroundings, route: Route, incoming: Incoming, body: bytes, call: Call) -> Opening | None:
    """Whether a request that needs no masking can go its short way. None when it has to go the ordinary one.

    A caller who does not stream is served from one body only where no other endpoint could take over: a stream alone
    shows early that an endpoint hangs.
    """
    first = shared.ways.first(route, call.label)
    if first is None:
        return None
    is_stream = incoming.stream or first.rungs_left > 0
    sent = outgoing(body, incoming, first.way.endpoint, stream=is_stream)
    if sent is None or call.deadline.has_passed():
        return None
    if call.trace is not None and call.trace.purse is not None:
        bound = bounded(sent, incoming, first.way.endpoint)
        if bound is None:
            return None
        return Opening(shared, first, *bound[0], is_stream, call, bound[1], not incoming.stream)
    return Opening(shared, first, sent[0], sent[1], is_stream, call, 0, not incoming.stream)


class Relay(ABC):
    """One attempt under way, driven by its exchange. ``usage`` is final when `on_finished` is called."""

    # Defaults on the class: setting all of them on each request would cost a microsecond.
    head: ResponseHead | None = None
    first_event_at_s: float | None = None
    finish_reason: FinishReason | None = None
    usage: Usage = NO_USAGE
    _parser: SseParser | None = None
    _decoder: OpenAIDecoder | None = None
    _exchange: Exchange | None = None
    _body: list[bytes] | tuple[()] = ()
    _held: tuple[Event, ...] = ()
    _frame: TextFrame | None = None
    _is_stream = _is_committed = _is_done = _is_paused = _has_reported = _is_unpaid = False
    _hold: Reservation | None = None
    _body_bytes = _bytes_out = _started_us = 0
    _frames_left = FRAMES_MAX
    _stall_s = 0.0

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._loop = opening.shared.client.loop

    # What the class that extends it does with the answer. Called from the loop, never from inside `start`.

    @abstractmethod
    def on_events(self, events: list[Event]) -> None:
        """The next events; the first call has content in it, or the whole answer has none."""

    def on_text(self, raw: bytes, text: str) -> None:
        """A `TextDelta` after the first content, alone; ``raw`` is the text as JSON without its quotes."""
        self.on_events([TextDelta(text)])

    @abstractmethod
    def on_whole(self, text: str) -> None:
        """In place of all events: the answer is this one text. `on_finished` follows."""

    @abstractmethod
    def on_finished(self) -> None:
        """The answer is whole: send it or its end, before it is booked."""

    @abstractmethod
    def on_booked(self) -> None:
        """What the whole answer took is in its trace, and its place given back."""

    @abstractmethod
    def on_failed(self, tried: FirstTry | None) -> None:
        """The attempt failed and nothing was given yet, or there was no money for it at once: go on from here. What a
        caller who waits for all of it was given is void.
        """

    @abstractmethod
    def on_cut(self, error: StreamCut) -> None:
        """The answer broke off after events were given."""

    @abstractmethod
    def on_crashed(self, error: Exception) -> None:
        """The relay or what extends it raised what nobody expected."""

    # The owner's side.

    def start(self) -> None:
        """Send the request. Of a body that comes whole, all of the answer's time may pass before its head."""
        opening = self._opening
        first, shared, call = opening.first, opening.shared, opening.call
        if opening.worth_microusd and not self._reserve():
            return
        way, rungs_left = first.way, first.rungs_left
        now_s = self._started_s = self._loop.time()
        if call.trace is not None:
            self._started_us = call.trace.now_us()
        # The loop's clock is the deadline's.
        deadline_s, route_by_s = call.deadline.at_s, now_s + way.route.deadline_s
        if route_by_s < deadline_s:
            deadline_s = route_by_s
        self._deadline_s = end_by_s = deadline_s
        left_s = deadline_s - now_s
        if rungs_left:  # one that hangs leaves the others their time, as in `limits_for`
            end_by_s = now_s + max(left_s - MIN_USEFUL_S * rungs_left, left_s / (rungs_left + 1))
        self._end_by_s = end_by_s
        first_by_s = now_s + way.endpoint.first_event_s
        self._first_by_s = first_by_s = first_by_s if first_by_s < end_by_s else end_by_s
        connect_s = CONNECT_SHARE * left_s
        connect_by_s = now_s + (connect_s if connect_s < CONNECT_S_MAX else CONNECT_S_MAX)
        shared.health.take(way.state)
        request = UpstreamRequest(b"POST", way.url, b"", opening.body, way.trust, way.endpoint.name, way.rendered)
        exchange = shared.client.send(
            request,
            self,
            connect_by_s if connect_by_s < end_by_s else end_by_s,
            first_by_s if opening.is_stream else end_by_s,
            end_by_s,
            way.pool,
        )
        exchange.on_response = self.on_response
        self._exchange = exchange

    def _reserve(self) -> bool:
        """Hold what the call may cost; without room for it the ordinary way waits for more."""
        trace = self._opening.call.trace
        assert trace is not None
        assert trace.purse is not None
        self._hold = trace.purse.reserve(self._opening.worth_microusd)
        if self._hold is not None:
            return True
        self._is_done = self._is_unpaid = True
        self._loop.call_soon(self._go_on_unpaid)
        return False

    def _go_on_unpaid(self) -> None:
        if self._is_unpaid:
            self.on_failed(None)

    def abort(self) -> None:
        """The caller left: the upstream connection is closed at once. Safe to call at any time."""
        self._is_unpaid = False
        if not self._is_done:
            self._leave()
            self._admission().told_nothing()
            self._settle(None)

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
            self._moved(self._loop.time())
            self._exchange.resume_reading()

    @property
    def missing(self) -> list[str]:
        """The endpoints that were passed over on the way to a lower rung."""
        first = self._opening.first
        return list(first.skipped) if first.way.rung != "full" else []

    # The exchange's calls.

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers are here."""
        self.head = head
        if head.status != 200:
            return
        kind = head.content_type
        if kind.startswith(b"text/event-stream"):
            self._is_stream = True
            self._parser, self._decoder = SseParser(), OpenAIDecoder()
            if self._exchange is not None:
                self._exchange.complete_by = self._first_by_s
        elif not kind.startswith(b"application/json"):
            self._fail(malformed("it is neither an event stream nor JSON"))

    def on_data(self, data: bytes) -> None:
        """A piece of the body."""
        if self._is_done:
            return
        try:
            frame = self._frame
            if frame is None or (found := frame.text_in(data)) is None:
                self._take(data)
                return
            # More chunks of text: passed on as `_take` would, but as one.
            raw, text = found
            exchange = self._exchange
            if exchange is not None:
                moved_s = self._loop.time() + self._stall_s
                exchange.complete_by = moved_s if moved_s < self._end_by_s else self._end_by_s
            self._bytes_out = count = self._bytes_out + len(text)
            self.on_text(raw, text)
            if count > ANSWER_CHARACTERS_MAX:
                self._fail(malformed("it is over the size limit"))
        except Exception as error:
            self._crash(error)

    def on_complete(self) -> None:
        """The body is whole."""
        self._exchange = None
        if not self._is_done:
            try:
                if self._parser is not None:
                    self._take_stream(self._parser.finish())
                    if not self._is_done:
                        self._end()
                else:
                    self._take_body(b"".join(self._body))
            except Exception as error:
                self._crash(error)

    def on_response(self, head: ResponseHead, body: bytes) -> None:
        """All of the response, in place of the calls above."""
        if head.status != 200 or not head.content_type.startswith(b"application/json"):
            self.on_head(head)
            self.on_data(body)
            self.on_complete()
            return
        self._exchange, self.head = None, head
        try:
            self._take_body(body)
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

    def _learn(self, parser: SseParser, data: bytes, count: int) -> None:
        """Know the next chunks of text by what stands around the text of the last one."""
        if not (parser.is_between_events and self._is_committed and self.finish_reason is None):
            self._frame = None
        elif count and self._frames_left:
            self._frames_left -= 1
            self._frame = learn_frame(data)
            self._stall_s = self._opening.first.way.endpoint.stall_s

    def _take(self, data: bytes) -> None:
        if self._parser is not None:
            try:
                sse_events = self._parser.feed(data)
            except EventTooLarge:
                self._fail(malformed("an event is over the size limit"))
                return
            self._take_stream(sse_events)
            self._learn(self._parser, data, len(sse_events))
            return
        body = self._body = self._body or []
        body.append(data)
        self._body_bytes += len(data)
        if self.head is not None and self.head.status != 200 and self._body_bytes > ERROR_BODY_BYTES_MAX:
            self._fail(failure_of_response(self.head, b"".join(body)))

    def _take_error(self, error: UpstreamFailed) -> None:
        if self.finish_reason is not None:
            self._end()
        elif self.head is not None and self.head.status != 200:
            self._fail(failure_of_response(self.head, b"".join(self._body)))
        elif isinstance(error, ResponseTimeout):
            self._fail(self._timeout())
        elif isinstance(error, ConnectTimeout):
            is_own = CONNECT_SHARE * (self._deadline_s - self._started_s) >= CONNECT_S_MAX
            self._fail(failure_of_wire(error, self._waited_s(is_own_limit=is_own)))
        else:
            is_own = self._opening.is_stream and self._first_by_s < self._end_by_s
            self._fail(failure_of_wire(error, self._waited_s(is_own_limit=is_own)))

    def _take_body(self, body: bytes) -> None:
        """The whole body of a response that is no stream: the end, in any case."""
        head = self.head
        assert head is not None
        if head.status != 200:
            self._fail(failure_of_response(head, body))
            return
        whole = whole_text(body)
        if whole is None:
            try:
                self._pass_on(_DIALECT.decode_body(body))
            except UpstreamError as error:
                self._fail(error)
            if not self._is_done:
                self._end()
            return
        text, self.finish_reason, usage = whole
        self._bytes_out = len(text)
        if usage is not None:
            self.usage, self._has_reported = usage, True
        self.first_event_at_s = self._loop.time()
        self._commit()
        self.on_whole(text)
        self._end()

    def _take_stream(self, sse_events: list[SseEvent]) -> None:
        decoder = self._decoder
        assert decoder is not None
        failure: UpstreamError | None = None
        events: list[Event] = []
        try:
            for sse_event in sse_events:
                events += decoder.feed(sse_event)
        except UpstreamError as error:
            failure = error
        if events:
            self._pass_on(events)
        if self._is_done:
            return
        if failure is not None and self.finish_reason is None:
            self._fail(failure)
        elif self.finish_reason is not None and (decoder.is_over or failure is not None):
            self._end()

    def _pass_on(self, events: list[Event]) -> None:
        """Count what came, keep the clock, and give it on once there is content in it."""
        has_content = is_progress = False
        for event in events:
            kind = type(event)
            if kind is TextDelta:
                self._bytes_out += len(event.text)  # type: ignore[union-attr]
                has_content = True
            else:
                self._count(event)
                has_content = has_content or kind in CONTENT_EVENTS
                is_progress = is_progress or kind is ReasoningDelta
        if not self._is_committed:
            events = [*self._held, *events] if self._held else events
            if has_content or self.finish_reason is not None:
                self._held = ()
                self._commit()
            else:
                self._held = tuple(events)
        if has_content or is_progress or self.finish_reason is not None:
            now_s = self._loop.time()
            if self.first_event_at_s is None and (has_content or is_progress):
                self.first_event_at_s = now_s
            self._moved(now_s)
        if self._is_committed:
            self.on_events(events)
            if self._bytes_out > ANSWER_CHARACTERS_MAX and self.finish_reason is None:
                self._fail(malformed("it is over the size limit"))

    def _count(self, event: Event) -> None:
        if isinstance(event, TEXT_EVENTS):
            self._bytes_out += len(event.text)
        elif isinstance(event, ToolCallDelta):
            self._bytes_out += len(event.name) + len(event.arguments)
        elif isinstance(event, UsageReported):
            self.usage, self._has_reported = event.usage, True
        elif isinstance(event, Finished):
            self.finish_reason = event.reason

    def _moved(self, now_s: float) -> None:
        """Something came: the next limit counts from now."""
        if self._exchange is not None:
            stall_s = TRAILER_S if self.finish_reason is not None else self._opening.first.way.endpoint.stall_s
            self._exchange.complete_by = min(now_s + stall_s, self._end_by_s)

    def _commit(self) -> None:
        self._is_committed = True
        opening = self._opening
        if opening.call.trace is not None:
            opening.call.trace.model = opening.first.way.endpoint.name
        if not opening.is_whole:
            self._end_by_s = self._deadline_s

    def _timeout(self) -> UpstreamError:
        if self._loop.time() >= self._end_by_s:
            waited = self._waited_s(is_own_limit=False)
            return UpstreamError("timeout", "the time for an answer was over", waited_s=waited)
        if self.first_event_at_s is not None:
            return UpstreamError("timeout", SILENT)
        waited = self._waited_s(is_own_limit=self._first_by_s < self._end_by_s)
        return UpstreamError("timeout", "it sent no first token in time", waited_s=waited)

    def _waited_s(self, *, is_own_limit: bool) -> float | None:
        has_begun = self.first_event_at_s is not None
        return waited_s(self._started_s, self._loop.time(), is_own_limit=is_own_limit, has_begun=has_begun)

    # The end.

    def _end(self) -> None:
        """The answer has ended; whether it is whole, its finish says."""
        if self.finish_reason is None:
            self._fail(cut())
            return
        self._is_done = True
        opening = self._opening
        shared, way = opening.shared, opening.first.way
        endpoint = way.endpoint
        trace, started_us = opening.call.trace, self._started_us
        took_us = trace.now_us() - started_us if trace is not None else 0
        reported = self.usage if self._has_reported else None
        usage = self.usage = shared.estimator.settle(
            endpoint.model, reported, len(opening.body), self._bytes_out, is_complete=True
        )
        try:
            self.on_finished()
        finally:
            first_s = None if self.first_event_at_s is None else self.first_event_at_s - self._started_s
            shared.health.succeeded(way.state, first_s)
            price = endpoint.price
            cost_picousd = 0 if price is None or price.is_free else price.cost_picousd(usage)
            if self._hold is not None and price is not None:
                self._hold.settle(microusd(cost_picousd))
            if trace is not None:
                trace.note_call(call_facts(way.route.name, endpoint, usage, cost_picousd, started_us, took_us, first_s))
        self.on_booked()

    def _fail(self, error: UpstreamError) -> None:
        """The attempt failed, before or after the first content."""
        if self._is_done:
            return
        self._leave()
        endpoint = self._opening.first.way.endpoint
        if not self._is_committed or self._opening.is_whole:
            self._is_committed = False
            self._admission().failed(error)
            self.on_failed(FirstTry(endpoint.name, error, self._settle(error), self._deadline_s))
            return
        is_late = self._loop.time() >= self._deadline_s
        if is_late:
            self._admission().told_nothing()
        else:
            self._admission().failed(error)
        self._settle(error)
        why = "the request's deadline passed" if is_late else error.reason
        self.on_cut(StreamCut(f"the answer of {endpoint.name} broke off: {why}"))

    def _crash(self, error: Exception) -> None:
        """Our own code failed: this request fails, and the connection's callbacks stay whole."""
        if not self._is_done:
            self._leave()
            self._admission().told_nothing()
            self._settle(None)
        self.on_crashed(error)

    def _leave(self) -> None:
        self._is_done = True
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abort()

    def _admission(self) -> Admission:
        """The place that `start` took, to be given back as anything but a success."""
        return Admission(self._opening.shared.health, self._opening.first.way.state)

    def _settle(self, error: UpstreamError | None) -> Outcome:
        """Settle an attempt that did not end well, as the ordinary way does."""
        opening = self._opening
        first, shared, trace = opening.first, opening.shared, opening.call.trace
        outcome = Outcome(first.way.route.name, skipped=list(first.skipped))
        if self._is_committed:
            commit(outcome, first.way.route, first.way.candidate, trace)
        meter = AttemptMeter(outcome, first.way.endpoint, self, len(opening.body), trace, self._loop)
        meter.began(self._started_s, self._started_us)
        meter.bytes_out = self._bytes_out
        meter.hold = self._hold
        if self._has_reported:
            meter.saw(UsageReported(self.usage))
        meter.settle(shared.estimator, error, is_complete=False)
        return outcome
