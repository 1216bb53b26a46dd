"""Migrations: the numbered files of `migrations/`, each applied once, in order, in its own transaction.

`roadbed up` calls `migrate` before anything else uses the schema. A file may hold ``-- compatible_from: NNNN``: builds
whose newest migration is NNNN or later go on working after it (it only expands), so that old and new replicas run side
by side; without that line older builds refuse the schema. The invariant: what was applied is never edited (checksums
are compared), and two migrators never run at once (an advisory lock).
"""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import asyncpg

from roadbed.store import errors
from roadbed.store.database import Connection, Database

Mode = Literal["auto", "check"]

MIGRATION_TIMEOUT_S = 600.0
LOCK_KEY = 0x526F6164  # "Road"
_FILE_NAME = re.compile(r"(\d{4})_([a-z][a-z0-9_]*)\.sql")
_COMPATIBLE = re.compile(r"^--\s*compatible_from:\s*(\d{4})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file. ``compatible_from`` is the oldest newest-migration of a build that can use its result."""

    number: int
    name: str
    sql: str
    compatible_from: int

    @property
    def checksum(self) -> str:
        """The digest of the file's text, recorded when it is applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What `migrate` found and did. ``version`` is the highest number applied now; ``applied`` those of this run."""

    version: int
    schema_min: int
    schema_max: int
    applied: tuple[int, ...]


def parse_migration(file_name: str, sql: str) -> Migration:
    """A `Migration` from its file. `ValueError` when the name does not read ``NNNN_name.sql``."""
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise ValueError(f"{file_name} is not named NNNN_name.sql")
    compatible = _COMPATIBLE.search(sql)
    number = int(match[1])
    return Migration(number, match[2], sql, int(compatible[1]) if compatible else number)


def load_migrations() -> tuple[Migration, ...]:
    """All migrations of this build, in order. `ValueError` when two have one number."""
    files = [
        entry for entry in (resources.files("roadbed.store") / "migrations").iterdir() if entry.name.endswith(".sql")
    ]
    migrations = sorted((parse_migration(entry.name, entry.read_text("utf-8")) for entry in files), key=_number)
    for before, after in itertools.pairwise(migrations):
        if before.number == after.number:
            raise ValueError(f"two migrations have the number {after.number:04d}")
    return tuple(migrations)


def _number(migration: Migration) -> int:
    return migration.number


async def migrate(
    database: Database,
    *,
    workspace_id: str,
    mode: Mode = "auto",
    migrations: tuple[Migration, ...] | None = None,
) -> SchemaState:
    """Bring the schema of ``database`` to this build's version, making it where it is missing.

    With mode ``check`` nothing is changed. `SchemaTooNew`, `SchemaTooOld`, `MigrationChanged`, `MigrationFailed`,
    `WorkspaceMismatch`; whatever was applied before the failing file stays applied.
    """
    known = load_migrations() if migrations is None else migrations
    async with database.connection(timeout_s=MIGRATION_TIMEOUT_S) as connection:
        await _lock(connection, database.schema)
        try:
            if mode == "auto":
                await _prepare(connection, database.schema)
            recorded = await _recorded(connection, database.schema)
            _check_recorded(known, recorded)
            pending = [migration for migration in known if migration.number not in recorded]
            if pending and mode == "check":
                if not recorded:
                    raise errors.SchemaTooOld(
                        f"the database has no tables of Roadbed in the schema {database.schema} yet"
                    )
                version = max(recorded)
                raise errors.SchemaTooOld(
                    f"the schema {database.schema} is at version {version:04d}, this build needs {known[-1].number:04d}"
                )
            for migration in pending:
                await _apply(connection, migration)
            await _check_workspace(connection, workspace_id, may_write=mode == "auto")
        finally:
            if not connection.is_closed():
                await connection.execute("SELECT pg_advisory_unlock_all()")
    newest = known[-1].number
    return SchemaState(
        version=max({*recorded, newest}),
        schema_min=newest,
        schema_max=newest,
        applied=tuple(migration.number for migration in pending),
    )


async def _lock(connection: Connection, schema: str) -> None:
    await connection.execute(f"SET lock_timeout = {MIGRATION_TIMEOUT_S * 1000:.0f}")
    await connection.execute("SELECT pg_advisory_lock($1, hashtext($2))", LOCK_KEY, schema)


async def _prepare(connection: Connection, schema: str) -> None:
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
            await connection.execute(f'CREATE SCHEMA "{schema}"')
        await connection.execute(
            f"""
            CREATE TABLE IF NOT EXISTS "{schema}".schema_migration (
                number integer PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                compatible_from integer NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
    except asyncpg.InsufficientPrivilegeError:
        hint = "as the database's owner: GRANT CREATE ON DATABASE … TO …, or make the schema and give it to the role"
        raise errors.MigrationFailed(f"this role may not create the schema {schema}", hint=hint) from None


async def _recorded(connection: Connection, schema: str) -> dict[int, tuple[str, int]]:
    """Checksum and compatibility of every applied migration; nothing when the schema is not there."""
    if await connection.fetchval("SELECT to_regclass($1)", f'"{schema}".schema_migration') is None:
        return {}
    rows = await connection.fetch(f'SELECT number, checksum, compatible_from FROM "{schema}".schema_migration')  # noqa: S608
    return {row["number"]: (row["checksum"], row["compatible_from"]) for row in rows}


def _check_recorded(known: tuple[Migration, ...], recorded: dict[int, tuple[str, int]]) -> None:
    newest = known[-1].number
    by_number = {migration.number: migration for migration in known}
    for number, (checksum, compatible_from) in recorded.items():
        migration = by_number.get(number)
        if migration is None:
            if compatible_from > newest:
                version = f"{max(recorded):04d}"
                raise errors.SchemaTooNew(f"the database is at schema version {version}, this build knows {newest:04d}")
        elif migration.checksum != checksum:
            raise errors.MigrationChanged(f"migration {number:04d}_{migration.name} differs from the one applied")


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migration (number, name, checksum, compatible_from) VALUES ($1, $2, $3, $4)",
                migration.number,
                migration.name,
                migration.checksum,
                migration.compatible_from,
            )
    except (asyncpg.SyntaxOrAccessError, asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        name = f"{migration.number:04d}_{migration.name}"
        raise errors.MigrationFailed(f"migration {name} failed: {error.message or type(error).__name__}") from None


async def _check_workspace(connection: Connection, workspace_id: str, *, may_write: bool) -> None:
    if may_write:
        await connection.execute("INSERT INTO workspace (id) VALUES ($1) ON CONFLICT DO NOTHING", workspace_id)
    found = await connection.fetchval("SELECT id FROM workspace")
    if found != workspace_id:
        raise errors.WorkspaceMismatch(f"the schema belongs to the workspace {found!r}, not to {workspace_id!r}")


def schema_name(workspace_name: str) -> str:
    """The default schema of a workspace: ``roadbed_`` and its name in the characters that a schema may have."""
    word = re.sub(r"[^a-z0-9]+", "_", workspace_name.lower()).strip("_") or "workspace"
    if len(word) > 40:
        word = f"{word[:31]}_{hashlib.sha256(workspace_name.encode()).hexdigest()[:8]}"
    return f"roadbed_{word}"
