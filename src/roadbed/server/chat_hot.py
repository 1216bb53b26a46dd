"""The short way of ``/v1/chat/completions``: what a relay brings is written to the caller from its callbacks, without a
task.

`ChatCompletions` tries it for routes. What fails before the first content goes on in `ChatCompletions` where the relay
left off. Trace, record, facts and headers are those of the ordinary way, by the same code. The invariant: the trace is
finished exactly once, here or by the ordinary way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from roadbed.gateway.answer_stream import FirstTry
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.errors import StreamCut
from roadbed.gateway.relay import Relay
from roadbed.gateway.route import Route
from roadbed.gateway.types import CONTENT_EVENTS, Answer, Call, Event, FinishReason, Outcome, ReasoningDelta, TextDelta
from roadbed.guard.finding import PRIVATE_IP
from roadbed.guard.gate import Guard
from roadbed.kernel.guarded import Guarded
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.trace import CANCELLED, FAILED, OK, Trace
from roadbed.server.reply import Reply
from roadbed.wire.request import HotRequest

RECORDED_CHARACTERS_MAX = 16_000
SHOWN_EVENTS = (*CONTENT_EVENTS, ReasoningDelta)
"""The events that a caller sees as they come."""

PASSED_OVER = frozenset({PRIVATE_IP})
"""Findings that are kept from no endpoint, and so from no short way."""


@dataclass(slots=True)
class RouteTurn:
    """One request to a route, as both ways of answering it know it. ``is_clean`` when its body holds no finding."""

    request: HotRequest
    incoming: Incoming
    route: Route
    call: Call
    trace: Trace
    release: str
    guard: Guard
    ledger: Ledger
    is_clean: bool = False

    def finish(self, answer_text: str, status: str, code: str) -> None:
        """Record what may be recorded, and hand the trace to the ledger."""
        trace, guard = self.trace, self.guard
        trace.question = self._question()
        trace.answer = guard.for_record(answer_text, characters_max=RECORDED_CHARACTERS_MAX)
        trace.masked_count += trace.question.masked_count
        self.ledger.finish(trace, status=status, error_code=code)

    def _question(self) -> Guarded:
        text = self.incoming.question()
        if self.is_clean:
            return self.guard.for_record_of_clean(text[:RECORDED_CHARACTERS_MAX])
        return self.guard.for_record(text, characters_max=RECORDED_CHARACTERS_MAX)

    def facts(self, outcome: Outcome) -> dict[str, object]:
        """The ``roadbed`` object of the answer."""
        return {
            "rung": self.trace.rung or "full",
            "degraded": outcome.missing,
            "release": self.release,
            "trace": self.trace.id,
            "endpoint": outcome.endpoint,
        }


class HotAnswer:
    """The listener of one relay."""

    __slots__ = ("_answer", "_go_on", "_relay", "_reply", "_texts", "_turn")

    def __init__(self, turn: RouteTurn, go_on: Callable[[RouteTurn, FirstTry | None], None]) -> None:
        self._turn = turn
        self._go_on = go_on
        self._reply = Reply(turn.request, turn.incoming, turn.trace, turn.release)
        self._answer = Answer()
        self._texts: list[str] = []
        self._relay: Relay | None = None

    def watch(self, relay: Relay) -> None:
        """The relay is under way."""
        self._relay = relay
        self._turn.request.on_disconnect(self._left)

    # The relay's calls.

    def on_events(self, events: list[Event]) -> None:
        """Pass the events on."""
        turn, relay = self._turn, self._relay
        assert relay is not None
        shown: list[Event] = []
        for event in events:
            if type(event) is TextDelta:
                self._texts.append(event.text)
                shown.append(event)
            else:
                self._answer.add(event)
                if isinstance(event, SHOWN_EVENTS):
                    shown.append(event)
        turn.trace.rung = relay.outcome.rung
        if shown and turn.incoming.stream:
            self._reply.events(shown)
            if not turn.request.is_writable:
                relay.pause()
                turn.request.on_drain(relay.resume)

    def on_whole(self, text: str, reason: FinishReason) -> None:
        """The whole answer is one text."""
        turn, relay = self._turn, self._relay
        assert relay is not None
        self._texts.append(text)
        self._answer.finish_reason = reason
        turn.trace.rung = relay.outcome.rung
        if turn.incoming.stream:
            self._reply.events([TextDelta(text)])

    def on_finished(self) -> None:
        """Write the end, or all of it."""
        turn, relay, answer = self._turn, self._relay, self._answer
        assert relay is not None
        answer.text = "".join(self._texts)
        answer.usage = relay.outcome.usage
        self._reply.finished(answer, [], turn.facts(relay.outcome))
        turn.finish(answer.text, OK, "")

    def on_failed(self, tried: FirstTry) -> None:
        """Nothing was written: the ordinary way goes on from here."""
        self._turn.request.on_disconnect(None)
        self._go_on(self._turn, tried)

    def on_cut(self, error: StreamCut) -> None:
        """The caller's answer is not whole, and that is said."""
        turn = self._turn
        turn.request.on_disconnect(None)
        turn.trace.rung = "refused"
        self._reply.failed(error)
        turn.finish("".join(self._texts), FAILED, error.code)

    def on_crashed(self, error: Exception) -> None:
        """A fault of our own: said as such, and logged by the server's rule."""
        turn = self._turn
        turn.request.on_disconnect(None)
        turn.request.fail(error)
        turn.trace.rung = "refused"
        turn.ledger.finish(turn.trace, status=FAILED, error_code=type(error).__name__)

    def _left(self) -> None:
        if self._relay is not None:
            self._relay.abort()
        self._turn.finish("".join(self._texts), CANCELLED, "client_left")
