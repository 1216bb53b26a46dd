"""Alerts of budgets: a POST to the team's webhook, once for each threshold and period, whichever process notices.

The body names the budget and its figures, nothing of any request. A post that fails is tried again a bounded number
of times here, and once more by another process later. The invariant: no threshold is told twice after a success.
"""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import msgspec

from roadbed.kernel.errors import ConfigError, DeadlineExceeded, Unavailable
from roadbed.kernel.limits import parse_percent
from roadbed.kernel.retry import full_jitter_s
from roadbed.kernel.secrets import resolve_secret
from roadbed.ledger.budget import Account
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.releases.manifest import Manifest
from roadbed.wire.address import parse_url
from roadbed.wire.client import UpstreamClient
from roadbed.wire.errors import UpstreamFailed
from roadbed.wire.exchange import UpstreamRequest

log = logging.getLogger("roadbed.server")

POSTS_MAX = 3
POST_S = 10.0
AT_ONCE_MAX = 100
AGAIN_S = 660.0
REPLY_BYTES_MAX = 64 * 1024


class Alerts:
    """One per process. `noticed` is what `Budgets.on_used` calls."""

    def __init__(self, bank: PostgresBank, client: UpstreamClient, folder: Path) -> None:
        self._bank = bank
        self._client = client
        self._folder = folder
        self._manifest: Manifest | None = None
        self._done: set[tuple[str, str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, manifest: Manifest) -> None:
        """Tell by this manifest from now on."""
        self._manifest = manifest

    def noticed(self, account: Account, percent: int) -> None:
        """A budget stands at so many percent; what that calls for runs by itself."""
        owner = account.budget.id.partition("/")[0]
        kind, _, name = owner.partition(":")
        team = self._manifest.teams.get(name) if self._manifest is not None and kind == "team" else None
        if team is None or team.alerts is None or not account.starts:
            return
        for threshold in sorted({parse_percent(text) for text in team.alerts.at}):
            mark = (account.budget.id, account.starts, threshold)
            if percent >= threshold and mark not in self._done and len(self._tasks) < AT_ONCE_MAX:
                self._done.add(mark)
                task = asyncio.create_task(self._tell(mark, account, team.alerts.webhook), name="budget-alert")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop; a post under way is given up, and another process makes it later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tell(self, mark: tuple[str, str, int], account: Account, webhook: str) -> None:
        budget_id, starts, threshold = mark
        try:
            if not await self._bank.claim_alert(*mark):
                return
            log.warning("%s is %d%% spent", account.budget.title, threshold)
            body = {
                "event": "budget",
                "workspace": self._manifest.name if self._manifest is not None else "",
                "budget": budget_id,
                "percent": threshold,
                "cap_microusd": account.budget.cap_microusd,
                "settled_microusd": account.settled,
                "period_starts": starts,
            }
            if not webhook or await post_alert(
                self._client, resolve_secret(webhook, base=self._folder).reveal(), body, "budget-alerts"
            ):
                await self._bank.note_alert_posted(*mark)
                return
            log.error("the alert of %s was not taken by its webhook", account.budget.title)
        except (Unavailable, DeadlineExceeded, ConfigError) as error:
            log.error("the alert of %s could not be sent: %s", account.budget.title, error.code)
        asyncio.get_running_loop().call_later(AGAIN_S, self._done.discard, mark)


async def post_alert(client: UpstreamClient, address: str, body: dict[str, Any], name: str) -> bool:
    """Whether a webhook took ``body``, tried `POSTS_MAX` times. ``name`` keeps its connections apart."""
    request = UpstreamRequest(
        b"POST",
        parse_url(address),
        b"content-type: application/json\r\n",
        msgspec.json.encode(body),
        credential_class=name,
        response_bytes_max=REPLY_BYTES_MAX,
    )
    for tries in range(POSTS_MAX):
        if tries:
            await asyncio.sleep(full_jitter_s(tries, random.random()))
        try:
            response = await client.request(request, head_s=POST_S, complete_s=POST_S)
            status = response.status
            response.abort()
        except UpstreamFailed:
            continue
        if 200 <= status < 300:
            return True
    return False
