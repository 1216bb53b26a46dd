"""Random queries over the small schema, with masked columns in every place, and the databases to run them on.

The databases of one kind differ in what a caller must not learn, and in nothing else: whatever a query tells them apart
by is a leak, also where no planted value appears. `telling_apart` is what both the tests and `bench/tools/gate.py` run.
"""

from __future__ import annotations

import sqlite3
from random import Random
from typing import Any

from roadbed.sources.catalogue import Catalogue
from roadbed.sources.result import Column, QueryResult
from roadbed.tools.sql.gate import Checked, GatePolicy, SqlRefused, check
from roadbed.tools.sql.masks import mask_rows

PLANTED = "PLANTED"
TABLES = {
    "customers": dict.fromkeys(("id", "name", "team", "ssn", "phone", "email"), "text"),
    "orders": dict.fromkeys(("id", "customer_id", "team", "amount", "note"), "text"),
}
CATALOGUE = Catalogue("sqlite", TABLES)
MASKED = GatePolicy(
    masks={"customers": {"ssn": "drop", "phone": "partial", "email": "token"}, "orders": {"note": "token"}},
    rows_max=100_000,
)
FILTERED = GatePolicy(row_filters={"customers": "team = 'red'", "orders": "team = 'red'"}, rows_max=100_000)
STEPS_MAX = 300_000
STEPS_BETWEEN = 1000

_FUNCTIONS = (
    "UPPER({})",
    "LENGTH({})",
    "SUBSTR({}, 1, 3)",
    "COALESCE({}, 'x')",
    "{} || 'y'",
    "+{}",
    "({})",
    "CAST({} AS INTEGER)",
)
_AGGREGATES = ("COUNT({})", "COUNT(DISTINCT {})", "MAX({})", "MIN({})", "GROUP_CONCAT({})", "SUM({})")
_CONDITIONS = ("{} = {}", "{} > {}", "{} LIKE {}", "{} IS NOT NULL OR {} = 1", "{} <> {}", "{} IN ({}, 'x')")


def database(masked: str = "", others: str = "") -> sqlite3.Connection:
    """The schema with rows. ``masked`` changes the values of masked columns, ``others`` the rows of other teams."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    for table, columns in TABLES.items():
        connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    for n in range(1, 9):
        secret = f"{'own' if others else PLANTED}-{masked}{n % 5 if masked != 'b' else (n * 3 + 1) % 5}-42"
        team = "red" if n % 2 else "blue"
        row = (n, f"name{n % 3}", team, secret, None if n == 3 else secret, secret)
        if team == "red" or not others:
            connection.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
            (n, n % 4, "red" if n < 5 or not others else "blue", n * 10, secret),
        ) if not others or n < 5 else None
    for n in range(len(others) * 3):
        row = (100 + n, f"{PLANTED}-{others}", f"{others}{n}", f"{PLANTED}-{others}{n}", "5", "6")
        connection.execute("INSERT INTO customers VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?)", (200 + n, 100 + n, f"{others}{n}", n, f"{PLANTED}{n}")
        )
    return connection


class TooSlow(Exception):
    """A statement takes too many steps; how many depends on rows that it may not read too, so that it tells nothing."""


class _Budget:
    """Stops one statement that takes too many steps."""

    def __init__(self) -> None:
        self.left = STEPS_MAX

    def __call__(self) -> bool:
        self.left -= STEPS_BETWEEN
        return self.left <= 0


class Maker:
    """Writes one random query. ``columns`` of what is in scope are (alias, name)."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._aliases = 0
        self._ctes: dict[str, list[str]] = {}

    def statement(self) -> str:
        """A query with WITH, set operations, order and limit, now and then."""
        clauses = []
        for _ in range(self._random.choice((0, 0, 0, 1, 2))):
            text, names = self.query(1, [])
            name = f"t{len(self._ctes)}"
            clauses.append(f"{name} ({', '.join(f'c{i}' for i in range(len(names)))}) AS ({text})")
            self._ctes[name] = [f"c{i}" for i in range(len(names))]
        text, names = self.query(2, [])
        if self._chance(0.25):
            other, _ = self.query(1, [], count=len(names))
            text = f"{text} {self._random.choice(('UNION', 'UNION ALL', 'EXCEPT', 'INTERSECT'))} {other}"
            if self._chance(0.3):
                text += f" ORDER BY {self._random.randint(1, len(names))}"
        if self._chance(0.1):
            text += f" LIMIT {self._random.randint(1, 5)}"
        return f"WITH {', '.join(clauses)} {text}" if clauses else text

    def query(self, depth: int, outer: list[tuple[str, str]], count: int = 0) -> tuple[str, list[str]]:
        """A SELECT, and the names of its columns."""
        scope, source = self._source(depth)
        visible = scope + (outer if self._chance(0.5) else [])
        parts = []
        if self._chance(0.45):
            parts.append(f"WHERE {self.condition(visible, depth)}")
        is_grouped = self._chance(0.25)
        key = self.value(scope, 0)
        if is_grouped:
            parts.append(f"GROUP BY {key}")
            if self._chance(0.3):
                parts.append(f"HAVING {self.aggregate(scope)} > {self._literal()}")
        count = count or self._random.randint(1, 3)
        items: list[str] = []
        raw: list[str] = []
        names: list[str] = []
        for n in range(count):
            if is_grouped:
                item = key if n == 0 else self.aggregate(scope)
            else:
                item = self._item(visible, depth)
            name = self._random.choice(("", f"n{n}", f"n{n}", "name", "phone"))
            raw.append(item)
            items.append(f"{item} AS {name}" if name else item)
            names.append(name or item.rpartition(".")[2])
        if self._chance(0.2) and not is_grouped:
            parts.append(
                f"ORDER BY {self._random.choice((self.value(scope, 0), str(self._random.randint(1, count)), names[0]))}"
            )
            renamed = ", ".join(f"{item} AS r{n}" for n, item in enumerate(raw))
            return f"SELECT * FROM (SELECT {renamed} FROM {source} {' '.join(parts)} LIMIT 100) q", names
        distinct = "DISTINCT " if self._chance(0.1) else ""
        return f"SELECT {distinct}{', '.join(items)} FROM {source} {' '.join(parts)}".strip(), names

    def _item(self, visible: list[tuple[str, str]], depth: int) -> str:
        if self._chance(0.55):
            return self._column(visible)
        if self._chance(0.1):
            return f"ROW_NUMBER() OVER (ORDER BY {self.value(visible, 0)}, 1)"
        if depth and self._chance(0.2):
            return f"(SELECT * FROM ({self.query(depth - 1, [], count=1)[0]}) s LIMIT 1)"
        return self.value(visible, 1)

    def _source(self, depth: int) -> tuple[list[tuple[str, str]], str]:
        scope, first = self._relation(depth)
        if self._chance(0.35):
            other, second = self._relation(depth)
            left, right = self._column(scope), self._column(other)
            join = self._random.choice(("JOIN", "LEFT JOIN"))
            first = f"{first} {join} {second} ON {left} = {right}"
            scope = scope + other
        return scope, first

    def _relation(self, depth: int) -> tuple[list[tuple[str, str]], str]:
        self._aliases += 1
        alias = f"a{self._aliases}"
        if depth and self._chance(0.3):
            text, names = self.query(depth - 1, [])
            columns = [f"x{n}" for n in range(len(names))]
            wrapped = f"WITH w ({', '.join(columns)}) AS ({text}) SELECT * FROM w"
            return [(alias, column) for column in columns], f"({wrapped}) {alias}"
        if self._ctes and self._chance(0.4):
            name = self._random.choice(sorted(self._ctes))
            return [(alias, column) for column in self._ctes[name]], f"{name} AS {alias}"
        table = self._random.choice(("customers", "orders"))
        return [(alias, column) for column in TABLES[table]], f"{table} {alias}"

    def value(self, visible: list[tuple[str, str]], depth: int) -> str:
        """A column, perhaps with a function around it."""
        column = self._column(visible)
        return self._random.choice(_FUNCTIONS).format(column) if depth and self._chance(0.6) else column

    def aggregate(self, visible: list[tuple[str, str]]) -> str:
        """An aggregate of a value."""
        return self._random.choice(_AGGREGATES).format(self.value(visible, 1))

    def condition(self, visible: list[tuple[str, str]], depth: int) -> str:
        """A comparison, or a subquery."""
        if depth and self._chance(0.25):
            inner, _ = self.query(depth - 1, visible, count=1)
            form = self._random.choice(
                ("EXISTS ({})", "{} IN ({})".format(self._column(visible), "{}"), "NOT EXISTS ({})")
            )
            return form.format(inner)
        left, right = self.value(visible, 1), self._random.choice((self.value(visible, 0), self._literal()))
        return self._random.choice(_CONDITIONS).format(left, right)

    def _column(self, visible: list[tuple[str, str]]) -> str:
        alias, name = self._random.choice(visible)
        if name in ("ssn", "phone", "email", "note") and self._chance(0.5):
            alias, name = self._random.choice(visible)
        return name if self._chance(0.1) else f"{alias}.{name}"

    def _literal(self) -> str:
        return self._random.choice(("1", "'x'", "50", f"'{PLANTED}-a1-42'", "'name1'", "NULL"))

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def run(connection: sqlite3.Connection, checked: Checked) -> list[tuple[Any, ...]] | None:
    """The masked rows, sorted; None when the statement is wrong for this engine. `TooSlow`."""
    budget = _Budget()
    connection.set_progress_handler(budget, STEPS_BETWEEN)
    try:
        cursor = connection.execute(checked.sql)
        rows = tuple(cursor.fetchall())
    except sqlite3.Error:
        if budget.left <= 0:
            raise TooSlow from None
        return None
    columns = tuple(Column(item[0], "text", "") for item in cursor.description)
    masked = mask_rows(checked, QueryResult(columns, rows, False, 0), lambda _: "token")
    return sorted(masked.rows, key=repr)


def telling_apart(
    text: str, policy: GatePolicy, connections: tuple[sqlite3.Connection, sqlite3.Connection]
) -> tuple[bool, str]:
    """Whether the gate let the text through and it ran; what it tells that it must not, or nothing."""
    try:
        checked = check(text, CATALOGUE, policy)
    except SqlRefused:
        return False, ""
    try:
        results = [run(connection, checked) for connection in connections]
    except TooSlow:
        return False, ""
    if results[0] is None or results[1] is None:
        return False, "" if results[0] is results[1] else f"one of two fails: {text}\n{checked.sql}"
    if PLANTED in repr(results) and PLANTED not in text:  # what the text itself holds may come back
        return True, f"a planted value appears: {text}\n{checked.sql}\n{results[0]}"
    if _shown(results[0], checked) != _shown(results[1], checked):
        return True, f"two databases are told apart: {text}\n{checked.sql}\n{results[0]}\n{results[1]}"
    return True, ""


def _shown(rows: list[tuple[Any, ...]], checked: Checked) -> list[str]:
    """The rows at the positions that are not masked, where order does not count."""
    plain = [position for position, mask in enumerate(checked.column_masks) if mask is None]
    nulls = [position for position, mask in enumerate(checked.column_masks) if mask is not None]
    return sorted(repr(([row[p] for p in plain], [row[p] is None for p in nulls])) for row in rows)
