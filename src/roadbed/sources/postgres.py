"""PostgreSQL as a source: pooled read-only connections, one read-only transaction for each use.

Three things keep it to reading: the role's own grants (`rights.py` warns where there are too many), a transaction that
is READ ONLY, and the extended protocol, which takes one statement at a time. The deadline is the server's statement
timeout too, and a caller that leaves has its statement cancelled there. The invariant: a session that goes back to the
pool was rolled back and cleaned by DISCARD ALL, and one that was interrupted is closed instead.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.catalogue import Catalogue
from roadbed.sources.catalogue_sql import POSTGRES_CATALOGUE_SQL, POSTGRES_VIEWS_SQL, postgres_catalogue
from roadbed.sources.errors import (
    CredentialsRefused,
    QueryRefused,
    QueryTooCostly,
    ResultTooLarge,
    SourceMisdeclared,
    SourceTimeout,
    SourceUnavailable,
)
from roadbed.sources.incoming import Incoming
from roadbed.sources.manifest import TableConfig
from roadbed.sources.pool import Pool, PoolSettings, PoolState, Tidied
from roadbed.sources.result import Column, ColumnType, QueryResult, ResultBounds, ResultBuilder, check_columns
from roadbed.sources.rights import RIGHTS_SQL, Rights
from roadbed.sources.rows import ROWS_PER_FETCH, STATEMENT_TIMEOUT_S, SourceRow, quoted, row_of

QUERY_ROWS_PER_FETCH = 100
# Until the first rows have shown how wide they are, where cells may be of any size.
FIRST_ROWS_PER_FETCH = 8
PAGE_BYTES_MAX = 32 * 1024 * 1024
RIGHTS_TIMEOUT_S = 1.0
LOCK_TIMEOUT_S = 1.0
CLOSE_S = 0.8
# The server gives up a little before the caller, so that its own error arrives; but it always gets some time.
HEAD_START_S = 0.1
STATEMENT_S_MIN = 0.05

_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.OperatorInterventionError,
    asyncpg.InternalClientError,
)
# The session's own, whatever its role or database says: the gate reads strings as the standard does.
SESSION = {
    "default_transaction_read_only": "on",
    "standard_conforming_strings": "on",
    "application_name": "roadbed-source",
}
_REFUSED = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)

_TYPES: dict[str, ColumnType] = {
    "bool": "boolean", "int2": "integer", "int4": "integer", "int8": "integer", "oid": "integer", "float4": "number",
    "float8": "number", "numeric": "decimal", "text": "text", "varchar": "text", "bpchar": "text", "name": "text",
    "char": "text", "citext": "text", "bytea": "bytes", "date": "date", "time": "time", "timetz": "time",
    "timestamp": "timestamp", "timestamptz": "timestamp", "interval": "interval", "uuid": "uuid", "json": "json",
    "jsonb": "json",
}  # fmt: skip

_OF_ANY_SIZE: frozenset[ColumnType] = frozenset({"text", "bytes", "json", "list", "decimal", "other"})


class ReadConnection:
    """A connection in a read-only transaction, until its deadline. One statement a call, with ``$1`` for arguments.

    What is in the connection is ended when it goes back, so cursors and prepared statements do not outlive it.
    """

    def __init__(self, name: str, raw: Any) -> None:
        self.raw = raw
        self.is_interrupted = False
        self._name = name
        self._deadline = Deadline(0.0)
        self._transaction: Any = None
        self._incoming = Incoming(raw._transport, raw._protocol)

    @property
    def is_cut(self) -> bool:
        """Whether we hung up, because a row was larger than any result may be."""
        return self._incoming.is_over

    async def fetch(self, sql: str, *args: Any) -> list[Any]:
        """All rows as asyncpg records. `QueryRefused`, `SourceTimeout`, `SourceUnavailable`."""
        async with self._within(self._deadline):
            rows: list[Any] = await self.raw.fetch(sql, *args)
            return rows

    async def fetchrow(self, sql: str, *args: Any) -> Any:
        """The first row, or None. As `fetch`."""
        async with self._within(self._deadline):
            return await self.raw.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, or None. As `fetch`."""
        async with self._within(self._deadline):
            return await self.raw.fetchval(sql, *args)

    async def query(self, sql: str, args: Sequence[Any], bounds: ResultBounds) -> QueryResult:
        """Rows of one statement within bounds, fetched a page at a time. As `fetch`, and `ResultTooLarge`."""
        async with self._within(self._deadline):
            statement = await self.raw.prepare(sql)
            columns = tuple(_column(attribute) for attribute in statement.get_attributes())
            if not columns:
                raise QueryRefused("the statement gives no rows", hint="only statements that read are run")
            check_columns(len(columns))
            cursor = await statement.cursor(*args)
            builder = ResultBuilder(bounds)
            has_wide = any(column.type in _OF_ANY_SIZE for column in columns)
            rows = FIRST_ROWS_PER_FETCH if has_wide else QUERY_ROWS_PER_FETCH
            is_wanted = True
            while is_wanted:
                page = await self._page(cursor, min(rows, builder.rows_wanted))
                is_wanted = bool(page) and all(builder.take(tuple(row.values())) for row in page)
                rows = min(QUERY_ROWS_PER_FETCH, builder.rows_that_fit + 1)
            return builder.result(columns)

    async def _page(self, cursor: Any, rows: int) -> list[Any]:
        """The next rows of a cursor. `ResultTooLarge` when they are over `PAGE_BYTES_MAX`, and we hung up."""
        self._incoming.allow(PAGE_BYTES_MAX)
        try:
            page: list[Any] = await cursor.fetch(rows)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
            if not self.is_cut:
                raise
            raise ResultTooLarge(f"{rows} rows of {self._name} hold more than {PAGE_BYTES_MAX} bytes") from None
        self._incoming.allow(None)
        return page

    async def check_cost(self, sql: str, args: Sequence[Any], cost_max: float) -> None:
        """Ask the planner what a statement would cost. `QueryTooCostly`, and as `fetch`."""
        plan = await self.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *args)
        cost = float(json.loads(plan)[0]["Plan"]["Total Cost"])
        if cost > cost_max:
            raise QueryTooCostly(
                f"{self._name} expects the statement to cost {cost:.0f}, and {cost_max:.0f} is allowed"
            )

    async def pages(self, sql: str) -> AsyncIterator[list[Any]]:
        """All rows in pages of `ROWS_PER_FETCH`, each within `STATEMENT_TIMEOUT_S`. As `fetch`."""
        async with self._within(Deadline.after(STATEMENT_TIMEOUT_S)):
            await self._limit(STATEMENT_TIMEOUT_S)
            cursor = await self.raw.cursor(sql)
        while True:
            async with self._within(Deadline.after(STATEMENT_TIMEOUT_S)):
                page: list[Any] = await cursor.fetch(ROWS_PER_FETCH)
            if not page:
                return
            yield page

    async def begin(self, deadline: Deadline) -> None:
        """Start the read-only transaction."""
        self._deadline = deadline
        with translated(self._name, self.raw):
            self._transaction = self.raw.transaction(isolation="repeatable_read", readonly=True)
            await self._transaction.start()
            await self._limit(deadline.remaining_s())

    async def _limit(self, statement_s: float) -> None:
        statement_ms = max(STATEMENT_S_MIN, statement_s - HEAD_START_S) * 1000
        await self.raw.execute(
            f"SET LOCAL statement_timeout = {statement_ms:.0f}; SET LOCAL lock_timeout = {LOCK_TIMEOUT_S * 1000:.0f}"
        )

    async def end(self) -> None:
        """Leave the session as a new one."""
        transaction, self._transaction = self._transaction, None
        with translated(self._name, self.raw):
            await transaction.rollback()
            await self.raw.execute("DISCARD ALL")

    @asynccontextmanager
    async def _within(self, deadline: Deadline) -> AsyncIterator[None]:
        """Bound and translate what is asked of the server, and remember whether it was interrupted."""
        try:
            with translated(self._name, self.raw):
                async with asyncio.timeout(deadline.remaining_s()):
                    yield
        except (asyncio.CancelledError, SourceTimeout):
            self.is_interrupted = True
            raise


class PostgresDriver:
    """Makes and cleans the connections. ``credential`` is asked for each, so a changed secret is used at once."""

    def __init__(self, name: str, credential: Callable[[], Secret]) -> None:
        self.rights: Rights | None = None
        self._name = name
        self._credential = credential

    async def connect(self) -> ReadConnection:
        """A session that is read-only by default. `CredentialsRefused`, `SourceUnavailable`, `ConfigError`."""
        dsn = self._credential().reveal()
        try:
            raw = await asyncpg.connect(
                dsn,
                statement_cache_size=0,  # DISCARD ALL drops prepared statements, and so do poolers between
                server_settings=SESSION,
            )
        except _REFUSED as error:
            raise CredentialsRefused(
                f"the source {self._name} refuses the credentials ({type(error).__name__})"
            ) from None
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise SourceUnavailable(f"the source {self._name} cannot be reached ({type(error).__name__})") from None
        try:
            if self.rights is None:
                await self._ask_rights(raw)
        except BaseException:
            raw.terminate()
            raise
        return ReadConnection(self._name, raw)

    async def _ask_rights(self, raw: Any) -> None:
        try:
            row = await raw.fetchrow(RIGHTS_SQL, timeout=RIGHTS_TIMEOUT_S)
        except asyncpg.PostgresError:
            return  # not every server that speaks the protocol has these catalogues; then nothing is known
        except (TimeoutError, OSError, asyncpg.InterfaceError) as error:
            raise SourceUnavailable(f"the source {self._name} cannot be reached ({type(error).__name__})") from None
        if row is not None:
            self.rights = Rights.of(row)

    def is_usable(self, connection: ReadConnection) -> bool:
        """Whether the connection still stands."""
        return not connection.raw.is_closed()

    def prepare_at_once(self, connection: ReadConnection, deadline: Deadline) -> bool:
        """Never: that needs an answer."""
        return False

    async def prepare(self, connection: ReadConnection, deadline: Deadline) -> None:
        """Begin the read-only transaction that the lease of this connection lasts for."""
        await connection.begin(deadline)

    def is_tidy(self, connection: ReadConnection) -> bool:
        """Never: its transaction is open."""
        return False

    async def tidy(self, connection: ReadConnection) -> Tidied:
        """Roll back and clean; close what was interrupted, which waits until the server took the cancellation."""
        if connection.is_cut:
            return "spoiled"
        if connection.raw.is_closed():
            raise SourceUnavailable(f"the connection to {self._name} was lost")
        if not connection.is_interrupted:
            try:
                await connection.end()
                return "clean"
            except (QueryRefused, asyncpg.InterfaceError):
                return "spoiled"  # the statement ended the transaction itself
        await connection.raw.close()
        return "spoiled"

    async def close(self, connection: ReadConnection) -> None:
        """Say goodbye, or hang up."""
        try:
            await connection.raw.close(timeout=CLOSE_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.raw.terminate()

    def abort(self, connection: ReadConnection) -> None:
        """End the connection without a word to the server; nothing is waited for."""
        connection.raw.terminate()


class PostgresSystem:
    """One PostgreSQL source: its pool, the transactions that it reads in, and what its role may do."""

    kind = "postgres"

    def __init__(self, name: str, credential: Callable[[], Secret], size: int, settings: PoolSettings) -> None:
        self._name = name
        self._driver = PostgresDriver(name, credential)
        self._pool: Pool[ReadConnection] = Pool(name, self._driver, size, settings)

    @property
    def rights(self) -> Rights | None:
        """What the role may do; None until the first connection."""
        return self._driver.rights

    def connection(self, deadline: Deadline) -> AbstractAsyncContextManager[ReadConnection]:
        """A `ReadConnection` for a block, in one read-only transaction. `SourceUnavailable`, `SourceTimeout`."""
        return self._pool.lease(deadline)

    async def query(
        self,
        sql: str,
        args: Sequence[Any],
        deadline: Deadline,
        bounds: ResultBounds,
        *,
        cost_max: float | None = None,
    ) -> QueryResult:
        """Rows of one statement; `QueryTooCostly` when the planner expects it to cost more than ``cost_max``."""
        async with self._pool.lease(deadline) as connection:
            if cost_max is not None:
                await connection.check_cost(sql, args, cost_max)
            return await connection.query(sql, args, bounds)

    async def catalogue(self, deadline: Deadline) -> Catalogue:
        """The tables and columns that the role may read, with their comments."""
        async with self._pool.lease(deadline) as connection:
            tables = await connection.fetch(POSTGRES_CATALOGUE_SQL)
            return postgres_catalogue(tables, await connection.fetch(POSTGRES_VIEWS_SQL))

    async def rows(self, table: str, config: TableConfig) -> AsyncGenerator[SourceRow, None]:
        """All rows of a table in key order, at most ``rows_max``. `SourceMisdeclared`, `SourceUnavailable`."""
        sql = f"SELECT * FROM {quoted(table)} ORDER BY {quoted(config.key)} LIMIT {int(config.rows_max)}"  # noqa: S608
        async with self._pool.lease(Deadline.after(STATEMENT_TIMEOUT_S)) as connection:
            try:
                async for page in connection.pages(sql):
                    for record in page:
                        yield row_of(dict(record), table, config)
            except QueryRefused as error:
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error.message}") from None

    def state(self) -> PoolState:
        """The state of the pool."""
        return self._pool.state()

    async def close(self, drain_s: float) -> None:
        """Drain and close the pool."""
        await self._pool.close(drain_s)


@contextmanager
def translated(name: str, raw: Any) -> Iterator[None]:
    """asyncpg's errors as this room's; a database's own text is passed on where it cannot quote a value."""
    try:
        yield
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
        raise SourceTimeout(f"{name} did not end a statement in time") from None
    except TimeoutError:
        raise SourceTimeout(f"the deadline passed while {name} was asked") from None
    except _LOST as error:
        raise SourceUnavailable(f"the connection to {name} was lost ({type(error).__name__})") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        if raw.is_closed():
            raise SourceUnavailable(f"the connection to {name} was lost ({type(error).__name__})") from None
        raise _refused(name, error) from None


def _refused(name: str, error: Exception) -> QueryRefused:
    # asyncpg's own complaint about an argument comes as a plain DataError, and quotes it.
    if not isinstance(error, asyncpg.PostgresError) or type(error) is asyncpg.DataError:
        return QueryRefused(
            f"the statement for {name} cannot be sent ({type(error).__name__})",
            hint="its arguments must fit the types of its parameters, $1 to $n",
        )
    # Class 42, syntax and access, quotes the statement at most; 22 and others quote values of rows.
    is_plain = (error.sqlstate or "").startswith("42") or isinstance(error, asyncpg.ReadOnlySQLTransactionError)
    text = error.args[0] if is_plain else type(error).__name__
    return QueryRefused(f"{name} refused the statement: {text} (SQLSTATE {error.sqlstate})")


def _column(attribute: Any) -> Column:
    kind, native = attribute.type.kind, attribute.type.name
    if kind == "array":
        return Column(attribute.name, "list", native)
    return Column(attribute.name, "text" if kind == "enum" else _TYPES.get(native, "other"), native)
