"""`Witness`: this deployment as the second place for the audit logs of others.

It keeps the last checkpoint of each log and takes a next one only with a proof that it extends it. A smaller or a
forked tree is refused, and stays on record as an alarm. The invariant: for one log, sizes only grow, and every tree
that was ever taken is the beginning of the last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadbed.kernel.errors import Conflict, InvalidRequest
from roadbed.ledger.audit_verify import (
    AuditInvalid,
    Checkpoint,
    PublicKey,
    is_consistent,
    is_signed_by,
    open_note,
    read_rotation,
)
from roadbed.store.database import Database

LOGS_MAX = 200
PROOF_NODES_MAX = 130


class WitnessFork(Conflict):
    """The audit log that was to be witnessed is smaller than before, or another one than before."""

    code = "audit.fork"
    hint = "verify the log against the checkpoints that were shipped: it was cut back, restored or rewritten"


class WitnessInvalid(InvalidRequest):
    """What was sent to be witnessed is no signed checkpoint."""

    code = "audit.witness_invalid"
    hint = "send {number, key, note, proof}, as Roadbed ships them"


class Witness:
    """The logs that this deployment witnesses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, key: str, note: str, proof: list[str], rotation: Mapping[str, str] | None = None
    ) -> Checkpoint:
        """Take the next checkpoint of a log; with ``rotation`` it is the last one by its key. `WitnessInvalid`,
        `WitnessFork`.
        """
        try:
            next_key = str(_next_key(key, note, rotation)) if rotation else key
            public = PublicKey.parse(key)
            found = open_note(note, [public])
            nodes = [bytes.fromhex(node) for node in proof[:PROOF_NODES_MAX]]
        except (AuditInvalid, ValueError) as error:
            raise WitnessInvalid(f"this is no checkpoint: {error}") from None
        async with self._database.transaction() as connection:
            row = await connection.fetchrow("SELECT * FROM audit_witness WHERE origin = $1 FOR UPDATE", found.origin)
            if row is None:
                if await connection.fetchval("SELECT count(*) FROM audit_witness") >= LOGS_MAX:
                    raise WitnessInvalid(f"this deployment witnesses {LOGS_MAX} logs at most")
                await connection.execute(
                    "INSERT INTO audit_witness (origin, key, size, root, note) VALUES ($1, $2, $3, $4, $5)"
                    " ON CONFLICT DO NOTHING",
                    *(found.origin, next_key, found.size, found.root, note),
                )
                return found
            fault = _fault(row, key, found, nodes)
            if not fault:
                await connection.execute(
                    "UPDATE audit_witness SET size = $2, root = $3, note = $4, seen = now(), key = $5"
                    " WHERE origin = $1",
                    *(found.origin, found.size, found.root, note, next_key),
                )
                return found
        await self._database.execute(
            "UPDATE audit_witness SET alarm = $2, alarmed = now() WHERE origin = $1", found.origin, fault
        )
        raise WitnessFork(f"{found.origin}: {fault}")


def _next_key(key: str, note: str, rotation: Mapping[str, str]) -> PublicKey:
    """The key after this one, if both have signed the change and the checkpoint. `AuditInvalid`."""
    old = PublicKey.parse(key)
    found = read_rotation(rotation, old.name)
    if found.old != old or not is_signed_by(note, found.new):
        raise AuditInvalid("the change of the key is not this checkpoint's")
    return found.new


def _fault(row: Any, key: str, found: Checkpoint, nodes: list[bytes]) -> str:
    """Why a checkpoint does not follow the one that is known; empty when it does."""
    is_same = found.size == row["size"] and found.root == bytes(row["root"])
    if is_same and is_signed_by(row["note"], PublicKey.parse(key)):
        return ""  # sent again, maybe by the key before
    if key != row["key"]:
        return "it is signed by another key than before"
    if found.size < row["size"]:
        return f"it holds {found.size} records, {row['size']} were witnessed"
    if found.size == row["size"]:
        return "" if found.root == bytes(row["root"]) else "two trees of the same size"
    if not is_consistent(row["size"], bytes(row["root"]), found.size, found.root, nodes):
        return f"it does not extend the tree of {row['size']} records that was witnessed"
    return ""
