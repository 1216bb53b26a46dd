"""The verifier in its own process: it says what `verify_export` says, and is gone within its bounds."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from tests.processes import children

from roadbed.ledger.audit_apart import report_of, verify_apart
from roadbed.ledger.audit_verify import FAULTS_MAX, PublicKey, Report, verify_export

from .audit_log import made_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An export that is whole, and its key."""
    return made_log(tmp_path_factory.mktemp("log"))


async def test_it_finds_what_the_verifier_finds(log: tuple[Path, str], tmp_path: Path) -> None:
    folder, key = log
    assert (await verify_apart(folder, key)).is_whole
    changed = tmp_path / "changed"
    shutil.copytree(folder, changed)
    path = changed / "records-00000.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5] + lines[6:]))
    found = await verify_apart(changed, key)
    assert not found.is_whole
    assert found.summary() == verify_export(changed, [PublicKey.parse(key)], processes=1).summary()


async def test_an_end_without_a_report_is_a_fault(log: tuple[Path, str], tmp_path: Path) -> None:
    folder, key = log
    before = set(children())
    late = await verify_apart(folder, key, seconds_max=0.01)
    small = await verify_apart(folder, key, memory_bytes_max=16 << 20)
    none = await verify_apart(tmp_path, key)
    for report in (late, small, none):
        assert [fault.kind for fault in report.faults] == ["unread"]
    assert "did not end within 0.01 s" in late.faults[0].message
    assert set(children()) <= before


async def test_it_ends_with_whoever_waits_for_it(log: tuple[Path, str]) -> None:
    before = set(children())
    task = asyncio.create_task(verify_apart(*log))
    while set(children()) <= before:  # noqa: ASYNC110 - the process is begun within the call
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert set(children()) <= before


async def test_it_does_not_begin_for_a_parent_that_is_gone(log: tuple[Path, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roadbed.ledger.audit_apart", "1", str(1 << 30), str(log[0]), log[1]),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert (process.returncode, said) == (2, b"")


def test_a_report_comes_through_whole() -> None:
    report = Report()
    for number in range(FAULTS_MAX + 3):
        report.add("record", "changed", number)
    assert report_of(report.summary()).summary() == report.summary()
    assert report.summary()["faults_left_out"] == 3
