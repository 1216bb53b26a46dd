"""The verifier's short ways, by groups of lines and pieces of files: each finds what line by line would be found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadbed.ledger.audit_verify import (
    GROUP_BYTES,
    PIECE_BYTES,
    PublicKey,
    Report,
    chain_hash,
    leaf_hash,
    pieces_of,
    scan_piece,
    verify_export,
)

from .audit_log import made_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An export that is whole, of more lines than a group has, and its key."""
    return made_log(tmp_path_factory.mktemp("log"))


def verify(
    log: tuple[Path, str], lines: list[bytes] | None = None, *, processes: int = 1, piece_bytes: int = PIECE_BYTES
) -> Report:
    """A verification of the log, with other lines if some are given."""
    folder, key = log
    path = folder / "records-00000.txt"
    kept = path.read_bytes()
    try:
        if lines is not None:
            path.write_bytes(b"".join(lines))
        return verify_export(folder, [PublicKey.parse(key)], processes=processes, piece_bytes=piece_bytes)
    finally:
        path.write_bytes(kept)


def lines_of(log: tuple[Path, str]) -> list[bytes]:
    """The lines of its records."""
    return (log[0] / "records-00000.txt").read_bytes().splitlines(keepends=True)


GROUP_LINES = GROUP_BYTES // 480  # about so many lines of requests are in a group

# In the first group and at its edges, inside another, and in the last.
PLACES = (1, GROUP_LINES - 1, GROUP_LINES, GROUP_LINES + 1, 2 * GROUP_LINES, 700, 899)


@pytest.mark.parametrize("piece_bytes", [1, 700, 40_000, 1 << 22])
def test_a_log_in_pieces_is_whole(log: tuple[Path, str], piece_bytes: int) -> None:
    path = log[0] / "records-00000.txt"
    pieces = pieces_of(path, piece_bytes)
    data = path.read_bytes()
    assert b"".join(data[piece.start : piece.end] for piece in pieces) == data
    assert all(data[piece.end - 1 : piece.end] == b"\n" for piece in pieces)
    assert len(pieces) == {1: 900, 1 << 22: 1}.get(piece_bytes, len(pieces))
    report = verify(log, piece_bytes=piece_bytes)
    assert report.is_whole, report.faults[:3]
    assert report.proven == 900


def test_more_processes_say_the_same(log: tuple[Path, str]) -> None:
    lines = lines_of(log)
    lines[500] = lines[500].replace(b'"support"', b'"suppork"')
    one, two = (verify(log, lines, processes=count, piece_bytes=100_000) for count in (1, 2))
    assert one.summary() == two.summary()
    assert not one.is_whole
    assert verify(log, processes=2, piece_bytes=100_000).is_whole


@pytest.mark.parametrize("piece_bytes", [1, 40_000, 1 << 22])
@pytest.mark.parametrize("place", PLACES)
def test_a_changed_record_is_named_where_it_stands(log: tuple[Path, str], place: int, piece_bytes: int) -> None:
    lines = lines_of(log)
    lines[place] = lines[place].replace(b'"support"', b'"suppork"')
    faults = verify(log, lines, piece_bytes=piece_bytes).faults
    # Where the chain breaks, and at what is signed: the head may be stated rightly all the same.
    assert ("chain", place) in {(fault.kind, fault.position) for fault in faults}
    assert "root" in {fault.kind for fault in faults}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (b'"shard":"0', b'"shard":"1', "order"),
        (b'"v":1}', b'"v":2}', "record"),
        (b'"masked":0', b'"masked":00', "record"),
        (b'"code":""', b'"code":"\x01"', "record"),
        (b'"code":""', b'"code":"\xff"', "record"),
        (b'"code":""', b'"code":"\\u0041"', "record"),
        (b' {"action', b'  {"action', "record"),
        (b' {"action', b'x{"action', "chain"),
    ],
)
def test_what_a_group_may_not_hold_is_found_in_it(
    log: tuple[Path, str], place: int, old: bytes, new: bytes, kind: str
) -> None:
    lines = lines_of(log)
    lines[place] = lines[place].replace(old, new)
    faults = {(fault.kind, fault.position) for fault in verify(log, lines).faults}
    assert (kind, place) in faults


@pytest.mark.parametrize("place", PLACES)
def test_a_line_that_states_another_head_is_found(log: tuple[Path, str], place: int) -> None:
    lines = lines_of(log)
    lines[place] = (b"0" if lines[place][:1] != b"0" else b"1") + lines[place][1:]
    assert ("chain", place) in {(fault.kind, fault.position) for fault in verify(log, lines).faults}


@pytest.mark.parametrize("place", [5, GROUP_LINES + 10])
def test_a_clock_that_goes_back_is_found_however_often_the_same_times_come(tmp_path: Path, place: int) -> None:
    shard, head, lines = "0" * 26, b"\0" * 32, []
    event = json.loads(lines_of(made_log(tmp_path, (1,)))[0][65:])
    for seq in range(1, GROUP_LINES + 40):
        at = 200_000_000 if seq % 2 and place < seq < place + 4 else 100_000_000
        record = json.dumps({**event, "at": at, "seq": seq, "shard": shard}, separators=(",", ":")).encode()
        head = chain_hash(head, leaf_hash(record))
        lines.append(head.hex().encode() + b" " + record + b"\n")
    path = tmp_path / "records-00000.txt"
    path.write_bytes(b"".join(lines))
    (piece,) = pieces_of(path)
    assert {kind for _, kind, _ in scan_piece(piece).faults} == {"time"}


def test_pieces_that_do_not_follow_each_other_are_found_where_they_meet(log: tuple[Path, str]) -> None:
    """A chain that was made anew from some line on is whole in itself, and breaks where it begins."""
    lines = lines_of(log)
    head = b"\7" * 32
    for index in range(450, 900):
        head = chain_hash(head, leaf_hash(lines[index][65:-1]))
        lines[index] = head.hex().encode() + lines[index][64:]
    for piece_bytes in (1, 1 << 22):
        report = verify(log, lines, piece_bytes=piece_bytes)
        assert [fault.position for fault in report.faults if fault.kind == "chain"] == [450]
    start = len(b"".join(lines[:450]))
    report = verify(log, lines, piece_bytes=start)
    assert [fault.position for fault in report.faults if fault.kind == "chain"] == [450]
