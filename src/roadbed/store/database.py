"""`Database`: the one pool of PostgreSQL connections that every room uses, bound to one schema.

It opens, hands out and translates: a connection that cannot be had or breaks becomes `StoreUnavailable` within
`ACQUIRE_TIMEOUT_S`, a statement that takes too long `StoreTimeout`; errors of the statement itself (unique violation,
syntax) stay asyncpg's, for the room that wrote it. It reconnects by itself. It knows no table. The invariant: nothing
here depends on session state, so any statement may run on any connection; per-session settings go through SET LOCAL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, TypeAlias

import asyncpg
import msgspec

from roadbed.store.driver_errors import LOST, translated
from roadbed.store.errors import InvalidName, StoreTimeout, StoreUnavailable
from roadbed.store.first_connection import connect_first, find_vector, require_version
from roadbed.store.listener import Listener, Subscription
from roadbed.store.vectors import decode_half_vector, decode_vector, encode_half_vector, encode_vector

ACQUIRE_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 30.0
STATEMENT_TIMEOUT_S_MAX = 600.0
LOCK_TIMEOUT_S = 10.0
IDLE_IN_TRANSACTION_S = 60.0
CLOSE_TIMEOUT_S = 5.0
PROBE_DELAY_S_MAX = 1.0
SCHEMA_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

# asyncpg ships no types; these names say what is meant.
Connection: TypeAlias = Any
Row: TypeAlias = Any
Isolation = Literal["read_committed", "repeatable_read", "serializable"]

logger = logging.getLogger(__name__)


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Database:
    """A pool of connections whose search path is ``schema``, then the folder of pgvector's types.

    Make one with `Database.open`. Statements take PostgreSQL's ``$1`` parameters; ``timeout_s`` bounds one statement.
    Columns of type json and jsonb are plain values, vector and halfvec numpy arrays.
    """

    def __init__(self, dsn: str, schema: str, application_name: str) -> None:
        if not SCHEMA_NAME.fullmatch(schema):
            raise InvalidName(f"{schema!r} cannot be the name of a schema")
        self.schema = schema
        self.application_name = application_name
        self.vector_schema = "public"
        self._dsn = dsn
        self._pool: Any = None
        self._is_available = False
        self._listener = Listener(self.connect, schema)

    @classmethod
    async def open(
        cls,
        dsn: str,
        schema: str,
        *,
        min_size: int = 1,
        max_size: int = 10,
        application_name: str = "roadbed",
    ) -> Database:
        """Connect, make sure of pgvector, and open the pool. `StoreUnavailable`, `VectorMissing`.

        The schema need not exist yet: `store/migrate.py` makes it.
        """
        database = cls(dsn, schema, application_name)
        await database._find_vector()
        with translated():
            database._pool = await asyncpg.create_pool(
                dsn,
                min_size=min_size,
                max_size=max_size,
                max_inactive_connection_lifetime=300.0,
                init=database._prepare,
                timeout=ACQUIRE_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S_MAX,
                server_settings=database._server_settings(),
            )
        database._is_available = True
        return database

    async def close(self) -> None:
        """Close the listener and every connection; those in use get `CLOSE_TIMEOUT_S` to come back."""
        await self._listener.close()
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            await asyncio.wait_for(pool.close(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            pool.terminate()

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Database(schema={self.schema!r}, is_available={self._is_available})"

    @property
    def is_available(self) -> bool:
        """Whether PostgreSQL answered when it was last asked."""
        return self._is_available

    async def wait_until_available(self, timeout_s: float) -> None:
        """Return as soon as PostgreSQL answers; `StoreUnavailable` when it does not within ``timeout_s``."""
        delay_s = 0.02
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        await self.fetchval("SELECT 1", timeout_s=ACQUIRE_TIMEOUT_S)
                        return
                    except (StoreUnavailable, StoreTimeout):
                        await asyncio.sleep(delay_s)
                        delay_s = min(delay_s * 2, PROBE_DELAY_S_MAX)
        except TimeoutError:
            raise StoreUnavailable(f"the database did not answer within {timeout_s:g} s") from None

    # -- statements ---------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def connection(self, *, timeout_s: float = STATEMENT_TIMEOUT_S) -> AsyncIterator[Connection]:
        """One connection for several statements without a transaction; waits at most `ACQUIRE_TIMEOUT_S` for it.

        ``timeout_s`` bounds each statement; the server enforces no less than `STATEMENT_TIMEOUT_S`.
        """
        if self._pool is None:
            raise StoreUnavailable("the database was closed")
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_TIMEOUT_S)
        except TimeoutError:
            self._is_available = False
            raise StoreUnavailable(f"no connection to the database within {ACQUIRE_TIMEOUT_S:g} s") from None
        except LOST as error:
            self._is_available = False
            raise StoreUnavailable(f"the database does not answer ({type(error).__name__})") from None
        self._is_available = True
        try:
            with translated(connection):
                if timeout_s > STATEMENT_TIMEOUT_S:
                    # Undone by the pool's reset when the connection comes back.
                    await connection.execute(
                        f"SET statement_timeout = {min(timeout_s, STATEMENT_TIMEOUT_S_MAX) * 1000:.0f}"
                    )
                yield connection
        except StoreUnavailable:
            self._is_available = False
            raise
        finally:
            # A connection that broke meanwhile cannot be reset; the pool drops it and that is all.
            with contextlib.suppress(*LOST):
                await self._pool_release(connection)

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        *,
        isolation: Isolation = "read_committed",
        readonly: bool = False,
        timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> AsyncIterator[Connection]:
        """A connection in a transaction: committed at the end, rolled back on any exception."""
        async with (
            self.connection(timeout_s=timeout_s) as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            yield connection

    @contextlib.asynccontextmanager
    async def _one(self, timeout_s: float) -> AsyncIterator[Connection]:
        """A connection for a single statement: any time-out in it is the statement's."""
        async with self.connection(timeout_s=timeout_s) as connection:
            with translated():
                yield connection

    async def fetch(self, sql: str, *arguments: Any, timeout_s: float = STATEMENT_TIMEOUT_S) -> list[Row]:
        """All rows of one statement."""
        async with self._one(timeout_s) as connection:
            rows: list[Row] = await connection.fetch(sql, *arguments, timeout=timeout_s)
            return rows

    async def fetchrow(self, sql: str, *arguments: Any, timeout_s: float = STATEMENT_TIMEOUT_S) -> Row | None:
        """The first row of one statement, or ``None``."""
        async with self._one(timeout_s) as connection:
            return await connection.fetchrow(sql, *arguments, timeout=timeout_s)

    async def fetchval(self, sql: str, *arguments: Any, timeout_s: float = STATEMENT_TIMEOUT_S) -> Any:
        """The first column of the first row, or ``None``."""
        async with self._one(timeout_s) as connection:
            return await connection.fetchval(sql, *arguments, timeout=timeout_s)

    async def execute(self, sql: str, *arguments: Any, timeout_s: float = STATEMENT_TIMEOUT_S) -> str:
        """Run one statement; its command tag, such as ``UPDATE 3``."""
        async with self._one(timeout_s) as connection:
            tag: str = await connection.execute(sql, *arguments, timeout=timeout_s)
            return tag

    async def executemany(
        self, sql: str, rows: Iterable[Sequence[Any]], *, timeout_s: float = STATEMENT_TIMEOUT_S
    ) -> None:
        """Run one statement once per row of arguments, all or none."""
        async with self._one(timeout_s) as connection:
            await connection.executemany(sql, rows, timeout=timeout_s)

    # -- notifications ------------------------------------------------------------------------------------------------

    async def listen(self, channel: str, callback: Callable[[str | None], None]) -> Subscription:
        """Call ``callback(payload)`` for each `notify` on ``channel`` in this schema, until the subscription is closed.

        After a lost connection it is called with ``None``: notifications may have been missed, so look again.
        """
        return await self._listener.subscribe(channel, callback)

    async def notify(self, channel: str, payload: str = "", *, connection: Connection | None = None) -> None:
        """Notify the listeners on ``channel`` in this schema; with ``connection``, when its transaction commits."""
        arguments = ("SELECT pg_notify($1, $2)", self._listener.channel_name(channel), payload)
        if connection is not None:
            await connection.execute(*arguments)
        else:
            await self.execute(*arguments)

    # -- connections --------------------------------------------------------------------------------------------------

    async def connect(self) -> Connection:
        """A connection of its own outside the pool, prepared like the pool's; the caller closes it."""
        with translated():
            connection = await asyncpg.connect(
                self._dsn,
                timeout=ACQUIRE_TIMEOUT_S,
                command_timeout=STATEMENT_TIMEOUT_S,
                server_settings=self._server_settings(),
            )
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(connection.terminate)
                await self._prepare(connection)
                on_failure.pop_all()
            return connection

    async def _pool_release(self, connection: Connection) -> None:
        if self._pool is not None:
            await self._pool.release(connection, timeout=CLOSE_TIMEOUT_S)

    def _server_settings(self) -> dict[str, str]:
        path = f'"{self.schema}", "{self.vector_schema}"' + (", public" if self.vector_schema != "public" else "")
        return {
            "application_name": self.application_name,
            "search_path": path,
            "statement_timeout": f"{STATEMENT_TIMEOUT_S * 1000:.0f}",
            "lock_timeout": f"{LOCK_TIMEOUT_S * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S * 1000:.0f}",
        }

    async def _prepare(self, connection: Connection) -> None:
        for name in ("json", "jsonb"):
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode, format="text"
            )
        for name, encoder, decoder in (
            ("vector", encode_vector, decode_vector),
            ("halfvec", encode_half_vector, decode_half_vector),
        ):
            await connection.set_type_codec(
                name, schema=self.vector_schema, encoder=encoder, decoder=decoder, format="binary"
            )

    async def _find_vector(self) -> None:
        """Learn where pgvector's types live, creating the extension where it is missing and this role may."""
        connection = await connect_first(
            self._dsn, timeout_s=ACQUIRE_TIMEOUT_S, statement_timeout_s=STATEMENT_TIMEOUT_S
        )
        with translated():
            try:
                version = connection.get_server_version()
                require_version(version.major, f"{version.major}.{version.minor}")
                self.vector_schema = await find_vector(connection)
            finally:
                await connection.close(timeout=CLOSE_TIMEOUT_S)
