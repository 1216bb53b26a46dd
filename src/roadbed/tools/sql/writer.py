"""Writers of SQL: sqlglot's generator of a dialect, with a short way for what most of a statement is, ``table.column``.

Called by `rewrite` alone. The invariant: it writes letter for letter what the generator without the short way writes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel
from sqlglot.generator import Generator

from roadbed.sources.catalogue import SqlDialect

_QUALIFIED = {"this", "table"}


def writer(dialect: SqlDialect) -> Generator:
    """A generator for one statement: no comments, functions named as they stood, nothing left out in silence."""
    return _class_of(dialect)(
        dialect=dialect, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE
    )


@cache
def _class_of(dialect: SqlDialect) -> type[Generator]:
    base = sqlglot.Dialect.get_or_raise(dialect).generator_class
    return type(base.__name__, (_ShortWay, base), {})


class _ShortWay(Generator):
    """Over a dialect's generator. A name is written once for a statement, however often it stands there."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._written: dict[tuple[Any, bool], str] = {}

    def column_sql(self, expression: exp.Column) -> str:
        """``table.column`` without a look at the parts that it does not have."""
        args = expression.args
        table, name = args.get("table"), args.get("this")
        is_short = not any(value for key, value in args.items() if key not in _QUALIFIED)
        if is_short and type(table) is exp.Identifier and type(name) is exp.Identifier:
            return f"{self.identifier_sql(table)}.{self.identifier_sql(name)}"
        return super().column_sql(expression)

    def identifier_sql(self, expression: exp.Identifier) -> str:
        """A name, remembered: how it is written depends on its text and its quotes alone."""
        key = (expression.args.get("this"), bool(expression.args.get("quoted")))
        written = self._written.get(key)
        if written is None:
            written = self._written[key] = super().identifier_sql(expression)
        return written
