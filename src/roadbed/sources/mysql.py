"""MySQL and MariaDB as a source: pooled sessions, one read-only transaction and one statement for each use.

asyncmy (imported at first use) asks every server for stacked statements and leaves a statement running when its
caller goes. Both are mended here: COM_SET_OPTION takes stacked statements back at every connection, and what was
interrupted is ended by KILL QUERY from a spare connection. An account that may do more than read answers no statements
at all (`mysql_rights`). The invariant: a session that goes back to the pool was reset by the server and set up anew,
and one that was interrupted is killed there and closed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.catalogue import Catalogue, words_of
from roadbed.sources.errors import QueryRefused, SourceMayWrite, SourceMisdeclared, SourceTimeout, SourceUnavailable
from roadbed.sources.manifest import TableConfig
from roadbed.sources.mysql_errors import translated
from roadbed.sources.mysql_rights import MysqlRights, mysql_reader_statements, rights_of
from roadbed.sources.mysql_text import MysqlAddress, parse_address, placed, quoted_name
from roadbed.sources.pool import Pool, PoolSettings, PoolState, Tidied
from roadbed.sources.result import Column, ColumnType, QueryResult, ResultBounds, ResultBuilder, check_columns
from roadbed.sources.rows import ROWS_PER_FETCH, STATEMENT_TIMEOUT_S, SourceRow, row_of

CONNECT_S = 5.0
KILL_S = 0.9
CLOSE_S = 0.5
CATALOGUE_COLUMNS_MAX = 20_000
# The server gives up a little before the caller, so that its own error arrives; but it always gets some time.
HEAD_START_S = 0.1
STATEMENT_S_MIN = 0.05
LOCK_WAIT_S = 1

# Quoting as `mysql_text` reads it: no ANSI_QUOTES, no NO_BACKSLASH_ESCAPES. Times in UTC, names and texts in utf8mb4.
MODE_SQL = (
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO', time_zone = '+00:00', "
    f"innodb_lock_wait_timeout = {LOCK_WAIT_S}, lock_wait_timeout = {LOCK_WAIT_S}"
)
NAMES_SQL = "SET NAMES utf8mb4"
READ_ONLY_SQL = "SET SESSION TRANSACTION READ ONLY"
BEGIN_SQL = "START TRANSACTION READ ONLY"

COM_SET_OPTION = 0x1B
MULTI_STATEMENTS_OFF = b"\x01\x00"
COM_RESET_CONNECTION = 0x1F

_CATALOGUE_SQL = (
    "SELECT table_name, column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() "
    "ORDER BY table_name, ordinal_position"
)
_COMMENTS_SQL = (
    "SELECT table_name, table_comment FROM information_schema.tables WHERE table_schema = DATABASE() "
    "AND table_comment NOT IN ('', 'VIEW')"
)
# The text of a view is told to accounts with SHOW VIEW alone.
_VIEWS_SQL = "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = DATABASE()"

_BINARY_CHARSET = 63
_NATIVE: dict[int, tuple[str, ColumnType]] = {
    0: ("decimal", "decimal"), 1: ("tinyint", "integer"), 2: ("smallint", "integer"), 3: ("int", "integer"),
    4: ("float", "number"), 5: ("double", "number"), 6: ("null", "other"), 7: ("timestamp", "timestamp"),
    8: ("bigint", "integer"), 9: ("mediumint", "integer"), 10: ("date", "date"), 11: ("time", "interval"),
    12: ("datetime", "timestamp"), 13: ("year", "integer"), 15: ("varchar", "text"), 16: ("bit", "bytes"),
    245: ("json", "json"), 246: ("decimal", "decimal"), 247: ("enum", "text"), 248: ("set", "text"),
    249: ("tinytext", "text"), 250: ("mediumtext", "text"), 251: ("longtext", "text"), 252: ("text", "text"),
    253: ("varchar", "text"), 254: ("char", "text"), 255: ("geometry", "bytes"),
}  # fmt: skip
_BINARY_NAMES = {
    "varchar": "varbinary", "char": "binary", "text": "blob", "tinytext": "tinyblob", "mediumtext": "mediumblob",
    "longtext": "longblob",
}  # fmt: skip


class MysqlConnection:
    """A session in a read-only transaction, until its deadline."""

    def __init__(self, name: str, raw: Any, is_mariadb: bool) -> None:
        self.raw = raw
        self.thread_id = int(raw.thread_id())
        self.is_interrupted = False
        self._name = name
        self._is_mariadb = is_mariadb
        self._deadline = Deadline(0.0)

    async def command(self, code: int, payload: bytes) -> None:
        """One command of the protocol that asyncmy has no name for; its answer is OK or EOF."""
        await self.raw._execute_command(code, payload)
        await self.raw.read_packet()  # raises what the server says; OK and EOF are both a yes

    async def set_up(self) -> None:
        """Make a new or a reset session one that reads."""
        await self.command(COM_SET_OPTION, MULTI_STATEMENTS_OFF)
        for sql in (NAMES_SQL, MODE_SQL, READ_ONLY_SQL):
            await self.raw.query(sql)

    async def set_up_for_changes(self) -> None:
        """As `set_up`, of a session that may change what its account may."""
        await self.command(COM_SET_OPTION, MULTI_STATEMENTS_OFF)
        for sql in (NAMES_SQL, MODE_SQL):
            await self.raw.query(sql)

    async def begin(self, deadline: Deadline) -> None:
        """Start the read-only transaction."""
        self._deadline = deadline
        with translated(self._name):
            await self.raw.query(BEGIN_SQL)

    async def end(self) -> None:
        """Leave the session as a new one: variables, locks, temporary tables and the transaction are gone."""
        with translated(self._name):
            await self.command(COM_RESET_CONNECTION, b"")
            await self.set_up()

    async def query(self, sql: str, args: Sequence[Any], bounds: ResultBounds) -> QueryResult:
        """Rows of one statement within bounds, as they arrive. `QueryRefused`, `SourceTimeout`, `ResultTooLarge`."""
        builder = ResultBuilder(bounds)
        async with self._within(self._deadline):
            cursor = await self._start(sql, args, self._deadline.remaining_s())
            self.is_interrupted = True  # until its last row was read, the server has more to send; `tidy` ends that
            columns = _columns(cursor)
            check_columns(len(columns))
            is_wanted = True
            while is_wanted:
                row = await cursor.fetchone()
                is_wanted = row is not None and builder.take(_whole(row, columns))
            self.is_interrupted = row is not None
            return builder.result(columns)

    async def pages(self, sql: str) -> AsyncIterator[tuple[list[str], list[tuple[Any, ...]]]]:
        """The columns' names and all rows, in pages of `ROWS_PER_FETCH`, each within `STATEMENT_TIMEOUT_S`."""
        async with self._within(Deadline.after(STATEMENT_TIMEOUT_S)):
            cursor = await self._start(sql, (), 0.0)
            columns = _columns(cursor)
            names = [column.name for column in columns]
        is_whole = False
        try:
            while True:
                async with self._within(Deadline.after(STATEMENT_TIMEOUT_S)):
                    page = [_whole(row, columns) for row in await cursor.fetchmany(ROWS_PER_FETCH)]
                if not page:
                    is_whole = True
                    return
                yield names, page
        finally:
            self.is_interrupted = self.is_interrupted or not is_whole

    async def _start(self, sql: str, args: Sequence[Any], statement_s: float) -> Any:
        """Send a statement; a cursor over its rows. ``statement_s`` bounds it in the server, 0 does not."""
        from asyncmy.cursors import SSCursor

        text = placed(sql, [self.literal(value) for value in args])
        limit_s = max(STATEMENT_S_MIN, statement_s - HEAD_START_S)
        if statement_s and self._is_mariadb:
            text = f"SET STATEMENT max_statement_time = {limit_s:.3f} FOR {text}"
        elif statement_s:
            await self.raw.query(f"SET SESSION max_execution_time = {limit_s * 1000:.0f}")
        cursor = self.raw.cursor(SSCursor)
        await cursor.execute(text)
        if cursor.description is None:
            raise QueryRefused("the statement gives no rows", hint="only statements that read are run")
        return cursor

    def literal(self, value: Any) -> str:
        """A value as it stands in a statement. `QueryRefused`."""
        try:
            return str(self.raw.literal(value))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise QueryRefused(
                f"an argument for {self._name} cannot be sent ({type(error).__name__})",
                hint="arguments are texts, numbers, dates, times or bytes",
            ) from None

    @asynccontextmanager
    async def _within(self, deadline: Deadline) -> AsyncIterator[None]:
        """Bound and translate what is asked of the server, and remember whether it was interrupted."""
        try:
            with translated(self._name):
                async with asyncio.timeout(deadline.remaining_s()):
                    yield
        except (asyncio.CancelledError, SourceTimeout, SourceUnavailable):
            self.is_interrupted = True
            raise


class MysqlDriver:
    """Makes, cleans and kills the sessions. ``credential`` is asked for each, so a changed secret is used at once."""

    def __init__(self, name: str, credential: Callable[[], Secret], where: str) -> None:
        self.rights: MysqlRights | None = None
        self._name = name
        self._credential = credential
        self._where = where
        self._kills: set[asyncio.Task[None]] = set()

    async def connect(self) -> MysqlConnection:
        """A session that reads only. `CredentialsRefused`, `SourceUnavailable`, `ConfigError`."""
        with translated(self._name, is_connecting=True):
            raw = await dial(self._credential, self._where)
            try:
                connection = MysqlConnection(self._name, raw, "mariadb" in str(raw.get_server_info()).lower())
                await connection.set_up()
                if self.rights is None:
                    self.rights = await self._ask_rights(raw)
            except BaseException:
                raw.close()
                raise
        return connection

    async def _ask_rights(self, raw: Any) -> MysqlRights:
        cursor = raw.cursor()
        await cursor.execute("SELECT CURRENT_USER(), DATABASE()")
        account, database = await cursor.fetchone()
        await cursor.execute("SHOW GRANTS")
        return rights_of(str(account), str(database), [str(row[0]) for row in await cursor.fetchall()])

    def is_usable(self, connection: MysqlConnection) -> bool:
        """Whether the connection still stands."""
        return bool(connection.raw.connected) and not connection.raw._stream_broken

    def prepare_at_once(self, connection: MysqlConnection, deadline: Deadline) -> bool:
        """Never: that needs an answer."""
        return False

    async def prepare(self, connection: MysqlConnection, deadline: Deadline) -> None:
        """Begin the read-only transaction that the lease of this connection lasts for."""
        await connection.begin(deadline)

    def is_tidy(self, connection: MysqlConnection) -> bool:
        """Never: its transaction is open."""
        return False

    async def tidy(self, connection: MysqlConnection) -> Tidied:
        """Reset the session; one that was interrupted is killed in the server and closed."""
        if connection.is_interrupted:
            await self._kill(connection)
            connection.raw.close()
            return "spoiled"
        try:
            await connection.end()
        except QueryRefused:  # not every server in between knows how to reset
            connection.raw.close()
            return "spoiled"
        return "clean"

    async def _kill(self, connection: MysqlConnection) -> None:
        """End what runs in a session, from another one. Without it, the statement's own time limit ends it."""
        connection.raw.close()  # else the server may wait for us to take its rows
        with suppress(TimeoutError, SourceUnavailable, QueryRefused):
            async with asyncio.timeout(KILL_S):
                with translated(self._name, is_connecting=True):
                    spare = await dial(self._credential, self._where)
                    try:
                        await spare.query(f"KILL QUERY {connection.thread_id}")
                    finally:
                        spare.close()

    async def close(self, connection: MysqlConnection) -> None:
        """Say goodbye, or hang up."""
        try:
            async with asyncio.timeout(CLOSE_S):
                with translated(self._name):
                    await connection.raw.ensure_closed()
        except (TimeoutError, SourceTimeout, SourceUnavailable, QueryRefused):
            connection.raw.close()

    def abort(self, connection: MysqlConnection) -> None:
        """Hang up, and have the server end what runs."""
        connection.raw.close()
        task = asyncio.get_running_loop().create_task(self._kill(connection), name=f"source {self._name}: kill")
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def wait_for_kills(self) -> None:
        """Return when no spare connection is open."""
        if self._kills:
            await asyncio.wait(self._kills)


class MysqlSystem:
    """One MySQL or MariaDB source."""

    kind = "mysql"

    def __init__(self, name: str, credential: Callable[[], Secret], size: int, settings: PoolSettings) -> None:
        self._name = name
        self._driver = MysqlDriver(name, credential, f"sources.{name}.dsn")
        self._pool: Pool[MysqlConnection] = Pool(name, self._driver, size, settings)

    @property
    def rights(self) -> MysqlRights | None:
        """What the account may do; None until the first connection."""
        return self._driver.rights

    async def query(self, sql: str, args: Sequence[Any], deadline: Deadline, bounds: ResultBounds) -> QueryResult:
        """Rows of one statement, with ``?`` for each argument in turn. `SourceMayWrite` for an account that writes."""
        async with self._pool.lease(deadline) as connection:
            self._check_rights()
            return await connection.query(sql, args, bounds)

    async def require_reader(self, deadline: Deadline) -> None:
        """`SourceMayWrite` when the account may do more than read. As `query`."""
        if self._driver.rights is None:
            async with self._pool.lease(deadline):
                pass
        self._check_rights()

    def _check_rights(self) -> None:
        rights = self._driver.rights
        if rights is not None and rights.excess:
            raise SourceMayWrite(
                f"the account of {self._name} may do more than read ({', '.join(rights.excess[:3])})",
                hint="give it one that only reads: " + " ".join(mysql_reader_statements(rights.database, ())),
            )

    async def rows(self, table: str, config: TableConfig) -> AsyncGenerator[SourceRow, None]:
        """All rows of a table in key order, at most ``rows_max``. `SourceMisdeclared`, `SourceUnavailable`."""
        key = quoted_name(config.key)
        sql = f"SELECT * FROM {quoted_name(table)} ORDER BY {key} LIMIT {int(config.rows_max)}"  # noqa: S608
        async with self._pool.lease(Deadline.after(STATEMENT_TIMEOUT_S)) as connection:
            try:
                async for names, page in connection.pages(sql):
                    for record in page:
                        yield row_of(dict(zip(names, record, strict=True)), table, config)
            except QueryRefused as error:
                raise SourceMisdeclared(f"the table {table} of {self._name} cannot be read: {error.message}") from None

    async def catalogue(self, deadline: Deadline) -> Catalogue:
        """The tables and columns of the database that the account may read. As `query`."""
        bounds = ResultBounds(CATALOGUE_COLUMNS_MAX, 8 * 1024 * 1024)
        async with self._pool.lease(deadline) as connection:
            found = await connection.query(_CATALOGUE_SQL, (), bounds)
            comments = await connection.query(_COMMENTS_SQL, (), bounds)
            views = await connection.query(_VIEWS_SQL, (), bounds)
        tables: dict[str, dict[str, str]] = {}
        for table, column, kind in found.rows:
            tables.setdefault(table, {})[column] = kind
        reads = {str(view): words_of(str(text)) - {str(view)} if text else None for view, text in views.rows}
        return Catalogue("mysql", tables, {str(table): str(text) for table, text in comments.rows}, reads)

    def state(self) -> PoolState:
        """The state of the pool."""
        return self._pool.state()

    async def close(self, drain_s: float) -> None:
        """Drain and close the pool; nothing of it runs in the server afterwards."""
        await self._pool.close(drain_s)
        await self._driver.wait_for_kills()


async def dial(credential: Callable[[], Secret], where: str) -> Any:
    """A new session at the address that a credential holds; stacked statements are still on. asyncmy's errors."""
    import asyncmy

    address = parse_address(credential().reveal(), where)
    return await asyncmy.connect(
        host=address.host or "localhost",
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
        unix_socket=address.socket or None,
        ssl=_tls(address),
        charset="utf8mb4",
        local_infile=False,  # a hostile server may ask its clients for files
        autocommit=None,
        connect_timeout=CONNECT_S,
        program_name="roadbed-source",
    )


def _tls(address: MysqlAddress) -> Any:
    if not address.is_tls:
        return None
    import ssl

    return ssl.create_default_context(cafile=address.ca or None)


def _columns(cursor: Any) -> tuple[Column, ...]:
    fields = getattr(cursor._result, "fields", None) or [None] * len(cursor.description)
    return tuple(_column(entry, field) for entry, field in zip(cursor.description, fields, strict=True))


def _column(entry: Sequence[Any], field: Any) -> Column:
    native, kind = _NATIVE.get(entry[1], ("unknown", "other"))
    if native in _BINARY_NAMES and getattr(field, "charsetnr", 0) == _BINARY_CHARSET:
        return Column(entry[0], "bytes", _BINARY_NAMES[native])
    return Column(entry[0], kind, native)


def _whole(row: Sequence[Any], columns: Sequence[Column]) -> tuple[Any, ...]:
    """The row with its timestamps said to be UTC, which the session's time zone made them."""
    return tuple(
        value.replace(tzinfo=UTC) if column.native == "timestamp" and isinstance(value, datetime) else value
        for value, column in zip(row, columns, strict=True)
    )
