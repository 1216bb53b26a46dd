"""`ReachedTools`: the tools on files, HTTP APIs and object stores of the manifest that serves, and what they reach.

Made once for a process, closed with it. What an HTTP document names and cannot be offered is logged when it changes,
and kept for whoever shows it. The invariant: tools that were made reach the systems of the manifest that is in use.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from roadbed.knowledge.parse.pool import ParserPool
from roadbed.sources.caller_auth import CallerAuths
from roadbed.sources.health import SourceHealth
from roadbed.sources.manifest import SourceConfig
from roadbed.sources.reach import Reach
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.providers.files import file_tools
from roadbed.tools.providers.http import SkippedTool, http_tools
from roadbed.tools.providers.objects import object_tools
from roadbed.tools.text_of_files import TextExtractor
from roadbed.tools.types import Tool

log = logging.getLogger("roadbed.tools")


class ReachedTools:
    """``folder`` is the workspace's; ``passed_over`` are folders that no tool may see, such as the state."""

    def __init__(
        self, folder: Path, extractor: TextExtractor, passed_over: Sequence[Path], callers: CallerAuths | None = None
    ) -> None:
        self._folder = folder
        self._extractor = extractor
        self._passed_over = passed_over
        self._reach = Reach(folder, callers=callers)
        self.skipped: tuple[SkippedTool, ...] = ()

    def tools(self, sources: Mapping[str, SourceConfig], declared: Mapping[str, ToolConfig]) -> list[Tool]:
        """The tools of a manifest. `ConfigError`."""
        found = http_tools(sources, declared, self._folder, self._reach)
        for part in found.skipped:
            if part not in self.skipped:
                log.warning("%s: the operation %s is no tool: %s", part.source, part.operation[:64], part.reason)
        self.skipped = found.skipped
        return [
            *file_tools(sources, self._folder, extractor=self._extractor, passed_over=self._passed_over),
            *found.tools,
            *object_tools(sources, self._reach, extractor=self._extractor),
        ]

    def states(self) -> list[SourceHealth]:
        """How they are reached, with the operations that are no tools. Asks nobody."""
        notes: dict[str, list[str]] = {}
        for part in self.skipped:
            notes.setdefault(part.source, []).append(f"{part.operation[:64]} is no tool: {part.reason}")
        return [replace(state, notes=tuple(notes.get(state.name, ()))) for state in self._reach.states()]

    async def use(self, sources: Mapping[str, SourceConfig]) -> None:
        """Reach these sources from now on."""
        await self._reach.use(sources)

    async def close(self) -> None:
        """Close every connection."""
        await self._reach.close()


def open_reached(stack: AsyncExitStack, folder: Path, state: Path, callers: CallerAuths) -> ReachedTools:
    """With parsers of its own, so that a tool call does not queue behind documents that are read in."""
    parsers = ParserPool()
    stack.push_async_callback(parsers.close)
    reached = ReachedTools(folder, parsers, (state,), callers)
    stack.push_async_callback(reached.close)
    return reached
