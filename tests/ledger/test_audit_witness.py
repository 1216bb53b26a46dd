"""The witness: it takes what extends a log, and refuses smaller, forked and foreign trees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadbed.ledger.audit_record import event_of
from roadbed.ledger.audit_tree import Signer
from roadbed.ledger.audit_verify import Checkpoint
from roadbed.ledger.audit_witness import Witness, WitnessFork, WitnessInvalid
from roadbed.store.database import Database

from .audit_log import ORIGIN, open_audit, open_checkpointer


async def test_a_witness_takes_what_extends_and_nothing_else(database: Database, tmp_path: Path) -> None:
    audit, checkpointer, witness = (
        open_audit(database, tmp_path),
        open_checkpointer(database, tmp_path),
        Witness(database),
    )
    await audit.start()
    await checkpointer.run()
    for _ in range(3):
        await audit.act(event_of("keys.create"))
    await checkpointer.run()
    await audit.act(event_of("keys.create"))
    await checkpointer.run()
    await audit.close()
    rows = await database.fetch("SELECT note, proof FROM audit_checkpoint ORDER BY number")
    key = str(checkpointer.public)
    for row in rows:
        await witness.take(key, row["note"], json.loads(row["proof"]))
    await witness.take(key, rows[-1]["note"], [])  # sent twice, since the first answer was lost
    with pytest.raises(WitnessFork, match="1 records, 5 were witnessed"):
        await witness.take(key, rows[0]["note"], json.loads(rows[0]["proof"]))
    assert "were witnessed" in await database.fetchval("SELECT alarm FROM audit_witness")
    signer = Signer.open(ORIGIN, "", tmp_path, tmp_path / "key")
    for size, root in ((5, b"f" * 32), (9, b"f" * 32)):
        with pytest.raises(WitnessFork):
            await witness.take(key, signer.sign(Checkpoint(ORIGIN, size, root, "0" * 64)), json.loads(rows[1]["proof"]))
    other = Signer.open(ORIGIN, "", tmp_path, tmp_path / "other")
    with pytest.raises(WitnessFork, match="another key"):
        await witness.take(str(other.public), other.sign(Checkpoint(ORIGIN, 9, b"f" * 32, "0" * 64)), [])
    for bad in ("", "x", rows[0]["note"].replace("1", "2")):
        with pytest.raises(WitnessInvalid):
            await witness.take(key, bad, [])
