"""The guard's rules as they apply: a metric for each, and a POST to the manifest's webhook for alerts and blocks.

A post names rule, type, sink and team, with how often since the last one; never a value. The invariant: telling
neither waits nor fails the request that it is about, and one rule posts at most once a minute.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from roadbed.guard.rules import RuleHit
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.alerts import post_alert
from roadbed.wire.client import UpstreamClient

log = logging.getLogger("roadbed.server")

METRIC = "roadbed_guard_rules_total"
QUIET_S = 60.0
KEPT_MAX = 1_000
POSTS_AT_ONCE_MAX = 20


class GuardAlerts:
    """One per process. `told` is the guard's observer, called from any thread."""

    def __init__(self, metrics: Metrics, client: UpstreamClient, folder: Path) -> None:
        self._metrics = metrics
        self._client = client
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._manifest: Manifest | None = None
        self._last_s: dict[tuple[str, str, str, str], float] = {}
        self._since: dict[tuple[str, str, str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.declare(
            METRIC, "counter", "findings and labels that one of the guard's rules spoke of", "rule", "do", "sink"
        )

    def take(self, manifest: Manifest) -> None:
        """Tell by this manifest from now on."""
        self._manifest = manifest

    def told(self, hit: RuleHit) -> None:
        """A rule applied."""
        try:
            self._loop.call_soon_threadsafe(self._note, hit)
        except RuntimeError:  # the loop is closed: the process ends
            return

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note(self, hit: RuleHit) -> None:
        self._metrics.add(METRIC, (hit.rule, hit.do, hit.sink))
        if not (hit.is_alert or hit.do == "block"):
            return
        key, now_s = (hit.rule, hit.type, hit.sink, hit.team), self._loop.time()
        if len(self._since) >= KEPT_MAX:
            self._since.clear()
            self._last_s.clear()
        self._since[key] = self._since.get(key, 0) + 1
        if now_s - self._last_s.get(key, -QUIET_S) < QUIET_S or len(self._tasks) >= POSTS_AT_ONCE_MAX:
            return
        self._last_s[key] = now_s
        log.warning("guard: %s applied to %s for %s (%s)", hit.rule, hit.type, hit.sink, hit.do)
        if self._manifest is not None and self._manifest.guard.alerts:
            task = asyncio.create_task(self._post(hit, self._since.pop(key)), name="guard-alert")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _post(self, hit: RuleHit, count: int) -> None:
        facts = {"rule": hit.rule, "do": hit.do, "type": hit.type, "sink": hit.sink, "team": hit.team, "count": count}
        await self.post("guard", hit.rule, facts)

    async def post(self, event: str, subject: str, facts: dict[str, Any]) -> None:
        """Tell the manifest's webhook, where it has one, of something about ``subject``."""
        if self._manifest is None or not self._manifest.guard.alerts:
            return
        body = {"event": event, "workspace": self._manifest.name, **facts}
        try:
            address = resolve_secret(self._manifest.guard.alerts, base=self._folder).reveal()
            if not await post_alert(self._client, address, body, "guard-alerts"):
                log.error("the alert of %s was not taken by its webhook", subject)
        except ConfigError as error:
            log.error("the alert of %s could not be sent: %s", subject, error.code)
