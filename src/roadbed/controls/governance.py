"""The register: models, endpoints, apps, prompts and collections as they serve, and the cards made of it. Pure.

An approval holds for one model as it was approved: its ladder and the facts of its endpoints. What changes there makes
it unapproved again. The invariant: a card says nothing that does not come from what runs or from who answers for it,
and says where a fact is missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import rfc8785

from roadbed.releases.manifest import Manifest

_FACTS = ("type", "model", "url", "local", "labels", "region")


class Approval(NamedTuple):
    """Who approved a model, as it was under a digest."""

    model: str
    digest: str
    by: str
    at: datetime
    note: str


class ModelEntry(msgspec.Struct, frozen=True):
    """One model of the register."""

    name: str
    digest: str
    task: str
    endpoints: tuple[dict[str, Any], ...]
    apps: tuple[str, ...]
    labels: tuple[str, ...]
    approved_by: str = ""
    approved_at: str = ""
    is_approved: bool = False


class AppEntry(msgspec.Struct, frozen=True):
    """One app of the register."""

    name: str
    kind: str
    owner: str
    purpose: str
    risk: str
    review_by: str
    runbook: str
    model: str
    prompt: str
    collections: tuple[str, ...]


class Register(msgspec.Struct, frozen=True):
    """All of it."""

    workspace: str
    models: tuple[ModelEntry, ...]
    apps: tuple[AppEntry, ...]
    collections: dict[str, dict[str, Any]]


def model_digest(name: str, manifest: Manifest) -> str:
    """What an approval of a model is bound to: which endpoints may answer, and where those are."""
    model = manifest.models[name]
    document: dict[str, Any] = {
        "model": name,
        "task": model.task,
        "labels": model.labels,
        "endpoints": _endpoints(name, manifest),
    }
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def register_of(manifest: Manifest, approvals: Mapping[str, Approval]) -> Register:
    """The register of a manifest. ``approvals`` are the newest of each model."""
    default = next((name for name, model in manifest.models.items() if model.task == "chat"), "")
    asked = {name: app.model or default for name, app in manifest.apps.items()}
    models = []
    for name, model in manifest.models.items():
        digest, found = model_digest(name, manifest), approvals.get(name)
        holds = found is not None and found.digest == digest
        models.append(
            ModelEntry(
                name,
                digest,
                model.task,
                tuple(_endpoints(name, manifest)),
                tuple(app for app, used in asked.items() if used == name),
                tuple(model.labels),
                found.by if found is not None and holds else "",
                found.at.isoformat() if found is not None and holds else "",
                holds,
            )
        )
    apps = tuple(
        AppEntry(
            name, app.kind, app.owner, app.purpose, app.risk, app.review_by, app.runbook, asked[name], app.prompt,
            tuple(app.knowledge),
        )
        for name, app in manifest.apps.items()
    )  # fmt: skip
    collections = {
        name: {
            "sources": list(collection.sources),
            "labels": sorted(
                {
                    label
                    for source in collection.sources
                    if (known := manifest.sources.get(source.partition(".")[0])) is not None
                    for label in known.labels
                }
            ),
        }
        for name, collection in manifest.collections.items()
    }
    return Register(manifest.name, tuple(models), apps, collections)


def unapproved_of(app: str, register: Register) -> list[str]:
    """The models of an app that nobody has approved as they are."""
    return [model.name for model in register.models if app in model.apps and not model.is_approved]


def _endpoints(name: str, manifest: Manifest) -> list[dict[str, Any]]:
    found = []
    for entry in manifest.models[name].endpoints():
        config = manifest.endpoints.get(entry)
        facts = msgspec.to_builtins(config) if config is not None else {}
        found.append({"name": entry, **{fact: facts[fact] for fact in _FACTS if facts.get(fact) not in (None, "", [])}})
    return found


def cards_of(register: Register) -> dict[str, str]:
    """A Markdown card for each model, app and collection, by file name."""
    cards = {f"model-{model.name}.md": _model_card(model) for model in register.models}
    cards |= {f"app-{app.name}.md": _app_card(app) for app in register.apps}
    cards |= {f"data-{name}.md": _data_card(name, facts, register) for name, facts in register.collections.items()}
    return cards


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {name} | {value or '**not said**'} |" for name, value in rows.items()]
    return "\n".join(["| fact | value |", "|---|---|", *lines]) + "\n"


def _model_card(model: ModelEntry) -> str:
    facts = {
        "task": model.task,
        "digest": f"`{model.digest[:12]}`",
        "used by": ", ".join(model.apps) or "callers directly",
        "labels of its requests": ", ".join(model.labels) or "those of the data",
        "approved": f"by {model.approved_by} at {model.approved_at}" if model.is_approved else "no",
    }
    rows = [
        f"| {end['name']} | {end.get('model', '')} | {end.get('url', '')} | {', '.join(end.get('labels', []))} |"
        for end in model.endpoints
    ]
    table = "\n".join(["| endpoint | model | address | cleared for |", "|---|---|---|---|", *rows])
    return f"# Model {model.name}\n\n{_table(facts)}\n## Endpoints, best first\n\n{table}\n"


def _app_card(app: AppEntry) -> str:
    facts = {
        "kind": app.kind, "owner": app.owner, "purpose": app.purpose, "class of risk": app.risk,
        "review by": app.review_by, "runbook": app.runbook, "model": app.model or "none: verbatim quotes",
        "prompt": app.prompt or "the default", "collections": ", ".join(app.collections),
    }  # fmt: skip
    return f"# App {app.name}\n\n{_table(facts)}"


def _data_card(name: str, facts: Mapping[str, Any], register: Register) -> str:
    used = [app.name for app in register.apps if name in app.collections]
    rows = {
        "sources": ", ".join(facts["sources"]),
        "labels": ", ".join(facts["labels"]),
        "used by": ", ".join(used) or "no app",
    }
    return f"# Data {name}\n\n{_table(rows)}"
