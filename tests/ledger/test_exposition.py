"""One text of metrics over several processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.ledger.exposition import add_up, without_gauges
from roadbed.ledger.metrics import Metrics

Events = list[tuple[str, float, int]]
APPS = ("desk", 'od"d\\one', "two words")
events = st.lists(st.tuples(st.sampled_from(APPS), st.floats(0, 90), st.integers(0, 9)), max_size=20)


def metrics_of(happened: Events) -> Metrics:
    made = Metrics()
    made.declare("requests_total", "counter", "finished requests", "app")
    made.declare("seconds", "histogram", "time", "app")
    made.declare("never_total", "counter", "nothing")
    made.gauge_from("waiting", "what waits", lambda: float(len(happened)))
    for app, seconds, amount in happened:
        made.add("requests_total", (app,), amount)
        made.observe("seconds", seconds, (app,))
    return made


@given(events, events)
def test_the_sum_says_what_one_process_would(first: Events, second: Events) -> None:
    added = add_up([metrics_of(first).render(), metrics_of(second).render()])
    whole = metrics_of([*first, *second]).render()
    assert sorted(map(rounded, added.splitlines())) == sorted(map(rounded, whole.splitlines()))


def rounded(line: str) -> str:
    series, _, value = line.rpartition(" ")
    return line if line.startswith("#") else f"{series} {float(value):.6f}"


@given(events)
def test_the_sum_of_one_text_is_that_text(happened: Events) -> None:
    text = metrics_of(happened).render()
    assert add_up([text]) == text
    assert add_up([]) == ""


def test_a_process_that_ended_keeps_its_counters_and_no_gauge() -> None:
    text = without_gauges(metrics_of([("desk", 0.2, 3)]).render())
    assert 'requests_total{app="desk"} 3' in text
    assert 'seconds_count{app="desk"} 1' in text
    assert "waiting" not in text
