"""Reading the audit log: pages of it for people, whole checkpoints of it for the verifier, and where it stands.

An export is cut at checkpoints, so that each of its parts can be proven; what stands behind the last one goes into
``tail.txt``. It is read while processes write: all of it is as of one moment, the one at which it began, and what a
process still has in its spool is left out with all behind it. The invariant: what is exported are the stored bytes,
never a record that was encoded again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from roadbed.kernel.errors import Conflict, InvalidRequest
from roadbed.kernel.ids import is_id, ms_of
from roadbed.ledger.audit_checkpoint import nodes_of
from roadbed.ledger.audit_verify import FORMAT
from roadbed.store.database import Database

PAGE_RECORDS_MAX = 500
FILE_RECORDS = 65_536
CHUNK_RECORDS = 10_000
CLOCKS_APART: Final = timedelta(minutes=5)
EXPORT_RECORDS_MAX = 5_000_000
CSV_COLUMNS: Final = (
    "at", "action", "actor", "resource", "outcome", "release", "rung", "shard", "seq", "detail",
)  # fmt: skip


class AuditQueryInvalid(InvalidRequest):
    """A filter, a time or a place in the audit log cannot be read."""

    code = "audit.query_invalid"
    hint = "times are ISO 8601 with a zone; `before` is the `next` of the page before"


class AuditMoved(Conflict):
    """Retention cut the audit log while it was exported, so that the export would lack what it began with."""

    code = "audit.moved"
    hint = "export it again"


class AuditReader:
    """Reads one deployment's log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self,
        *,
        actor: str = "",
        action: str = "",
        acts_only: bool = False,
        start: datetime | None = None,
        end: datetime | None = None,
        break_glass: str = "",
        before: str = "",
        limit: int = 50,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Records, newest first, and where the next page begins. ``action`` may end with ``*``; ``break_glass`` is the
        id of a use: all that was done under it, and its own start, end and review.
        """
        at, shard, seq = _place_of(before)
        if break_glass:
            start = _latest(start, _begin_of(break_glass))
        rows = await self._database.fetch(
            "SELECT at, shard, seq, record FROM audit_record WHERE ($1 = '' OR actor = $1)"
            " AND ($2 = '' OR action = $2 OR (right($2, 1) = '*' AND starts_with(action, left($2, -1))))"
            " AND (action <> 'request' OR NOT $9::boolean)"
            " AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)"
            " AND ($5::timestamptz IS NULL OR (at, shard, seq) < ($5, $6, $7::bigint))"
            # An id has no letter that JSON escapes, and texts of others have no quote that it does not.
            " AND ($10 = '' OR strpos(record, '\"break_glass\":\"' || $10 || '\"') > 0"
            " OR strpos(record, '\"resource\":\"' || $10 || '\"') > 0)"
            " ORDER BY at DESC, shard DESC, seq DESC LIMIT $8",
            *(actor, action, start, end, at, shard, seq, min(limit, PAGE_RECORDS_MAX) + 1, acts_only, break_glass),
        )
        more = len(rows) > limit
        rows = rows[:limit]
        place = f"{rows[-1]['at'].isoformat()}~{rows[-1]['shard']}~{rows[-1]['seq']}" if more else None
        return [msgspec.json.decode(row["record"]) for row in rows], place

    async def head(self) -> dict[str, Any]:
        """Where the log stands: the last checkpoint, what it does not hold yet, and the copies of it."""
        tree: Any = await self._database.fetchrow("SELECT number, size, base_size, fault FROM audit_tree")
        last = await self._database.fetchrow(
            "SELECT number, at, note FROM audit_checkpoint ORDER BY number DESC LIMIT 1"
        )
        waiting = await self._database.fetchval(
            "SELECT coalesce(sum(greatest(0, (SELECT coalesce(max(seq), 0) FROM audit_record r"
            " WHERE r.shard = s.shard) - s.placed_seq)), 0)::bigint FROM audit_shard s"
        )
        copies = await self._database.fetch(
            "SELECT destination, number, shipped, error FROM audit_shipment ORDER BY destination"
        )
        return {
            "proven_from": tree["base_size"],
            "proven_to": tree["size"],
            "unproven": int(waiting),
            "fault": tree["fault"],
            "checkpoint": {"number": last["number"], "at": last["at"], "note": last["note"]} if last else None,
            "copies": [dict(row) for row in copies],
            "witnessed": [
                dict(row)
                for row in await self._database.fetch(
                    "SELECT origin, size, seen, alarm, alarmed FROM audit_witness ORDER BY origin"
                )
            ],
        }

    async def files(
        self, origin: str, start: datetime | None = None, end: datetime | None = None
    ) -> AsyncIterator[tuple[str, bytes]]:
        """The files of an export as (name, piece); pieces of one name follow each other, ``export.json`` is last.

        It holds whole checkpoints: from the first that may hold a record of ``start``, to the one that holds ``end``.
        `AuditMoved`.
        """
        tree: Any = await self._database.fetchrow("SELECT * FROM audit_tree")
        ends = await self._ends()
        first, last = await self._numbers(tree, start, end)
        base: dict[str, Any]
        if first == tree["base_number"]:
            base = await self._base(first, tree["base_size"], bytes(tree["base_frontier"]), tree["base_heads"])
        else:
            row: Any = await self._database.fetchrow("SELECT * FROM audit_checkpoint WHERE number = $1", first)
            if row is None:
                raise AuditMoved("the log was cut while it was read")
            base = await self._base(
                first, row["size"], bytes(row["frontier"]), await heads_at(self._database, tree, first)
            )
        count, names = 0, ["records-00000.txt"]
        yield names[0], b""
        checkpoints = await self._database.fetch(
            "SELECT number, note, ranges, proof, size FROM audit_checkpoint WHERE number > $1 AND number <= $2"
            " ORDER BY number",
            *(first, last),
        )
        if checkpoints and checkpoints[-1]["size"] - base["size"] > EXPORT_RECORDS_MAX:
            raise AuditQueryInvalid(f"an export holds {EXPORT_RECORDS_MAX} records at most", hint="ask for less time")
        placed = {shard: seq for shard, (seq, _) in base["heads"].items()}
        for checkpoint in checkpoints:
            for shard, from_seq, to_seq, _ in json.loads(checkpoint["ranges"]):
                async for rows in self._rows(shard, from_seq, to_seq):
                    count += len(rows)
                    if count > FILE_RECORDS:
                        count = len(rows)
                        names.append(f"records-{len(names):05d}.txt")
                    yield names[-1], _record_lines(rows)
                placed[shard] = to_seq
        yield "checkpoints.jsonl", b"".join(map(_checkpoint_line, checkpoints))
        late: list[dict[str, Any]] = []
        if last == tree["number"] and end is None:
            yield "tail.txt", b""
            for shard, end_seq in ends:
                async for lines in self._tail(shard, placed.get(shard, 0) + 1, end_seq, late):
                    yield "tail.txt", lines
        if await self._database.fetchval("SELECT base_number FROM audit_tree") != tree["base_number"]:
            raise AuditMoved("the log was cut while it was read")
        head = {"format": FORMAT, "origin": origin, "base": base, "files": names, "late": late}
        yield "export.json", json.dumps(head).encode()

    async def _ends(self) -> list[tuple[str, int]]:
        """Every shard's last record, all as of one moment: a shard is begun behind what its boot record names."""
        rows = await self._database.fetch(
            "SELECT s.shard, (SELECT max(seq) FROM audit_record r WHERE r.shard = s.shard) AS seq FROM audit_shard s"
            " ORDER BY s.shard"
        )
        return [(row["shard"], row["seq"]) for row in rows if row["seq"] is not None]

    async def _tail(self, shard: str, first: int, last: int, late: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        """A shard's records behind the last checkpoint, up to one that is missing: that is added to ``late``."""
        async for rows in self._rows(shard, first, last):
            kept = [row for number, row in enumerate(rows, first) if row["seq"] == number]
            if kept:
                yield _record_lines(kept)
            first += len(kept)
            if len(kept) < len(rows):
                waits_s = (datetime.now(UTC) - rows[len(kept)]["at"]).total_seconds()
                late.append({"shard": shard, "seq": first, "before": last, "waits_s": max(0, int(waits_s))})
                return

    async def _numbers(self, tree: Any, start: datetime | None, end: datetime | None) -> tuple[int, int]:
        """The checkpoint before the first that is wanted, and the last."""
        first, last = tree["base_number"], tree["number"]
        if start is not None:
            found = await self._database.fetchval("SELECT max(number) FROM audit_checkpoint WHERE at < $1", start)
            first = max(first, found or 0)
        if end is not None:
            found = await self._database.fetchval("SELECT min(number) FROM audit_checkpoint WHERE at >= $1", end)
            last = found if found is not None else last
        return first, max(first, last)

    async def _base(self, number: int, size: int, frontier: bytes, heads: Any) -> dict[str, Any]:
        note = await self._database.fetchval("SELECT note FROM audit_checkpoint WHERE number = $1", number)
        nodes = [node.hex() for node in nodes_of(frontier)]
        return {"number": number, "size": size, "frontier": nodes, "heads": heads, "note": note or ""}

    async def _rows(self, shard: str, first: int, last: int) -> AsyncIterator[Sequence[Any]]:
        while first <= last:
            rows = await self._database.fetch(
                "SELECT seq, at, record, chain FROM audit_record WHERE shard = $1 AND seq BETWEEN $2 AND $3"
                " ORDER BY seq LIMIT $4",
                *(shard, first, last, CHUNK_RECORDS),
            )
            if not rows:
                return
            yield rows
            first = rows[-1]["seq"] + 1


async def heads_at(database: Any, tree: Any, number: int) -> dict[str, list[Any]]:
    """Every shard's last record and head at a checkpoint; ``database`` may be a connection, ``tree`` is the row."""
    heads = dict(tree["base_heads"])
    for row in await database.fetch(
        "SELECT ranges FROM audit_checkpoint WHERE number > $1 AND number <= $2 ORDER BY number",
        *(tree["base_number"], number),
    ):
        heads.update({shard: [last, head] for shard, _, last, head in json.loads(row["ranges"])})
    return heads


def _record_lines(rows: Sequence[Any]) -> bytes:
    return b"".join([b"%b %b\n" % (bytes(row["chain"]).hex().encode(), row["record"].encode()) for row in rows])


def _checkpoint_line(row: Any) -> bytes:
    entry = {
        "number": row["number"],
        "note": row["note"],
        "ranges": json.loads(row["ranges"]),
        "proof": json.loads(row["proof"]),
    }
    return json.dumps(entry).encode() + b"\n"


def _begin_of(break_glass: str) -> datetime:
    """Before the first record that may name a use: its id says when it was made, by the clock of its process."""
    try:
        if is_id(break_glass):
            return datetime.fromtimestamp(ms_of(break_glass) / 1000, UTC) - CLOCKS_APART
    except (ValueError, OverflowError):
        pass
    raise AuditQueryInvalid("`break_glass` is no id of a use", param="break_glass")


def _latest(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)


def _place_of(before: str) -> tuple[datetime | None, str, int]:
    if not before:
        return None, "", 0
    try:
        at, shard, seq = before.split("~")
        found = datetime.fromisoformat(at)
        if found.tzinfo is None or not seq.isdigit() or len(seq) > 18:
            raise ValueError
    except ValueError:
        raise AuditQueryInvalid("`before` is no place in the log", param="before") from None
    return found, shard, int(seq)
