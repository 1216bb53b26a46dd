"""Alerts of budgets, with a real PostgreSQL and a webhook that listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roadbed.guard.exposed import KeyInAddress
from roadbed.guard.identity import Identity
from roadbed.kernel.config import decode, parse_yaml
from roadbed.kernel.limits import Budget
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.ledger.budgets import Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.releases.manifest import Manifest
from roadbed.server.alerts import POSTS_MAX, Alerts
from roadbed.server.exposed_keys import ExposedKeys
from roadbed.server.guard_alerts import GuardAlerts
from roadbed.store.database import Database
from roadbed.wire.client import UpstreamClient

TEAM = Budget("team:support/month", 1_000_000, "month")
MANIFEST = """\
name: acme
teams: {support: {budget: 1 USD/month, alerts: {at: [50%, 80%, 100%], webhook: "file:hook"}}}
"""


class Hook:
    """A webhook: keeps the bodies that were posted to it, and answers with ``status``."""

    def __init__(self) -> None:
        self.status = 204
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        self.bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % self.status)
        await writer.drain()
        writer.close()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    server = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook?secret=s3cret"
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    made = UpstreamClient()
    yield made
    await made.close()


def process(database: Database, client: UpstreamClient, folder: Path) -> tuple[Budgets, Alerts]:
    """What one process has of budgets and alerts."""
    bank = PostgresBank(database)
    budgets, alerts = Budgets(bank, Metrics(), folder / "leases"), Alerts(bank, client, folder)
    alerts.take(decode(parse_yaml(MANIFEST), Manifest))
    budgets.on_used = alerts.noticed
    return budgets, alerts


async def settled(alerts: Alerts) -> None:
    await asyncio.gather(*alerts._tasks)


async def test_each_threshold_is_told_once_by_one_process(
    database: Database, client: UpstreamClient, hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "hook").write_text(f"{hook.url}\n")
    first, second = process(database, client, tmp_path), process(database, client, tmp_path)
    for share, told in ((400_000, 0), (200_000, 1), (250_000, 2)):
        for budgets, alerts in (first, second):
            purse = budgets.purse([TEAM])
            account = purse._accounts[0]
            if budgets is first[0]:
                (await purse.obtain(share)).settle(share)
            else:
                await budgets.supply(account, 1)
            await budgets._ask(account, 0)
            alerts.noticed(account, account.used_percent())
            alerts.noticed(account, account.used_percent())
            await settled(alerts)
        assert len(hook.bodies) == told
    bodies = hook.bodies
    assert [body["percent"] for body in bodies] == [50, 80]
    assert bodies[0]["budget"] == TEAM.id
    assert bodies[0]["workspace"] == "acme"
    assert bodies[0]["settled_microusd"] == 600_000
    assert "s3cret" not in json.dumps(bodies)
    for budgets, alerts in (first, second):
        await alerts.close()
        await budgets.close()


async def test_a_refusal_tells_the_end_of_the_budget_and_a_failing_webhook_is_tried_a_few_times(
    database: Database, client: UpstreamClient, hook: Hook, tmp_path: Path
) -> None:
    hook.status = 500
    (tmp_path / "hook").write_text(hook.url)
    budgets, alerts = process(database, client, tmp_path)
    account = budgets.purse([TEAM])._accounts[0]
    account.starts = "2026-11-01 00:00:00+00"
    alerts.noticed(account, 50)
    await settled(alerts)
    assert len(hook.bodies) == POSTS_MAX
    assert await database.fetchval("SELECT count(*) FROM budget_alert WHERE posted IS NULL") == 1
    await database.execute("UPDATE budget_alert SET claimed = now() - interval '11 minutes'")
    hook.status = 204
    other, later = process(database, client, tmp_path)
    later.noticed(account, 50)
    await settled(later)
    assert await database.fetchval("SELECT count(*) FROM budget_alert WHERE posted IS NULL") == 0
    await budgets.close()
    await other.close()


class Recorded:
    """Stands for the audit, which has tests of its own: says when it cannot record."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []

    async def doing(self, action: str, principal_id: str, resource: str, do: Any) -> Any:
        self.acts.append((action, principal_id, resource))
        return await do()


async def test_an_exposed_key_is_told_of_once_and_without_its_value(
    database: Database, client: UpstreamClient, hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "hook").write_text(hook.url)
    metrics, trail = Metrics(), Recorded()
    alerts = GuardAlerts(metrics, client, tmp_path)
    alerts.take(decode(parse_yaml("name: acme\nguard: {alerts: 'file:hook'}\n"), Manifest))
    async with Identity(database) as identity:
        record, key = await identity.create_key(team="sales")
        exposed = ExposedKeys(identity, trail, alerts, metrics)  # type: ignore[arg-type]
        assert exposed.check(b"/v1/models") is None
        for _ in range(3):
            fault = exposed.check(f"/v1/models?key={key}".encode())
            assert isinstance(fault, KeyInAddress)
        await asyncio.gather(*exposed._tasks)
        await exposed.close()
    await alerts.close()
    assert hook.bodies == [{"event": "key_exposed", "workspace": "acme", "key": record.id}]
    assert trail.acts == [("keys.exposed", record.id, record.id)]
