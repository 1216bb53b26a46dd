"""Which endpoints may take a request, and in which order: a pure function of the route, the data's label and the
endpoints' health.

A route is a public model name with its ladder. Labels come first: what the label does not allow is no candidate, and
with none left the request is refused, never sent to a wider set. Every endpoint that is left out is named with its
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from roadbed.gateway.cache import CacheRule, cache_rule
from roadbed.gateway.endpoints import Endpoint, endpoint_from_config, endpoint_from_provider
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.manifest import EndpointConfig, ModelConfig
from roadbed.gateway.prices import PriceTable
from roadbed.gateway.types import Rung
from roadbed.guard.policy import may_flow
from roadbed.kernel.config import nearest, parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PUBLIC, Label, parse_label


@dataclass(frozen=True, slots=True)
class Route:
    """A public model name: its ladder, best first, and the longest time for one answer.

    ``cache`` is set where its answers may be given again.
    """

    name: str
    ladder: tuple[Endpoint, ...]
    deadline_s: float = 60.0
    label: Label = PUBLIC
    cache: CacheRule | None = None

    def rung(self, position: int) -> Rung:
        """What kind of answer the endpoint at ``position`` gives: ``local`` only where it replaced one that is not."""
        if position == 0:
            return "full"
        is_replacement = any(not endpoint.is_local for endpoint in self.ladder[:position])
        return "local" if self.ladder[position].is_local and is_replacement else "fallback"


class Candidate(msgspec.Struct, frozen=True):
    """An endpoint that may be tried, and its place on the ladder."""

    endpoint: Endpoint
    position: int


class Plan(msgspec.Struct, frozen=True):
    """The endpoints to try in order, and those left out, each as ``name: reason``."""

    candidates: tuple[Candidate, ...]
    skipped: tuple[str, ...]


def may_take(endpoint: Endpoint, label: Label) -> bool:
    """Whether data with this label may go to the endpoint. Personal data is tokenised for those that are not local."""
    return may_flow(label, endpoint.sink, is_tokenised=not endpoint.is_local)


def plan(route: Route, label: Label, why_unavailable: Callable[[Endpoint], str]) -> Plan:
    """The candidates of a route. ``why_unavailable`` says why an endpoint rests; empty when it does not.

    Raises `NoCandidate` when labels or missing keys leave none. A plan whose endpoints all rest is empty.
    """
    candidates: list[Candidate] = []
    skipped: list[str] = []
    is_anyone_allowed = False
    for position, endpoint in enumerate(route.ladder):
        if endpoint.fault:
            skipped.append(f"{endpoint.name}: {endpoint.fault}")
        elif not may_take(endpoint, label):
            skipped.append(f"{endpoint.name}: not cleared for {'+'.join(label.words())}")
        else:
            is_anyone_allowed = True
            reason = why_unavailable(endpoint)
            if reason:
                skipped.append(f"{endpoint.name}: {reason}")
            else:
                candidates.append(Candidate(endpoint, position))
    if not is_anyone_allowed:
        message = (
            f"no endpoint of the route {route.name!r} may take this request: {'; '.join(skipped) or 'it has none'}"
        )
        hint = "add an endpoint that may, or clear one with `labels`; the request was sent nowhere"
        raise NoCandidate(message, hint=hint)
    return Plan(tuple(candidates), tuple(skipped))


def build_routes(
    endpoints: Mapping[str, EndpointConfig],
    models: Mapping[str, ModelConfig],
    *,
    prices: PriceTable,
    base: Path | None = None,
    release: str = "",
) -> dict[str, Route]:
    """The routes of a manifest. Raises `ConfigError` for a ladder entry that names nothing.

    ``release`` is the digest of what serves them: answers are kept under it.
    """
    built = {name: endpoint_from_config(name, config, prices=prices, base=base) for name, config in endpoints.items()}
    routes = {}
    for name, model in models.items():
        ladder = []
        for entry in model.ladder:
            if entry in built:
                ladder.append(built[entry])
            elif "/" in entry:
                ladder.append(endpoint_from_provider(entry, prices=prices))
            else:
                hint = nearest(entry, built) or "name one of `endpoints`, or provider/model"
                raise ConfigError(f"models.{name}.ladder: there is no endpoint {entry!r}", hint=hint)
        label = parse_label(model.labels, where=f"models.{name}.labels")
        routes[name] = Route(
            name, tuple(ladder), parse_duration_s(model.deadline), label, cache_rule(model.cache, release)
        )
    return routes
