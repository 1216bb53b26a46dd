"""`ExposedKeys`: a key that stood in an address opens nothing any more, and somebody is told.

`check` is asked of every target with a query, before anything else reads the request. What it finds is refused at once
in this process, and revoked in all of them by a task, recorded in the audit. The invariant: the refusal is the same
whether the value was a key or not, and the value itself goes nowhere.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from roadbed.guard.exposed import find_exposed, may_hold_key
from roadbed.guard.identity import Identity
from roadbed.kernel.errors import DeadlineExceeded, RoadbedError, Unavailable
from roadbed.ledger.metrics import Metrics
from roadbed.server.audit import AuditTrail
from roadbed.server.guard_alerts import GuardAlerts

log = logging.getLogger("roadbed.server")

METRIC = "roadbed_exposed_keys_total"
ACT = "keys.exposed"
PENDING_MAX = 1_000
AGAIN_S = 5.0


class ExposedKeys:
    """One per process. `check` is what the wire asks."""

    def __init__(self, identity: Identity, trail: AuditTrail, alerts: GuardAlerts, metrics: Metrics) -> None:
        self._identity = identity
        self._trail = trail
        self._alerts = alerts
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        metrics.declare(METRIC, "counter", "live keys that stood in an address and were revoked for it")

    def check(self, target: bytes) -> RoadbedError | None:
        """Why a request is refused for its target, None mostly. A live key in it ends here."""
        if not may_hold_key(target):
            return None
        values, fault = find_exposed(target)
        for value in values:
            key_id = self._identity.withhold(value)
            # Past the bound a value stays withheld in this process; the next start reads it again.
            if key_id is not None and len(self._tasks) < PENDING_MAX:
                task = asyncio.create_task(self._revoke(key_id, value), name="exposed-key")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return fault

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _revoke(self, key_id: str, value: bytes) -> None:
        self._metrics.add(METRIC)
        log.error("key %s stood in an address and is revoked", key_id)
        while True:
            try:
                revoke = partial(self._identity.revoke_exposed, value)
                was_live = await self._trail.doing(ACT, key_id, key_id, revoke)
                break
            except (Unavailable, DeadlineExceeded) as error:
                log.warning("key %s could not be revoked yet: %s", key_id, error.code)
                await asyncio.sleep(AGAIN_S)
        if was_live:
            await self._alerts.post("key_exposed", f"key {key_id}", {"key": key_id})
