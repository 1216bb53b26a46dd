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

from msgspec import structs

from roadbed.gateway.answer_stream import AnswerStream, FirstTry, Surroundings
from roadbed.gateway.cached_stream import AnswerCache, CachedStream
from roadbed.gateway.dialects.embeddings import Embeddings, EmbeddingsRequest
from roadbed.gateway.dialects.openai_server import Incoming
from roadbed.gateway.dialects.rerank import Ranking, RerankRequest
from roadbed.gateway.ensemble import EnsembleStream
from roadbed.gateway.errors import NoModel, UnknownRoute, WrongTask
from roadbed.gateway.explain import explain_choice
from roadbed.gateway.gate import Gates
from roadbed.gateway.health import EndpointHealth, HealthBoard
from roadbed.gateway.hedge import HedgeBudget
from roadbed.gateway.limits import EndpointLimits
from roadbed.gateway.manifest import Task
from roadbed.gateway.meter import TokenEstimator, text_bytes
from roadbed.gateway.orders import EndpointOrder, obey
from roadbed.gateway.policy import ENSEMBLES, PLAIN, Asked
from roadbed.gateway.policy_stream import PolicyStream
from roadbed.gateway.relay import Opening, open_relay
from roadbed.gateway.route import Route, why_not
from roadbed.gateway.tasks import EMBEDDINGS, RERANK
from roadbed.gateway.types import Answer, Call, ChatRequest, Outcome
from roadbed.gateway.view import EndpointView, endpoint_views, first_token_shares_ms
from roadbed.gateway.ways import Ways
from roadbed.gateway.whole_call import WholeCall
from roadbed.guard.gate import Guard
from roadbed.kernel.breaker import DEFAULT_SETTINGS, BreakerSettings
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.config import nearest
from roadbed.kernel.label import PUBLIC, Label
from roadbed.ledger.trace import Trace
from roadbed.wire.client import UpstreamClient

LISTED_ROUTES_MAX = 20
ADDRESSES: dict[Task, str] = {"chat": "/v1/chat/completions", "embeddings": "/v1/embeddings", "rerank": "/v1/rerank"}


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
        self.cache = AnswerCache(clock.monotonic_s)
        self._health = HealthBoard(clock.monotonic_s, chance, breaker, groups_of(self.routes))
        self.limits_tokens = False  # whether `count_tokens` has anything to count
        self.hedges = HedgeBudget()
        self.gates = Gates()
        self._shared = Surroundings(
            client,
            guard,
            self._health,
            TokenEstimator(),
            Ways(self._health, client, guard),
            self.hedges,
            self.gates,
        )

    def forget_answers(self) -> None:
        """Forget every cached answer, such as when a person's data was erased."""
        self.cache.answers.clear()

    def swap(self, routes: Mapping[str, Route], guard: Guard | None = None) -> None:
        """Serve these routes from now on; answers under way keep theirs.

        Endpoints of the same name keep their health.
        """
        self.routes = dict(routes)
        self._health.groups = groups_of(self.routes)
        shared = self._shared
        guard = guard if guard is not None else shared.guard
        self._shared = replace(shared, guard=guard, ways=Ways(self._health, shared.client, guard))

    def limit_endpoints(self, limits: Mapping[str, EndpointLimits]) -> None:
        """Ask these endpoints for no more from now on, and the others for as much as before."""
        for state in self._health.states():
            state.gauge, state.token_gauges, state.slots = None, (), None
        self.limits_tokens = any(limit.tokens for limit in limits.values())
        for name, limit in limits.items():
            state = self._health.of(name)
            state.gauge, state.token_gauges, state.slots = limit.requests, limit.tokens, limit.slots

    def count_tokens(self, trace: Trace) -> None:
        """Count what a finished request used against the limits of the endpoints that it asked."""
        call = trace.only_call
        for used in trace.usage if call is None else (call,):
            self._health.of(used.endpoint).count_tokens(
                self._clock.monotonic_s(), used.input_tokens, used.output_tokens
            )

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
        self,
        route: str | Route,
        request: ChatRequest,
        call: Call,
        first_try: FirstTry | None = None,
        *,
        is_whole: bool = False,
    ) -> AnswerStream | CachedStream:
        """The answer's events as they come. Use it as an async context manager, so that leaving stops the upstream.

        ``first_try`` is a relay's failed attempt, from which the walk goes on; ``is_whole`` says that the caller waits
        for all of the answer, so that one that breaks off is recovered by the next endpoint.
        """
        found = self._for_task(route, "chat")
        if found.cache is not None:

            def fetch(own: Call) -> AnswerStream:
                return self._walk(found, request, own, None, is_whole=is_whole)

            return CachedStream(self.cache, found.cache, self._shared, found, request, call, fetch, is_whole=is_whole)
        return self._walk(found, request, call, first_try, is_whole=is_whole)

    def _walk(
        self, route: Route, request: ChatRequest, call: Call, first_try: FirstTry | None, *, is_whole: bool
    ) -> AnswerStream:
        if route.policy is PLAIN:
            return AnswerStream(self._shared, route, request, call, is_buffered=is_whole, first_try=first_try)
        kind = EnsembleStream if route.policy.strategy in ENSEMBLES else PolicyStream
        return kind(self._shared, route, request, call, first_try=first_try, is_whole=is_whole)

    def relay(self, route: Route, incoming: Incoming, body: bytes, call: Call) -> Opening | None:
        """What a `Relay` needs to send a caller's bytes as they are, where nothing in them must be masked (the server
        has looked). None when the request has to go the ordinary way, by `stream`.
        """
        if route.cache is not None:
            return None
        return open_relay(self._shared, route, incoming, body, call)

    async def complete(self, route: str | Route, request: ChatRequest, call: Call) -> tuple[Answer, Outcome]:
        """The whole answer. A stream that breaks after its first words is recovered by the next endpoint here."""
        found = self._for_task(route, "chat")
        kind: type[AnswerStream] = AnswerStream
        if found.policy is not PLAIN:
            kind = EnsembleStream if found.policy.strategy in ENSEMBLES else PolicyStream
        async with kind(self._shared, found, request, call, is_buffered=True) as stream:
            return await stream.answer(), stream.outcome

    async def embed(self, route: str | Route, asked: EmbeddingsRequest, call: Call) -> tuple[Embeddings, Outcome]:
        """One vector per input, by a route of the task ``embeddings``."""
        walk = WholeCall(self._shared, self._for_task(route, "embeddings"), EMBEDDINGS, asked, call)
        return await walk.run(), walk.outcome

    async def rerank(self, route: str | Route, asked: RerankRequest, call: Call) -> tuple[Ranking, Outcome]:
        """The documents by what they have to do with the query, by a route of the task ``rerank``."""
        walk = WholeCall(self._shared, self._for_task(route, "rerank"), RERANK, asked, call)
        return await walk.run(), walk.outcome

    def estimate_tokens(self, route: Route | None, request: ChatRequest) -> int:
        """The tokens of a request's texts, as the route's first endpoint counted earlier ones. Nothing is sent."""
        model = route.ladder[0].model if route is not None and route.ladder else ""
        return self._shared.estimator.tokens(model, text_bytes(request))

    def _for_task(self, route: str | Route, task: Task) -> Route:
        found = self.find(route) if isinstance(route, str) else route
        if found.task != task:
            message = f"the model {found.name!r} is for {found.task}, not for {task}"
            raise WrongTask(message, hint=f"send it to {ADDRESSES[found.task]}", param="model")
        return found

    def health(self) -> list[EndpointHealth]:
        """What is known of the endpoints that were asked so far, by name."""
        return self._health.states()

    def health_of(self, endpoint: str) -> EndpointHealth:
        """What is known of one endpoint."""
        return self._health.of(endpoint)

    def endpoints(self) -> list[EndpointView]:
        """Every endpoint that serves, with what this process knows of it, by name."""
        return endpoint_views(self.routes, self._health)

    def obey(self, order: EndpointOrder) -> None:
        """Carry out what an operator told an endpoint."""
        obey(self._health, order)

    def explain(self, name: str, label: Label = PUBLIC) -> list[dict[str, Any]]:
        """Each endpoint of a route in order, and whether it would take a request with this label now, or why not."""
        route = self.find(name)
        now_s = self._clock.monotonic_s()
        rows = []
        for position, endpoint in enumerate(route.ladder):
            state = self._health.of(endpoint.name)
            reason = endpoint.fault or why_not(endpoint, label.join(route.label))
            rows.append(
                {
                    "endpoint": endpoint.name,
                    "model": endpoint.model,
                    "address": endpoint.address,
                    "is_local": endpoint.is_local,
                    "rung": route.rung(position),
                    "breaker": state.breaker.phase,
                    "in_flight": state.in_flight,
                    "first_token_ms": first_token_shares_ms(state),
                    "unavailable": reason or state.why_unavailable(now_s),
                    "failed_last": state.failed_last,
                    **({"keys": state.keys.states(now_s)} if state.keys is not None else {}),
                }
            )
        return rows

    def explain_choice(self, name: str, asked: Asked) -> dict[str, Any]:
        """Which endpoint of a route would take a request like this one now, and why not the others."""
        route = self.find(name)
        label = self._shared.guard.label_for_models(asked.label.join(route.label), asked.team)
        return explain_choice(route, structs.replace(asked, label=label), self._health)

    def model_objects(self, created_s: int) -> list[dict[str, Any]]:
        """The routes as ``/v1/models`` lists them."""
        return [
            {
                "id": name,
                "object": "model",
                "created": created_s,
                "owned_by": "roadbed",
                "roadbed": {
                    "kind": "route",
                    "task": route.task,
                    "endpoints": [endpoint.name for endpoint in route.ladder],
                },
            }
            for name, route in sorted(self.routes.items())
        ]


def groups_of(routes: Mapping[str, Route]) -> tuple[tuple[str, ...], ...]:
    """The endpoints of each route, as peers of each other."""
    return tuple(tuple(dict.fromkeys(endpoint.name for endpoint in route.endpoints)) for route in routes.values())
