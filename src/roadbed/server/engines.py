"""`Engines`: finds local model engines at the start and again while it runs, so that apps use one when it answers.

With several serving processes their owner looks, and the others agree with it. Only wanted while the manifest declares
no model; provider keys in the environment are reported, never used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from roadbed.apps.registry import AppRegistry
from roadbed.gateway.local_engines import EngineWatch, FoundEngine, route_from_engines
from roadbed.gateway.providers import describe_environment
from roadbed.wire.client import UpstreamClient


class Engines:
    """Keeps the registry's local route equal to what answers on loopback."""

    def __init__(self, registry: AppRegistry, client: UpstreamClient) -> None:
        self._registry = registry
        self._watch = EngineWatch(client, self._changed)
        self._task: asyncio.Task[None] | None = None

    async def _changed(self, found: list[FoundEngine]) -> None:
        route = route_from_engines(found)
        self._registry.use_local_engine({route.name: route} if route is not None else {})

    async def want(self, is_wanted: bool) -> None:
        """Probe now and go on probing, or stop, as the manifest declares no model or does."""
        if is_wanted and self._task is None:
            await self._watch.look()
            self._task = asyncio.create_task(self._watch.run(), name="engine-watch")
        elif not is_wanted:
            await self.close()

    def all(self) -> list[FoundEngine]:
        """The engines that answer, for the processes that do not look themselves."""
        return list(self._watch.engines)

    async def agree(self, engines: Iterable[FoundEngine]) -> None:
        """Use what another process found, in place of looking."""
        found = list(engines)
        if found != self._watch.engines:
            self._watch.engines = found
            await self._changed(found)

    def found(self) -> list[dict[str, Any]]:
        """The engines that answer, with their models."""
        return [
            {"kind": engine.kind, "address": engine.url, "models": list(engine.models)}
            for engine in self._watch.engines
        ]

    def describe(self) -> list[str]:
        """What the start says about models, a line each."""
        lines = [
            f"engine    {engine.kind} at {engine.url} answers: {engine.models[0]}" for engine in self._watch.engines
        ]
        if not lines and not self._registry.served.routes:
            lines = ["models    none: answers are verbatim cited sentences (`roadbed models add openai` names one)"]
        return lines + [f"          {key.hint}" for key in describe_environment()]

    async def close(self) -> None:
        """Stop probing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
