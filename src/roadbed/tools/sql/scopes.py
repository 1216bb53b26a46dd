"""Scopes: the relations that a SELECT reads, with the columns that each gives, and the scope around it.

A name is looked for in the innermost scope first. The invariant: every relation of a statement has an alias of its own,
so that ``alias.column`` means one column wherever it stands, whatever rules of shadowing an engine has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from roadbed.tools.sql.names import Column, identifier, same


@dataclass(slots=True)
class Relation:
    """A table, subquery, CTE or table function in a FROM. ``is_base`` says that it is a table of the catalogue."""

    key: str
    alias: exp.Identifier
    columns: tuple[Column, ...]
    is_base: bool = False
    is_shown: bool = True
    """Whether ``*`` gives its columns: not for the right side of a semi join."""
    schema: str = ""
    by_alias: Column | None = None
    """The column that the bare alias means: of a function that gives one column."""

    def column(self, key: str) -> Column | None:
        """The first column of this name."""
        for column in self.columns:
            if column.key == key:
                return column
        return self.by_alias if self.by_alias is not None and key == self.key else None

    def reference(self, column: Column, quoted: bool = True) -> exp.Column:
        """``alias.column``, to be written."""
        return exp.Column(this=identifier(column.name, quoted), table=same(self.alias))


@dataclass(slots=True)
class Shared:
    """A column that USING made of two: what it is written as, and the places that it stands for."""

    column: Column
    places: list[tuple[Relation, Column]]
    is_full: bool = False
    first: int = 0

    def expression(self) -> exp.Expr:
        """The value: the first place that cannot be NULL for it, or COALESCE over all."""
        references = [relation.reference(column) for relation, column in self.places]
        if not self.is_full:
            return references[self.first]
        return exp.Coalesce(this=references[0], expressions=references[1:])


@dataclass(slots=True)
class Cte:
    """A common table expression. ``name`` is what it is written as."""

    name: exp.Identifier
    columns: tuple[Column, ...]
    is_used: bool = False


@dataclass(slots=True)
class Scope:
    """The names that the expressions of one SELECT see. ``aliases`` are its output names with their expressions."""

    parent: Scope | None
    ctes: dict[str, Cte]
    relations: list[Relation] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    aliases: dict[str, exp.Expr] = field(default_factory=dict)
    group_keys: set[tuple[str, str]] = field(default_factory=set)
    """Columns of kind ``group`` that the SELECT groups by, as (relation, column)."""
    counts_masked: bool = False
    """Whether the SELECT counts a column of kind ``group``."""

    def outwards(self) -> Iterator[Scope]:
        """This scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def relation(self, key: str, schema: str = "") -> Relation | None:
        """The relation of this alias here; with a schema only a table of that schema."""
        for relation in self.relations:
            if relation.key == key and (not schema or relation.schema == schema):
                return relation
        return None

    def owners(self, key: str) -> list[tuple[Relation, Column]]:
        """Relations here that give a column of this name."""
        return [(relation, column) for relation in self.relations if (column := relation.column(key)) is not None]
