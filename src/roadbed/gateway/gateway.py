"""`Gateway`: every model behind its route's name. It holds the routes, the endpoints' health and the one upstream
client.

The server and the apps call `stream` and `complete`; `swap` exchanges all routes at once when a manifest changes. The
walk of one answer is `AnswerStream`'s. The invariant: an answer keeps the routes that it began with.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from roadbed.gateway.answer_stream import AnswerStream, FirstTry, Surroundings
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.errors import NoModel, UnknownRoute
from roadbed.gateway.health import EndpointHealth, HealthBoard
from roadbed.gateway.limits import Gauge
from roadbed.gateway.meter import TokenEstimator
from roadbed.gateway.relay import Opening, open_relay
from roadbed.gateway.route import Route, may_take
from roadbed.gateway.types import Answer, Call, ChatRequest, Outcome
from roadbed.gateway.ways import Ways
from roadbed.guard.gate import Guard
from roadbed.kernel.breaker import DEFAULT_SETTINGS, BreakerSettings
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.config import nearest
from roadbed.kernel.label import PUBLIC, Label
from roadbed.wire.client import UpstreamClient

LISTED_ROUTES_MAX = 20


class Gateway:
    """Answers chat requests by the routes that it was given. One per process and loop."""

    def __init__(
        self,
        client: UpstreamClient,
        guard: Guard,
        routes: Mapping[str, Route] | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        chance: Callable[[], float] = random.random,
        breaker: BreakerSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.routes: Mapping[str, Route] = dict(routes or {})
        self._clock = clock
        self._health = HealthBoard(clock.monotonic_s, chance, breaker)
        self._shared = Surroundings(client, guard, self._health, TokenEstimator(), Ways(self._health, client))

    def swap(self, routes: Mapping[str, Route], guard: Guard | None = None) -> None:
        """Serve these routes from now on; answers under way keep theirs.

        Endpoints of the same name keep their health.
        """
        self.routes = dict(routes)
        shared = self._shared
        self._shared = replace(
            shared, guard=guard if guard is not None else shared.guard, ways=Ways(self._health, shared.client)
        )

    def limit_endpoints(self, gauges: Mapping[str, Gauge]) -> None:
        """Ask these endpoints no oftener from now on, and the others as often as before."""
        for state in self._health.states():
            state.gauge = None
        for name, gauge in gauges.items():
            self._health.of(name).gauge = gauge

    def find(self, name: str) -> Route:
        """The route of this name.

        Raises `UnknownRoute`, which lists the known ones, or `NoModel` when there are none.
        """
        route = self.routes.get(name)
        if route is not None:
            return route
        if not self.routes:
            raise NoModel("no model is configured, and no local engine was found")
        known = ", ".join(sorted(self.routes)[:LISTED_ROUTES_MAX])
        raise UnknownRoute(f"there is no model {name!r}", hint=nearest(name, self.routes) or f"known models: {known}")

    def stream(
        self, route: str | Route, request: ChatRequest, call: Call, first_try: FirstTry | None = None
    ) -> AnswerStream:
        """The answer's events as they come. Use it as an async context manager, so that leaving stops the upstream.

        ``first_try`` is a relay's failed attempt, from which the walk goes on.
        """
        found = self.find(route) if isinstance(route, str) else route
        return AnswerStream(self._shared, found, request, call, first_try=first_try)

    def relay(self, route: Route, incoming: Incoming, body: bytes, call: Call) -> Opening | None:
        """What a `Relay` needs to send a caller's bytes as they are, where nothing in them must be masked (the server
        has looked). None when the request has to go the ordinary way, by `stream`.
        """
        return open_relay(self._shared, route, incoming, body, call)

    async def complete(self, route: str | Route, request: ChatRequest, call: Call) -> tuple[Answer, Outcome]:
        """The whole answer. A stream that breaks after its first words is recovered by the next endpoint here."""
        found = self.find(route) if isinstance(route, str) else route
        async with AnswerStream(self._shared, found, request, call, is_buffered=True) as stream:
            return await stream.answer(), stream.outcome

    def health(self) -> list[EndpointHealth]:
        """What is known of the endpoints that were asked so far, by name."""
        return self._health.states()

    def health_of(self, endpoint: str) -> EndpointHealth:
        """What is known of one endpoint."""
        return self._health.of(endpoint)

    def explain(self, name: str, label: Label = PUBLIC) -> list[dict[str, Any]]:
        """Each endpoint of a route in order, and whether it would take a request with this label now, or why not."""
        route = self.find(name)
        now_s = self._clock.monotonic_s()
        rows = []
        for position, endpoint in enumerate(route.ladder):
            state = self._health.of(endpoint.name)
            is_allowed = may_take(endpoint, label.join(route.label))
            reason = endpoint.fault or ("" if is_allowed else "not cleared for this label")
            rows.append(
                {
                    "endpoint": endpoint.name,
                    "model": endpoint.model,
                    "address": endpoint.address,
                    "is_local": endpoint.is_local,
                    "rung": route.rung(position),
                    "breaker": state.breaker.phase,
                    "unavailable": reason or state.why_unavailable(now_s),
                }
            )
        return rows

    def model_objects(self, created_s: int) -> list[dict[str, Any]]:
        """The routes as ``/v1/models`` lists them."""
        return [
            {
                "id": name,
                "object": "model",
                "created": created_s,
                "owned_by": "roadbed",
                "roadbed": {"kind": "route", "endpoints": [endpoint.name for endpoint in route.ladder]},
            }
            for name, route in sorted(self.routes.items())
        ]
