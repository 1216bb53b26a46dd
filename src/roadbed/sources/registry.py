"""`Sources`: the connections to every data system that a manifest declares, shared by ``knowledge/`` and ``tools/``.

It opens a source at its first use, drains it when the manifest changed it, and makes and seeds ``embedded:`` databases
(an owner role seeds, the read-only role reads). Pools, breakers and queues are each source's own. The invariant:
nothing that one source does, or fails to do, holds up another.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, RoadbedError
from roadbed.kernel.secrets import Secret, resolve_secret
from roadbed.sources.bulkhead import Bulkhead
from roadbed.sources.catalogue import Catalogue
from roadbed.sources.duckdb import DuckdbSystem
from roadbed.sources.errors import SourceMayWrite, SourceUnavailable
from roadbed.sources.health import SourceHealth as SourceHealth
from roadbed.sources.manifest import (
    DatabaseSource,
    DuckdbSource,
    MysqlSource,
    PostgresSource,
    SourceConfig,
    SqliteSource,
)
from roadbed.sources.mysql import MysqlSystem
from roadbed.sources.mysql_rights import mysql_warning
from roadbed.sources.mysql_writing import change_mysql
from roadbed.sources.pool import WAITING_MAX, PoolSettings
from roadbed.sources.postgres import PostgresSystem, ReadConnection
from roadbed.sources.result import RESULT_BYTES_MAX, ROWS_MAX, QueryResult, ResultBounds
from roadbed.sources.rights import rights_warning
from roadbed.sources.rows import STATEMENT_TIMEOUT_S
from roadbed.sources.sqlite import SqliteSystem
from roadbed.sources.sqlite_rules import Authorizer
from roadbed.sources.sqlite_writing import change_sqlite
from roadbed.sources.writing import Changed, change

log = logging.getLogger("roadbed.sources")

EMBEDDED = "embedded:"
SEED_BYTES_MAX = 64 * 1024 * 1024
SEED_TIMEOUT_S = 120.0
SEED_CONNECT_S = 10.0
READING_WAIT_S = 600.0
DRAIN_S = 30.0
CLOSE_S = 2.0
CATALOGUE_S = 60.0

System = PostgresSystem | SqliteSystem | MysqlSystem | DuckdbSystem
"""What answers for one source: ``query``, ``rows``, ``state`` and ``close``, whatever the kind."""


class EmbeddedDatabase(Protocol):
    """The two ways into a database of the embedded server."""

    @property
    def owner_dsn(self) -> str:
        """The connection string of the role that owns the tables: for seeding and a ``write_dsn`` with this name."""
        ...

    @property
    def reader_dsn(self) -> str:
        """The connection string of the role that may read and nothing else."""
        ...


class EmbeddedServer(Protocol):
    """What makes ``embedded:NAME`` databases."""

    async def create_database(self, name: str) -> EmbeddedDatabase:
        """The database of this name, made where it is missing."""
        ...


@dataclass(slots=True)
class _Open:
    """A system that was opened for what of its configuration is its ``target``.

    Readings of whole tables take at most half of the connections, so that tools find one where there are two.
    """

    target: tuple[object, ...]
    system: System
    readings: Bulkhead
    catalogue: Catalogue | None = None
    catalogue_until_s: float = 0.0


class Sources:
    """Connections by source name, for one workspace. Each source has its own pool, breaker and queue."""

    def __init__(self, folder: Path, embedded: EmbeddedServer | None, settings: PoolSettings | None = None) -> None:
        self._folder = folder
        self._embedded = embedded
        self._settings = settings or PoolSettings()
        self._declared: Mapping[str, SourceConfig] = {}
        self._open: dict[str, _Open] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._joiner: DuckdbSystem | None = None

    async def use(self, sources: Mapping[str, SourceConfig]) -> None:
        """Take over the manifest's sources. Connections of those that changed or are gone are drained meanwhile."""
        self._declared = dict(sources)
        for name in list(self._open):
            config = sources.get(name)
            if config is None or self._open[name].target != _target(config):
                self._drain(name, DRAIN_S)

    async def make_embedded(self) -> None:
        """Make and seed the declared databases of our own server now, for other processes that only use them."""
        for name, config in list(self._declared.items()):
            if isinstance(config, PostgresSource) and config.dsn.startswith(EMBEDDED):
                try:
                    await self._opened(name, Deadline.after(SEED_TIMEOUT_S))
                except RoadbedError as error:
                    log.warning("the embedded database of %s is not ready: %s", name, error.message)

    async def rows(self, source: str, table: str) -> AsyncIterator[tuple[str, Mapping[str, Any], str]]:
        """(key, columns, version) of every row of a declared table, in key order, at most its ``rows_max``.

        `ConfigError`, `SourceMisdeclared`, `SourceUnavailable`.
        """
        config = self._declared.get(source)
        if not isinstance(config, DatabaseSource) or table not in config.tables:
            raise ConfigError(f"no source declares the table {source}.{table}")
        opened = await self._opened(source, Deadline.after(STATEMENT_TIMEOUT_S))
        await opened.readings.enter(Deadline.after(READING_WAIT_S))
        try:
            async with aclosing(opened.system.rows(table, config.tables[table])) as rows:
                async for row in rows:
                    yield row.key, row.values, row.version
        finally:
            opened.readings.leave()

    @asynccontextmanager
    async def connection(self, name: str, deadline: Deadline) -> AsyncIterator[ReadConnection]:
        """A connection to a PostgreSQL source, in one read-only transaction that ends with the block.

        `SourceUnavailable`, `SourceBusy`, `SourceTimeout`, `ConfigError`.
        """
        system = (await self._opened(name, deadline)).system
        if not isinstance(system, PostgresSystem):
            raise ConfigError(f"the source {name} is not a PostgreSQL database")
        async with system.connection(deadline) as connection:
            yield connection

    async def query(
        self,
        name: str,
        sql: str,
        args: Sequence[Any] = (),
        *,
        deadline: Deadline,
        rows_max: int = ROWS_MAX,
        bytes_max: int = RESULT_BYTES_MAX,
        cost_max: float | None = None,
        authorizer: Authorizer | None = None,
    ) -> QueryResult:
        """Rows of one reading statement, with ``$1`` (PostgreSQL), ``?1`` (SQLite) or ``?`` for its arguments.

        As `connection`, and `QueryRefused`, `ResultTooLarge`. Cancelling the caller stops the statement in the source.
        ``cost_max`` bounds what PostgreSQL's planner expects, ``authorizer`` what SQLite lets the statement touch.
        """
        system = (await self._opened(name, deadline)).system
        bounds = ResultBounds(rows_max, bytes_max)
        if isinstance(system, SqliteSystem):
            return await system.query(sql, args, deadline, bounds, authorizer=authorizer)
        if isinstance(system, PostgresSystem):
            return await system.query(sql, args, deadline, bounds, cost_max=cost_max)
        return await system.query(sql, args, deadline, bounds)

    async def catalogue(self, name: str, deadline: Deadline) -> Catalogue:
        """The tables and columns that a source's role may read, at most `CATALOGUE_S` old. As `query`."""
        opened = await self._opened(name, deadline)
        now_s = time.monotonic()
        if opened.catalogue is not None and now_s < opened.catalogue_until_s:
            return opened.catalogue
        found = await opened.system.catalogue(deadline)
        opened.catalogue, opened.catalogue_until_s = found, now_s + CATALOGUE_S
        return found

    def forget_catalogue(self, name: str) -> None:
        """Ask for the catalogue anew at the next call: a statement showed that it is no longer right."""
        if name in self._open:
            self._open[name].catalogue = None

    async def require_reader(self, name: str, deadline: Deadline) -> None:
        """`SourceMayWrite` when a source's role may do more than read; those of our own server are made right."""
        config = self._declared.get(name)
        if isinstance(config, MysqlSource):
            system = (await self._opened(name, deadline)).system
            assert isinstance(system, MysqlSystem)
            await system.require_reader(deadline)
            return
        if not isinstance(config, PostgresSource) or config.dsn.startswith(EMBEDDED):
            return
        system = (await self._opened(name, deadline)).system
        assert isinstance(system, PostgresSystem)
        if system.rights is None:
            async with system.connection(deadline):
                pass
        if system.rights is None:
            raise SourceMayWrite(f"the source {name} does not tell what its role may do, so tools do not use it")
        warned = rights_warning(system.rights, list(config.tables))
        if warned is not None:
            raise SourceMayWrite(f"{name}: {warned.message}, so tools do not use it", hint="\n".join(warned.fix))

    async def change(self, name: str, sql: str, args: Sequence[Any], deadline: Deadline, *, is_dry: bool) -> Changed:
        """Run one changing statement with the source's ``write_dsn``; dry, it is taken back. As `writing.change`."""
        match self._declared.get(name):
            case PostgresSource(write_dsn=dsn) as config if dsn:
                await self._opened(name, deadline)  # makes and seeds an embedded one
                credential = await self._write_credential(name, config)
                return await change(name, credential, sql, args, deadline, is_dry=is_dry)
            case MysqlSource(write_dsn=dsn) if dsn:
                reference = self._reference(name, dsn, "write_dsn")
                return await change_mysql(name, reference, sql, args, deadline, is_dry=is_dry)
            case SqliteSource(path=path, write=True):
                return await change_sqlite(name, self._path(path), sql, args, deadline, is_dry=is_dry)
        raise ConfigError(
            f"the source {name} may not be changed", hint="give it a write_dsn, or a SQLite file `write: true`"
        )

    async def _write_credential(self, name: str, config: PostgresSource) -> Callable[[], Secret]:
        if not config.write_dsn.startswith(EMBEDDED):
            return self._reference(name, config.write_dsn, "write_dsn")
        if self._embedded is None:
            raise ConfigError(f"sources.{name}.write_dsn needs the embedded database, and --database names another")
        database = await self._embedded.create_database(config.write_dsn.removeprefix(EMBEDDED))
        made = Secret(database.owner_dsn)
        return lambda: made

    async def join_frames(
        self,
        tables: Mapping[str, QueryResult],
        sql: str,
        deadline: Deadline,
        *,
        rows_max: int = ROWS_MAX,
        bytes_max: int = RESULT_BYTES_MAX,
    ) -> QueryResult:
        """Rows of one SELECT over results of several sources, each a table of the given name. As `query`.

        It runs in an embedded DuckDB in a worker process, which sees these tables and nothing else.
        """
        if self._joiner is None:
            self._joiner = DuckdbSystem("joins", self._folder, DuckdbSource(), self._settings)
        return await self._joiner.join(tables, sql, deadline, ResultBounds(rows_max, bytes_max))

    def states(self) -> list[SourceHealth]:
        """The health of every declared source that has connections, by name. Asks nobody."""
        found = []
        for name, config in sorted(self._declared.items()):
            if isinstance(config, DatabaseSource):
                opened = self._open.get(name)
                found.append(_health(name, config, opened.system if opened else None))
        return found

    async def _opened(self, name: str, deadline: Deadline) -> _Open:
        """The system of a declared source, opened at its first use. `ConfigError`, `SourceUnavailable`."""
        deadline.check(f"asking {name}")
        known = self._known(name)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                return await self._open_once(name)
        except TimeoutError:
            raise SourceUnavailable(f"the source {name} was not opened before the deadline") from None

    def _known(self, name: str) -> _Open | None:
        """The system that is open for what the manifest says now."""
        config = self._declared.get(name)
        known = self._open.get(name)
        return known if known is not None and config is not None and known.target == _target(config) else None

    async def _open_once(self, name: str) -> _Open:
        async with self._opening.setdefault(name, asyncio.Lock()):
            config = self._declared.get(name)
            known = self._known(name)
            if known is not None:
                return known
            if not isinstance(config, DatabaseSource):
                raise ConfigError(f"no source with connections is called {name}")
            system = await self._system(name, config)
            if name in self._open:  # the manifest changed while another caller opened it
                self._drain(name, DRAIN_S)
            places = max(1, config.connections_max // 2)
            self._open[name] = _Open(_target(config), system, Bulkhead(name, places, WAITING_MAX))
            return self._open[name]

    async def _system(self, name: str, config: DatabaseSource) -> System:
        match config:
            case PostgresSource():
                credential = await self._credential(name, config)
                return PostgresSystem(name, credential, config.connections_max, self._settings)
            case MysqlSource():
                return MysqlSystem(name, self._reference(name, config.dsn), config.connections_max, self._settings)
            case SqliteSource():
                return SqliteSystem(name, self._path(config.path), config.connections_max, self._settings)
            case DuckdbSource():
                return DuckdbSystem(name, self._folder, config, self._settings)
            case _:
                raise ConfigError(f"no source with connections is called {name}")

    def _path(self, text: str) -> Path:
        return self._folder / Path(text).expanduser()

    async def _credential(self, name: str, config: PostgresSource) -> Callable[[], Secret]:
        """How to get the connection string: looked up at every connect, so that a new secret needs no restart."""
        if config.dsn.startswith(EMBEDDED):
            made = await self._embedded_dsn(name, config)
            return lambda: made
        return self._reference(name, config.dsn)

    def _reference(self, name: str, dsn: str, setting: str = "dsn") -> Callable[[], Secret]:
        return lambda: resolve_secret(dsn, base=self._folder, where=f"sources.{name}.{setting}")

    async def _embedded_dsn(self, name: str, config: PostgresSource) -> Secret:
        if self._embedded is None:
            raise ConfigError(
                f"sources.{name}: {config.dsn} needs the embedded database, and --database names another",
                hint="give the source a dsn of its own",
            )
        database = await self._embedded.create_database(config.dsn.removeprefix(EMBEDDED))
        if config.seed:
            await self._seed(name, self._folder / config.seed, database)
        return Secret(database.reader_dsn)

    async def _seed(self, name: str, path: Path, database: EmbeddedDatabase) -> None:
        """Run the seed file once per content, in one transaction, and remember its digest in the database itself."""
        sql = _read_seed(name, path)
        digest = hashlib.sha256(sql.encode()).hexdigest()
        try:
            connection = await asyncpg.connect(database.owner_dsn, timeout=SEED_CONNECT_S)
            try:
                async with connection.transaction():
                    await connection.execute("CREATE TABLE IF NOT EXISTS roadbed_seed (digest text PRIMARY KEY)")
                    if await connection.fetchval("SELECT count(*) FROM roadbed_seed") == 0:
                        await connection.execute(sql, timeout=SEED_TIMEOUT_S)
                        await connection.execute("INSERT INTO roadbed_seed VALUES ($1)", digest)
            finally:
                await connection.close(timeout=SEED_CONNECT_S)
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise SourceUnavailable(
                f"the embedded database of {name} cannot be seeded ({type(error).__name__})"
            ) from None
        except asyncpg.PostgresError as error:
            raise ConfigError(f"the seed {path.name} of {name} failed: {error.args[0]}") from None

    def _drain(self, name: str, drain_s: float) -> None:
        task = asyncio.create_task(self._open.pop(name).system.close(drain_s), name=f"source {name}: drain")
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self) -> None:
        """Close every connection, after what is in use got `CLOSE_S` to end."""
        for name in list(self._open):
            self._drain(name, CLOSE_S)
        if self._joiner is not None:
            await self._joiner.close(CLOSE_S)
        if self._draining:
            await asyncio.wait(self._draining)


def _target(config: SourceConfig) -> tuple[object, ...]:
    """What makes the connections of a source; its tables and labels may change without new ones."""
    match config:
        case PostgresSource():
            return ("postgres", config.dsn, config.seed, config.connections_max)
        case SqliteSource():
            return ("sqlite", config.path, config.connections_max)
        case MysqlSource():
            return ("mysql", config.dsn, config.connections_max)
        case DuckdbSource():
            files = tuple(sorted(config.files.items()))
            bounds = (config.connections_max, config.memory_mib_max, config.threads_max)
            return ("duckdb", config.path, files, bounds)
        case _:
            return ()


def _health(name: str, config: DatabaseSource, system: System | None) -> SourceHealth:
    warning = None
    if isinstance(system, PostgresSystem) and system.rights is not None:
        warning = rights_warning(system.rights, list(config.tables))
    if isinstance(system, MysqlSystem) and system.rights is not None:
        warning = mysql_warning(system.rights, list(config.tables))
    kind = str(type(config).__struct_config__.tag)
    return SourceHealth(name, kind, system.state() if system else None, (warning,) if warning else ())


def _read_seed(name: str, path: Path) -> str:
    try:
        if path.stat().st_size > SEED_BYTES_MAX:
            raise ConfigError(f"the seed of {name} is larger than {SEED_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the seed {path.name} of {name} cannot be read: {error.strerror}") from None
