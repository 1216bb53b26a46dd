"""`Checkpointer`: takes what processes have recorded into one tree, and signs where it stands.

One works at a time, whoever holds the lock of the row in ``audit_tree``. It recomputes every chain before it signs, and
signs nothing once something does not hold: a log that was changed must not get a fresh signature. The invariant: each
checkpoint extends the one before it, and its proof of that is stored beside it in the same transaction.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from roadbed.kernel.errors import RoadbedError, Unavailable
from roadbed.ledger.audit_keys import AuditKeySame, KeyChange
from roadbed.ledger.audit_tree import Signer, consistency_proof
from roadbed.ledger.audit_verify import (
    ROTATION_ACTION,
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
ROTATION_S = 30.0
ROUNDS_MAX = 200
LAST_NOTE = "last.note"
HASH_BYTES = 32


class AuditBroken(RoadbedError):
    """The audit log in the database is not what was recorded: nothing more is signed until somebody has looked."""

    code = "audit.broken"
    http_status = 500
    hint = "export it, verify it against the copies in the second place, and keep the database as it is"


class AuditKeyMissing(AuditBroken):
    """The log is signed by a key that this process does not have."""

    code = "audit.key_missing"
    hint = "give the key that signs now under `audit.key`, or bring its file back into the state folder"


class AuditKeyLate(Unavailable):
    """The audit's key could not be changed just now, and is what it was."""

    code = "audit.key_late"
    hint = "ask again in a minute"


class Taken(NamedTuple):
    """A checkpoint that was made."""

    number: int
    size: int
    note: str


def nodes_of(data: bytes) -> list[bytes]:
    """The nodes of a stored frontier."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class Checkpointer:
    """Makes checkpoints of one log. ``folder`` keeps the last note: by it, a database that was set back is noticed.
    ``find`` gives the key of a public one, for a log that another process has gone over to it with.
    """

    def __init__(
        self, database: Database, signer: Signer, folder: Path, find: Callable[[str], Signer | None] | None = None
    ) -> None:
        self._database = database
        self._signer = signer
        self._find = find or (lambda public: None)
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

    async def follow(self) -> None:
        """Sign by the key that the log is signed by now. `AuditBroken` where it is not here."""
        self._go_over(await self._database.fetchval("SELECT key FROM audit_tree"))

    def _go_over(self, public: str) -> None:
        if not public or public == str(self.public):
            return
        found = self._find(public)
        if found is None:
            raise AuditKeyMissing(f"the log is signed by {public.partition('+')[2][:8]}, and that key is not here")
        self._signer = found

    async def rotate(self, new: Signer, record: Callable[[KeyChange], Awaitable[None]]) -> Taken:
        """Go over to another key: ``record`` writes the statement that both have signed into the log, and both sign the
        checkpoint that takes it in. `AuditBroken`, `AuditUnavailable`; then the key stays what it was.
        """
        for _ in range(ROUNDS_MAX):
            await self.run()
            async with self._database.transaction(timeout_s=ROTATION_S) as connection:
                tree: Any = await connection.fetchrow("SELECT * FROM audit_tree FOR UPDATE")
                if tree["fault"]:
                    raise AuditBroken(tree["fault"])
                self._go_over(tree["key"])
                _, waiting = await _new_records(connection)
                if len(waiting) > RECORDS_MAX // 2:
                    continue  # the statement might not fit in
                if str(new.public) == str(self.public):
                    raise AuditKeySame("the next key is the one that signs now")
                rotation = KeyChange.between(self._signer, new)
                await record(rotation)
                ranges, leaves = await _new_records(connection)
                if not await _holds(connection, ranges, rotation):
                    raise AuditKeyLate("the change of the key waits in the spool: nothing was changed")
                await connection.execute("UPDATE audit_checkpoint SET key = $1 WHERE key = ''", rotation.old)
                taken = await self._extend(connection, tree, ranges, leaves, (new, rotation))
            self._signer = new
            write_private_file(self._last, taken.note.encode())
            return taken
        raise AuditKeyLate("records come faster than they are taken in: nothing was changed")

    async def _one(self) -> Taken | None:
        try:
            async with self._database.transaction() as connection:
                tree = await connection.fetchrow("SELECT * FROM audit_tree FOR UPDATE SKIP LOCKED")
                if tree is None:
                    return None
                if tree["fault"]:
                    raise AuditBroken(tree["fault"])
                self._go_over(tree["key"])
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
        self,
        connection: Connection,
        tree: Any,
        ranges: list[list[Any]],
        leaves: Sequence[bytes],
        goes_over: tuple[Signer, KeyChange] | None = None,
    ) -> Taken:
        frontier = Frontier(tree["size"], nodes_of(bytes(tree["frontier"])))
        if frontier.root() != bytes(tree["root"]):
            raise AuditBroken("the stored tree has not the root that was signed")
        proof = consistency_proof(frontier, leaves)
        frontier.extend(leaves)
        number, root, nodes = tree["number"] + 1, frontier.root(), b"".join(frontier.nodes)
        signers = (goes_over[0],) if goes_over is not None else ()
        checkpoint = Checkpoint(self.public.name, frontier.size, root, ranges_digest(ranges))
        note = self._signer.sign(checkpoint, *signers)
        rotation = goes_over[1].json() if goes_over is not None else ""
        await connection.execute(
            "INSERT INTO audit_checkpoint (number, size, note, ranges, proof, frontier, key, rotation)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *(number, frontier.size, note, _json(ranges), _json([node.hex() for node in proof]), nodes),
            *(str(self.public), rotation),
        )
        signs_now = goes_over[0].public if goes_over is not None else self.public
        await connection.execute(
            "UPDATE audit_tree SET number = $1, size = $2, frontier = $3, root = $4, key = $5",
            *(number, frontier.size, nodes, root, str(signs_now)),
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


async def _holds(connection: Connection, ranges: list[list[Any]], rotation: KeyChange) -> bool:
    """Whether a checkpoint of these ranges takes the statement in."""
    for shard, first, last, _ in ranges:
        for row in await connection.fetch(
            "SELECT record FROM audit_record WHERE shard = $1 AND seq BETWEEN $2 AND $3 AND action = $4",
            *(shard, first, last, ROTATION_ACTION),
        ):
            if json.loads(row["record"])["detail"] == rotation.detail():
                return True
    return False


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
