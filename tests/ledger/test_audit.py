"""The audit's writer, checkpoints and verifier over a real PostgreSQL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from roadbed.ledger.audit_checkpoint import AuditBroken
from roadbed.ledger.audit_record import event_of
from roadbed.ledger.audit_verify import Report, verify_export
from roadbed.store.database import Database

from .audit_log import export, open_audit, open_checkpointer, record_some


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
    from roadbed.ledger.audit_verify import PublicKey

    return verify_export(folder, [PublicKey.parse(key)], witness, processes=1)


async def test_a_log_that_nobody_touched_is_whole(database: Database, tmp_path: Path) -> None:
    folder, key = await small_log(database, tmp_path)
    report = verify(folder, key)
    assert report.faults == []
    assert (report.checkpoints, report.tail) == (3, 2)
    assert report.proven == 2 * (1 + 4 + 1 + 3 + 1 + 1)


async def test_a_change_in_the_database_is_never_signed(database: Database, tmp_path: Path) -> None:
    audit, checkpointer = open_audit(database, tmp_path), open_checkpointer(database, tmp_path)
    await audit.start()
    await audit.act(event_of("keys.create", resource="one"))
    await database.execute("UPDATE audit_record SET record = replace(record, 'one', 'two')")
    with pytest.raises(AuditBroken, match="does not continue its chain"):
        await checkpointer.run()
    with pytest.raises(AuditBroken):
        await checkpointer.run()
    await audit.close()
    shutil.rmtree(tmp_path)
