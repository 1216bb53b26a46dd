"""A SQLite file as a source: opened read-only, read in threads of its own, stopped at the deadline.

The file is opened by a ``mode=ro`` URI with ``query_only``, no ATTACH and no trust in its schema. Each source has as
many threads as connections, so a file on a storage that hangs takes no thread from anybody else. The invariant: one
piece of work at a time runs on a connection, and its progress handler ends it when the deadline passed or the caller
left.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from roadbed.kernel.deadline import Deadline
from roadbed.sources.catalogue import Catalogue
from roadbed.sources.catalogue_sql import sqlite_catalogue
from roadbed.sources.errors import (
    QueryRefused,
    ResultTooLarge,
    SourceBusy,
    SourceMisdeclared,
    SourceTimeout,
    SourceUnavailable,
)
from roadbed.sources.manifest import TableConfig
from roadbed.sources.pool import Pool, PoolSettings, PoolState, Tidied
from roadbed.sources.result import Column, ColumnType, QueryResult, ResultBounds, ResultBuilder, check_columns
from roadbed.sources.rows import ROWS_PER_FETCH, STATEMENT_TIMEOUT_S, SourceRow, quoted, row_of
from roadbed.sources.sqlite_rules import Authorizer
from roadbed.sources.threads import WorkThreads

STEPS_PER_LOOK = 10_000
# SQLite waits for a lock without looking at anything else, so it waits in slices.
LOCK_WAIT_S = 0.4
LOCK_TRIES_MAX = 25
STOP_GRACE_S = 0.5
LENGTH_MAX = 1_000_000_000
EXPRESSION_DEPTH_MAX = 100

_TYPES: dict[type, ColumnType] = {int: "integer", float: "number", str: "text", bytes: "bytes"}
_TYPE_ERRORS = (OverflowError, ValueError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
_UNAVAILABLE = (
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOTADB,
)  # fmt: skip
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

T = TypeVar("T")


class SqliteConnection:
    """An open file and the work that runs on it. `run` is called by the loop, all else by its thread."""

    def __init__(self, open_file: Callable[[], tuple[sqlite3.Connection, tuple[int, int]]], path: Path) -> None:
        self.raw, self._identity = open_file()
        self.is_ready = False
        self._open_file = open_file
        self._path = path
        self.running: asyncio.Future[Any] | None = None
        self._stop = threading.Event()

    def allow(self) -> None:
        """Take back a `stop`, before the next work is handed to a thread."""
        self._stop.clear()

    def stop(self) -> None:
        """End the work that runs, from any thread."""
        self._stop.set()
        self.raw.interrupt()

    def work(self, task: Callable[[sqlite3.Connection], T], deadline: Deadline) -> T:
        """Run a task until it ends, the deadline passes or `stop` is called; `sqlite3.Error`, `OSError`."""
        if not self.is_ready:
            self._make_ready()
        self.raw.set_progress_handler(lambda: self._stop.is_set() or deadline.has_passed(), STEPS_PER_LOOK)
        for number in range(1, LOCK_TRIES_MAX + 1):
            try:
                return task(self.raw)
            except sqlite3.OperationalError as error:
                if not is_locked(error) or number == LOCK_TRIES_MAX or self._stop.is_set() or deadline.has_passed():
                    raise
        raise AssertionError("the last try returns or raises")

    def _make_ready(self) -> None:
        """Make sure that the name still means this file, and that nothing of the caller before is left."""
        if _identity(self._path) != self._identity:
            before = self.raw
            self.raw, self._identity = self._open_file()
            before.close()
        self.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LENGTH_MAX)
        self.raw.execute("PRAGMA query_only = ON")  # the statement before may have turned it off
        self.is_ready = True


class SqliteDriver:
    """Opens the file and runs work on it in threads of this source."""

    def __init__(self, name: str, path: Path, threads: int) -> None:
        self._name = name
        self._path = path
        self._threads = WorkThreads(f"source-{name}", threads)

    async def connect(self) -> SqliteConnection:
        """Open the file read-only. `SourceUnavailable`."""
        opening = self._threads.run(self._open)
        try:
            with translated(self._name):
                return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise

    def _open(self) -> SqliteConnection:
        return SqliteConnection(self._open_file, self._path)

    def _open_file(self) -> tuple[sqlite3.Connection, tuple[int, int]]:
        path = self._path.resolve()
        raw = sqlite3.connect(
            f"{path.as_uri()}?mode=ro", uri=True, timeout=0, check_same_thread=False, isolation_level=None
        )
        try:
            raw.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            raw.setlimit(sqlite3.SQLITE_LIMIT_EXPR_DEPTH, EXPRESSION_DEPTH_MAX)
            raw.execute("PRAGMA trusted_schema = OFF")
            raw.execute("PRAGMA query_only = ON")
            raw.execute("PRAGMA schema_version").fetchone()  # opening alone reads nothing of the file
        except sqlite3.Error as error:
            if not is_locked(error):  # a lock says that the file is there; the statement waits for it
                raw.close()
                raise
        raw.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000:.0f}")
        return raw, _identity(path)

    def is_usable(self, connection: SqliteConnection) -> bool:
        """Always; the first work looks at the file, which may take its time."""
        return True

    def prepare_at_once(self, connection: SqliteConnection, deadline: Deadline) -> bool:
        """Have the file looked at by the first work, in its thread: a look of its own would cost as much again."""
        connection.is_ready = False
        return True

    async def prepare(self, connection: SqliteConnection, deadline: Deadline) -> None:
        """As `prepare_at_once`."""
        connection.is_ready = False

    async def run(self, connection: SqliteConnection, task: Callable[[sqlite3.Connection], T], deadline: Deadline) -> T:
        """Run a task in a thread until the deadline; stop it when the caller leaves."""
        connection.allow()
        running = self._threads.run(connection.work, task, deadline)
        connection.running = running
        try:
            with translated(self._name):
                async with asyncio.timeout(deadline.remaining_s() + STOP_GRACE_S):
                    return await asyncio.shield(running)
        finally:
            if not running.done():
                connection.stop()
                running.add_done_callback(_ended_unseen)

    def is_tidy(self, connection: SqliteConnection) -> bool:
        """Whether no thread is in it."""
        return connection.running is None or connection.running.done()

    async def tidy(self, connection: SqliteConnection) -> Tidied:
        """Wait until the work has ended; the pool bounds how long."""
        if connection.running is not None and not connection.running.done():
            connection.stop()
            await asyncio.wait({connection.running})
        return "clean"

    async def close(self, connection: SqliteConnection) -> None:
        """Close the file."""
        self.abort(connection)

    def abort(self, connection: SqliteConnection) -> None:
        """Close the file as soon as no thread is in it."""
        if connection.running is not None and not connection.running.done():
            connection.stop()
            connection.running.add_done_callback(lambda _: connection.raw.close())
        else:
            connection.raw.close()

    def end_threads(self) -> None:
        """Let the threads end; one that hangs in the storage is not waited for."""
        self._threads.end()


class SqliteSystem:
    """One SQLite source: its connections, each with a thread of its own, and the rules of its statements."""

    kind = "sqlite"

    def __init__(self, name: str, path: Path, size: int, settings: PoolSettings) -> None:
        self._name = name
        self._driver = SqliteDriver(name, path, size)
        self._pool: Pool[SqliteConnection] = Pool(name, self._driver, size, settings)

    async def query(
        self,
        sql: str,
        args: Sequence[Any],
        deadline: Deadline,
        bounds: ResultBounds,
        *,
        authorizer: Authorizer | None = None,
    ) -> QueryResult:
        """Rows of one statement, with ``?1`` for arguments. The authorizer says what it may touch."""
        async with self._pool.lease(deadline) as connection:
            task = partial(_bounded, sql, tuple(args), bounds)
            return await self._driver.run(connection, _authorized(task, authorizer) if authorizer else task, deadline)

    async def catalogue(self, deadline: Deadline) -> Catalogue:
        """The tables and views of the file with their columns."""
        async with self._pool.lease(deadline) as connection:
            return await self._driver.run(connection, sqlite_catalogue, deadline)

    async def rows(self, table: str, config: TableConfig) -> AsyncGenerator[SourceRow, None]:
        """All rows of a table in key order, at most ``rows_max``. `SourceMisdeclared`, `SourceUnavailable`."""
        sql = f"SELECT * FROM {quoted(table)} ORDER BY {quoted(config.key)} LIMIT ?"  # noqa: S608
        async with self._pool.lease(Deadline.after(STATEMENT_TIMEOUT_S)) as connection:
            try:
                cursor = await self._page(connection, lambda raw: raw.execute(sql, (config.rows_max,)))
                try:
                    names = [column[0] for column in cursor.description]
                    while page := await self._page(connection, lambda _: cursor.fetchmany(ROWS_PER_FETCH)):
                        for record in page:
                            yield row_of(dict(zip(names, record, strict=True)), table, config)
                finally:
                    cursor.close()
            except QueryRefused as error:
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error.message}") from None

    async def _page(self, connection: SqliteConnection, task: Callable[[sqlite3.Connection], T]) -> T:
        return await self._driver.run(connection, task, Deadline.after(STATEMENT_TIMEOUT_S))

    def state(self) -> PoolState:
        """The state of the pool."""
        return self._pool.state()

    async def close(self, drain_s: float) -> None:
        """Drain and close the pool and its threads."""
        await self._pool.close(drain_s)
        self._driver.end_threads()


def _authorized(
    task: Callable[[sqlite3.Connection], QueryResult], authorizer: Authorizer
) -> Callable[[sqlite3.Connection], QueryResult]:
    def run(raw: sqlite3.Connection) -> QueryResult:
        raw.set_authorizer(authorizer)
        try:
            return task(raw)
        finally:
            raw.set_authorizer(None)

    return run


def _bounded(sql: str, args: tuple[Any, ...], bounds: ResultBounds, raw: sqlite3.Connection) -> QueryResult:
    raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(bounds.bytes_max, len(sql) * 4))
    cursor = raw.cursor()
    try:
        cursor.execute(sql, args)
        if cursor.description is None:
            raise QueryRefused("the statement gives no rows", hint="only statements that read are run")
        check_columns(len(cursor.description))
        builder = ResultBuilder(bounds)
        for row in cursor:
            if not builder.take(row):
                break
        names = [column[0] for column in cursor.description]
        rows = builder.result(()).rows
        return builder.result([_column(name, [row[place] for row in rows]) for place, name in enumerate(names)])
    finally:
        cursor.close()


def _column(name: str, values: Sequence[Any]) -> Column:
    """SQLite types values and not columns: the one type that the values have."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return Column(name, "number", "numeric")
    if len(kinds) != 1:
        return Column(name, "other", "null" if not kinds else "mixed")
    kind = _TYPES[kinds.pop()]
    return Column(name, kind, {"number": "real", "bytes": "blob"}.get(kind, kind))


def is_locked(error: sqlite3.Error) -> bool:
    """Whether another program holds a lock on the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _ended_unseen(running: asyncio.Future[Any]) -> None:
    """Nobody waits any more for how it ended, and asyncio would complain of that."""
    if not running.cancelled():
        running.exception()


def _close_late(opening: asyncio.Future[SqliteConnection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().raw.close()


@contextmanager
def translated(name: str) -> Iterator[None]:
    """SQLite's errors as this room's; its own text is passed on where it can only quote the statement."""
    try:
        yield
    except TimeoutError:
        raise SourceUnavailable(f"the file of {name} does not answer") from None
    except OSError as error:
        raise SourceUnavailable(f"the file of {name} cannot be opened: {error.strerror}") from None
    except _TYPE_ERRORS as error:
        raise QueryRefused(
            f"the statement for {name} cannot be run ({type(error).__name__})",
            hint="send one statement, with an argument of a plain type for each of its parameters, ?1 to ?n",
        ) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            raise SourceTimeout(f"{name} did not end a statement in time") from None
        if code in _LOCKED:
            raise SourceBusy(f"the file of {name} is locked by another program") from None
        if code in _UNAVAILABLE:
            raise SourceUnavailable(f"the file of {name} cannot be read: {error.sqlite_errorname}") from None
        if code == sqlite3.SQLITE_TOOBIG:
            raise ResultTooLarge(f"a value in the result of {name} is over the bound of the result") from None
        text = str(error) if code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY) else error.sqlite_errorname
        raise QueryRefused(f"{name} refused the statement: {text}") from None
