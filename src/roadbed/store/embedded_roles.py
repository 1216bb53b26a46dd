"""What is inside the embedded PostgreSQL: its settings, its roles, its databases and who may enter which.

Used by `store/embedded.py` alone, over connections of the superuser. Every function may be repeated. The invariant: no
role but the superuser can enter a database that is not its own, and a reader can change nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from roadbed.store.errors import InvalidName

SUPERUSER = "roadbed_admin"
APPLICATION_ROLE = "roadbed"
APPLICATION_DATABASE = "roadbed"
CONNECTIONS_MAX = 60
DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
RESERVED_NAMES = frozenset({"postgres", "template0", "template1", APPLICATION_DATABASE, SUPERUSER})

# Tuned for a laptop: little idle memory, no helper processes that one machine does not need, full durability.
# Passwords are 256 random bits, so repeated hashing protects nothing and would cost each connection about 8 ms.
# A statement's text or a row's value never reaches the log: only severities above ERROR, and tersely.
SETTINGS: dict[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "64MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "io_method": "sync",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "max_logical_replication_workers": "0",
    "autovacuum_max_workers": "2",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "password_encryption": "scram-sha-256",
    "scram_iterations": "1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_autovacuum_min_duration": "-1",
    "logging_collector": "off",
}

Connect = Callable[[str], AbstractAsyncContextManager[Any]]


class RolePasswords(msgspec.Struct):
    """The passwords of a source database's two roles."""

    owner: str
    reader: str


class Passwords(msgspec.Struct):
    """All passwords of one cluster, as kept in STATE (0600)."""

    superuser: str
    application: str
    databases: dict[str, RolePasswords] = {}


def new_password() -> str:
    """256 random bits in hexadecimal, safe as text in a statement and in an address."""
    return secrets.token_hex(32)


def check_database_name(name: str) -> None:
    """`InvalidName` unless ``name`` can be a source's database, and parts of its roles' names."""
    is_reserved = name in RESERVED_NAMES or owner_role(name).startswith("pg_")  # which PostgreSQL keeps for itself
    if is_reserved or not DATABASE_NAME.fullmatch(name):
        raise InvalidName(f"{name!r} cannot be the name of an embedded database")


def owner_role(name: str) -> str:
    """The role that owns the database ``name``."""
    return f"{name}_owner"


def reader_role(name: str) -> str:
    """The role that may read the database ``name``."""
    return f"{name}_reader"


async def prepare_application(connect: Connect, password: str) -> None:
    """The application's role, database and vector extension."""
    async with connect("postgres") as connection:
        await connection.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        await _ensure_role(connection, APPLICATION_ROLE, password)
        await _ensure_database(connection, APPLICATION_DATABASE, APPLICATION_ROLE)
    async with connect(APPLICATION_DATABASE) as connection:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")


async def prepare_database(connect: Connect, name: str, passwords: RolePasswords) -> None:
    """The database ``name`` with its owner and its reader, who sees every table the owner makes in ``public``."""
    owner, reader = owner_role(name), reader_role(name)
    async with connect("postgres") as connection:
        await _ensure_role(connection, owner, passwords.owner)
        await _ensure_role(connection, reader, passwords.reader)
        await connection.execute(f'ALTER ROLE "{reader}" SET default_transaction_read_only = on')
        await connection.execute(f"ALTER ROLE \"{reader}\" SET statement_timeout = '30s'")
        await _ensure_database(connection, name, owner)
        await connection.execute(f'GRANT CONNECT ON DATABASE "{name}" TO "{reader}"')
    async with connect(name) as connection:
        await connection.execute(f'ALTER SCHEMA public OWNER TO "{owner}"')
        await connection.execute(f'GRANT USAGE ON SCHEMA public TO "{reader}"')
        await connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{reader}"')
        await connection.execute(
            f'ALTER DEFAULT PRIVILEGES FOR ROLE "{owner}" IN SCHEMA public GRANT SELECT ON TABLES TO "{reader}"'
        )


async def _ensure_role(connection: Any, role: str, password: str) -> None:
    """A login role without rights of its own. Names are checked and passwords hexadecimal: both are safe as text."""
    if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
        await connection.execute(f'CREATE ROLE "{role}" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION')
    await connection.execute(f"ALTER ROLE \"{role}\" PASSWORD '{password}'")


async def _ensure_database(connection: Any, name: str, owner: str) -> None:
    if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
        await connection.execute(f'CREATE DATABASE "{name}" OWNER "{owner}"')
    await connection.execute(f'REVOKE CONNECT, TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
