"""Evidence: the signed record of one run of a control, how it is stored, and what the newest of each says.

A record is canonical JSON (RFC 8785) with the digest of the run's inputs, so that two exports of it are the same bytes.
Owns the table ``control_evidence`` and the notes in ``control_note``. The invariant: a record is written once and never
changed, and holds counts, bounds and paths, never a value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import rfc8785

from roadbed.controls.control import Control, Result
from roadbed.kernel.ids import new_id
from roadbed.store.database import Database

KEPT: Final = timedelta(days=2557)
EXPORTED_MAX: Final = 2_000
VERSION: Final = 1
CHANNEL: Final = "roadbed_control_run"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One record with its signature. ``record`` is the canonical JSON."""

    id: str
    control: str
    at: datetime
    outcome: str
    record: str
    signature: str

    @property
    def digest(self) -> str:
        """The sha256 of the record, as the audit names it."""
        return hashlib.sha256(self.record.encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """The record, decoded, with the signature beside it."""
        return {**json.loads(self.record), "signature": self.signature}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What every record of a deployment says of it."""

    workspace: str
    software: str
    releases: str
    map_version: str


def record_of(control: Control, result: Result, began: datetime, ended: datetime, stamp: Stamp) -> dict[str, Any]:
    """The record of a run. Pure but for its id."""
    inputs = rfc8785.dumps({"control": control.id, **result.inputs})
    return {
        "v": VERSION,
        "id": new_id(),
        "control": control.id,
        "title": control.title,
        "started": began.isoformat(),
        "ended": ended.isoformat(),
        "duration_ms": round((ended - began).total_seconds() * 1000),
        "period_s": control.period_s,
        "outcome": result.outcome,
        "summary": result.summary,
        "n": result.n,
        "bound": result.bound,
        "inputs": hashlib.sha256(inputs).hexdigest(),
        "problems": list(result.problems),
        "facts": dict(result.facts),
        "workspace": stamp.workspace,
        "software": stamp.software,
        "release": stamp.releases,
        "map": stamp.map_version,
    }


class EvidenceStore:
    """The records of one deployment. ``sign`` is the audit's."""

    def __init__(self, database: Database, sign: Callable[[str], str]) -> None:
        self._database = database
        self._sign = sign

    async def keep(self, record: dict[str, Any]) -> Evidence:
        """Sign and store a record."""
        text = rfc8785.dumps(record).decode()
        kept = Evidence(
            record["id"],
            record["control"],
            datetime.fromisoformat(record["ended"]),
            record["outcome"],
            text,
            self._sign(text),
        )
        await self._database.execute(
            "INSERT INTO control_evidence (id, control, at, outcome, record, signature)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *(kept.id, kept.control, kept.at, kept.outcome, kept.record, kept.signature),
        )
        return kept

    async def newest(self) -> dict[str, Evidence]:
        """The last record of each control."""
        rows = await self._database.fetch(
            "SELECT DISTINCT ON (control) * FROM control_evidence ORDER BY control, at DESC, id DESC"
        )
        return {row["control"]: _evidence(row) for row in rows}

    async def since(self, start: datetime | None, control: str = "") -> list[Evidence]:
        """Records by time, oldest first; the newest `EXPORTED_MAX` at most."""
        rows = await self._database.fetch(
            "SELECT * FROM control_evidence WHERE ($1::timestamptz IS NULL OR at >= $1) AND ($2 = '' OR control = $2)"
            " ORDER BY at DESC, id DESC LIMIT $3",
            *(start, control, EXPORTED_MAX),
        )
        return [_evidence(row) for row in reversed(rows)]

    async def order(self, control: str) -> None:
        """Ask the owner to run a control."""
        await self._database.notify(CHANNEL, control)

    async def on_order(self, callback: Callable[[str | None], None]) -> Any:
        """Be told of what is asked for; close the subscription in the end."""
        return await self._database.listen(CHANNEL, callback)

    async def forget_old(self) -> None:
        """Remove what is older than `KEPT`."""
        await self._database.execute("DELETE FROM control_evidence WHERE at < now() - $1::interval", KEPT)

    async def first(self) -> datetime | None:
        """When the oldest record was made."""
        found: datetime | None = await self._database.fetchval("SELECT min(at) FROM control_evidence")
        return found

    async def last_note(self, kind: str) -> datetime | None:
        """When that was last written down."""
        found: datetime | None = await self._database.fetchval("SELECT max(at) FROM control_note WHERE kind = $1", kind)
        return found


def _evidence(row: Any) -> Evidence:
    return Evidence(row["id"], row["control"], row["at"], row["outcome"], row["record"], row["signature"])
