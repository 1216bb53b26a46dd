"""From a LiteLLM proxy's ``config.yaml`` to a manifest: what carries over, and for all else why not.

Pure: a decoded configuration in, a manifest's data and a report out; no file, no environment, no network. Deployments
become endpoints, model groups routes whose ladders hold their deployments and then those of their fallbacks, shared as
`litellm_routes.py` says. The invariants: every setting of the file is carried over or stands in the report; a key
written in clear gets into neither.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from roadbed.kernel.errors import ConfigError
from roadbed.releases.litellm_notes import ELSEWHERE, SETTINGS, TASKS, Left
from roadbed.releases.litellm_routes import (
    ROUTING_STRATEGIES,
    Deployment,
    number_of,
    shape_of,
    target_of,
    task_of,
    why_apart,
)
from roadbed.releases.litellm_servers import Given, server_of

NAME_CHARACTERS_MAX = 63
FALLBACKS_MAX = 1000
OUTCOMES = {"context_window_fallbacks": "context_length", "content_policy_fallbacks": "content_filter"}
FALLBACKS = ("fallbacks", "default_fallbacks", *OUTCOMES)
_SPANS = {"1d": "day", "24h": "day", "30d": "month", "1mo": "month", "7d": "week", "1w": "week"}


@dataclass(slots=True)
class Imported:
    """The manifest's data in the manifest's order, and the report."""

    manifest: dict[str, Any]
    left: list[Left] = field(default_factory=list)


def import_litellm(config: Any, name: str) -> Imported:
    """The manifest of a configuration. Raises `ConfigError` for what is none."""
    if not isinstance(config, Mapping) or not isinstance(config.get("model_list"), list):
        raise ConfigError("this is no LiteLLM configuration: it has no `model_list`", hint="name a proxy's config.yaml")
    return _Import(config, name).run()


class _Import:
    """One import under way."""

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self.config = config
        self.name = name
        self.left: list[Left] = []
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[Deployment]] = {}
        self.names: dict[str, str] = {}
        self.deadlines: dict[str, float] = {}
        aliases = self._section("router_settings").get("model_group_alias")
        groups = [entry.get("model_name") for entry in config["model_list"] if isinstance(entry, Mapping)]
        self.reserved = {_slug(str(name)) for name in [*groups, *(aliases if isinstance(aliases, Mapping) else ())]}

    def run(self) -> Imported:
        """All of it."""
        for number, entry in enumerate(self.config["model_list"]):
            self._deployment(entry, f"model_list[{number}]")
        router, settings = self._section("router_settings"), self._section("litellm_settings")
        models = self._models(router, settings)
        teams = dict(self._teams(settings))
        for section in ("router_settings", "litellm_settings", "general_settings"):
            self._rest(section)
        for key in self.config:
            if key not in ("model_list", "router_settings", "litellm_settings", "general_settings"):
                self._leave(str(key), SETTINGS.get(str(key), "no counterpart"))
        if self._section("general_settings").get("database_url") or self._section("general_settings").get("master_key"):
            self._leave("(its database)", ELSEWHERE)
        manifest: dict[str, Any] = {"name": self.name, "endpoints": self.endpoints, "models": models, "teams": teams}
        return Imported({key: value for key, value in manifest.items() if value}, self.left)

    def _leave(self, path: str, why: str) -> None:
        self.left.append(Left(path, why))

    def _section(self, name: str) -> Mapping[str, Any]:
        found = self.config.get(name)
        return found if isinstance(found, Mapping) else {}

    # -- deployments --------------------------------------------------------------------------------------------------

    def _deployment(self, entry: Any, path: str) -> None:
        group = entry.get("model_name") if isinstance(entry, Mapping) else None
        given = entry.get("litellm_params") if isinstance(entry, Mapping) else None
        if not isinstance(group, str) or not isinstance(given, Mapping) or not isinstance(given.get("model"), str):
            self._leave(path, "it needs model_name and litellm_params.model")
            return
        params: dict[str, Any] = dict(given)
        info = entry.get("model_info")
        info = dict(info) if isinstance(info, Mapping) else {}
        mode = str(info.pop("mode", "") or task_of(params["model"]))
        if "*" in group or "*" in params["model"]:
            self._leave(path, "wildcards: name each model, so that it is known what may be asked")
            return
        if mode not in TASKS:
            self._leave(f"{path}.model_info.mode", f"{mode}: routes are for chats, embeddings and reranking")
            return
        task, variables = TASKS[mode], self._section("environment_variables")
        endpoint = server_of(Given(params, path, variables, len(self.endpoints) + 1, self.left), task)
        if endpoint is None:
            return
        name = self._endpoint_name(group)
        beside = self.groups.get(group)
        if beside and (why := why_apart(beside[0], task, endpoint["model"])):
            self._leave(path, why)
            return
        shares = tuple(self._share(params, key, path) for key in ("weight", "rpm", "tpm"))
        order = params.pop("order", None)
        if order is not None and (not isinstance(order, int) or isinstance(order, bool)):
            self._leave(f"{path}.litellm_params.order", "an order is a whole number")
            order = None
        self._limits(endpoint, params, info, group, path)
        self.endpoints[name] = endpoint
        is_priced = "price_input" in endpoint and "price_output" in endpoint
        weight, rpm, tpm = shares
        self.groups.setdefault(group, []).append(
            Deployment(name, order, (weight, rpm, tpm), is_priced, task, endpoint["model"])
        )
        for key in params:
            self._leave(f"{path}.litellm_params.{key}", SETTINGS.get(key, "no counterpart; callers may send it"))
        for key in info:
            if key not in ("id", "base_model"):
                self._leave(f"{path}.model_info.{key}", SETTINGS.get(key, "no counterpart"))

    def _share(self, params: dict[str, Any], key: str, path: str) -> float | None:
        """What a deployment may be weighed by; its limits are another matter, and stay."""
        share = number_of(params.get(key))
        if key == "weight" and params.pop(key, None) is not None and share is None:
            self._leave(f"{path}.litellm_params.weight", "a weight is a number, 0 or more")
        return share

    def _limits(
        self, endpoint: dict[str, Any], params: dict[str, Any], info: dict[str, Any], group: str, path: str
    ) -> None:
        parallel = params.pop("max_parallel_requests", None)
        if isinstance(parallel, int) and not isinstance(parallel, bool) and parallel >= 1:
            endpoint["max_connections"] = min(parallel, 1024)
        for given, limit in (("rpm", "rate"), ("tpm", "tokens")):
            most = params.get(given)
            if isinstance(most, int) and not isinstance(most, bool) and most >= 1:
                endpoint[limit] = f"{params.pop(given)}/min"
        first = _seconds(params.pop("stream_timeout", None))
        if first is not None:
            endpoint["first_event"] = _duration(first)
        whole = _seconds(params.pop("timeout", None))
        if whole is not None:
            self.deadlines[group] = max(whole, self.deadlines.get(group, 0.0))
        for side in ("input", "output"):
            name = f"{side}_cost_per_token"
            cost = params.pop(name, info.pop(name, None))
            info.pop(name, None)
            if isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0:
                endpoint[f"price_{side}"] = round(cost * 1_000_000, 6)
            elif cost is not None:
                self._leave(f"{path}.{name}", "a price is a number")

    def _endpoint_name(self, group: str) -> str:
        """A name that no endpoint has and no route will have."""
        base, number = _slug(group)[: NAME_CHARACTERS_MAX - 7], 1
        while f"{base}-{number}" in self.endpoints or f"{base}-{number}" in self.reserved:
            number += 1
        return f"{base}-{number}"

    # -- routes -------------------------------------------------------------------------------------------------------

    def _models(self, router: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
        fallbacks = self._listed(router, settings, "fallbacks")
        default = router.get("default_fallbacks", settings.get("default_fallbacks"))
        default = [item for item in default if isinstance(item, str)] if isinstance(default, list) else []
        deadline = _seconds(router.get("timeout", settings.get("request_timeout")))
        cache = self._cache(settings)
        routing = str(router.get("routing_strategy") or "")
        if routing not in ROUTING_STRATEGIES:
            self._leave("router_settings.routing_strategy", "no strategy of this name: shared by weight")
            routing = ""
        outcomes = {name: self._listed(router, settings, name) for name in OUTCOMES}
        models: dict[str, Any] = {}
        for group in self.groups:
            others = [other for other in fallbacks.get(group, default) if other != group]
            first = self.groups[group][0]
            behind = []
            for other in others:
                next_to = self.groups.get(other)
                why = "no route of this name carried over"
                if next_to is not None and not (why := why_apart(first, next_to[0].task, next_to[0].model)):
                    behind.append(next_to)
                else:
                    self._leave(f"fallbacks.{group}", f"{other}: {why}")
            shape = shape_of(self.groups[group], behind, routing)
            for why in shape.left:
                self._leave(f"router_settings.routing_strategy ({group})", why)
            name = self._model_name(group, models)
            task = {} if first.task == "chat" else {"task": first.task}
            models[name] = {"ladder": shape.ladder, **task, **shape.fields}
            on = self._outcomes(group, outcomes)
            if on:
                models[name]["on"] = on
            whole = self.deadlines.get(group, deadline)
            if whole is not None:
                models[name]["deadline"] = _duration(whole)
            if cache is not None and not task:
                models[name]["cache"] = cache
        self._aliases(router, models)
        return models

    def _listed(self, router: Mapping[str, Any], settings: Mapping[str, Any], key: str) -> dict[str, list[str]]:
        """Fallbacks of one kind by group; the router's own go before the general ones."""
        found = dict(self._fallbacks(router, "router_settings", key))
        for group, others in self._fallbacks(settings, "litellm_settings", key):
            found.setdefault(group, others)
        return found

    def _outcomes(self, group: str, outcomes: Mapping[str, Mapping[str, list[str]]]) -> dict[str, str]:
        """The endpoints to go on with after some outcomes."""
        on: dict[str, str] = {}
        for key, listed in outcomes.items():
            first = self.groups[group][0]
            alike = {name: of for name, of in self.groups.items() if not why_apart(first, of[0].task, of[0].model)}
            target, why = target_of(group, listed, alike)
            if target:
                on[OUTCOMES[key]] = target
            if why:
                self._leave(f"{key}.{group}", why)
        return on

    def _model_name(self, group: str, models: Mapping[str, Any]) -> str:
        name = _slug(group)
        if name != group:
            self._leave(f"model_name {group}", f"renamed to {name}: names are letters, digits, - and _")
        number = 1
        while name in models or name in self.endpoints:
            number += 1
            name = f"{_slug(group)[: NAME_CHARACTERS_MAX - 7]}-x{number}"
        self.names[group] = name
        return name

    def _fallbacks(self, section: Mapping[str, Any], where: str, key: str) -> Iterator[tuple[str, list[str]]]:
        listed = section.get(key)
        for entry in listed[:FALLBACKS_MAX] if isinstance(listed, list) else []:
            for group, others in entry.items() if isinstance(entry, Mapping) else ():
                names = [other for other in others if isinstance(other, str)] if isinstance(others, list) else []
                if not isinstance(others, list) or len(names) != len(others):
                    self._leave(f"{where}.{key}.{group}", "only names of models carry over")
                if group not in self.groups:
                    self._leave(f"{where}.{key}.{group}", "no route of this name carried over")
                yield str(group), names

    def _aliases(self, router: Mapping[str, Any], models: dict[str, Any]) -> None:
        aliases = router.get("model_group_alias")
        for alias, target in aliases.items() if isinstance(aliases, Mapping) else ():
            group = target.get("model") if isinstance(target, Mapping) else target
            if isinstance(group, str) and group in self.names and _slug(str(alias)) not in models:
                models[self._model_name(str(alias), models)] = dict(models[self.names[group]])
            else:
                self._leave(f"router_settings.model_group_alias.{alias}", "no route of its target's name carried over")

    def _cache(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        if settings.get("cache") is not True:
            return None
        params = settings.get("cache_params")
        params = params if isinstance(params, Mapping) else {}
        if "semantic" in str(params.get("type", "")):
            self._leave("litellm_settings.cache_params.type", "answers to similar questions are not given again")
            return None
        for key in params:
            if key not in ("ttl", "type"):
                self._leave(f"litellm_settings.cache_params.{key}", "the cache is in each process's memory")
        return {"exact": _duration(_seconds(params.get("ttl")) or 3600.0), "any_temperature": True}

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _teams(self, settings: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        listed = settings.get("default_team_settings")
        for number, entry in enumerate(listed if isinstance(listed, list) else []):
            path = f"litellm_settings.default_team_settings[{number}]"
            if not isinstance(entry, Mapping) or not entry.get("team_id"):
                self._leave(path, "it has no team_id")
                continue
            team: dict[str, Any] = {}
            values = {key: value for key, value in entry.items() if key != "team_id"}
            budget, span = values.pop("max_budget", None), str(values.pop("budget_duration", "30d"))
            if isinstance(budget, int | float) and span in _SPANS:
                team["budget"] = f"{budget:g} USD/{_SPANS[span]}"
            elif budget is not None:
                self._leave(f"{path}.budget_duration", f"{span}: budgets are by day, week or month")
            rate = values.pop("rpm_limit", None)
            if isinstance(rate, int) and not isinstance(rate, bool) and rate >= 1:
                team["rate"] = f"{rate}/min"
            elif rate is not None:
                self._leave(f"{path}.rpm_limit", "a rate is a whole number")
            tokens = values.pop("tpm_limit", None)
            if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 1:
                team["tokens"] = f"{tokens}/min"
            elif tokens is not None:
                self._leave(f"{path}.tpm_limit", "a rate is a whole number")
            models = values.pop("models", None)
            if isinstance(models, list):
                team["apps"] = [self.names[model] for model in models if model in self.names]
            for key in values:
                self._leave(f"{path}.{key}", SETTINGS.get(key, "no counterpart"))
            yield _slug(str(entry["team_id"])), team

    def _rest(self, section: str) -> None:
        carried = {
            "router_settings": {*FALLBACKS, "timeout", "model_group_alias", "routing_strategy"},
            "litellm_settings": {*FALLBACKS, "request_timeout", "cache", "cache_params", "default_team_settings"},
        }.get(section, set())
        for key in self._section(section):
            if key not in carried:
                self._leave(f"{section}.{key}", SETTINGS.get(str(key), "no counterpart"))


def _slug(text: str) -> str:
    """A name that a manifest takes."""
    words = re.sub(r"[^a-zA-Z0-9_-]+", "-", text).strip("-")
    return (words if words[:1].isalpha() else f"m-{words}".rstrip("-"))[:NAME_CHARACTERS_MAX]


def _seconds(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}(\.\d{1,3})?", value):
        value = float(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 1e8 else None


def _duration(seconds: float) -> str:
    return f"{seconds:g}s" if seconds < 1e6 else f"{int(seconds)}s"
