"""What of a request's time no model was asked."""

from __future__ import annotations

import pytest

from roadbed.kernel.principal import Principal
from roadbed.ledger.overhead import overhead_us
from roadbed.ledger.trace import Trace


@pytest.mark.parametrize(
    ("calls", "left"),
    [
        ([], None),
        ([(100, 800)], 200),
        ([(100, 300), (500, 300)], 400),
        ([(100, 800), (200, 100)], 200),
        ([(500, 400), (100, 500)], 200),
        ([(100, 5000)], 100),
    ],
    ids=["none", "one", "in turn", "within", "overlapping", "longer than the request"],
)
def test_calls_count_once_where_they_overlap(calls: list[tuple[int, int]], left: int | None) -> None:
    trace = Trace("app", Principal("key", "team"))
    trace.add_span("search", "search", 0).duration_us = 50
    for start_us, duration_us in calls:
        trace.add_span("model", "model", start_us).duration_us = duration_us
    trace.duration_us = 1000
    assert overhead_us(trace) == left
