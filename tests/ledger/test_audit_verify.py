"""The verifier against every way to change a log: each byte, removed, moved and cut records, forks, and garbage."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

import roadbed.ledger.audit_verify as verifier
from roadbed.kernel.principal import Principal
from roadbed.ledger.audit_record import AuditEvent, Pseudonyms, encode_event, event_of, request_event
from roadbed.ledger.audit_tree import Signer, consistency_proof, root_of, split
from roadbed.ledger.audit_verify import (
    AuditInvalid,
    Checkpoint,
    Frontier,
    is_consistent,
    leaf_hash,
    node_hash,
    open_note,
    parse_record,
)
from roadbed.ledger.trace import Trace
from roadbed.store.database import Database

from .audit_log import ORIGIN, small_log, tiny_log, verify

# The leaves of the tests of Certificate Transparency, and the roots of the trees of the first n of them.
CT_LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_the_tree_is_rfc_6962s() -> None:
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in CT_LEAVES]
    assert [root_of(leaves[:count]).hex() for count in range(1, 9)] == CT_ROOTS


def whole_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if len(leaves) == 1:
        return leaves[0]
    middle = split(len(leaves))
    return node_hash(whole_root(leaves[:middle]), whole_root(leaves[middle:]))


@given(st.integers(0, 80), st.integers(1, 80), st.data())
@settings(max_examples=60)
def test_a_proof_holds_for_the_tree_that_it_was_made_for_alone(old: int, more: int, data: st.DataObject) -> None:
    leaves = [leaf_hash(number.to_bytes(2, "big")) for number in range(old + more)]
    before = Frontier()
    before.extend(leaves[:old])
    root = before.root()
    proof = consistency_proof(before, leaves[old:])
    assert is_consistent(old, root, old + more, whole_root(leaves), proof)
    if old:
        assert not is_consistent(old, leaf_hash(b"other"), old + more, whole_root(leaves), proof)
        index = data.draw(st.integers(0, len(proof) - 1))
        forged = [*proof[:index], leaf_hash(b"forged"), *proof[index + 1 :]]
        assert not is_consistent(old, root, old + more, whole_root(leaves), forged)
        assert not is_consistent(old, root, old + more, whole_root(leaves), proof[:index])


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), st.text() | st.integers(0, (1 << 53) - 1), max_size=6
    ),
    st.text(),
)
@settings(max_examples=60)
def test_records_are_canonical_json(detail: dict[str, Any], resource: str) -> None:
    record = encode_event(event_of("keys.create", resource=resource, **detail), "0" * 26, 1, 1).encode()
    assert rfc8785.dumps(json.loads(record)) == record
    parse_record(record)


def test_the_record_of_a_request_takes_the_verifiers_fast_way() -> None:
    trace = Trace("helpdesk", Principal("key-1", "support"), "f" * 64)
    record = encode_event(request_event(trace, Pseudonyms(b"k" * 32)), "0" * 26, 7, 1).encode()
    assert verifier.REQUEST.fullmatch(record)
    assert rfc8785.dumps(json.loads(record)) == record


@pytest.fixture
async def log(database: Database, tmp_path: Path) -> tuple[Path, str]:
    """A small exported log that is whole, and its key."""
    folder, key = await small_log(database, tmp_path)
    assert verify(folder, key).is_whole
    return folder, key


def is_noticed(folder: Path, key: str) -> bool:
    """Whether a verification says that something is wrong."""
    try:
        return not verify(folder, key).is_whole
    except AuditInvalid:
        return True


async def test_every_flipped_byte_is_found(database: Database, tmp_path: Path) -> None:
    folder, key = await tiny_log(database, tmp_path)
    assert verify(folder, key).is_whole
    for name in ("records-00000.txt", "tail.txt", "checkpoints.jsonl"):
        path = folder / name
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert is_noticed(folder, key), (name, at, whole[max(0, at - 20) : at + 20])
        path.write_bytes(whole)


def lines_of(path: Path, change: Callable[[list[bytes]], None]) -> None:
    """Change the lines of a file."""
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("index", range(0, 26, 3))
def test_a_removed_or_moved_or_doubled_record_is_found_at_its_place(log: tuple[Path, str], index: int) -> None:
    folder, key = log
    records, kept = folder / "records-00000.txt", (folder / "records-00000.txt").read_bytes()
    lines_of(records, lambda lines: lines.__delitem__(index))
    report = verify(folder, key)
    assert not report.is_whole
    assert min(f.position for f in report.faults if f.position >= 0) <= index
    records.write_bytes(kept)

    def swap(lines: list[bytes]) -> None:
        lines[index], lines[index - 1] = lines[index - 1], lines[index]

    lines_of(records, swap)
    assert is_noticed(folder, key)
    records.write_bytes(kept)
    lines_of(records, lambda lines: lines.insert(index, lines[index]))
    assert is_noticed(folder, key)
    records.write_bytes(kept)
    lines_of(records, lambda lines: lines.__delitem__(slice(index, None)))
    assert is_noticed(folder, key)


def test_the_changed_record_is_said_first_and_what_follows_is_counted(log: tuple[Path, str]) -> None:
    folder, key = log

    def change(lines: list[bytes]) -> None:
        lines[2] = lines[2].replace(b'"outcome":"', b'"outcome":"x')

    lines_of(folder / "records-00000.txt", change)
    report = verify(folder, key)
    said = verifier.describe(report).splitlines()
    faults = [line for line in said if line.startswith("FAULT")]
    assert faults[0].startswith("FAULT chain at record 2:")
    assert len(faults) <= verifier.FAULTS_SHOWN_MAX
    assert any("follow from it: " in line and " root" in line for line in said)
    summary = report.summary()
    assert len(summary["faults"]) == len(report.faults) > len(faults)
    assert summary["faults"][0]["position"] == 2


def test_faults_are_bounded_and_what_is_left_out_is_counted() -> None:
    report = verifier.Report()
    for number in range(verifier.FAULTS_MAX + 7):
        report.add("root", "it does not fit", number)
    report.faults[3] = verifier.Fault("chain", "here", 900)
    assert report.summary()["faults_left_out"] == 7
    assert verifier.describe(report).splitlines()[1:] == [
        "FAULT chain at record 900: here",
        "999 faults follow from it: 999 root",
        "1007 faults, 7 of them not kept; --json lists them",
    ]
    only = verifier.Report()
    only.add("copy", "it was cut back")
    assert verifier.describe(only).splitlines()[1:] == ["FAULT copy: it was cut back", "1 fault"]


def test_a_cut_log_and_a_fork_are_found_by_the_copies_alone(log: tuple[Path, str], tmp_path: Path) -> None:
    folder, key = log
    copies = tmp_path / "copies"
    copies.mkdir()
    checkpoints = folder / "checkpoints.jsonl"
    for line in checkpoints.read_text().splitlines():
        entry = json.loads(line)
        (copies / f"{entry['number']}.json").write_text(line)
    assert verify(folder, key, copies).copies == 3
    lines_of(checkpoints, lambda lines: lines.__delitem__(slice(1, None)))
    lines_of(folder / "records-00000.txt", lambda lines: lines.__delitem__(slice(7, None)))
    (folder / "tail.txt").unlink()
    assert verify(folder, key).is_whole  # cut at a checkpoint, it is a whole log in itself
    assert {fault.kind for fault in verify(folder, key, copies).faults} == {"copy"}
    signer = Signer.open(ORIGIN, "", tmp_path, tmp_path / "key")
    fork = signer.sign(Checkpoint(ORIGIN, 7, b"f" * 32, "0" * 64))
    for path in copies.iterdir():
        path.unlink()
    (copies / "1.json").write_text(json.dumps({"note": fork}))
    assert "rewritten" in verify(folder, key, copies).faults[0].message


def test_a_note_is_good_with_its_own_key_alone(tmp_path: Path) -> None:
    signer = Signer.open(ORIGIN, "", tmp_path, tmp_path / "one")
    other = Signer.open(ORIGIN, "", tmp_path, tmp_path / "two")
    note = signer.sign(Checkpoint(ORIGIN, 3, b"r" * 32, "0" * 64))
    assert open_note(note, [other.public, signer.public]).size == 3
    assert (tmp_path / "one" / "signing.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(AuditInvalid):
        open_note(note, [other.public])
    for at in range(len(note)):
        with pytest.raises(AuditInvalid):
            open_note(note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :], [signer.public])


@given(st.binary(max_size=200))
@settings(max_examples=100)
def test_garbage_for_a_record_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(AuditInvalid):
        parse_record(data)


def test_garbage_for_an_export_is_a_clear_error(log: tuple[Path, str]) -> None:
    folder, key = log
    for name in ("export.json", "checkpoints.jsonl"):
        kept = (folder / name).read_bytes()
        for garbage in (
            b"",
            b"{}",
            b"[]",
            b"\xff\xfe",
            b'{"format":1}',
            b"null",
            os.urandom(500),
            kept[: len(kept) // 2],
        ):
            (folder / name).write_bytes(garbage)
            assert is_noticed(folder, key), (name, garbage)
        (folder / name).write_bytes(kept)


def test_it_runs_as_a_file_of_its_own(log: tuple[Path, str], tmp_path: Path) -> None:
    folder, key = log
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(verifier.__file__, alone / "audit_verify.py")
    command = [sys.executable, "-I", "-c", _WITHOUT_PRODUCT, str(alone / "audit_verify.py"), str(folder), "--key", key]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the log is whole" in done.stdout
    lines_of(folder / "records-00000.txt", lambda lines: lines.__delitem__(3))
    assert subprocess.run(command, capture_output=True, check=False, cwd=alone).returncode == 1
    (folder / "export.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=alone)
    said = "not verified: export.json cannot be read: No such file or directory\n"
    assert (done.returncode, done.stderr) == (2, said)


_WITHOUT_PRODUCT = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("roadbed", "msgspec", "asyncpg"):
            raise ImportError(name)

sys.meta_path.insert(0, Nothing())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_an_event_without_a_place_has_defaults() -> None:
    assert base64.b64encode(encode_event(AuditEvent("x.y"), "0" * 26, 1, 1).encode())
