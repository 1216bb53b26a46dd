"""The first connection to a given PostgreSQL: what keeps it from being used, each in one line that says what to do.

`Database.open` begins with it. It names the server, the database and the role, never the password. The invariant: all
that a person can mend before the start is one of this room's errors, and no exception of the driver comes through.
"""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg

from roadbed.store import errors

POSTGRES_MAJOR_MIN = 15
_NOT_INSTALLED = (asyncpg.FeatureNotSupportedError, asyncpg.UndefinedFileError)
_MAY_NOT = (asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)


def place_of(dsn: str) -> str:
    """Where a connection string leads, for messages: host and port, without user and password."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        return host if host.startswith("/") else f"{host}:{parts.port or 5432}"
    except ValueError:
        return "the given address"


def _user_of(dsn: str) -> str:
    try:
        return urlsplit(dsn).username or "of this system's user"
    except ValueError:
        return "given"


async def connect_first(dsn: str, *, timeout_s: float, statement_timeout_s: float) -> Any:
    """A connection, or a typed error that says why there is none; the caller closes it."""
    where = place_of(dsn)
    try:
        return await asyncpg.connect(dsn, timeout=timeout_s, command_timeout=statement_timeout_s)
    except asyncpg.InvalidPasswordError:
        raise errors.DatabaseRefused(
            f"PostgreSQL at {where} refuses the password of the role {_user_of(dsn)}"
        ) from None
    except asyncpg.InvalidAuthorizationSpecificationError:
        # No such role, no entry of pg_hba.conf for this host, or TLS demanded: the server tells them apart in its log.
        message = f"PostgreSQL at {where} does not let the role {_user_of(dsn)} in from this machine"
        hint = "see the server's log: the role, pg_hba.conf, or add ?sslmode=require to the address"
        raise errors.DatabaseRefused(message, hint=hint) from None
    except asyncpg.InvalidCatalogNameError:
        raise errors.DatabaseMissing(f"PostgreSQL at {where} has no database of the name in the address") from None
    except asyncpg.InsufficientPrivilegeError:
        message = f"the role {_user_of(dsn)} may not connect to this database at {where}"
        raise errors.DatabaseRefused(message, hint="GRANT CONNECT ON DATABASE … TO … as its owner") from None
    except asyncpg.TooManyConnectionsError:
        raise errors.StoreUnavailable(f"PostgreSQL at {where} has no connection left") from None
    except asyncpg.CannotConnectNowError:
        raise errors.StoreUnavailable(f"PostgreSQL at {where} is starting or stopping") from None
    except (asyncpg.PostgresConnectionError, asyncpg.InternalClientError, OSError) as error:
        message = f"no PostgreSQL answers at {where} ({_reason_of(error)})"
        raise errors.StoreUnavailable(message, hint="start it, or mend the address given by --database") from None
    except (asyncpg.InterfaceError, ValueError) as error:
        # The driver's own text may quote the address, hence the password.
        message = f"the address of the database cannot be used ({type(error).__name__})"
        raise errors.DatabaseMissing(message) from None


def _reason_of(error: Exception) -> str:
    known: tuple[tuple[type[Exception], str], ...] = (
        (TimeoutError, "no answer in time"),
        (ConnectionRefusedError, "nothing listens there"),
        (socket.gaierror, "no machine of that name"),
        (FileNotFoundError, "there is no socket"),
    )
    return next((reason for kind, reason in known if isinstance(error, kind)), type(error).__name__)


def require_version(major: int, number: str) -> None:
    """Raise `PostgresTooOld` for a server below `POSTGRES_MAJOR_MIN`."""
    if major < POSTGRES_MAJOR_MIN:
        raise errors.PostgresTooOld(f"the database runs PostgreSQL {number}; {POSTGRES_MAJOR_MIN} or newer is needed")


async def find_vector(connection: Any) -> str:
    """The schema of pgvector's types; the extension is made where it is missing and may be. `VectorMissing`."""
    sql = "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'vector'"
    found = await connection.fetchval(sql)
    if found is None:
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except _NOT_INSTALLED:
            hint = "install pgvector on the database server (Debian: postgresql-NN-pgvector), or use one that has it"
            raise errors.VectorMissing("the server of the database has no pgvector", hint=hint) from None
        except _MAY_NOT:
            raise errors.VectorMissing("the database has no pgvector, and this role may not create it") from None
        found = await connection.fetchval(sql)
    return str(found).strip('"')
