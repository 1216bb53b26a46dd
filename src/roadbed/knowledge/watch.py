"""Watching sources: one task per source asks for a listing when its connector tells of a change, or by the clock.

The facade starts it after the first listings were queued. It does no work of its own. The invariant: a watcher that
fails begins again, and a source without one is still listed every `LIST_EVERY_S`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.knowledge.reader import SourceSpec
from roadbed.knowledge.sync import Sync

LIST_EVERY_S = 300.0
RESTART_S = 5.0
RETRY_S = 0.5

logger = logging.getLogger(__name__)


class Watchers:
    """The watchers of one process."""

    def __init__(self, sync: Sync, *, list_every_s: float = LIST_EVERY_S) -> None:
        self._sync = sync
        self._list_every_s = list_every_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._specs: dict[str, SourceSpec] = {}
        self.watched: set[str] = set()

    def follow(self, sources: Mapping[str, SourceSpec]) -> None:
        """Watch exactly these sources."""
        for name in [name for name, spec in self._specs.items() if sources.get(name) is not spec]:
            self._tasks.pop(name).cancel()
            self._specs.pop(name)
            self.watched.discard(name)
        for name, spec in sources.items():
            if name not in self._tasks:
                self._specs[name] = spec
                self._tasks[name] = asyncio.create_task(self._follow(spec), name=f"watch-{name}")

    async def aclose(self) -> None:
        """Stop all watchers."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._specs.clear()
        self.watched.clear()

    async def _follow(self, spec: SourceSpec) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._by_clock(spec))
            group.create_task(self._by_changes(spec))

    async def _by_clock(self, spec: SourceSpec) -> None:
        while True:
            await asyncio.sleep(self._list_every_s)
            await self._request(spec)

    async def _by_changes(self, spec: SourceSpec) -> None:
        while True:
            changes = spec.connector.changes()
            if changes is None:
                return
            try:
                self.watched.add(spec.name)
                async for _ in changes:
                    await self._request(spec)
            except (
                OSError,
                RuntimeError,
            ) as error:  # watchfiles: the folder is missing, or no more watches are allowed
                logger.warning("the source %s cannot be watched just now: %s", spec.name, type(error).__name__)
            self.watched.discard(spec.name)
            await asyncio.sleep(RESTART_S)
            await self._request(spec)

    async def _request(self, spec: SourceSpec) -> None:
        """Queue a listing, waiting for the database while it is away: a change that was seen is never forgotten."""
        while True:
            try:
                await self._sync.request(spec.name)
                return
            except (Unavailable, DeadlineExceeded):
                logger.info("the listing of %s waits for the database", spec.name)
            await asyncio.sleep(RETRY_S)
