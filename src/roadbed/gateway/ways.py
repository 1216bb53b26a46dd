"""Where a first attempt may go at once: the part of a route's plan that does not change between requests, kept ready.

`Ways.first` finds the endpoint that a route would ask first, with everything that its request needs but the body. It
decides by the same rules as `route.plan` and changes nothing. The invariant: a way is given only for an endpoint that
the label allows, that is not resting, whose circuit is closed and that has a free connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from roadbed.gateway.attempt import address_of
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.health import EndpointHealth, HealthBoard
from roadbed.gateway.policy import PLAIN
from roadbed.gateway.route import Candidate, Route, may_take, plan
from roadbed.gateway.types import Rung
from roadbed.guard.gate import Guard
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PUBLIC, Label
from roadbed.wire.address import Url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.exchange import UpstreamRequest
from roadbed.wire.pool import Pool
from roadbed.wire.tls import TrustDomain

PATH = "/chat/completions"
WAYS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Way:
    """One endpoint of one route, for requests in its own dialect. ``rendered`` is their head, the key in it."""

    route: Route
    candidate: Candidate
    endpoint: Endpoint
    rung: Rung
    state: EndpointHealth
    takes_public: bool
    url: Url
    trust: TrustDomain
    pool: Pool
    rendered: bytes


@dataclass(frozen=True, slots=True)
class First:
    """The way of a first attempt, how many endpoints come after it, and who was passed over before it."""

    way: Way
    rungs_left: int = 0
    skipped: tuple[str, ...] = ()


class Ways:
    """The ways of the routes that serve now; made anew when routes change."""

    def __init__(self, health: HealthBoard, client: UpstreamClient, guard: Guard | None = None) -> None:
        self._health = health
        self._reads_answers = guard is not None and guard.reads_answers
        self._judges_labels = guard is not None and guard.judges_labels
        self._client = client
        self._single: dict[int, First] = {}
        self._known: dict[tuple[int, int], Way] = {}

    def first(self, route: Route, label: Label) -> First | None:
        """The way of the first attempt; None when there is none, or none that could be gone at once.

        Data that a caller labelled goes the ordinary way, which says the label with the answer.
        """
        only = self._single.get(id(route))
        if only is not None:  # most routes: who is left out of these leaves nobody
            way = only.way
            return only if label is PUBLIC and way.takes_public and self._is_free(way) else None
        if route.policy is not PLAIN or label is not PUBLIC:
            return None
        if len(route.ladder) == 1:
            made = self._way(route, Candidate(route.ladder[0], 0))
            if made is None:
                return None
            self._single[id(route)] = First(made)
            return self.first(route, label)
        try:
            chosen = plan(route, route.label, self._health.why_unavailable)
        except NoCandidate:
            return None
        if not chosen.candidates:
            return None
        way_of_first = self._way(route, chosen.candidates[0])
        if way_of_first is None or not self._is_free(way_of_first):
            return None
        return First(way_of_first, len(chosen.candidates) - 1, chosen.skipped)

    def _is_free(self, way: Way) -> bool:
        state, now_s = way.state, self._health.monotonic_s()
        return (
            state.breaker.phase == "closed"
            and state.in_flight < way.endpoint.max_connections
            and state.resting_until_s <= now_s
            and state.whole_from_s <= now_s
            and not state.used_up(now_s)
        )

    def _way(self, route: Route, candidate: Candidate) -> Way | None:
        """None for an endpoint of another dialect or with several keys, or one that cannot be used."""
        identity = (id(route), candidate.position)
        known = self._known.get(identity)
        if known is not None and known.route is route:  # a way holds its route, so no identity is used again
            return known
        endpoint = candidate.endpoint
        if endpoint.dialect != "openai" or endpoint.fault or endpoint.keys or route.task != "chat":
            return None
        if self._reads_answers or (self._judges_labels and route.label is not PUBLIC):
            return None
        try:
            url, trust = address_of(endpoint.url + PATH, endpoint.ca_file, endpoint.client_cert)
        except ConfigError:  # said by the ordinary way, as the endpoint's failure
            return None
        key = b"authorization: Bearer %b\r\n" % endpoint.key.reveal().encode() if endpoint.key is not None else b""
        pool = self._client.pool(UpstreamRequest(b"POST", url, trust=trust, credential_class=endpoint.name))
        way = Way(
            route,
            candidate,
            endpoint,
            route.rung(candidate.position),
            self._health.of(endpoint.name),
            may_take(endpoint, PUBLIC.join(route.label)),
            url,
            trust,
            pool,
            pool.render(b"POST", url.target, b"content-type: application/json\r\n" + key),
        )
        if len(self._known) >= WAYS_MAX:
            self._known.clear()
            self._single.clear()
        self._known[identity] = way
        return way
