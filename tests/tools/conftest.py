"""Fixtures of the room: a database with an owner and a role that only reads, a toolbox over real sources."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from roadbed.guard.gate import Guard
from roadbed.kernel import breaker as breakers
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.ledger.metrics import Metrics
from roadbed.sources.manifest import PostgresSource, SourceConfig, SqliteSource
from roadbed.sources.pool import PoolSettings
from roadbed.sources.registry import Sources
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.approvals import Approvals
from roadbed.tools.building import build_tools
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.toolbox import ToolBox
from roadbed.tools.types import Outcome

KEY = b"k" * 32
ANNA = Principal(id="anna", team="support", name="Anna")
BERIT = Principal(id="berit", team="sales", name="Berit")
QUICK = PoolSettings(
    connect_s=20.0,
    probe_s=20.0,
    breaker=breakers.BreakerSettings(failures_in_a_row_max=3, open_s=0.05, open_s_max=0.05, recovery=()),
)
ID = ParameterConfig(type="integer", minimum=1, maximum=10_000)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class TwoRoles:
    """A database with 1,200 parcels; ``owner`` may change it, ``reader`` may select from it."""

    owner: str
    reader: str
    role: str


@pytest.fixture
async def two_roles(postgres: EmbeddedPostgres, empty_dsn: str) -> AsyncIterator[TwoRoles]:
    name = urlsplit(empty_dsn).path.strip("/")
    owner = await asyncpg.connect(empty_dsn)
    await owner.execute(
        "CREATE TABLE parcels (id integer PRIMARY KEY, street text, area numeric(8, 2), seen timestamptz)"
    )
    await owner.execute("CREATE TABLE hidden (id integer PRIMARY KEY)")
    await owner.execute(
        "INSERT INTO parcels SELECT n, 'Street ' || n, n / 2.0, '2026-01-01+00' FROM generate_series(1, 1200) n"
    )
    await owner.execute("COMMENT ON TABLE parcels IS 'register'; COMMENT ON COLUMN parcels.area IS 'square metres'")
    await owner.close()
    role = f"tools_reader_{next(_numbers)}"
    async with postgres.superuser(name) as connection:
        await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'reading' NOINHERIT")
        await connection.execute(f"GRANT CONNECT ON DATABASE {name} TO {role}; GRANT USAGE ON SCHEMA public TO {role}")
        await connection.execute(f"GRANT SELECT ON parcels TO {role}")
    parts = urlsplit(empty_dsn)
    host = parts.netloc.rpartition("@")[2]
    yield TwoRoles(empty_dsn, parts._replace(netloc=f"{role}:reading@{host}").geturl(), role)
    async with postgres.superuser(name) as connection:
        await connection.execute(f"DROP OWNED BY {role}")
        await connection.execute(f"DROP ROLE {role}")


def make_file(path: Path, rows: int = 1200) -> None:
    """A SQLite file with parcels."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE parcels (id integer PRIMARY KEY, street text, area real, photo blob)")
        connection.execute("CREATE TABLE people (id integer PRIMARY KEY, mail text, ssn text)")
        connection.execute("INSERT INTO people VALUES (1, 'ola.nordmann@example.com', '01017012345')")
        connection.executemany(
            "INSERT INTO parcels VALUES (?, ?, ?, ?)",
            [(n, f"Street {n}", n / 2, b"\0" * 3) for n in range(1, rows + 1)],
        )


class Box:
    """A toolbox over real sources. Rows of `sources` and `tools` as a manifest would hold them."""

    def __init__(self, folder: Path, guard: Guard, approvals: Approvals | None = None) -> None:
        self.folder = folder
        self.metrics = Metrics()
        self.sources = Sources(folder, None, QUICK)
        self.toolbox = ToolBox(lambda: guard, self.metrics, KEY, approvals)

    async def take(self, sources: Mapping[str, SourceConfig], tools: Mapping[str, ToolConfig]) -> None:
        await self.sources.use(sources)
        self.toolbox.take(build_tools(sources, tools, self.sources, KEY))

    async def call(
        self, tool: str, who: Principal = ANNA, seconds: float = 10.0, cursor: str = "", **args: Any
    ) -> Outcome:
        return await self.toolbox.call(tool, args, principal=who, deadline=Deadline.after(seconds), cursor=cursor)

    def postgres(self, name: str, dsn: str, **settings: Any) -> PostgresSource:
        (self.folder / name).write_text(dsn)
        return PostgresSource(dsn=f"file:{name}", **settings)

    def sqlite(self, name: str, **settings: Any) -> SqliteSource:
        if not (self.folder / name).exists():
            make_file(self.folder / name)
        return SqliteSource(path=name, **settings)


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Guard:
    return Guard.open(tmp_path_factory.mktemp("guard"))


@pytest.fixture
async def box(tmp_path: Path, guard: Guard) -> AsyncIterator[Box]:
    made = Box(tmp_path, guard)
    yield made
    await made.sources.close()
