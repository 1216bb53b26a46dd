"""Usage summed up over a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roadbed.kernel.principal import Principal
from roadbed.ledger.ledger import Ledger
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Usage
from roadbed.ledger.usage_report import UsageQueryInvalid, UsageRange, groups_of, range_of, report
from roadbed.store.database import Database

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
async def used(database: Database, tmp_path: Path) -> UsageRange:
    ledger = Ledger(database, tmp_path / "spool", Metrics(), keep=timedelta(days=7), content="off")
    ledger.start()
    for team, tags, cost, source in (
        ("support", "a,b", 500, "reported"),
        ("support", "", 300, "estimated"),
        ("sales", "a", 900, "reported"),
    ):
        trace = ledger.start_trace("smart", Principal(f"key-{team}", team), "r1")
        trace.tags = tags
        values = {"input_uncached": 10, "cache_read": 5, "output_tokens": 3}
        trace.usage.append(Usage("lab", "tiny", "smart", source=source, cost_microusd=cost, **values))
        ledger.finish(trace)
    await ledger.flush()
    await ledger.close()
    now = datetime.now(UTC)
    return UsageRange(now - timedelta(hours=1), now + timedelta(minutes=1))


async def test_sums_by_group(database: Database, used: UsageRange) -> None:
    found = await report(database, ("team",), used)
    assert [(row["team"], row["calls"], row["cost_microusd"], row["estimated_microusd"]) for row in found.rows] == [
        ("sales", 1, 900, 0),
        ("support", 2, 800, 300),
    ]
    assert found.total == {
        "calls": 3,
        "input_tokens": 45,
        "output_tokens": 9,
        "reasoning_tokens": 0,
        "cost_microusd": 1700,
        "estimated_microusd": 300,
    }


async def test_a_call_counts_under_each_of_its_tags(database: Database, used: UsageRange) -> None:
    found = await report(database, ("tag", "key"), used)
    assert {(row["tag"], row["key"]): row["cost_microusd"] for row in found.rows} == {
        ("a", "key-sales"): 900,
        ("a", "key-support"): 500,
        ("b", "key-support"): 500,
        ("", "key-support"): 300,
    }
    assert found.total["cost_microusd"] == 1700


async def test_csv_has_a_heading_and_no_formulas(database: Database, used: UsageRange) -> None:
    await database.execute("UPDATE usage SET team = '=HYPERLINK(1)' WHERE team = 'sales'")
    lines = (await report(database, ("team", "day"), used)).csv().splitlines()
    assert lines[0] == "team,day,calls,input_tokens,output_tokens,reasoning_tokens,cost_microusd,estimated_microusd"
    days = {(used.end - timedelta(minutes=ago)).date() for ago in (1, 3)}  # midnight may have passed meanwhile
    assert lines[1] in {f"'=HYPERLINK(1),{day},1,15,3,0,900,0" for day in days}


async def test_every_group_works_alone(database: Database, used: UsageRange) -> None:
    for name in ("team", "app", "route", "endpoint", "model", "release", "key", "tag", "day"):
        assert (await report(database, groups_of(name), used)).rows


@pytest.mark.parametrize("text", ["password", "team;drop", "team,app,route,model", ""])
def test_other_groups_are_refused(text: str) -> None:
    with pytest.raises(UsageQueryInvalid):
        groups_of(text)


def test_ranges_are_days_in_utc_the_last_one_included() -> None:
    found = range_of("2026-11-01", "2026-11-02", timedelta(days=1), NOW)
    assert (found.start.isoformat(), found.end - found.start) == ("2026-11-01T00:00:00+00:00", timedelta(days=2))
    assert range_of("", "", timedelta(days=7), NOW) == UsageRange(NOW - timedelta(days=7), NOW)
    for start, end in (("yesterday", ""), ("2026-11-03", "2026-11-01"), ("2020-01-01", ""), ("", "9999-12-31")):
        with pytest.raises(UsageQueryInvalid):
            range_of(start, end, timedelta(days=1), NOW)
