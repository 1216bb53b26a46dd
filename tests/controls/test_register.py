"""When the controls of a deployment look for the first time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from roadbed.controls.control import Result
from roadbed.controls.evidence import Evidence, EvidenceStore, Stamp
from roadbed.controls.register import Controls, is_due
from roadbed.kernel.errors import Unavailable
from roadbed.ledger.metrics import Metrics


class Shelf:
    """A store of evidence in memory."""

    def __init__(self) -> None:
        self.records: dict[str, Evidence] = {}

    async def newest(self) -> dict[str, Evidence]:
        return self.records

    async def keep(self, record: dict[str, Any]) -> Evidence:
        kept = Evidence("1", record["control"], datetime.now(UTC), record["outcome"], "{}", "")
        self.records[kept.control] = kept
        return kept

    async def on_order(self, heard: Any) -> None:
        return None

    async def forget_old(self) -> None:
        return None


class Looking:
    """A control that says when it looked."""

    id, title, period_s = "looking", "It looks", 3600.0

    def __init__(self) -> None:
        self.looked = asyncio.Event()

    async def run(self) -> Result:
        self.looked.set()
        return Result("pass", "it looked")


class Record:
    """The audit, of which nothing is asked here."""

    async def act(self, action: str, principal_id: str, resource: str = "", **detail: Any) -> None:
        return None


async def alarm(event: str, detail: str) -> None:
    raise AssertionError(f"{event}: {detail}")


async def test_nothing_is_looked_at_while_a_first_ingest_runs() -> None:
    """A document that waits behind thousands of others would be called a failure of the control."""
    control, asked, states = Looking(), asyncio.Event(), [False, None, True]
    may_end = asyncio.Event()

    async def is_calm() -> bool:
        asked.set()
        await may_end.wait()
        state = states.pop(0)
        if state is None:
            raise Unavailable("the database is away")
        return state

    controls = Controls(cast(EvidenceStore, Shelf()), Record(), alarm, Metrics(), lambda: Stamp("w", "0", "r", "m"))
    controls.use([control])
    await controls.start(is_calm, first_s=0.0)
    try:
        async with asyncio.timeout(60):
            await asked.wait()
            assert not control.looked.is_set()
            may_end.set()
            await control.looked.wait()
        assert states == []
    finally:
        await controls.close()


@pytest.mark.parametrize(
    ("outcome", "minutes_ago", "expected"),
    [("pass", 16, False), ("fail", 16, False), ("invalid", 16, True), ("invalid", 10, False), ("pass", 61, True)],
)
def test_what_could_not_look_looks_again_soon(outcome: str, minutes_ago: int, expected: bool) -> None:
    last = Evidence("1", "looking", datetime.now(UTC) - timedelta(minutes=minutes_ago), outcome, "{}", "")
    assert is_due(Looking(), last) is expected
    assert is_due(Looking(), None)
