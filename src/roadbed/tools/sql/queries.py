"""Queries: SELECT, set operations and WITH, resolved clause by clause, with the mask of every output column.

`Queries` is made per statement. It changes the tree in place: stars become columns, names become ``alias.column``,
output names in GROUP BY and ORDER BY become positions, small groups are cut off. The order of the clauses matters: an
output name that is used elsewhere is copied from the select list before that is resolved itself.
"""

from __future__ import annotations

from sqlglot import exp

from roadbed.tools.sql.errors import SqlRefused
from roadbed.tools.sql.expressions import Expressions, masked
from roadbed.tools.sql.groups import check_beside, cut_small_groups
from roadbed.tools.sql.names import Column, Mask, Names, fold, identifier, key_of, same
from roadbed.tools.sql.relations import Output, Relations
from roadbed.tools.sql.scopes import Cte, Relation, Scope, Shared

OUTPUTS_MAX = 400

_COMPARISONS = (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.EQ, exp.NEQ, exp.Between, exp.In)

_WRAPPERS = (exp.Paren, exp.Tuple, exp.Collate, exp.Neg, exp.Rollup, exp.Cube, exp.GroupingSets, exp.Alias)


class Queries:
    """Resolves one statement. ``tables`` are the catalogue's tables that it reads, in the order of their first use."""

    def __init__(self, names: Names, group_rows_min: int) -> None:
        self._names = names
        self._dialect = names.dialect
        self._group_rows_min = group_rows_min
        self._expressions = Expressions(names, self._nested)
        self._relations = Relations(names, self._expressions, self._derived)
        self._cte_names: set[str] = set()

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables of the catalogue that the statement reads."""
        return tuple(self._relations.tables)

    def resolve(self, root: exp.Query) -> tuple[Column, ...]:
        """The output columns of a statement."""
        return self._query(root, None, {})

    def _nested(self, node: exp.Query, scope: Scope) -> tuple[Column, ...]:
        return self._query(node, scope, scope.ctes)

    def _derived(self, node: exp.Query, outer: Scope | None, scope: Scope) -> tuple[Column, ...]:
        """A query in FROM: its outputs get names of their own, by which the outer query can speak of them."""
        return self._named(node, self._query(node, outer, scope.ctes))

    def _query(self, node: exp.Expr, outer: Scope | None, ctes: dict[str, Cte]) -> tuple[Column, ...]:
        match node:
            case exp.Select():
                return self._select(node, outer, ctes)
            case exp.SetOperation():
                return self._set_operation(node, outer, ctes)
            case exp.Subquery():
                return self._query(node.this, outer, ctes)
            case _:
                raise SqlRefused(f"{type(node).__name__.upper()} is not a SELECT")

    # -- WITH

    def _with(self, node: exp.Query, outer: Scope | None, ctes: dict[str, Cte]) -> dict[str, Cte]:
        clause = node.args.get("with_")
        if clause is None:
            return ctes
        known = dict(ctes)
        for cte in clause.expressions:
            alias = cte.args["alias"]
            key = key_of(alias.this, self._dialect)
            name = self._cte_name(alias.this)
            body = cte.this
            if clause.args.get("recursive") and isinstance(body, exp.Union):
                known[key] = self._recursive(body, alias, name, key, outer, known)
            else:
                columns = self._named(body, self._query(body, outer, known))
                known[key] = Cte(name, self._relations.renamed(cte, columns))
            alias.set("this", same(name))
        return known

    def _cte_name(self, written: exp.Identifier) -> exp.Identifier:
        """The written name; another where a table or an earlier CTE has it, so that no engine can mix them up."""
        unique, number = fold(str(written.this)), 1
        while unique in self._cte_names or self._names.is_reserved(unique):
            number += 1
            unique = f"{fold(str(written.this))}_{number}"
        self._cte_names.add(unique)
        return same(written) if number == 1 else identifier(unique)

    def _recursive(
        self,
        body: exp.Union,
        alias: exp.TableAlias,
        name: exp.Identifier,
        key: str,
        outer: Scope | None,
        known: dict[str, Cte],
    ) -> Cte:
        """A CTE that may read itself: its columns are those of the first part."""
        if body.args.get("with_"):
            raise SqlRefused("WITH inside a recursive WITH is not allowed")
        first = self._named(body.this, self._query(body.this, outer, known))
        cte = Cte(name, self._relations.renamed(alias, first))
        second = self._query(body.expression, outer, {**known, key: cte})
        if cte.is_used and not _is_bounded(body.expression):
            raise SqlRefused("a recursive WITH has no bound", hint="add WHERE n < 100, or a join to a table")
        self._combined(body, first, second)
        self._sorted_by_names(body, first)
        return Cte(name, cte.columns)

    # -- set operations

    def _set_operation(self, node: exp.SetOperation, outer: Scope | None, ctes: dict[str, Cte]) -> tuple[Column, ...]:
        ctes = self._with(node, outer, ctes)
        first = self._query(node.this, outer, ctes)
        second = self._query(node.expression, outer, ctes)
        columns = self._combined(node, first, second)
        self._sorted_by_names(node, columns)
        return columns

    def _combined(
        self, node: exp.SetOperation, first: tuple[Column, ...], second: tuple[Column, ...]
    ) -> tuple[Column, ...]:
        """Masked columns may stand side by side, never beside others: equal rows would tell what they hold."""
        if len(first) != len(second):
            raise SqlRefused(f"the parts of {type(node).__name__.upper()} have {len(first)} and {len(second)} columns")
        for ours, theirs in zip(first, second, strict=True):
            mask = ours.mask or theirs.mask
            if mask is None:
                continue
            kinds = {column.mask.kind if column.mask else None for column in (ours, theirs)}
            if len(kinds) > 1 or not isinstance(node, exp.Union):
                raise SqlRefused(
                    f"the masked column {mask.table}.{mask.column} stands beside an unmasked one, or rows are compared",
                    hint="use UNION ALL of columns with the same mask",
                )
        if node.args.get("distinct"):
            _check_compared(first)
        return first

    def _sorted_by_names(self, node: exp.SetOperation, columns: tuple[Column, ...]) -> None:
        """ORDER BY of a set operation knows output columns alone."""
        for term in _terms(node):
            value = term.this
            if isinstance(value, exp.Literal) and value.is_int:
                _check_position(int(value.name), columns)
                continue
            position = self._position(value, [column.key for column in columns])
            if position is None:
                raise SqlRefused(
                    "ORDER BY after UNION takes output columns", hint="sort by a column's name or position"
                )
            _check_position(position, columns)
            value.replace(exp.Literal.number(position))

    # -- SELECT

    def _select(self, node: exp.Select, outer: Scope | None, ctes: dict[str, Cte]) -> tuple[Column, ...]:
        scope = Scope(outer, self._with(node, outer, ctes))
        if not node.expressions:
            raise SqlRefused("a SELECT without columns is not allowed")
        outputs = self._relations.read(node, scope)
        expanded = self._expanded(node, outputs, scope)
        keys = [self._output_key(item) for item in node.expressions]
        for item in node.expressions:
            if isinstance(item, exp.Alias):
                scope.aliases.setdefault(key_of(item.args["alias"], self._dialect), item.this)
        positions = self._grouped(node, keys, scope)
        group_keys, scope.group_keys = scope.group_keys, set()
        if node.args.get("where") is not None:
            self._expressions.resolve(node.args["where"].this, scope)
        scope.group_keys = group_keys
        for clause in ("having", "qualify"):
            if node.args.get(clause) is not None:
                self._expressions.resolve(node.args[clause].this, scope)
        for window in node.args.get("windows") or []:
            self._expressions.resolve(window, scope)
        positions += self._sorted(node, keys, scope)
        names = [self._name(item) for item in node.expressions]
        masks: list[Mask | None] = []
        for item in reversed(node.expressions):
            done = expanded.get(id(item))
            masks.append(done.mask if done is not None else self._expressions.output(item, scope))
        columns = tuple(Column(key, name, mask) for key, name, mask in zip(keys, names, reversed(masks), strict=True))
        for position in positions:
            _check_position(position, columns)
        for constant in _constants(node):
            if not constant.is_int:
                raise SqlRefused(
                    "a constant in GROUP BY or ORDER BY is not allowed", hint="name a column or its position"
                )
            _check_position(int(constant.name), columns)
        self._check_all(node, columns)
        if scope.group_keys:
            check_beside(node, scope.relations[0], self._dialect)
        if scope.group_keys or scope.counts_masked:
            cut_small_groups(node, self._group_rows_min)
        distinct = node.args.get("distinct")
        if distinct is not None and not distinct.args.get("on"):
            _check_compared(columns)
        return columns

    def _expanded(self, node: exp.Select, outputs: list[Output], scope: Scope) -> dict[int, Column]:
        """Write ``*`` and ``table.*`` out. What comes back are the columns made, by their nodes."""
        made: dict[int, Column] = {}
        items: list[exp.Expr] = []
        for item in node.expressions:
            star = item.this if isinstance(item, exp.Column) and isinstance(item.this, exp.Star) else item
            if not isinstance(star, exp.Star):
                items.append(item)
                continue
            chosen = outputs if star is item else self._outputs_of(item, scope)
            if not chosen:
                raise SqlRefused("* has nothing to stand for", hint="name the columns")
            left_out = {
                key_of(name.this if isinstance(name, exp.Column) else name, self._dialect)
                for name in star.args.get("except_") or []
            }
            for column, owner in chosen:
                if column.key in left_out:
                    continue
                if column.mask is not None and column.mask.kind in ("drop", "group"):
                    raise SqlRefused(
                        f"* holds {column.mask.table}.{column.mask.column}, which is masked ({column.mask.kind})",
                        hint="name the columns instead of *, without this one",
                    )
                new = self._written(column, owner)
                made[id(new)] = column
                items.append(new)
        if len(items) > OUTPUTS_MAX:
            raise SqlRefused(
                f"the SELECT gives more than {OUTPUTS_MAX} columns", hint="name the columns that are needed"
            )
        node.set("expressions", items)
        return made

    def _written(self, column: Column, owner: Relation | Shared) -> exp.Expr:
        value = self._expressions.written(owner, column) if isinstance(owner, Relation) else owner.expression()
        if isinstance(value, exp.Column) and value.name == column.key:
            return value
        return exp.Alias(this=value, alias=identifier(column.key))

    def _outputs_of(self, item: exp.Column, scope: Scope) -> list[Output]:
        key = key_of(item.args["table"], self._dialect)
        relation = scope.relation(key, "")
        if relation is None:
            raise SqlRefused(f"{key[:64]} is not a table or alias of this query")
        return [(column, relation) for column in relation.columns]

    def _output_key(self, item: exp.Expr) -> str:
        if isinstance(item, exp.Alias):
            return key_of(item.args["alias"], self._dialect)
        if isinstance(item, exp.Column) and isinstance(item.this, exp.Identifier):
            return key_of(item.this, self._dialect)
        return fold(self._default_name(item))

    def _name(self, item: exp.Expr) -> str:
        if isinstance(item, exp.Alias | exp.Column):
            name = item.args["alias"] if isinstance(item, exp.Alias) else item.this
            return key_of(name, self._dialect) if self._dialect == "postgres" else str(name.this)
        return self._default_name(item)

    def _default_name(self, item: exp.Expr) -> str:
        """What the engine calls an output without a name: exact for PostgreSQL's common cases, else the text."""
        if self._dialect != "postgres":
            return str(item.sql(dialect=self._dialect, comments=False, normalize_functions=False))[:128]
        match item:
            case exp.Case():
                return "case"
            case exp.Cast() if isinstance(item.this, exp.Column):
                return str(item.this.name)
            case exp.Cast():
                return str(item.args["to"].sql(dialect="postgres")).lower()
            case exp.Window() | exp.Filter() | exp.WithinGroup() | exp.Paren():
                return self._default_name(item.this)
            case exp.Column():
                return item.name
            case exp.Subquery() if isinstance(item.this, exp.Select) and item.this.expressions:
                return self._name(item.this.expressions[0])
            case exp.Anonymous():
                return str(item.this)
            case exp.Func():
                return item.sql(dialect="postgres", normalize_functions=False).split("(")[0].strip().lower()[:63]
            case _:
                return "?column?"

    def _grouped(self, node: exp.Select, keys: list[str], scope: Scope) -> list[int]:
        """Resolve GROUP BY. Output names become positions; what comes back are the positions to be checked."""
        group = node.args.get("group")
        if group is None:
            return []
        is_plain = not any(group.args.get(part) for part in ("grouping_sets", "cube", "rollup", "all"))
        is_plain = is_plain and not group.find(exp.GroupingSets, exp.Cube, exp.Rollup)
        if is_plain and len(scope.relations) == 1 and scope.relations[0].is_base:
            self._find_group_keys(node, keys, scope)
        positions = []
        for term in list(group.expressions):
            position = int(term.name) if isinstance(term, exp.Literal) and term.is_int else None
            if position is None and isinstance(term, exp.Column) and not self._is_owned(term, scope):
                position = self._position(term, keys)
                if position is not None:
                    term.replace(exp.Literal.number(position))
            if position is None:
                self._expressions.resolve(term, scope)
            else:
                positions.append(position)
        for part in ("grouping_sets", "cube", "rollup"):
            for inner in group.args.get(part) or []:
                if isinstance(inner, exp.Expr):
                    self._expressions.resolve(inner, scope)
        return positions

    def _find_group_keys(self, node: exp.Select, keys: list[str], scope: Scope) -> None:
        """Remember the columns of kind ``group`` that stand bare among the keys, by name or by position."""
        for term in node.args["group"].expressions:
            value = term
            if isinstance(term, exp.Literal) and term.is_int:
                position: int | None = int(term.name)
            elif isinstance(term, exp.Column) and not self._is_owned(term, scope):
                position = self._position(term, keys)
            else:
                position = None
            if position is not None and 1 <= position <= len(node.expressions):
                item = node.expressions[position - 1]
                value = item.this if isinstance(item, exp.Alias) else item
            if not isinstance(value, exp.Column) or not isinstance(value.this, exp.Identifier):
                continue
            for relation, column in scope.owners(key_of(value.this, self._dialect)):
                if column.mask is not None and column.mask.kind == "group":
                    scope.group_keys.add((relation.key, column.key))

    def _is_owned(self, term: exp.Column, scope: Scope) -> bool:
        """Whether a name means a column of FROM, which goes before output names in GROUP BY."""
        if term.args.get("table") or not isinstance(term.this, exp.Identifier):
            return True
        key = key_of(term.this, self._dialect)
        return key in scope.shared or bool(scope.owners(key))

    def _sorted(self, node: exp.Select, keys: list[str], scope: Scope) -> list[int]:
        """Resolve ORDER BY and DISTINCT ON, where output names go first and become positions."""
        positions = []
        for term in _terms(node):
            value = term.this if isinstance(term, exp.Ordered) else term
            position = int(value.name) if isinstance(value, exp.Literal) and value.is_int else None
            if position is None:
                position = self._position(value, keys)
                if position is not None:
                    value.replace(exp.Literal.number(position))
            if position is not None:
                positions.append(position)
            elif not _is_all(value):
                self._expressions.resolve(value, scope)
        return positions

    def _position(self, value: exp.Expr, keys: list[str]) -> int | None:
        if not isinstance(value, exp.Column) or value.args.get("table") or not isinstance(value.this, exp.Identifier):
            return None
        key = key_of(value.this, self._dialect)
        return keys.index(key) + 1 if key in keys else None

    def _check_all(self, node: exp.Select, columns: tuple[Column, ...]) -> None:
        """GROUP BY ALL and ORDER BY ALL take every output column."""
        group = node.args.get("group")
        if (group is not None and group.args.get("all")) or any(_is_all(term.this) for term in _terms(node)):
            for position in range(1, len(columns) + 1):
                _check_position(position, columns)

    def _named(self, node: exp.Expr, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        """Give the outputs of a query in FROM explicit and different names where they have none."""
        while not isinstance(node, exp.Select):
            node = node.this
        seen: set[str] = set()
        named = []
        items = []
        for item, column in zip(node.expressions, columns, strict=True):
            name, number = column.name, 1
            while fold(name) in seen:
                number += 1
                name = f"{column.name}_{number}"
            seen.add(fold(name))
            if number > 1 or not isinstance(item, exp.Alias | exp.Column):
                value = item.this if isinstance(item, exp.Alias) else item
                item = exp.Alias(this=value, alias=identifier(name))
            items.append(item)
            named.append(Column(column.key, name, column.mask))
        node.set("expressions", items)
        return tuple(named)


def _terms(node: exp.Query) -> list[exp.Expr]:
    """What a query is sorted by, and what DISTINCT ON compares."""
    order = node.args.get("order")
    terms = list(order.expressions) if order is not None else []
    distinct = node.args.get("distinct")
    on = distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None
    if on is not None:
        terms += on.expressions if isinstance(on, exp.Tuple) else [on]
    return terms


def _constants(node: exp.Select) -> list[exp.Literal]:
    """Literals that an engine may read as positions: parentheses and collations around them do not count for it."""
    group = node.args.get("group")
    stack = [term.this if isinstance(term, exp.Ordered) else term for term in _terms(node)]
    stack += group.iter_expressions() if group is not None else []
    found = []
    while stack:
        term = stack.pop()
        if isinstance(term, exp.Literal):
            found.append(term)
        elif isinstance(term, _WRAPPERS):
            stack += term.iter_expressions()
    return found


def _is_all(value: exp.Expr) -> bool:
    return isinstance(value, exp.Var) and value.name.upper() == "ALL"


def _check_position(position: int, columns: tuple[Column, ...]) -> None:
    """A masked output may not be sorted or grouped by, whatever it is called."""
    if not 1 <= position <= len(columns):
        raise SqlRefused(f"position {position} is not in the select list")
    mask = columns[position - 1].mask
    if mask is not None:
        raise masked(mask)


def _check_compared(columns: tuple[Column, ...]) -> None:
    """Rows are compared: fewer of them would tell that two values are one, which a token shows anyway."""
    for column in columns:
        if column.mask is not None and column.mask.kind != "token":
            raise SqlRefused(
                f"the masked column {column.mask.table}.{column.mask.column} stands where equal rows are left out",
                hint="leave DISTINCT out, use UNION ALL, or leave the column out",
            )


def _is_bounded(node: exp.Expr) -> bool:
    """Whether the part of a recursive WITH that reads itself has a condition on some column."""
    return any(
        comparison.find(exp.Column) is not None and (comparison.find_ancestor(exp.Where, exp.Join) is not None)
        for comparison in node.find_all(*_COMPARISONS)
    )
