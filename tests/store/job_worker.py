"""A worker process for the tests that kill one: runs jobs named `count`, which add to a table and then wait.

``python job_worker.py DSN SCHEMA``; prints a line when it has begun a job.
"""

from __future__ import annotations

import asyncio
import sys

from roadbed.store.database import Database
from roadbed.store.jobs import Job, Jobs


async def main(dsn: str, schema: str) -> None:
    async with await Database.open(dsn, schema) as database:
        jobs = Jobs(database, lease_s=1.0)

        async def begin_and_hang(job: Job) -> None:
            sys.stdout.write(f"{job.payload['n']}\n")
            sys.stdout.flush()
            await asyncio.Event().wait()

        jobs.register("count", begin_and_hang, concurrency=4)
        await jobs.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
