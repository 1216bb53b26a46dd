"""Retention: what the manifest says how long it stays, and the job in the owner that removes what is older.

Audit records go by whole checkpoints: the tree at the last one that goes, and every shard's head there, stay as a stub
under that checkpoint's signature, so that what is kept is proven on. The invariant: nothing is removed that
``retention:`` keeps, and each removal is on record before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import timedelta
from pathlib import Path

from roadbed.guard.credentials import Credentials
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import DeadlineExceeded, NotFound, Unavailable
from roadbed.kernel.principal import SYSTEM
from roadbed.knowledge.documents import document_id_of
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.audit_export import heads_at
from roadbed.ledger.manifest import RetentionConfig
from roadbed.server.audit import AuditTrail
from roadbed.store.database import Database

log = logging.getLogger("roadbed.retention")

EVERY_S = 3600.0
FIRST_S = 60.0
DAMAGED = ("spool/**/*.damaged", "audit/spool/**/*.damaged")
UPLOADS_AT_ONCE = 500


class Retention:
    """Removes what is too old; in the owner of a deployment alone."""

    def __init__(self, database: Database, knowledge: Knowledge, trail: AuditTrail, state: Path) -> None:
        self._database = database
        self._knowledge = knowledge
        self._trail = trail
        self._state = state
        self._config = RetentionConfig()
        self._task: asyncio.Task[None] | None = None

    def take(self, config: RetentionConfig) -> None:
        """Keep by this section from now on."""
        self._config = config

    def start(self) -> None:
        """Start the job."""
        self._task = asyncio.create_task(self._loop(), name="retention")

    async def close(self) -> None:
        """Stop it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        await asyncio.sleep(FIRST_S)
        while True:
            with contextlib.suppress(Unavailable, DeadlineExceeded):
                await self.apply()
            await asyncio.sleep(EVERY_S)

    async def apply(self) -> dict[str, int]:
        """Remove what is older than the manifest says, how much, by store; and what callers left that has ended."""
        await Credentials.forget_ended(self._database)
        removed = {
            "usage": await self._usage(_age(self._config.usage)),
            "audit": await self._audit(_age(self._config.audit)),
            "uploads": await self._uploads(_age(self._config.uploads)),
            "spool": await asyncio.to_thread(self._damaged, _age(self._config.spool).total_seconds()),
        }
        if any(removed.values()):
            log.info("removed by retention: %s", removed)
        return removed

    async def _usage(self, age: timedelta) -> int:
        count = await self._database.fetchval("SELECT count(*) FROM usage WHERE at < now() - $1::interval", age)
        if count:
            await self._trail.act("retention.usage", "system", rows=count)
            await self._database.execute("DELETE FROM usage WHERE at < now() - $1::interval", age)
        return int(count)

    async def _uploads(self, age: timedelta) -> int:
        rows = await self._database.fetch(
            "SELECT source, key FROM upload WHERE uploaded_at < now() - $1::interval LIMIT $2", age, UPLOADS_AT_ONCE
        )
        for row in rows:
            document_id = document_id_of(row["source"], row["key"])
            await self._trail.act("retention.upload", "system", document_id)
            with contextlib.suppress(NotFound):
                await self._knowledge.delete_document(document_id, SYSTEM)
        return len(rows)

    async def _audit(self, age: timedelta) -> int:
        """Cut the log at the last checkpoint that is too old, and keep its stub."""
        row = await self._database.fetchrow(
            "SELECT number, size, frontier FROM audit_checkpoint WHERE at < now() - $1::interval"
            " AND number > (SELECT base_number FROM audit_tree) ORDER BY number DESC LIMIT 1",
            age,
        )
        if row is None:
            return 0
        await self._trail.act("retention.audit", "system", f"checkpoint {row['number']}", size=row["size"])
        async with self._database.transaction() as connection:
            tree = await connection.fetchrow("SELECT * FROM audit_tree FOR UPDATE")
            heads = await heads_at(connection, tree, row["number"])
            await connection.executemany(
                "DELETE FROM audit_record WHERE shard = $1 AND seq <= $2",
                [(shard, last) for shard, (last, _) in heads.items()],
            )
            await connection.executemany(
                "UPDATE audit_shard SET first_seq = $2 + 1 WHERE shard = $1",
                [(shard, last) for shard, (last, _) in heads.items()],
            )
            await connection.execute(
                "UPDATE audit_tree SET base_number = $1, base_size = $2, base_frontier = $3, base_heads = $4",
                *(row["number"], row["size"], bytes(row["frontier"]), heads),
            )
            await connection.execute("DELETE FROM audit_checkpoint WHERE number < $1", row["number"])
        return int(row["size"] - tree["base_size"])

    def _damaged(self, age_s: float) -> int:
        count = 0
        for pattern in DAMAGED:
            for path in self._state.glob(pattern):
                if path.stat().st_mtime < time.time() - age_s:
                    path.unlink(missing_ok=True)
                    count += 1
        return count


def _age(text: str) -> timedelta:
    return timedelta(seconds=parse_duration_s(text))
