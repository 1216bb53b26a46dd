"""The tools of a database with ``explore: true``: list its tables, describe one, run checked reading SQL.

Free SQL passes the gate with the catalogue as the source's role sees it, the source's masks, and its row filters for
this caller; what runs is the gate's text, behind the engine's own rights, and masks are applied to the rows. The
invariant: nothing here sends text of a caller to a database.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from roadbed.kernel.config import nearest
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.label import parse_label
from roadbed.kernel.principal import Principal
from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.sources.errors import QueryRefused, QueryTooCostly
from roadbed.sources.manifest import DatabaseSource, PostgresSource, SourceConfig
from roadbed.sources.registry import Sources
from roadbed.sources.result import QueryResult
from roadbed.sources.sqlite_rules import reading_authorizer
from roadbed.tools.providers.sql import CELLS_BYTES_MAX, ok_of, style_of
from roadbed.tools.tables import OUTPUT_SCHEMA
from roadbed.tools.types import Ok, Outcome, Provenance, Refused, Tool, ToolRequest

if TYPE_CHECKING:
    from roadbed.tools.sql.policy import Checked

TABLES_MAX = 500
ROWS_MAX = 1_000
SKIP_MAX = 10_000
SQL_CHARACTERS_MAX = 16 * 1024
TOKEN_CHARACTERS = 12

_NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
_TABLE = {
    "type": "object",
    "properties": {"table": {"type": "string", "maxLength": 200, "description": "a table of the source"}},
    "required": ["table"],
    "additionalProperties": False,
}
_SQL = {
    "type": "object",
    "properties": {
        "sql": {"type": "string", "maxLength": SQL_CHARACTERS_MAX, "description": "one SELECT over the source's tables"}
    },
    "required": ["sql"],
    "additionalProperties": False,
}


def explore_tools(sources: Mapping[str, SourceConfig], connections: Sources, key: bytes) -> list[Tool]:
    """Three tools for each source that may be explored. ``key`` makes the tokens of masked values."""
    made: list[Tool] = []
    for name, config in sources.items():
        if isinstance(config, DatabaseSource) and config.explore:
            explorer = Explorer(name, config, style_of(config), connections, key)
            cost_max = config.cost_max if isinstance(config, PostgresSource) else None
            made += explorer.tools(cost_max)
    return made


@dataclass(frozen=True, slots=True)
class Explorer:
    """One database that may be explored, of whatever kind."""

    name: str
    config: DatabaseSource
    dialect: SqlDialect
    sources: Sources
    key: bytes

    def tools(self, cost_max: float | None = None) -> list[Tool]:
        """The three tools."""
        words = {"postgres": "PostgreSQL", "sqlite": "SQLite", "mysql": "MySQL", "duckdb": "DuckDB"}[self.dialect]

        async def query(request: ToolRequest) -> Outcome:
            return await self.query(request, cost_max)

        return [
            self._tool("tables", f"Lists the tables of {self.name}, with what each holds.", _NOTHING, self.tables),
            self._tool(
                "describe", f"Describes one table of {self.name}: columns, types, notes.", _TABLE, self.describe
            ),
            self._tool(
                "query",
                f"Runs one reading statement in {words} over the tables of {self.name}: a SELECT, at most {ROWS_MAX} "
                f"rows; for more, call again with the cursor and an ORDER BY. Ask {self.name}_tables and "
                f"{self.name}_describe for names first.",
                _SQL,
                query,
                OUTPUT_SCHEMA,
                counts_rows=True,
            ),
        ]

    def _tool(
        self,
        suffix: str,
        description: str,
        schema: Mapping[str, Any],
        run: Callable[[ToolRequest], Any],
        output: Mapping[str, Any] | None = None,
        *,
        counts_rows: bool = False,
    ) -> Tool:
        visible = frozenset(self.config.visible_to) if self.config.visible_to is not None else None
        return Tool(
            name=f"{self.name}_{suffix}",
            description=description,
            source=self.name,
            run=run,
            input_schema=schema,
            output_schema=output,
            label=parse_label(self.config.labels),
            visible_to=visible,
            counts_rows=counts_rows,
        )

    async def tables(self, request: ToolRequest) -> Outcome:
        """Tables with their comments."""
        catalogue = await self.catalogue(request.deadline)
        comments = catalogue.comments or {}
        found = [
            {"table": name, "columns": len(columns), "about": comments.get(name, "")}
            for name, columns in list(catalogue.tables.items())[:TABLES_MAX]
        ]
        return Ok(
            {"dialect": catalogue.dialect, "tables": found},
            (Provenance(self.name, "tables", time.time()),),
            is_truncated=len(catalogue.tables) > TABLES_MAX,
        )

    async def describe(self, request: ToolRequest) -> Outcome:
        """One table's columns; those that are dropped by a mask are not there."""
        catalogue = await self.catalogue(request.deadline)
        table = request.arguments["table"]
        columns = catalogue.tables.get(table)
        if columns is None:
            hint = nearest(table, list(catalogue.tables)) or f"ask {self.name}_tables for the names"
            return Refused("tools.unknown_table", f"{self.name} has no such table", hint=hint, param="table")
        comments, masks = catalogue.comments or {}, self._masks().get(table, {})
        shown = [
            {
                "column": column,
                "type": kind,
                "about": comments.get(f"{table}.{column}", ""),
                **({"masked": masks[column]} if column in masks else {}),
            }
            for column, kind in columns.items()
            if masks.get(column) != "drop"
        ]
        data = {"table": table, "about": comments.get(table, ""), "columns": shown}
        return Ok(data, (Provenance(self.name, table, time.time()),))

    async def query(self, request: ToolRequest, cost_max: float | None) -> Outcome:
        """Free SQL, through the gate. ``request.cursor`` says how many rows to skip, ``cost_max`` bounds the plan."""
        skip = int(request.cursor or 0)
        if skip > SKIP_MAX:
            hint = "ask for less: filter, group, or order by what matters and take the first rows"
            return Refused("tools.result_too_large", f"a statement gives {SKIP_MAX} rows in all", hint=hint)
        checked, result = await self.read(
            request.arguments["sql"], request.principal, request.deadline, cost_max, skip=skip
        )
        return ok_of(result, self.name, ", ".join(checked.tables), checked.sql)

    async def read(
        self,
        sql: str,
        principal: Principal,
        deadline: Deadline,
        cost_max: float | None = None,
        *,
        skip: int = 0,
        rows_max: int = ROWS_MAX,
        bytes_max: int = CELLS_BYTES_MAX,
    ) -> tuple[Checked, QueryResult]:
        """The rows of one statement that passed the gate, as this principal sees them, with what was checked.

        `SqlRefused`, and as `Sources.query`.
        """
        from roadbed.tools.sql.gate import check, remembered
        from roadbed.tools.sql.masks import mask_rows
        from roadbed.tools.sql.policy import GatePolicy
        from roadbed.tools.sql.predicates import filled, predicate_for, shared_predicate

        catalogue = await self.catalogue(deadline)
        filters = {
            table: shared_predicate(text, self.dialect) or predicate_for(text, principal, self.dialect)
            for table, text in self.config.rows.items()
        }
        policy = GatePolicy(self._masks(), filters, rows_max, skip=skip)
        # A thread costs a tenth of a millisecond, a verdict that is known a hundredth of that.
        checked = remembered(sql, catalogue, policy)
        if checked is None:
            checked = await asyncio.to_thread(check, sql, catalogue, policy)
        if filters:
            checked = replace(checked, sql=filled(checked.sql, principal))
        try:
            result = await self.sources.query(
                self.name,
                checked.sql,
                deadline=deadline,
                rows_max=rows_max,
                bytes_max=bytes_max,
                cost_max=cost_max,
                authorizer=self._authorizer(catalogue) if self.dialect == "sqlite" else None,
            )
        except QueryTooCostly:
            raise
        except QueryRefused:
            self.sources.forget_catalogue(self.name)  # the schema may have changed under it
            raise
        return checked, mask_rows(checked, result, lambda value: self._token(principal, value))

    async def catalogue(self, deadline: Deadline) -> Catalogue:
        """What the source's role may read, without views of ruled tables. `SourceMayWrite`; as `Sources.catalogue`."""
        await self.sources.require_reader(self.name, deadline)
        found = await self.sources.catalogue(self.name, deadline)
        if not found.views or not (self.config.rows or self.config.mask):
            return found
        from roadbed.tools.sql.views import without_views_of

        return without_views_of(found, {*self.config.rows, *self._masks()})

    def _masks(self) -> dict[str, dict[str, Any]]:
        masks: dict[str, dict[str, Any]] = {}
        for place, kind in self.config.mask.items():
            table, _, column = place.rpartition(".")
            masks.setdefault(table, {})[column] = kind
        return masks

    def _authorizer(self, catalogue: Catalogue) -> Any:
        hidden = [place for place, kind in self.config.mask.items() if kind == "drop"]
        return reading_authorizer(catalogue.tables, hidden)

    def _token(self, principal: Principal, value: str) -> str:
        """The same word for the same value in the caller's team, and another in every other team."""
        bound = f"mask\0{self.name}\0{principal.team}\0{value}".encode()
        digest = hmac.digest(self.key, bound, hashlib.sha256)
        return f"token_{base64.b32encode(digest).decode()[:TOKEN_CHARACTERS]}"
