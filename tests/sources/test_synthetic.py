"""Made-up rows: no real text, no copied row of numbers, valid references, and about the same shape."""

from __future__ import annotations

import datetime
import random
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.sources.synthetic import Reference, Table, references_of, synthesise

KINDS = {"@": "email"}


def kind_of(text: str) -> str:
    """A mail address, or nothing."""
    return "email" if "@" in text else ""


def make(kind: str, chance: random.Random) -> str:
    """A made-up address."""
    return f"{kind}{chance.randrange(10**6)}@example.com"


def people(count: int, seed: int) -> Table:
    """A table of people."""
    chance = random.Random(seed)
    rows = [
        (
            number * 7 + 3,
            f"{''.join(chance.choices(string.ascii_lowercase, k=6))}@firm.no",
            chance.choice(["Oslo", "Bergen", "Bodø"]),
            round(chance.gauss(500 if number % 2 else 900, 50), 2),
            chance.randrange(18, 99),
            datetime.date(2020, 1, 1) + datetime.timedelta(chance.randrange(1000)),
            f"The customer {chance.randrange(10**6)} called about the {chance.choice(['roof', 'lease'])} again",
            f"NO-{chance.randrange(10**5):05d}",
            None if chance.random() < 0.3 else True,
            "m" if number % 2 else "f",
        )
        for number in range(count)
    ]
    names = ("id", "mail", "town", "amount", "age", "since", "note", "code", "active", "kind")
    return Table("people", names, rows)


def orders(count: int, parent: Table, seed: int) -> Table:
    """Orders of these people."""
    chance = random.Random(seed)
    ids = [row[0] for row in parent.rows]
    return Table(
        "orders", ("id", "people_id", "total"), [(n, chance.choice(ids), n * 1.5) for n in range(1, count + 1)]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 120), st.integers(0, 10**6), st.integers(0, 10**6))
def test_no_real_text_comes_out_and_references_hold(count: int, seed: int, other: int) -> None:
    parent = people(count, seed)
    child = orders(count * 2, parent, other)
    made = synthesise([child, parent], None, other, make=make, kind_of=kind_of)
    real = {value for row in parent.rows for value in row if isinstance(value, str)}
    shown = {value for row in made["people"] for value in row if isinstance(value, str)}
    assert not real & shown
    assert not any(value in text for value in real if len(value) > 3 for text in shown)
    ids = {row[0] for row in made["people"]}
    assert len(ids) == len(made["people"]) == count
    assert {row[1] for row in made["orders"]} <= ids
    numbers = {(row[3], row[4], row[5]) for row in parent.rows}
    assert not numbers & {(row[3], row[4], row[5]) for row in made["people"]}


def test_the_shape_of_a_table_is_kept() -> None:
    table = people(2_000, 1)
    made = synthesise([table], 2_000, 5, make=make, kind_of=kind_of)["people"]
    assert [[type(value) for value in row if value is not None] for row in made[:1]] == [
        [type(value) for value in table.rows[0] if value is not None]
    ] or made[0][8] is None
    nulls = sum(row[8] is None for row in made) / len(made)
    assert abs(nulls - 0.3) < 0.05
    assert len({row[2] for row in made}) == 3
    assert all("@example.com" in row[1] for row in made)
    assert len({row[1] for row in made}) == len(made)
    low, high = min(row[3] for row in table.rows), max(row[3] for row in table.rows)
    assert all(low <= row[3] <= high for row in made)
    assert {len(row[7]) for row in made} == {8}
    lengths = [len(row[6]) for row in made]
    assert abs(sum(lengths) / len(made) - sum(len(row[6]) for row in table.rows) / 2_000) < 8
    means = [sum(row[3] for row in made if row[9] == kind) / 1_000 for kind in sorted({row[9] for row in made})]
    assert max(means) - min(means) > 250, "the amount still goes with the kind"


def test_the_same_seed_makes_the_same_rows() -> None:
    table = people(40, 2)
    first, again, other = (synthesise([table], 40, seed, make=make, kind_of=kind_of) for seed in (1, 1, 2))
    assert first == again != other


def test_references_are_found_by_the_data() -> None:
    parent = people(30, 3)
    assert references_of([orders(60, parent, 1), parent]) == [Reference("orders", "people_id", "people", "id")]
    stray = Table("orders", ("id", "people_id"), [(1, -1), (2, -2)])
    assert references_of([stray, parent]) == []


def test_empty_tables_and_columns_of_nothing() -> None:
    made = synthesise(
        [Table("a", ("x",), []), Table("b", ("x", "y"), [(None, b"ab"), (None, b"c")])],
        3,
        1,
        make=make,
        kind_of=kind_of,
    )
    assert made["a"] == []
    assert [row[0] for row in made["b"]] == [None] * 3
