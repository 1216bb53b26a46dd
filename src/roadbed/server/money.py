"""`Money`: budgets, alerts and shared limits of one process, opened and closed as one, and told of a new manifest.

`server/services.py` builds it; the parts do the work. The task here is the heartbeat by which processes share rates.
The invariant: when it is closed, every lease was returned or written down, and the process's shares are free.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from roadbed.gateway.gateway import Gateway
from roadbed.gateway.gauges import Gauges
from roadbed.guard.identity import Identity
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.ledger.budgets import Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.shares import HEARTBEAT_S, Heartbeats
from roadbed.releases.manifest import Manifest
from roadbed.server.alerts import Alerts
from roadbed.server.entrance import Entrance
from roadbed.server.settings import Settings
from roadbed.store.database import Database
from roadbed.wire.client import UpstreamClient

LEASES_FOLDER = "leases"


class Money:
    """One per process."""

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        gateway: Gateway,
        client: UpstreamClient,
        identity: Identity,
        settings: Settings,
        folder: Path,
        *,
        is_owner: bool,
    ) -> None:
        workers = settings.workers
        self.bank = PostgresBank(database)
        self.budgets = Budgets(self.bank, metrics, settings.state / LEASES_FOLDER, is_owner=is_owner)
        self.entrance = Entrance(gateway, self.budgets)
        self._workers = workers
        self._divided: list[Gauges] = []
        self.divide(self.entrance.gauges)
        self._alerts = Alerts(self.bank, client, folder)
        self._heartbeats = Heartbeats(database, self.budgets.holder)
        self._identity = identity
        self._manifest: Manifest | None = None
        self._keys_have_budgets = False
        self._task: asyncio.Task[None] | None = None
        self._serves = workers == 1 or not is_owner  # with --workers the owner takes no requests, and no share
        self.budgets.on_used = self._alerts.noticed

    def take(self, manifest: Manifest) -> None:
        """Hold callers to this manifest from now on."""
        self._manifest = manifest
        self._keys_have_budgets = self._identity.has_budgets
        self.entrance.take(manifest, keys_have_budgets=self._keys_have_budgets)
        self._alerts.take(manifest)

    def divide(self, gauges: Gauges) -> None:
        """Share these limits with the other processes, too. Their owners have names that differ."""
        gauges.divide_by(self._workers)
        self._divided.append(gauges)

    def start(self) -> None:
        """Start the tasks."""
        self.budgets.start()
        self._task = asyncio.create_task(self._beat_loop(), name="limit-shares")

    async def close(self) -> None:
        """Stop, and give back what this process holds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._alerts.close()
        await self.budgets.close()
        with contextlib.suppress(Unavailable, DeadlineExceeded):
            await self._heartbeats.leave()

    async def _beat_loop(self) -> None:
        while True:
            if self._manifest is not None and self._identity.has_budgets != self._keys_have_budgets:
                self.take(self._manifest)
            if self._serves and any(gauges.is_on for gauges in self._divided):
                asked = {name: units for gauges in self._divided for name, units in gauges.demand().items()}
                with contextlib.suppress(Unavailable, DeadlineExceeded):
                    demands = await self._heartbeats.beat(asked)
                    for gauges in self._divided:
                        gauges.share(demands, self._heartbeats.holder)
            await asyncio.sleep(HEARTBEAT_S)
