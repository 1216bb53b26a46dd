"""The change of the audit's key: followed by the verifier from either side, and forged in several ways."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roadbed.ledger.audit_checkpoint import AuditKeyLate, AuditKeyMissing, Checkpointer
from roadbed.ledger.audit_keys import AuditKeyElsewhere, AuditKeySame, KeyChange, SigningKeys
from roadbed.ledger.audit_record import event_of
from roadbed.ledger.audit_tree import Signer
from roadbed.ledger.audit_verify import ROTATION_ACTION, PublicKey, Report, verify_export
from roadbed.ledger.audit_witness import Witness, WitnessFork, WitnessInvalid
from roadbed.store.database import Database

from .audit_log import ORIGIN, export, open_audit, record_some


class Log:
    """A log whose key changes."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.keys = SigningKeys(ORIGIN, "", "", folder, folder / "key")
        self.checkpointer = self.opened()
        self.audit = open_audit(database, folder)

    def opened(self) -> Checkpointer:
        """A process's checkpointer."""
        return Checkpointer(self.database, self.keys.first(), self.folder / "key", self.keys.find)

    async def record(self, change: KeyChange) -> None:
        await self.audit.act(event_of(ROTATION_ACTION, **change.detail()))

    async def rotate(self) -> tuple[str, str]:
        """The public keys before and after."""
        old = str(self.checkpointer.public)
        await self.checkpointer.rotate(self.keys.make_next(), self.record)
        self.keys.settle(str(self.checkpointer.public))
        return old, str(self.checkpointer.public)

    async def verified(self, *keys: str) -> Report:
        folder = await export(self.database, self.folder / f"export-{len(list(self.folder.iterdir()))}")
        return verify_export(folder, [PublicKey.parse(key) for key in keys], processes=1)


@pytest.fixture
async def log(database: Database, tmp_path: Path) -> Any:
    made = Log(database, tmp_path)
    await made.audit.start()
    await record_some(made.audit, 3)
    await made.checkpointer.run()
    yield made
    await made.audit.close()


def kinds(report: Report) -> set[str]:
    return {fault.kind for fault in report.faults}


async def test_the_verifier_follows_two_changes_from_any_of_the_keys(log: Log) -> None:
    first, second = await log.rotate()
    await record_some(log.audit, 2)
    await log.checkpointer.run()
    before, third = await log.rotate()
    assert before == second
    await record_some(log.audit, 2)
    await log.checkpointer.run()
    for key in (first, second, third):
        report = await log.verified(key)
        assert report.is_whole, report.faults
        assert (report.rotations, report.notes) == (2, [])
    other = str(Signer.open(ORIGIN, "", log.folder, log.folder / "other").public)
    assert kinds(await log.verified(other)) >= {"signature"}
    assert str(log.keys.first().public) == third
    assert log.keys.find(first) is None


async def test_a_process_that_stood_aside_goes_over_too(log: Log) -> None:
    aside = log.opened()
    _, new = await log.rotate()
    await record_some(log.audit, 1)
    assert await aside.run()
    assert str(aside.public) == new
    assert (await log.verified(new)).is_whole


async def test_a_process_without_the_key_signs_nothing(log: Log) -> None:
    alone = Checkpointer(log.database, log.keys.first(), log.folder / "key")
    await log.rotate()
    await record_some(log.audit, 1)
    with pytest.raises(AuditKeyMissing):
        await alone.run()


async def test_a_crash_before_the_file_is_in_its_place_loses_no_key(log: Log) -> None:
    await log.checkpointer.rotate(log.keys.make_next(), log.record)  # and the process ends here
    again = log.opened()
    await again.follow()
    assert again.public == log.checkpointer.public


async def test_a_change_that_was_begun_and_not_made_leaves_the_key(log: Log) -> None:
    new = log.keys.make_next()
    change = KeyChange.between(log.keys.first(), new)
    await log.record(change)
    await log.checkpointer.run()
    report = await log.verified(str(log.checkpointer.public))
    assert report.is_whole
    assert "was not made" in report.notes[0]
    await log.rotate()
    assert (await log.verified(change.old)).rotations == 1


async def test_a_statement_that_is_not_stored_changes_nothing(log: Log) -> None:
    old = log.checkpointer.public

    async def nowhere(change: KeyChange) -> None:
        return

    await record_some(log.audit, 1)
    with pytest.raises(AuditKeyLate):
        await log.checkpointer.rotate(log.keys.make_next(), nowhere)
    await log.checkpointer.run()
    assert log.checkpointer.public == old
    assert (await log.verified(str(old))).is_whole


def forged(how: str, old: Signer, mine: Signer) -> KeyChange:
    """A change to the key ``mine`` by somebody who does not have ``old``."""
    honest = KeyChange.between(old, mine)  # what its owner would have signed
    return {
        "unsigned": replace(honest, by_old=""),
        "by_itself": replace(honest, by_old=honest.by_new),
        "by_its_own_text": replace(honest, by_old=mine.sign_text("roadbed audit key")),
        "without_the_new": replace(honest, by_new=honest.by_old),
        "for_another": replace(KeyChange.between(old, old), new=honest.new, by_new=honest.by_new),
        "from_its_own": KeyChange.between(mine, mine),
        "garbage": replace(honest, old="x+y+z"),
    }[how]


@pytest.mark.parametrize(
    "how", ["unsigned", "by_itself", "by_its_own_text", "without_the_new", "for_another", "from_its_own", "garbage"]
)
async def test_a_forged_change_is_not_followed(log: Log, how: str) -> None:
    """Somebody owns the database and another key: they write a change, and sign all that follows."""
    old, mine = log.keys.first(), Signer.open(ORIGIN, "", log.folder, log.folder / "mine")
    await log.record(forged(how, old, mine))
    thief = Checkpointer(log.database, mine, log.folder / "mine")
    await log.database.execute("UPDATE audit_tree SET key = ''")
    await thief.run()
    await record_some(log.audit, 1)
    await thief.run()
    report = await log.verified(str(old.public))
    assert "signature" in kinds(report)
    assert report.rotations == 0
    assert report.checkpoints == 1


async def test_the_old_key_signs_nothing_after_the_change(log: Log) -> None:
    stolen = log.keys.first()
    (log.folder / "mine").mkdir()
    old, new = await log.rotate()
    await record_some(log.audit, 1)
    thief = Checkpointer(log.database, stolen, log.folder / "mine")
    await log.database.execute("UPDATE audit_tree SET key = ''")
    await thief.run()
    for key in (old, new):
        assert kinds(await log.verified(key)) == {"signature"}


async def test_a_change_that_was_made_once_leads_nowhere_when_it_is_written_again(log: Log) -> None:
    first = log.keys.first()
    (log.folder / "mine").mkdir()
    changes: list[KeyChange] = []

    async def kept(change: KeyChange) -> None:
        changes.append(change)
        await log.record(change)

    await log.checkpointer.rotate(log.keys.make_next(), kept)
    log.keys.settle(str(log.checkpointer.public))
    second = log.keys.first()
    _, third = await log.rotate()
    thief = Checkpointer(log.database, first, log.folder / "mine")
    await log.database.execute("UPDATE audit_tree SET key = ''")
    await thief.rotate(second, lambda _: log.record(changes[0]))
    report = await log.verified(third)
    assert kinds(report) == {"signature"}
    assert report.rotations == 2


async def test_a_witness_goes_over_with_the_log(log: Log) -> None:
    witness = Witness(log.database)
    await log.rotate()
    await record_some(log.audit, 1)
    await log.checkpointer.run()
    rows = await log.database.fetch("SELECT note, proof, key, rotation FROM audit_checkpoint ORDER BY number")
    sent = [(r["key"], r["note"], json.loads(r["proof"]), json.loads(r["rotation"] or "null")) for r in rows]
    await witness.take(*sent[0])
    with pytest.raises(WitnessFork, match="another key"):
        await witness.take(*sent[2])
    with pytest.raises(WitnessInvalid):
        await witness.take(*sent[1][:3], {**sent[1][3], "by_old": sent[1][3]["by_new"]})
    for one in (sent[1], sent[1], sent[2], sent[2]):
        await witness.take(*one)
    with pytest.raises(WitnessFork, match="another key"):
        await witness.take(sent[1][0], sent[1][1], sent[1][2])


def test_a_key_elsewhere_needs_a_next_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Signer.open(ORIGIN, "", tmp_path, tmp_path / name)
    keys = SigningKeys(ORIGIN, "file:one/signing.key", "", tmp_path, tmp_path / "state")
    with pytest.raises(AuditKeyElsewhere):
        keys.make_next()
    keys.take("file:one/signing.key", "file:two/signing.key")
    new = keys.make_next()
    assert keys.find(str(new.public)) is not None
    keys.settle(str(new.public))
    assert not (tmp_path / "state" / "signing.key").exists()


async def test_the_same_key_is_no_change(log: Log) -> None:
    with pytest.raises(AuditKeySame):
        await log.checkpointer.rotate(log.keys.first(), log.record)
