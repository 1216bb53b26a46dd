"""Changing a SQLite source: one statement in one transaction, in a connection and a thread of its own.

The file is opened for writing for each change and closed after it; readers keep their read-only connections. An
authorizer lets the statement touch rows and nothing else, so that all it does can be taken back. The invariant: what
raises anything but `EndUnknown` changed nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.sources.errors import EndUnknown, RolledBack, SourceTimeout
from roadbed.sources.errors import SourceUnavailable as Away
from roadbed.sources.sqlite import (
    EXPRESSION_DEPTH_MAX,
    LOCK_WAIT_S,
    STEPS_PER_LOOK,
    STOP_GRACE_S,
    is_locked,
    translated,
)
from roadbed.sources.sqlite_rules import changing_authorizer
from roadbed.sources.threads import WorkThreads
from roadbed.sources.writing import RETURNED_ROWS_MAX, Changed

VALUE_BYTES_MAX = 16 * 1024 * 1024
COMMIT_GRACE_S = 1.0


async def change_sqlite(
    name: str, path: Path, sql: str, args: Sequence[Any], deadline: Deadline, *, is_dry: bool
) -> Changed:
    """Run one statement and commit it, or take it back when it is dry. `RolledBack`, `EndUnknown`, `QueryRefused`."""
    threads = WorkThreads(f"source-{name}-change", 1)
    work = _Change(path, sql, tuple(args), deadline, is_dry=is_dry)
    running = threads.run(work.run)
    running.add_done_callback(_seen)
    threads.end()
    try:
        with translated(name):
            async with asyncio.timeout(deadline.remaining_s() + STOP_GRACE_S):
                return await asyncio.shield(running)
    except (Away, SourceTimeout) as error:
        if work.stop() or running.done():
            raise RolledBack(f"{name} did not make the change: {error.message}") from None
    except asyncio.CancelledError:
        work.stop()
        raise
    try:  # it is being committed: that ends soon, or on a storage that hangs
        with translated(name):
            async with asyncio.timeout(COMMIT_GRACE_S):
                return await asyncio.shield(running)
    except (Away, SourceTimeout):
        raise EndUnknown(f"{name} did not say whether the change was made") from None


class _Change:
    """One change. `run` is its thread's, `stop` is called by the loop."""

    def __init__(self, path: Path, sql: str, args: tuple[Any, ...], deadline: Deadline, *, is_dry: bool) -> None:
        self._path = path
        self._sql = sql
        self._args = args
        self._deadline = deadline
        self._is_dry = is_dry
        self._lock = threading.Lock()
        self._is_stopped = False
        self._is_committing = False

    def stop(self) -> bool:
        """Whether the change is sure not to be made; False when its commit has begun."""
        with self._lock:
            self._is_stopped = True
            return not self._is_committing

    def run(self) -> Changed:
        """Make the change. `sqlite3.Error`, `OSError`."""
        uri = f"{self._path.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)) as raw:
            raw.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            raw.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, EXPRESSION_DEPTH_MAX)
            raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
            raw.execute("PRAGMA trusted_schema = OFF")
            raw.execute("PRAGMA foreign_keys = ON")
            raw.set_progress_handler(self._is_over, STEPS_PER_LOOK)
            self._patiently(raw, "BEGIN IMMEDIATE")
            changed = self._changed(raw)
            raw.set_progress_handler(None, 0)
            with self._lock:
                self._is_committing = not (self._is_dry or self._is_over())
            if self._is_committing:
                self._commit(raw)
            elif not self._is_dry:
                raise SourceTimeout("the time of the change was over before its commit")
            return changed  # closing takes back what was not committed

    def _changed(self, raw: sqlite3.Connection) -> Changed:
        raw.set_authorizer(changing_authorizer())
        try:
            with closing(raw.cursor()) as cursor:
                cursor.execute(self._sql, self._args)
                columns = tuple(column[0] for column in cursor.description or ())
                returned: list[tuple[Any, ...]] = []
                for row in cursor:
                    if len(returned) < RETURNED_ROWS_MAX:
                        returned.append(tuple(row))
        finally:
            raw.set_authorizer(None)
        (count,) = raw.execute("SELECT changes()").fetchone()
        return Changed(int(count), columns, tuple(returned))

    def _commit(self, raw: sqlite3.Connection) -> None:
        try:
            self._patiently(raw, "COMMIT")
        except sqlite3.OperationalError as error:
            if is_locked(error):
                raise
            raise EndUnknown(f"the file did not say whether the change was made ({error.sqlite_errorname})") from None

    def _patiently(self, raw: sqlite3.Connection, sql: str) -> None:
        """Run a statement that waits for other programs' locks, in slices, until the deadline."""
        while True:
            try:
                raw.execute(sql)
                return
            except sqlite3.OperationalError as error:
                if not is_locked(error) or self._is_over():
                    raise

    def _is_over(self) -> bool:
        return self._is_stopped or self._deadline.has_passed()


def _seen(running: asyncio.Future[Any]) -> None:
    """Nobody may wait any more for how it ended, and asyncio would complain of that."""
    if not running.cancelled():
        running.exception()
