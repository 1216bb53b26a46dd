"""The verifier of the audit log: this one file, with the standard library and ``cryptography``, and no database.

    python audit_verify.py EXPORT_FOLDER --key PUBLIC_KEY [--witness FOLDER [--part]] [--jobs N] [--json]

It proves that an export is what was signed: every record canonical (1), in its shard's order and chain (2), shards
explained by boot records (3), the tree recomputed (4) and consistent from checkpoint to checkpoint (5), every signature
good (6), the copies of a second place the same (7), and times in order (8). Trees are RFC 6962's, checkpoints are
C2SP's signed notes. The writing side imports its hashes from here.

Files are cut into pieces at line ends, and pieces are scanned in as many processes as there are cores. A piece's chain
is recomputed from the head that its first line states; that this is what follows from the piece before is checked where
the pieces meet. The invariant: nothing outside the standard library and ``cryptography`` is imported, so that an
auditor can read and run it alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import mmap
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = 1
SKEW_US = 60_000_000
LATE_S_MAX = 3_600
FAULTS_MAX = 1_000
FAULTS_SHOWN_MAX = 5
NOTE_BYTES_MAX = 64 * 1024
PIECE_BYTES = 4 * 1024 * 1024
GROUP_BYTES = 64 * 1024
CHAIN_START = b"\0" * 32
_HEX = 64
ROTATION_ACTION = "audit.key"
ROTATION_MARK = b'"action":"audit.key"'

_TEXT = rb'"[ !#-\[\]-~]*+"'
_COUNT = rb"(?:[1-9][0-9]{0,15}+|0)"
# A record of a request has always the same members, so that one pattern tells whether it is canonical, where its texts
# need no escape. Any other record is read as JSON, which takes ten times as long.
REQUEST = re.compile(
    rb'\{"action":"request","actor":%(t)s,"at":(%(n)s),"detail":\{"answer":%(t)s,"code":%(t)s,"cost_microusd":%(n)s,'
    rb'"in":%(n)s,"labels":%(t)s,"masked":%(n)s,"out":%(n)s,"question":%(t)s,"tags":%(t)s,"team":%(t)s,"trace":%(t)s\},'
    rb'"outcome":%(t)s,"release":%(t)s,"resource":%(t)s,"rung":%(t)s,"seq":(%(n)s),"shard":"([0-9A-Z]{26})","v":1\}'
    % {b"t": _TEXT, b"n": _COUNT}
)
# The same for line after line, with the head that each states: one call finds many at two thirds of the cost.
LINE = re.compile(rb"(.{64}) (" + REQUEST.pattern + rb")\n", re.DOTALL)
_FRAME = _HEX + 2  # what a line has besides its record
MEMBERS = {
    "action": str, "actor": str, "at": int, "detail": dict, "outcome": str, "release": str, "resource": str,
    "rung": str, "seq": int, "shard": str, "v": int,
}  # fmt: skip


FOLLOWS = frozenset({"root", "fork", "head", "copy"})
"""Faults that a change of one record brings about further on; each is a cause where nothing else was found."""


class AuditInvalid(Exception):
    """What was given is no export of an audit log, no checkpoint or no key. The text says where and why."""


class Fault(NamedTuple):
    """One thing that does not hold. ``position`` is the record's number in the tree, -1 where it has none."""

    kind: str
    message: str
    position: int = -1
    shard: str = ""
    seq: int = 0


# -- hashes -----------------------------------------------------------------------------------------------------------


def leaf_hash(record: bytes) -> bytes:
    """The leaf of a record: RFC 6962's."""
    return hashlib.sha256(b"\0" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes: RFC 6962's."""
    return hashlib.sha256(b"\1" + left + right).digest()


def chain_hash(before: bytes, leaf: bytes) -> bytes:
    """The head of a shard's chain after a record."""
    return hashlib.sha256(b"\2" + before + leaf).digest()


def chained(before: bytes, records: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """The leaf of each record of a shard, and the head after it, going on from the head ``before``."""
    sha = hashlib.sha256
    leaves = [sha(b"\0" + record).digest() for record in records]
    return leaves, [before := sha(b"\2" + before + leaf).digest() for leaf in leaves]


class Frontier:
    """An append-only tree as the roots of its perfect subtrees, largest first: all that is needed to go on."""

    def __init__(self, size: int = 0, nodes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.nodes = list(nodes)
        if len(self.nodes) != size.bit_count():
            raise AuditInvalid(f"a tree of {size} has {size.bit_count()} perfect subtrees, not {len(self.nodes)}")

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves, given one by one or several in a row."""
        row, sha = b"".join(leaves), hashlib.sha256
        at, count = 0, len(row) // 32
        while at < count:
            # The largest perfect subtree that may begin at this size and is there in full.
            room = (self.size & -self.size) or 1 << 62
            take = 1 << ((count - at).bit_length() - 1)
            while take > room:
                take >>= 1
            level = row[32 * at : 32 * (at + take)]
            while len(level) > 32:
                level = b"".join([sha(b"\1" + level[pair : pair + 64]).digest() for pair in range(0, len(level), 64)])
            self._push(level, take)
            at += take

    def _push(self, node: bytes, width: int) -> None:
        while self.size & width:
            node = node_hash(self.nodes.pop(), node)
            self.size -= width
            width *= 2
        self.nodes.append(node)
        self.size += width

    def root(self) -> bytes:
        """The root; of an empty tree, the hash of nothing."""
        if not self.nodes:
            return hashlib.sha256(b"").digest()
        *rest, root = self.nodes
        for node in reversed(rest):
            root = node_hash(node, root)
        return root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the tree of ``old`` leaves is the beginning of that of ``new`` (RFC 9162, 2.1.4)."""
    if old > new:
        return False
    if old == new:
        return old_root == new_root and not proof
    if old == 0:
        return not proof
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    left = right = path[0]
    for node in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            left, right = node_hash(node, left), node_hash(node, right)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            right = node_hash(right, node)
        first, last = first >> 1, last >> 1
    return last == 0 and left == old_root and right == new_root


# -- signed notes -----------------------------------------------------------------------------------------------------


class PublicKey(NamedTuple):
    """A verifier key: ``name+hash+base64(0x01 || 32 bytes)``, as C2SP writes it."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """`AuditInvalid` when it is none."""
        name, hash_hex, body = (*text.strip().split("+", 2), "", "", "")[:3]
        try:
            data = base64.b64decode(body, validate=True)
            key = cls(name, data[1:])
            if len(data) != 33 or data[0] != 1 or hash_hex != key.hash.hex():
                raise ValueError
        except ValueError:
            raise AuditInvalid("the key is not name+hash+base64, as `roadbed audit head` prints it") from None
        return key

    @property
    def hash(self) -> bytes:
        """The four bytes that name it in a signature."""
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.raw).digest()[:4]

    def __str__(self) -> str:
        body = base64.b64encode(b"\x01" + self.raw).decode()
        return f"{self.name}+{self.hash.hex()}+{body}"


class Checkpoint(NamedTuple):
    """What a note says. ``ranges`` is the digest of the list of records that it took in."""

    origin: str
    size: int
    root: bytes
    ranges: str


def note_text(checkpoint: Checkpoint) -> str:
    """The part of a note that is signed."""
    root = base64.b64encode(checkpoint.root).decode()
    return f"{checkpoint.origin}\n{checkpoint.size}\n{root}\nranges {checkpoint.ranges}\n"


def ranges_digest(ranges: Sequence[Sequence[Any]]) -> str:
    """The digest of ``[shard, first seq, last seq, head]`` of each part of the tree that a checkpoint added."""
    return hashlib.sha256(json.dumps(ranges, separators=(",", ":")).encode()).hexdigest()


def open_note(note: str, keys: Sequence[PublicKey]) -> Checkpoint:
    """A note that one of ``keys`` has signed. `AuditInvalid` else."""
    if len(note) > NOTE_BYTES_MAX:
        raise AuditInvalid("the note is too long")
    text, gap, signatures = note.partition("\n\n")
    text += "\n"
    lines = text.split("\n")
    if not gap or len(lines) != 5 or not lines[3].startswith("ranges ") or not re.fullmatch(r"0|[1-9]\d*", lines[1]):
        raise AuditInvalid("the note has not the shape of a checkpoint")
    try:
        found = Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True), lines[3][7:])
    except ValueError:
        raise AuditInvalid("the note's root is not base64") from None
    if note_text(found) != text or len(found.root) != 32:
        raise AuditInvalid("the note is not written in the one way that it may be")
    for line in signatures.split("\n"):
        dash, name, body = (*line.split(" ", 2), "", "", "")[:3]
        for key in keys:
            if dash == "\u2014" and name == key.name and _is_signed(body, key, text.encode()):
                return found
    raise AuditInvalid("no signature of the note is by a key that was given")


def is_signed_by(note: str, key: PublicKey) -> bool:
    """Whether ``key`` is among those that have signed a note."""
    try:
        open_note(note, [key])
    except AuditInvalid:
        return False
    return True


def _is_signed(body: str, key: PublicKey, text: bytes) -> bool:
    try:
        data = base64.b64decode(body, validate=True)
        if data[:4] != key.hash or base64.b64encode(data).decode() != body:
            return False
        Ed25519PublicKey.from_public_bytes(key.raw).verify(data[4:], text)
    except (ValueError, InvalidSignature):
        return False
    return True


# -- changes of the key -----------------------------------------------------------------------------------------------


class Rotation(NamedTuple):
    """A record that says by which key the log goes on, signed by both. ``position`` is its number in the tree."""

    position: int
    old: PublicKey
    new: PublicKey


def rotation_text(old: PublicKey, new: PublicKey) -> str:
    """What both keys sign."""
    return f"roadbed audit key\n{old.name}\n{old}\n{new}\n"


def read_rotation(detail: Mapping[str, Any], origin: str, position: int = -1) -> Rotation:
    """The rotation that a record's detail holds. `AuditInvalid` when it is not signed by both keys."""
    old, new = (PublicKey.parse(str(detail.get(name, ""))) for name in ("old", "new"))
    if old.name != origin or new.name != origin:
        raise AuditInvalid("it is of another log")
    text = rotation_text(old, new).encode()
    for name, key in (("by_old", old), ("by_new", new)):
        if not _is_signed(str(detail.get(name, "")), key, text):
            raise AuditInvalid(f"it is not signed by the {name[3:]} key")
    return Rotation(position, old, new)


def find_rotations(report: Report, files: Sequence[Path], position: int) -> list[Rotation]:
    """The changes of the key in files of records whose first record has this number in the tree."""
    found: list[Rotation] = []
    behind: list[Path] = []  # files whose lines were not counted: in most logs no key was ever changed
    for path in files:
        if not _holds(path, ROTATION_MARK):
            behind.append(path)
            continue
        position += sum(each.read_bytes().count(b"\n") for each in behind)
        behind.clear()
        data = path.read_bytes()
        at = data.find(ROTATION_MARK)
        while at >= 0:
            start, number = data.rfind(b"\n", 0, at) + 1, position + data.count(b"\n", 0, at)
            end = data.find(b"\n", at)
            try:
                record = parse_record(data[start + _HEX + 1 : end if end >= 0 else len(data)])
                if record["action"] == ROTATION_ACTION:
                    found.append(read_rotation(record["detail"], report.origin, number))
            except AuditInvalid as error:
                report.add("rotation", f"a change of the key does not hold: {error}", number)
            at = data.find(ROTATION_MARK, max(end, at + 1))
        position += data.count(b"\n")
    return found


def _holds(path: Path, mark: bytes) -> bool:
    """Whether a file holds some bytes, without a copy of it in memory."""
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(mark) >= 0


class _Keys:
    """The keys that may sign at each place of the log: those that were given, and what rotations make of them.

    A rotation leads from a key that may sign to the one after it; a key that was given leads back to the one before
    it, for what is older. The invariant: after a rotation its new key alone may sign.
    """

    def __init__(self, given: Sequence[PublicKey], rotations: Sequence[Rotation], report: Report) -> None:
        self._report = report
        self._rotations = list(rotations)
        self.now = list(given)
        for rotation in reversed(rotations):
            if rotation.new in self.now and rotation.old not in self.now:
                self.now.append(rotation.old)
        self.ever = list(self.now)

    def took(self, note: str, size: int) -> None:
        """A checkpoint that was signed as it may be has taken in all up to ``size``."""
        while self._rotations and self._rotations[0].position < size:
            rotation = self._rotations.pop(0)
            if not all(is_signed_by(note, key) for key in (rotation.old, rotation.new)):
                self._report.notes.append(f"record {rotation.position} began a change of the key that was not made")
            elif rotation.old not in self.now:
                self._report.add("rotation", "the key that it leads from may not sign", rotation.position)
            else:
                self.now = [rotation.new]
                self.ever.append(rotation.new)
                self._report.rotations += 1


# -- records ----------------------------------------------------------------------------------------------------------


class Scan:
    """What was found in a piece's lines: 32 bytes for each leaf and chain, one after the other.

    ``runs`` are (shard, first seq, count) of lines in a row; ``boots`` and ``faults`` begin with the line's number.
    """

    def __init__(self) -> None:
        self.leaves = b""
        self.chains = b""
        self.count = 0
        self.runs: list[tuple[str, int, int]] = []
        self.boots: list[tuple[int, dict[str, Any]]] = []
        self.faults: list[tuple[int, str, str]] = []

    def chain(self, number: int) -> bytes:
        """The head after a line."""
        return self.chains[32 * number : 32 * number + 32]

    def leaf(self, number: int) -> bytes:
        """The leaf of a line."""
        return self.leaves[32 * number : 32 * number + 32]


def parse_record(record: bytes) -> dict[str, Any]:
    """A record of any kind. `AuditInvalid` when it is not canonical or lacks something."""
    try:
        text = record.decode()
        found = json.loads(text, parse_float=_no_number, parse_constant=_no_number)
        canonical = json.dumps(found, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise AuditInvalid("it is not JSON") from None
    if canonical != text:
        raise AuditInvalid("it is not canonical")
    if not isinstance(found, dict) or found.keys() != MEMBERS.keys():
        raise AuditInvalid("it has not the members of a record")
    if any(type(found[name]) is not kind for name, kind in MEMBERS.items()) or found["v"] != 1:
        raise AuditInvalid("a member has the wrong type")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(text)


class Piece(NamedTuple):
    """A part of a file, from one line's beginning to another's."""

    path: str
    start: int
    end: int


def pieces_of(path: Path, piece_bytes: int = PIECE_BYTES) -> list[Piece]:
    """A file of records in pieces of about so many bytes, cut behind line ends."""
    size = path.stat().st_size
    pieces, start = [], 0
    with path.open("rb") as file:
        while start < size:
            file.seek(min(start + piece_bytes, size) - 1)
            file.readline()
            end = min(file.tell(), size)
            pieces.append(Piece(str(path), start, end))
            start = end
    return pieces


def scan_piece(piece: Piece) -> Scan:
    """Check the lines of one piece: shape, leaf, and chain from line to line."""
    with open(piece.path, "rb") as file:
        file.seek(piece.start)
        data = file.read(piece.end - piece.start)
    scan = Scan()
    whole = data.rfind(b"\n") + 1
    _Scanner(scan).scan(data[:whole])
    if whole < len(data):
        scan.faults.append((scan.count, "truncated", "the last line is cut off"))
    return scan


class _Scanner:
    """Goes through lines, each after the one before it."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._shard, self._seq, self._first, self._at = b"", 0, 0, 0
        self._chain = b""
        self._leaves: list[bytes] = []  # each of one line or of many in a row
        self._chains: list[bytes] = []

    def scan(self, data: bytes) -> None:
        """Fill the scan from whole lines."""
        start = 0
        while start < len(data):
            end = data.find(b"\n", min(start + GROUP_BYTES, len(data) - 1) if self._chain else start) + 1
            if not self._chain or not self._take_group(LINE.findall(data, start, end), end - start):
                for line in data[start : end - 1].split(b"\n"):
                    self._take(line)
            start = end
        if data:
            self._scan.runs.append((self._shard.decode("ascii", "replace"), self._first, self._seq - self._first + 1))
        self._scan.leaves, self._scan.chains = b"".join(self._leaves), b"".join(self._chains)

    def _take_group(self, lines: Sequence[tuple[bytes, ...]], size: int) -> bool:
        """Take lines of so many bytes that are all records of requests, in order and chained. False, and nothing is
        taken, if not.
        """
        if not lines:
            return False
        stated, records, ats, seqs, shards = zip(*lines, strict=True)
        count, seq = len(lines), self._seq + 1
        if sum(map(len, records)) + _FRAME * count != size or {*shards} != {self._shard}:
            return False
        if [*map(int, seqs)] != [*range(seq, seq + count)]:
            return False
        times = [self._at, *map(int, ats)]
        if times != sorted(times) and any(after < before - SKEW_US for before, after in pairwise(times)):
            return False
        leaves, chains = chained(self._chain, records)
        row = b"".join(chains)
        if b"".join(stated) != row.hex().encode():
            return False
        self._leaves += leaves
        self._chains.append(row)
        self._scan.count += count
        self._seq, self._at, self._chain = seq + count - 1, times[-1], chains[-1]
        return True

    def _take(self, line: bytes) -> None:
        """Take any line."""
        scan, record, stated = self._scan, line[_HEX + 1 :], line[:_HEX]
        number = scan.count
        its_at, its_seq, its_shard = _read_record(scan, number, record, (self._at, self._seq + 1, self._shard))
        leaf = leaf_hash(record)
        if its_shard != self._shard or its_seq != self._seq + 1:
            if number:
                shard = self._shard.decode("ascii", "replace")
                scan.runs.append((shard, self._first, self._seq - self._first + 1))
            self._shard, self._first, self._chain = its_shard, its_seq, b""
        elif its_at < self._at - SKEW_US:
            scan.faults.append((number, "time", "its time is before that of the record before it"))
        chain = chain_hash(self._chain, leaf) if self._chain else b""
        is_stated = not chain or chain.hex().encode() == stated
        if line[_HEX : _HEX + 1] != b" " or not is_stated:
            scan.faults.append((number, "chain", "it does not continue the chain of its shard"))
        self._chain = chain if chain and is_stated else _unhex(stated)
        self._leaves.append(leaf)
        self._chains.append(self._chain)
        self._seq, self._at = its_seq, its_at
        scan.count += 1


def _read_record(scan: Scan, number: int, record: bytes, guess: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """(at, seq, shard) of a record; ``guess`` where it cannot be read."""
    match = REQUEST.fullmatch(record)
    if match is not None:
        at, seq, shard = match.groups()
        return int(at), int(seq), shard
    try:
        found = parse_record(record)
    except AuditInvalid as error:
        scan.faults.append((number, "record", str(error)))
        return guess
    if found["action"] == "audit.boot":
        scan.boots.append((number, found))
    return found["at"], found["seq"], found["shard"].encode()


def _unhex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode()) if len(text) == _HEX else CHAIN_START
    except ValueError:
        return CHAIN_START


# -- an export --------------------------------------------------------------------------------------------------------


class Report:
    """What a verification found: the proven range, the tail, and every fault."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.notes: list[str] = []
        self.left_out = 0  # faults over `FAULTS_MAX`
        self.origin = ""
        self.first = self.proven = self.tail = self.checkpoints = self.copies = self.rotations = 0
        self.root = ""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def add(self, kind: str, message: str, position: int = -1, shard: str = "", seq: int = 0) -> None:
        """Note a fault."""
        if len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(kind, message, position, shard, seq))
        else:
            self.left_out += 1

    def in_order(self) -> list[Fault]:
        """The faults, causes before what follows from them: a changed record before the roots that no longer fit."""
        last = sys.maxsize
        return sorted(
            self.faults,
            key=lambda fault: (fault.kind in FOLLOWS, fault.position if fault.position >= 0 else last),
        )

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "whole": self.is_whole, "origin": self.origin, "proven_from": self.first, "proven_to": self.proven,
            "unproven": self.tail, "checkpoints": self.checkpoints, "copies": self.copies, "root": self.root,
            "rotations": self.rotations,
            "faults": [fault._asdict() for fault in self.in_order()], "faults_left_out": self.left_out,
            "notes": self.notes,
        }  # fmt: skip


class _Lines:
    """The scanned lines of all pieces in order, taken a range at a time."""

    def __init__(self, scans: Iterator[Scan], report: Report, position: int) -> None:
        self._scans = scans
        self._report = report
        self.position = position
        self._scan = Scan()
        self._at = 0
        self._runs: list[tuple[str, int, int]] = []  # what is left of the piece's, the next one last
        self.boots: list[dict[str, Any]] = []

    def _next(self) -> bool:
        while self._at >= self._scan.count:
            found = next(self._scans, None)
            if found is None:
                return False
            self._scan, self._at = found, 0
            for number, kind, message in found.faults:
                self._report.add(kind, message, self.position + number)
            self.boots += [record for _, record in found.boots]
            self._runs = found.runs[::-1]
        return True

    def _pass(self, count: int) -> None:
        """Go on by so many lines of one run."""
        shard, first, length = self._runs.pop()
        if count < length:
            self._runs.append((shard, first + count, length - count))
        self._at += count
        self.position += count

    def take(self, shard: str, first: int, last: int, before: bytes) -> tuple[list[bytes], bytes]:
        """The leaves of one shard's records in rows, checked against what they must be, and the head after them."""
        parts: list[bytes] = []
        seq, report = first, self._report
        is_first = True
        while seq <= last:
            if not self._next():
                report.add("missing", "the records end here", self.position, shard, seq)
                break
            scan, at = self._scan, self._at
            its_shard, its_seq, length = self._runs[-1]
            is_wanted = (its_shard, its_seq) == (shard, seq)
            if not is_wanted:
                report.add("order", f"here stands {its_shard} {its_seq}", self.position, shard, seq)
            # Within a run of a piece the chain was checked line by line; here, where ranges, runs and pieces meet.
            if (is_first or at == 0 or not is_wanted) and chain_hash(before, scan.leaf(at)) != scan.chain(at):
                report.add("chain", "it does not continue the chain of its shard", self.position, shard, seq)
            is_first = False
            count = min(last - seq + 1, length) if is_wanted else 1
            parts.append(scan.leaves[32 * at : 32 * (at + count)])
            before = scan.chain(at + count - 1)
            seq += count
            self._pass(count)
        return parts, before

    def rest(self) -> Iterator[tuple[str, int, bytes, bytes]]:
        """(shard, seq, leaf, chain) of all that is left."""
        while self._next():
            at = self._at
            shard, seq, _ = self._runs[-1]
            yield shard, seq, self._scan.leaf(at), self._scan.chain(at)
            self._pass(1)


def verify_export(
    folder: Path,
    keys: Sequence[PublicKey],
    copies: Sequence[Path] | None = None,
    *,
    is_part: bool = False,
    processes: int | None = None,
    piece_bytes: int = PIECE_BYTES,
) -> Report:
    """Check an export from beginning to end, in so many processes. `AuditInvalid` when it is none at all.

    ``copies`` are checkpoints of a second place, as `copies_of` lists them. Where the log is still written, list them
    before it is exported: what was there then must be in it. ``is_part``: it was asked for up to some time only.
    """
    report = Report()
    head = _read_json(folder / "export.json")
    try:
        if head["format"] != FORMAT:
            raise AuditInvalid(f"the export has format {head['format']!r}; this verifier reads {FORMAT}")
        base = head["base"]
        tree = Frontier(base["size"], [bytes.fromhex(node) for node in base["frontier"]])
        heads = {shard: (int(seq), bytes.fromhex(chain)) for shard, (seq, chain) in base["heads"].items()}
        files = [folder / name for name in head["files"] if re.fullmatch(r"records-\d{5}\.txt", name)]
        report.origin, report.first = str(head["origin"]), tree.size
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AuditInvalid(f"export.json lacks something or holds something else: {type(error).__name__}") from None
    checkpoints = _read_checkpoints(folder / "checkpoints.jsonl")
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise AuditInvalid(f"the export lacks {missing[0]}")
    signers = _Keys(keys, find_rotations(report, files, tree.size), report)
    with _scanner([piece for path in files for piece in pieces_of(path, piece_bytes)], processes) as scans:
        lines = _Lines(scans, report, tree.size)
        roots = _verify_checkpoints(report, tree, heads, lines, checkpoints, signers, base)
        for shard, seq, leaf, chain in lines.rest():
            report.add("unsigned", "it stands behind the last checkpoint of the export", lines.position, shard, seq)
            heads[shard] = (seq, chain)
            del leaf
    _verify_tail(report, folder / "tail.txt", heads, lines)
    _verify_boots(report, lines.boots, heads, _verify_late(report, head.get("late", [])))
    if copies is not None:
        _verify_copies(report, copies, roots, signers.ever, is_part)
    return report


class _scanner:
    """Scans of pieces in order, in as many processes as there are cores where that pays."""

    def __init__(self, pieces: Sequence[Piece], jobs: int | None) -> None:
        self._pieces = pieces
        count = min(jobs or os.cpu_count() or 1, len(pieces))
        self._pool = ProcessPoolExecutor(count) if count > 1 else None

    def __enter__(self) -> Iterator[Scan]:
        if self._pool is None:
            return map(scan_piece, self._pieces)
        return iter(self._pool.map(scan_piece, self._pieces))

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _verify_checkpoints(
    report: Report,
    tree: Frontier,
    heads: dict[str, tuple[int, bytes]],
    lines: _Lines,
    checkpoints: Sequence[dict[str, Any]],
    keys: _Keys,
    base: dict[str, Any],
) -> dict[int, bytes]:
    """Walk from checkpoint to checkpoint; the signed root of each size."""
    roots: dict[int, bytes] = {}
    before, expected = _verify_base(report, tree, base, keys.now), int(base.get("number", 0))
    for entry in checkpoints:
        number, ranges = entry["number"], entry["ranges"]
        leaves: list[bytes] = []
        expected += 1
        if number != expected:
            report.add("order", f"checkpoint {number} stands where {expected} should")
        for shard, first, last, head in ranges:
            seq, chain = heads.get(shard, (0, CHAIN_START))
            if first != seq + 1:
                report.add("gap", f"checkpoint {number} goes on at {first}", lines.position, shard, seq + 1)
            taken, chain = lines.take(shard, first, last, chain)
            leaves += taken
            if chain.hex() != head:
                report.add("head", f"checkpoint {number} holds another head of the shard", -1, shard, last)
            heads[shard] = (last, chain)
        began = tree.size
        tree.extend(leaves)
        root = tree.root()
        try:
            note = open_note(entry["note"], keys.now)
        except AuditInvalid as error:
            report.add("signature", f"checkpoint {number}: {error}")
            before = (tree.size, root)
            continue
        if note.origin != report.origin:
            report.add("origin", f"checkpoint {number} is of another log, {note.origin[:100]}")
        if note.ranges != ranges_digest(ranges):
            report.add("ranges", f"checkpoint {number} was signed for other records")
        if (note.size, note.root) != (tree.size, root):
            report.add("root", f"checkpoint {number} was signed for another tree", began)
        proof = [bytes.fromhex(node) for node in entry["proof"]]
        if not is_consistent(before[0], before[1], note.size, note.root, proof):
            report.add("fork", f"checkpoint {number} does not extend the one before it")
        keys.took(entry["note"], tree.size)
        before = (note.size, note.root)
        roots[note.size] = note.root
        report.checkpoints += 1
        report.proven, report.root = note.size, note.root.hex()
    return roots


def _verify_base(report: Report, tree: Frontier, base: dict[str, Any], keys: Sequence[PublicKey]) -> tuple[int, bytes]:
    """The signed beginning of an export that does not begin with the log."""
    root = tree.root()
    report.proven = tree.size
    if tree.size:
        try:
            note = open_note(str(base.get("note", "")), keys)
        except AuditInvalid as error:
            report.add("signature", f"the checkpoint before the export: {error}")
        else:
            if (note.size, note.root) != (tree.size, root):
                report.add("root", "the checkpoint before the export was signed for another tree")
    return tree.size, root


def _verify_tail(report: Report, path: Path, heads: dict[str, tuple[int, bytes]], lines: _Lines) -> None:
    if not path.is_file():
        return
    tail = _Lines(map(scan_piece, pieces_of(path)), report, lines.position)
    for shard, seq, leaf, chain in tail.rest():
        before, head = heads.get(shard, (0, CHAIN_START))
        if seq != before + 1 or chain_hash(head, leaf) != chain:
            report.add("chain", "it does not continue its shard", tail.position, shard, seq)
        heads[shard] = (seq, chain)
        report.tail += 1
    lines.boots += tail.boots


def _verify_boots(
    report: Report, boots: Sequence[dict[str, Any]], heads: dict[str, tuple[int, bytes]], late: set[str]
) -> None:
    """Every shard begins with a boot record that names the head of its predecessor."""
    for boot in boots:
        detail, shard = boot["detail"], boot["shard"]
        if boot["seq"] != 1:
            report.add("boot", "a boot record stands inside a shard", -1, shard, boot["seq"])
        before, seq, head = str(detail.get("before", "")), detail.get("before_seq", 0), detail.get("before_head", "")
        if not before:
            continue
        if before not in heads:
            report.notes.append(f"{shard} follows {before}, which is not in this export")
        elif heads[before][0] == seq and heads[before][1].hex() != head:
            report.add("boot", f"its predecessor {before} ends with another head", -1, shard, 1)
        elif heads[before][0] < int(seq) and before not in late:
            report.add("boot", f"its predecessor {before} had {seq} records, {heads[before][0]} are left", -1, shard, 1)
        elif heads[before][0] > int(seq):
            report.notes.append(f"{before} went on after {shard} began: records came late, from its spool")


def _verify_late(report: Report, late: Any) -> set[str]:
    """Records that were missing when the export was made: for a while, they may lie in the spool of their process.
    The shards of those that may.
    """
    shards: set[str] = set()
    try:
        for entry in late:
            shard, seq, waits_s = str(entry["shard"]), int(entry["seq"]), int(entry["waits_s"])
            what = f"it was missing, and what stands behind it, up to {int(entry['before'])}, waits for it"
            if waits_s > LATE_S_MAX:
                report.add("late", f"{what} since {waits_s} s: no spool is that late", -1, shard, seq)
            else:
                report.notes.append(f"{shard} {seq}: {what}; verify again later")
                shards.add(shard)
    except (KeyError, TypeError, ValueError):
        raise AuditInvalid("export.json names late records in another way") from None
    return shards


def copies_of(folder: Path) -> list[Path]:
    """The checkpoints that a second place holds now. `AuditInvalid` where there is no such folder."""
    if not folder.is_dir():
        raise AuditInvalid(f"there is no folder {folder} of shipped checkpoints")
    return sorted(folder.rglob("*.json"))


def _verify_copies(
    report: Report, copies: Sequence[Path], roots: dict[int, bytes], keys: Sequence[PublicKey], is_part: bool
) -> None:
    """Every checkpoint that was shipped to a second place must be one of the log's, or, for a part, extend it."""
    beyond: list[tuple[Checkpoint, Path, Any]] = []
    for path in copies:
        found = _read_json(path)
        try:
            note = open_note(str(found["note"]), keys)
        except (KeyError, TypeError, AuditInvalid) as error:
            report.add("copy", f"{path.name} is no checkpoint: {error}")
            continue
        if note.origin != report.origin:
            continue
        report.copies += 1
        if note.size > report.proven and is_part:
            beyond.append((note, path, found.get("proof")))
        elif note.size > report.proven:
            report.add("copy", f"{path.name} holds {note.size} records, the log only {report.proven}: it was cut back")
        elif note.size > report.first and roots.get(note.size) != note.root:
            report.add("copy", f"{path.name} has another root: the log was rewritten", note.size)
    _verify_beyond(report, sorted(beyond, key=lambda entry: entry[0].size))


def _verify_beyond(report: Report, beyond: Sequence[tuple[Checkpoint, Path, Any]]) -> None:
    """Copies behind the end of a part of the log: each must extend the one before it, from the part's end on."""
    if not beyond:
        return
    size, root = report.proven, bytes.fromhex(report.root)
    for note, path, proof in beyond:
        try:
            nodes = [bytes.fromhex(node) for node in proof]
        except (TypeError, ValueError):
            nodes = []
        if not is_consistent(size, root, note.size, note.root, nodes):
            report.add("copy", f"{path.name} does not extend the {size} records before it", size)
            return
        size, root = note.size, note.root
    report.notes.append(f"the log went on: {len(beyond)} copies, of up to {size} records, extend what is here")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AuditInvalid(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise AuditInvalid(f"{path.name} is not JSON") from None


def _read_checkpoints(path: Path) -> list[dict[str, Any]]:
    try:
        found = [json.loads(line) for line in path.read_bytes().splitlines()]
        for entry in found:
            int(entry["number"])
            str.encode(entry["note"])
            [bytes.fromhex(node) for node in entry["proof"]]
            for shard, first, last, head in entry["ranges"]:
                if not isinstance(shard, str) or not 0 < first <= last or len(bytes.fromhex(head)) != 32:
                    raise ValueError(shard)
    except OSError as error:
        raise AuditInvalid(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise AuditInvalid(f"{path.name} holds something that is no checkpoint") from None
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """``python audit_verify.py FOLDER --key KEY``: 0 whole, 1 faults, 2 not an export."""
    parser = argparse.ArgumentParser(description="Verify an export of a Roadbed audit log.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", action="append", required=True, help="a public key, or a file that holds some")
    parser.add_argument("--witness", type=Path, help="a folder of checkpoints that were shipped to a second place")
    parser.add_argument("--part", action="store_true", help="the export ends before the log: copies may extend it")
    parser.add_argument("--jobs", type=int, default=None, help="processes that scan; as many as cores by default")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    try:
        keys = [key for text in arguments.key for key in read_keys(text)]
        copies = copies_of(arguments.witness) if arguments.witness is not None else None
        report = verify_export(arguments.folder, keys, copies, is_part=arguments.part, processes=arguments.jobs)
    except AuditInvalid as error:
        print(f"not verified: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report.summary(), indent=2) if arguments.json else describe(report))
    return 0 if report.is_whole else 1


def read_keys(text: str) -> list[PublicKey]:
    """Keys given as themselves, or in a file. `AuditInvalid`."""
    path = Path(text)
    if "+" not in text and path.is_file():
        return [PublicKey.parse(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [PublicKey.parse(text)]


def describe(report: Report) -> str:
    """The report in words."""
    lines = [
        f"log {report.origin}: records {report.first} to {report.proven} proven by {report.checkpoints} checkpoints"
        f" ({report.copies} copies compared), {report.tail} behind the last one not yet"
    ]
    if report.rotations:
        lines.append(f"the signing key was changed {report.rotations} times, each time by a record that both signed")
    lines += [f"note: {note}" for note in report.notes]
    lines += _describe_faults(report)
    return "\n".join(lines)


def _describe_faults(report: Report) -> list[str]:
    """The first cause, what else is one, and how much follows: one changed record breaks every root behind it."""
    if report.is_whole:
        return ["the log is whole"]
    faults = report.in_order()
    causes = [fault for fault in faults if fault.kind not in FOLLOWS] or faults[:1]
    shown = causes[:FAULTS_SHOWN_MAX]
    lines = []
    for fault in shown:
        where = f" at record {fault.position}" if fault.position >= 0 else ""
        which = f" ({fault.shard} {fault.seq})" if fault.shard else ""
        lines.append(f"FAULT {fault.kind}{where}{which}: {fault.message}")
    if len(causes) > len(shown):
        lines.append(f"and {len(causes) - len(shown)} more like these")
    if len(faults) > len(causes):
        counts = Counter(fault.kind for fault in faults[len(causes) :])
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        lines.append(f"{len(faults) - len(causes)} faults follow from it: {kinds}")
    total = len(faults) + report.left_out
    more = f", {report.left_out} of them not kept" if report.left_out else ""
    lines.append("1 fault" if total == 1 else f"{total} faults{more}; --json lists them")
    return lines


if __name__ == "__main__":
    sys.exit(main())
