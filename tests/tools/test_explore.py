"""Free SQL end to end, over real databases: through the gate, with masks, filters, a cost limit, refusals."""

from __future__ import annotations

from roadbed.tools.types import Ok, Refused

from .conftest import ANNA, BERIT, Box, TwoRoles


async def test_free_sql_reads_and_nothing_else(box: Box, two_roles: TwoRoles) -> None:
    await box.take(
        {"db": box.postgres("db", two_roles.reader, explore=True), "file": box.sqlite("file.sqlite", explore=True)}, {}
    )
    for source in ("db", "file"):
        found = await box.call(
            f"{source}_query", sql="SELECT count(*) AS n, max(street) AS s FROM parcels WHERE id < 8"
        )
        assert isinstance(found, Ok), found
        assert found.data["rows"] == [[7, "Street 7"]]
        for sql in (
            "DELETE FROM parcels",
            "SELECT 1; SELECT 2",
            "SELECT pg_sleep(1)",
            "SELECT * FROM hidden",
            "SELECT * FROM pg_read_file('/etc/passwd')",
            "SELECT load_extension('x') FROM parcels",
            "SELECT * FROM sqlite_master",
        ):
            refused = await box.call(f"{source}_query", sql=sql)
            assert isinstance(refused, Refused), sql
            assert refused.code in ("tools.sql_refused", "sources.query_refused"), refused


async def test_a_long_result_is_cut_and_says_so(box: Box, two_roles: TwoRoles) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True)}, {})
    found = await box.call("db_query", sql="SELECT id FROM parcels ORDER BY id")
    assert isinstance(found, Ok)
    assert len(found.data["rows"]) == 1000
    assert found.is_truncated


async def test_masks_hold_and_tokens_differ_between_teams(box: Box) -> None:
    masks = {"people.mail": "token", "people.ssn": "drop"}
    await box.take({"file": box.sqlite("file.sqlite", explore=True, mask=masks)}, {})
    anna = await box.call("file_query", ANNA, sql="SELECT mail FROM people")
    again = await box.call("file_query", ANNA, sql="SELECT mail AS m FROM people")
    berit = await box.call("file_query", BERIT, sql="SELECT mail FROM people")
    assert isinstance(anna, Ok)
    assert isinstance(again, Ok)
    assert isinstance(berit, Ok)
    assert anna.data["rows"] == again.data["rows"] != berit.data["rows"]
    assert "ola" not in str(anna.data)
    for sql in (
        "SELECT ssn FROM people",
        "SELECT id FROM people WHERE ssn > '0'",
        "SELECT upper(mail) FROM people",
    ):
        refused = await box.call("file_query", sql=sql)
        assert isinstance(refused, Refused), sql


async def test_row_filters_are_the_callers_own(box: Box, two_roles: TwoRoles) -> None:
    rows = {"parcels": "street = 'Street 7' AND {principal.team} = 'support'"}
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True, rows=rows)}, {})
    anna = await box.call("db_query", ANNA, sql="SELECT count(*) AS n FROM parcels")
    berit = await box.call("db_query", BERIT, sql="SELECT count(*) AS n FROM parcels")
    assert isinstance(anna, Ok), anna
    assert isinstance(berit, Ok)
    assert (anna.data["rows"], berit.data["rows"]) == ([[1]], [[0]])


async def test_what_the_planner_expects_to_be_dear_is_not_run(box: Box, two_roles: TwoRoles) -> None:
    await box.take({"db": box.postgres("db", two_roles.reader, explore=True, cost_max=10_000.0)}, {})
    dear = "SELECT count(*) AS n FROM parcels a CROSS JOIN parcels b CROSS JOIN parcels c"
    refused = await box.call("db_query", sql=dear)
    assert isinstance(refused, Refused)
    assert refused.code == "sources.too_costly"
    assert isinstance(await box.call("db_query", sql="SELECT count(*) AS n FROM parcels"), Ok)
