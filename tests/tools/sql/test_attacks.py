"""The corpus of attacks: none passes the gate, in no position and spelling, and the positions themselves are fine."""

from __future__ import annotations

import pytest

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.gate import SqlRefused, check

from . import attacks
from .conftest import DIALECTS, MASKED, catalogue

VARIANTS_MIN = 2_000


def passes(text: str, dialect: SqlDialect) -> bool:
    try:
        check(text, catalogue(dialect), MASKED)
    except SqlRefused:
        return False
    return True


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_attack_passes(dialect: SqlDialect) -> None:
    passed = [text for text in dict.fromkeys(attacks.attacks(dialect)) if passes(text, dialect)]
    assert not passed, "\n".join(passed[:20])


def test_the_corpus_is_as_large_as_it_says() -> None:
    for dialect in DIALECTS:
        forms = {text for kind in ("call", "from", "form") for text in attacks.listed(dialect, kind)}
        assert len(forms) >= 120
    assert sum(len(set(attacks.attacks(dialect))) for dialect in DIALECTS) >= VARIANTS_MIN


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_positions_refuse_nothing_by_themselves(dialect: SqlDialect) -> None:
    texts = [position.format("c.name") for position in attacks.POSITIONS]
    texts += [position.format("orders o") for position in attacks.SOURCE_POSITIONS]
    texts += [attacks.spelled(text, number) for number, text in enumerate(texts)]
    refused = [text for text in texts if not passes(text, dialect)]
    assert not refused, "\n".join(refused)


def test_long_and_deep_texts_are_refused_in_little_time() -> None:
    deep = (
        "SELECT " + "(" * 500 + "1" + ")" * 500,
        "SELECT " + "(" * 59 + "1" + ")" * 59 + " + " + "(" * 59 + "1" + ")" * 59,
        "SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 2_000),
        "SELECT " + "-" * 2 + "1",
        "SELECT " + "- " * 4_000 + "1",
        "SELECT " + "NOT " * 3_000 + "TRUE",
        "SELECT " + "1 + " * 3_500 + "1",
        "SELECT " + "CASE WHEN 1 = 1 THEN " * 400 + "1" + " END" * 400,
        "SELECT " + "lower(" * 60 + "'x'" + ")" * 60,
        "SELECT 1 " + "UNION ALL SELECT 1 " * 800,
        "SELECT * FROM " + "(SELECT * FROM " * 50 + "orders" + ") q" * 50,
        "SELECT 1 FROM " + ", ".join(f"orders o{i}" for i in range(900)),
        "SELECT 1 AS a, " + ", ".join(f"{chr(97 + i)} + {chr(97 + i)} AS {chr(98 + i)}" for i in range(24)),
        "x" * 20_000,
    )
    doubling = tuple(
        "SELECT " + opening * 30 + "1" + closing * 30
        for opening, closing in (
            ("ARRAY[", "]"), ("TEXT(", ")"), ("TEXT [", "]"), ("DATE /* x */ (", ")"), ("STRUCT(", ")"), ("IF[", "]"),
            ("TEXT(ARRAY[", "])"), ("INTERVAL(x(TEXT(1, ", ")))"), ("SORT_ARRAY(1, ", ")"), ("IF{'a': ", "}"),
        )
    )  # fmt: skip
    for dialect in DIALECTS:
        for text in deep:
            passes(text, dialect)  # neither hangs nor raises anything but a refusal
        for text in doubling:  # which a parser that tries twice at each level would take hours for
            assert not passes(text, dialect), text
        assert not passes(deep[0], dialect)
        assert not passes(deep[-2], dialect)
        assert not passes(deep[-1], dialect)
        assert not passes("SELECT 'a\x00b'", dialect)
