"""A process that records acts until it is killed in a chosen phase: `test_audit_crash` starts it.

It prints each act when it is durable. Usage: ``python -m tests.ledger.audit_writer DSN SCHEMA FOLDER SLOT PHASE``.
PHASE: ``before-spool``, ``after-spool``, ``before-copy``, ``in-copy``, ``after-copy`` or ``never``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from roadbed.ledger import audit as audit_module
from roadbed.ledger.audit import Audit, Batch
from roadbed.ledger.audit_record import Pseudonyms, event_of
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.spool import Spool
from roadbed.store.database import Database

ACTS = 60
KILL_AT = 20


def die() -> None:
    """End as a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingSpool(Spool):
    """A spool in whose middle the process dies."""

    phase = ""

    def write(self, body: bytes) -> Path:
        """As the spool, with the two places at which it may die."""
        if self.phase == "before-spool" and acted >= KILL_AT:
            die()
        path = super().write(body)
        if self.phase == "after-spool" and acted >= KILL_AT:
            die()
        return path


class DyingAudit(Audit):
    """A shard whose process dies around a COPY."""

    phase = ""

    async def _store(self, batch: Batch, *, is_new: bool) -> bool:
        is_due = acted >= KILL_AT
        if self.phase in ("before-spool", "after-spool") and is_due:
            return False  # PostgreSQL is away from now on
        if self.phase == "before-copy" and is_due:
            die()
        if self.phase == "in-copy" and is_due:
            asyncio.get_running_loop().call_soon(die)  # before PostgreSQL can have answered
        done = await super()._store(batch, is_new=is_new)
        if self.phase == "after-copy" and is_due:
            die()
        return done


acted = 0


async def main(dsn: str, schema: str, folder: str, slot: str, phase: str) -> None:
    """Record."""
    global acted
    vars(audit_module)["Spool"] = DyingSpool
    async with await Database.open(dsn, schema, max_size=3) as database:
        spool = Path(folder) / "spool" if slot == "0" else Path(folder) / f"spool/worker-{slot}-{os.getpid()}"
        audit = DyingAudit(
            database, spool, Metrics(), Pseudonyms(b"k" * 32), host="testhost", slot=int(slot), is_owner=slot == "0"
        )
        audit.phase = DyingSpool.phase = phase
        await audit.start()
        for number in range(ACTS):
            await audit.act(event_of("keys.create", resource=f"act-{slot}-{phase}-{number}"))
            acted += 1
            print(f"act-{slot}-{phase}-{number}", flush=True)
        await audit.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
