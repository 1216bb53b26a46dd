"""From a workspace to releases: pure, deterministic, and free of anything that varies between two compiles.

One release per app; the models that callers may use directly form the release ``_routes``. A release pins prompts,
routes, policies, settings and generation ids, never content, secrets, times or paths of this machine. Its digest is
the sha256 of its canonical JSON bytes (RFC 8785), so equal workspaces give equal digests everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import rfc8785

from roadbed.apps.manifest import AppConfig
from roadbed.kernel.release import Release
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import Workspace
from roadbed.tools.toolbox import is_named
from roadbed.tools.types import Tool

RELEASE_SCHEMA = 1
_LIMITS = frozenset({"budget", "rate", "tokens", "input_tokens", "output_tokens", "concurrency"})
"""Settings that bound use and are no part of a release: a rollback must not bring old limits back."""
_ANSWERED_FOR = frozenset({"owner", "purpose", "risk", "runbook", "review_by"})
"""Settings that say who answers for an app. They change nothing that it does, so they make no new release."""
ROUTES = "_routes"


def compile_releases(
    workspace: Workspace, generations: Mapping[str, str], tools: Sequence[Tool] = ()
) -> dict[str, Release]:
    """A release for each app and one for the routes. ``generations`` maps a collection to the id of its live index.

    ``tools`` are those of the manifest, each with its `pin`.
    """
    manifest = workspace.manifest
    releases = {ROUTES: seal(ROUTES, {"kind": "routes", **_routes(manifest, list(manifest.models))})}
    for name, app in manifest.apps.items():
        prompt = workspace.prompts.get(name, "")
        model = app.model or next((name for name, model in manifest.models.items() if model.task == "chat"), "")
        document: dict[str, Any] = {
            "kind": app.kind,
            "settings": {**_pinned(app), "model": model},
            "prompt": {"sha256": hashlib.sha256(prompt.encode()).hexdigest(), "text": prompt},
            "retrieval": {collection: generations.get(collection, "") for collection in app.knowledge},
            **_tools(app, tools),
            "policies": {"guard": msgspec.to_builtins(manifest.guard), "traces": msgspec.to_builtins(manifest.traces)},
            **_routes(manifest, [model] if model else []),
        }
        releases[name] = seal(name, document)
    return releases


def _tools(app: AppConfig, tools: Sequence[Tool]) -> dict[str, Any]:
    """The tools that an app may use with the digests of their definitions; nothing for an app without any."""
    pins = {tool.name: tool.pin for tool in tools if app.tools and is_named(tool, app.tools)}
    return {"tools": pins} if app.tools else {}


def _routes(manifest: Manifest, names: list[str]) -> dict[str, Any]:
    judges = [manifest.models[name].judge for name in names]
    names = list(dict.fromkeys([*names, *(judge for judge in judges if judge in manifest.models)]))
    entries = {entry for name in names for entry in manifest.models[name].endpoints()}
    return {
        "routes": {name: _pinned(manifest.models[name]) for name in names},
        "endpoints": {name: _pinned(endpoint) for name, endpoint in manifest.endpoints.items() if name in entries},
        **({"prices": msgspec.to_builtins(manifest.prices)} if manifest.prices and names else {}),
    }


def _pinned(config: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(config).items() if name not in _LIMITS | _ANSWERED_FOR}


def seal(app: str, document: Mapping[str, Any]) -> Release:
    """The release of a document: its canonical bytes and their digest."""
    manifest: bytes = rfc8785.dumps({"app": app, "schema": RELEASE_SCHEMA, **document})
    return Release(app, hashlib.sha256(manifest).hexdigest(), manifest, json.loads(manifest))


def unseal(app: str, digest: str, manifest: bytes) -> Release | None:
    """A stored release; None when its bytes are not those that were hashed."""
    if hashlib.sha256(manifest).hexdigest() != digest:
        return None
    return Release(app, digest, manifest, json.loads(manifest))
