"""What is written of a statement: no name or string of the original becomes more than one word of it.

The parser takes strings of some kinds for names, and writes unquoted names as they are: `AS N'x, ssn'` would be a
second column. Every payload is put in every position in every spelling; where the gate lets it through, the payload's
word must not stand outside of quotes.
"""

from __future__ import annotations

import itertools

import pytest
import sqlglot
from sqlglot.tokenizer_core import TokenType

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.gate import SqlRefused, check

from .conftest import DIALECTS, MASKED, catalogue

WORD = "planted"
PAYLOADS = (
    "x FROM customers UNION ALL SELECT planted FROM customers --",
    "x, planted",
    "x' planted 'y",
    "x\\' planted --",
    'x" planted "y',
    "x` planted `y",
    "x) , planted, (1",
    "x /* planted",
    "x; planted",
    "$.a' planted '",
)
QUOTES = (
    *("'{}'", "N'{}'", "E'{}'", "U&'{}'", "$$ {} $$", "$t${}$t$", "_utf8'{}'"),
    *('"{}"', 'U&"{}"', "`{}`", "[{}]", "b'{}'"),
)
POSITIONS = (
    "SELECT 1 AS {}",
    "SELECT 1 {}",
    "SELECT id FROM customers AS {}",
    "SELECT x FROM (SELECT 1 AS x) AS {}",
    "SELECT 1 FROM (SELECT 1) AS t ({})",
    "WITH {} AS (SELECT 1 AS x) SELECT x FROM {}",
    "SELECT SUM(id) OVER {} FROM customers WINDOW {} AS (ORDER BY id)",
    "SELECT name COLLATE {} FROM customers",
    "SELECT name -> {} FROM customers",
    "SELECT {} || name FROM customers",
    "SELECT placed_on + INTERVAL {} FROM orders",
    "SELECT CAST(name AS {}) FROM customers",
)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_payload_stays_one_name_or_one_string(dialect: SqlDialect) -> None:
    written = 0
    for position, payload, quotes in itertools.product(POSITIONS, PAYLOADS, QUOTES):
        if "\\" in payload and dialect != "mysql":
            continue  # there a backslash is one, and the quote after it ends the string
        text = position.replace("{}", quotes.replace("{}", payload))
        try:
            verdict = check(text, catalogue(dialect), MASKED)
        except SqlRefused:
            continue
        written += 1
        for token in sqlglot.tokenize(verdict.sql, read=dialect):
            is_loose = token.token_type == TokenType.SEMICOLON or bool(token.comments)
            assert not is_loose, text
            assert token.token_type != TokenType.VAR or token.text.lower() != WORD, text
    assert written > 20


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_name_that_is_no_word_is_refused(dialect: SqlDialect) -> None:
    assert "AS planted" in check("SELECT 1 AS N'planted'", catalogue(dialect), MASKED).sql
    for text in ("SELECT 1 AS N''", "SELECT id FROM customers AS N'a b'", "SELECT 1 AS N'x, ssn'"):
        with pytest.raises(SqlRefused):
            check(text, catalogue(dialect), MASKED)


@pytest.mark.parametrize("text", ["SELECT x''", "SELECT DATE_ADD(placed_on, INTERVAL x'' planted ''y DAY) FROM orders"])
def test_what_the_parser_stumbles_over_is_refused(text: str) -> None:
    for dialect in DIALECTS:
        with pytest.raises(SqlRefused):
            check(text, catalogue(dialect), MASKED)
