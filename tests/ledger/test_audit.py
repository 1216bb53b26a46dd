"""The audit's writer, checkpoints and verifier over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roadbed.kernel.ids import new_id
from roadbed.kernel.principal import Principal
from roadbed.ledger.audit import AuditUnavailable
from roadbed.ledger.audit_checkpoint import AuditBroken
from roadbed.ledger.audit_export import AuditQueryInvalid, AuditReader
from roadbed.ledger.audit_record import event_of
from roadbed.ledger.trace import Trace
from roadbed.store.database import Database

from .audit_log import export, open_audit, open_checkpointer, record_some, small_log, verify


async def test_a_log_that_nobody_touched_is_whole(database: Database, tmp_path: Path) -> None:
    folder, key = await small_log(database, tmp_path)
    report = verify(folder, key)
    assert report.faults == []
    assert (report.checkpoints, report.tail) == (3, 2)
    assert report.proven == 2 * (1 + 4 + 2 + 3 + 2 + 1)


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


async def test_the_spool_keeps_acts_while_the_database_is_away_and_refuses_them_when_it_is_full(
    database: Database, tmp_path: Path
) -> None:
    audit = open_audit(database, tmp_path, spool_bytes_max=20_000)
    await audit.start()
    await database.execute("ALTER TABLE audit_record RENAME TO gone")
    await audit.act(event_of("keys.create", resource="spooled"))
    accepted = 0
    with contextlib.suppress(AuditUnavailable):
        for accepted in range(200):
            await audit.act(event_of("keys.create", resource=f"{accepted:0300d}"))
    assert accepted < 199, "the spool never got full: the test shows nothing"
    with pytest.raises(AuditUnavailable):
        await audit.act(event_of("keys.create", resource="refused at once"))
    trace = Trace("helpdesk", Principal("key-1", "support"))
    audit.note_trace(trace)  # a request goes on: nothing waits, nothing raises
    await database.execute("ALTER TABLE gone RENAME TO audit_record")
    async with asyncio.timeout(60):
        while True:
            try:
                await audit.act(event_of("keys.create", resource="after"))
                break
            except AuditUnavailable:
                await asyncio.sleep(0.05)
    await audit.close()
    rows = await database.fetch("SELECT seq, record FROM audit_record ORDER BY seq")
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    text = " ".join(row["record"] for row in rows)
    assert '"spooled"' in text
    assert '"after"' in text
    assert "refused at once" not in text
    assert trace.id in text
    checkpointer = open_checkpointer(database, tmp_path)
    await checkpointer.run()
    assert verify(await export(database, tmp_path / "e"), str(checkpointer.public)).is_whole


async def test_pages_are_filtered_and_go_on(database: Database, tmp_path: Path) -> None:
    audit, reader = open_audit(database, tmp_path), AuditReader(database)
    await audit.start()
    await record_some(audit, 12)
    await audit.close()
    seen, before = [], ""
    while True:
        rows, place = await reader.page(action="keys.*", limit=2, before=before)
        seen += rows
        if place is None:
            break
        before = place
    assert [row["resource"] for row in seen] == ["schlüssel 11", "schlüssel 10", "schlüssel 5", "schlüssel 0"]
    rows, _ = await reader.page(actor=audit.names.of("key-1"), limit=100)
    assert {row["action"] for row in rows} == {"request"}
    assert len(rows) == 12
    with pytest.raises(AuditQueryInvalid):
        await reader.page(before="nonsense")


async def test_what_was_asked_under_a_break_glass_is_found_by_its_id(database: Database, tmp_path: Path) -> None:
    audit, reader = open_audit(database, tmp_path), AuditReader(database)
    checkpointer = open_checkpointer(database, tmp_path)
    glass, another = new_id(), new_id()
    await audit.start()
    caller = Principal("key-1", "support", roles=frozenset({"admin"}), break_glass=glass)
    for principal in (caller, replace(caller, break_glass=another), replace(caller, break_glass="")):
        audit.note_trace(Trace("helpdesk", principal, "f" * 64))
    audit.note(event_of("breakglass.use", resource=f'"break_glass":"{another}"', break_glass=glass))
    audit.note(event_of("breakglass.end", resource=glass))
    await audit.close()
    rows, _ = await reader.page(break_glass=glass)
    assert [row["action"] for row in rows] == ["breakglass.end", "breakglass.use", "request"]
    assert rows[-1]["detail"]["break_glass"] == glass
    assert [row["action"] for row in (await reader.page(break_glass=another))[0]] == ["request"]
    assert (await reader.page(break_glass=glass, start=datetime.now(UTC) + timedelta(days=1)))[0] == []
    for wrong in ("%", "Z" * 26):
        with pytest.raises(AuditQueryInvalid):
            await reader.page(break_glass=wrong)
    await checkpointer.run()
    report = verify(await export(database, tmp_path / "export"), str(checkpointer.public))
    assert report.is_whole, report.faults


async def test_an_export_of_some_days_is_proven_from_the_checkpoint_before_it(
    database: Database, tmp_path: Path
) -> None:
    _, key = await small_log(database, tmp_path)
    await database.execute("UPDATE audit_checkpoint SET at = now() - interval '9 days' WHERE number = 1")
    folder = await export(database, tmp_path / "part", start=datetime.now(UTC) - timedelta(days=1))
    report = verify(folder, key)
    assert report.is_whole, report.faults
    assert report.first == 7
    assert report.checkpoints == 2
    base = json.loads((folder / "export.json").read_text())
    base["base"]["frontier"][0] = "00" * 32
    (folder / "export.json").write_text(json.dumps(base))
    assert not verify(folder, key).is_whole
