"""`AppRegistry`: the live apps and routes of one process, built from releases.

It is handed the snapshot of live releases whenever that moves, builds each release once, and swaps all of it as one
immutable object. A request takes its `Served` once and keeps it, so no answer mixes two releases. With no model
declared anywhere, the apps ask the local engine that was found last (`use_local_engine`), if any.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from roadbed.apps.analytics import AnalyticsApp, SavedQuestions
from roadbed.apps.analytics_desk import Desk
from roadbed.apps.copilot import Copilot
from roadbed.apps.manifest import AppConfig
from roadbed.apps.retrieval import Searcher
from roadbed.apps.search import SearchApp
from roadbed.apps.tool_offer import AppTools, ToolCaller
from roadbed.apps.types import App
from roadbed.gateway.cache import cache_rule
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.manifest import EndpointConfig, ModelConfig, PriceConfig
from roadbed.gateway.prices import PriceTable
from roadbed.gateway.route import Route, build_routes
from roadbed.guard.gate import Guard
from roadbed.kernel.config import nearest, parse_duration_s
from roadbed.kernel.errors import ConfigError, NotFound
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release

log = logging.getLogger("roadbed.apps")

ROUTES = "_routes"
INNER = "_"  # begins the names of releases that are no apps
NAMES_LISTED_MAX = 20


class UnknownModel(NotFound):
    """The ``model`` of the request is neither an app nor a route of this workspace."""

    code = "request.unknown_model"


@dataclass(frozen=True, slots=True)
class ServedApp:
    """One app as it serves now."""

    name: str
    release: Release
    config: AppConfig
    app: App
    deadline_s: float
    route: Callable[[], Route | None]
    build_over: Callable[[Route], App] | None = None

    def over(self, route: Route) -> ServedApp | None:
        """The same app with another route in place of its own; None for one that asks no model."""
        if self.build_over is None:
            return None
        return replace(self, app=self.build_over(route), route=lambda: route)


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that serves, as of one moment."""

    apps: Mapping[str, ServedApp]
    routes: Mapping[str, Route]
    routes_release: Release | None


class AppRegistry:
    """Builds and swaps what serves. One per process."""

    def __init__(
        self,
        *,
        searcher: Searcher,
        gateway: Gateway,
        guard: Callable[[], Guard],
        prices: PriceTable,
        folder: Path,
        tools: Callable[[], ToolCaller] | None = None,
        may_call: Callable[[Principal, str], bool] = lambda principal, name: True,
    ) -> None:
        self._tools = tools
        self._may_call = may_call
        self._searcher = searcher
        self._gateway = gateway
        self._guard = guard
        self._prices = prices
        self._folder = folder
        self.desk: Desk | None = None
        self.saved_questions: SavedQuestions | None = None
        self._local: Mapping[str, Route] = {}
        self._declared: Mapping[str, Route] = {}
        self._hidden: Mapping[str, ServedApp | Route] = {}
        self.served = Served({}, {}, None)

    def take(self, live: Mapping[str, Release]) -> None:
        """Serve these releases from now on. A release that cannot be built keeps the one before it serving."""
        apps: dict[str, ServedApp] = {}
        for name, release in live.items():
            if name.startswith(INNER):
                continue
            known = self.served.apps.get(name)
            if known is not None and known.release.digest == release.digest:
                apps[name] = known
                continue
            try:
                apps[name] = self._build(name, release)
            except (ConfigError, msgspec.ValidationError) as error:
                log.error("the release %s of %s cannot serve: %s", release.short, name, error)
                if known is not None:
                    apps[name] = known
        routes_release = live.get(ROUTES)
        if routes_release is not None and routes_release is not self.served.routes_release:
            try:
                self._declared = self._routes(routes_release)
            except (ConfigError, msgspec.ValidationError) as error:
                log.error("the routes cannot serve: %s", error)
                routes_release = self.served.routes_release  # what serves is named, not what was meant to
        self._swap(apps, routes_release)

    def use_local_engine(self, routes: Mapping[str, Route]) -> None:
        """Take the routes of local engines that answer just now; they serve while the manifest declares no model."""
        self._local = dict(routes)
        self._swap(self.served.apps, self.served.routes_release)

    def hide(self, releases: Mapping[str, Release]) -> None:
        """Serve these beside the rest, to callers who name them, and list them nowhere. An empty mapping ends that."""
        routes = self._routes(releases[ROUTES]) if ROUTES in releases else {}
        apps = {name: self._build(name, release) for name, release in releases.items() if name != ROUTES}
        self._hidden = {**routes, **apps}

    def _swap(self, apps: Mapping[str, ServedApp], routes_release: Release | None) -> None:
        routes = self._declared or self._local
        self.served = Served(apps, routes, routes_release)
        self._gateway.swap(routes, self._guard())

    def _default_route(self) -> Route | None:
        return next(iter(self._local.values()), None) if not self._declared else None

    def _routes(self, release: Release) -> dict[str, Route]:
        document = release.document
        endpoints = msgspec.convert(document["endpoints"], dict[str, EndpointConfig])
        models = msgspec.convert(document["routes"], dict[str, ModelConfig])
        prices = self._prices.with_rows(msgspec.convert(document.get("prices", {}), dict[str, PriceConfig]))
        return build_routes(endpoints, models, prices=prices, base=self._folder, release=release.digest)

    def _build(self, name: str, release: Release) -> ServedApp:
        config = msgspec.convert(release.document["settings"], AppConfig)
        uses_knowledge = bool(config.knowledge)
        rule = cache_rule(config.cache, release.digest, uses_knowledge=uses_knowledge)
        declared = self._routes(release).get(config.model)
        if config.cache is None and declared is not None and declared.cache is not None:
            rule = msgspec.structs.replace(declared.cache, uses_knowledge=uses_knowledge)
        pinned = replace(declared, cache=rule) if declared is not None else None

        def route() -> Route | None:
            if pinned is not None:
                return pinned
            found = self._default_route()
            return replace(found, cache=rule) if found is not None and rule is not None else found

        deadline_s = parse_duration_s(config.deadline)
        if config.kind == "search":
            app = SearchApp(config, searcher=self._searcher, guard=self._guard)
            return ServedApp(name, release, config, app, deadline_s, route)

        def made(find: Callable[[], Route | None]) -> App:
            if config.kind == "analytics":
                return self._analytics(config, release, find)
            return Copilot(
                config,
                release.document["prompt"]["text"],
                searcher=self._searcher,
                gateway=self._gateway,
                guard=self._guard,
                route=find,
                tools=AppTools(self._tools, release.document.get("tools", {})) if self._tools is not None else None,
            )

        def over(other: Route) -> App:
            return made(lambda: replace(other, cache=rule))

        return ServedApp(name, release, config, made(route), deadline_s, route, over)

    def _analytics(self, config: AppConfig, release: Release, find: Callable[[], Route | None]) -> App:
        return AnalyticsApp(
            config,
            release.document["prompt"]["text"],
            desk=lambda: self.desk,
            saved=lambda: self.saved_questions,
            gateway=self._gateway,
            guard=self._guard,
            route=find,
        )

    def find_app(self, name: str) -> ServedApp:
        """The app of this name. Raises `UnknownModel`, for routes too."""
        found = self.find(name)
        if not isinstance(found, ServedApp):
            raise UnknownModel(f"{name} is a model, not an app", param="model")
        return found

    def find(self, model: str, principal: Principal | None = None) -> ServedApp | Route:
        """The app or route of this name. Raises `UnknownModel`, which lists what there is for ``principal``, for all
        where none is given.
        """
        served = self.served
        found = served.apps.get(model) or served.routes.get(model) or self._hidden.get(model)
        if found is None:
            names = sorted({*served.apps, *served.routes})
            known = [name for name in names if principal is None or self._may_call(principal, name)]
            hint = nearest(model, known) or f"known models: {', '.join(known[:NAMES_LISTED_MAX]) or 'none yet'}"
            raise UnknownModel(f"there is no app or model named {model[:100]!r}", hint=hint, param="model")
        return found
