"""The short way of ``/v1/chat/completions``: what a relay brings is written to the caller from its callbacks, without a
task.

`ChatCompletions` tries it for routes. What fails before the first content goes on in `ChatCompletions` where the relay
left off. Trace, record, facts and headers are those of the ordinary way, by the same code. The invariant: the trace is
finished exactly once, here or by the ordinary way.
"""

from __future__ import annotations

import time
from typing import Protocol

import msgspec

from roadbed.gateway.answer_rules import RuledUnmasker
from roadbed.gateway.answer_stream import FirstTry
from roadbed.gateway.dialects.base import CallerDialect, CallerRequest
from roadbed.gateway.dialects.openai_server import text_completion
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.relay import Opening, Relay
from roadbed.gateway.route import Route
from roadbed.gateway.types import (
    CONTENT_EVENTS,
    Answer,
    Call,
    Cited,
    Event,
    ReasoningDelta,
    ReasoningSealed,
    TextDelta,
    TextEnded,
)
from roadbed.guard.finding import PRIVATE_IP
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import PUBLIC
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED, Trace
from roadbed.server.http import CHAT
from roadbed.server.reply import JSON_HEADER, Reply, label_header
from roadbed.server.running import RunningCalls
from roadbed.wire.request import HotRequest

RECORDED_CHARACTERS_MAX = 16_000
_encode_text = msgspec.json.Encoder().encode
SHOWN_EVENTS = (*CONTENT_EVENTS, ReasoningDelta, ReasoningSealed, TextEnded, Cited)
"""The events that a caller sees as they come."""

PASSED_OVER = frozenset({PRIVATE_IP})
"""Findings that are kept from no endpoint, and so from no short way."""


class RouteFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The ``roadbed`` object of a route's answer; ``continued`` where it broke off and went on so many times."""

    rung: str
    degraded: list[str]
    release: str
    trace: str
    endpoint: str
    continued: int = 0
    age_s: float | None = None
    labels: list[str] | None = None

    def aged(self, age_s: float) -> RouteFacts:
        """The same, of an answer that was given before, ``age_s`` ago."""
        return msgspec.structs.replace(self, age_s=round(age_s, 1))


class RouteRecord(msgspec.Struct, gc=False):
    """Question and answer on their way through the guard into the record. ``is_clean`` when the question's body held no
    finding.
    """

    guard: Guard
    question: str
    answer: str
    is_clean: bool
    is_answer_clean: bool = False

    def record(self, trace: Trace) -> None:
        """Write both into the trace, guarded."""
        guard, question = self.guard, self.question
        if self.is_clean:
            guarded = guard.for_record_of_clean(question[:RECORDED_CHARACTERS_MAX])
        else:
            guarded = guard.for_record(question, characters_max=RECORDED_CHARACTERS_MAX)
        trace.question = guarded
        trace.masked_count += guarded.masked_count
        if self.is_answer_clean:
            trace.answer = guard.for_record_of_clean(self.answer[:RECORDED_CHARACTERS_MAX])
        else:
            trace.answer = guard.for_record(self.answer, characters_max=RECORDED_CHARACTERS_MAX)


class RouteTurn(msgspec.Struct):
    """One request to a route, as both ways of answering it know it. ``is_clean`` when its body holds no finding,
    ``is_answer_clean`` when its whole answer holds none.
    """

    request: HotRequest
    incoming: CallerRequest
    route: Route
    call: Call
    trace: Trace
    release: str
    guard: Guard
    ledger: Ledger
    go_on: GoOn
    is_clean: bool = False
    is_answer_clean: bool = False

    def finish(self, answer_text: str, status: str, code: str) -> None:
        """Note what may be recorded, and hand the trace to the ledger."""
        trace = self.trace
        late = RouteRecord(self.guard, self.incoming.question(), answer_text, self.is_clean, self.is_answer_clean)
        trace.add_late(late)
        self.ledger.finish(trace, status=status, error_code=code)

    def facts(self, degraded: list[str], endpoint: str, continued: int = 0) -> RouteFacts:
        """What Roadbed says about the answer."""
        if self.trace.ticket is not None:
            degraded = [*self.trace.ticket.notes, *degraded]
        trace = self.trace
        labels = trace.label.words() if trace.label is not PUBLIC else None
        return RouteFacts(trace.rung or "full", degraded, self.release, trace.id, endpoint, continued, labels=labels)

    def refuse(self, error: RoadbedError, dialect: CallerDialect) -> None:
        """Answer that the request was sent nowhere, before anything else was written."""
        self.trace.rung = "refused"
        Reply(self.request, self.incoming, self.trace, self.release, dialect).failed(error)
        self.finish("", REFUSED, error.code)


class GoOn(Protocol):
    """The ordinary way, from an attempt on that was made already."""

    def __call__(self, turn: RouteTurn, first_try: FirstTry | None) -> None:
        """Begin it."""


class HotAnswer(Relay):
    """One relay, and what the caller is sent of it."""

    _reply: Reply | None = None
    _answer: Answer | None = None
    _whole: str | None = None
    _texts: tuple[str, ...] | list[str] = ()
    _text_frame: tuple[bytes, bytes] | None = None
    _rules: RuledUnmasker | None = None

    def __init__(self, opening: Opening, turn: RouteTurn, running: RunningCalls) -> None:
        self._opening = opening
        self._loop = opening.shared.client.loop
        self._turn = turn
        self._running = running

    def begin(self) -> None:
        """Send the request, and stop when the caller leaves or their access ends."""
        self.start()
        self._turn.request.on_disconnect(self._left)
        self._running.add(self._turn.call.principal.id, self)

    def end(self, error: RoadbedError) -> None:
        """The caller's access has ended: the answer does, too, and says so."""
        turn = self._turn
        turn.request.on_disconnect(None)
        self.abort()
        self._over()
        turn.trace.rung = "refused"
        self._replying().failed(error)
        turn.finish("".join(self._texts), REFUSED, error.code)

    # The relay's calls.

    def on_events(self, events: list[Event]) -> None:
        """Pass the events on, without secrets."""
        turn = self._turn
        if turn.guard.hides_secrets:
            rules = self._rules
            if rules is None:
                rules = self._rules = RuledUnmasker(turn.guard, Vault(), turn.call.principal, PUBLIC)
            events = [ruled for event in events for ruled in rules.feed(event)]
        self._take_in(events)

    def _take_in(self, events: list[Event]) -> None:
        turn = self._turn
        texts = self._texts if isinstance(self._texts, list) else []
        self._texts = texts
        shown: list[Event] = []
        for event in events:
            if type(event) is TextDelta:
                texts.append(event.text)
                shown.append(event)
            else:
                if self._answer is None:
                    self._answer = Answer()
                self._answer.add(event)
                if isinstance(event, SHOWN_EVENTS):
                    shown.append(event)
        if shown and turn.incoming.stream:
            self._replying().events(shown)
            if not turn.request.is_writable:
                self.pause()
                turn.request.on_drain(self.resume)

    def on_text(self, raw: bytes, text: str) -> None:
        """Pass a text on as it came, in a chunk of ours, less what may still become a secret."""
        turn, rules = self._turn, self._rules
        if rules is not None:
            feed = rules.feed_text
            if feed is None:
                self.on_events([TextDelta(text)])
                return
            said = feed(text)
            if not said:
                return
            if said is not text:
                raw, text = _encode_text(said)[1:-1], said
        self._texts.append(text)  # type: ignore[union-attr]  # a text came before
        if turn.incoming.stream:
            frame, request = self._text_frame, turn.request
            if frame is None:
                frame = self._text_frame = self._replying().text_frame()
            if frame is None:  # all that came before is held back, so this text begins the reply
                self._replying().events([TextDelta(text)])
                is_writable = request.is_writable
            else:
                is_writable = request.write(frame[0] + raw + frame[1])
            if not is_writable:
                self.pause()
                request.on_drain(self.resume)

    def on_whole(self, text: str) -> None:
        """The whole answer is one text."""
        guard = self._turn.guard
        if guard.hides_secrets:
            text, self._turn.is_answer_clean = guard.answer_without_secrets(text)
        if self._turn.incoming.stream:
            self._take_in([TextDelta(text)])
        else:
            self._whole = text

    def on_finished(self) -> None:
        """Write the end, or all of it."""
        self._over()
        turn, way, trace = self._turn, self._opening.first.way, self._turn.trace
        trace.rung, trace.label = way.rung, way.route.label
        text = self._whole
        assert self.finish_reason is not None
        if text is not None:
            facts = turn.facts(self.missing, way.endpoint.name)
            body = text_completion(
                trace.id, int(time.time()), turn.incoming.model, text, self.finish_reason, self.usage, facts
            )
            # Letters and digits by their makers, so they cannot break the head.
            head = f"x-roadbed-release: {turn.release}\r\nx-roadbed-trace: {trace.id}\r\nx-roadbed-rung: {way.rung}\r\n"
            limits = trace.ticket.headers if trace.ticket is not None else b""
            if trace.label is not PUBLIC:
                limits += label_header(trace.label)
            turn.request.send(200, JSON_HEADER + head.encode("ascii") + limits, body)
        else:
            answer = self._answer if self._answer is not None else Answer()
            self._whole = answer.text = "".join(self._texts)
            answer.usage, answer.finish_reason = self.usage, self.finish_reason
            self._replying().finished(answer, [], turn.facts(self.missing, way.endpoint.name))

    def on_booked(self) -> None:
        """Hand the trace over."""
        self._turn.finish(self._whole or "", OK, "")

    def on_failed(self, tried: FirstTry | None) -> None:
        """Nothing was written: the ordinary way goes on from here."""
        self._over()
        self._turn.request.on_disconnect(None)
        self._turn.go_on(self._turn, tried)

    def on_cut(self, error: StreamCut) -> None:
        """The caller's answer is not whole, and that is said."""
        self._over()
        turn = self._turn
        turn.request.on_disconnect(None)
        turn.trace.rung = "refused"
        self._replying().failed(error)
        turn.finish("".join(self._texts), FAILED, error.code)

    def on_crashed(self, error: Exception) -> None:
        """A fault of our own: said as such, and logged by the server's rule."""
        self._over()
        turn = self._turn
        turn.request.on_disconnect(None)
        turn.request.fail(error)
        turn.trace.rung = "refused"
        turn.ledger.finish(turn.trace, status=FAILED, error_code=type(error).__name__)

    def _over(self) -> None:
        self._running.discard(self)

    def _left(self) -> None:
        self._over()
        self.abort()
        self._turn.finish("".join(self._texts), CANCELLED, "client_left")

    def _replying(self) -> Reply:
        if self._reply is None:
            turn = self._turn
            if self._is_committed:
                way = self._opening.first.way
                turn.trace.rung, turn.trace.label = way.rung, way.route.label
            self._reply = Reply(turn.request, turn.incoming, turn.trace, turn.release, CHAT)
        return self._reply
