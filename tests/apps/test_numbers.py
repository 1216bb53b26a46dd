from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.apps.numbers import dates, is_borne_out, parse_number, quantities


def values(text: str) -> list[tuple[float, str]]:
    return [(quantity.value, quantity.family) for quantity in quantities(text, dates(text))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.2 million", [(1_200_000, "")]),
        ("1,200,000", [(1_200_000, "")]),
        ("1 200 000 kr", [(1_200_000, "nok")]),
        ("NOK 6,900", [(6_900, "nok")]),
        ("$3.5bn", [(3.5e9, "usd")]),
        ("35 %", [(35, "percent")]),
        ("35 percent", [(35, "percent")]),
        ("5 km", [(5_000, "length")]),
        ("40 square metres", [(40, "area")]),
        ("two years", [(24, "month")]),
        ("24 months", [(24, "month")]),
        ("3 working days", [(3, "working day")]),
        ("between 9 and 12 %", [(9, "percent"), (12, "percent")]),
        ("-4.5", [(-4.5, "")]),
        ("AB-1234 and v2.3", []),
        ("seventy-five", [(75, "")]),
    ],
)
def test_numbers_are_read_with_unit_and_scale(text: str, expected: list[tuple[float, str]]) -> None:
    found = values(text)
    if not expected:
        assert all(family == "" for _, family in found)
    else:
        assert [family for _, family in found] == [family for _, family in expected]
        assert [value for value, _ in found] == pytest.approx([value for value, _ in expected])


@pytest.mark.parametrize(
    ("claim", "source", "is_held"),
    [
        ("6,900 NOK", "Detached house | 6,900", True),
        ("6,901 NOK", "Detached house | 6,900", False),
        ("7 %", "section 7, 8 %", False),
        ("grade 4", "grade 1, grade 2; 4 rooms", False),
        ("24 months", "two years", True),
        ("5 km", "5 %", False),
        ("1.2 million", "1,200,000 kroner", True),
    ],
)
def test_a_claim_is_borne_out_by_an_equal_number_of_its_kind(claim: str, source: str, is_held: bool) -> None:
    (quantity,) = quantities(claim)
    assert is_borne_out(quantity, quantities(source)) is is_held


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-05", (2026, 3, 5)),
        ("5 March 2026", (2026, 3, 5)),
        ("March 5, 2026", (2026, 3, 5)),
        ("5.3.2026", (2026, 3, 5)),
        ("March 2026", (2026, 3, 0)),
        ("the 5th of March", (0, 3, 5)),
    ],
)
def test_dates_are_read_in_their_usual_forms(text: str, expected: tuple[int, int, int]) -> None:
    (day,) = dates(text)
    assert (day.year, day.month, day.day) == expected


def test_a_month_holds_its_days_but_not_the_other_way_round() -> None:
    (month,), (day,) = dates("March 2026"), dates("5 March 2026")
    assert month.lies_in(day)
    assert not day.lies_in(month)


@given(st.integers(0, 10**9))
def test_thousands_separators_do_not_change_a_number(value: int) -> None:
    for mark in (",", " ", "\u00a0"):
        assert parse_number(f"{value:,}".replace(",", mark)) == value
