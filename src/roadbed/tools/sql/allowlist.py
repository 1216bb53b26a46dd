"""The allowlist: every class of node, argument and type that a statement may hold. What is not here is refused.

Checked over the whole tree, wherever a node stands, before any name is resolved. Functions are in `functions`. The
invariant: a new version of the parser that learns a new construct adds nothing to what passes.
"""

from __future__ import annotations

import re

from sqlglot import exp

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql import functions
from roadbed.tools.sql.errors import SqlRefused

NODES: frozenset[str] = frozenset(
    """
    Select Union Except Intersect Subquery With CTE From Join Where Group Having Qualify Order Ordered Limit Offset Fetch
    LimitOptions Distinct Table TableAlias Values Tuple Lateral Unnest Rollup Cube GroupingSets Window WindowSpec
    Filter WithinGroup IgnoreNulls RespectNulls Alias Column Star Identifier Literal Null Boolean Paren Var Interval
    IntervalSpan DataType DataTypeParam Cast TryCast Case If Exists In Any All Between Like ILike SimilarTo Glob Escape
    RegexpLike RegexpILike Is Not And Or Xor EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Add Sub Mul Div IntDiv Mod Neg Pow DPipe
    BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitwiseLeftShift BitwiseRightShift Collate AtTimeZone Overlaps
    Bracket Slice Array Struct PropertyEQ Lambda JSONPath JSONPathRoot JSONPathKey JSONPathSubscript JSONPathWildcard
    JSONKeyValue Anonymous
    """.split()
)

# Arguments of the nodes in which a clause can hide that is a plain string or that the walk would not see.
ARGUMENTS: dict[str, frozenset[str]] = {
    "Select": frozenset(
        "with_ expressions distinct from_ joins laterals where group having qualify windows order limit offset".split()
    ),
    "SetOperation": frozenset("with_ this expression distinct order limit offset".split()),
    "Subquery": frozenset({"this", "alias"}),
    "Table": frozenset("this alias db joins ordinality".split()),
    "Join": frozenset("this on side kind using method".split()),
    "CTE": frozenset("this alias materialized".split()),
    "With": frozenset({"expressions", "recursive"}),
    "Limit": frozenset({"expression", "offset"}),
    "Fetch": frozenset({"direction", "count", "limit_options"}),
    "LimitOptions": frozenset({"rows"}),
    "Offset": frozenset({"expression"}),
    "Column": frozenset({"this", "table", "db"}),
    "Star": frozenset({"except_"}),
    "Order": frozenset({"this", "expressions"}),
    "Ordered": frozenset("this desc nulls_first".split()),
    "Group": frozenset("expressions grouping_sets cube rollup all".split()),
    "Lateral": frozenset("this view outer alias ordinality".split()),
    "Unnest": frozenset("expressions alias offset".split()),
    "Values": frozenset({"expressions", "alias"}),
    "Distinct": frozenset({"expressions", "on"}),
    "Cast": frozenset({"this", "to"}),
    "TryCast": frozenset({"this", "to", "safe", "requires_string"}),
    "Window": frozenset("this partition_by order spec alias over".split()),
    "TableAlias": frozenset({"this", "columns"}),
    "Interval": frozenset({"this", "unit"}),
    "DataType": frozenset("this expressions nested values".split()),
    "In": frozenset("this expressions query".split()),
    "Anonymous": frozenset({"this", "expressions"}),
}

TYPES: frozenset[str] = frozenset(
    """
    TINYINT SMALLINT INT MEDIUMINT BIGINT INT128 INT256 UTINYINT USMALLINT UINT UMEDIUMINT UBIGINT UINT128 FLOAT DOUBLE
    DECIMAL BIGDECIMAL UDOUBLE UDECIMAL MONEY BOOLEAN BIT CHAR NCHAR VARCHAR NVARCHAR TEXT TINYTEXT MEDIUMTEXT LONGTEXT
    BPCHAR NAME DATE DATE32 DATETIME DATETIME2 TIME TIMETZ TIMESTAMP TIMESTAMPTZ TIMESTAMPLTZ TIMESTAMPNTZ TIMESTAMP_S
    TIMESTAMP_MS TIMESTAMP_NS INTERVAL YEAR UUID JSON JSONB ARRAY LIST INET HUGEINT UHUGEINT
    """.split()
)
JOIN_KINDS = frozenset({"", "INNER", "CROSS", "OUTER", "SEMI", "ANTI"})
JOIN_SIDES = frozenset({"", "LEFT", "RIGHT", "FULL"})
WINDOW_WORDS = re.compile(r"(?i)^(rows|range|groups|unbounded|current row|preceding|following|no others|ties|group)?$")

_WORD = re.compile(r"^[A-Za-z_]+( [A-Za-z]+){0,2}$")
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


def check_node(node: exp.Expr, dialect: SqlDialect) -> None:
    """`SqlRefused` unless this node, its arguments and its words are on the lists. Children are checked by themselves."""
    name = type(node).__name__
    if name not in NODES and not functions.is_listed(node, dialect):
        raise SqlRefused(f"{_described(node, dialect)} is not allowed", hint=HINTS.get(name, SqlRefused.hint))
    listed = ARGUMENTS.get("SetOperation" if isinstance(node, exp.SetOperation) else name)
    if listed is not None:
        for key, value in node.args.items():
            if key not in listed and value:
                raise SqlRefused(
                    f"{key.rstrip('_').replace('_', ' ')} in {name.upper()} is not allowed",
                    hint=HINTS.get(type(value[0] if isinstance(value, list) else value).__name__, SqlRefused.hint),
                )
    check = _CHECKS.get(name)
    if check is not None:
        check(node)
    if isinstance(node, exp.Func):
        functions.check_call(node, dialect)


def _described(node: exp.Expr, dialect: SqlDialect) -> str:
    if isinstance(node, exp.Func):
        return f"the function {functions.name_of(node)}"
    if isinstance(node, exp.Command):
        return f"the command {str(node.this)[:20].upper()}"
    return f"{type(node).__name__.upper()} in {dialect}"


def _check_join(node: exp.Expr) -> None:
    if str(node.args.get("kind") or "").upper() not in JOIN_KINDS:
        raise SqlRefused(f"a {node.args['kind']} join is not allowed", hint="use JOIN, LEFT JOIN or CROSS JOIN")
    if str(node.args.get("side") or "").upper() not in JOIN_SIDES:
        raise SqlRefused(f"a {node.args['side']} join is not allowed")
    if str(node.args.get("method") or "").upper() not in ("", "NATURAL"):
        raise SqlRefused(f"a {node.args['method']} join is not allowed", hint="use JOIN ... ON")


def _check_type(node: exp.Expr) -> None:
    kind = node.this
    word = kind.name if hasattr(kind, "name") else str(kind)
    if word not in TYPES:
        raise SqlRefused("a cast to this type is not allowed", hint="cast to a plain type such as TEXT or INTEGER")


def _check_var(node: exp.Expr) -> None:
    if not _WORD.match(str(node.this)) and not isinstance(node.parent, exp.Collate):
        raise SqlRefused("a bare word stands where a value is expected")


def _check_window_spec(node: exp.Expr) -> None:
    for key, value in node.args.items():
        if isinstance(value, str) and not WINDOW_WORDS.match(value):
            raise SqlRefused(f"{key.replace('_', ' ')} of a window is not understood")


def _check_literal(node: exp.Expr) -> None:
    if "\x00" in str(node.this):
        raise SqlRefused("a string holds a NUL character")
    if not node.args.get("is_string") and not re.fullmatch(r"[0-9.]+([eE][+-]?[0-9]+)?", str(node.this)):
        raise SqlRefused("a number is not understood")


def _check_collate(node: exp.Expr) -> None:
    name = node.args["expression"].name
    if not _COLLATION.match(name):
        raise SqlRefused("the collation is not understood")


def _check_limit(node: exp.Expr) -> None:
    for key in ("expression", "offset", "count"):
        value = node.args.get(key)
        if value is not None and not (isinstance(value, exp.Literal) and value.is_int):
            if isinstance(value, exp.Var) and value.name.upper() == "ALL":
                continue
            raise SqlRefused("LIMIT and OFFSET must be whole numbers")
    if str(node.args.get("direction") or "FIRST").upper() not in ("FIRST", "NEXT"):
        raise SqlRefused("FETCH takes FIRST or NEXT")


_CHECKS = {
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
