"""An app or a route, streamed or whole, in any dialect of our callers, as a hot path: ``POST /v1/responses`` and
``POST /v1/messages``, and what ``POST /v1/chat/completions`` adds its short way to.

The request is admitted and decoded in the protocol's callback; what must wait runs in one task that ends with the
client. Errors have the dialect's shape. The head of a stream is held until the first text, so that whatever fails
before it is an honest status code; after it a failure ends the stream as the dialect says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from roadbed.apps.registry import AppRegistry, ServedApp
from roadbed.apps.types import Answered, Cited, Delta
from roadbed.gateway.answer_stream import FirstTry
from roadbed.gateway.dialects.base import CallerDialect, CallerRequest
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.limits import Pass
from roadbed.gateway.policy import PLAIN
from roadbed.gateway.relay import Opening
from roadbed.gateway.route import Route
from roadbed.gateway.types import Answer, Call, Finished, Usage
from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.guard.keys import CHAT_SCOPE, require_scope
from roadbed.guard.networks import caller_address
from roadbed.guard.rules import GuardBlocked
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import Label, join_labels
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED, Trace
from roadbed.server.admission import (
    DEADLINE_HEADER,
    LABEL_HEADER,
    TAG_HEADER,
    Admission,
    admit,
    check_credentials,
)
from roadbed.server.chat_hot import PASSED_OVER, SHOWN_EVENTS, HotAnswer, RouteTurn
from roadbed.server.citing import CitedText
from roadbed.server.client_certificates import certificate_of
from roadbed.server.entrance import NO_LIMITS, Entrance, NoLimits
from roadbed.server.heartbeat import Heartbeat
from roadbed.server.reply import Reply, send_error
from roadbed.server.running import RunningCalls
from roadbed.server.teams import Teams
from roadbed.server.turns import TurnTimedOut, annotations_of, begin_turn, facts_of, run_turn
from roadbed.wire.request import HotRequest

LOOKED_AT_INLINE_BYTES_MAX = 128 * 1024
TRACEPARENT_HEADER = b"traceparent"


class _Admitted(msgspec.Struct, frozen=True):
    """Whom a head let in, as of one version of the keys."""

    keys: object
    admission: Admission


@dataclass(slots=True)
class CallerAnswers:
    """Answers the requests of one dialect. One per address and process."""

    identity: Identity
    teams: Teams
    registry: AppRegistry
    gateway: Gateway
    ledger: Ledger
    dialect: CallerDialect
    behind_proxy: bool = False
    entrance: Entrance | NoLimits = NO_LIMITS
    running: RunningCalls = field(default_factory=RunningCalls)

    def handle(self, request: HotRequest) -> None:
        """Admit, decode, and answer in a task of the request's own."""
        try:
            admission = self._admit(request)
            incoming = self.dialect.decode(request.body)
            target = self.registry.find(incoming.model, admission.principal)
            self.teams.require_app(admission.principal, incoming.model)
            ticket, entrance = None, self.entrance
            if entrance.is_on:
                ticket, target = entrance.let_in(len(request.body), admission.principal, incoming.model, target)
        except RoadbedError as error:
            send_error(request, error, self.dialect)
            return
        if isinstance(target, ServedApp):
            task = request.create_task(self._app(request, admission, incoming, target, ticket))
            if ticket is not None:
                task.add_done_callback(ticket.task_ended)
        else:
            self._route(request, admission, incoming, target, ticket)

    def _admit(self, request: HotRequest) -> Admission:
        """`admit`, remembered with a head that its connection sends again: while the keys are the same, so is the
        answer, as the caller's address is a matter of connection and head too.
        """
        known, keys = request.known, self.identity.keys_version
        if known is not None:
            memo = known.memo
            if isinstance(memo, _Admitted) and memo.keys is keys:
                self.identity.note_used(memo.admission.principal)
                return memo.admission
        check_credentials(request.headers)
        admission = admit(
            self.identity,
            request.get(b"authorization"),
            request.get(b"x-api-key"),
            request.get(DEADLINE_HEADER),
            caller_address(request.peer, request.get(b"x-forwarded-for"), behind_proxy=self.behind_proxy),
            request.get(TAG_HEADER),
            request.get(LABEL_HEADER),
            certificate := certificate_of(request),
        )
        if admission.principal.scopes is not None:
            require_scope(admission.principal, CHAT_SCOPE)
        # A certificate may run out on its connection, so it is looked at each time.
        if known is None or keys is None or certificate is not None:
            return admission
        if not self.identity.may_expire(admission.principal):
            known.memo = _Admitted(keys, admission)
        return admission

    async def _app(
        self,
        request: HotRequest,
        admission: Admission,
        incoming: CallerRequest,
        served: ServedApp,
        ticket: Pass | None,
    ) -> None:
        deadline = admission.deadline(served.deadline_s)
        is_whole = not incoming.stream
        turn = begin_turn(self.ledger, served, incoming.request, admission.principal, deadline, is_whole=is_whole)
        turn.trace.take_parent(request.get(TRACEPARENT_HEADER))
        turn.trace.tags = admission.tags
        turn.trace.label = admission.label
        if ticket is not None:
            ticket.join(turn.trace)
        reply = Reply(request, incoming, turn.trace, turn.release.digest, self.dialect)
        answered: Answered | None = None
        cited, answer = CitedText(), Answer()
        dropped = not_taken(incoming)
        call = self.running.enter(admission.principal, turn.trace)
        try:
            way = run_turn(self.ledger, served, turn, self.teams.guard)
            beat = Heartbeat(reply, route.policy if (route := served.route()) is not None else PLAIN, lambda: dropped)
            async with asyncio.timeout(deadline.remaining_s()), aclosing(way) as events, beat:
                async for event in events:
                    if isinstance(event, Answered):
                        answered = event
                    elif isinstance(event, Cited):
                        cited.know(event.citation)
                    elif isinstance(event, Delta) and event.text:
                        pieces = cited.events(event.text)
                        for piece in pieces:
                            answer.add(piece)
                        reply.events(pieces, dropped)
                    if not request.is_writable:
                        await reply.drained()
        except RoadbedError as error:
            reply.failed(error)
            return
        except TimeoutError:
            reply.failed(TurnTimedOut(f"{served.name} did not answer within its deadline"))
            return
        except asyncio.CancelledError:
            reply.failed(call.ended())
            return
        finally:
            call.leave()
        assert answered is not None
        turn.trace.rung = answered.rung
        annotations = annotations_of(answered.text, answered.citations)
        answer.usage = _usage_of(turn.trace)
        answer.finish_reason = Finished(answered.finish_reason).reason
        reply.finished(answer, annotations, facts_of(turn, answered), dropped)

    def _route(
        self,
        request: HotRequest,
        admission: Admission,
        incoming: CallerRequest,
        route: Route,
        ticket: Pass | None,
    ) -> None:
        """Look whether anything in the body must be masked, then go down the route's ladder."""
        turn, body = self._turn(request, admission, incoming, route, ticket), request.body
        if len(body) <= LOOKED_AT_INLINE_BYTES_MAX:
            self._begin(turn, None, turn.guard.scan_bytes(body))
        else:
            run_for(turn, self._look_at_large(turn, body))

    def _turn(
        self,
        request: HotRequest,
        admission: Admission,
        incoming: CallerRequest,
        route: Route,
        ticket: Pass | None,
    ) -> RouteTurn:
        release = self.registry.served.routes_release
        digest = release.digest if release is not None else ""
        trace = self.ledger.start_trace(route.name, admission.principal, digest)
        parent = request.get(TRACEPARENT_HEADER)
        if parent is not None:
            trace.take_parent(parent)
        if admission.tags:
            trace.tags = admission.tags
        if ticket is not None:
            ticket.join(trace)
        call = Call(admission.principal, admission.deadline(route.deadline_s), admission.label, trace)
        if route.policy is not PLAIN:
            call.headers = headers_of(request, route)
        return RouteTurn(request, incoming, route, call, trace, digest, self.teams.guard, self.ledger, self._go_on)

    async def _look_at_large(self, turn: RouteTurn, texts: bytes) -> None:
        """Look at much text in a thread: it would hold up others."""
        self._begin(turn, None, await asyncio.to_thread(turn.guard.scan_bytes, texts))

    def _begin(self, turn: RouteTurn, opening: Opening | None, found: frozenset[str]) -> None:
        """``found`` is what the texts to be sent hold: they go as they are where ``opening`` says how, or are masked on
        the ordinary way.
        """
        turn.is_clean = not found
        if found and not found <= PASSED_OVER:
            try:
                turn.call.label = label_of(turn.guard, turn.incoming, turn.call)
            except GuardBlocked as error:
                turn.refuse(error, self.dialect)
                return
        elif opening is not None:
            HotAnswer(opening, turn, self.running).begin()
            return
        self._go_on(turn, None)

    def _go_on(self, turn: RouteTurn, first_try: FirstTry | None) -> None:
        run_for(turn, self._walk(turn, first_try))

    async def _walk(self, turn: RouteTurn, first_try: FirstTry | None) -> None:
        """The ordinary way: down the route's ladder, from an attempt on that was made already, if any."""
        trace, reply = turn.trace, Reply(turn.request, turn.incoming, turn.trace, turn.release, self.dialect)
        answer = Answer()
        status, code = CANCELLED, "client_left"
        call = self.running.enter(turn.call.principal)
        try:
            stream = self.gateway.stream(
                turn.route, turn.incoming.request, turn.call, first_try, is_whole=not turn.incoming.stream
            )
            beat = Heartbeat(reply, turn.route.policy, lambda: stream.outcome.dropped, lambda: stream.outcome.is_begun)
            async with stream, beat:
                async for event in stream:
                    answer.add(event)
                    if isinstance(event, SHOWN_EVENTS):
                        trace.rung = stream.outcome.rung
                        reply.events((event,), stream.outcome.dropped)
                    if not turn.request.is_writable:
                        await reply.drained()
            status, code = OK, ""
        except RoadbedError as error:
            status, code = (REFUSED if error.http_status < 500 else FAILED), error.code
            trace.rung = "refused"
            reply.failed(error)
            return
        except asyncio.CancelledError:
            ended = call.ended()
            status, code, trace.rung = REFUSED, ended.code, "refused"
            reply.failed(ended)
            return
        finally:
            call.leave()
            turn.finish(answer.text, status, code)
        outcome = stream.outcome
        answer.usage = outcome.usage
        facts = turn.facts(outcome.missing, outcome.endpoint, outcome.continued)
        if outcome.age_s is not None:
            facts = facts.aged(outcome.age_s)
        reply.finished(answer, [], facts, outcome.dropped)


def run_for(turn: RouteTurn, work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` for the turn's request."""
    task = turn.request.create_task(work)
    if turn.trace.ticket is not None:
        task.add_done_callback(turn.trace.ticket.task_ended)


def not_taken(incoming: CallerRequest) -> tuple[str, ...]:
    """What a caller asks of a model and an app does not take: it has tools and a form of its own."""
    request = incoming.request
    asked = (
        ("tools", request.tools),
        ("tool_choice", request.tool_choice),
        ("parallel_tool_calls", request.parallel_tool_calls),
        ("response_format", request.response_format),
    )
    return tuple(name for name, value in asked if value is not None and value != ())


def headers_of(request: HotRequest, route: Route) -> dict[str, str]:
    """The request's headers that the route's rules read."""
    found = {name: request.get(name.encode("latin-1")) for name in route.policy.header_names}
    return {name: value.decode("latin-1") for name, value in found.items() if value is not None}


def label_of(guard: Guard, incoming: CallerRequest, call: Call) -> Label:
    """The label that the request's own texts carry, on top of its caller's. Raises `GuardBlocked`."""
    label, team = call.label, call.principal.team
    return label.join(
        join_labels(guard.label_of(message.text(), label, team=team) for message in incoming.request.messages)
    )


def _usage_of(trace: Trace) -> Usage:
    return Usage(
        input_uncached=sum(usage.input_uncached for usage in trace.usage),
        cache_read=sum(usage.cache_read for usage in trace.usage),
        output_visible=sum(usage.output_tokens for usage in trace.usage),
        output_reasoning=sum(usage.reasoning_tokens for usage in trace.usage),
    )
