"""What asyncpg raises, in this room's errors: PostgreSQL is away, too slow, out of disk, or cannot keep a value.

The one definition for the pool (`database.py`) and the notifications (`listener.py`). The invariant: a mistake in a
statement passes as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import asyncpg

from roadbed.store.errors import StoreDiskFull, StoreTimeout, StoreUnavailable, ValueRefused

AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.InternalClientError,
    # No connection, memory or file left for this one; a disk that fails. (A full disk is an error of its own.)
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    # While it runs: the password was changed, the role locked, the database taken away, or another server took over and
    # this one only copies it from now on.
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What the server says."""

LOST: Final = (*AWAY, OSError, asyncpg.InterfaceError)
"""The same, and what is raised on a connection that is lost, or is being lost while something else uses it."""

_UNSTORABLE = (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)


@contextlib.contextmanager
def translated(connection: Any = None) -> Iterator[None]:
    """Turn asyncpg's connection, time-out, disk and value errors into this room's; all else passes.

    Around code that is not only asyncpg's, give the ``connection``: then an `OSError` or `TimeoutError` that is not
    that connection's stays what it is.
    """
    try:
        yield
    except (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        raise StoreTimeout("a statement did not end in time") from None
    except asyncpg.DiskFullError:
        raise StoreDiskFull("the disk of the database is full") from None
    except asyncpg.DataError as error:
        # Its own text quotes the value. All other such errors are mistakes in a statement.
        if isinstance(error, _UNSTORABLE) or isinstance(error.__cause__, OverflowError | UnicodeEncodeError):
            raise ValueRefused("a value holds something that the database cannot keep") from None
        raise
    except AWAY as error:
        raise StoreUnavailable(f"the database does not answer ({type(error).__name__})") from None
    except (OSError, asyncpg.InterfaceError) as error:
        if connection is not None and not connection.is_closed():
            raise
        if isinstance(error, TimeoutError):
            raise StoreTimeout("a statement did not end in time") from None
        raise StoreUnavailable("the connection to the database was lost") from None
