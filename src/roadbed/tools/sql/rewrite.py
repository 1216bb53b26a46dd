"""Text to tree and back: parsing with bounds, predicates as filtered subqueries, the bound on rows, the text to run.

The statement is written from its tree, without comments and with function names as they stood, so that what was checked
is what runs.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.names import KnownTable, identifier, same
from roadbed.tools.sql.predicates import STUMBLES, holds_mark, parse_predicate, parsed

SQL_BYTES_MAX = 16 * 1024
NESTING_MAX = 60
NODES_MAX = 6000
FILTERS_REMEMBERED_MAX = 512
BARRIER_ROWS = 2**63 - 1
_EXECUTABLE = re.compile(r"/\*[Mm]?!")
_BRACKETS = re.compile(r"[(\[{)\]}]")
_OPENING = "([{"


def parse(sql: str, dialect: SqlDialect) -> exp.Query:
    """The one query in a text; `SqlRefused` for anything else."""
    _check_text(sql)
    statements = [statement for statement in parsed(sql, dialect) if statement is not None]
    if len(statements) != 1:
        raise SqlRefused(f"the text holds {len(statements)} statements", hint="send one SELECT, without a semicolon")
    root = statements[0]
    while isinstance(root, exp.Subquery) and {key for key, value in root.args.items() if value} == {"this"}:
        root = root.this
        root.pop()
    if not isinstance(root, exp.Select | exp.SetOperation):
        word = str(root.this)[:20] if isinstance(root, exp.Command) else type(root).__name__
        raise SqlRefused(f"{word.upper()} is not a SELECT", hint="only SELECT can run")
    return root


def _check_text(sql: str) -> None:
    if len(sql) > SQL_BYTES_MAX or len(sql.encode("utf-8", "replace")) > SQL_BYTES_MAX:
        raise SqlRefused(f"the statement is over {SQL_BYTES_MAX} bytes")
    if "\x00" in sql:
        raise SqlRefused("the statement holds a NUL character")
    if holds_mark(sql):
        raise SqlRefused("the statement holds a word that no statement may hold")
    if _EXECUTABLE.search(sql):
        raise SqlRefused("executable comments are not allowed", hint="leave comments out")
    depth = deepest = 0
    for bracket in _BRACKETS.findall(sql):
        if bracket in _OPENING:
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    if deepest > NESTING_MAX:
        raise SqlRefused(f"the statement is nested more than {NESTING_MAX} levels deep", hint="use WITH")


def filtered(node: exp.Table, known: KnownTable, alias: exp.Identifier, dialect: SqlDialect) -> exp.Subquery:
    """The table with its row filters, under the table's alias. It is the same text wherever the table is read, so that
    it stands in the tree as one word.
    """
    return exp.Subquery(this=exp.Var(this=_filtered_text(known, dialect)), alias=exp.TableAlias(this=same(alias)))


@lru_cache(maxsize=FILTERS_REMEMBERED_MAX)
def _filtered_text(known: KnownTable, dialect: SqlDialect) -> str:
    """The SELECT that reads the rows of a table that its filters let through.

    The LIMIT that no table reaches keeps the engine from moving the statement's own conditions below the filter, where
    an error in them (a cast, a division) would tell about rows that the caller may not read.
    """
    table = exp.Table(this=identifier(known.name), db=identifier(known.schema) if known.schema else None)
    conditions = [exp.Paren(this=parse_predicate(text, dialect).copy()) for text in known.row_filters]
    for condition in conditions:
        for column in condition.find_all(exp.Column):
            if not column.args.get("table") and column.find_ancestor(exp.Query) is None:
                # A column that the table does not have must fail, and not mean one of a query around it.
                column.set("table", identifier(known.name, quoted=False))
    select = exp.Select(
        expressions=[exp.Column(this=identifier(column.name)) for column in known.columns],
        from_=exp.From(this=table),
        where=exp.Where(this=exp.and_(*conditions, copy=False)),
        limit=exp.Limit(expression=exp.Literal.number(BARRIER_ROWS)),
    )
    return write(select, dialect)


def bound_rows(root: exp.Query, rows_max: int, skip: int = 0) -> None:
    """At most one row over the bound, which shows that there are more, after the ``skip`` rows that were given before.

    On the statement itself and not around it: an engine may forget the order of a subquery, and MySQL refuses two
    columns of one name in one.
    """
    limit = root.args.get("limit")
    wanted = rows_max + 1
    number = limit.args.get("count" if isinstance(limit, exp.Fetch) else "expression") if limit is not None else None
    if isinstance(limit, exp.Fetch) and number is None:
        wanted = min(wanted, 1)
    if isinstance(number, exp.Literal) and number.is_int:
        wanted = min(wanted, max(0, int(number.name) - skip))
    if skip:
        offset = root.args.get("offset")
        before = offset.expression if offset is not None else exp.Literal.number(0)
        if not (isinstance(before, exp.Literal) and before.is_int):
            raise SqlRefused("the rest of a statement with this OFFSET cannot be given", hint="write it as a number")
        root.set("offset", exp.Offset(expression=exp.Literal.number(int(before.name) + skip)))
    root.set("limit", exp.Limit(expression=exp.Literal.number(wanted)))


def write(root: exp.Query, dialect: SqlDialect) -> str:
    """The text to run."""
    try:
        return root.sql(
            dialect=dialect, copy=False, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
        )
    except SqlglotError as error:
        reason = str(error).split("\n")[0][:200]
        raise SqlRefused(f"the statement cannot be written as {dialect}: {reason}") from None
    except STUMBLES:
        raise SqlRefused(f"the statement cannot be written as {dialect}") from None
