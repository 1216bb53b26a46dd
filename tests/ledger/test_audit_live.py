"""A verifier that reads while processes write: no fault that is not there, and every truncation that is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from roadbed.cli.main import main
from roadbed.ledger.audit import Audit
from roadbed.ledger.audit_checkpoint import Checkpointer
from roadbed.ledger.audit_export import AuditMoved, AuditReader
from roadbed.store.database import Database

from .audit_log import ORIGIN, export, made_log, open_audit, open_checkpointer, record_some, verify

Files = Any


async def steps(database: Database) -> list[tuple[str, bytes]]:
    return [file async for file in AuditReader(database).files(ORIGIN)]


def written(files: list[tuple[str, bytes]], folder: Path) -> Path:
    folder.mkdir()
    for name, piece in files:
        with (folder / name).open("ab") as file:
            file.write(piece)
    return folder


async def next_of_all(database: Database, audit: Audit, checkpointer: Checkpointer, folder: Path) -> Audit:
    """What may happen between two reads: records, a checkpoint, the end of a shard and the begin of the next."""
    await record_some(audit, 2)
    await checkpointer.run()
    await record_some(audit, 1)
    await audit.close()
    following = open_audit(database, folder)
    await following.start()
    return following


async def test_records_checkpoints_and_restarts_between_any_two_reads_are_no_fault(
    database: Database, tmp_path: Path
) -> None:
    checkpointer, audit = open_checkpointer(database, tmp_path), open_audit(database, tmp_path)
    await audit.start()
    await record_some(audit, 2)
    await checkpointer.run()
    await record_some(audit, 1)
    for stop in range(len(await steps(database))):
        files: list[tuple[str, bytes]] = []
        async for file in AuditReader(database).files(ORIGIN):
            if len(files) == stop:
                audit = await next_of_all(database, audit, checkpointer, tmp_path)
            files.append(file)
        report = verify(written(files, tmp_path / f"export-{stop}"), str(checkpointer.public))
        assert report.is_whole, (stop, report.faults)
        assert report.tail
    await audit.close()


async def test_what_waits_in_a_spool_is_left_out_and_said_until_it_is_too_late(
    database: Database, tmp_path: Path
) -> None:
    checkpointer, audit = open_checkpointer(database, tmp_path), open_audit(database, tmp_path)
    await audit.start()
    await record_some(audit, 3)
    await checkpointer.run()
    await record_some(audit, 4)
    await audit.close()
    following = open_audit(database, tmp_path)
    await following.start()
    await following.close()
    missing = await database.fetchval(
        "DELETE FROM audit_record WHERE shard = $1 AND seq = (SELECT placed_seq + 2 FROM audit_shard WHERE shard = $1)"
        " RETURNING seq",
        audit.shard,
    )
    report = verify(await export(database, tmp_path / "soon"), str(checkpointer.public))
    assert report.is_whole, report.faults
    assert f"{audit.shard} {missing}: it was missing" in report.notes[0]
    await database.execute("UPDATE audit_record SET at = at - interval '2 hours'")
    report = verify(await export(database, tmp_path / "late"), str(checkpointer.public))
    assert ("late", audit.shard, missing) in {(fault.kind, fault.shard, fault.seq) for fault in report.faults}


async def test_an_export_that_retention_cut_meanwhile_is_none(database: Database, tmp_path: Path) -> None:
    checkpointer, audit = open_checkpointer(database, tmp_path), open_audit(database, tmp_path)
    await audit.start()
    await checkpointer.run()
    await audit.close()
    files = AuditReader(database).files(ORIGIN)
    assert (await anext(files))[0] == "records-00000.txt"
    await database.execute("UPDATE audit_tree SET base_number = 1")
    with pytest.raises(AuditMoved):
        [name async for name, _ in files]


# -- copies -----------------------------------------------------------------------------------------------------------


class LiveServer(ThreadingHTTPServer):
    """Sends an export; before its last file, ``between`` happens."""

    def __init__(self, folder: Path, key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.key = folder, key
        self.between: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path == "/api/audit/head":
            self.wfile.write(json.dumps({"key": self.server.key}).encode())
            return
        for name in ("records-00000.txt", "checkpoints.jsonl", "export.json"):
            if name == "export.json":
                self.server.between()
            text = (self.server.folder / name).read_text()
            self.wfile.write(json.dumps({"file": name, "text": text}).encode() + b"\n")
        self.wfile.write(b'{"end":true}\n')

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[LiveServer, Path, str]]:
    """A server whose log has two checkpoints, the folder where they were shipped to, and the third's copy."""
    folder, key = made_log(tmp_path, (20, 20, 20))
    *before, third = (folder / "checkpoints.jsonl").read_text().splitlines(keepends=True)
    (folder / "checkpoints.jsonl").write_text("".join(before))
    lines = (folder / "records-00000.txt").read_bytes().splitlines(keepends=True)
    (folder / "records-00000.txt").write_bytes(b"".join(lines[:40]))
    copies = tmp_path / "copies"
    copies.mkdir()
    for number, line in enumerate(before, 1):
        (copies / f"{number:010d}.json").write_text(line)
    server = LiveServer(folder, key)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server, copies, third
    server.shutdown()
    thread.join()
    server.server_close()


def write(copies: Path, third: str) -> None:
    (copies / "0000000003.json").write_text(third)


def verify_live(server: LiveServer, copies: Path, *more: str) -> int:
    return main(
        ["audit", "verify", "--url", server.url, "--key", server.key, "--witness", str(copies), "--jobs", "1", *more]
    )


def test_a_copy_that_is_shipped_while_the_log_is_read_is_no_truncation(
    live: tuple[LiveServer, Path, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADBED_API_KEY", "rbk_none")
    server, copies, third = live
    server.between = lambda: write(copies, third)
    assert verify_live(server, copies) == 0
    assert "2 copies compared" in capsys.readouterr().out
    server.between = lambda: None
    assert verify_live(server, copies) == 1  # it was there before, and the log still ends where it did
    assert "holds 60 records, the log only 40: it was cut back" in capsys.readouterr().out


def test_a_part_of_a_log_is_extended_by_the_copies_behind_it(
    live: tuple[LiveServer, Path, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server, copies, third = live
    write(copies, third)
    arguments = ["audit", "verify", str(server.folder), "--key", server.key, "--witness", str(copies)]
    assert main(arguments) == 1
    assert main([*arguments, "--part"]) == 0
    assert "1 copies, of up to 60 records, extend what is here" in capsys.readouterr().out
    other = made_log(tmp_path / "other", (20, 20, 21))[0]
    entry = json.loads(third)
    entry["proof"] = json.loads((other / "checkpoints.jsonl").read_text().splitlines()[2])["proof"]
    write(copies, json.dumps(entry))
    assert main([*arguments, "--part"]) == 1
    assert "does not extend the 40 records before it" in capsys.readouterr().out
