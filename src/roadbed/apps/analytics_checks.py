"""Checks of a result by its statement and a few probes: repeated rows, words that no row has, why nothing was found.

A probe is a small statement of our own over the tables of the checked one, run on the same way as it: gate, filters,
masks. The parts that read a statement are pure. The invariant: a check adds a note and never changes a number; a
probe that fails is silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from roadbed.apps.analytics_plan import Plan
from roadbed.apps.analytics_table import Table
from roadbed.kernel.errors import RoadbedError
from roadbed.sources.catalogue import SqlDialect

PROBES_MAX = 6
VALUES_MAX = 50
NEAR_MAX = 3

Probe = Callable[[str], Awaitable[Sequence[Sequence[Any]]]]
"""Runs a small statement as the caller and gives its rows."""


@dataclass(frozen=True, slots=True)
class Fan:
    """A join that repeats rows of ``table``, whose ``measure`` is summed, unless ``keys`` are unique in ``other``."""

    table: str
    measure: str
    other: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a statement on one table; ``column`` and ``value`` when it compares with a text."""

    table: str
    text: str
    column: str = ""
    value: str = ""


def parsed(sql: str, dialect: SqlDialect) -> exp.Expr | None:
    """The statement's tree; None when it cannot be read."""
    try:
        return sqlglot.parse_one(sql, dialect=dialect)
    except (SqlglotError, RecursionError):
        return None


def fans(root: exp.Expr) -> list[Fan]:
    """The joins of one SELECT over plain tables that may repeat what it sums or averages."""
    found: list[Fan] = []
    for select in root.find_all(exp.Select):
        tables = _tables(select)
        joins = select.args.get("joins") or []
        if not joins or len(tables) != len(joins) + 1:
            continue
        measures = list(_measures(select, tables))
        for join in joins:
            on = join.args.get("on")
            if not isinstance(join.this, exp.Table) or on is None:
                continue
            other = join.this.alias_or_name
            keys = _keys(on, other)
            if keys:
                found += [
                    Fan(tables[name].sql(), measure, tables[other].sql(), keys)
                    for name, measure in measures
                    if name != other
                ]
    return found


def _tables(select: exp.Select) -> dict[str, exp.Table]:
    from_ = select.args.get("from_") or select.args.get("from")
    nodes = [from_.this if from_ is not None else None, *(join.this for join in select.args.get("joins") or [])]
    return {
        node.alias_or_name: exp.to_table(node.name, db=node.db or None) for node in nodes if isinstance(node, exp.Table)
    }


def _measures(select: exp.Select, tables: dict[str, exp.Table]) -> Iterator[tuple[str, str]]:
    for call in select.find_all(exp.Sum, exp.Avg):
        if call.find_ancestor(exp.Select) is not select or isinstance(call.this, exp.Distinct):
            continue
        for column in call.find_all(exp.Column):
            if column.table in tables:
                yield column.table, column.name
                break


def _keys(on: exp.Expr, other: str) -> tuple[str, ...]:
    keys = []
    for equal in on.find_all(exp.EQ):
        sides = [equal.this, equal.expression]
        if all(isinstance(side, exp.Column) for side in sides):
            keys += [side.name for side in sides if side.table == other]
    return tuple(dict.fromkeys(keys))


def conditions(root: exp.Expr, dialect: SqlDialect) -> list[Condition]:
    """The conditions of the outermost WHERE that stand on one table each."""
    select = root.find(exp.Select)
    where = select.args.get("where") if isinstance(select, exp.Select) else None
    if select is None or where is None:
        return []
    tables = _tables(select)
    found = []
    for part in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
        owners = {column.table for column in part.find_all(exp.Column)}
        name = next(iter(owners)) if len(owners) == 1 else ""
        if not name and len(tables) == 1:
            name = next(iter(tables))
        if name not in tables or part.find(exp.Select):
            continue
        bare = part.copy()
        for column in bare.find_all(exp.Column):
            column.set("table", None)
        for column, value in _compared(bare):
            found.append(Condition(tables[name].sql(), bare.sql(dialect), column, value))
        if not any(True for _ in _compared(bare)):
            found.append(Condition(tables[name].sql(), bare.sql(dialect)))
    return found


def _compared(part: exp.Expr) -> Iterator[tuple[str, str]]:
    """Columns that are compared with texts for equality."""
    if isinstance(part, exp.EQ) and isinstance(part.this, exp.Column) and isinstance(part.expression, exp.Literal):
        if part.expression.is_string:
            yield part.this.name, str(part.expression.this)
    elif isinstance(part, exp.In) and isinstance(part.this, exp.Column):
        for value in part.expressions:
            if isinstance(value, exp.Literal) and value.is_string:
                yield part.this.name, str(value.this)


async def notes_of(sql: str, dialect: SqlDialect, table: Table, probe: Probe) -> list[str]:
    """What a reader should know of a result. At most `PROBES_MAX` probes are run."""
    root = parsed(sql, dialect)
    if root is None:
        return []
    budget = _Budget(probe)
    notes = []
    for fan in fans(root):
        note = await _fan_note(fan, dialect, budget)
        if note and note not in notes:
            notes.append(note)
    is_empty = not table.rows or all(cell in (None, 0) for row in table.rows for cell in row)
    for condition in conditions(root, dialect):
        if condition.column or is_empty:
            note = await _condition_note(condition, dialect, budget)
            if note and note not in notes:
                notes.append(note)
    return notes


@dataclass(slots=True)
class _Budget:
    """Runs probes until there were enough; None for one that was not run or failed."""

    probe: Probe
    left: int = PROBES_MAX

    async def rows(self, sql: str) -> Sequence[Sequence[Any]] | None:
        if not self.left:
            return None
        self.left -= 1
        try:
            return await self.probe(sql)
        except RoadbedError:
            return None


async def _fan_note(fan: Fan, dialect: SqlDialect, budget: _Budget) -> str:
    keys = ", ".join(exp.to_identifier(key, quoted=True).sql(dialect) for key in fan.keys)
    table = exp.to_table(fan.other).sql(dialect)
    rows = await budget.rows(
        f"SELECT count(*) AS n FROM {table} GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 (gated)
    )
    if not rows:
        return ""
    return (
        f"{fan.other} has several rows for one {', '.join(fan.keys)}, so rows of {fan.table} are counted more than "
        f"once in {fan.measure}"
    )


async def _condition_note(condition: Condition, dialect: SqlDialect, budget: _Budget) -> str:
    table = exp.to_table(condition.table).sql(dialect)
    text = condition.text
    if condition.column:
        column = exp.to_identifier(condition.column, quoted=True).sql(dialect)
        text = f"{column} = {exp.Literal.string(condition.value).sql(dialect)}"
    rows = await budget.rows(f"SELECT 1 AS found FROM {table} WHERE {text} LIMIT 1")  # noqa: S608 (gated)
    if rows is None or rows:
        return ""
    if not condition.column:
        return f"no row of {condition.table} has {condition.text}"
    note = f"no row of {condition.table} has {condition.column} = '{condition.value}'"
    known = await budget.rows(f"SELECT DISTINCT {column} AS v FROM {table} LIMIT {VALUES_MAX}")  # noqa: S608 (gated)
    folded = {str(row[0]).casefold(): str(row[0]) for row in known or () if row[0] is not None}
    near = difflib.get_close_matches(condition.value.casefold(), list(folded), NEAR_MAX, 0.6)
    return note + (f"; near it: {', '.join(folded[word] for word in near)}" if near else "")


def period_note(plan: Plan | None, today: date) -> str:
    """That the period that was asked for is not over; empty when it is."""
    if plan is None or plan.period is None or plan.period.end <= today:
        return ""
    if plan.period.start > today:
        return f"the period begins on {plan.period.start}, which is in the future"
    return f"the period ends on {plan.period.end} and is not over: its numbers are as of {today}"
