"""How a control stands by its last run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from roadbed.controls.control import FAILED, Outcome, judged, standing

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("outcome", "age_s", "expected"),
    [
        ("pass", 0, "pass"),
        ("pass", 7200, "pass"),
        ("pass", 7201, "stale"),
        ("fail", 10, "fail"),
        ("invalid", 10, "invalid"),
        ("fail", 9000, "stale"),
        (None, 10, "waiting"),
        (None, 7201, "stale"),
    ],
)
def test_a_result_is_stale_after_two_periods(outcome: Outcome | None, age_s: int, expected: str) -> None:
    then = NOW - timedelta(seconds=age_s)
    found = standing(outcome, then if outcome is not None else None, 3600, NOW, then)
    assert found == expected
    assert (found in FAILED) == (expected in ("fail", "invalid", "stale"))


def test_problems_make_a_fail_and_are_cut() -> None:
    found = judged([f"problem {number} " + "x" * 400 for number in range(80)], "all is well")
    assert found.outcome == "fail"
    assert len(found.problems) == 50
    assert max(map(len, found.problems)) == 300
    assert judged([], "all is well").outcome == "pass"
