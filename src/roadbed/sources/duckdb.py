"""DuckDB as a source: a file, or CSV and Parquet files as tables, read by worker processes of the source's own.

DuckDB blocks its thread and takes memory, so it never runs in the serving process. A worker is what a connection is to
other kinds: the pool starts it, ends it after `IDLE_S` without work, and the breaker counts its crashes. At the
deadline, or when the caller leaves, the statement is interrupted and a worker that does not heed is killed. The
invariant: one request at a time is with a worker, and one that was killed is never used again.
"""

from __future__ import annotations

import asyncio
import glob
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.sources.catalogue import Catalogue, words_of
from roadbed.sources.duckdb_messages import (
    HEADER_BYTES,
    MESSAGE_BYTES_MAX,
    Opening,
    Reply,
    Request,
    columns_of,
    frame_of,
    framed,
    packed_rows,
    reply_decoder,
    unpacked_rows,
)
from roadbed.sources.errors import QueryRefused, ResultTooLarge, SourceMisdeclared, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import DuckdbSource, TableConfig
from roadbed.sources.pool import Pool, PoolSettings, PoolState, Tidied
from roadbed.sources.result import QueryResult, ResultBounds
from roadbed.sources.rows import ROWS_PER_FETCH, STATEMENT_TIMEOUT_S, SourceRow, quoted, row_of
from roadbed.store.worker_process import start_worker

IDLE_S = 60.0
START_S = 10.0
STOP_GRACE_S = 0.25
FILES_MAX = 1_000
FRAMES_MAX = 16
CATALOGUE_COLUMNS_MAX = 20_000
_CATALOGUE_SQL = (
    "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns "
    "WHERE table_schema <> 'information_schema' ORDER BY table_schema, table_name, ordinal_position"
)
_VIEWS_SQL = "SELECT schema_name, view_name, sql FROM duckdb_views() WHERE NOT internal"

Identity = tuple[tuple[str, int, int, int], ...]


class DuckdbWorker:
    """One worker process and its pipes."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, identity: Identity) -> None:
        self.process = process
        self.identity = identity
        self.is_spoiled = False
        self._name = name

    async def begin(self, opening: Opening) -> None:
        """Say what to open, and wait until the worker has limited itself."""
        self._stdin.write(framed(opening))
        await self._reply()

    async def ask(self, request: Request, deadline: Deadline) -> Reply:
        """One request, one reply. `SourceTimeout`, `SourceUnavailable`, `QueryRefused`, `ResultTooLarge`."""
        try:
            message = framed(request)
        except ValueError:
            raise ResultTooLarge("the tables and arguments of the statement are too large for one request") from None
        reading: asyncio.Task[Reply] | None = None
        try:
            self._stdin.write(message)
            reading = asyncio.create_task(self._reply(), name=f"source {self._name}: reply")
            async with asyncio.timeout(deadline.remaining_s()):
                reply = await asyncio.shield(reading)
        except TimeoutError:
            raise SourceTimeout(f"{self._name} did not end a statement in time") from None
        finally:
            if reading is not None and not reading.done():
                await self._stop(reading)
        return self._checked(reply)

    async def _stop(self, reading: asyncio.Task[Reply]) -> None:
        """Interrupt the statement; kill the worker when that does not end it."""
        self._stdin.write(framed(Request("stop")))
        await asyncio.wait({reading}, timeout=STOP_GRACE_S)
        if not reading.done():
            self.kill()
            reading.cancel()
        with suppress(asyncio.CancelledError, SourceUnavailable):
            await asyncio.wait({reading})
            reading.result()

    async def _reply(self) -> Reply:
        stdout = self.process.stdout
        if stdout is None:
            raise SourceUnavailable(f"the worker of {self._name} has no pipe")
        try:
            length = int.from_bytes(await stdout.readexactly(HEADER_BYTES), "big")
            if length > MESSAGE_BYTES_MAX:
                raise SourceUnavailable(f"the worker of {self._name} sends too much")
            return reply_decoder.decode(await stdout.readexactly(length))
        except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError):
            self.is_spoiled = True
            raise SourceUnavailable(
                f"the worker of {self._name} ended", hint="ask again: a new one is started"
            ) from None

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        if self.process.stdin is None or self.is_spoiled:
            raise SourceUnavailable(f"the worker of {self._name} ended")
        return self.process.stdin

    def _checked(self, reply: Reply) -> Reply:
        name = self._name
        match reply.trouble:
            case "":
                return reply
            case "timeout":
                raise SourceTimeout(f"{name} did not end a statement in time")
            case "memory":
                raise QueryRefused(
                    f"the statement needs more memory than {name} may take",
                    hint="read less, or raise memory_mib_max of the source",
                )
            case "too_large":
                raise ResultTooLarge(reply.message)
            case "unavailable":
                raise SourceUnavailable(f"the files of {name} cannot be read")
            case _:
                raise QueryRefused(f"{name} refused the statement: {reply.message}")

    def kill(self) -> None:
        """End the process and what it started, now."""
        self.is_spoiled = True
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    async def end(self) -> None:
        """Kill the process and wait until it is gone and its pipes are closed."""
        self.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.stdout is not None:
            # Until end of file: only then is the transport closed, and nothing is left to the garbage collector.
            while await self.process.stdout.read(1 << 20):
                pass
        await self.process.wait()


class DuckdbDriver:
    """Starts and ends the workers."""

    def __init__(self, name: str, folder: Path, config: DuckdbSource) -> None:
        self._name = name
        self._folder = folder
        self._config = config
        self._ends: set[asyncio.Task[None]] = set()

    async def connect(self) -> DuckdbWorker:
        """A worker that has opened nothing yet, but knows what. `SourceUnavailable`."""
        opening, identity = await asyncio.to_thread(self._opening)
        process = await start_worker("roadbed.sources.duckdb_worker", environment={"TZ": "UTC"})
        worker = DuckdbWorker(self._name, process, identity)
        try:
            await worker.begin(opening)
        except BaseException:
            self.abort(worker)
            raise
        return worker

    def _opening(self) -> tuple[Opening, Identity]:
        config = self._config
        files = {table: self._matching(table, pattern) for table, pattern in config.files.items()}
        path = str((self._folder / Path(config.path).expanduser()).resolve()) if config.path else ""
        opening = Opening(path, files, config.memory_mib_max, config.threads_max)
        names = [path] if path else sorted({name for found in files.values() for name in found})
        try:
            identity = tuple((name, *_stamp(name)) for name in names)
        except OSError as error:
            raise SourceUnavailable(f"a file of {self._name} cannot be opened: {error.strerror}") from None
        return opening, identity

    def _matching(self, table: str, pattern: str) -> list[str]:
        whole = self._folder / Path(pattern).expanduser()
        found = sorted(str(Path(name).resolve()) for name in glob.iglob(str(whole), recursive=True))
        if not found:
            raise SourceUnavailable(f"no file matches the table {table} of {self._name}")
        if len(found) > FILES_MAX:
            raise ConfigError(f"sources.{self._name}.files.{table}: more than {FILES_MAX} files match")
        return found

    def is_usable(self, connection: DuckdbWorker) -> bool:
        """Whether the process still runs."""
        return not connection.is_spoiled and connection.process.returncode is None

    def prepare_at_once(self, connection: DuckdbWorker, deadline: Deadline) -> bool:
        """Never: that needs an answer."""
        return False

    async def prepare(self, connection: DuckdbWorker, deadline: Deadline) -> None:
        """Make sure that the files are those which the worker opened. `SourceUnavailable`."""
        _, identity = await asyncio.to_thread(self._opening)
        if identity != connection.identity:
            raise SourceUnavailable(f"the files of {self._name} were changed")

    def is_tidy(self, connection: DuckdbWorker) -> bool:
        """Whether the worker may be used again: a statement that was left was ended by then."""
        return self.is_usable(connection)

    async def tidy(self, connection: DuckdbWorker) -> Tidied:
        """Whether the worker may be used again."""
        if self.is_usable(connection):
            return "clean"
        await connection.end()
        return "spoiled"

    async def close(self, connection: DuckdbWorker) -> None:
        """End the process."""
        await connection.end()

    def abort(self, connection: DuckdbWorker) -> None:
        """End the process without waiting for it."""
        connection.kill()
        task = asyncio.get_running_loop().create_task(connection.end(), name=f"source {self._name}: end")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def wait_for_ends(self) -> None:
        """Return when no process is left."""
        if self._ends:
            await asyncio.wait(self._ends)


class DuckdbSystem:
    """One DuckDB source; with neither path nor files, a place to join results."""

    kind = "duckdb"

    def __init__(self, name: str, folder: Path, config: DuckdbSource, settings: PoolSettings) -> None:
        self._name = name
        self._files = frozenset(config.files)
        self._driver = DuckdbDriver(name, folder, config)
        # A worker takes about 0.4 s to start where a connection takes milliseconds, and memory while it waits.
        slower = replace(settings, connect_s=START_S, probe_s=START_S, idle_s=min(IDLE_S, settings.idle_s))
        self._pool: Pool[DuckdbWorker] = Pool(name, self._driver, config.connections_max, slower)

    async def query(self, sql: str, args: Sequence[Any], deadline: Deadline, bounds: ResultBounds) -> QueryResult:
        """Rows of one SELECT, with ``?`` or ``$1`` for arguments."""
        request = Request("query", sql, packed_rows([args])[0], bounds.rows_max, bounds.bytes_max)
        return await self._result(request, deadline)

    async def join(
        self, tables: Mapping[str, QueryResult], sql: str, deadline: Deadline, bounds: ResultBounds
    ) -> QueryResult:
        """Rows of one SELECT over results of other statements, in a database that holds nothing else."""
        if not 1 <= len(tables) <= FRAMES_MAX:
            raise QueryRefused(f"a join takes 1 to {FRAMES_MAX} tables", hint="join fewer results")
        frames = {name: frame_of(result) for name, result in tables.items()}
        return await self._result(Request("query", sql, [], bounds.rows_max, bounds.bytes_max, frames), deadline)

    async def _result(self, request: Request, deadline: Deadline) -> QueryResult:
        async with self._pool.lease(deadline) as worker:
            reply = await worker.ask(request, deadline)
        columns = columns_of(reply)
        return QueryResult(columns, unpacked_rows(columns, reply.rows), reply.is_truncated, reply.size_bytes)

    async def rows(self, table: str, config: TableConfig) -> AsyncGenerator[SourceRow, None]:
        """All rows of a table in key order, at most ``rows_max``. `SourceMisdeclared`, `SourceUnavailable`."""
        sql = f"SELECT * FROM {quoted(table)} ORDER BY {quoted(config.key)} LIMIT {int(config.rows_max)}"  # noqa: S608
        async with self._pool.lease(Deadline.after(STATEMENT_TIMEOUT_S)) as worker:
            try:
                opened = await worker.ask(Request("open", sql), Deadline.after(STATEMENT_TIMEOUT_S))
                columns = columns_of(opened)
                names = [column.name for column in columns]
                more = Request("next", rows_max=ROWS_PER_FETCH)
                while page := (await worker.ask(more, Deadline.after(STATEMENT_TIMEOUT_S))).rows:
                    for record in unpacked_rows(columns, page):
                        yield row_of(dict(zip(names, record, strict=True)), table, config)
            except QueryRefused as error:
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error.message}") from None

    async def catalogue(self, deadline: Deadline) -> Catalogue:
        """The tables and columns of the file, or those of the declared files."""
        bounds = ResultBounds(CATALOGUE_COLUMNS_MAX, 8 * 1024 * 1024)
        found = await self.query(_CATALOGUE_SQL, (), deadline, bounds)
        views = await self.query(_VIEWS_SQL, (), deadline, bounds)
        tables: dict[str, dict[str, str]] = {}
        for schema, table, column, kind in found.rows:
            tables.setdefault(table if schema == "main" else f"{schema}.{table}", {})[column] = kind
        reads = {
            view if schema == "main" else f"{schema}.{view}": words_of(text) - {view} if text else None
            for schema, view, text in views.rows
            if view not in self._files  # those are views of ours
        }
        return Catalogue("duckdb", tables, None, reads)

    def state(self) -> PoolState:
        """The state of the pool."""
        return self._pool.state()

    async def close(self, drain_s: float) -> None:
        """Drain and close the pool; no process is left afterwards."""
        await self._pool.close(drain_s)
        await self._driver.wait_for_ends()


def _stamp(name: str) -> tuple[int, int, int]:
    status = Path(name).stat()
    return status.st_dev, status.st_ino, status.st_mtime_ns
