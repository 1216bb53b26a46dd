"""Verdicts that all callers share: each caller's statement is the one that a gate of their own would have given."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from roadbed.kernel.principal import Principal
from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.gate import GatePolicy, SqlRefused, check, remembered
from roadbed.tools.sql.predicates import filled, predicate_for, shared_predicate

from .conftest import DIALECTS, MASKED, catalogue

TEMPLATES = {
    "customers": "team = {principal.team} AND (name = {principal.name} OR {principal.team} = 'all')",
    "orders": "customer_id IN (SELECT id FROM customers WHERE team = {principal.id}) AND team <> {principal.region}",
}
TEXT = (
    "WITH q AS (SELECT id, name FROM customers) SELECT q.name, COUNT(*) FROM q JOIN orders o ON o.customer_id = q.id "
    "JOIN orders p ON p.id = o.id WHERE q.name <> 'it''s {principal.team}' GROUP BY q.name"
)
WORDS = st.text(st.characters(exclude_characters="\\", categories=("L", "M", "N", "P", "S", "Zs")), max_size=20)


def policy(filters: dict[str, str]) -> GatePolicy:
    return GatePolicy(MASKED.masks, filters)


def shared(dialect: SqlDialect) -> GatePolicy:
    found = {table: shared_predicate(template, dialect) for table, template in TEMPLATES.items()}
    return policy({table: text for table, text in found.items() if text is not None})


def own(dialect: SqlDialect, who: Principal) -> GatePolicy:
    return policy({table: predicate_for(template, who, dialect) for table, template in TEMPLATES.items()})


@given(WORDS, WORDS, WORDS)
@example("red", "'", "''")
@example("' OR '1' = '1", "{principal.id}", "principal.team")
@example("$1", r"\g<1>".replace("\\", ""), "%s ? :name @x")
def test_a_filled_verdict_is_that_of_a_gate_of_the_callers_own(team: str, name: str, id_: str) -> None:
    who = Principal(id=id_, team=team, name=name)
    if not (team + name + id_).isprintable():
        return
    for dialect in DIALECTS:
        verdict = check(TEXT, catalogue(dialect), shared(dialect))
        assert remembered(TEXT, catalogue(dialect), shared(dialect)) is verdict  # whoever asks
        assert filled(verdict.sql, who) == check(TEXT, catalogue(dialect), own(dialect, who)).sql
        assert "it''s {principal.team}" in filled(verdict.sql, who)


@pytest.mark.parametrize("value", ["a\\", "a\nb", "x" * 300, "\x00"])
def test_a_value_that_cannot_be_put_in_is_refused_for_its_caller_alone(value: str) -> None:
    for dialect in DIALECTS:
        verdict = check(TEXT, catalogue(dialect), shared(dialect))
        with pytest.raises(SqlRefused):
            filled(verdict.sql, Principal(id="k", team=value))
        assert "'red'" in filled(verdict.sql, Principal(id="k", team="red"))


def mark() -> str:
    """What stands for the caller's team, which no caller can know."""
    found = re.search(r"'([^']+)'", shared_predicate("team = {principal.team}", "postgres") or "")
    assert found
    return found[1]


@pytest.mark.parametrize(
    "form",
    ["SELECT '{}' FROM customers", "SELECT name FROM customers WHERE name = '{}'",
     'SELECT id AS "x\'{}\'" FROM customers',
     "SELECT id FROM customers AS N'{}'", "SELECT id FROM customers -- '{}'", "SELECT id AS {} FROM customers",
     "SELECT U&'{}' FROM customers", "SELECT $${}$$ FROM customers"],
)  # fmt: skip
def test_a_statement_that_holds_a_mark_is_refused_wherever_it_stands(form: str) -> None:
    for dialect in DIALECTS:
        with pytest.raises(SqlRefused):
            check(form.format(mark()), catalogue(dialect), shared(dialect))


def test_nothing_is_run_with_a_mark_left_in_it() -> None:
    who: Any = Principal(id="k", team="red")
    assert filled("SELECT 1", who) == "SELECT 1"
    for text in (f'SELECT "{mark()}"', f"SELECT '{mark()} '", f"SELECT '{mark().replace('team', 'TEAM')}'"):
        with pytest.raises(SqlRefused):
            filled(text, who)


@pytest.mark.parametrize(
    ("template", "dialect", "is_shared"),
    [
        ("team = {principal.team}", "postgres", True),
        ("to_char(placed_on, {principal.team}) = 'x'", "postgres", False),  # the parser rewrites formats
        ("placed_on > CAST({principal.team} AS DATE)", "postgres", True),
    ],
)
def test_a_place_whose_text_the_parser_changes_is_not_shared(
    template: str, dialect: SqlDialect, is_shared: bool
) -> None:
    assert (shared_predicate(template, dialect) is not None) is is_shared
    assert predicate_for(template, Principal(id="k", team="red"), dialect)


@pytest.mark.parametrize(
    "template", ["team = '{principal.team}'", "team = {principal.roles}", "team = {}", "1 = 1; SELECT 1"]
)
def test_templates_that_are_no_condition_are_refused(template: str) -> None:
    for dialect in DIALECTS:
        with pytest.raises(SqlRefused):
            shared_predicate(template, dialect)
