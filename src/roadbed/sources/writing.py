"""Changing a PostgreSQL source: one statement in one transaction, with a credential of its own.

Only `Sources.change` comes here, for tools whose approval was given. A connection is made for each change and closed
after it: changes are few, and no session of theirs is ever lent to a reader. The invariant: what raises anything but
`EndUnknown` changed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from roadbed.kernel.deadline import Deadline
from roadbed.kernel.secrets import Secret
from roadbed.sources.errors import CredentialsRefused, EndUnknown, QueryRefused, RolledBack, SourceTimeout
from roadbed.sources.errors import SourceUnavailable as Away
from roadbed.sources.postgres import LOCK_TIMEOUT_S, translated

CONNECT_S = 5.0
CLOSE_S = 0.8
RETURNED_ROWS_MAX = 100
HEAD_START_S = 0.1


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did, or would do: how many rows, and the rows that it returns, at most `RETURNED_ROWS_MAX`."""

    rows: int
    columns: tuple[str, ...]
    returned: tuple[tuple[Any, ...], ...]


async def change(
    name: str, credential: Callable[[], Secret], sql: str, args: Sequence[Any], deadline: Deadline, *, is_dry: bool
) -> Changed:
    """Run one statement and commit it, or take it back when it is dry. `RolledBack`, `EndUnknown`, `QueryRefused`."""
    raw = await _connect(name, credential, deadline)
    try:
        transaction = raw.transaction()
        try:
            with translated(name, raw):
                async with asyncio.timeout(deadline.remaining_s()):
                    await transaction.start()
                    left_ms = max(50.0, (deadline.remaining_s() - HEAD_START_S) * 1000)
                    await raw.execute(
                        f"SET LOCAL statement_timeout = {left_ms:.0f}; "
                        f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_S * 1000:.0f}"
                    )
                    changed = await _run(raw, sql, args)
                    if is_dry:
                        await transaction.rollback()
                        return changed
        except (Away, SourceTimeout) as error:
            raise RolledBack(f"{name} did not make the change: {error.message}") from None
        await _commit(name, raw, transaction, deadline)
        return changed
    finally:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await raw.close(timeout=CLOSE_S)


async def _run(raw: Any, sql: str, args: Sequence[Any]) -> Changed:
    statement = await raw.prepare(sql)
    rows = await statement.fetch(*args)
    status = (statement.get_statusmsg() or "").rpartition(" ")[2]
    columns = tuple(attribute.name for attribute in statement.get_attributes())
    count = int(status) if status.isdecimal() else len(rows)
    return Changed(count, columns, tuple(tuple(row.values()) for row in rows[:RETURNED_ROWS_MAX]))


async def _commit(name: str, raw: Any, transaction: Any, deadline: Deadline) -> None:
    try:
        async with asyncio.timeout(max(1.0, deadline.remaining_s())):
            await asyncio.shield(asyncio.ensure_future(transaction.commit()))
    except asyncpg.IntegrityConstraintViolationError:  # a deferred constraint
        raise QueryRefused(f"{name} refused the change at its end (IntegrityConstraintViolation)") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise EndUnknown(f"{name} did not say whether the change was made ({type(error).__name__})") from None


async def _connect(name: str, credential: Callable[[], Secret], deadline: Deadline) -> Any:
    try:
        return await asyncpg.connect(
            credential().reveal(),
            timeout=min(CONNECT_S, deadline.remaining_s()),
            statement_cache_size=0,
            server_settings={"application_name": "roadbed-change"},
        )
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise CredentialsRefused(f"{name} refuses the credentials for changes ({type(error).__name__})") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise RolledBack(f"{name} cannot be reached for the change ({type(error).__name__})") from None
