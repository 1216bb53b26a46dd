"""What a check costs, and what random queries tell.

    python bench/tools/gate.py                 # times of cached and uncached checks
    python bench/tools/gate.py --random 100000 # random queries over pairs of databases that must look the same
    python bench/tools/gate.py --random 100000 --pairs masks --seconds 600 # of one kind, as many as come in that time

Times are CPU times of `check` alone, on one thread, for an analytic query of eight lines in each dialect, over a
catalogue of twenty tables with masks and row filters; beside them is what the parser alone takes in the same run.
Garbage is collected as the server does it.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from random import Random

import sqlglot

from roadbed.kernel.principal import Principal
from roadbed.server.listening import settle_memory
from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.tools.sql import gate
from roadbed.tools.sql.gate import GatePolicy
from roadbed.tools.sql.predicates import filled, shared_predicate

DIALECTS: tuple[SqlDialect, ...] = ("postgres", "mysql", "sqlite", "duckdb")
ROUNDS = 400
KINDS = ("masks", "row filters")
SHOWN_EVERY = 5_000
QUERY = """
WITH monthly AS (
  SELECT c.region, o.placed_month AS month, SUM(o.amount) AS total, COUNT(DISTINCT o.customer_id) AS buyers
  FROM orders o JOIN customers c ON c.id = o.customer_id LEFT JOIN refunds r ON r.order_id = o.id
  WHERE o.status IN ('paid', 'sent') AND o.amount > {n} AND r.id IS NULL GROUP BY c.region, o.placed_month
)
SELECT region, month, total, total - LAG(total) OVER (PARTITION BY region ORDER BY month) AS growth, buyers,
       CASE WHEN total > 1000000 THEN 'large' WHEN total > 10000 THEN 'middle' ELSE 'small' END AS size
FROM monthly WHERE region <> 'none' ORDER BY region, month DESC
"""
COLUMNS = (
    "id",
    "customer_id",
    "order_id",
    "amount",
    "status",
    "placed_month",
    "region",
    "name",
    "email",
    "ssn",
    "team",
)


def catalogue(dialect: SqlDialect) -> Catalogue:
    """Twenty tables of eleven columns."""
    names = ["orders", "customers", "refunds", *(f"table_{n}" for n in range(17))]
    return Catalogue(dialect, {name: dict.fromkeys(COLUMNS, "text") for name in names})


def policy() -> GatePolicy:
    """Masks and filters on what the query reads."""
    return GatePolicy(
        masks={"customers": {"ssn": "drop", "email": "token"}},
        row_filters={"orders": "team = 'red'", "customers": "team = 'red'"},
    )


def times(dialect: SqlDialect) -> tuple[list[float], list[float], list[float]]:
    """Seconds of CPU per check, uncached and cached, and per parse, sorted."""
    tables, rules = catalogue(dialect), policy()
    gate.check(QUERY.format(n=-1), tables, rules)
    uncached, parses = [], []
    for n in range(ROUNDS):
        text = QUERY.format(n=n)
        start = time.process_time()
        gate.check(text, tables, rules)
        middle = time.process_time()
        sqlglot.parse(text, dialect=dialect)
        uncached.append(middle - start)
        parses.append(time.process_time() - middle)
    cached = []
    for _ in range(ROUNDS * 10):
        start = time.perf_counter()
        gate.check(text, tables, rules)
        cached.append(time.perf_counter() - start)
    return sorted(uncached), sorted(cached), sorted(parses)


def shared_times(dialect: SqlDialect) -> list[float]:
    """Seconds of a check of what another caller asked before, with this caller's own values put in, sorted."""
    tables, text = catalogue(dialect), QUERY.format(n=-2)
    filters = dict.fromkeys(("orders", "customers"), "team = {principal.team}")
    rules = GatePolicy(
        policy().masks, {table: shared_predicate(rule, dialect) or "" for table, rule in filters.items()}
    )
    gate.check(text, tables, rules)
    taken = []
    for n in range(ROUNDS * 10):
        who = Principal(id=f"p{n}", team=f"team {n}")
        start = time.perf_counter()
        filled(gate.check(text, tables, rules).sql, who)
        taken.append(time.perf_counter() - start)
    return sorted(taken)


def measure_times() -> None:
    """Print medians and the 95th percentiles."""
    settle_memory()
    print(f"Python {platform.python_version()}, sqlglot {sqlglot.__version__}, {ROUNDS} texts a dialect, one thread")
    for dialect in DIALECTS:
        uncached, cached, parses = times(dialect)
        others = shared_times(dialect)
        print(
            f"  {dialect:9} uncached p50 {_at(uncached, 0.5) * 1e3:.2f} ms, p95 {_at(uncached, 0.95) * 1e3:.2f} ms "
            f"({_at(uncached, 0.5) / _at(parses, 0.5):.1f} times the parser's {_at(parses, 0.5) * 1e3:.2f} ms); "
            f"cached p50 {_at(cached, 0.5) * 1e6:.1f} us, p95 {_at(cached, 0.95) * 1e6:.1f} us; "
            f"cached by another caller p50 {_at(others, 0.5) * 1e6:.1f} us, p95 {_at(others, 0.95) * 1e6:.1f} us"
        )


def _at(values: list[float], share: float) -> float:
    return values[int(share * (len(values) - 1))]


def measure_random(count: int, seed: int, kinds: list[str], seconds: float) -> int:
    """Run random queries over these kinds of pairs; print what ran and every leak. The number of leaks."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "tools" / "sql"))
    import random_queries as made  # type: ignore[import-not-found]

    pairs = (
        ("masks", made.MASKED, (made.database(masked="a"), made.database(masked="b"))),
        ("row filters", made.FILTERED, (made.database(others="y"), made.database(others="zzz"))),
    )
    leaks = 0
    for name, rules, connections in pairs:
        if name not in kinds:
            continue
        ran = number = 0
        start = time.perf_counter()
        for number in range(1, count + 1):
            gate.forget() if number % 1000 == 0 else None
            has_run, leak = made.telling_apart(made.Maker(Random(seed + number)).statement(), rules, connections)
            ran += has_run
            if leak:
                leaks += 1
                print(leak)
            taken_s = time.perf_counter() - start
            is_over = number == count or taken_s > seconds
            if is_over or number % SHOWN_EVERY == 0:
                print(f"{name}: {number} random queries, {ran} ran, {leaks} leaks, {taken_s:.0f} s", flush=True)
            if is_over:
                break
    return leaks


def main() -> int:
    """The times, or the random queries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", type=int, default=0, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--pairs", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop each kind after so long")
    arguments = parser.parse_args()
    if arguments.random:
        return 1 if measure_random(arguments.random, arguments.seed, arguments.pairs, arguments.seconds) else 0
    measure_times()
    return 0


if __name__ == "__main__":
    sys.exit(main())
