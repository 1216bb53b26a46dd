"""Checking the limits of a manifest: every budget, rate and share parses, and what they name is there.

Pure; called while a workspace is read, so that a limit that serves is known to be one. The invariant: what passes here
is read by `kernel.limits` without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from roadbed.gateway.providers import PROVIDERS
from roadbed.guard.manifest import TeamConfig
from roadbed.kernel.config import Document, KeyPath, nearest
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.limits import parse_budget, parse_percent, parse_rate
from roadbed.kernel.secrets import is_reference
from roadbed.releases.manifest import Manifest

RATES = ("rate", "tokens", "input_tokens", "output_tokens")


def check_limits(manifest: Manifest, document: Document) -> Iterator[ConfigError]:
    """What is wrong with the limits, each with its line."""
    for name, endpoint in manifest.endpoints.items():
        yield from _check(document, endpoint, ("endpoints", name))
    for name, model in manifest.models.items():
        yield from _check(document, model, ("models", name))
    for name, app in manifest.apps.items():
        yield from _check(document, app, ("apps", name))
    for name, team in manifest.teams.items():
        yield from _check(document, team, ("teams", name))
        if team.per_key is not None:
            yield from _check(document, team.per_key, ("teams", name, "per_key"))
        yield from _check_alerts(manifest, document, team, ("teams", name))
    for name in manifest.prices:
        provider, _, model_name = name.partition("/")
        if not model_name:
            yield document.error(f"`{name}` is not provider/model", ("prices", name))
        elif provider not in PROVIDERS:
            hint = nearest(provider, PROVIDERS) or "an endpoint of your own has `price_input` and `price_output`"
            yield document.error(f"there is no provider named `{provider}`", ("prices", name), hint=hint)


def _check(document: Document, config: Any, path: KeyPath) -> Iterator[ConfigError]:
    for field in RATES:
        text = getattr(config, field, "")
        if text:
            yield from _tried(document, parse_rate, text, (*path, field))
    text = getattr(config, "budget", "")
    if text:
        yield from _tried(document, lambda given: parse_budget("any", given), text, (*path, "budget"))


def _check_alerts(manifest: Manifest, document: Document, team: TeamConfig, path: KeyPath) -> Iterator[ConfigError]:
    if team.alerts is not None:
        for i, text in enumerate(team.alerts.at):
            yield from _tried(document, parse_percent, text, (*path, "alerts", "at", i))
        if team.alerts.webhook and not is_reference(team.alerts.webhook):
            yield document.error(
                "`webhook` must be a reference, since such addresses hold a secret",
                (*path, "alerts", "webhook"),
                hint="env:NAME or file:PATH",
            )
    if team.downgrade is not None:
        yield from _tried(document, parse_percent, team.downgrade.at, (*path, "downgrade", "at"))
        if team.downgrade.to not in manifest.models:
            hint = nearest(team.downgrade.to, manifest.models) or "name one of `models`"
            yield document.error(
                f"there is no model named `{team.downgrade.to}`", (*path, "downgrade", "to"), hint=hint
            )
    for field in ("alerts", "downgrade"):
        if getattr(team, field) is not None and not team.budget:
            yield document.error(f"`{field}` needs a `budget` of the team", (*path, field))


def _tried(document: Document, parse: Callable[[str], Any], text: str, path: KeyPath) -> Iterator[ConfigError]:
    try:
        parse(text)
    except ConfigError as error:
        yield document.error(error.message, path, hint=error.hint)
