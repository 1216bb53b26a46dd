"""A real audit log for tests: written, checkpointed and exported to a folder, over a database of the test's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from roadbed.kernel.principal import Principal
from roadbed.ledger.audit import Audit
from roadbed.ledger.audit_checkpoint import Checkpointer
from roadbed.ledger.audit_export import AuditReader
from roadbed.ledger.audit_record import Pseudonyms, encode_event, event_of, request_event
from roadbed.ledger.audit_tree import Signer, consistency_proof
from roadbed.ledger.audit_verify import (
    CHAIN_START,
    FORMAT,
    Checkpoint,
    Frontier,
    PublicKey,
    Report,
    chain_hash,
    copies_of,
    leaf_hash,
    ranges_digest,
    verify_export,
)
from roadbed.ledger.metrics import Metrics
from roadbed.ledger.trace import Trace
from roadbed.store.database import Database

ORIGIN = "roadbed/test"
PEPPER = b"k" * 32


def open_audit(database: Database, folder: Path, *, slot: int = 0, spool_bytes_max: int = 1 << 24) -> Audit:
    """A shard over a database; it is not started."""
    return Audit(
        database,
        folder / ("spool" if slot == 0 else f"spool/worker-{slot}"),
        Metrics(),
        Pseudonyms(PEPPER),
        host="testhost",
        slot=slot,
        is_owner=slot == 0,
        spool_bytes_max=spool_bytes_max,
    )


def open_checkpointer(database: Database, folder: Path) -> Checkpointer:
    """The checkpointer of the log, with a key of its own in the folder."""
    return Checkpointer(database, Signer.open(ORIGIN, "", folder, folder / "key"), folder / "key")


async def record_some(audit: Audit, count: int) -> None:
    """Requests and acts; all are stored when it returns, since the last one is an act."""
    caller = Principal("key-1", "support")
    for number in range(count):
        trace = Trace("helpdesk", caller, "f" * 64)
        trace.duration_us, trace.rung = 1000, "full"
        audit.note_trace(trace)
        if number % 5 == 0 or number == count - 1:
            await audit.act(event_of("keys.create", actor=audit.names.of("key-2"), resource=f"schlüssel {number}"))


async def export(database: Database, folder: Path, start: datetime | None = None) -> Path:
    """The log as an export."""
    folder.mkdir()  # noqa: ASYNC240 - of a test alone
    async for name, piece in AuditReader(database).files(ORIGIN, start):
        with (folder / name).open("ab") as file:
            file.write(piece)
    return folder


async def small_log(database: Database, folder: Path) -> tuple[Path, str]:
    """Two shards, three checkpoints, a tail; where it was exported to, and its public key."""
    checkpointer = open_checkpointer(database, folder)
    for _ in range(2):
        audit = open_audit(database, folder)
        await audit.start(version="1")
        await record_some(audit, 4)
        await checkpointer.run()
        await record_some(audit, 3)
        await audit.close()
    await checkpointer.run()
    audit = open_audit(database, folder)
    await audit.start()
    await audit.close()
    return await export(database, folder / "export"), str(checkpointer.public)


def verify(folder: Path, key: str, witness: Path | None = None) -> Report:
    """A verification in this process."""
    copies = copies_of(witness) if witness is not None else None
    return verify_export(folder, [PublicKey.parse(key)], copies, processes=1)


async def tiny_log(database: Database, folder: Path) -> tuple[Path, str]:
    """One shard of a few records, one checkpoint, one record behind it."""
    checkpointer, audit = open_checkpointer(database, folder), open_audit(database, folder)
    await audit.start()
    await record_some(audit, 1)
    await checkpointer.run()
    await audit.close()
    return await export(database, folder / "export"), str(checkpointer.public)


def made_log(folder: Path, counts: Sequence[int] = (400, 500)) -> tuple[Path, str]:
    """An export as the product writes it, without a database: one shard of requests, a checkpoint behind each count."""
    names, caller, shard = Pseudonyms(PEPPER), Principal("key-1", "support"), "0" * 26
    signer = Signer.open(ORIGIN, "", folder, folder / "key")
    tree, head, seq, lines, checkpoints = Frontier(), CHAIN_START, 0, list[bytes](), list[str]()
    for number, count in enumerate(counts, 1):
        first, leaves = seq + 1, []
        for _ in range(count):
            seq += 1
            event = request_event(Trace("helpdesk", caller, "f" * 64), names)
            record = encode_event(event, shard, seq, 1_790_000_000_000_000 + seq * 1000).encode()
            leaves.append(leaf_hash(record))
            head = chain_hash(head, leaves[-1])
            lines.append(b"%b %b\n" % (head.hex().encode(), record))
        proof = consistency_proof(tree, leaves) if tree.size else []
        tree.extend(leaves)
        ranges = [[shard, first, seq, head.hex()]]
        note = signer.sign(Checkpoint(ORIGIN, tree.size, tree.root(), ranges_digest(ranges)))
        entry = {"number": number, "note": note, "ranges": ranges, "proof": [node.hex() for node in proof]}
        checkpoints.append(json.dumps(entry))
    out = folder / "export"
    out.mkdir()
    (out / "records-00000.txt").write_bytes(b"".join(lines))
    (out / "checkpoints.jsonl").write_text("\n".join(checkpoints) + "\n")
    base = {"number": 0, "size": 0, "frontier": [], "heads": {}, "note": ""}
    head_of = {"format": FORMAT, "origin": ORIGIN, "base": base, "files": ["records-00000.txt"]}
    (out / "export.json").write_text(json.dumps(head_of))
    return out, str(signer.public)
