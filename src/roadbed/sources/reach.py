"""`Reach`: the HTTP APIs and object stores of a manifest by source name, opened at first use. `tools/` asks it.

Beside `registry.Sources`, which has the databases. The invariant: a system that is handed out belongs to the
configuration that is declared now; those of an earlier one are closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from roadbed.kernel.errors import ConfigError
from roadbed.sources.caller_auth import CallerAuths
from roadbed.sources.health import SourceHealth
from roadbed.sources.http import HttpSystem
from roadbed.sources.manifest import HttpSource, ObjectsSource, SourceConfig
from roadbed.sources.objects import ObjectsSystem
from roadbed.wire.resolver import Lookup, system_lookup
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain


class Reach:
    """Systems by source name, for one workspace. Each has its own connections, breaker and queue."""

    def __init__(
        self,
        folder: Path,
        *,
        lookup: Lookup = system_lookup,
        trust: TrustDomain = DEFAULT_TRUST,
        callers: CallerAuths | None = None,
    ) -> None:
        self._folder = folder
        self._callers = callers
        self._lookup = lookup
        self._trust = trust
        self._declared: Mapping[str, SourceConfig] = {}
        self._http: dict[str, tuple[HttpSource, HttpSystem]] = {}
        self._objects: dict[str, tuple[ObjectsSource, ObjectsSystem]] = {}

    async def use(self, sources: Mapping[str, SourceConfig]) -> None:
        """Take over the manifest's sources. Those that changed or are gone are closed."""
        self._declared = dict(sources)
        for name, (config, system) in list(self._http.items()):
            if sources.get(name) != config:
                del self._http[name]
                await system.close()
        for name, (store_config, _) in list(self._objects.items()):
            if sources.get(name) != store_config:
                del self._objects[name]

    def http(self, name: str) -> HttpSystem:
        """The API of a declared source. Raises `ConfigError`. Called inside the loop."""
        config = self._declared.get(name)
        if not isinstance(config, HttpSource):
            raise ConfigError(f"no HTTP source is called {name}")
        if name not in self._http:
            system = HttpSystem(
                name, config, self._folder, lookup=self._lookup, trust=self._trust, callers=self._callers
            )
            self._http[name] = (config, system)
        return self._http[name][1]

    def objects(self, name: str) -> ObjectsSystem:
        """The object store of a declared source. Raises `ConfigError`."""
        config = self._declared.get(name)
        if not isinstance(config, ObjectsSource):
            raise ConfigError(f"no objects source is called {name}")
        if name not in self._objects:
            self._objects[name] = (config, ObjectsSystem(name, config, self._folder))
        return self._objects[name][1]

    def states(self) -> list[SourceHealth]:
        """The health of every declared API and object store, by name. Asks nobody."""
        found = []
        for name, config in sorted(self._declared.items()):
            if isinstance(config, HttpSource):
                api = self._http.get(name)
                found.append(SourceHealth(name, "http", api[1].circuit.state() if api else None))
            elif isinstance(config, ObjectsSource):
                store = self._objects.get(name)
                found.append(SourceHealth(name, "objects", store[1].circuit.state() if store else None))
        return found

    async def close(self) -> None:
        """Close every connection."""
        systems = [system for _, system in self._http.values()]
        self._http.clear()
        self._objects.clear()
        await asyncio.gather(*(system.close() for system in systems))
