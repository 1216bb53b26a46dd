"""SQL tools on a real PostgreSQL: rights, exact values, catalogue, writes by approval, and what goes wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.stopwatch import Stopwatch

from roadbed.guard.gate import Guard
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.principal import ADMIN, Principal
from roadbed.store.database import Database
from roadbed.store.embedded import EmbeddedPostgres
from roadbed.tools.approvals import Approvals
from roadbed.tools.errors import ApprovalInvalid
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused

from .conftest import ID, Box, TwoRoles

STREET = ToolConfig(
    source="db",
    description="The street of a parcel.",
    sql="SELECT street FROM parcels WHERE id = :id",
    parameters={"id": ID},
)
RENAME = ToolConfig(
    source="db",
    description="Rename the street of a parcel.",
    sql="UPDATE parcels SET street = :street WHERE id = :id RETURNING id, street",
    parameters={"id": ID, "street": ParameterConfig(type="string")},
    effect="write",
)
BOSS = Principal(id="boss", team="office", roles=frozenset({ADMIN}), name="Boss")
ACTIVE = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE $1 AND state = 'active'"
)


def read(sql: str, **settings: Any) -> ToolConfig:
    return ToolConfig(source="db", description="d", sql=sql, **settings)


@pytest.fixture
async def writing(tmp_path: Any, guard: Guard, two_roles: TwoRoles, database: Database) -> AsyncIterator[Box]:
    box = Box(tmp_path, guard, Approvals(database))
    (tmp_path / "owner").write_text(two_roles.owner)
    source = box.postgres("db", two_roles.reader, write_dsn="file:owner")
    erase = ToolConfig(
        source="db",
        description="d",
        sql="DELETE FROM parcels WHERE id = :id",
        parameters={"id": ID},
        effect="irreversible",
    )
    street = read(STREET.sql, parameters={"id": ID})
    await box.take({"db": source}, {"rename": RENAME, "erase": erase, "street": street})
    yield box
    await box.sources.close()


async def street(box: Box) -> str:
    outcome = await box.call("street", id=7)
    assert isinstance(outcome, Ok)
    return str(outcome.data["rows"][0][0])


async def test_values_lose_nothing(box: Box, two_roles: TwoRoles) -> None:
    sql = """
        SELECT 1234567890.123456789::numeric AS a, '2026-03-29 02:30:00+02'::timestamptz AS b, '2026-02-03'::date AS c,
               '\\x0001'::bytea AS d, repeat('x', 9000) AS e, 9007199254740993::bigint AS f, 'NaN'::float8 AS g,
               '{"n": 1.10}'::jsonb AS h, ARRAY[1, 2] AS i, NULL::text AS j, interval '1 day 2.5 s' AS k
    """
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"values": read(sql)})
    outcome = await box.call("values")
    assert isinstance(outcome, Ok)
    a, b, c, d, e, f, g, h, i, j, k = outcome.data["rows"][0]
    assert (a, b, c) == ("1234567890.123456789", "2026-03-29T00:30:00+00:00", "2026-02-03")
    assert d == "(2 bytes, sha256 b413f47d13ee2fe6)"
    assert e.startswith("x" * 8192)
    assert e.endswith("[cut: 9000 characters in all]")
    assert (f, g, h, i, j, k) == ("9007199254740993", "nan", '{"n": 1.10}', [1, 2], None, "P1DT2.5S")
    assert "cut in: e" in outcome.data["notes"][0]


async def test_parameters_are_typed_and_never_part_of_the_statement(box: Box, two_roles: TwoRoles) -> None:
    kinds = {name: ParameterConfig(type=name) for name in ("string", "number", "boolean", "date", "timestamp", "uuid")}
    sql = "SELECT :string AS s, :number AS n, :boolean AS b, :date AS d, :timestamp AS t, :uuid AS u, ':no' AS x"
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"typed": read(sql, parameters=kinds)})
    given: dict[str, Any] = {
        "string": "'; DROP TABLE parcels; --",
        "number": 1.1,
        "boolean": True,
        "date": "2026-02-28",
        "timestamp": "2026-02-28T10:00:00+01:00",
        "uuid": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    }
    outcome = await box.call("typed", **given)
    assert isinstance(outcome, Ok), outcome
    assert outcome.data["rows"][0][:3] == [given["string"], "1.1", True]
    assert outcome.data["rows"][0][6] == ":no"
    refused = await box.call("typed", **{**given, "date": "2026-02-30"})
    assert isinstance(refused, Refused)
    assert (refused.code, refused.param) == ("tools.arguments_invalid", "date")


async def test_a_role_that_may_write_runs_no_tool_and_the_grants_are_told(box: Box, two_roles: TwoRoles) -> None:
    await box.take({"db": box.postgres("db", two_roles.owner, explore=True)}, {"street": STREET})
    for outcome in (await box.call("street", id=1), await box.call("db_tables")):
        assert isinstance(outcome, Refused)
        assert outcome.code == "sources.may_write"
        assert "GRANT SELECT" in outcome.hint


async def test_the_catalogue_is_what_the_role_may_read_with_comments(box: Box, two_roles: TwoRoles) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True, mask={"parcels.street": "drop"})}, {})
    tables = await box.call("db_tables")
    assert isinstance(tables, Ok)
    assert tables.data["tables"] == [{"table": "parcels", "columns": 4, "about": "register"}]
    described = await box.call("db_describe", table="parcels")
    assert isinstance(described, Ok)
    assert [column["column"] for column in described.data["columns"]] == ["id", "area", "seen"]
    assert described.data["columns"][1] == {"column": "area", "type": "numeric(8,2)", "about": "square metres"}
    unknown = await box.call("db_describe", table="hidden")
    assert isinstance(unknown, Refused)
    assert unknown.code == "tools.unknown_table"


# -- changes ----------------------------------------------------------------------------------------------------------


async def test_a_change_waits_for_a_person_and_is_made_once(writing: Box) -> None:
    asked = await writing.call("rename", id=7, street="New")
    assert isinstance(asked, NeedsApproval)
    assert asked.preview["rows"] == 1
    assert await street(writing) == "Street 7"
    again = await writing.call("rename", id=7, street="New")
    assert isinstance(again, NeedsApproval)
    assert again.approval_id == asked.approval_id
    done = await writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    assert isinstance(done, Ok)
    assert done.data == {"rows_changed": 1, "returned": [{"id": 7, "street": "New"}]}
    assert await street(writing) == "New"
    with pytest.raises(ApprovalInvalid):
        await writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    told = await writing.call("rename", id=7, street="New")
    assert isinstance(told, Ok)
    assert told.data["rows_changed"] == 1
    assert isinstance(await writing.call("rename", id=7, street="New"), NeedsApproval)


async def test_two_who_approve_at_once_start_one_run(writing: Box) -> None:
    asked = await writing.call("erase", id=9)
    assert isinstance(asked, NeedsApproval)
    ended = await asyncio.gather(
        *(writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10)) for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Ok) for outcome in ended) == 1
    assert sum(isinstance(outcome, ApprovalInvalid) for outcome in ended) == 4


async def test_an_approval_is_bound_to_arguments_and_caller_and_a_denial_is_told(
    writing: Box, database: Database
) -> None:
    asked = await writing.call("rename", id=7, street="New")
    assert isinstance(asked, NeedsApproval)
    other = await writing.call("rename", id=8, street="New")
    stranger = await writing.call("rename", BOSS, id=7, street="New")
    assert isinstance(other, NeedsApproval)
    assert isinstance(stranger, NeedsApproval)
    assert len({asked.approval_id, other.approval_id, stranger.approval_id}) == 3
    await database.execute(
        """UPDATE tool_approval SET arguments = '{"id": 7, "street": "Evil"}' WHERE id = $1""", asked.approval_id
    )
    with pytest.raises(ApprovalInvalid, match="not the one"):
        await writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    await Approvals(database).deny(other.approval_id, BOSS, "no")
    denied = await writing.call("rename", id=8, street="New")
    assert isinstance(denied, Refused)
    assert denied.code == "tools.denied"
    assert await street(writing) == "Street 7"


async def test_what_cannot_be_undone_is_not_approved_by_its_asker_and_an_old_approval_by_nobody(
    writing: Box, database: Database
) -> None:
    asked = await writing.call("erase", BOSS, id=7)
    assert isinstance(asked, NeedsApproval)
    with pytest.raises(ApprovalInvalid, match="not approved by who asks"):
        await writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    await database.execute("UPDATE tool_approval SET expires = now() - interval '1 second'")
    other = Principal(id="other", team="office")
    with pytest.raises(ApprovalInvalid, match="expired"):
        await writing.toolbox.approve(asked.approval_id, other, Deadline.after(10))
    assert await street(writing) == "Street 7"


async def test_a_run_whose_process_died_is_unknown_and_not_run_again(writing: Box, database: Database) -> None:
    asked = await writing.call("rename", id=7, street="New")
    assert isinstance(asked, NeedsApproval)
    approvals = Approvals(database)
    tool = next(tool for tool in writing.toolbox.all_tools() if tool.name == "rename")
    await approvals.begin(await approvals.find(asked.approval_id), tool, BOSS)  # and here the process ends
    running = await writing.call("rename", id=7, street="New")
    assert isinstance(running, Failed)
    assert running.code == "tools.running"
    await database.execute("UPDATE tool_effect SET began = now() - interval '1 hour'")
    unknown = await writing.call("rename", id=7, street="New")
    assert isinstance(unknown, Failed)
    assert (unknown.code, unknown.is_retryable) == ("tools.unknown_effect", False)
    assert await street(writing) == "Street 7"


async def test_a_change_that_the_database_refuses_changed_nothing(writing: Box, two_roles: TwoRoles) -> None:
    asked = await writing.call("rename", id=7, street="New")
    assert isinstance(asked, NeedsApproval)
    owner = await asyncpg.connect(two_roles.owner)
    await owner.execute("ALTER TABLE parcels ADD CHECK (street <> 'New')")
    await owner.close()
    outcome = await writing.toolbox.approve(asked.approval_id, BOSS, Deadline.after(10))
    assert isinstance(outcome, Refused)
    assert outcome.code == "sources.query_refused"


# -- faults -----------------------------------------------------------------------------------------------------------


async def test_a_locked_table_fails_in_time_and_leaves_another_source_as_quick(box: Box, two_roles: TwoRoles) -> None:
    fast = ToolConfig(
        source="file", description="d", sql="SELECT street FROM parcels WHERE id = :id", parameters={"id": ID}
    )
    await box.take(
        {"db": box.postgres("db", two_roles.reader), "file": box.sqlite("file.sqlite")},
        {"street": STREET, "fast": fast},
    )
    owner = await asyncpg.connect(two_roles.owner)
    try:
        await box.call("street", id=1)
        async with owner.transaction():
            await owner.execute("LOCK TABLE parcels IN ACCESS EXCLUSIVE MODE")
            hung = [asyncio.create_task(box.call("street", seconds=1.5, id=n)) for n in range(1, 20)]
            watch = Stopwatch()
            for number in range(1, 100):
                assert isinstance(await box.call("fast", id=number), Ok)
            outcomes: list[Outcome] = list(await asyncio.gather(*hung))
            assert watch.elapsed_s() < 3.0
        assert {type(outcome) for outcome in outcomes} == {Failed}
        codes = {outcome.code for outcome in outcomes if isinstance(outcome, Failed)}
        assert codes <= {"sources.deadline_exceeded", "sources.busy", "sources.unavailable", "deadline_exceeded"}
        assert isinstance(await box.call("street", id=1), Ok)
    finally:
        await owner.close()


async def test_a_caller_who_leaves_stops_the_statement_in_the_database(box: Box, two_roles: TwoRoles) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"long": read("SELECT pg_sleep(30) /* long one */")})
    same_role = await asyncpg.connect(two_roles.reader)
    try:
        running = asyncio.create_task(box.call("long", seconds=30))
        await until(lambda: same_role.fetchval(ACTIVE, "%long one%"), 1)
        running.cancel()
        watch = Stopwatch()
        await until(lambda: same_role.fetchval(ACTIVE, "%long one%"), 0)
        assert watch.elapsed_s() < 1.0
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await same_role.close()


async def test_sessions_that_are_killed_fail_typed_and_the_next_call_works(
    box: Box, two_roles: TwoRoles, postgres: EmbeddedPostgres
) -> None:
    long = read("SELECT pg_sleep(30) /* long one */")
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"long": long, "street": STREET})
    assert isinstance(await box.call("street", id=1), Ok)
    running = asyncio.create_task(box.call("long", seconds=30))
    async with postgres.superuser("postgres") as connection:
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1 AND query LIKE $2"
        await until(lambda: connection.fetchval(kill, two_roles.role, "%long one%"), 1)
        killed = await running
        assert isinstance(killed, Failed)
        assert (killed.code, killed.source, killed.is_retryable) == ("sources.unavailable", "db", True)
        await connection.fetchval(kill, two_roles.role, "%")
    watch = Stopwatch()
    while not isinstance(await box.call("street", id=1), Ok):  # noqa: ASYNC110 - the breaker rests in between
        await asyncio.sleep(0.01)
    assert watch.elapsed_s() < 5.0


async def test_a_schema_that_changed_is_told_and_the_tool_works_again_when_it_is_back(
    box: Box, two_roles: TwoRoles
) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"street": STREET})
    assert isinstance(await box.call("street", id=1), Ok)
    owner = await asyncpg.connect(two_roles.owner)
    try:
        await owner.execute("ALTER TABLE parcels RENAME COLUMN street TO road")
        changed = await box.call("street", id=1)
        assert isinstance(changed, Refused)
        assert changed.code == "sources.query_refused"
        assert "street" in changed.message
        await owner.execute("ALTER TABLE parcels RENAME COLUMN road TO street")
        assert isinstance(await box.call("street", id=1), Ok)
    finally:
        await owner.close()


async def test_a_role_out_of_connections_is_a_failure_that_ends_with_it(
    box: Box, two_roles: TwoRoles, postgres: EmbeddedPostgres
) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader)}, {"street": STREET})
    async with postgres.superuser("postgres") as connection:
        await connection.execute(f"ALTER ROLE {two_roles.role} CONNECTION LIMIT 0")
        outcome = await box.call("street", id=1)
        assert isinstance(outcome, Failed)
        assert (outcome.code, outcome.source, outcome.is_retryable) == ("sources.unavailable", "db", True)
        await connection.execute(f"ALTER ROLE {two_roles.role} CONNECTION LIMIT -1")
    watch = Stopwatch()
    while not isinstance(await box.call("street", id=1), Ok):  # noqa: ASYNC110 - the breaker rests in between
        await asyncio.sleep(0.01)
    assert watch.elapsed_s() < 5.0


async def until(ask: Any, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await ask() != wanted:  # noqa: ASYNC110 - what is waited for happens in another process
            await asyncio.sleep(0.01)
