"""FROM and JOIN: which relations a SELECT reads, what ``*`` gives over them, and the row filters put into them.

The invariant: a table of the catalogue that has row filters stands in the rewritten statement only inside the filtered
subquery that is made here, and every relation has an alias of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.expressions import Expressions, masked
from roadbed.tools.sql.functions import TABLE_FUNCTIONS
from roadbed.tools.sql.names import DEFAULT_SCHEMAS, Column, KnownTable, Names, fold, identifier, key_of
from roadbed.tools.sql.rewrite import filtered
from roadbed.tools.sql.scopes import Relation, Scope, Shared

RELATIONS_MAX = 60

Output = tuple[Column, Relation | Shared]


class Relations:
    """Reads FROM clauses into scopes. ``derived`` resolves a query that stands there, seen from a scope."""

    def __init__(
        self,
        names: Names,
        expressions: Expressions,
        derived: Callable[[exp.Query, Scope | None, Scope], tuple[Column, ...]],
    ) -> None:
        self._names = names
        self._expressions = expressions
        self._derived = derived
        self._aliases: set[str] = set(names.column_keys) if names.dialect == "duckdb" else set()
        self.tables: dict[str, None] = {}
        self.count = 0

    def read(self, select: exp.Select, scope: Scope) -> list[Output]:
        """Fill the scope from the SELECT's FROM, and say what ``*`` gives, in the dialect's order."""
        outputs: list[Output] = []
        start = select.args.get("from_")
        if start is not None:
            outputs = self._source(start.this, scope)
        for lateral in select.args.get("laterals") or []:
            outputs += self._source(lateral, scope)
        for join in select.args.get("joins") or []:
            outputs = self._join(join, outputs, scope)
        return outputs

    def _join(self, join: exp.Join, left: list[Output], scope: Scope) -> list[Output]:
        before = len(scope.relations)
        right = self._source(join.this, scope)
        keys = [key_of(name, self._names.dialect) for name in join.args.get("using") or []]
        if str(join.args.get("method") or "").upper() == "NATURAL":
            theirs = {column.key for column, _ in right}
            keys = [column.key for column, _ in left if column.key in theirs]
            if not keys:
                raise SqlRefused("a NATURAL JOIN has no column in common", hint="use JOIN ... ON")
            join.set("method", None)
        is_filter = str(join.args.get("kind") or "").upper() in ("SEMI", "ANTI")
        if keys:
            left = self._share(join, keys, left, right, scope, is_filter=is_filter)
            right = [output for output in right if output[0].key not in keys]
        elif join.args.get("on") is not None:
            self._resolve_on(join, scope)
        if is_filter:
            for relation in scope.relations[before:]:
                relation.is_shown = False
            right = []
        return left + right

    def _resolve_on(self, join: exp.Join, scope: Scope) -> None:
        aliases, scope.aliases = scope.aliases, {}
        self._expressions.resolve(join.args["on"], scope)
        scope.aliases = aliases

    def _share(
        self, join: exp.Join, keys: list[str], left: list[Output], right: list[Output], scope: Scope, *, is_filter: bool
    ) -> list[Output]:
        """Write USING as ON, which names both sides, and remember what its columns stand for."""
        side = str(join.args.get("side") or "").upper()
        conditions: list[exp.Expr] = []
        made: list[Output] = []
        for key in keys:
            ours = [(column, owner) for column, owner in left if column.key == key]
            theirs = [(column, owner) for column, owner in right if column.key == key]
            if len(ours) != 1 or len(theirs) != 1 or not isinstance(theirs[0][1], Relation):
                raise SqlRefused(f"USING ({key[:64]}) needs that column exactly once on each side", hint="use JOIN ... ON")
            column, owner = ours[0]
            old = owner if isinstance(owner, Shared) else Shared(column, [(owner, column)])
            place = (theirs[0][1], theirs[0][0])
            for _, shared_column in [*old.places, place]:
                if shared_column.mask is not None:
                    raise masked(shared_column.mask)
            conditions.append(exp.EQ(this=old.expression(), expression=place[0].reference(place[1])))
            is_right = side == "RIGHT"
            new = Shared(
                old.column,
                [*old.places, place],
                is_full=side == "FULL" or (old.is_full and not is_right),
                first=len(old.places) if is_right else old.first,
            )
            if not is_filter:
                scope.shared[key] = new
                made.append((column, new))
        join.set("using", None)
        join.set("on", exp.and_(*conditions, copy=False))
        if is_filter:
            return left
        if self._names.dialect in ("postgres", "mysql"):
            return made + [output for output in left if output[0].key not in keys]
        by_key = {output[0].key: output for output in made}
        return [by_key.get(column.key, (column, owner)) for column, owner in left]

    def _source(self, node: exp.Expr, scope: Scope) -> list[Output]:
        """One item of FROM, put into the scope."""
        self.count += 1
        if self.count > RELATIONS_MAX:
            raise SqlRefused(f"the statement reads more than {RELATIONS_MAX} tables and subqueries")
        match node:
            case exp.Subquery() if isinstance(node.this, exp.Table):
                if node.args.get("alias"):
                    raise SqlRefused("an alias of a join in parentheses is not allowed", hint="use a subquery")
                return self._source(node.this, scope)
            case exp.Subquery():
                outer = scope if self._names.dialect == "duckdb" else scope.parent
                return self._query(node, self._derived(node.this, outer, scope), scope)
            case exp.Lateral() if isinstance(node.this, exp.Subquery):
                return self._query(node, self._derived(node.this.this, scope, scope), scope)
            case exp.Lateral() | exp.Unnest():
                return self._function(node, scope)
            case exp.Values():
                return self._values(node, scope)
            case exp.Table() if isinstance(node.this, exp.Identifier):
                return self._table(node, scope)
            case exp.Table():
                return self._function(node, scope)
            case _:
                raise SqlRefused(f"{type(node).__name__.upper()} in FROM is not allowed", hint="read tables of the source")

    def _table(self, node: exp.Table, scope: Scope) -> list[Output]:
        joins = node.args.get("joins") or []
        cte = scope.ctes.get(key_of(node.this, self._names.dialect)) if not node.args.get("db") else None
        if cte is not None:
            cte.is_used = True
            written_alias = self._written_alias(node) or node.this.copy()
            columns = self.renamed(node, cte.columns)
            node.set("this", cte.name.copy())
            outputs = self._add(node, written_alias, columns, scope, names_differ=True)
        else:
            outputs = self._base(node, self._names.table(node), scope)
        for join in joins:
            outputs = self._join(join, outputs, scope)
        return outputs

    def _base(self, node: exp.Table, known: KnownTable, scope: Scope) -> list[Output]:
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            raise SqlRefused(f"columns of the table {known.key} cannot be renamed in FROM", hint="use AS in the select list")
        self.tables[known.key] = None
        written_alias = self._written_alias(node)
        schema = fold(known.schema) or DEFAULT_SCHEMAS[self._names.dialect]
        node.set("this", identifier(known.name, bool(node.this.args.get("quoted"))))
        node.set("db", identifier(known.schema, quoted=False) if known.schema else None)
        outputs = self._add(
            node, written_alias or node.this.copy(), known.columns, scope, schema="" if written_alias else schema, is_base=True
        )
        if known.row_filters:
            if node.args.get("joins"):
                raise SqlRefused("joins in parentheses are not allowed over this table", hint="leave the parentheses out")
            node.replace(filtered(node, known, scope.relations[-1].alias, self._names.dialect))
        return outputs

    def _query(self, node: exp.Expr, columns: tuple[Column, ...], scope: Scope) -> list[Output]:
        alias = self._written_alias(node) or exp.Identifier(this="subquery", quoted=False)
        return self._add(node, alias, self.renamed(node, columns), scope, names_differ=True)

    def _values(self, node: exp.Values, scope: Scope) -> list[Output]:
        rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions]
        for row in rows:
            for value in row:
                self._expressions.resolve(value, scope)
        first = {"postgres": ("column", 1), "sqlite": ("column", 1), "duckdb": ("col", 0), "mysql": ("column_", 0)}
        word, start = first[self._names.dialect]
        columns = tuple(Column(f"{word}{start + i}", f"{word}{start + i}") for i in range(len(rows[0])))
        return self._query(node, columns, scope)

    def _function(self, node: exp.Expr, scope: Scope) -> list[Output]:
        """A function that gives rows: its arguments see the relations before it."""
        call = node.this if isinstance(node, exp.Table | exp.Lateral) else node
        if isinstance(call, exp.Anonymous) and str(call.this) in TABLE_FUNCTIONS:
            defaults, arguments = TABLE_FUNCTIONS[str(call.this)], call.expressions
        elif isinstance(call, exp.Unnest | exp.Explode):
            defaults, arguments = ("unnest",), [*call.expressions, *([call.this] if call.args.get("this") else [])]
        elif isinstance(call, exp.GenerateSeries | exp.ExplodingGenerateSeries):
            is_range = bool(call.args.get("is_end_exclusive"))
            defaults = ("range" if is_range else "value" if self._names.dialect == "sqlite" else "generate_series",)
            arguments = list(call.iter_expressions())
        else:
            raise SqlRefused("this function in FROM is not allowed", hint="read tables of the source, or use unnest")
        for argument in arguments:
            self._expressions.resolve(argument, scope)
        written = self._written_alias(node)
        key = key_of(written, self._names.dialect) if written else fold(defaults[0])
        by_alias = None
        if self._names.dialect == "postgres" and len(defaults) == 1:
            if defaults[0] == "value":
                by_alias = Column(key, "value")
            else:
                defaults = (written.name if written else str(defaults[0]),)
        if node.args.get("ordinality") or node.args.get("offset"):
            defaults = (*defaults, "ordinality")
        columns = tuple(Column(key_of(identifier(name, False), self._names.dialect), name) for name in defaults)
        renamed = self.renamed(node, columns)
        is_scalar = self._names.dialect == "postgres" and len(columns) == 1 and not by_alias
        alias = written or identifier(str(call.this) if isinstance(call, exp.Anonymous) else defaults[0], False)
        outputs = self._add(node, alias, renamed, scope, names_differ=True)
        if is_scalar:
            node.args["alias"].set("columns", [identifier(column.name) for column in renamed])
        scope.relations[-1].by_alias = by_alias
        return outputs

    def _written_alias(self, node: exp.Expr) -> exp.Identifier | None:
        alias = node.args.get("alias")
        name = alias.this if isinstance(alias, exp.TableAlias) else None
        return name.copy() if isinstance(name, exp.Identifier) else None

    def renamed(self, node: exp.Expr, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """The columns under the names of ``AS alias (names)``."""
        alias = node.args.get("alias")
        given = alias.args.get("columns") or [] if isinstance(alias, exp.TableAlias) else []
        if len(given) > len(columns):
            raise SqlRefused("an alias names more columns than there are")
        new = []
        for position, column in enumerate(columns):
            if position < len(given):
                name = given[position].this if isinstance(given[position], exp.ColumnDef) else given[position]
                key = key_of(name, self._names.dialect)
                new.append(Column(key, key if self._names.dialect == "postgres" else str(name.this), column.mask))
            else:
                new.append(column)
        return tuple(new)

    def _add(
        self,
        node: exp.Expr,
        alias: exp.Identifier,
        columns: tuple[Column, ...],
        scope: Scope,
        *,
        names_differ: bool = False,
        schema: str = "",
        is_base: bool = False,
    ) -> list[Output]:
        """Put a relation into the scope under an alias that no other relation of the statement has."""
        key = key_of(alias, self._names.dialect)
        if scope.relation(key, schema) is not None:
            raise SqlRefused(f"{key[:64]} stands twice in FROM", hint="give each an alias of its own")
        unique, number = fold(str(alias.this)), 1
        while unique in self._aliases:
            number += 1
            unique = f"{fold(str(alias.this))}_{number}"
        self._aliases.add(unique)
        written = alias if number == 1 else identifier(unique)
        relation = Relation(key, written, columns, is_base=is_base, schema=schema)
        if names_differ or number > 1 or node.args.get("alias"):
            old = node.args.get("alias")
            given = old.args.get("columns") if isinstance(old, exp.TableAlias) else None
            node.set("alias", exp.TableAlias(this=written.copy(), columns=given))
        scope.relations.append(relation)
        return [(column, relation) for column in columns]
