"""Ordinary questions pass the gate, and what it writes gives the rows that the original gives, on real engines."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import asyncpg
import duckdb
import pytest

from roadbed.sources.catalogue import Catalogue, SqlDialect
from roadbed.tools.sql.gate import GatePolicy, SqlRefused, check

from . import analysts
from .conftest import DIALECTS

QUESTIONS_MIN = 100


def rewritten(text: str, dialect: SqlDialect, policy: GatePolicy = GatePolicy()) -> str:  # noqa: B008
    return check(text, Catalogue(dialect, analysts.TABLES), policy).sql


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ordinary_questions_pass(dialect: SqlDialect) -> None:
    texts = list(analysts.questions(dialect))
    assert len(texts) >= QUESTIONS_MIN
    refused = []
    for text in texts:
        try:
            rewritten(text, dialect)
        except SqlRefused as refusal:
            refused.append(f"{text}: {refusal.message}")
    assert not refused, "\n".join(refused)


def differences(dialect: SqlDialect, fetch: Callable[[str], list[tuple[Any, ...]]]) -> list[str]:
    """Questions whose rows change on their way through the gate, also where every table is filtered by a true filter."""
    filtered = GatePolicy(row_filters=dict.fromkeys(analysts.TABLES, "1 = 1"))
    found = []
    for text in analysts.questions(dialect):
        wanted = fetch(text)
        for policy in (GatePolicy(), filtered):
            written = rewritten(text, dialect, policy)
            got = fetch(written)
            if not same(wanted, got, text):
                found.append(f"{text}\n  -> {written}\n  {wanted[:3]} / {got[:3]}")
    return found


def same(wanted: list[tuple[Any, ...]], got: list[tuple[Any, ...]], text: str) -> bool:
    if wanted == got:
        return True
    return "order by" not in text.lower() and sorted(map(repr, wanted)) == sorted(map(repr, got))


def test_sqlite_gives_the_same_rows() -> None:
    connection = sqlite3.connect(":memory:")
    for statement in analysts.script():
        connection.execute(statement)
    found = differences("sqlite", lambda text: connection.execute(text).fetchall())
    connection.close()
    assert not found, "\n".join(found)


def test_duckdb_gives_the_same_rows() -> None:
    connection = duckdb.connect(":memory:", config={"threads": 1})
    for statement in analysts.script():
        connection.execute(statement)
    found = differences("duckdb", lambda text: connection.execute(text).fetchall())
    connection.close()
    assert not found, "\n".join(found)


async def test_postgres_gives_the_same_rows(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    try:
        for statement in analysts.script():
            await connection.execute(statement)
        results: dict[str, list[tuple[Any, ...]]] = {}
        filtered = GatePolicy(row_filters=dict.fromkeys(analysts.TABLES, "1 = 1"))
        for text in analysts.questions("postgres"):
            for form in (text, rewritten(text, "postgres"), rewritten(text, "postgres", filtered)):
                results[form] = [tuple(row) for row in await connection.fetch(form)]
        found = differences("postgres", results.__getitem__)
    finally:
        await connection.close()
    assert not found, "\n".join(found)
