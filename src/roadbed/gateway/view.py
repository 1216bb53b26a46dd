"""Every endpoint that serves with what is known of it in this process, as the console, the API and the CLI show it.

Reads routes and health, asks nobody, changes nothing. The invariant: no key, no path of an address and no text of a
provider is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.health import EndpointHealth, HealthBoard
from roadbed.gateway.route import Route

SHOWN_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class FailureView:
    """A failed attempt, so many seconds ago."""

    failure: str
    reason: str
    age_s: float


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint. Counts are since this process began; ``first_token_ms`` is of the last answer, and
    ``first_token_shares_ms`` its p50, p95 and p99 over the latest ones. ``failed_last`` is why its latest attempt
    failed; empty when it answered. ``is_unproven`` when its breaker was closed by hand and nothing is known since.
    """

    endpoint: str
    model: str
    dialect: str
    address: str
    is_local: bool
    routes: tuple[str, ...]
    unavailable: str
    breaker: str
    open_for_s: float
    is_drained: bool
    in_flight: int
    connections_max: int
    requests: int
    failures: int
    first_token_ms: float | None
    first_token_shares_ms: dict[str, float]
    failed_last: str
    is_unproven: bool
    recent_failures: tuple[FailureView, ...]


def first_token_shares_ms(state: EndpointHealth) -> dict[str, float]:
    """How long its latest answers took to begin: the median and the tail; empty before the first."""
    times = {name: state.first_event_s(share) for name, share in SHOWN_SHARES.items()}
    return {name: round(seconds * 1000, 1) for name, seconds in times.items() if seconds is not None}


def endpoint_views(routes: Mapping[str, Route], board: HealthBoard) -> list[EndpointView]:
    """All endpoints of these routes by name, newest failures first."""
    serving: dict[str, tuple[Endpoint, list[str]]] = {}
    for name, route in sorted(routes.items()):
        for endpoint in route.ladder:
            serving.setdefault(endpoint.name, (endpoint, []))[1].append(name)
    return [_view(endpoint, tuple(names), board) for _, (endpoint, names) in sorted(serving.items())]


def _view(endpoint: Endpoint, routes: tuple[str, ...], board: HealthBoard) -> EndpointView:
    state, now_s = board.of(endpoint.name), board.monotonic_s()
    return EndpointView(
        endpoint.name,
        endpoint.model,
        endpoint.dialect,
        endpoint.address,
        endpoint.is_local,
        routes,
        endpoint.fault or state.why_unavailable(now_s),
        state.breaker.phase,
        round(state.breaker.retry_after_s(now_s), 1),
        state.is_drained,
        state.in_flight,
        endpoint.max_connections,
        state.requests,
        state.failures,
        None if state.first_event_ms is None else round(state.first_event_ms, 1),
        first_token_shares_ms(state),
        state.failed_last,
        state.is_unproven,
        tuple(FailureView(seen.failure, seen.reason, round(now_s - seen.at_s, 1)) for seen in reversed(state.recent)),
    )
