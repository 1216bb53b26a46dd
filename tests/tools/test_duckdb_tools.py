"""Tools of DuckDB sources end to end: declared statements, free SQL behind gate and lock-down, pages, exact values."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from roadbed.sources.manifest import DuckdbSource
from roadbed.tools.errors import ToolMisdeclared
from roadbed.tools.manifest import ParameterConfig, ToolConfig
from roadbed.tools.types import Ok, Refused

from .conftest import ANNA, BERIT, ID, Box


@pytest.fixture
def shop(box: Box) -> DuckdbSource:
    with duckdb.connect(str(box.folder / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE parcels AS SELECT range + 1 AS id, 'Street ' || (range + 1) AS street, "
            "CAST(range AS DECIMAL(12, 3)) / 8 AS area, 'a@example.com' AS mail FROM range(2500)"
        )
    return DuckdbSource(
        path="shop.duckdb",
        explore=True,
        connections_max=1,
        mask={"parcels.mail": "drop"},
        rows={"parcels": "{principal.team} = 'support'"},
    )


def declared(sql: str, **parameters: ParameterConfig) -> ToolConfig:
    return ToolConfig(source="shop", description="d", sql=sql, parameters=parameters, rows_max=1_000)


async def test_declared_statements_take_typed_places_and_give_pages_in_order(box: Box, shop: DuckdbSource) -> None:
    kinds = {name: ParameterConfig(type=name) for name in ("string", "number", "boolean", "date", "timestamp", "uuid")}
    typed = "SELECT :string AS s, :number AS n, :boolean AS b, :date AS d, :timestamp AS t, :uuid AS u, ':no' AS x"
    await box.take(
        {"shop": shop},
        {
            "typed": declared(typed, **kinds),
            "street": declared("SELECT street, area FROM parcels WHERE id = :id OR id = :id", id=ID),
            "down": declared("SELECT id FROM parcels WHERE id > :id ORDER BY id DESC", id=ID),
        },
    )
    given: dict[str, Any] = {
        "string": "'; DROP TABLE parcels; --",
        "number": 1.25,
        "boolean": True,
        "date": "2026-02-28",
        "timestamp": "2026-02-28T10:00:00+01:00",
        "uuid": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
    }
    outcome = await box.call("typed", **given)
    assert isinstance(outcome, Ok), outcome
    assert outcome.data["rows"] == [
        [given["string"], 1.25, True, "2026-02-28", "2026-02-28T09:00:00+00:00", given["uuid"], ":no"]
    ]
    outcome = await box.call("street", id=7)
    assert isinstance(outcome, Ok), outcome
    assert outcome.data["rows"] == [["Street 7", 0.75]]
    ids: list[int] = []
    cursor = ""
    while True:
        page = await box.call("down", id=1, cursor=cursor)
        assert isinstance(page, Ok), page
        ids += [row[0] for row in page.data["rows"]]
        cursor = page.cursor
        if not cursor:
            break
    assert ids == list(range(2500, 1, -1))


async def test_free_sql_reads_what_the_catalogue_shows_and_nothing_else(box: Box, shop: DuckdbSource) -> None:
    await box.take({"shop": shop}, {})
    (box.folder / "secret.csv").write_text("a\n1\n")
    described = await box.call("shop_describe", table="parcels")
    assert isinstance(described, Ok), described
    assert [column["column"] for column in described.data["columns"]] == ["id", "street", "area"]
    sql = "SELECT count(*) AS n, max(area) AS a FROM parcels WHERE id < 8"
    anna, berit = await box.call("shop_query", ANNA, sql=sql), await box.call("shop_query", BERIT, sql=sql)
    assert isinstance(anna, Ok), anna
    assert isinstance(berit, Ok), berit
    assert (anna.data["rows"], berit.data["rows"]) == ([[7, 0.75]], [[0, None]])
    for text in (
        "SELECT mail FROM parcels",
        f"SELECT * FROM '{box.folder}/secret.csv'",
        f"SELECT * FROM read_csv('{box.folder}/secret.csv')",
        "SELECT * FROM duckdb_settings()",
        "SELECT getenv('HOME')",
        "COPY parcels TO '/tmp/out.csv'",
        "ATTACH 'x.duckdb'",
        "SELECT 1; SELECT 2",
    ):
        refused = await box.call("shop_query", sql=text)
        assert isinstance(refused, Refused), text
        assert refused.code == "tools.sql_refused", refused


async def test_a_long_result_of_free_sql_goes_on_with_its_cursor(box: Box, shop: DuckdbSource) -> None:
    await box.take({"shop": shop}, {})
    for sql, wanted in (
        ("SELECT id FROM parcels ORDER BY id", range(1, 2501)),
        ("SELECT id FROM parcels ORDER BY id LIMIT 1500 OFFSET 100", range(101, 1601)),
    ):
        ids: list[int] = []
        cursor = ""
        while True:
            page = await box.call("shop_query", sql=sql, cursor=cursor)
            assert isinstance(page, Ok), page
            ids += [row[0] for row in page.data["rows"]]
            cursor = page.cursor
            if not cursor:
                break
        assert ids == list(wanted)


async def test_free_sql_gives_ten_thousand_rows_in_all(box: Box, shop: DuckdbSource) -> None:
    await box.take({"shop": shop}, {})
    sql = "SELECT a.id FROM parcels a CROSS JOIN parcels b"
    cursor = ""
    for _ in range(11):
        page = await box.call("shop_query", sql=sql, cursor=cursor)
        assert isinstance(page, Ok), page
        cursor = page.cursor
    refused = await box.call("shop_query", sql=sql, cursor=cursor)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.hint[:12]) == ("tools.result_too_large", "ask for less")


def test_places_of_mysql_stand_in_order_and_never_in_text() -> None:
    from roadbed.tools.providers.sql_places import parse_statement

    name = ParameterConfig(type="string")
    made = parse_statement(
        "t", r"SELECT ':a' , 'it\'s :a', `:a`, :a, :b -- :c" + "\n, :a # :a", {"a": name, "b": name}, "mysql"
    )
    assert made.names == ("a", "b", "a")
    assert made.text.count("?") == 3
    for sql in ("SELECT :a, ?", "SELECT :a /*! , 1 */", "SELECT :a; SELECT 1", "SELECT :a, 'open"):
        with pytest.raises(ToolMisdeclared):
            parse_statement("t", sql, {"a": name}, "mysql")
