"""Models: every endpoint with its health, what it spent today and why it failed last; the ladder of every route.

For auditors; admins also drain an endpoint and open or close its breaker, in all serving processes at once. Counts are
of the process that answers, which the page says where there are several. No body of a model server is ever shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from roadbed.console.pills import Pill, health_pill
from roadbed.console.visits import Console, Page, Visit, seen
from roadbed.gateway.manifest import Strategy
from roadbed.gateway.orders import ORDER_NAMES
from roadbed.gateway.view import EndpointView
from roadbed.kernel.errors import DeadlineExceeded, InvalidRequest, Unavailable
from roadbed.kernel.principal import ADMIN, AUDITOR

DONE = {
    "drain": "takes no new requests until it is told to resume, or the deployment starts anew",
    "resume": "takes requests again",
    "open": "is left alone for a minute, then tried again with one request",
    "close": "takes all its requests again",
}


class UnknownOrder(InvalidRequest):
    """The form names nothing that an endpoint can be told."""

    code = "console.unknown_order"
    hint = "use the buttons of the page Models"


@dataclass(frozen=True, slots=True)
class EndpointLine:
    """One endpoint as the page lists it. ``spent_microusd`` is None while the database does not answer."""

    view: EndpointView
    pill: Pill
    spent_microusd: int | None


def model_routes(console: Console) -> list[Route]:
    """The routes of the page."""
    return [
        *console.page("/console/models", models, role=AUDITOR),
        *console.action("/console/models", order, role=ADMIN),
    ]


HOW: dict[Strategy, str] = {
    "ordered": "Asked in this order; the first that can answers.",
    "weighted": "One is asked by chance, by its weight; the others stand behind it.",
    "least-loaded": "Of two at random the quicker one is asked; the others stand behind it.",
    "cheapest": "The one where the request costs least is asked; the others stand behind it.",
    "sticky": "Requests that begin alike go to the same one; the others stand behind it.",
    "first-valid": "All are asked at once; the first valid answer is given.",
    "majority": "All are asked at once; what most of them say is given.",
    "best-of": "All are asked at once; a judge chooses.",
}
"""What becomes of a route's ladder, by its strategy."""


async def models(visit: Visit) -> Page:
    """Every endpoint with its health and price, engines found, and keys that are set but not used."""
    gateway = visit.services.gateway
    spent = await spent_today(visit)
    lines = [
        EndpointLine(view, health_pill(view), None if spent is None else spent.get(view.endpoint, 0))
        for view in gateway.endpoints()
    ]
    ladders = {name: gateway.explain(name) for name in sorted(gateway.routes)}
    number, of = visit.services.process()
    told, done = visit.query("endpoint"), DONE.get(visit.query("told"), "")
    context = {
        "lines": lines,
        "ladders": ladders,
        "how": {name: HOW[gateway.routes[name].policy.strategy] for name in ladders},
        "process": number if of > 1 else 0,
        "processes": of,
        "done": f"{told} {done}." if told and done else "",
        "summary": summary(lines, ladders),
        "engines": visit.services.engines(),
    }
    data = {"endpoints": lines, "routes": ladders, "process": number, "processes": of}
    return Page("models.html", "Models", context, data)


async def spent_today(visit: Visit) -> dict[str, int] | None:
    """What each endpoint cost since midnight (UTC); None while nobody can say."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        return await visit.services.reader.spend_by_endpoint(midnight)
    except (Unavailable, DeadlineExceeded):
        return None


def summary(lines: Sequence[EndpointLine], ladders: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One sentence: who can be asked, and whether every route has somebody."""
    if not lines:
        return "No model is configured and no local engine answers."
    left = [line.view.endpoint for line in lines if line.view.unavailable]
    failed = [line.view.endpoint for line in lines if line.view.failed_last and not line.view.unavailable]
    dead = [name for name, ladder in ladders.items() if all(rung["unavailable"] for rung in ladder)]
    if dead:
        return f"Nobody can be asked now for {', '.join(dead)}."
    noun = "endpoint" if len(lines) == 1 else "endpoints"
    can = f"{len(lines)} {noun} can be asked"
    if left:
        can = f"{len(left)} of {len(lines)} {noun} cannot be asked now: {', '.join(left)}"
    note = f"; the latest attempt at {' and at '.join(failed)} failed" if failed else ""
    return f"Every route can be answered; {can}{note}."


async def order(visit: Visit) -> Response:
    """Tell an endpoint something."""
    endpoint, name = visit.text("endpoint"), visit.text("order")
    for known in ORDER_NAMES:
        if name == known:
            visit.services.order_endpoint(endpoint, known, actor=visit.actor)
            return seen("/console/models", endpoint=endpoint, told=known)
    raise UnknownOrder("an endpoint can be drained, resumed, opened or closed")
