"""Retention: old usage and uploads go, and the audit is cut at a checkpoint so that the rest is proven on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tests.ledger.audit_log import export, open_audit, open_checkpointer, record_some, verify

from roadbed.knowledge.service import Knowledge
from roadbed.ledger.audit_export import AuditReader
from roadbed.ledger.audit_record import event_of
from roadbed.ledger.manifest import RetentionConfig
from roadbed.server.audit import AuditTrail
from roadbed.server.audit_shipping import Shipping
from roadbed.server.retention import Retention
from roadbed.store.database import Database


async def test_a_log_that_was_cut_is_whole_and_older_records_are_gone(database: Database, tmp_path: Path) -> None:
    audit, checkpointer = open_audit(database, tmp_path), open_checkpointer(database, tmp_path)
    trail = AuditTrail(
        audit, AuditReader(database), checkpointer, Shipping(database, lambda: checkpointer.public), is_owner=False
    )
    await audit.start()
    await record_some(audit, 4)
    await checkpointer.run()
    await record_some(audit, 4)
    await checkpointer.run()
    await database.execute("UPDATE audit_checkpoint SET at = now() - interval '3000 days' WHERE number = 1")
    (tmp_path / "spool" / "old.damaged").write_bytes(b"torn")
    retention = Retention(database, cast(Knowledge, None), trail, tmp_path)
    retention.take(RetentionConfig(spool="0s"))
    removed = await retention.apply()
    assert removed["audit"] == 7
    assert await database.fetchval("SELECT min(seq) FROM audit_record") == 8
    await audit.act(event_of("keys.create"))
    await trail.close()
    await checkpointer.run()
    report = verify(await export(database, tmp_path / "export"), str(checkpointer.public))
    assert report.faults == []
    assert (report.first, report.checkpoints) == (7, 2)
    again = open_audit(database, tmp_path)
    await again.start()
    await again.close()
    await checkpointer.run()
    assert verify(await export(database, tmp_path / "more"), str(checkpointer.public)).is_whole


async def test_usage_that_is_too_old_goes(database: Database, tmp_path: Path) -> None:
    for age in (10, 500):
        await database.execute(
            "INSERT INTO usage (id, at, trace_id, team, principal, app, endpoint, model, source)"
            " VALUES ($1, now() - make_interval(days => $2), 't', 't', 'p', 'a', 'e', 'm', 'reported')",
            *(str(age), age),
        )
    checkpointer, acts = open_checkpointer(database, tmp_path), []

    class Trail:
        """Notes acts."""

        async def act(self, *words: Any, **detail: Any) -> None:
            acts.append((*words, detail))

    retention = Retention(database, cast(Knowledge, None), cast(AuditTrail, Trail()), tmp_path)
    assert (await retention.apply())["usage"] == 1
    assert await database.fetchval("SELECT id FROM usage") == "10"
    assert acts == [("retention.usage", "system", {"rows": 1})]
    assert checkpointer.public
