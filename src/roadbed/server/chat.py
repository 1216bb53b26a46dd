"""``POST /v1/chat/completions``: what all dialects of callers share, and the short way of routes.

OpenAI's dialect alone has a short way, because endpoints speak it, too: a caller's bytes can be sent on. The invariant
is `CallerAnswers`': a request that must be masked never goes the short way.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from roadbed.gateway.dialects.base import CallerDialect
from roadbed.gateway.limits import Pass
from roadbed.gateway.policy import PLAIN
from roadbed.gateway.route import Route
from roadbed.gateway.types import Call
from roadbed.server.admission import Admission
from roadbed.server.answers import LOOKED_AT_INLINE_BYTES_MAX, TRACEPARENT_HEADER, CallerAnswers, headers_of, run_for
from roadbed.server.chat_hot import RouteTurn
from roadbed.server.http import CHAT
from roadbed.wire.request import HotRequest


@dataclass(slots=True)
class ChatCompletions(CallerAnswers):
    """Answers chat completions. One per process."""

    dialect: CallerDialect = CHAT

    def _route(
        self, request: HotRequest, admission: Admission, incoming: Any, route: Route, ticket: Pass | None
    ) -> None:
        """By the short way where nothing in the body must be masked, else by the ordinary one."""
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
        guard = self.teams.guard
        call = Call(admission.principal, admission.deadline(route.deadline_s), admission.label, trace)
        if route.policy is not PLAIN:
            call.headers = headers_of(request, route)
        turn = RouteTurn(request, incoming, route, call, trace, digest, guard, self.ledger, self._go_on)
        opening = self.gateway.relay(route, incoming, request.body, call)
        texts = opening.texts if opening is not None else request.body
        if len(texts) <= LOOKED_AT_INLINE_BYTES_MAX:
            self._begin(turn, opening, guard.scan_sent(texts))
        else:
            run_for(turn, self._look_at_large(turn, texts))

    async def _look_at_large(self, turn: RouteTurn, texts: str | bytes) -> None:
        """Look at much text in a thread: it would hold up others. Which endpoint is free may have changed meanwhile."""
        found = await asyncio.to_thread(turn.guard.scan_sent, texts)
        incoming: Any = turn.incoming
        opening = self.gateway.relay(turn.route, incoming, turn.request.body, turn.call)
        self._begin(turn, opening, found)
