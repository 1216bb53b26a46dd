"""One prompt to one route, for the console's playground: guarded, recorded and settled as a call of ``/v1``.

The invariant: a try ends in exactly one `TriedRoute`, and its trace is finished once, however the reader leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from roadbed.console.services import TriedRoute
from roadbed.gateway.types import Answer, Call, ChatRequest, Message, TextDelta
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import RoadbedError
from roadbed.kernel.principal import Principal
from roadbed.ledger.trace import CANCELLED, FAILED, OK, REFUSED
from roadbed.server.chat_hot import RouteRecord
from roadbed.server.services import Services


async def try_route(
    services: Services, name: str, prompt: str, principal: Principal
) -> AsyncGenerator[str | TriedRoute, None]:
    """The answer's text as it comes, then what became of it; an error is an ending too."""
    services.teams.require_app(principal, name)
    route, guard, loop = services.gateway.find(name), services.teams.guard, asyncio.get_running_loop()
    label = guard.label_of(prompt, team=principal.team)
    try:
        ticket = services.money.entrance.ticket(len(prompt.encode()), principal, name)
    except RoadbedError as refusal:
        yield TriedRoute(name, "", "", "refused", "", None, 0.0, 0, 0, 0, is_priced=False, error=refusal)
        return
    release = services.registry.served.routes_release
    trace = services.ledger.start_trace(route.name, principal, release.digest if release is not None else "")
    call = Call(principal, Deadline.after(route.deadline_s), label, trace)
    if ticket is not None:
        ticket.join(trace)
    stream = services.gateway.stream(route, ChatRequest(messages=(Message("user", prompt),)), call)
    answer, error, first_s, began_s = Answer(), None, None, loop.time()
    status, code = CANCELLED, "client_left"
    try:
        async with stream, aclosing(services.running.while_live(principal, stream)) as events:
            async for event in events:
                answer.add(event)
                if isinstance(event, TextDelta):
                    first_s = loop.time() - began_s if first_s is None else first_s
                    trace.rung = stream.outcome.rung
                    yield event.text
        trace.rung = stream.outcome.rung
        status, code = OK, ""
    except RoadbedError as raised:
        error = raised
        status, code = (REFUSED if raised.http_status < 500 else FAILED), raised.code
        trace.rung = "refused"
    finally:
        trace.add_late(RouteRecord(guard, prompt, answer.text, is_clean=False))
        services.ledger.finish(trace, status=status, error_code=code)
    outcome = stream.outcome
    failed = [f"{seen.endpoint}: {seen.reason}" for seen in outcome.attempts if seen.failure]
    yield TriedRoute(
        route=name,
        text=answer.text or answer.refusal,
        trace_id=trace.id,
        rung=trace.rung,
        endpoint=outcome.endpoint,
        first_s=first_s,
        total_s=loop.time() - began_s,
        input_tokens=outcome.usage.input_tokens,
        output_tokens=outcome.usage.output_tokens,
        cost_microusd=outcome.cost_microusd,
        is_priced=outcome.price != "unknown",
        error=error,
        missing=tuple(dict.fromkeys([*failed, *outcome.skipped])),
        continued=outcome.continued,
    )
