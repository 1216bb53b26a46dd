"""The pure parts of analytics: numbers in a sentence, files, parameters, plans, schedules, matching."""

from __future__ import annotations

import csv
import io
import re
import warnings
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import msgspec
import openpyxl
import pytest
import sqlglot
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlglot import exp

from roadbed.apps.analytics_checks import conditions, fans, parsed
from roadbed.apps.analytics_export import column_letters, csv_of, export_of, xlsx_of
from roadbed.apps.analytics_manifest import MetricConfig
from roadbed.apps.analytics_match import Wording, match, values_in
from roadbed.apps.analytics_parameters import ParameterInvalid, fill, literal
from roadbed.apps.analytics_plan import Asks, Plan, PlanInvalid, check_plan, compile_plan, read_reply
from roadbed.apps.analytics_schedule import ScheduleInvalid, parse_schedule
from roadbed.apps.analytics_sentence import refusal_of
from roadbed.apps.analytics_table import Table, TableColumn
from roadbed.apps.manifest import AppConfig
from roadbed.kernel.errors import InvalidRequest
from roadbed.sources.catalogue import Catalogue
from roadbed.tools.manifest import ParameterConfig

SALES = Table(
    (TableColumn("town", "text"), TableColumn("day", "date"), TableColumn("total", "decimal")),
    (("Oslo 2000", "2025-03-01", "1234567.50"), ("Bergen", "2025-04-01", "400000"), ("Moss", "2025-05-01", "-12.25")),
)


@pytest.mark.parametrize(
    "sentence",
    [
        "Oslo 2000 sold 1,234,567.50.",
        "Oslo 2000 sold 1.23 million, about three times the 400 000 of Bergen.",
        "The difference is 834,567.5.",
        "Bergen has 24.5 % of the 1,634,555.25 in all.",
        "Of three towns, Moss lost 12.25 in May 2025.",
        "Nobody sold more than the first one.",
        "On 2025-03-01 most was sold.",
    ],
)
def test_sentences_that_the_table_bears_out(sentence: str) -> None:
    assert refusal_of(sentence, SALES) == ""


@pytest.mark.parametrize(
    "sentence",
    [
        "Oslo sold 1,234,999.",
        "Oslo sold 1.3 million.",
        "Bergen has 61 % of all.",
        "Seventeen towns sold something.",
        "In 1999 nobody sold.",
        "See https://example.org for more.",
        "![x](x) Bergen.",
        "One line.\nAnother.",
        "",
    ],
)
def test_sentences_that_it_does_not(sentence: str) -> None:
    assert refusal_of(sentence, SALES) != ""


def test_a_literal_of_the_statement_may_be_repeated() -> None:
    assert refusal_of("None was above 750000.", SALES) != ""
    assert refusal_of("None was above 750000.", SALES, ["SELECT 1 FROM t WHERE total > 750000"]) == ""


VALUES = st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=8)


@given(VALUES, st.integers(0, 7))
def test_every_cell_may_be_said(values: list[int], place: int) -> None:
    table = Table((TableColumn("n", "integer"),), tuple((value,) for value in values))
    assert refusal_of(f"It was {values[place % len(values)]}.", table) == ""


@given(VALUES, st.integers(10**7, 10**9).map(lambda n: n * 1000 + 777))
def test_no_far_number_may_be_said(values: list[int], said: int) -> None:
    table = Table((TableColumn("n", "integer"),), tuple((value,) for value in values))
    assert refusal_of(f"It was {said}.", table) != ""


CELLS: st.SearchStrategy[object] = st.none() | st.booleans() | st.integers(-(2**53), 2**53)
CELLS = CELLS | st.floats(allow_nan=False, allow_infinity=False)
CELLS = CELLS | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
TABLES = st.lists(st.tuples(CELLS, CELLS), max_size=6).map(
    lambda rows: Table((TableColumn("a", "text"), TableColumn("=b", "number")), tuple(rows))
)


@given(TABLES)
def test_csv_holds_no_formula_and_every_row(table: Table) -> None:
    text = csv_of(table).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == len(table.rows) + 1
    assert rows[0] == ["a", "'=b"]
    for row, source in zip(rows[1:], table.rows, strict=True):
        for cell, value in zip(row, source, strict=True):
            if isinstance(value, str):
                assert not re.match(r"\s*[=+\-@]", cell)
                assert cell.removeprefix("'") == value.replace("\0", "").removeprefix("'") or cell == value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                assert float(cell) == value


@given(TABLES)
def test_xlsx_is_read_by_a_spreadsheet_library(table: Table) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sheet = openpyxl.load_workbook(io.BytesIO(xlsx_of(table))).active
    assert sheet is not None
    assert [cell.value for cell in next(sheet.iter_rows())] == ["a", "=b"]
    for number, source in enumerate(table.rows, 2):
        for place, value in enumerate(source, 1):
            cell = sheet.cell(number, place)
            assert cell.data_type != "f"
            if isinstance(value, bool) or value is None:
                assert cell.value == value
            elif isinstance(value, int | float):
                assert float(cell.value) == pytest.approx(value, rel=1e-14)


def test_cells_that_look_like_formulas() -> None:
    rows = (("=1+1", "-5"), ("@x", "+1"), ("-x", None), ("'a", "1.50"))
    table = Table((TableColumn("t", "text"), TableColumn("d", "decimal")), rows)
    assert csv_of(table).decode("utf-8-sig").splitlines()[1:] == ["'=1+1,-5", "'@x,+1", "'-x,", "'a,1.50"]
    sheet = openpyxl.load_workbook(io.BytesIO(xlsx_of(table))).active
    assert sheet is not None
    assert [sheet.cell(2, 1).value, sheet.cell(5, 2).value] == ["=1+1", 1.5]
    assert sheet.cell(2, 1).data_type in ("s", "inlineStr")
    assert (column_letters(25), column_letters(26), column_letters(702)) == ("Z", "AA", "AAA")
    made = export_of(table, '../x"\r\ny', "csv", datetime(2026, 1, 2, tzinfo=UTC))
    assert made.headers["content-disposition"] == 'attachment; filename="x-y-2026-01-02.csv"'
    with pytest.raises(InvalidRequest):
        export_of(table, "x", "exe", datetime.now(UTC))


@given(st.text(max_size=40), st.sampled_from(["postgres", "mysql", "sqlite", "duckdb"]))
def test_a_value_is_one_literal_or_refused(text: str, dialect: str) -> None:
    parameters = {"p": ParameterConfig(type="string")}
    try:
        sql = fill("SELECT 1 FROM t WHERE a = :p AND b = ':p' -- :p", parameters, {"p": text}, dialect)  # type: ignore[arg-type]
    except ParameterInvalid:
        assert "\\" in text or not text.isprintable()
        return
    tree = sqlglot.parse_one(sql, dialect=dialect)
    assert sorted(one.this for one in tree.find_all(exp.Literal) if one.is_string) == sorted([text, ":p"])


def test_literals_by_type_and_dialect() -> None:
    assert literal("n", -3, "integer", "postgres") == "(-3)"
    assert literal("n", "2026-03-31", "date", "postgres") == "DATE '2026-03-31'"
    assert literal("n", "2026-03-31", "date", "sqlite") == "'2026-03-31'"
    assert literal("n", True, "boolean", "sqlite") == "1"
    assert literal("n", None, "string", "mysql") == "NULL"


CONFIG = AppConfig(
    kind="analytics",
    sources=["shop"],
    metrics={"turnover": MetricConfig(source="shop", table="orders", sql="sum(total)", time="at", filter="paid")},
    dimensions={"town": "orders.town"},
    fiscal_year_start=4,
    time_zone="Europe/Oslo",
)
COLUMNS = {"orders": {"town": "text", "total": "integer", "at": "timestamp with time zone", "paid": "boolean"}}


def test_a_plan_is_compiled_from_metrics() -> None:
    plan = Plan(metrics=["turnover"], dimensions=["town"], grain="fiscal_year")
    sql = compile_plan(plan, CONFIG, Catalogue("postgres", COLUMNS)).queries[0].sql
    assert "AT TIME ZONE 'Europe/Oslo'" in sql
    assert "interval '9 months'" in sql
    assert "WHERE (paid)" in sql
    assert sqlglot.parse_one(sql, dialect="postgres").find(exp.Group) is not None
    with pytest.raises(PlanInvalid):
        compile_plan(Plan(metrics=["turnover"], dimensions=["nothing"]), CONFIG, Catalogue("postgres", COLUMNS))
    with pytest.raises(PlanInvalid):
        compile_plan(Plan(metrics=["turnover"], grain="week"), CONFIG, Catalogue("sqlite", COLUMNS))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "{}",
        '{"plan": {}, "unanswerable": "x"}',
        '{"plan": {"queries": [{"source": "shop"}]}}',
        '{"ambiguous": {"question": "a?", "options": ["one"]}}',
        '{"plan": {"period": {"start": "x", "end": "y"}}}',
        "[" * 5000,
    ],
)
def test_what_is_no_reply(text: str) -> None:
    with pytest.raises(PlanInvalid):
        read_reply(text, ["shop"])


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"metrics": ["sales"]},
        {"queries": [{"source": "other", "sql": "SELECT 1"}]},
        {"queries": [{"source": "shop", "sql": "SELECT 1", "name": "a"}] * 2, "join": "SELECT 1"},
        {"queries": [{"source": "shop", "sql": "S", "name": "a"}, {"source": "shop", "sql": "S", "name": "b"}]},
        {"metrics": ["turnover"], "period": {"start": "2025-02-01", "end": "2025-02-01"}},
    ],
)
def test_plans_that_do_not_fit(plan: dict[str, object]) -> None:
    with pytest.raises(PlanInvalid):
        check_plan(msgspec.convert(plan, Plan), CONFIG, ["shop"])


@given(st.text(max_size=200))
def test_reading_a_reply_never_breaks(text: str) -> None:
    try:
        reply = read_reply(text, ["shop"])
    except PlanInvalid:
        return
    assert isinstance(reply, Plan | Asks | str)


def test_a_bare_statement_is_a_plan() -> None:
    reply = read_reply("```sql\nSELECT 1;\n```", ["shop"])
    assert isinstance(reply, Plan)
    assert reply.queries[0].sql == "SELECT 1"


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(1, 30), st.integers(0, 23))
def test_a_schedule_goes_on_at_its_time(moment: datetime, days: int, hour: int) -> None:
    zone = ZoneInfo("Europe/Oslo")
    assume(not 1 <= hour <= 3)  # hours that a change of the clock leaves out or gives twice
    after = parse_schedule(f"{days}d at {hour:02d}:30").after(moment.replace(tzinfo=UTC), zone)
    local = after.astimezone(zone)
    assert (local.hour, local.minute) == (hour, 30)
    assert 0 < (after - moment.replace(tzinfo=UTC)).total_seconds() <= (days * 24 + 1) * 3600


@pytest.mark.parametrize("text", ["", "1m", "0d", "9w at 24:00", "1h at 07:00", "99w", "1d at 7:00", "1d; DROP"])
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ScheduleInvalid):
        parse_schedule(text)


def test_words_find_the_question_that_is_meant() -> None:
    wordings = [Wording("fees", "What were the fees in a year?"), Wording("sales", "How many sales in each town?")]
    assert match("what were the fees in a year", wordings).is_exact
    assert match("fees of the year", wordings).name == "fees"
    assert match("how is the weather", wordings).name == ""
    doubled = [*wordings, Wording("sales2", "How many sales in the town?")]
    assert match("how many sales town", doubled).name == ""
    parameters = {"year": ParameterConfig(type="integer"), "town": ParameterConfig(type="string", values=["Oslo"])}
    assert values_in("fees of 2025 in oslo", parameters) == {"year": 2025, "town": "Oslo"}
    assert values_in("fees of 2024 or 2025", parameters) == {}


def test_a_statement_is_read_for_its_checks() -> None:
    root = parsed(
        "SELECT sum(o.total) FROM orders o JOIN tags t ON t.order_id = o.id WHERE o.town IN ('a', 'b')", "sqlite"
    )
    assert root is not None
    assert [(fan.table, fan.measure, fan.other, fan.keys) for fan in fans(root)] == [
        ("orders", "total", "tags", ("order_id",))
    ]
    assert {(one.column, one.value) for one in conditions(root, "sqlite")} == {("town", "a"), ("town", "b")}
    plain = parsed("SELECT count(*) FROM orders WHERE total > 5 AND at >= '2025-01-01'", "sqlite")
    assert plain is not None
    assert [one.text for one in conditions(plain, "sqlite")] == ["total > 5", "at >= '2025-01-01'"]
    assert parsed("SELECT (", "sqlite") is None
    assert date(2025, 1, 1) < date(2025, 2, 1)
