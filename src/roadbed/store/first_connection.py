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
from roadbed.store.driver_errors import translated

POSTGRES_MAJOR_MIN = 15
VECTOR_MIN = (0, 8)  # halfvec came with 0.7, scans of an index that go on until enough was found with 0.8
INSTALL_VECTOR = "install pgvector on the database server (Debian: postgresql-NN-pgvector), or use one that has it"
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
    """The schema of pgvector's types; the extension is made where it is missing and may be.

    `VectorMissing`, `VectorTooOld`.
    """
    sql = "SELECT extnamespace::regnamespace::text AS schema, extversion FROM pg_extension WHERE extname = 'vector'"
    found = await connection.fetchrow(sql)
    if found is None:
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        except _NOT_INSTALLED:
            raise errors.VectorMissing("the server of the database has no pgvector", hint=INSTALL_VECTOR) from None
        except _MAY_NOT:
            raise errors.VectorMissing("the database has no pgvector, and this role may not create it") from None
        found = await connection.fetchrow(sql)
    require_vector(found["extversion"])
    return str(found["schema"]).strip('"')


def require_vector(version: str) -> None:
    """Raise `VectorTooOld` for a pgvector below `VECTOR_MIN`."""
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < VECTOR_MIN:
        wanted = ".".join(str(part) for part in VECTOR_MIN)
        raise errors.VectorTooOld(f"the database has pgvector {version}; {wanted} or newer is needed")


async def examine(dsn: str, *, timeout_s: float) -> str:
    """What a given server is, in words; changes nothing. Raises what would keep a start from using it."""
    connection = await connect_first(dsn, timeout_s=timeout_s, statement_timeout_s=timeout_s)
    try:
        version = connection.get_server_version()
        number = f"{version.major}.{version.minor}"
        require_version(version.major, number)
        with translated():
            vector = await connection.fetchval(
                "SELECT coalesce((SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
                " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'))"
            )
        if vector is None:
            raise errors.VectorMissing("the server of the database has no pgvector", hint=INSTALL_VECTOR)
        require_vector(vector)
        return f"PostgreSQL {number} with pgvector {vector} at {place_of(dsn)}"
    finally:
        await connection.close(timeout=timeout_s)
