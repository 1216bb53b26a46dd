"""Masks and row filters: by position in rows, as literals in predicates, and against thousands of random queries."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.kernel.principal import Principal
from roadbed.sources.catalogue import SqlDialect
from roadbed.sources.result import Column, QueryResult
from roadbed.tools.sql.gate import Checked, GatePolicy, SqlRefused
from roadbed.tools.sql.masks import mask_rows, predicate_for
from roadbed.tools.sql.predicates import parse_predicate

from .conftest import DIALECTS
from .random_queries import FILTERED, MASKED, Maker, database, telling_apart

SEEDS = 350
COLUMNS = tuple(Column(name, "integer", "int4") for name in "abc")
CHECKED = Checked("SELECT", (), (None, "partial", "token"), ("a", "b", "c"))


def principal(team: str = "red", **values: str) -> Principal:
    return Principal(id=values.get("id", "k1"), team=team, name=values.get("name", ""))


def test_rows_are_masked_by_position() -> None:
    rows = ((1, "0123456789", "a@b.no"), (2, None, None), (3, "short", 7), (4, Decimal("1.5"), b"x"), (5, 12345678, True))
    masked = mask_rows(CHECKED, QueryResult(COLUMNS, rows, True, 99), lambda text: f"<{text}>")
    assert masked.rows == (
        (1, "***89", "<a@b.no>"),
        (2, None, None),
        (3, "***", "<7>"),
        (4, "***", "<b'x'>"),
        (5, "***78", "<True>"),
    )
    assert [column.type for column in masked.columns] == ["integer", "text", "text"]
    assert masked.is_truncated
    assert masked.size_bytes != 99


def test_a_result_of_another_shape_is_not_shown() -> None:
    with pytest.raises(SqlRefused):
        mask_rows(CHECKED, QueryResult(COLUMNS[:2], ((1, "secret"),), False, 0), str)


def test_a_result_without_masks_is_given_as_it_is() -> None:
    result = QueryResult(COLUMNS, ((1, 2, 3),), False, 24)
    assert mask_rows(Checked("", (), (None, None, None), ("a", "b", "c")), result, str) is result


@given(st.text(st.characters(exclude_characters="\\", categories=("L", "M", "N", "P", "S", "Zs")), max_size=40))
def test_a_value_is_one_literal_whatever_it_holds(team: str) -> None:
    for dialect in DIALECTS:
        if not team.isprintable():
            continue
        condition = parse_predicate(predicate_for("team = {principal.team}", principal(team), dialect), dialect)
        assert condition.args["expression"].is_string
        assert condition.args["expression"].name == team
        assert condition.this.name == "team"


@pytest.mark.parametrize("team", ["a\\", "a\nb", "a\x00", "x" * 300, "\\' OR 1=1 -- "])
def test_a_value_that_dialects_read_differently_is_refused(team: str) -> None:
    with pytest.raises(SqlRefused):
        predicate_for("team = {principal.team}", principal(team), "mysql")


@pytest.mark.parametrize(
    "template",
    [
        "team = '{principal.team}'",
        'team = "{principal.team}"',
        "team = {principal.roles}",
        "team = {team}",
        "team = {}",
        "team = {principal.team",
        "team = 1; SELECT 1",
        "1 = 1 UNION SELECT 1",
        "1 = 1 ORDER BY 1",
        "1 = 1 LIMIT 1",
        "",
        "x" * 5000,
    ],
)
def test_templates_that_are_no_condition_are_refused(template: str) -> None:
    for dialect in DIALECTS:
        with pytest.raises(SqlRefused):
            predicate_for(template, principal(), dialect)


def test_a_place_is_compiled_once() -> None:
    text = predicate_for("owner = {principal.id} AND team = {principal.team}", principal("{principal.id}"), "postgres")
    assert text == "owner = 'k1' AND team = '{principal.id}'"


@pytest.mark.parametrize("policy", [MASKED, FILTERED], ids=["masked", "filtered"])
def test_random_queries_do_not_tell_what_they_must_not(policy: GatePolicy) -> None:
    """Databases that differ in masked values, or in other teams' rows, alone: every query gives the same on both."""
    if policy is MASKED:
        connections = (database(masked="a"), database(masked="b"))
    else:
        connections = (database(others="y"), database(others="zzz"))
    ran = 0
    for seed in range(SEEDS):
        has_run, leak = telling_apart(Maker(Random(seed)).statement(), policy, connections)
        assert not leak
        ran += has_run
    for connection in connections:
        connection.close()
    assert ran > SEEDS // 10


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_random_query_leaks_a_masked_value(random: Random) -> None:
    connections = (database(masked="a"), database(masked="b"))
    assert not telling_apart(Maker(random).statement(), MASKED, connections)[1]
    for connection in connections:
        connection.close()


def test_the_dialect_is_the_predicates_own() -> None:
    dialect: SqlDialect = "mysql"
    assert predicate_for("`team` = {principal.team}", principal(), dialect) == "`team` = 'red'"
