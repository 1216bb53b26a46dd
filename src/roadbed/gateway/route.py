"""Which endpoints may take a request, and in which order: a pure function of the route, the data's label and the
endpoints' health.

A route is a public model name with its ladder. Labels come first: what the label does not allow is no candidate, and
with none left the request is refused, never sent to a wider set. Every endpoint that is left out is named with its
reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from roadbed.gateway.cache import CacheRule, cache_rule
from roadbed.gateway.dialects.registry import BY_TASK
from roadbed.gateway.endpoints import Endpoint, endpoint_from_config, endpoint_from_provider
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.manifest import HEADER_PATTERN, HOURS_PATTERN, EndpointConfig, ModelConfig, OnConfig, Task
from roadbed.gateway.policy import ENSEMBLES, HEARTBEAT_S, HEARTBEAT_S_MIN, PLAIN, Condition, Policy, minutes_of
from roadbed.gateway.prices import PriceTable
from roadbed.gateway.types import Rung
from roadbed.guard.policy import may_flow, why_forbidden
from roadbed.kernel.config import nearest, parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import PUBLIC, Label, parse_label


@dataclass(frozen=True, slots=True)
class Route:
    """A public model name: its ladder, best first, the longest time for one answer, and what it is asked for.

    ``cache`` is set where its answers may be given again.
    """

    name: str
    ladder: tuple[Endpoint, ...]
    deadline_s: float = 60.0
    label: Label = PUBLIC
    task: Task = "chat"
    policy: Policy = PLAIN
    judge: Route | None = None
    cache: CacheRule | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The ladder, and what only rules and outcomes lead to."""
        return (*self.ladder, *self.policy.reserve)

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


def why_not(endpoint: Endpoint, label: Label) -> str:
    """Why data with this label may not go to the endpoint; empty when it may."""
    return why_forbidden(label, endpoint.sink, is_tokenised=not endpoint.is_local)


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
            skipped.append(f"{endpoint.name}: {why_not(endpoint, label)}")
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

    def endpoint(entry: str, where: str) -> Endpoint:
        if entry not in built:
            if "/" not in entry:
                hint = nearest(entry, built) or "name one of `endpoints`, or provider/model"
                raise ConfigError(f"{where}: there is no endpoint {entry!r}", hint=hint)
            built[entry] = endpoint_from_provider(entry, prices=prices)
        return built[entry]

    routes = {}
    for name, model in models.items():
        ladder = tuple(endpoint(entry, f"models.{name}.ladder") for entry in model.ladder)
        label = parse_label(model.labels, where=f"models.{name}.labels")
        policy = _policy(name, model, ladder, endpoint)
        _check_task(name, model.task, (*ladder, *policy.reserve))
        cache = cache_rule(model.cache, release)
        routes[name] = Route(name, ladder, parse_duration_s(model.deadline), label, model.task, policy, cache=cache)
    return {name: _with_judge(route, models[name].judge, routes) for name, route in routes.items()}


def _check_task(name: str, task: Task, ladder: Sequence[Endpoint]) -> None:
    """Every endpoint can be asked for the task, and the vectors of one route come from one model."""
    for endpoint in ladder:
        if endpoint.dialect not in BY_TASK[task]:
            message = f"models.{name}: the endpoint {endpoint.name} is of type {endpoint.dialect}, not for {task}"
            raise ConfigError(message, hint=f"types that are: {', '.join(sorted(BY_TASK[task]))}")
    models = {endpoint.model.rpartition("/")[2].lower() for endpoint in ladder}
    if task == "embeddings" and len(models) > 1:
        message = f"models.{name}.ladder: vectors of different models cannot be compared ({', '.join(sorted(models))})"
        raise ConfigError(message, hint="name endpoints that serve one model under one name")


def _policy(
    name: str, model: ModelConfig, ladder: tuple[Endpoint, ...], endpoint: Callable[[str, str], Endpoint]
) -> Policy:
    where = f"models.{name}"
    rules = []
    for number, rule in enumerate(model.when):
        place = f"{where}.when[{number}]"
        if rule.hours and not re.match(HOURS_PATTERN, rule.hours):
            raise ConfigError(f"{place}.hours: {rule.hours!r} is no span", hint="write it like 22:00-06:00, in UTC")
        strange = next((header for header in rule.header if not re.match(HEADER_PATTERN, header)), None)
        if strange is not None:
            raise ConfigError(f"{place}.header: {strange!r} is no name of a header", hint="for example x-tier")
        rules.append(
            Condition(
                tuple(endpoint(entry, f"{place}.use") for entry in rule.use),
                parse_label([rule.label], where=f"{place}.label") if rule.label else None,
                rule.team,
                rule.tokens_over,
                tuple((header.lower(), value) for header, value in rule.header.items()),
                minutes_of(rule.hours) if rule.hours else None,
            )
        )
    on: dict[str, str] = msgspec.structs.asdict(model.on)
    targets = [endpoint(target, f"{where}.on.{key}") for key, target in on.items() if target not in ("next", "fail")]
    used = [*(item for rule in rules for item in rule.use), *targets]
    unknown = sorted(set(model.weights) - {item.name for item in (*ladder, *used)})
    if unknown:
        hint = nearest(unknown[0], model.ladder) or "weights are of endpoints that the route uses"
        raise ConfigError(f"{where}.weights: the route does not use {unknown[0]!r}", hint=hint)
    if model.strategy in ENSEMBLES and model.on_cut == "continue":
        raise ConfigError(
            f"{where}.on_cut: an answer chosen among several is whole before it is sent", hint="leave out on_cut"
        )
    policy = Policy(
        model.strategy,
        dict(model.weights),
        tuple(rules),
        on,
        model.on_cut,
        model.hedge,
        model.queue,
        model.priority == "batch",
        tuple(dict.fromkeys(item for item in used if item not in ladder)),
        _heartbeat_s(model),
        model.heartbeat is not None,
    )
    return PLAIN if policy == replace(PLAIN, on=policy.on) and model.on == OnConfig() else policy


def _heartbeat_s(model: ModelConfig) -> float:
    if model.heartbeat is not None:
        wanted_s = parse_duration_s(model.heartbeat)
        return max(wanted_s, HEARTBEAT_S_MIN) if wanted_s else 0.0
    return HEARTBEAT_S if model.on_cut == "restart" else 0.0


def _with_judge(route: Route, judge: str, routes: Mapping[str, Route]) -> Route:
    if route.policy.strategy != "best-of":
        return route
    found = routes.get(judge)
    if found is None or found.policy.strategy in ENSEMBLES:
        hint = nearest(judge, routes) or "name a route of `models` that is no ensemble itself"
        raise ConfigError(f"models.{route.name}.judge: {judge!r} is not a route that can judge", hint=hint)
    return replace(route, judge=found)
