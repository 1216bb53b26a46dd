"""`readiness`: what stands between a prototype and a service, each with the line or command that mends it. Pure.

Required are the things without which nobody could answer for the app in production; the rest is advised. What cannot be
judged is said to be so, never passed. The invariant: every item that is not ``ok`` names what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final, Literal, NamedTuple

import msgspec

from roadbed.apps.manifest import AppConfig
from roadbed.gateway.manifest import EndpointConfig, ModelConfig
from roadbed.kernel.config import nearest, parse_duration_s
from roadbed.kernel.errors import NotFound
from roadbed.kernel.wording import counted
from roadbed.releases.manifest import Manifest

State = Literal["ok", "missing", "unknown"]
RESTORED_DAYS_MAX: Final = 90


class UnknownApp(NotFound):
    """The workspace has no app of that name."""

    code = "ready.unknown_app"


class Item(msgspec.Struct, frozen=True):
    """One thing: how it is, whether it is required, and what mends it."""

    name: str
    state: State
    is_required: bool
    found: str
    fix: str = ""


class Surroundings(NamedTuple):
    """What the manifest does not say."""

    is_embedded: bool = True
    is_encrypted: bool = False
    is_open: bool = False
    failed_controls: tuple[str, ...] = ()
    unrun_controls: tuple[str, ...] = ()
    restored_days: int | None = None
    unapproved: tuple[str, ...] = ()
    today: date = date.min


def readiness(app: str, manifest: Manifest, around: Surroundings) -> list[Item]:
    """Every item of an app. `UnknownApp`."""
    config = manifest.apps.get(app)
    if config is None:
        hint = nearest(app, manifest.apps) or f"apps: {', '.join(sorted(manifest.apps))}"
        raise UnknownApp(f"there is no app {app[:100]!r}", hint=hint)
    return [
        *_answered_for(app, config, around),
        *_data(app, config, manifest),
        *_model(app, config, manifest),
        *_callers(app, config, manifest),
        *_records(manifest),
        *_two_persons(manifest),
        *_deployment(around),
    ]


def is_ready(items: list[Item]) -> bool:
    """Whether nothing that is required is missing."""
    return not any(item.is_required and item.state == "missing" for item in items)


def _item(name: str, ok: object, found: str, fix: str, *, is_required: bool = True) -> Item:
    return Item(name, "ok", is_required, found) if ok else Item(name, "missing", is_required, found, fix)


def _answered_for(app: str, config: AppConfig, around: Surroundings) -> Iterator[Item]:
    def setting(key: str, value: str) -> str:
        return f"apps.{app}.{key}: {value}"

    yield _item("owner", config.owner, config.owner or "nobody answers for it", setting("owner", "team@example.com"))
    yield _item(
        "description", config.description, config.description or "people are not told what it is for",
        setting("description", "What it helps people with"),
    )  # fmt: skip
    yield _item("purpose", config.purpose, config.purpose or "not said", setting("purpose", "What it may be used for"))
    yield _item("risk class", config.risk, config.risk or "not judged", setting("risk", "minimal | limited | high"))
    yield _item("runbook", config.runbook, config.runbook or "none", setting("runbook", "docs/runbook.md"))
    is_due = bool(config.review_by) and date.fromisoformat(config.review_by) < around.today
    found = f"was due on {config.review_by}" if is_due else config.review_by or "no day"
    yield _item("review", config.review_by and not is_due, found, setting("review_by", "YYYY-MM-DD"), is_required=False)
    yield Item(
        "evaluations", "unknown", False, "apps are not evaluated in this version: nothing measures its answers",
        "keep questions with known answers, and compare them by hand before each promotion",
    )  # fmt: skip


def _data(app: str, config: AppConfig, manifest: Manifest) -> Iterator[Item]:
    sources = {
        source.partition(".")[0]
        for name in config.knowledge
        if name in manifest.collections
        for source in manifest.collections[name].sources
    }
    known = {name: manifest.sources[name] for name in sorted(sources) if name in manifest.sources}
    unlabelled = [name for name, source in known.items() if not source.labels]
    found = (
        f"without a label: {', '.join(unlabelled)}" if unlabelled else f"{counted(len(known), 'source')} with a label"
    )
    fix = f"sources.{unlabelled[0]}.labels: [internal]" if unlabelled else ""
    yield _item("labels", not unlabelled, found, fix)
    open_to_all = [name for name, source in known.items() if source.visible_to is None]
    found = f"everyone sees: {', '.join(open_to_all)}" if open_to_all else "each source names its teams"
    fix = f"sources.{open_to_all[0]}.visible_to: [TEAM]" if open_to_all else ""
    yield _item("access to sources", not open_to_all, found, fix, is_required=False)


def _model(app: str, config: AppConfig, manifest: Manifest) -> Iterator[Item]:
    name = config.model or next((name for name, model in manifest.models.items() if model.task == "chat"), "")
    model = manifest.models.get(name)
    if config.kind == "search":
        return
    if model is None:
        yield Item("model", "ok", False, "none declared: answers are verbatim quotes, or of a local engine")
        return
    ladder = model.ladder
    found = f"{len(ladder)} endpoints" if len(ladder) > 1 else f"{ladder[0]} alone"
    yield _item("fallback", len(ladder) > 1, found, f"models.{name}.ladder: [{ladder[0]}, ANOTHER]")
    yield _item(
        "deadline", parse_duration_s(config.deadline) <= parse_duration_s(model.deadline) * 2, config.deadline,
        f"apps.{app}.deadline: {model.deadline}", is_required=False,
    )  # fmt: skip
    if _is_paid(model, manifest.endpoints):
        teams = [team for team in manifest.teams.values() if team.apps is None or app in team.apps]
        capped = bool(config.budget) or (bool(teams) and all(team.budget for team in teams))
        yield _item("budget", capped, config.budget or "no cap", f"apps.{app}.budget: 50 USD/day")


def _is_paid(model: ModelConfig, endpoints: dict[str, EndpointConfig]) -> bool:
    """Whether any endpoint may cost money: all but those that say that they are local or free."""
    for name in model.endpoints():
        config = endpoints.get(name)
        if config is None or not (config.local or (config.price_input == 0 and config.price_output == 0)):
            return True
    return False


def _callers(app: str, config: AppConfig, manifest: Manifest) -> Iterator[Item]:
    teams = [name for name, team in manifest.teams.items() if team.apps is not None and app in team.apps]
    found = f"teams {', '.join(teams)}" if teams else "no team is given it by name: every key may call it"
    yield _item("access", teams, found, f"teams.TEAM.apps: [{app}]; roadbed keys create --team TEAM --expires 90d")
    limited = config.rate or (all(manifest.teams[name].rate for name in teams) and teams)
    yield _item("rate", limited, config.rate or "no limit", f"apps.{app}.rate: 600/min", is_required=False)
    alerted = [name for name in teams if (alerts := manifest.teams[name].alerts) is not None and alerts.webhook]
    fix = f"teams.{teams[0] if teams else 'TEAM'}.alerts: {{webhook: env:ALERTS}}"
    yield _item(
        "budget alerts",
        alerted,
        f"{counted(len(alerted), 'team')} told" if alerted else "nobody is told",
        fix,
        is_required=False,
    )


def _records(manifest: Manifest) -> Iterator[Item]:
    is_written = manifest.retention != type(manifest.retention)()
    found = f"usage {manifest.retention.usage}, audit {manifest.retention.audit}, traces {manifest.traces.keep}"
    yield _item(
        "retention", is_written, found if is_written else f"defaults, which nobody has decided on: {found}",
        "retention: {usage: 400d, audit: 2557d, uploads: 730d}",
    )  # fmt: skip
    copies = manifest.audit.ship_to
    yield _item("audit copies", copies, f"{len(copies)} places", "audit.ship_to: [s3://BUCKET/audit]")
    webhook = "a webhook" if manifest.audit.webhook else "nobody is told when a control fails"
    yield _item("alarms", manifest.audit.webhook, webhook, "audit.webhook: env:ALARMS")


def _two_persons(manifest: Manifest) -> Iterator[Item]:
    duties = manifest.access.two_persons
    missing = [duty for duty in ("promotions", "approvals", "models") if duty not in duties]
    found = f"one person alone decides on {', '.join(missing)}" if missing else "promotions, approvals and models"
    yield _item("two persons", not missing, found, "access.two_persons: [promotions, approvals, models]")


def _deployment(around: Surroundings) -> Iterator[Item]:
    yield _item(
        "database", not around.is_embedded, "embedded" if around.is_embedded else "managed",
        "roadbed up --database env:DATABASE_URL", is_required=False,
    )  # fmt: skip
    days = around.restored_days
    is_restored = days is not None and days <= RESTORED_DAYS_MAX
    found = "no restore was noted" if days is None else f"restored {days} days ago"
    yield _item(
        "backups", is_restored, found, "restore one elsewhere, then: roadbed controls note-restore 'what was done'"
    )
    words = "TLS" if around.is_encrypted else ("in clear" if around.is_open else "this machine alone reaches it")
    yield _item(
        "encryption", around.is_encrypted, words, "roadbed up --tls-cert FILE --tls-key FILE, or --behind-proxy"
    )
    models = around.unapproved
    found = f"not approved: {', '.join(models)}" if models else "every model is approved"
    fix = f"roadbed models approve {models[0]} --by WHO" if models else ""
    yield _item("model approvals", not models, found, fix)
    failed = around.failed_controls
    found = f"failed: {', '.join(failed)}" if failed else "none fails"
    yield _item("controls", not failed, found, "roadbed controls run")
    if around.unrun_controls:
        found = f"{len(around.unrun_controls)} have not run yet"
        yield Item("controls run", "unknown", False, found, "roadbed controls run")
