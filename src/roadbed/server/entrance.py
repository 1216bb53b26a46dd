"""`Entrance`: which rates, slots and budgets a request counts against, as of the manifest that serves.

Built from ``teams``, ``apps``, ``models`` and ``endpoints``; asked once per request by whoever admits it. What a limit
counted so far survives a change of the manifest that leaves the limit as it is; of several processes each holds its
part of every limit (`gauges`). The invariant: what was let in is closed when the request's trace is finished, or its
task cancelled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from roadbed.apps.registry import ServedApp
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.gauges import Gauges
from roadbed.gateway.limits import KINDS, EndpointLimits, Gauge, Kind, LimitSet, Pass, Slots
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.route import Route
from roadbed.guard.manifest import TeamConfig
from roadbed.kernel.clock import SYSTEM_CLOCK
from roadbed.kernel.limits import Budget, parse_budget, parse_percent, parse_rate
from roadbed.kernel.principal import Principal
from roadbed.ledger.budgets import Budgets
from roadbed.releases.manifest import Manifest

SETS_MAX = 20_000
NO_TEAM = TeamConfig()


@dataclass(slots=True)
class Entrance:
    """One per process. ``is_on`` is False while the manifest and the keys limit nothing."""

    gateway: Gateway
    budgets: Budgets | None = None
    monotonic_s: Callable[[], float] = SYSTEM_CLOCK.monotonic_s
    is_on: bool = False
    _manifest: Manifest = field(default_factory=lambda: Manifest("none"))
    _sets: OrderedDict[tuple[str, str], tuple[Principal, LimitSet]] = field(default_factory=OrderedDict)
    gauges: Gauges = field(init=False)

    def __post_init__(self) -> None:
        self.gauges = Gauges(self.monotonic_s, SETS_MAX)

    def take(self, manifest: Manifest, *, keys_have_budgets: bool = False) -> None:
        """Hold callers to this manifest from now on."""
        self._manifest = manifest
        self._sets.clear()
        limited = (*manifest.teams.values(), *manifest.apps.values(), *manifest.models.values())
        self.is_on = keys_have_budgets or any(map(_has_limits, limited))
        endpoints = {name: e for name, e in manifest.endpoints.items() if _has_limits(e)}
        self.gauges.is_on = self.is_on or bool(endpoints)
        self.gateway.limit_endpoints({name: self._endpoint_limits(name, e) for name, e in endpoints.items()})

    # -- requests -----------------------------------------------------------------------------------------------------

    def let_in(
        self, body_bytes: int, principal: Principal, name: str, target: ServedApp | Route
    ) -> tuple[Pass, ServedApp | Route]:
        """Count a request, and the route that answers it: another one where the budget nears its end. Raises
        `RateExceeded`, `ConcurrencyExceeded`.
        """
        ticket = self.count(body_bytes, principal, name)
        limits = ticket.limits
        if limits.downgrade is not None and limits.purse is not None:
            percent, cheaper = limits.downgrade
            if cheaper != name and limits.purse.used_percent() >= percent:
                instead = self._cheaper(target, cheaper)
                if instead is not None:
                    ticket.notes.append(f"{name}: the budget is {percent}% spent, so {cheaper} answered")
                    return ticket, instead
        return ticket, target

    def _cheaper(self, target: ServedApp | Route, cheaper: str) -> ServedApp | Route | None:
        """The route in place of another one of its task, or the app over it; None where there is nothing to replace."""
        found = self.gateway.routes.get(cheaper)
        if found is None:
            return None
        if isinstance(target, Route):
            return found if found.task == target.task else None
        own = target.route()
        return target.over(found) if own is not None and own.name != cheaper and found.task == "chat" else None

    def count(self, body_bytes: int, principal: Principal, name: str) -> Pass:
        """Count a request for ``name``, whatever answers it. Raises `RateExceeded`, `ConcurrencyExceeded`."""
        known = self._sets.get((principal.id, name))
        limits = known[1] if known is not None and known[0] is principal else self._set_of(principal, name)
        return limits.admit(body_bytes)

    def ticket(self, body_bytes: int, principal: Principal, name: str) -> Pass | None:
        """As `count`; None while nothing is limited."""
        return self.count(body_bytes, principal, name) if self.is_on else None

    def _set_of(self, principal: Principal, name: str) -> LimitSet:
        if len(self._sets) >= SETS_MAX:  # what they count is kept by the gauges, so one is as good as another
            self._sets.popitem(last=False)
        gauges: list[Gauge] = []
        slots: list[Slots] = []
        budgets: list[Budget] = []
        team = self._manifest.teams.get(principal.team, NO_TEAM)
        for owner, config in self._owners(principal, team, name):
            for kind in KINDS:
                text = getattr(config, "rate" if kind == "requests" else kind)
                if text:
                    gauges.append(self._gauge(owner.replace(":", " ", 1), kind, text))
            if config.concurrency is not None:
                slots.append(self.gauges.slots(owner.replace(":", " ", 1), config.concurrency))
            budget = getattr(config, "budget", "")
            if owner.startswith("key:") and principal.budget:
                budget = principal.budget
            if budget:
                budgets.append(parse_budget(owner, budget))
        if principal.budget and team.per_key is None:
            budgets.append(parse_budget(f"key:{principal.id}", principal.budget))
        purse = self.budgets.purse(budgets) if budgets and self.budgets is not None else None
        downgrade = (parse_percent(team.downgrade.at), team.downgrade.to) if team.downgrade is not None else None
        made = LimitSet(gauges, slots, self.monotonic_s, purse, downgrade)
        self._sets[principal.id, name] = (principal, made)
        return made

    def _owners(self, principal: Principal, team: TeamConfig, name: str) -> Iterator[tuple[str, Any]]:
        """Whose limits apply, from the one that a caller feels first."""
        yield f"team:{principal.team}", team
        if team.per_key is not None:
            yield f"key:{principal.id}", team.per_key
        app = self._manifest.apps.get(name)
        if app is not None:
            yield f"app:{name}", app
        model = self._manifest.models.get(name)
        if model is not None:
            yield f"model:{name}", model

    def _gauge(self, owner: str, kind: Kind, text: str) -> Gauge:
        return self.gauges.gauge(owner, kind, *parse_rate(text))

    def _endpoint_limits(self, name: str, config: EndpointConfig) -> EndpointLimits:
        owner = f"endpoint {name}"
        requests = self._gauge(owner, "requests", config.rate) if config.rate else None
        given = {kind: getattr(config, kind) for kind in KINDS if kind != "requests"}
        tokens = tuple(self._gauge(owner, kind, text) for kind, text in given.items() if text)
        slots = self.gauges.slots(owner, config.concurrency) if config.concurrency is not None else None
        return EndpointLimits(requests, tokens, slots)


class NoLimits:
    """Stands where no entrance was built, as in tests of the path behind it."""

    is_on = False

    def let_in(
        self, body_bytes: int, principal: Principal, name: str, target: ServedApp | Route
    ) -> tuple[Pass, ServedApp | Route]:
        """Let the request in as it is: it counts against nothing."""
        return Pass(_NOTHING, 0.0, b""), target


_NOTHING = LimitSet((), (), SYSTEM_CLOCK.monotonic_s)
NO_LIMITS = NoLimits()


def _has_limits(config: Any) -> bool:
    fields = ("budget", "rate", "tokens", "input_tokens", "output_tokens", "concurrency", "per_key")
    return any(getattr(config, name, None) for name in fields)
