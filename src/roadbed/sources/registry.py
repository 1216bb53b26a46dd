"""`Sources`: opens the row readers that a manifest declares, and makes and seeds ``embedded:`` databases.

An embedded database belongs to an owner role that only seeds it; reading uses its read-only role.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret, resolve_secret
from roadbed.sources.manifest import PostgresSource, SourceConfig, SqliteSource
from roadbed.sources.postgres import PostgresRows
from roadbed.sources.rows import CONNECT_TIMEOUT_S, RowReader, SourceUnavailable
from roadbed.sources.sqlite import SqliteRows

EMBEDDED = "embedded:"
SEED_BYTES_MAX = 64 * 1024 * 1024
SEED_TIMEOUT_S = 120.0


class EmbeddedDatabase(Protocol):
    """The two ways into a database of the embedded server."""

    @property
    def owner_dsn(self) -> str:
        """For seeding."""
        ...

    @property
    def reader_dsn(self) -> str:
        """For everything else."""
        ...


class EmbeddedServer(Protocol):
    """What makes ``embedded:NAME`` databases."""

    async def create_database(self, name: str) -> EmbeddedDatabase:
        """The database of this name, made where it is missing."""
        ...


class Sources:
    """Row readers by source name, for one workspace."""

    def __init__(self, folder: Path, embedded: EmbeddedServer | None) -> None:
        self._folder = folder
        self._embedded = embedded
        self._readers: dict[str, tuple[SourceConfig, RowReader]] = {}
        self._declared: Mapping[str, SourceConfig] = {}
        self._opening = asyncio.Lock()

    async def use(self, sources: Mapping[str, SourceConfig]) -> None:
        """Take over the manifest's sources; readers of those that are gone are closed."""
        self._declared = dict(sources)
        await self.close(keep=sources)

    async def rows(self, source: str, table: str) -> AsyncIterator[tuple[str, Mapping[str, Any], str]]:
        """(key, columns, version) of every row of a declared table, in key order. As `RowReader.rows`."""
        config = self._declared.get(source)
        if not isinstance(config, PostgresSource | SqliteSource) or table not in config.tables:
            raise ConfigError(f"no source declares the table {source}.{table}")
        async with self._opening:
            reader = await self.reader(source, config)
        async for row in reader.rows(table, config.tables[table]):
            yield row.key, row.values, row.version

    async def reader(self, name: str, config: SourceConfig) -> RowReader:
        """The reader of a source with tables; made once per configuration. `ConfigError`, `SourceUnavailable`."""
        known = self._readers.get(name)
        if known is not None and known[0] == config:
            return known[1]
        if known is not None:
            await known[1].close()
        match config:
            case PostgresSource():
                reader: RowReader = PostgresRows(name, await self._dsn(name, config))
            case SqliteSource():
                reader = SqliteRows(name, self._path(config.path))
            case _:
                raise ConfigError(f"the source {name} has no tables")
        self._readers[name] = (config, reader)
        return reader

    def _path(self, text: str) -> Path:
        return self._folder / Path(text).expanduser()

    async def _dsn(self, name: str, config: PostgresSource) -> Secret:
        if not config.dsn.startswith(EMBEDDED):
            return resolve_secret(config.dsn, base=self._folder, where=f"sources.{name}.dsn")
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
            connection = await asyncpg.connect(database.owner_dsn, timeout=CONNECT_TIMEOUT_S)
            try:
                async with connection.transaction():
                    await connection.execute("CREATE TABLE IF NOT EXISTS roadbed_seed (digest text PRIMARY KEY)")
                    if await connection.fetchval("SELECT count(*) FROM roadbed_seed") == 0:
                        await connection.execute(sql, timeout=SEED_TIMEOUT_S)
                        await connection.execute("INSERT INTO roadbed_seed VALUES ($1)", digest)
            finally:
                await connection.close(timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise SourceUnavailable(
                f"the embedded database of {name} cannot be seeded ({type(error).__name__})"
            ) from None
        except asyncpg.PostgresError as error:
            raise ConfigError(f"the seed {path.name} of {name} failed: {error.args[0]}") from None

    async def close(self, keep: Mapping[str, SourceConfig] | None = None) -> None:
        """Close the readers of sources that are not in ``keep``."""
        for name in [name for name in self._readers if keep is None or name not in keep]:
            await self._readers.pop(name)[1].close()


def _read_seed(name: str, path: Path) -> str:
    try:
        if path.stat().st_size > SEED_BYTES_MAX:
            raise ConfigError(f"the seed of {name} is larger than {SEED_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the seed {path.name} of {name} cannot be read: {error.strerror}") from None
