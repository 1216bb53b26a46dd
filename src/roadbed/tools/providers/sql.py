"""Declared SQL tools of databases: the ``sql`` of the manifest with typed parameters.

Names and schemas need no reachable source. A reading tool runs in the source's read-only connection, behind its role or
an authorizer; a changing one needs the source's ``write_dsn`` (SQLite: ``write``) and an approval, and its preview is a
dry run that is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.label import parse_label
from roadbed.sources.manifest import (
    DatabaseSource,
    DuckdbSource,
    MysqlSource,
    PostgresSource,
    SourceConfig,
    SqliteSource,
)
from roadbed.sources.registry import Sources
from roadbed.sources.result import QueryResult, ResultBounds, ResultBuilder
from roadbed.sources.sqlite_rules import reading_authorizer
from roadbed.tools.errors import ToolMisdeclared
from roadbed.tools.manifest import ToolConfig
from roadbed.tools.providers.sql_places import Statement, Style, parse_statement, schema_of
from roadbed.tools.tables import OUTPUT_SCHEMA, table_of
from roadbed.tools.types import RESULT_BYTES_MAX, Ok, Outcome, Provenance, Tool, ToolRequest

CELLS_BYTES_MAX = RESULT_BYTES_MAX
AUTHORIZER = reading_authorizer()


def declared_sql_tools(
    sources: Mapping[str, SourceConfig], tools: Mapping[str, ToolConfig], connections: Sources
) -> list[Tool]:
    """The declared tools of database sources. `ToolMisdeclared`."""
    made = []
    for name, config in tools.items():
        source = sources.get(config.source)
        if isinstance(source, DatabaseSource):
            made.append(_declared(name, config, source, connections))
    return made


def check_declared(name: str, config: ToolConfig, source: DatabaseSource) -> None:
    """`ToolMisdeclared` when a declared tool cannot work on its source, as far as is known without asking it."""
    if not config.sql:
        raise ToolMisdeclared(f"tools.{name} has no sql", hint=f"{config.source} is a database: write one statement")
    if config.effect != "read":
        _check_changing(name, config, source)
    parse_statement(name, config.sql, config.parameters, style_of(source))


def _check_changing(name: str, config: ToolConfig, source: DatabaseSource) -> None:
    match source:
        case PostgresSource() | MysqlSource():
            if not source.write_dsn:
                raise ToolMisdeclared(
                    f"tools.{name} changes {config.source}, which has no write_dsn",
                    hint="give the source a write_dsn with a role that may do this and nothing more",
                )
        case SqliteSource():
            if not source.write:
                raise ToolMisdeclared(
                    f"tools.{name} changes {config.source}, which is only read",
                    hint="say `write: true` on the source",
                )
        case _:
            raise ToolMisdeclared(f"tools.{name} changes {config.source}, and a source of this type is only read")
    words = _CHANGING_WORDS.get(style_of(source))
    if words is not None and _first_word(config.sql) not in words:
        raise ToolMisdeclared(
            f"tools.{name}.sql changes more than rows, which could not be tried and taken back",
            hint="begin it with " + ", ".join(words),
        )


# What a rollback takes back. PostgreSQL takes back all that a statement may do in a transaction.
_CHANGING_WORDS: dict[Style, tuple[str, ...]] = {
    "mysql": ("INSERT", "UPDATE", "DELETE", "REPLACE"),
    "sqlite": ("INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"),
}


def _first_word(sql: str) -> str:
    return (sql.split(None, 1) or [""])[0].upper()


def style_of(source: DatabaseSource) -> Style:
    """Whose SQL a source speaks."""
    match source:
        case PostgresSource():
            return "postgres"
        case MysqlSource():
            return "mysql"
        case DuckdbSource():
            return "duckdb"
        case _:
            return "sqlite"


def _declared(name: str, config: ToolConfig, source: DatabaseSource, connections: Sources) -> Tool:
    check_declared(name, config, source)
    statement = parse_statement(name, config.sql, config.parameters, style_of(source))
    runner = _Runner(name, config, statement, style_of(source), connections)
    visible = [frozenset(teams) for teams in (source.visible_to, config.visible_to) if teams is not None]
    changes = config.effect != "read"
    description = config.description + (f"\nReturns: {config.returns}" if config.returns else "")
    return Tool(
        name=name,
        description=description,
        source=config.source,
        run=runner.change if changes else runner.read,
        preview=runner.preview if changes else None,
        input_schema=schema_of(config.parameters),
        output_schema=None if changes else OUTPUT_SCHEMA,
        effect=config.effect,
        label=parse_label([*source.labels, *config.labels]),
        visible_to=frozenset.intersection(*visible) if visible else None,
        timeout_s=parse_duration_s(config.timeout),
        rate=config.rate,
        stale_max_s=parse_duration_s(config.stale_max) if config.stale_max and not changes else 0.0,
        counts_rows=not changes,
    )


@dataclass(frozen=True, slots=True)
class _Runner:
    """Runs one declared statement."""

    name: str
    config: ToolConfig
    statement: Statement
    style: Style
    sources: Sources

    async def read(self, request: ToolRequest) -> Outcome:
        """The rows, from where the cursor points."""
        source, rows_max = self.config.source, self.config.rows_max
        args = self._args(request)
        sql = paged(self.statement.text, request.cursor, self.style)
        await self.sources.require_reader(source, request.deadline)
        result = await self.sources.query(
            source,
            sql,
            args,
            deadline=request.deadline,
            rows_max=rows_max,
            bytes_max=CELLS_BYTES_MAX,
            authorizer=AUTHORIZER if self.style == "sqlite" else None,
        )
        return ok_of(result, source, self.name, self.statement.text)

    async def preview(self, request: ToolRequest) -> Mapping[str, Any]:
        """How many rows a change would touch: it is made and taken back."""
        source = self.config.source
        changed = await self.sources.change(
            source, self.statement.text, self._args(request), request.deadline, is_dry=True
        )
        return {"source": source, "statement": self.statement.text, "rows": changed.rows}

    async def change(self, request: ToolRequest) -> Outcome:
        """Make the change of an approved call and commit it; how many rows it touched. `preview` tried it before."""
        source = self.config.source
        changed = await self.sources.change(
            source, self.statement.text, self._args(request), request.deadline, is_dry=False
        )
        data: dict[str, Any] = {"rows_changed": changed.rows}
        if changed.columns:
            builder = ResultBuilder(ResultBounds())
            for row in changed.returned:
                builder.take(row)
            shown = table_of(builder.result(()))["rows"]
            data["returned"] = [dict(zip(changed.columns, row, strict=True)) for row in shown]
        return Ok(data, (Provenance(source, self.name, time.time(), self.statement.text),))

    def _args(self, request: ToolRequest) -> list[Any]:
        return self.statement.values(request.arguments, self.config.parameters, self.style)


def paged(sql: str, cursor: str, style: Style) -> str:
    """A reading statement from the row on at which a page begins. ``cursor`` was signed by the toolbox."""
    start = int(cursor or 0)
    if not start:
        return sql
    if style == "mysql":  # which forgets the order of a subquery, but not of a query in parentheses
        return f"({sql}\n) LIMIT {2**63 - 1} OFFSET {start}"
    limit = "LIMIT -1 " if style == "sqlite" else ""
    return f"SELECT * FROM ({sql}\n) AS page {limit}OFFSET {start}"  # noqa: S608


def ok_of(result: QueryResult, source: str, resource: str, statement: str) -> Ok:
    """The outcome of a reading statement."""
    origin = Provenance(source, resource, time.time(), statement)
    return Ok(table_of(result), (origin,), is_truncated=result.is_truncated)
