"""The map names every control and no other, and its frameworks are those that it lists."""

from __future__ import annotations

from roadbed.controls.frameworks import control_map

from .test_standing_checks import ALL_IDS


def test_the_map_is_complete() -> None:
    mapped = control_map()
    assert set(mapped.controls) == ALL_IDS
    for control, clauses in mapped.controls.items():
        assert set(clauses) == set(mapped.frameworks), control
        assert any(clauses.values()), control
    assert {date.framework for date in mapped.dates} <= set(mapped.frameworks)
    assert {date.start: date.what for date in mapped.dates}["2027-12-02"] == "high-risk systems of Annex III"
