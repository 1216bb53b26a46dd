"""``POST /v1/chat/completions``: an app or a route, streamed or whole, as a hot path.

The request is admitted and decoded in the protocol's callback; what must wait runs in one task that ends with the
client. Errors have OpenAI's shape. The head of a stream is held until the first text, so that whatever fails before
it is an honest status code; after it a failure is an error event without ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import msgspec

from roadbed.apps.registry import AppRegistry, ServedApp
from roadbed.apps.types import Answered, Delta
from roadbed.gateway.dialects.openai_server import (
    ChatChunks,
    IncomingChat,
    completion_object,
    decode_chat,
    error_object,
)
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import CONTENT_EVENTS, Answer, Call, Event, Finished, ReasoningDelta, TextDelta, Usage
from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.label import Label, join_labels
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED, Trace
from roadbed.server.admission import DEADLINE_HEADER, Admission, admit, require_app
from roadbed.server.teams import Teams
from roadbed.server.turns import TurnTimedOut, annotations_of, begin_turn, facts_of, run_turn
from roadbed.wire.request import HotRequest

BODY_BYTES_MAX = 32 * 1024 * 1024
RECORDED_CHARACTERS_MAX = 16_000
JSON_HEADERS: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
SSE_HEADERS: list[tuple[bytes, bytes]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
Headers = list[tuple[bytes, bytes]]


def send_error(request: HotRequest, error: RoadbedError, extra: Headers | None = None) -> None:
    """Answer with an error in OpenAI's shape; inside a started stream, end it with an error event."""
    body = msgspec.json.encode(error_object(error))
    if request.is_started:
        request.end(b"data: " + body + b"\n\n")
        return
    headers = [*JSON_HEADERS, *(extra or ())]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s))))
    if not error.retryable or error.http_status >= 500:
        headers.append((b"x-should-retry", b"false"))
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    request.send(error.http_status, headers, body)


@dataclass(slots=True)
class ChatCompletions:
    """Answers chat completions. One per process."""

    identity: Identity
    teams: Teams
    registry: AppRegistry
    gateway: Gateway
    ledger: Ledger

    def handle(self, request: HotRequest) -> None:
        """Admit, decode, and answer in a task of the request's own."""
        try:
            admission = admit(
                self.identity, request.get(b"authorization"), request.get(b"x-api-key"), request.get(DEADLINE_HEADER)
            )
            incoming = decode_chat(request.body)
            target = self.registry.find(incoming.model)
            require_app(admission.principal, incoming.model, self.teams.apps_of(admission.principal.team))
        except RoadbedError as error:
            send_error(request, error)
            return
        if isinstance(target, ServedApp):
            request.create_task(self._app(request, admission, incoming, target))
        else:
            request.create_task(self._route(request, admission, incoming, target))

    async def _app(self, request: HotRequest, admission: Admission, incoming: IncomingChat, served: ServedApp) -> None:
        deadline = admission.deadline(served.deadline_s)
        turn = begin_turn(self.ledger, served, incoming.request, admission.principal, deadline)
        reply = _Reply(request, incoming, turn.trace, turn.release.digest)
        answered: Answered | None = None
        try:
            async with asyncio.timeout(deadline.remaining_s()), aclosing(run_turn(self.ledger, served, turn)) as events:
                async for event in events:
                    if isinstance(event, Answered):
                        answered = event
                    elif isinstance(event, Delta) and event.text:
                        reply.event(TextDelta(event.text))
                    if not request.is_writable:
                        await reply.drained()
        except RoadbedError as error:
            reply.failed(error)
            return
        except TimeoutError:
            reply.failed(TurnTimedOut(f"{served.name} did not answer within its deadline"))
            return
        assert answered is not None
        turn.trace.rung = answered.rung
        annotations = annotations_of(answered.text, answered.citations)
        answer = Answer(text=answered.text, usage=_usage_of(turn.trace))
        answer.finish_reason = Finished(answered.finish_reason).reason
        reply.finished(answer, annotations, facts_of(turn, answered))

    async def _route(self, request: HotRequest, admission: Admission, incoming: IncomingChat, route: Route) -> None:
        principal = admission.principal
        release = self.registry.served.routes_release
        digest = release.digest if release is not None else ""
        trace = self.ledger.start_trace(route.name, principal, digest)
        guard = self.teams.guard
        label = join_labels(guard.for_index(message.text(), Label()).label for message in incoming.request.messages)
        call = Call(principal, admission.deadline(route.deadline_s), label, trace)
        reply = _Reply(request, incoming, trace, digest)
        answer = Answer()
        status, code = CANCELLED, "client_left"
        stream = self.gateway.stream(route, incoming.request, call)
        try:
            async with stream:
                async for event in stream:
                    answer.add(event)
                    if isinstance(event, CONTENT_EVENTS | ReasoningDelta):
                        trace.rung = stream.outcome.rung
                        reply.event(event)
                    if not request.is_writable:
                        await reply.drained()
            status, code = OK, ""
        except RoadbedError as error:
            status, code = (REFUSED if error.http_status < 500 else FAILED), error.code
            trace.rung = "refused"
            reply.failed(error)
            return
        finally:
            self._record_content(trace, guard, incoming, answer)
            self.ledger.finish(trace, status=status, error_code=code)
        answer.usage = stream.outcome.usage
        degraded = [f"{attempt.endpoint}: {attempt.failure}" for attempt in stream.outcome.attempts if attempt.failure]
        facts = {"rung": trace.rung or "full", "degraded": degraded, "release": digest, "trace": trace.id}
        reply.finished(answer, [], {**facts, "endpoint": stream.outcome.endpoint}, stream.outcome.dropped)

    @staticmethod
    def _record_content(trace: Trace, guard: Guard, incoming: IncomingChat, answer: Answer) -> None:
        question = next((m.text() for m in reversed(incoming.request.messages) if m.role == "user"), "")
        trace.question = guard.for_record(question[:RECORDED_CHARACTERS_MAX])
        trace.answer = guard.for_record(answer.text[:RECORDED_CHARACTERS_MAX])
        trace.masked_count += trace.question.masked_count


class _Reply:
    """Writes one answer, streamed or whole. The head of a stream goes out with its first text."""

    __slots__ = ("_chunks", "_headers", "_id", "_incoming", "_request", "_trace")

    def __init__(self, request: HotRequest, incoming: IncomingChat, trace: Trace, release: str) -> None:
        self._request = request
        self._incoming = incoming
        self._trace = trace
        self._id = f"chatcmpl-{trace.id}"
        self._chunks = ChatChunks(self._id, int(time.time()), incoming.model, include_usage=incoming.include_usage)
        self._headers: Headers = [(b"x-roadbed-release", release.encode()), (b"x-roadbed-trace", trace.id.encode())]

    def event(self, event: Event) -> None:
        """Pass a delta on, when the caller streams."""
        if not self._incoming.stream:
            return
        piece = self._chunks.event(event)
        if self._request.is_started:
            self._request.write(piece)
        else:
            self._start(piece)

    def _start(self, piece: bytes) -> None:
        headers = [*SSE_HEADERS, *self._headers, (b"x-roadbed-rung", (self._trace.rung or "full").encode())]
        self._request.start_stream(200, headers, self._chunks.head() + piece)

    async def drained(self) -> None:
        """Wait until the client reads again."""
        if self._request.is_disconnected:
            return
        writable = asyncio.Event()
        self._request.on_drain(writable.set)
        await writable.wait()

    def failed(self, error: RoadbedError) -> None:
        """End with an error."""
        send_error(self._request, error, [*self._headers, (b"x-roadbed-rung", b"refused")])

    def finished(
        self,
        answer: Answer,
        annotations: list[dict[str, Any]],
        facts: dict[str, Any],
        dropped: tuple[str, ...] = (),
    ) -> None:
        """End with the whole answer."""
        if dropped:
            self._headers.append((b"x-roadbed-dropped", ", ".join(dropped).encode()))
        if not self._incoming.stream:
            body = completion_object(
                self._id, int(time.time()), self._incoming.model, answer, annotations=annotations, roadbed=facts
            )
            headers = [*JSON_HEADERS, *self._headers, (b"x-roadbed-rung", str(facts["rung"]).encode())]
            self._request.send(200, headers, msgspec.json.encode(body))
            return
        if not self._request.is_started:
            self._start(b"")
        reason = answer.finish_reason or "stop"
        tail = self._chunks.finish(reason, annotations=annotations or None, roadbed=facts)
        self._request.end(tail + self._chunks.done(answer.usage))


def _usage_of(trace: Trace) -> Usage:
    return Usage(
        input_uncached=sum(usage.input_uncached for usage in trace.usage),
        cache_read=sum(usage.cache_read for usage in trace.usage),
        output_visible=sum(usage.output_tokens for usage in trace.usage),
        output_reasoning=sum(usage.reasoning_tokens for usage in trace.usage),
    )
