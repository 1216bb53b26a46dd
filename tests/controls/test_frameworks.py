"""The map names every control and no other, and its frameworks are those that it lists."""

from __future__ import annotations

from pathlib import Path

from roadbed.cli.docs import beside
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


def test_the_page_is_what_the_data_says() -> None:
    reference = Path(__file__).resolve().parents[2] / "docs" / "reference"
    for name, text in beside().items():
        assert (reference / name).read_text(encoding="utf-8") == text, "run `make docs`"
