"""`Checkpointer`: takes what processes have recorded into one tree, and signs where it stands.

One works at a time, whoever holds the lock of the row in ``audit_tree``. It recomputes every chain before it signs, and
signs nothing once something does not hold: a log that was changed must not get a fresh signature. The invariant: each
checkpoint extends the one before it, and its proof of that is stored beside it in the same transaction.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roadbed.kernel.errors import RoadbedError
from roadbed.ledger.audit_tree import Signer, consistency_proof
from roadbed.ledger.audit_verify import (
    AuditInvalid,
    Checkpoint,
    Frontier,
    PublicKey,
    chain_hash,
    leaf_hash,
    open_note,
    ranges_digest,
)
from roadbed.store.database import Connection, Database
from roadbed.store.state import write_private_file

log = logging.getLogger("roadbed.audit")

RECORDS_MAX = 50_000
ROUNDS_MAX = 200
LAST_NOTE = "last.note"
HASH_BYTES = 32


class AuditBroken(RoadbedError):
    """The audit log in the database is not what was recorded: nothing more is signed until somebody has looked."""

    code = "audit.broken"
    http_status = 500
    hint = "export it, verify it against the copies in the second place, and keep the database as it is"


class Taken(NamedTuple):
    """A checkpoint that was made."""

    number: int
    size: int
    note: str


def nodes_of(data: bytes) -> list[bytes]:
    """The nodes of a stored frontier."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class Checkpointer:
    """Makes checkpoints of one log. ``folder`` keeps the last note: by it, a database that was set back is noticed."""

    def __init__(self, database: Database, signer: Signer, folder: Path) -> None:
        self._database = database
        self._signer = signer
        self._last = folder / LAST_NOTE

    @property
    def public(self) -> PublicKey:
        """The key that signs, for whoever verifies."""
        return self._signer.public

    def sign_text(self, text: str) -> str:
        """The signature of another text by the log's key."""
        return self._signer.sign_text(text)

    async def run(self) -> list[Taken]:
        """Take in all that is recorded; the checkpoints made, none when nothing is new or another process is at it.

        Raises `AuditBroken`.
        """
        made: list[Taken] = []
        for _ in range(ROUNDS_MAX):
            taken = await self._one()
            if taken is None:
                return made
            made.append(taken)
        return made

    async def _one(self) -> Taken | None:
        try:
            async with self._database.transaction() as connection:
                tree = await connection.fetchrow("SELECT * FROM audit_tree FOR UPDATE SKIP LOCKED")
                if tree is None:
                    return None
                if tree["fault"]:
                    raise AuditBroken(tree["fault"])
                self._require_no_setback(tree["size"])
                ranges, leaves = await _new_records(connection)
                if not leaves:
                    return None
                taken = await self._extend(connection, tree, ranges, leaves)
        except AuditBroken as error:
            await self._database.execute("UPDATE audit_tree SET fault = $1 WHERE fault = ''", error.message)
            raise
        write_private_file(self._last, taken.note.encode())
        return taken

    def _require_no_setback(self, size: int) -> None:
        """A database that holds less than was signed here was set back."""
        try:
            known = open_note(self._last.read_text(encoding="utf-8"), [self.public])
        except (OSError, ValueError, AuditInvalid):
            return
        if known.origin == self.public.name and known.size > size:
            raise AuditBroken(f"the audit log holds {size} records, and {known.size} were signed: it was set back")

    async def _extend(
        self, connection: Connection, tree: Any, ranges: list[list[Any]], leaves: Sequence[bytes]
    ) -> Taken:
        frontier = Frontier(tree["size"], nodes_of(bytes(tree["frontier"])))
        if frontier.root() != bytes(tree["root"]):
            raise AuditBroken("the stored tree has not the root that was signed")
        proof = consistency_proof(frontier, leaves)
        frontier.extend(leaves)
        number, root, nodes = tree["number"] + 1, frontier.root(), b"".join(frontier.nodes)
        note = self._signer.sign(Checkpoint(self.public.name, frontier.size, root, ranges_digest(ranges)))
        await connection.execute(
            "INSERT INTO audit_checkpoint (number, size, note, ranges, proof, frontier)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            *(number, frontier.size, note, _json(ranges), _json([node.hex() for node in proof]), nodes),
        )
        await connection.execute(
            "UPDATE audit_tree SET number = $1, size = $2, frontier = $3, root = $4",
            *(number, frontier.size, nodes, root),
        )
        await connection.executemany(
            "UPDATE audit_shard SET placed_seq = $2, placed_head = $3 WHERE shard = $1",
            [(shard, last, bytes.fromhex(head)) for shard, _, last, head in ranges],
        )
        return Taken(number, frontier.size, note)


async def _new_records(connection: Connection) -> tuple[list[list[Any]], list[bytes]]:
    """What no checkpoint holds yet, shard by shard: its ranges, and its leaves. Raises `AuditBroken`."""
    rows = await connection.fetch(
        "SELECT s.shard, s.placed_seq, s.placed_head, r.seq, r.record, r.chain FROM audit_shard s"
        " CROSS JOIN LATERAL (SELECT seq, record, chain FROM audit_record r WHERE r.shard = s.shard"
        " AND r.seq > s.placed_seq ORDER BY r.seq LIMIT $1) r ORDER BY s.shard, r.seq LIMIT $1",
        RECORDS_MAX,
    )
    ranges: list[list[Any]] = []
    leaves: list[bytes] = []
    shard, seq, head, waits = "", 0, b"", False
    for row in rows:
        if row["shard"] != shard:
            shard, seq, head, waits = row["shard"], row["placed_seq"], bytes(row["placed_head"]), False
            ranges.append([shard, seq + 1, seq, head.hex()])
        # What is missing may still lie in the spool of its process.
        waits = waits or row["seq"] != seq + 1
        if waits:
            continue
        seq += 1
        leaf = leaf_hash(row["record"].encode())
        head = chain_hash(head, leaf)
        if head != bytes(row["chain"]):
            raise AuditBroken(f"record {seq} of shard {shard} does not continue its chain")
        leaves.append(leaf)
        ranges[-1][2:] = [seq, head.hex()]
    return [found for found in ranges if found[2] >= found[1]], leaves


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
