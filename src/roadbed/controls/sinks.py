"""Every place on this side that bytes of a request could end in, for the canary control to search raw.

Rows that were written since the run began are copied out of every table (`COPY`, found in the catalogue, so a table
that is added later is searched too); with the embedded server its own files follow after a checkpoint, write-ahead log
included; then the files of the state folder and what was logged. Values are unique to a run, so what is older cannot
hold them. The invariant: what was not searched for its size is counted and told, never passed over in silence.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from roadbed.controls.searching import Searcher
from roadbed.store.database import Database

PIECE_BYTES: Final = 4 * 1024 * 1024
FILES_BYTES_MAX: Final = 4 * 1024 * 1024 * 1024
LOG_CHARACTERS_MAX: Final = 16 * 1024 * 1024
COPY_TIMEOUT_S: Final = 120.0
CLOCK_SLACK_S: Final = 2.0
Superuser = Callable[[str], AbstractAsyncContextManager[Any]]


class LogCapture(logging.Handler):
    """Keeps what this process logs, as it would be written, within a bound."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[str] = []
        self._size = 0
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        line = self.format(record)
        if self._size < LOG_CHARACTERS_MAX:
            self._size += len(line)
            self._lines.append(line)

    def data(self) -> bytes:
        """All that was kept."""
        return "\n".join(self._lines).encode("utf-8", "replace")


@contextmanager
def captured_log() -> Iterator[LogCapture]:
    """A capture of all loggers, for the length of a block."""
    handler = LogCapture()
    apart = [logger for logger in logging.Logger.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    loggers = [logging.getLogger(), *(logger for logger in apart if not logger.propagate)]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class Sinks:
    """The tables and files of one deployment. `begin` before anything is planted."""

    def __init__(self, database: Database, state: Path, superuser: Superuser | None) -> None:
        self._database = database
        self._state = state
        self._superuser = superuser
        self._began_at = 0.0
        self._first_xid = ""
        self.searched: list[str] = []
        self.passed_over_bytes = 0

    async def begin(self) -> None:
        """From now on, what is written is looked at."""
        self._began_at = time.time() - CLOCK_SLACK_S
        self._first_xid = str(await self._database.fetchval("SELECT pg_current_xact_id()::xid::text"))
        self.searched, self.passed_over_bytes = [], 0

    async def search(self, searcher: Searcher) -> None:
        """Feed all of it."""
        await self._tables(searcher)
        if self._superuser is not None:
            async with self._superuser("roadbed") as connection:
                await connection.execute("CHECKPOINT")
        await asyncio.to_thread(self._files, searcher)

    async def _tables(self, searcher: Searcher) -> None:
        rows = await self._database.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY 1",
            self._database.schema,
        )
        for row in rows:
            await self._table(searcher, str(row["relname"]))

    async def _table(self, searcher: Searcher, table: str) -> None:
        sink = f"table:{table}"

        async def take(piece: bytes) -> None:
            searcher.feed(sink, piece)

        async with self._database.transaction(timeout_s=COPY_TIMEOUT_S) as connection:
            await connection.copy_from_query(
                f'SELECT * FROM "{table}" WHERE age(xmin) <= age($1::text::xid)',  # noqa: S608 - of the catalogue
                self._first_xid,
                output=take,
                timeout=COPY_TIMEOUT_S,
            )
        searcher.end(sink)
        self.searched.append(sink)

    def _files(self, searcher: Searcher) -> None:
        left = FILES_BYTES_MAX
        for folder, _, names in os.walk(self._state):
            for name in sorted(names):
                path = Path(folder) / name
                try:
                    status = path.lstat()
                    if path.is_symlink() or not path.is_file() or status.st_mtime < self._began_at:
                        continue
                    if status.st_size > left:
                        self.passed_over_bytes += status.st_size
                        continue
                    left -= status.st_size
                    self._file(searcher, path)
                except FileNotFoundError:
                    continue

    def _file(self, searcher: Searcher, path: Path) -> None:
        relative = path.relative_to(self._state).as_posix()
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                searcher.feed(relative, piece)
        searcher.end(relative)
        self.searched.append(relative)
