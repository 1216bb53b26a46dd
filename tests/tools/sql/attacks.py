"""What must never pass the gate, as data: forms per dialect, and the positions, spellings and comments they come in.

A function attack is a call that is put into every position of a query; a form attack is a whole statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from roadbed.sources.catalogue import SqlDialect

DATA = Path(__file__).parent / "data"


def listed(dialect: SqlDialect, kind: Literal["call", "from", "form"]) -> tuple[str, ...]:
    """The corpus of one kind, from the file of the dialect and the one for all."""
    lines = [line for name in ("every", dialect) for line in (DATA / f"attacks.{name}.txt").read_text().splitlines()]
    return tuple(line.partition(" ")[2] for line in lines if line.startswith(f"{kind} "))


POSITIONS: tuple[str, ...] = (
    "SELECT {} FROM customers c",
    "SELECT c.name, {} AS x FROM customers c",
    "SELECT c.name FROM customers c WHERE {} IS NOT NULL",
    "SELECT c.name FROM customers c ORDER BY {}, 1",
    "SELECT (SELECT {} FROM customers c LIMIT 1)",
    "WITH q AS (SELECT {} AS x FROM customers c) SELECT x FROM q",
    "SELECT x FROM (SELECT {} AS x FROM customers c) q",
    "SELECT CASE WHEN c.id = 1 THEN {} END FROM customers c",
    "SELECT COUNT(*) FROM customers c GROUP BY {}, c.name",
    "SELECT COUNT(*) FROM customers c HAVING MAX({}) IS NULL",
    "SELECT c.name FROM customers c UNION ALL SELECT {} FROM customers c",
    "SELECT o.id FROM orders o JOIN customers c ON o.id = c.id AND {} IS NULL",
    "SELECT MAX({}) OVER (PARTITION BY c.id) FROM customers c",
)

SOURCE_POSITIONS: tuple[str, ...] = (
    "SELECT 1 FROM {}",
    "SELECT * FROM {}",
    "SELECT c.name FROM customers c, {}",
    "SELECT c.name FROM customers c WHERE EXISTS (SELECT 1 FROM {})",
    "WITH q AS (SELECT 1 AS x FROM {}) SELECT x FROM q",
    "SELECT x FROM (SELECT 1 AS x FROM {}) q",
    "SELECT 1 UNION ALL SELECT 1 FROM {}",
    "SELECT c.name FROM customers c CROSS JOIN {}",
)


_SPACE = re.compile("(?<!ORDER)(?<!GROUP)(?<!PARTITION) ")


def attacks(dialect: SqlDialect) -> Iterator[str]:
    """Every attack in every position, each also in other spellings."""
    plain = ["", ";", *listed(dialect, "form")]
    plain += [position.format(call) for call in listed(dialect, "call") for position in POSITIONS]
    plain += [position.format(source) for source in listed(dialect, "from") for position in SOURCE_POSITIONS]
    for number, text in enumerate(plain):
        yield text
        yield spelled(text, number)


def spelled(text: str, number: int) -> str:
    """The same statement in another spelling: case, comments instead of spaces, a semicolon, parentheses."""
    if "'" in text or '"' in text or "$" in text:  # changes inside strings would make another statement
        return [f"/* x */ {text}", f"  {text} ;", f"{text} -- x\n", f"{text} /* x */"][number % 4]
    spaced = _SPACE.sub(("  ", "\n", "/**/", " /* x */ ", "\t")[number % 5], text)
    return [spaced, text.upper(), text.lower(), spaced.swapcase()][number % 4]
