"""Columns in expressions: each is resolved to the relation that gives it, written back as such, and its mask applied.

`Expressions` is the part of the resolver that looks at one expression at a time; `queries.Queries` drives it over whole
statements. The invariant: after it, an expression holds no name that an engine could read in another way than the gate,
and no masked column outside the one place that its kind allows.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.groups import is_counted, is_counted_over_all
from roadbed.tools.sql.names import Column, Mask, Names, columns_hint, key_of, respell, same
from roadbed.tools.sql.scopes import Relation, Scope, Shared

INLINED_NODES_MAX = 4000

Place = tuple[Relation, Column]
ALLOWED_FORMS = {
    "drop": "leave the column out",
    "partial": "name it alone in the select list; it is shown masked, and cannot be compared, sorted or computed with",
    "token": "name it alone in the select list; it is shown as a token, and cannot be compared, sorted or computed",
    "group": "use COUNT(column) without a FILTER, or GROUP BY the column, in a SELECT over its table alone",
}
_ONLY_IN_FROM = (exp.Table, exp.From, exp.Join, exp.With, exp.CTE, exp.Lateral, exp.Values)
_LOOKED_AT = (
    exp.Column,
    exp.Query,
    exp.Identifier,
    exp.Star,
    exp.Alias,
    exp.Lambda,
    exp.PropertyEQ,
    *_ONLY_IN_FROM,
)


class _LookedAt(dict[type[exp.Expr], bool]):
    """Whether `Expressions.resolve` does anything with nodes of a class but go on to their children."""

    def __missing__(self, kind: type[exp.Expr]) -> bool:
        answer = self[kind] = issubclass(kind, _LOOKED_AT)
        return answer


_is_looked_at = _LookedAt()


class Expressions:
    """Resolves expressions against scopes. ``nested`` resolves a query that stands in one."""

    def __init__(self, names: Names, nested: Callable[[exp.Query, Scope], tuple[Column, ...]]) -> None:
        self._names = names
        self._nested = nested
        self._written: dict[int, tuple[exp.Column, Place]] = {}
        self._inlined_nodes = 0

    def written(self, relation: Relation, column: Column) -> exp.Column:
        """A reference that is resolved already."""
        node = relation.reference(column)
        self._written[id(node)] = (node, (relation, column))
        return node

    def resolve(self, root: exp.Expr, scope: Scope) -> None:
        """Resolve everything in an expression that is not an output by itself."""
        stack: list[tuple[exp.Expr, frozenset[str]]] = [(root, frozenset())]
        while stack:
            node, bound = stack.pop()
            if not _is_looked_at[type(node)]:
                for value in node.args.values():
                    if isinstance(value, exp.Expr):
                        stack.append((value, bound))
                    elif isinstance(value, list):
                        stack += [(inner, bound) for inner in value if isinstance(inner, exp.Expr)]
                continue
            if isinstance(node, exp.Column):
                if not (bound and self._is_bound(node, bound)):
                    self.column(node, scope)
                continue
            if isinstance(node, exp.Query):
                if bound:  # the parser leaves names of lambdas unresolved in it, whatever FROM gives there
                    raise SqlRefused("a subquery in a lambda is not allowed", hint="use a join or unnest")
                self._subquery(node, scope)
                continue
            if isinstance(node, exp.Identifier):
                self._check_bare(node, bound)
                continue
            if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
                raise SqlRefused("* is not allowed here", hint="name the columns; * stands in COUNT(*) or alone")
            if isinstance(node, _ONLY_IN_FROM) or (isinstance(node, exp.Alias) and node is not root):
                raise SqlRefused(f"{type(node).__name__.upper()} is not allowed in an expression")
            if isinstance(node, exp.Lambda):
                bound |= {key_of(name, self._names.dialect) for name in node.expressions}
                stack.append((node.this, bound))
                continue
            if isinstance(node, exp.PropertyEQ):
                stack.append((node.expression, bound))
                continue
            stack += [(child, bound) for child in node.iter_expressions()]

    def output(self, node: exp.Expr, scope: Scope) -> Mask | None:
        """Resolve an output expression; the mask of a bare column whose rows have to be masked."""
        inner = node.this if isinstance(node, exp.Alias) else node
        while isinstance(inner, exp.Paren):
            inner = inner.this
        if not isinstance(inner, exp.Column):
            self.resolve(inner, scope)
            return None
        return self.column(inner, scope, is_output=True)

    def column(self, node: exp.Column, scope: Scope, *, is_output: bool = False) -> Mask | None:
        """Resolve a column and write it as ``alias.column``; the mask where it is an output that has to be masked."""
        done = self._written.get(id(node))
        found = done[1] if done else self.find(node, scope)
        if isinstance(found, Shared):
            for relation, column in found.places:
                self._use(node, relation, column, scope, is_output=False)
            node.replace(self._replacement(node, found.expression()))
            return None
        if isinstance(found, exp.Expr):
            self._inline(node, found, scope)
            return None
        relation, column = found
        mask = self._use(node, relation, column, scope, is_output=is_output)
        if not done:
            args = node.args
            respell(args["this"], column.name)
            node.set("table", same(relation.alias))
            if args.get("db") is not None:
                node.set("db", None)
            self._written[id(node)] = (node, found)
        return mask

    def find(self, node: exp.Column, scope: Scope) -> Place | Shared | exp.Expr:
        """What a name means: a relation's column, a column of USING, or the expression of an output name."""
        dialect = self._names.dialect
        name = node.args.get("this")
        if not isinstance(name, exp.Identifier):
            raise SqlRefused("* is not allowed here", hint="name the columns")
        key = key_of(name, dialect)
        qualifier = node.args.get("table")
        if qualifier is not None:
            return self._find_qualified(node, key, scope)
        for level in scope.outwards():
            shared = level.shared.get(key)
            owners = level.owners(key)
            if shared is not None:
                if len(owners) > len(shared.places):
                    raise _ambiguous(node)
                return shared
            if len(owners) > 1:
                raise _ambiguous(node, [f"{relation.alias.name}.{column.name}" for relation, column in owners])
            if owners:
                return owners[0]
            if level is scope and key in level.aliases:
                return level.aliases[key]
        raise self._unknown(node, scope)

    def _find_qualified(self, node: exp.Column, key: str, scope: Scope) -> Place:
        dialect = self._names.dialect
        schema = node.args.get("db")
        wanted = key_of(node.args["table"], dialect)
        for level in scope.outwards():
            relation = level.relation(wanted, key_of(schema, dialect) if schema is not None else "")
            if relation is not None:
                column = relation.column(key)
                if column is None:
                    raise SqlRefused(
                        f"{wanted[:64]} has no column {node.name[:64]} that can be read",
                        hint=columns_hint(relation.columns),
                    )
                return relation, column
        raise SqlRefused(
            f"{wanted[:64]} is not a table or alias of this query", hint="qualify columns with a table or alias of FROM"
        )

    def _unknown(self, node: exp.Column, scope: Scope) -> SqlRefused:
        name = node.name[:64]
        if any(level.relation(key_of(node.this, self._names.dialect)) for level in scope.outwards()):
            return SqlRefused(f"{name} is a table: a whole row cannot be used as a value", hint="name its columns")
        columns = [column for relation in scope.relations for column in relation.columns]
        hint = columns_hint(columns)
        if node.this.args.get("quoted"):
            hint += "; strings are written in single quotes"
        return SqlRefused(f"there is no column {name} that can be read here", hint=hint)

    def _use(
        self, node: exp.Column, relation: Relation, column: Column, scope: Scope, *, is_output: bool
    ) -> Mask | None:
        mask = column.mask
        if mask is None:
            return None
        if mask.kind in ("partial", "token") and is_output:
            return mask
        if mask.kind == "group":
            if is_counted(node) and is_counted_over_all(node) and scope.relations == [relation] and relation.is_base:
                scope.counts_masked = True
                return None
            if (relation.key, column.key) in scope.group_keys and not _is_in_function(node):
                return None
        raise masked(mask)

    def _inline(self, node: exp.Column, expression: exp.Expr, scope: Scope) -> None:
        copy = expression.copy()
        self._inlined_nodes += sum(1 for _ in copy.walk())
        if self._inlined_nodes > INLINED_NODES_MAX:
            raise SqlRefused("output names are used in each other too often", hint="use a subquery or WITH")
        paren = exp.Paren(this=copy)
        node.replace(paren)
        self.resolve(copy, scope)

    def _replacement(self, node: exp.Column, expression: exp.Expr) -> exp.Expr:
        """An output keeps its name when a value of two columns takes its place."""
        if (
            isinstance(node.parent, exp.Select)
            and node.arg_key == "expressions"
            and not isinstance(expression, exp.Column)
        ):
            return exp.Alias(this=expression, alias=exp.Identifier(this=node.name, quoted=True))
        return expression

    def _check_bare(self, node: exp.Identifier, bound: frozenset[str]) -> None:
        """A name that the parser took for no column: a window's, a collation's, or a parameter of a lambda."""
        if isinstance(node.parent, exp.Window | exp.Collate) or key_of(node, self._names.dialect) in bound:
            return
        raise SqlRefused(f"the name {node.name[:64]} is not understood here", hint="write table.column")

    def _is_bound(self, node: exp.Column, bound: frozenset[str]) -> bool:
        return not node.args.get("table") and key_of(node.this, self._names.dialect) in bound

    def _subquery(self, node: exp.Query, scope: Scope) -> None:
        inner = node.this if isinstance(node, exp.Subquery) else node
        is_test = isinstance(node.parent, exp.Exists) and isinstance(inner, exp.Select) and not inner.args.get("group")
        if is_test and any(item.is_star for item in inner.expressions):
            inner.set("expressions", [exp.Literal.number(1)])
        for column in self._nested(node, scope):
            if column.mask is not None:
                raise masked(column.mask)


def masked(mask: Mask) -> SqlRefused:
    """The refusal of a use of a masked column, with the form that its kind allows."""
    return SqlRefused(f"the column {mask.table}.{mask.column} is masked ({mask.kind})", hint=ALLOWED_FORMS[mask.kind])


def _is_in_function(node: exp.Column) -> bool:
    """Whether an aggregate or a function that the parser does not know stands around the column."""
    parent = node.parent
    while parent is not None and not isinstance(parent, exp.Query):
        if isinstance(parent, exp.AggFunc | exp.Anonymous | exp.Window):
            return True
        parent = parent.parent
    return False


def _ambiguous(node: exp.Column, places: list[str] | None = None) -> SqlRefused:
    hint = "write " + " or ".join(places) if places else "write table.column"
    return SqlRefused(f"the column {node.name[:64]} is ambiguous", hint=hint)
