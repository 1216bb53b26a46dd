"""Columns that may only be counted, or grouped by in groups of enough rows: what may stand beside them in a SELECT.

A name, a smallest id or a conditional count beside such a column would tell whose value it is, however large the group.
The invariant: in a SELECT that groups by one, every other column stands in a plain COUNT, SUM or AVG, or is grouped by.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.names import fold, nodes_of
from roadbed.tools.sql.scopes import Relation

_BESIDE = "beside a column that is shown in groups alone, use COUNT, SUM or AVG of a column, or group by it too"


def check_beside(node: exp.Select, relation: Relation, dialect: str) -> None:
    """`SqlRefused` for a column beside a masked group key that could tell whose it is. ``node`` is resolved."""
    terms = {_text(term, dialect) for term in _group_terms(node)}
    for part in _parts(node):
        _check(part, fold(str(relation.alias.this)), terms, dialect)


def cut_small_groups(node: exp.Select, rows_min: int) -> None:
    """Leave groups of fewer rows out."""
    enough = exp.GTE(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(rows_min))
    having = node.args.get("having")
    condition = exp.and_(exp.Paren(this=having.this), enough, copy=False) if having is not None else enough
    node.set("having", exp.Having(this=condition))


def is_counted(node: exp.Column) -> bool:
    """``COUNT(column)`` or ``COUNT(DISTINCT column)``, with nothing around the column."""
    count = _count_of(node)
    return isinstance(count, exp.Count) and not count.expressions


def is_counted_over_all(node: exp.Column) -> bool:
    """Whether nothing picks the rows that such a COUNT counts: no FILTER, and no window."""
    count = _count_of(node)
    return count is not None and not isinstance(count.parent, exp.Filter | exp.Window)


def _count_of(node: exp.Column) -> exp.Expr | None:
    parent = node.parent
    if isinstance(parent, exp.Distinct) and len(parent.expressions) == 1 and not parent.args.get("on"):
        parent = parent.parent
    return parent


def _group_terms(node: exp.Select) -> Iterator[exp.Expr]:
    for term in node.args["group"].expressions:
        if isinstance(term, exp.Literal) and term.is_int and 1 <= int(term.name) <= len(node.expressions):
            yield node.expressions[int(term.name) - 1].unalias()
        else:
            yield term


def _parts(node: exp.Select) -> Iterator[exp.Expr]:
    yield from (item.unalias() for item in node.expressions)
    for clause in ("having", "qualify", "order"):
        if node.args.get(clause) is not None:
            yield node.args[clause]
    yield from node.args.get("windows") or []


def _check(part: exp.Expr, own: str, terms: set[str], dialect: str) -> None:
    stack = [part]
    while stack:
        node = stack.pop()
        if isinstance(node, exp.Literal) or (isinstance(node, exp.Condition) and _text(node, dialect) in terms):
            continue
        if isinstance(node, exp.Column):
            if fold(node.table) == own:
                raise SqlRefused(f"the column {node.name} would tell whose value a masked one is", hint=_BESIDE)
            continue
        if isinstance(node, exp.Count | exp.Sum | exp.Avg) and _is_plain(node):
            continue
        if isinstance(node, exp.Query):  # a column of ours in it is one of a row of the group
            stack += [inner for inner in nodes_of(node) if isinstance(inner, exp.Column)]
            continue
        stack += list(node.iter_expressions())


def _is_plain(node: exp.Expr) -> bool:
    value = node.this
    if isinstance(value, exp.Distinct) and isinstance(node, exp.Count) and len(value.expressions) == 1:
        value = value.expressions[0]
    return isinstance(value, exp.Column | exp.Star) and not node.expressions


def _text(node: exp.Expr, dialect: str) -> str:
    return node.sql(dialect=dialect, comments=False, normalize_functions=False)
