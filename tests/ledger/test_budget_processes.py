"""Four processes spend one budget at once, 500 calls each, and one is killed in the middle: nothing is overspent."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from roadbed.ledger.budget_bank import PostgresBank
from roadbed.store.database import Database

from .spender import CALLS, TEAM

SPENDER = Path(__file__).with_name("spender.py")
WITHIN_S = 60.0


async def run(dsn: str, folder: Path, seed: int, begun: asyncio.Event) -> tuple[int, int, int, bool]:
    """One process: what it paid, how many calls that were, how many were refused, whether it ended by itself."""
    if seed:
        await begun.wait()  # the one that is killed must have a lease by then
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ledger.spender", dsn, "roadbed_test", str(folder), str(seed)),
        stdout=asyncio.subprocess.PIPE,
        cwd=SPENDER.parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    paid = calls = refused = 0
    is_closed = False
    try:
        async with asyncio.timeout(WITHIN_S):
            async for line in process.stdout:
                word, _, rest = line.decode().strip().partition(" ")
                if word == "paid":
                    paid += int(rest)
                    calls += 1
                    begun.set()
                elif word == "refused":
                    assert rest == "gateway.budget_exceeded"
                    refused += 1
                elif word == "closed":
                    is_closed = True
                if seed == 0 and (calls == CALLS // 3 or word == "waiting") and process.returncode is None:
                    process.send_signal(signal.SIGKILL)
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return paid, calls, refused, is_closed


async def test_four_processes_and_a_kill_overspend_nothing(dsn: str, database: Database, tmp_path: Path) -> None:
    begun = asyncio.Event()
    results = await asyncio.gather(*[run(dsn, tmp_path / "leases", seed, begun) for seed in range(4)])
    assert [is_closed for *_, is_closed in results] == [False, True, True, True]
    paid = sum(result[0] for result in results)
    assert sum(result[2] for result in results) > 0, "the budget was not short: the test shows nothing"
    assert paid <= TEAM.cap_microusd
    row = await database.fetchrow("SELECT settled, leased FROM budget")
    assert row is not None
    told_by_the_killed = row["settled"] - sum(result[0] for result in results[1:])
    assert 0 <= told_by_the_killed <= results[0][0]
    assert row["settled"] + row["leased"] <= TEAM.cap_microusd
    assert results[0][0] <= told_by_the_killed + row["leased"], "the killed one paid more than it had leased"
    # Its lease ends unheard: all of it is charged, and the books close below the cap.
    await database.execute("UPDATE budget_lease SET expires = now() WHERE state = 'open'")
    assert await PostgresBank(database).expire() == 1
    after = await database.fetchrow("SELECT settled, leased FROM budget")
    assert after is not None
    assert (after["settled"], after["leased"]) == (row["settled"] + row["leased"], 0)
    assert paid <= after["settled"] <= TEAM.cap_microusd
