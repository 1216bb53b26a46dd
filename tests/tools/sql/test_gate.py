"""What the gate writes, what it says, and what it remembers."""

from __future__ import annotations

import sqlite3

import pytest
import sqlglot

from roadbed.kernel.errors import InvalidRequest
from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.tools.sql.gate import Checked, GatePolicy, SqlRefused, check, forget
from roadbed.tools.sql.predicates import WEIGHT_MAX, parsing_weight

from .conftest import DIALECTS, MASKED, TABLES, catalogue


def checked(text: str, dialect: SqlDialect = "postgres", policy: GatePolicy = MASKED) -> Checked:
    return check(text, catalogue(dialect), policy)


def refusal(text: str, dialect: SqlDialect = "postgres", policy: GatePolicy = MASKED) -> SqlRefused:
    with pytest.raises(SqlRefused) as caught:
        check(text, catalogue(dialect), policy)
    return caught.value


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_text_to_run_is_bounded_and_its_columns_are_qualified(dialect: SqlDialect) -> None:
    verdict = checked("select id, amount AS a from orders where amount > 3 -- x", dialect)
    assert verdict.sql == "SELECT orders.id, orders.amount AS a FROM orders WHERE orders.amount > 3 LIMIT 1001"
    assert (verdict.tables, verdict.column_names, verdict.column_masks) == (("orders",), ("id", "a"), (None, None))


@pytest.mark.parametrize(
    ("limit", "written"),
    [
        ("", 11),
        (" LIMIT 3", 3),
        (" LIMIT 99", 11),
        (" FETCH FIRST 4 ROWS ONLY", 4),
        (" FETCH FIRST ROW ONLY", 1),
        (" LIMIT ALL", 11),
    ],
)
def test_a_limit_is_kept_below_the_bound(limit: str, written: int) -> None:
    verdict = checked(f"SELECT id FROM orders{limit}", policy=GatePolicy(rows_max=10))
    assert verdict.sql.endswith(f" LIMIT {written}")


def test_a_refusal_names_what_is_wrong_and_what_is_allowed() -> None:
    assert issubclass(SqlRefused, InvalidRequest)
    cases = {
        "SELECT ssn FROM customers": ("customers.ssn", "leave the column out"),
        "SELECT phone FROM customers ORDER BY phone": ("customers.phone", "alone in the select list"),
        "SELECT band FROM customers": ("customers.band", "COUNT(column)"),
        "SELECT pg_read_file('x')": ("pg_read_file", ""),
        "SELECT nme FROM customers": ("nme", "columns are id, name, team"),
        "SELECT 1 FROM custmers": ("custmers", "tables are customers, orders"),
        "SELECT c FROM customers c": ("whole row", "name its columns"),
        "SELECT id FROM customers, orders": ("ambiguous", "customers.id or orders.id"),
        "DROP TABLE customers": ("DROP", "only SELECT"),
        "SELECT 1; SELECT 2": ("2 statements", "one SELECT"),
    }
    for text, (said, hint) in cases.items():
        error = refusal(text)
        assert said in error.message, text
        assert hint in error.hint, text
        assert error.code == "tools.sql_refused"


def test_masks_follow_renames_through_every_kind_of_relation() -> None:
    text = (
        "WITH a (x, y) AS (SELECT phone, name FROM customers), b AS (SELECT x AS z, y FROM a) "
        "SELECT q.z, q.y, e FROM (SELECT b.*, c.email AS e FROM b JOIN customers c ON c.name = b.y) q "
        "UNION ALL SELECT phone, name, email FROM customers ORDER BY 2"
    )
    for dialect in DIALECTS:
        verdict = checked(text, dialect)
        assert verdict.column_masks == ("partial", None, "token")
        assert verdict.column_names == ("z", "y", "e")


def test_groups_of_a_grouped_column_are_cut_off_below_k() -> None:
    verdict = checked("SELECT band AS b, COUNT(*) FROM customers GROUP BY b HAVING COUNT(*) > 1 OR 1 = 1 ORDER BY b")
    assert "GROUP BY 1 HAVING (COUNT(*) > 1 OR 1 = 1) AND COUNT(*) >= 5 ORDER BY 1" in verdict.sql
    assert verdict.column_masks == (None, None)
    assert "HAVING COUNT(*) >= 5" in checked("SELECT COUNT(band), COUNT(DISTINCT band) FROM customers").sql
    twice = GatePolicy(masks=MASKED.masks, group_k=9)
    assert "COUNT(*) >= 9" in checked("SELECT band FROM customers GROUP BY band", policy=twice).sql


def test_row_filters_stand_at_every_reference() -> None:
    policy = GatePolicy(row_filters={"orders": "team = 'red'"})
    text = (
        "WITH x AS (SELECT id FROM orders) SELECT o.id FROM orders o JOIN orders p ON p.id = o.id, x "
        "WHERE o.id IN (SELECT id FROM orders) AND EXISTS (SELECT * FROM orders) UNION SELECT id FROM orders"
    )
    for dialect in DIALECTS:
        verdict = checked(text, dialect, policy)
        assert verdict.sql.count("WHERE (orders.team = 'red') LIMIT 9223372036854775807") == 6
        assert verdict.tables == ("orders",)


def test_a_filter_on_a_column_that_is_not_there_does_not_mean_another() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE orders (id, customer_id, team, amount, placed_on)")
    connection.execute("INSERT INTO orders (id) VALUES (1)")
    policy = GatePolicy(row_filters={"orders": "tenant = 'red'"})
    verdict = checked("SELECT (SELECT MAX(id) FROM orders) FROM (SELECT 'red' AS tenant) q", "sqlite", policy)
    with pytest.raises(sqlite3.OperationalError, match="tenant"):
        connection.execute(verdict.sql)
    connection.close()


def test_a_cte_never_stands_for_a_table_of_the_catalogue_or_of_a_row_filter() -> None:
    policy = GatePolicy(row_filters={"orders": "team IN (SELECT team FROM members)"})
    text = "WITH members AS (SELECT 'blue' AS team), orders AS (SELECT * FROM orders) SELECT * FROM orders, members"
    verdict = checked(text, "sqlite", policy)
    assert "members_2" in verdict.sql
    assert "orders_2" in verdict.sql
    assert verdict.sql.count("FROM members)") == 1


def test_rules_hold_whatever_the_case_and_schema_they_are_written_in() -> None:
    schemas = Catalogue("postgres", {"sales.Customers": {"Ssn": "text", "id": "int"}})
    for table in ("sales.Customers", "customers", "SALES.customers"):
        with pytest.raises(SqlRefused, match="masked"):
            check('SELECT "Ssn" FROM sales."Customers"', schemas, GatePolicy(masks={table: {"SSN": "drop"}}))
    with pytest.raises(SqlRefused, match="no table"):
        check('SELECT id FROM public."Customers"', schemas)
    assert 'FROM sales."Customers"' in check('SELECT id FROM "Customers"', schemas).sql


def test_the_strictest_of_two_rules_holds() -> None:
    policy = GatePolicy(masks={"customers": {"name": "partial"}, "public.customers": {"name": "drop"}})
    refusal("SELECT name FROM customers", policy=policy)


def test_verdicts_are_not_shared_between_policies_and_catalogues() -> None:
    text = "SELECT team FROM orders"
    red = GatePolicy(row_filters={"orders": "team = 'red'"})
    blue = GatePolicy(row_filters={"orders": "team = 'blue'"})
    assert "red" in checked(text, policy=red).sql
    assert "blue" in checked(text, policy=blue).sql
    assert checked(text, policy=red) is checked(text, policy=GatePolicy(row_filters={"orders": "team = 'red'"}))
    smaller = Catalogue("postgres", {"orders": {"id": "integer"}})
    with pytest.raises(SqlRefused):
        check(text, smaller, red)
    assert check("SELECT 'a' AS `x`", Catalogue("mysql", TABLES)).sql != check("SELECT 'a' AS \"x\"", smaller).sql


def test_a_policy_does_not_change_with_the_mapping_it_was_made_from() -> None:
    masks = {"customers": {"ssn": "drop"}}
    policy = GatePolicy(masks=masks)  # type: ignore[arg-type]
    masks["customers"].clear()
    refusal("SELECT ssn FROM customers", policy=policy)


def test_using_and_natural_joins_name_both_sides() -> None:
    orders = GatePolicy(masks={"orders": {"id": "drop"}})
    for text in (
        "SELECT name FROM customers JOIN orders USING (id)",
        "SELECT name FROM customers NATURAL JOIN orders",
        "SELECT id FROM customers FULL JOIN orders USING (id)",
    ):
        assert "masked" in refusal(text, policy=orders).message
    plain = checked("SELECT id, name FROM customers FULL JOIN orders USING (id) ORDER BY id")
    assert 'COALESCE(customers."id", orders."id") AS "id"' in plain.sql
    assert 'ON customers."id" = orders."id"' in plain.sql


def test_the_mask_of_an_outer_column_holds_in_inner_scopes() -> None:
    for text in (
        "SELECT (SELECT c.phone) FROM customers c",
        "SELECT c.name FROM customers c WHERE EXISTS (SELECT 1 FROM orders WHERE phone = '5')",
        "SELECT c.name FROM customers c, LATERAL (SELECT c.phone AS p) q WHERE q.p = '5'",
        "SELECT o.id FROM orders o WHERE 'x' = ANY (SELECT phone FROM customers WHERE id = o.id)",
    ):
        assert "customers.phone" in refusal(text).message


def test_strings_reach_the_engine_as_they_were() -> None:
    text = "SELECT 'a''b -- c /* d */ \" ; e' AS s"
    for dialect in DIALECTS:
        assert checked(text, dialect).sql.startswith("SELECT 'a''b -- c /* d */ \" ; e' AS s")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "text",
    [
        "SELECT band, COUNT(*), COUNT(name), COUNT(DISTINCT name), SUM(id), AVG(id) FROM customers GROUP BY band",
        "SELECT team, band, COUNT(*) FROM customers WHERE name <> 'x' GROUP BY team, band ORDER BY COUNT(*) DESC, team",
        "SELECT UPPER(team) AS t, band, COUNT(*) AS n FROM customers GROUP BY UPPER(team), band HAVING SUM(id) > 3",
        "SELECT UPPER(team), band, ROUND(AVG(id), 2) FROM customers GROUP BY 1, 2",
        "SELECT band, COUNT(*) AS n, SUM(COUNT(*)) OVER () AS total FROM customers GROUP BY band ORDER BY n",
        "SELECT band, COUNT(*) > (SELECT COUNT(*) FROM orders) FROM customers GROUP BY band",
        "SELECT team, COUNT(DISTINCT band) FROM customers GROUP BY team",
        "SELECT DISTINCT email FROM customers",
    ],
)
def test_what_tells_nobody_s_value_passes_beside_a_masked_column(text: str, dialect: SqlDialect) -> None:
    assert ("HAVING" in checked(text, dialect).sql) == ("band" in text)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_types_and_lists_may_be_nested_as_people_do(dialect: SqlDialect) -> None:
    engine = sqlglot.Dialect.get_or_raise(dialect)

    def weight(text: str) -> int:
        return parsing_weight(engine.tokenize(text), engine.parser_class.TYPE_TOKENS)

    for text in (
        "SELECT CAST(CAST(amount AS DECIMAL(10, 2)) AS VARCHAR(20)), DATE(placed_on) FROM orders",
        "SELECT CHAR(65), DATE(DATE(placed_on)) FROM orders WHERE amount IN (" + ", ".join(["1"] * 2_000) + ")",
    ):
        assert weight(text) < 3 * len(engine.tokenize(text))
    assert weight("SELECT " + "(" * 60 + "1" + ")" * 60) == 122
    assert weight("SELECT " + "TEXT(" * 13 + "1" + ")" * 13) > WEIGHT_MAX > weight("SELECT TEXT(TEXT(TEXT(1)))")


@pytest.mark.parametrize(
    ("tables", "dialect", "policy"),
    [
        (TABLES, "postgres", GatePolicy(masks={"customers": {"name": "drop"}})),
        (TABLES, "postgres", GatePolicy(masks={"customers": {"name": "partial"}})),
        (TABLES, "postgres", GatePolicy(row_filters={"customers": "team = 'red'"})),
        (TABLES, "postgres", GatePolicy(row_filters={"customers": "team = 'blue'"})),
        (TABLES, "postgres", GatePolicy(rows_max=7)),
        (TABLES, "postgres", GatePolicy(skip=7)),
        (TABLES, "postgres", GatePolicy(masks={"customers": {"band": "group"}})),
        (TABLES, "postgres", GatePolicy(masks={"customers": {"band": "group"}}, group_k=9)),
        (TABLES, "mysql", GatePolicy()),
        ({"customers": {"id": "integer", "band": "text"}}, "postgres", GatePolicy()),
        ({"other.customers": TABLES["customers"]}, "postgres", GatePolicy()),
    ],
)
def test_a_remembered_verdict_is_that_of_its_own_policy_catalogue_and_dialect(
    tables: dict[str, dict[str, str]], dialect: SqlDialect, policy: GatePolicy
) -> None:
    """Each of these says something else of one text than the plain policy does; a key without it would mix them up."""

    def told(rules: GatePolicy, schema: Catalogue) -> object:
        try:
            return check("SELECT name, band, COUNT(*) FROM customers GROUP BY name, band", schema, rules)
        except SqlRefused as refusal:
            return refusal.message

    plain, changed = Catalogue("postgres", TABLES), Catalogue(dialect, tables)
    for _ in range(2):  # whichever is remembered first
        assert told(GatePolicy(), plain) != told(policy, changed)
    forget()
    for _ in range(2):
        assert told(policy, changed) != told(GatePolicy(), plain)
