"""Erasing a person: every store is walked, the value is replaced or its row deleted, and a receipt is signed.

`Erasures.erase` does it, `Erasures.start` keeps this process's guard told of what must not come back. What it cannot
reach (providers, exports, backups, the audit's own records) it lists. The invariant: the value itself is stored
nowhere, not in the receipt, the audit or a log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from roadbed.gateway.gateway import Gateway
from roadbed.guard.credentials import Credentials
from roadbed.guard.deployment_secrets import load_deployment_secret
from roadbed.guard.erased import ErasedValues, WordFinder, checked_words, digest_of_words
from roadbed.kernel.errors import DeadlineExceeded, Unavailable
from roadbed.kernel.ids import new_id
from roadbed.knowledge.service import Knowledge
from roadbed.ledger.ledger import Ledger
from roadbed.server.audit import AuditTrail
from roadbed.server.erasure_people import erase_people
from roadbed.server.erasure_sweep import count_in_files, sweep_tables
from roadbed.server.teams import Teams
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres

log = logging.getLogger("roadbed.erasure")

CHANNEL = "roadbed_erased"
SECRET = "erased_values"  # noqa: S105 - its name
RECEIPTS_LISTED_MAX = 200
COMPACT_TIMEOUT_S = 600.0
NOT_HERE = (
    "what was sent to model providers before: ask them by their own way",
    "exports, downloads and copies that people made",
    "backups of the database and of the state folder: let them expire",
    "the directory and the issuer of people who sign in: delete there, or they are sent again",
    "files in the sources themselves: delete there; the guard replaces the value whenever they are read again",
)


class Stores(NamedTuple):
    """What an erasure walks through, of one process."""

    name: str
    state: Path
    database: Database
    embedded: EmbeddedPostgres | None
    teams: Teams
    gateway: Gateway
    ledger: Ledger
    knowledge: Knowledge
    trail: AuditTrail
    credentials: Credentials


class Erasures:
    """Erases people from every store, and knows what was erased: the guard replaces it ever after. One per process."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._key = b""
        self._subscription: Any = None
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Know what was erased, and learn of what is erased later, here or in another process."""
        self._key = await load_deployment_secret(self._stores.database, SECRET)
        self._subscription = await self._stores.database.listen(CHANNEL, lambda payload: self._changed.set())
        await self._learn()
        self._task = asyncio.create_task(self._follow(), name="erasures")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._learn()
            except (Unavailable, DeadlineExceeded):
                await asyncio.sleep(1)
                self._changed.set()

    async def _learn(self) -> None:
        rows = await self._stores.database.fetch("SELECT words, digest FROM erased_value")
        self._stores.teams.take_erased(ErasedValues(self._key, [(row["words"], bytes(row["digest"])) for row in rows]))
        self._stores.gateway.forget_answers()

    async def receipts(self) -> list[dict[str, Any]]:
        """The receipts, newest first."""
        rows = await self._stores.database.fetch(
            "SELECT receipt FROM erasure ORDER BY id DESC LIMIT $1", RECEIPTS_LISTED_MAX
        )
        return [json.loads(row["receipt"]) for row in rows]

    async def erase(self, subject: str, actor: str, *, is_dry_run: bool, compacts: bool) -> dict[str, Any]:
        """Erase a value everywhere; the signed receipt, and, this once, the salt of the subject's digest."""
        parts, words, finder = self._stores, checked_words(subject), WordFinder(subject)
        before = await self._checkpoint()
        if not is_dry_run:
            async with parts.database.transaction() as connection:
                await connection.execute(
                    "INSERT INTO erased_value (digest, words) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    *(digest_of_words(self._key, words), len(words)),
                )
                await parts.database.notify(CHANNEL, connection=connection)
            await self._learn()
        await parts.ledger.flush()
        documents = await parts.knowledge.erase(finder, is_dry_run=is_dry_run)
        credentials = await parts.credentials.erase(finder, is_dry_run=is_dry_run)
        people = await erase_people(parts.database, finder, is_dry_run=is_dry_run)
        rows, touched, left = await sweep_tables(parts.database, finder, is_dry_run=is_dry_run)
        files = await asyncio.to_thread(count_in_files, parts.state, subject.strip(), is_dry_run=is_dry_run)
        stores = {**documents.rows, **({"people": people} if people else {}), **rows, **files, **credentials}
        unreachable = [*documents.unreachable, *left, *NOT_HERE]
        if compacts and not is_dry_run:
            changed = [*credentials, *(["person"] if people else [])]
            unreachable += await self._compact([*touched, *(name for name in changed if name not in touched)])
        elif not is_dry_run:
            unreachable.append("dead rows and write-ahead log of PostgreSQL, until it is compacted (`--compact`)")
        salt = secrets.token_hex(16)
        receipt: dict[str, Any] = {
            "id": new_id(),
            "at": datetime.now(UTC).isoformat(),
            "workspace": parts.name,
            "dry_run": is_dry_run,
            "subject": hashlib.sha256(f"{salt} {' '.join(words)}".encode()).hexdigest(),
            "stores": stores,
            "unreachable": unreachable,
            "checkpoint_before": before,
        }
        if not is_dry_run:
            digest = hashlib.sha256(json.dumps(receipt, sort_keys=True).encode()).hexdigest()
            await parts.trail.act("erasures.receipt", actor, receipt["id"], digest=digest)
        receipt["checkpoint_after"] = await self._checkpoint()
        text = json.dumps(receipt, sort_keys=True, separators=(",", ":"))
        signed = {**receipt, "key": parts.trail.key, "signature": parts.trail.sign_text(text)}
        if not is_dry_run:
            await parts.database.execute(
                "INSERT INTO erasure (id, actor, receipt) VALUES ($1, $2, $3)",
                *(receipt["id"], parts.trail.pseudonym(actor), json.dumps(signed)),
            )
        level = logging.INFO if is_dry_run or actor == "system" else logging.WARNING  # a control erases its own person
        log.log(level, "an erasure was %s: %d stores", "tried" if is_dry_run else "done", len(stores))
        return {**signed, "salt": salt}

    async def _checkpoint(self) -> str:
        await self._stores.trail.checkpoint()
        found = (await self._stores.trail.head())["checkpoint"]
        return str(found["note"]) if found is not None else ""

    async def _compact(self, touched: Sequence[str]) -> list[str]:
        """Write the touched tables anew and drop the log of before; what stays undone."""
        database = self._stores.database
        for table in touched:
            await database.execute(f'VACUUM (FULL, ANALYZE) "{table}"', timeout_s=COMPACT_TIMEOUT_S)
        embedded = self._stores.embedded
        if embedded is None:
            return ["the write-ahead log and the statistics of PostgreSQL: its operator lets them expire"]
        async with embedded.superuser("roadbed") as connection:
            await connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
            await connection.execute("ALTER SYSTEM SET wal_recycle = off")
            await connection.execute("SELECT pg_reload_conf()")
            for _ in range(2):
                await connection.execute("SELECT pg_switch_wal()")
                await connection.execute("CHECKPOINT")
        return []
