"""What a PostgreSQL role may do beyond reading, and the statements that make one which only reads. Pure.

A read-only transaction is the second line of defence; the first is a role without rights. `RIGHTS_SQL` is asked once,
on the first connection of a pool, and what it finds is a warning in the source's state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

READER = "roadbed_reader"

RIGHTS_SQL = """
SELECT current_user::text AS role, current_database()::text AS database, r.rolsuper AS is_superuser,
       (r.rolcreaterole OR r.rolcreatedb OR r.rolbypassrls OR r.rolreplication) AS is_powerful,
       EXISTS (SELECT FROM pg_roles p WHERE pg_has_role(p.oid, 'MEMBER') AND p.rolname IN
               ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')) AS reads_server,
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'v', 'f') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
                 AND (has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                      OR has_any_column_privilege(c.oid, 'INSERT, UPDATE'))) AS writes_tables,
       (has_database_privilege(current_database(), 'CREATE')
        OR EXISTS (SELECT FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND has_schema_privilege(n.oid, 'CREATE')))
           AS creates,
       EXISTS (SELECT FROM pg_namespace n
               WHERE n.nspname = 'public' AND has_schema_privilege('public', n.oid, 'CREATE')) AS everyone_creates
FROM pg_roles r WHERE r.rolname = current_user
"""

_FOUND = {
    "is_superuser": "is a superuser",
    "is_powerful": "may make roles or databases, replicate, or pass over row rules",
    "reads_server": "may use files or programs of the server",
    "writes_tables": "may change tables",
    "creates": "may create objects",
}


@dataclass(frozen=True, slots=True)
class Rights:
    """What the role of a source may do that reading does not need; ``excess`` is empty when it only reads."""

    role: str
    database: str
    excess: tuple[str, ...]
    everyone_creates: bool = False

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Rights:
        """The rights in a row of `RIGHTS_SQL`."""
        if row["is_superuser"]:  # it may do all of them, which says no more
            excess: tuple[str, ...] = (_FOUND["is_superuser"],)
        else:
            excess = tuple(text for key, text in _FOUND.items() if row[key])
        return cls(row["role"], row["database"], excess, row["everyone_creates"])


@dataclass(frozen=True, slots=True)
class Warned:
    """Something about a source that works and should not stay so; ``fix`` are statements for its administrator."""

    message: str
    fix: tuple[str, ...]


def rights_warning(rights: Rights, tables: Sequence[str]) -> Warned | None:
    """What is wrong with a role that can do more than read; None when it cannot."""
    if not rights.excess:
        return None
    fix = reader_statements(rights.database, tables)
    if rights.everyone_creates:  # the default before PostgreSQL 15; a new role would have it too
        fix = (*fix, "REVOKE CREATE ON SCHEMA public FROM PUBLIC;")
    return Warned(f"its role {rights.role} {', '.join(rights.excess)}", fix)


def reader_statements(database: str, tables: Sequence[str]) -> tuple[str, ...]:
    """The statements that make a role which reads these tables, or all of ``public`` when there are none."""
    split = [name.rpartition(".") for name in sorted(tables)]
    schemas = sorted({schema or "public" for schema, _, _ in split}) or ["public"]
    reads = [f"{_identifier(schema or 'public')}.{_identifier(table)}" for schema, _, table in split]
    return (
        f"CREATE ROLE {READER} LOGIN PASSWORD '...' NOINHERIT CONNECTION LIMIT 16;",
        f"ALTER ROLE {READER} SET default_transaction_read_only = on;",
        f"GRANT CONNECT ON DATABASE {_identifier(database)} TO {READER};",
        *(f"GRANT USAGE ON SCHEMA {_identifier(schema)} TO {READER};" for schema in schemas),
        f"GRANT SELECT ON {', '.join(reads)} TO {READER};"
        if reads
        else f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};",
    )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
