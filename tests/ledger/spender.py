"""A process that spends one budget: `test_budget_processes` starts several of them.

It reserves and settles `CALLS` times at once, prints what each call was let to spend as it goes, and ends by itself or
by a kill. Usage: ``python spender.py DSN SCHEMA FOLDER SEED``.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from roadbed.kernel.limits import Budget
from roadbed.ledger.accounts import BudgetUnavailable
from roadbed.ledger.budget_bank import PostgresBank
from roadbed.ledger.budgets import BudgetExceeded, Budgets
from roadbed.ledger.metrics import Metrics
from roadbed.store.database import Database

CALLS = 500
TEAM = Budget("team:support/month", 3_000_000, "month")
BOUND, COST_MAX = 4_000, 4_000


async def main(dsn: str, schema: str, folder: str, seed: str) -> None:
    """Spend."""
    chance = random.Random(int(seed))
    async with await Database.open(dsn, schema, max_size=4) as database:
        budgets = Budgets(PostgresBank(database), Metrics(), Path(folder), is_owner=False)
        budgets.start()
        purse = budgets.purse([TEAM])

        async def call(cost: int) -> None:
            try:
                reservation = purse.reserve(BOUND) or await purse.obtain(BOUND)
            except (BudgetExceeded, BudgetUnavailable) as error:
                print(f"refused {error.code}", flush=True)
                return
            print(f"paid {cost}", flush=True)  # the provider charges from here on, whatever becomes of us
            await asyncio.sleep(0)
            reservation.settle(cost)

        await asyncio.gather(*[call(chance.randrange(COST_MAX + 1)) for _ in range(CALLS)])
        print("waiting", flush=True)
        if seed == "0":
            await asyncio.Event().wait()
        await budgets.close()
    print("closed", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
