"""What the canary control needs in a deployment: routes, apps, a collection and a tool that nobody else sees.

Their names begin with ``_``, which no manifest can use; they are listed nowhere, their documents belong to a team that
no key but the control's has, and the routes are there only while a run's own model server is. Pure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from roadbed.apps.manifest import AppConfig
from roadbed.controls import canary_requests as paths
from roadbed.controls.loopback import BROKEN, THINKING
from roadbed.controls.probes import SEALED
from roadbed.gateway.manifest import CacheConfig, EndpointConfig, ModelConfig
from roadbed.kernel.config import Document
from roadbed.kernel.errors import Unavailable
from roadbed.kernel.release import Release
from roadbed.knowledge.manifest import CollectionConfig
from roadbed.releases.compile import compile_releases
from roadbed.releases.manifest import Manifest
from roadbed.releases.workspace import Workspace
from roadbed.sources.manifest import SourceConfig, SqliteSource, UploadsSource
from roadbed.tools.types import Ok, Outcome, Provenance, Tool, ToolRequest

TEAM: Final = "_canary"
STRANGERS: Final = "_canary-strangers"
MODELS: Final = (
    paths.REMOTE, paths.LOCAL, paths.EMBEDDING, paths.RERANKING, paths.FAILING, paths.CITED, paths.CACHED,
    paths.THOUGHT, SEALED,
)  # fmt: skip
APPS: Final = (paths.ASKING, paths.QUOTING, paths.SEARCHING, paths.ANALYTICS)
SOURCES: Final[Mapping[str, SourceConfig]] = {paths.COLLECTION: UploadsSource(visible_to=[TEAM])}
BOOKS_FILE: Final = "canary-books.sqlite"
KEPT: Final = CacheConfig(exact="1m", any_temperature=True)
COLLECTIONS: Final = {paths.COLLECTION: CollectionConfig(sources=[paths.COLLECTION])}


class EchoFailed(Unavailable):
    """The canary's tool failed, as it was asked to."""

    code = "controls.echo_failed"


def with_own(manifest: Manifest) -> tuple[Mapping[str, SourceConfig], Mapping[str, CollectionConfig]]:
    """The sources and collections of a manifest, and the control's own."""
    return {**manifest.sources, **SOURCES}, {**manifest.collections, **COLLECTIONS}


def books_file(state: Path) -> Path:
    """The file of the database that the control's analytics app asks."""
    return state / "run" / BOOKS_FILE


def with_books(sources: Mapping[str, SourceConfig], state: Path) -> dict[str, SourceConfig]:
    """The databases of a manifest, and the control's own."""
    books = SqliteSource(path=str(books_file(state)), visible_to=[TEAM])
    return {**sources, paths.BOOKS: books}


def canary_releases(url: str) -> dict[str, Release]:
    """The releases of the control's routes and apps, answered by the model server at ``url``."""

    def at(name: str, *, is_local: bool, type: Literal["openai", "anthropic"] = "openai") -> EndpointConfig:
        return EndpointConfig(
            type=type, model="canary", url=f"{url}/{name}/v1", local=is_local, price_input=0.0, price_output=0.0
        )

    endpoints = {"_canary-far": at("remote", is_local=False), "_canary-near": at("local", is_local=True)}
    endpoints |= {
        "_canary-broken": at(BROKEN, is_local=True),
        "_canary-messages": at("messages", is_local=False, type="anthropic"),
        "_canary-thinking": at(THINKING, is_local=False),
    }
    models = {
        paths.REMOTE: ModelConfig(ladder=["_canary-far"]),
        paths.LOCAL: ModelConfig(ladder=["_canary-near"]),
        SEALED: ModelConfig(ladder=["_canary-far"], labels=["restricted"]),
        paths.FAILING: ModelConfig(ladder=["_canary-broken"]),
        paths.CITED: ModelConfig(ladder=["_canary-messages"]),
        paths.CACHED: ModelConfig(ladder=["_canary-far"], cache=KEPT),
        paths.THOUGHT: ModelConfig(ladder=["_canary-thinking"], cache=KEPT),
        paths.EMBEDDING: ModelConfig(ladder=["_canary-far"], task="embeddings"),
        paths.RERANKING: ModelConfig(ladder=["_canary-far"], task="rerank"),
    }
    knowledge = [paths.COLLECTION]
    apps = {
        paths.ASKING: AppConfig(kind="copilot", knowledge=knowledge, model=paths.LOCAL),
        paths.QUOTING: AppConfig(kind="copilot", knowledge=knowledge, model=paths.FAILING),
        paths.SEARCHING: AppConfig(kind="search", knowledge=knowledge, model=paths.LOCAL),
        paths.ANALYTICS: AppConfig(kind="analytics", sources=[paths.BOOKS], model=paths.LOCAL),
    }
    manifest = Manifest(name="canary", endpoints=endpoints, models=models, collections=dict(COLLECTIONS), apps=apps)
    document: Any = Document
    return compile_releases(Workspace(Path(), manifest, document, {}, False), {})


def canary_tools() -> list[Tool]:
    """Two tools that give their text back, and ``backwards`` turned round, in a result or in the message of a failure.
    What they heard comes turned round, too, so that no guard behind the tool changes it. One waits for an approval.
    """

    async def run(request: ToolRequest) -> Outcome:
        own = str(request.arguments.get("backwards", ""))[::-1]
        heard = str(request.arguments.get("text", ""))
        text = f"{heard} {own}"
        if request.arguments.get("fails"):
            raise EchoFailed(f"the source refused {text}")
        return Ok(
            {"columns": [{"name": name, "type": "text"} for name in ("text", "heard")], "rows": [[text, heard[::-1]]]},
            (Provenance(TEAM, TEAM, time.time()),),
        )

    properties = {"text": {"type": "string"}, "backwards": {"type": "string"}, "fails": {"type": "boolean"}}
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    echo = Tool(
        paths.TOOL, "Gives its text back.", TEAM, run, input_schema=schema, timeout_s=5.0, visible_to=frozenset({TEAM})
    )
    return [echo, replace(echo, name=paths.ACTING_TOOL, effect="write")]
