"""Changing a MySQL or MariaDB source: one statement in one transaction, with a credential of its own.

These servers take back only what tables with transactions hold: an account that sees others changes nothing, so that a
dry run is sure to leave no trace. A connection is made for each change and closed after it. The invariant: what raises
anything but `EndUnknown` changed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.errors import CredentialsRefused, EndUnknown, RolledBack, SourceMisdeclared, SourceTimeout
from roadbed.sources.errors import SourceUnavailable as Away
from roadbed.sources.mysql import CONNECT_S, KILL_S, MysqlConnection, dial
from roadbed.sources.mysql_errors import translated
from roadbed.sources.mysql_text import placed
from roadbed.sources.writing import RETURNED_ROWS_MAX, Changed

NAMED_MAX = 3
NOT_TAKEN_BACK = 1196
"""The server's warning that a rollback left something of a change (ER_WARNING_NOT_COMPLETE_ROLLBACK)."""

_NO_TRANSACTIONS_SQL = """
SELECT t.table_schema, t.table_name FROM information_schema.tables t
LEFT JOIN information_schema.engines e ON e.engine = t.engine
WHERE t.table_type = 'BASE TABLE' AND COALESCE(e.transactions, 'NO') <> 'YES'
  AND t.table_schema NOT IN ('information_schema', 'performance_schema', 'mysql', 'sys')
LIMIT 4
"""


async def change_mysql(
    name: str, credential: Callable[[], Secret], sql: str, args: Sequence[Any], deadline: Deadline, *, is_dry: bool
) -> Changed:
    """Run one statement and commit it, or take it back when it is dry. `RolledBack`, `EndUnknown`, `QueryRefused`."""
    where = f"sources.{name}.write_dsn"
    try:
        with translated(name, is_connecting=True):
            async with asyncio.timeout(min(CONNECT_S, deadline.remaining_s())):
                raw = await dial(credential, where)
    except CredentialsRefused:
        raise
    except (TimeoutError, Away):
        raise RolledBack(f"{name} cannot be reached for the change") from None
    connection = MysqlConnection(name, raw, is_mariadb=False)
    is_interrupted = False
    try:
        try:
            with translated(name):
                async with asyncio.timeout(deadline.remaining_s()):
                    await connection.set_up_for_changes()
                    await _check_tables(name, connection)
                    await raw.query("START TRANSACTION")
                    changed = await _run(connection, sql, args)
                    if is_dry:
                        await raw.query("ROLLBACK")
                        await _check_taken_back(name, raw)
                        return changed
        except EndUnknown:
            raise
        except (Away, SourceTimeout) as error:
            is_interrupted = True
            raise RolledBack(f"{name} did not make the change: {error.message}") from None
        await _commit(name, raw, deadline)
        return changed
    except asyncio.CancelledError:
        is_interrupted = True
        raise
    finally:
        raw.close()  # whatever was not committed is taken back by the server
        if is_interrupted:
            await asyncio.shield(_kill(name, credential, where, connection.thread_id))


async def _check_tables(name: str, connection: MysqlConnection) -> None:
    cursor = connection.raw.cursor()
    await cursor.execute(_NO_TRANSACTIONS_SQL)
    found = [f"{schema}.{table}" for schema, table in await cursor.fetchall()]
    if found:
        raise SourceMisdeclared(
            f"the account for changes of {name} sees tables whose changes cannot be taken back: "
            + ", ".join(found[:NAMED_MAX])
            + (" and more" if len(found) > NAMED_MAX else ""),
            hint="ALTER TABLE ... ENGINE = InnoDB, or grant the account the tables that it changes and no others",
        )


async def _run(connection: MysqlConnection, sql: str, args: Sequence[Any]) -> Changed:
    from asyncmy.cursors import SSCursor

    cursor = connection.raw.cursor(SSCursor)
    await cursor.execute(placed(sql, [connection.literal(value) for value in args]))
    if cursor.description is None:
        return Changed(max(0, int(cursor.rowcount)), (), ())
    columns = tuple(entry[0] for entry in cursor.description)
    returned: list[tuple[Any, ...]] = []
    count = 0
    while (row := await cursor.fetchone()) is not None:
        count += 1
        if len(returned) < RETURNED_ROWS_MAX:
            returned.append(tuple(row))
    return Changed(count, columns, tuple(returned))


async def _check_taken_back(name: str, raw: Any) -> None:
    """A trigger may change a table that the account does not see."""
    cursor = raw.cursor()
    await cursor.execute("SHOW WARNINGS")
    if any(row[1] == NOT_TAKEN_BACK for row in await cursor.fetchall()):
        raise EndUnknown(
            f"{name} could not take all of a trial of the change back",
            hint="look in the source for what the statement's triggers do to tables without transactions",
        )


async def _commit(name: str, raw: Any, deadline: Deadline) -> None:
    try:
        with translated(name):
            async with asyncio.timeout(max(1.0, deadline.remaining_s())):
                await asyncio.shield(asyncio.ensure_future(raw.query("COMMIT")))
    except (Away, SourceTimeout):
        raise EndUnknown(f"{name} did not say whether the change was made") from None


async def _kill(name: str, credential: Callable[[], Secret], where: str, thread_id: int) -> None:
    """End what runs in a session that was hung up on, so that its locks are free at once."""
    with suppress(TimeoutError, Away):
        async with asyncio.timeout(KILL_S):
            with translated(name, is_connecting=True):
                spare = await dial(credential, where)
                try:
                    await spare.query(f"KILL {thread_id}")
                finally:
                    spare.close()
