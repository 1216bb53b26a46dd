"""A process is killed in each phase of recording: what it said was recorded is there, once, and the chain holds."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from roadbed.store.database import Database

from .audit_log import export, open_audit, open_checkpointer, verify

pytestmark = pytest.mark.services  # whole servers, stopped and killed: too long for `make test`

WRITER = Path(__file__).with_name("audit_writer.py")
WITHIN_S = 60.0


async def run(dsn: str, folder: Path, slot: int, phase: str) -> list[str]:
    """One process until its end; what it said is recorded."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ledger.audit_writer", dsn, "roadbed_test", str(folder), str(slot), phase),
        stdout=asyncio.subprocess.PIPE,
        cwd=WRITER.parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == (0 if phase == "never" else -9)
    return said.decode().split()


@pytest.mark.parametrize("phase", ["before-spool", "after-spool", "before-copy", "in-copy", "after-copy"])
async def test_a_kill_loses_nothing_and_doubles_nothing(
    dsn: str, database: Database, tmp_path: Path, phase: str
) -> None:
    # The killed one is a serving process; another serves beside it, as with --workers 2.
    said = await asyncio.gather(run(dsn, tmp_path, 1, phase), run(dsn, tmp_path, 2, "never"))
    assert len(said[0]) >= 20
    assert len(said[1]) == 60
    owner = open_audit(database, tmp_path)
    await owner.start()
    assert not list((tmp_path / "spool").rglob("*.batch"))
    again = open_audit(database, tmp_path, slot=1)
    await again.start()
    await again.close()
    await owner.close()
    found = [
        re.findall(r'"resource":"(act-[^"]*)"', row["record"])
        for row in await database.fetch("SELECT record FROM audit_record WHERE action = 'keys.create'")
    ]
    names = [name for names in found for name in names]
    assert len(names) == len(set(names))
    assert set(said[0] + said[1]) <= set(names)
    checkpointer = open_checkpointer(database, tmp_path)
    await checkpointer.run()
    report = verify(await export(database, tmp_path / "export"), str(checkpointer.public))
    assert (report.faults, report.notes) == ([], [])
    assert report.proven == await database.fetchval("SELECT count(*) FROM audit_record")
