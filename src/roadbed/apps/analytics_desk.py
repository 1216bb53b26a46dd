"""`Desk`: runs the statements of an analytics app on its sources as one caller may see them, and joins their results.

Each statement passes the gate with the caller's row filters and masks, and runs read-only in its source; several run
side by side, each capped, and one SELECT joins them in an embedded DuckDB. What comes out has passed the guard. The
invariant: a source that does not answer is named in what is missing, and never looks like an empty result.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from roadbed.apps.analytics_table import Table, table_from
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError, DeadlineExceeded, NotFound, Unavailable
from roadbed.kernel.label import PUBLIC, Label, join_labels, parse_label
from roadbed.kernel.principal import Principal
from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.sources.errors import ResultTooLarge, SourceMisdeclared
from roadbed.sources.manifest import (
    DatabaseSource,
    DuckdbSource,
    MysqlSource,
    PostgresSource,
    SourceConfig,
    SqliteSource,
)
from roadbed.sources.registry import Sources
from roadbed.sources.result import QueryResult
from roadbed.tools.providers.explore import Explorer
from roadbed.tools.regions import is_across
from roadbed.tools.shaping import NotJson, ResultGuard, shape
from roadbed.tools.tables import table_of
from roadbed.tools.types import Ok

ROWS_MAX = 1_000
PART_ROWS_MAX = 10_000
PART_BYTES_MAX = 4 * 1024 * 1024
TABLE_BYTES_MAX = 512 * 1024

_DIALECTS: tuple[tuple[type[DatabaseSource], SqlDialect], ...] = (
    (PostgresSource, "postgres"), (SqliteSource, "sqlite"), (MysqlSource, "mysql"), (DuckdbSource, "duckdb"),
)  # fmt: skip


class SourceHidden(NotFound):
    """An app's source does not exist, is no database, or is not for this caller."""

    code = "apps.source_hidden"
    hint = "ask someone whose team may see the source, or name another"


class Part(msgspec.Struct, frozen=True):
    """One statement on one source; ``name`` is its table in a join."""

    name: str
    source: str
    sql: str


class Prepared(msgspec.Struct, frozen=True):
    """A question as statements, ready to run. ``chart`` and ``unit`` say how its result is shown."""

    title: str
    parts: tuple[Part, ...]
    join: str = ""
    chart: str = "auto"
    unit: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that it asks."""
        return tuple(dict.fromkeys(part.source for part in self.parts))

    @property
    def statements(self) -> tuple[str, ...]:
        """The texts as they were written."""
        return (*(part.sql for part in self.parts), *((self.join,) if self.join else ()))


class Cite(msgspec.Struct, frozen=True):
    """Where the rows of a part came from. ``statement`` is what ran; ``as_of`` counts seconds from 1970."""

    source: str
    statement: str
    as_of: float
    rows: int
    tables: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    is_truncated: bool = False


class Missing(msgspec.Struct, frozen=True):
    """A source that did not answer."""

    source: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a question's statements. ``table`` is None when nothing that can be shown is left."""

    table: Table | None
    cites: tuple[Cite, ...]
    missing: tuple[Missing, ...] = ()
    label: Label = PUBLIC
    masked_count: int = 0


@dataclass(frozen=True, slots=True)
class Desk:
    """The sources that serve. ``configs`` and ``guard`` are asked for at each run, as they change with the manifest."""

    sources: Sources
    configs: Callable[[], Mapping[str, SourceConfig]]
    guard: Callable[[], ResultGuard]
    key: bytes

    def explorer(self, name: str, principal: Principal) -> Explorer:
        """How a source is asked as this caller. `SourceHidden`."""
        config = self.configs().get(name)
        if not isinstance(config, DatabaseSource) or not self._may_see(config, principal):
            raise SourceHidden(f"there is no database named {name[:64]!r} that you may ask")
        return Explorer(name, config, self.dialect(name), self.sources, self.key)

    def dialect(self, name: str) -> SqlDialect:
        """The dialect of a source. `SourceHidden` when it is no database."""
        config = self.configs().get(name)
        for kind, dialect in _DIALECTS:
            if isinstance(config, kind):
                return dialect
        raise SourceHidden(f"there is no database named {name[:64]!r}")

    def visible(self, names: Sequence[str], principal: Principal) -> list[str]:
        """Those of some sources that a caller may ask."""
        configs = self.configs()
        return [
            name
            for name in names
            if isinstance(config := configs.get(name), DatabaseSource) and self._may_see(config, principal)
        ]

    def label(self, names: Sequence[str]) -> Label:
        """The label of all that these sources hold."""
        configs = self.configs()
        return join_labels(parse_label(configs[name].labels) for name in names if name in configs)

    def is_personal(self, names: Sequence[str]) -> bool:
        """Whether rows differ between members of one team, so that a kept result is its asker's alone."""
        configs = (self.configs().get(name) for name in names)
        filters = [text for config in configs if isinstance(config, DatabaseSource) for text in config.rows.values()]
        return any("{principal.id}" in text or "{principal.name}" in text for text in filters)

    async def catalogue(self, name: str, principal: Principal, deadline: Deadline) -> Catalogue:
        """A source's tables. `SourceHidden`, and as `Explorer.catalogue`."""
        return await self.explorer(name, principal).catalogue(deadline)

    async def catalogues(
        self, names: Sequence[str], principal: Principal, deadline: Deadline
    ) -> tuple[dict[str, Catalogue], list[Missing]]:
        """The tables of the sources that answer, and those that do not."""
        found = await asyncio.gather(
            *(self._or_missing(name, self.catalogue(name, principal, deadline)) for name in names)
        )
        pairs = list(zip(names, found, strict=True))
        return (
            {name: one for name, one in pairs if isinstance(one, Catalogue)},
            [one for _, one in pairs if isinstance(one, Missing)],
        )

    async def run(self, prepared: Prepared, principal: Principal, deadline: Deadline) -> Ran:
        """Run a question. `SourceHidden`, and what a statement can be mended by: `SqlRefused`, `QueryRefused`, …"""
        is_joined = bool(prepared.join)
        explorers = [self.explorer(part.source, principal) for part in prepared.parts]
        found = await asyncio.gather(
            *(
                self._or_missing(part.source, self._part(explorer, part, principal, deadline, is_joined=is_joined))
                for explorer, part in zip(explorers, prepared.parts, strict=True)
            )
        )
        missing = tuple({one.source: one for one in found if isinstance(one, Missing)}.values())
        got = [one for one in found if not isinstance(one, Missing)]
        cites = tuple(cite for _, _, cite in got)
        label = self.label(prepared.sources)
        if not got:
            return Ran(None, (), missing, label)
        if is_joined and not missing:
            frames = {part.name: result for part, result, _ in got}
            result = await self._joined(frames, prepared.join, deadline)
        else:
            result = got[0][1]
        table, label, masked = await asyncio.to_thread(self._shaped, result, label, principal.team)
        return Ran(table.without_rows(ROWS_MAX), cites, missing, label, masked)

    async def _part(
        self, explorer: Explorer, part: Part, principal: Principal, deadline: Deadline, *, is_joined: bool
    ) -> tuple[Part, QueryResult, Cite]:
        rows_max, bytes_max = (PART_ROWS_MAX, PART_BYTES_MAX) if is_joined else (ROWS_MAX, TABLE_BYTES_MAX)
        config = explorer.config
        cost_max = config.cost_max if isinstance(config, PostgresSource) else None
        checked, result = await explorer.read(
            part.sql, principal, deadline, cost_max, rows_max=rows_max, bytes_max=bytes_max
        )
        masks = [
            f"{name}: {kind}"
            for name, kind in zip(checked.column_names, checked.column_masks, strict=True)
            if kind is not None
        ]
        filters = [f"{table}: {config.rows[table]}" for table in checked.tables if table in config.rows]
        cite = Cite(
            part.source,
            checked.sql,
            time.time(),
            len(result.rows),
            checked.tables,
            tuple(filters),
            tuple(masks),
            result.is_truncated,
        )
        return part, result, cite

    async def _joined(self, frames: Mapping[str, QueryResult], sql: str, deadline: Deadline) -> QueryResult:
        from roadbed.tools.sql.gate import check
        from roadbed.tools.sql.policy import GatePolicy

        tables = {name: {column.name: column.type for column in frame.columns} for name, frame in frames.items()}
        checked = await asyncio.to_thread(check, sql, Catalogue("duckdb", tables), GatePolicy(rows_max=ROWS_MAX))
        return await self.sources.join_frames(
            frames, checked.sql, deadline, rows_max=ROWS_MAX, bytes_max=TABLE_BYTES_MAX
        )

    async def _or_missing(self, source: str, work: Any) -> Any:
        try:
            return await work
        except (Unavailable, DeadlineExceeded, SourceMisdeclared, ConfigError) as error:
            return Missing(source, error.code, error.message)

    def _shaped(self, result: QueryResult, label: Label, team: str) -> tuple[Table, Label, int]:
        ok = Ok(table_of(result), is_truncated=result.is_truncated)
        try:
            shaped = shape(ok, self.guard(), label, TABLE_BYTES_MAX, team)
        except (OverflowError, NotJson):
            raise ResultTooLarge("one row of the result is over the bound of the whole result") from None
        table = table_from(shaped.ok.data, is_truncated=shaped.ok.is_truncated)
        return table, shaped.ok.label, shaped.masked_count

    def _may_see(self, config: DatabaseSource, principal: Principal) -> bool:
        label = parse_label(config.labels)
        if label.level > principal.clearance or is_across(label, self.guard().region_of(principal.team)):
            return False
        return config.visible_to is None or principal.team in config.visible_to

    # -- what was answered can be asked for again ---------------------------------------------------------------------

    def seal(self, app: str, principal: Principal, prepared: Prepared) -> str:
        """What shows later that this app answered this team with these statements."""
        bound = msgspec.json.encode(["analytics", app, principal.team, msgspec.to_builtins(prepared)])
        return hmac.digest(self.key, bound, hashlib.sha256).hex()

    def is_sealed(self, app: str, principal: Principal, prepared: Prepared, seal: str) -> bool:
        """Whether the statements are those that the app answered with."""
        return hmac.compare_digest(self.seal(app, principal, prepared).encode(), seal.encode())
