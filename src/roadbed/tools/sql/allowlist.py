"""The allowlist: every class of node, argument and type that a statement may hold. What is not here is refused.

Checked over the whole tree, wherever a node stands, before any name is resolved. Functions are in `functions`. The
invariant: a new version of the parser that learns a new construct adds nothing to what passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlglot import exp

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql import functions
from roadbed.tools.sql.errors import SqlRefused


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NODES: frozenset[str] = _words("""
    Select Union Except Intersect Subquery With CTE From Join Where Group Having Qualify Order Ordered Limit
    Offset Fetch LimitOptions Distinct Table TableAlias Values Tuple Lateral Unnest Rollup Cube GroupingSets
    Window WindowSpec Filter WithinGroup IgnoreNulls RespectNulls Alias Column Star Identifier Literal Null
    Boolean Paren Var Interval IntervalSpan DataType DataTypeParam Cast TryCast Case If Exists In Any All
    Between Like ILike SimilarTo Glob Escape RegexpLike RegexpILike Is Not And Or Xor EQ NEQ GT GTE LT LTE
    NullSafeEQ NullSafeNEQ Add Sub Mul Div IntDiv Mod Neg Pow DPipe BitwiseAnd BitwiseOr BitwiseXor BitwiseNot
    BitwiseLeftShift BitwiseRightShift Collate AtTimeZone Overlaps Bracket Slice Array Struct PropertyEQ Lambda
    JSONPath JSONPathRoot JSONPathKey JSONPathSubscript JSONPathWildcard JSONKeyValue Anonymous
    """)

# Arguments of the nodes in which a clause can hide that is a plain string or that the walk would not see.
ARGUMENTS: dict[str, frozenset[str]] = {
    "Select": _words(
        "with_ expressions distinct from_ joins laterals where group having qualify windows order limit offset"
    ),
    "SetOperation": _words("with_ this expression distinct order limit offset"),
    "Subquery": frozenset({"this", "alias"}),
    "Table": _words("this alias db joins ordinality"),
    "Join": _words("this on side kind using method"),
    "CTE": _words("this alias materialized"),
    "With": frozenset({"expressions", "recursive"}),
    "Limit": frozenset({"expression", "offset"}),
    "Fetch": frozenset({"direction", "count", "limit_options"}),
    "LimitOptions": frozenset({"rows"}),
    "Offset": frozenset({"expression"}),
    "Column": frozenset({"this", "table", "db"}),
    "Star": frozenset({"except_"}),
    "Order": frozenset({"this", "expressions"}),
    "Ordered": _words("this desc nulls_first"),
    "Group": _words("expressions grouping_sets cube rollup all"),
    "Lateral": _words("this view outer alias ordinality"),
    "Unnest": _words("expressions alias offset"),
    "Values": frozenset({"expressions", "alias"}),
    "Distinct": frozenset({"expressions", "on"}),
    "Cast": frozenset({"this", "to"}),
    "TryCast": frozenset({"this", "to", "safe", "requires_string"}),
    "Window": _words("this partition_by order spec alias over"),
    "TableAlias": frozenset({"this", "columns"}),
    "Interval": frozenset({"this", "unit"}),
    "DataType": _words("this expressions nested values"),
    "In": _words("this expressions query"),
    "Anonymous": frozenset({"this", "expressions"}),
}

TYPES: frozenset[str] = _words("""
    TINYINT SMALLINT INT MEDIUMINT BIGINT INT128 INT256 UTINYINT USMALLINT UINT UMEDIUMINT UBIGINT UINT128 FLOAT
    DOUBLE DECIMAL BIGDECIMAL UDOUBLE UDECIMAL MONEY BOOLEAN BIT CHAR NCHAR VARCHAR NVARCHAR TEXT TINYTEXT
    MEDIUMTEXT LONGTEXT BPCHAR NAME DATE DATE32 DATETIME DATETIME2 TIME TIMETZ TIMESTAMP TIMESTAMPTZ
    TIMESTAMPLTZ TIMESTAMPNTZ TIMESTAMP_S TIMESTAMP_MS TIMESTAMP_NS INTERVAL YEAR UUID JSON JSONB ARRAY LIST
    INET HUGEINT UHUGEINT
    """)
# Values of these are filled up with blanks to their size.
PADDED_TYPES = frozenset({"CHAR", "NCHAR", "BPCHAR", "BIT"})
PADDED_CHARACTERS_MAX = 1_000
JOIN_KINDS = frozenset({"", "INNER", "CROSS", "OUTER", "SEMI", "ANTI"})
JOIN_SIDES = frozenset({"", "LEFT", "RIGHT", "FULL"})
WORDS = _words("""
    ALL YEAR YEARS QUARTER QUARTERS MONTH MONTHS WEEK WEEKS DAY DAYS HOUR HOURS MINUTE MINUTES SECOND SECONDS
    MILLISECOND
    MILLISECONDS MICROSECOND MICROSECONDS NANOSECOND DECADE DECADES CENTURY CENTURIES MILLENNIUM ERA EPOCH DOW
    ISODOW DOY
    ISOYEAR DAYOFWEEK DAYOFYEAR DAYOFMONTH WEEKDAY WEEKISO YEARWEEK TIMEZONE TIMEZONE_HOUR TIMEZONE_MINUTE JULIAN
    YEAR_MONTH DAY_HOUR DAY_MINUTE DAY_SECOND HOUR_MINUTE HOUR_SECOND MINUTE_SECOND LEADING TRAILING BOTH
    """)
WINDOW_WORDS = re.compile(r"(?i)^(rows|range|groups|unbounded|current row|preceding|following|no others|ties|group)?$")

_NUMBER = re.compile(r"[0-9.]+([eE][+-]?[0-9]+)?")
_WORD = re.compile(r"[^\W\d][\w$]*")
_COLLATION = re.compile(r"^[A-Za-z0-9_.\-]{1,64}$")

# What to write instead, for the refusals that models run into most.
HINTS: dict[str, str] = {
    "Star": "name the columns",
    "Dot": "write table.column, and functions without a schema",
    "Parameter": "write the value itself",
    "Placeholder": "write the value itself",
    "SessionParameter": "session variables cannot be read",
    "Into": "a SELECT returns rows; it cannot create tables or files",
    "Lock": "leave FOR UPDATE and FOR SHARE out",
    "TableSample": "use ORDER BY with LIMIT",
    "Pivot": "use SUM(CASE WHEN ... THEN ... END)",
    "Columns": "name the columns",
    "Command": "only SELECT can run",
    "ByteString": "write a plain '...' string",
    "HexString": "write a plain '...' string or a number",
    "ObjectIdentifier": "cast to a plain type such as TEXT or INTEGER",
}


class _Rule(NamedTuple):
    """What is looked at on every node of a class, which depends on the class alone."""

    is_listed: bool
    arguments: frozenset[str] | None
    checks: tuple[Callable[[exp.Expr, SqlDialect], None], ...]


class _Rules(dict[type[exp.Expr], _Rule | None]):
    """Rules by class, made when the first node of it is met: as many as the parser has classes."""

    def __missing__(self, kind: type[exp.Expr]) -> _Rule | None:
        rule = self[kind] = _rule(kind)
        return rule


_rules = _Rules()


def check_nodes(nodes: Iterable[exp.Expr], dialect: SqlDialect) -> None:
    """`SqlRefused` unless each of these nodes, its arguments and its words are on the lists.

    Children are not looked at by way of their parents: the nodes are all that a tree holds.
    """
    for node in nodes:
        rule = _rules[type(node)]
        if rule is not None:
            _check_node(node, rule, dialect)


def _rule(kind: type[exp.Expr]) -> _Rule | None:
    """The rule for a class of nodes; None where being on the list is all that is asked."""
    name = kind.__name__
    checks = []
    if name == "Lambda":
        checks.append(_check_lambda)
    if name in _CHECKS:
        checks.append(_CHECKS[name])
    if functions.has_check(kind):
        checks.append(functions.check_call)
    rule = _Rule(
        name in NODES or functions.is_listed(kind),
        ARGUMENTS.get("SetOperation" if issubclass(kind, exp.SetOperation) else name),
        tuple(checks),
    )
    return None if rule == (True, None, ()) else rule


def _check_node(node: exp.Expr, rule: _Rule, dialect: SqlDialect) -> None:
    name = type(node).__name__
    if not rule.is_listed:
        raise SqlRefused(f"{_described(node, dialect)} is not allowed", hint=HINTS.get(name, SqlRefused.hint))
    if rule.arguments is not None:
        for key, value in node.args.items():
            if value and key not in rule.arguments:
                raise SqlRefused(
                    f"{key.rstrip('_').replace('_', ' ')} in {name.upper()} is not allowed",
                    hint=HINTS.get(type(value[0] if isinstance(value, list) else value).__name__, SqlRefused.hint),
                )
    for check in rule.checks:
        check(node, dialect)


def _described(node: exp.Expr, dialect: SqlDialect) -> str:
    if isinstance(node, exp.Func):
        return f"the function {functions.name_of(node)}"
    if isinstance(node, exp.Command):
        return f"the command {str(node.this)[:20].upper()}"
    return f"{type(node).__name__.upper()} in {dialect}"


def _check_join(node: exp.Expr, dialect: SqlDialect) -> None:
    if str(node.args.get("kind") or "").upper() not in JOIN_KINDS:
        raise SqlRefused(f"a {node.args['kind']} join is not allowed", hint="use JOIN, LEFT JOIN or CROSS JOIN")
    if str(node.args.get("side") or "").upper() not in JOIN_SIDES:
        raise SqlRefused(f"a {node.args['side']} join is not allowed")
    if str(node.args.get("method") or "").upper() not in ("", "NATURAL"):
        raise SqlRefused(f"a {node.args['method']} join is not allowed", hint="use JOIN ... ON")


def _check_type(node: exp.Expr, dialect: SqlDialect) -> None:
    kind = node.this
    word = kind.name if hasattr(kind, "name") else str(kind)
    if word not in TYPES:
        raise SqlRefused("a cast to this type is not allowed", hint="cast to a plain type such as TEXT or INTEGER")
    if word in PADDED_TYPES and any(_size(part) > PADDED_CHARACTERS_MAX for part in node.expressions):
        raise SqlRefused(
            f"{word} of over {PADDED_CHARACTERS_MAX} characters is not allowed",
            hint="cast to TEXT, which adds no blanks",
        )


def _size(part: exp.Expr) -> int:
    """The number in ``CHAR(n)``; more than any where it is none."""
    number = part.this if isinstance(part, exp.DataTypeParam) else part
    is_number = isinstance(number, exp.Literal) and number.is_int
    return int(number.name) if is_number else PADDED_CHARACTERS_MAX + 1


def _check_var(node: exp.Expr, dialect: SqlDialect) -> None:
    word = str(node.this).upper()
    if not isinstance(node.parent, exp.Collate) and (word not in WORDS or isinstance(node.parent, exp.GroupConcat)):
        raise SqlRefused("a bare word stands where a value is expected")


def _check_window_spec(node: exp.Expr, dialect: SqlDialect) -> None:
    for key, value in node.args.items():
        if isinstance(value, str) and not WINDOW_WORDS.match(value):
            raise SqlRefused(f"{key.replace('_', ' ')} of a window is not understood")


def _check_literal(node: exp.Expr, dialect: SqlDialect) -> None:
    if "\x00" in str(node.this):
        raise SqlRefused("a string holds a NUL character")
    if not node.args.get("is_string") and not _NUMBER.fullmatch(str(node.this)):
        raise SqlRefused("a number is not understood")


def _check_identifier(node: exp.Expr, dialect: SqlDialect) -> None:
    """The parser takes strings of some kinds (``N'...'``, ``$$...$$``) for names; unquoted ones are written as they
    are, so that more than a word would be a part of the statement.
    """
    if not node.args.get("quoted") and not _WORD.fullmatch(str(node.this)):
        raise SqlRefused("a name is not a plain word", hint="write a plain name, or quote it")


def _check_collate(node: exp.Expr, dialect: SqlDialect) -> None:
    name = node.args["expression"].name
    if not _COLLATION.match(name):
        raise SqlRefused("the collation is not understood")


def _check_limit(node: exp.Expr, dialect: SqlDialect) -> None:
    for key in ("expression", "offset", "count"):
        value = node.args.get(key)
        if value is not None and not (isinstance(value, exp.Literal) and value.is_int):
            if isinstance(value, exp.Var) and value.name.upper() == "ALL":
                continue
            raise SqlRefused("LIMIT and OFFSET must be whole numbers")
    if str(node.args.get("direction") or "FIRST").upper() not in ("FIRST", "NEXT"):
        raise SqlRefused("FETCH takes FIRST or NEXT")


def _check_table(node: exp.Expr, dialect: SqlDialect) -> None:
    if node.args.get("indexed") is not None:  # False says NOT INDEXED
        raise SqlRefused("INDEXED BY and NOT INDEXED are not allowed")
    if not isinstance(node.this, exp.Identifier) and (node.args.get("db") or not isinstance(node.this, exp.Func)):
        raise SqlRefused("a function in FROM is written without a schema")


def _check_lambda(node: exp.Expr, dialect: SqlDialect) -> None:
    """Elsewhere an arrow is an operator on columns, whatever the parser takes it for."""
    parent = node.parent
    name = str(parent.this).lower() if isinstance(parent, exp.Anonymous) else ""
    is_list = isinstance(parent, exp.Transform | exp.ArrayFilter) or name.startswith("list_")
    if dialect != "duckdb" or not is_list:
        raise SqlRefused("a lambda is not allowed here", hint="lambdas stand in list_transform and list_filter")


_CHECKS = {
    "Identifier": _check_identifier,
    "Table": _check_table,
    "Join": _check_join,
    "DataType": _check_type,
    "Var": _check_var,
    "WindowSpec": _check_window_spec,
    "Literal": _check_literal,
    "Collate": _check_collate,
    "Limit": _check_limit,
    "Offset": _check_limit,
    "Fetch": _check_limit,
}
