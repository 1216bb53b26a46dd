"""The part of a generation that a process keeps in memory for search: lengths, acl ids and vectors as numpy arrays.

Rows stand by rising ``chunk_no``; ``position_of`` leads from a chunk number to its row, or to -1 when the chunk is
gone. A snapshot only ever catches up (`Snapshots.current`): new chunks are those beyond ``next_no``, deletions and
acl changes come by ``index_event``. It holds no text. The invariant: it may be behind the database, which costs
recall for a moment; what it says is visible is checked again by the statement that returns text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.knowledge.index import vector_table

GONE = -1
ROWS_PER_FETCH = 20_000
VECTOR_BYTES_MAX = 150 * 1024 * 1024
POLL_S = 2.0
DEAD_SHARE_MAX = 0.3
ROWS_MIN = 1_024


class GenerationSnapshot:
    """One generation in memory. All arrays are longer than needed; ``rows`` says how much of them counts."""

    def __init__(self, generation: int, dimensions: int, *, vector_bytes_max: int = VECTOR_BYTES_MAX) -> None:
        self.generation = generation
        self.dimensions = dimensions
        self.vector_bytes_max = vector_bytes_max
        self.epoch = -1
        self.next_no = 0
        self.rows = 0
        self.position_of: NDArray[np.int32] = np.full(0, GONE, np.int32)
        self.number: NDArray[np.int32] = np.zeros(0, np.int32)
        self.length: NDArray[np.int32] = np.zeros(0, np.int32)
        self.acl: NDArray[np.int32] = np.zeros(0, np.int32)
        self.document: NDArray[np.int32] = np.zeros(0, np.int32)
        self.is_live: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.has_vector: NDArray[np.bool_] = np.zeros(0, np.bool_)
        self.vectors: NDArray[np.float32] | None = np.zeros((0, dimensions), np.float32)
        self.live_rows = 0
        self.average_length = 0.0
        self.acl_id_max = 0
        self.languages: tuple[str, ...] = ()

    def visible_rows(self, visible_acls: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """For each row, whether it lives and belongs to a visible acl."""
        return visible_acls[self.acl[: self.rows]] & self.is_live[: self.rows]

    def append(self, rows: list[Any], next_no: int) -> None:
        """Add chunks with rising numbers, all beyond those that were added before."""
        start, end = self.rows, self.rows + len(rows)
        self._reserve(end, next_no)
        if rows:
            numbers = np.fromiter((row["chunk_no"] for row in rows), np.int32, len(rows))
            self.number[start:end] = numbers
            self.length[start:end] = [row["dl"] for row in rows]
            self.acl[start:end] = [row["acl_id"] for row in rows]
            self.document[start:end] = [row["document_no"] for row in rows]
            self.is_live[start:end] = True
            self.has_vector[start:end] = [row["has_vector"] for row in rows]
            self.position_of[numbers] = np.arange(start, end, dtype=np.int32)
            if self.vectors is not None:
                for i, row in enumerate(rows, start):
                    if row["embedding"] is not None:
                        self.vectors[i] = row["embedding"]
        self.rows = end
        self.next_no = next_no

    def apply_events(self, document_numbers: NDArray[np.int32], acl_of_live: dict[int, int]) -> None:
        """Changed documents: ``acl_of_live`` holds their chunks that are still there; all their others are gone."""
        changed = np.flatnonzero(np.isin(self.document[: self.rows], document_numbers) & self.is_live[: self.rows])
        for position in changed.tolist():
            number = int(self.number[position])
            acl = acl_of_live.get(number)
            if acl is None:
                self.is_live[position] = False
                self.position_of[number] = GONE
            else:
                self.acl[position] = acl

    def settle(self) -> None:
        """Recompute the totals after rows came or went."""
        live = self.is_live[: self.rows]
        self.live_rows = int(live.sum())
        lengths = self.length[: self.rows][live]
        self.average_length = float(lengths.mean()) if self.live_rows else 0.0
        self.acl_id_max = int(self.acl[: self.rows].max(initial=0))

    def _reserve(self, rows: int, next_no: int) -> None:
        if self.vectors is not None and rows * self.dimensions * 4 > self.vector_bytes_max:
            self.vectors = None  # from here on vectors are compared by SQL
        if rows > len(self.number):
            size = max(ROWS_MIN, rows + rows // 2)
            for name in ("number", "length", "acl", "document", "is_live", "has_vector"):
                setattr(self, name, _grown(getattr(self, name), size))
            if self.vectors is not None:
                most = max(rows, self.vector_bytes_max // (self.dimensions * 4))
                self.vectors = _grown(self.vectors, min(size, most))
        if next_no > len(self.position_of):
            size = max(ROWS_MIN, next_no + next_no // 2)
            grown = np.full(size, GONE, np.int32)
            grown[: len(self.position_of)] = self.position_of
            self.position_of = grown


def _grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.zeros((size, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


async def catch_up(database: Any, snapshot: GenerationSnapshot) -> GenerationSnapshot:
    """Bring a snapshot to the database's present; a fresh one where events were forgotten or too much is dead."""
    async with database.transaction(isolation="repeatable_read", readonly=True) as connection:
        row = await connection.fetchrow(
            "SELECT epoch, events_after, next_chunk_no FROM generation WHERE id = $1", snapshot.generation
        )
        if row is None or row["epoch"] == snapshot.epoch:
            return snapshot
        dead = snapshot.rows - snapshot.live_rows
        if 0 <= snapshot.epoch < row["events_after"] or dead > max(ROWS_MIN, snapshot.rows * DEAD_SHARE_MAX):
            snapshot = GenerationSnapshot(
                snapshot.generation, snapshot.dimensions, vector_bytes_max=snapshot.vector_bytes_max
            )
        if snapshot.epoch >= 0:
            await _apply_events(connection, snapshot)
        await _append_chunks(connection, snapshot, row["next_chunk_no"])
        languages = await connection.fetch(
            "SELECT DISTINCT d.language FROM document d JOIN collection_source s ON s.source = d.source "
            "JOIN generation g ON g.collection = s.collection WHERE g.id = $1 AND d.language IS NOT NULL ORDER BY 1",
            snapshot.generation,
        )
    snapshot.languages = tuple(row["language"] for row in languages)
    snapshot.settle()
    snapshot.epoch = row["epoch"]
    return snapshot


async def _apply_events(connection: Any, snapshot: GenerationSnapshot) -> None:
    events = await connection.fetch(
        "SELECT DISTINCT document_no FROM index_event WHERE generation = $1 AND epoch > $2",
        snapshot.generation,
        snapshot.epoch,
    )
    if not events:
        return
    numbers = [row["document_no"] for row in events]
    live = await connection.fetch(
        "SELECT c.chunk_no, d.acl_id FROM document d JOIN chunk c ON c.document_id = d.id "
        "WHERE d.no = ANY($2::int[]) AND c.generation = $1",
        snapshot.generation,
        numbers,
    )
    snapshot.apply_events(np.array(numbers, np.int32), {row["chunk_no"]: row["acl_id"] for row in live})


async def _append_chunks(connection: Any, snapshot: GenerationSnapshot, next_no: int) -> None:
    table = vector_table(snapshot.generation)
    while True:
        embedding = "v.embedding" if snapshot.vectors is not None else "NULL"
        rows = await connection.fetch(
            f"""
            SELECT c.chunk_no, l.dl, d.acl_id, d.no AS document_no, c.vector_key IS NOT NULL AS has_vector,
                   {embedding} AS embedding
            FROM chunk c JOIN chunk_lex l USING (generation, chunk_no) JOIN document d ON d.id = c.document_id
            LEFT JOIN {table} v ON v.chunk_no = c.chunk_no
            WHERE c.generation = $1 AND c.chunk_no >= $2 AND c.chunk_no < $3 ORDER BY c.chunk_no LIMIT $4
            """,  # noqa: S608 - the table's name is made of our own integer
            snapshot.generation,
            snapshot.next_no,
            next_no,
            ROWS_PER_FETCH,
        )
        is_last = len(rows) < ROWS_PER_FETCH
        snapshot.append(rows, next_no if is_last else rows[-1]["chunk_no"] + 1)
        if is_last:
            return


class Snapshots:
    """The snapshots of a process, each refreshed by one task at a time."""

    def __init__(self, database: Any, *, clock: Clock = SYSTEM_CLOCK, vector_bytes_max: int = VECTOR_BYTES_MAX) -> None:
        self._database = database
        self._clock = clock
        self._vector_bytes_max = vector_bytes_max
        self._snapshots: dict[int, GenerationSnapshot] = {}
        self._checked_s: dict[int, float] = {}
        self._refreshing: dict[int, asyncio.Task[GenerationSnapshot]] = {}

    def note_change(self, generation: int | None) -> None:
        """Somebody changed this generation (``None``: perhaps any): look before the next search."""
        if generation is None:
            self._checked_s.clear()
        else:
            self._checked_s.pop(generation, None)

    @property
    def held(self) -> frozenset[int]:
        """The generations in memory."""
        return frozenset(self._snapshots)

    def keep_only(self, generations: frozenset[int]) -> frozenset[int]:
        """Free the memory of the generations that no longer serve; which these were."""
        gone = self.held - generations
        for generation in gone:
            del self._snapshots[generation]
            self._checked_s.pop(generation, None)
        return gone

    async def current(self, generation: int, dimensions: int, *, wait_s: float) -> tuple[GenerationSnapshot, bool]:
        """The snapshot, and whether it is as of now: one that cannot catch up within ``wait_s`` serves as it is.

        The first load is always waited for.
        """
        known = self._snapshots.get(generation)
        now = self._clock.monotonic_s()
        if known is not None and now - self._checked_s.get(generation, -POLL_S) < POLL_S:
            return known, True
        task = self._refreshing.get(generation)
        if task is None:
            task = asyncio.create_task(self._refresh(generation, dimensions))
            self._refreshing[generation] = task
            task.add_done_callback(self._finish(generation))
        if known is None:
            return await asyncio.shield(task), True
        done, _ = await asyncio.wait({task}, timeout=wait_s)
        if not done or task.exception() is not None:
            return known, False
        return task.result(), True

    def _finish(self, generation: int) -> Callable[[asyncio.Task[GenerationSnapshot]], None]:
        def finished(task: asyncio.Task[GenerationSnapshot]) -> None:
            self._refreshing.pop(generation, None)
            if not task.cancelled():
                task.exception()  # seen here, raised to those who wait

        return finished

    async def _refresh(self, generation: int, dimensions: int) -> GenerationSnapshot:
        started_s = self._clock.monotonic_s()
        self._checked_s[generation] = started_s  # before reading: a notification meanwhile makes us look again
        known = self._snapshots.get(generation) or GenerationSnapshot(
            generation, dimensions, vector_bytes_max=self._vector_bytes_max
        )
        try:
            snapshot = await catch_up(self._database, known)
        except BaseException:
            self._checked_s.pop(generation, None)
            raise
        self._snapshots[generation] = snapshot
        return snapshot

    async def aclose(self) -> None:
        """Stop what is being read."""
        for task in list(self._refreshing.values()):
            task.cancel()
        await asyncio.gather(*self._refreshing.values(), return_exceptions=True)
