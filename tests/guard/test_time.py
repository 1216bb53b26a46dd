"""The guard's time grows with the text alone and stays small, whatever a caller sends."""

from __future__ import annotations

import pytest
from tests.stopwatch import is_in_proportion

from roadbed.guard.gate import Guard

CHARACTERS = 400_000
SECONDS_MAX = 6.0  # measured: 0.3 to 1.9; before 5 to 8, and more by far on the way to it


@pytest.fixture(scope="module")
def guard() -> Guard:
    return Guard.open()


@pytest.mark.parametrize("unit", ["ghp_", "a@", "a@b.", "a.b@", "eyJa.", "1:", "1.", "password=", "://a:b@", "GB29 "])
def test_text_made_of_beginnings_is_looked_through_in_time(guard: Guard, unit: str) -> None:
    assert is_in_proportion(lambda size: guard.scan(unit * (size // len(unit))), CHARACTERS, within_s=SECONDS_MAX)
