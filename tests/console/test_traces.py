"""Traces: the list and its filters, and one request as bars and sentences."""

from __future__ import annotations

import re
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from roadbed.console.timeline import detail, outcome, timeline
from roadbed.console.traces import PAGE_TRACES
from roadbed.ledger.queries import SpanRow

from .conftest import SPANS, Deployment, trace_row


def test_a_list_hangs_on_the_id_before_it(deployment: Deployment, admin: TestClient) -> None:
    deployment.reader.rows = [trace_row(number) for number in range(PAGE_TRACES + 1)]
    page = admin.get("/console/traces?status=ok").text
    assert f"before=01T{PAGE_TRACES - 1:05}" in page
    assert "within=24h" in page
    assert "status=ok" in re.findall(r'rel="next"\s+href="([^"]*)"', page)[0]
    asked = deployment.reader.asked[-1]
    assert (asked["limit"], asked["before"], asked["within"]) == (PAGE_TRACES + 1, None, timedelta(hours=24))
    admin.get("/console/traces?before=01T00049&rung=full&status=failed&app=search&within=7d")
    asked = deployment.reader.asked[-1]
    assert asked == {
        "limit": PAGE_TRACES + 1,
        "before": "01T00049",
        "app": "search",
        "rung": "full",
        "status": "failed",
        "declined": False,
        "within": timedelta(days=7),
    }


def test_what_was_declined_is_told_and_can_be_asked_for(deployment: Deployment, admin: TestClient) -> None:
    deployment.reader.rows = [
        trace_row(1, attributes={"declined": True}),
        trace_row(2, rung="partial"),
        trace_row(3, status="failed", rung="refused", attributes={"declined": True}),
    ]
    page = admin.get("/console/traces?status=declined").text
    asked = deployment.reader.asked[-1]
    assert (asked["status"], asked["declined"]) == ("ok", True)
    rows = page.split("<tbody>")[1].split("</tr>")
    for row, word in zip(rows, ("declined", "partial", "failed"), strict=False):
        assert [each in row for each in ("declined", "partial", "failed")] == [
            each == word for each in ("declined", "partial", "failed")
        ]
    assert "said that the documents do not hold it" in admin.get("/console/traces/01T00001").text


def test_unknown_filters_fall_back_to_a_bounded_range(deployment: Deployment, admin: TestClient) -> None:
    admin.get("/console/traces?within=99y&rung=x&status=y")
    asked = deployment.reader.asked[-1]
    assert (asked["within"], asked["rung"], asked["status"]) == (timedelta(hours=24), None, None)


def test_masked_text_is_shown_as_text(admin: TestClient) -> None:
    for path in ("/console/traces", "/console/traces/01T00001"):
        page = admin.get(path).text
        assert "&lt;b&gt;[EMAIL]&lt;/b&gt;" in page
        assert "<b>[EMAIL]" not in page


def test_an_empty_range_says_what_to_do(deployment: Deployment, admin: TestClient) -> None:
    deployment.reader.rows = []
    page = admin.get("/console/traces").text
    assert "No request in the last 24 hours" in page
    assert "within=30d" in page


def test_a_trace_tells_what_happened(admin: TestClient) -> None:
    page = admin.get("/console/traces/01T00001").text
    assert (
        "helpdesk answered by quoting documents, without a model, 192 ms after the question and after 1 failed step."
        in page
    )
    assert "8 passages found in company. Left out: vector." in page
    assert "Overload (HTTP 503): busy." in page
    assert "First text after 39 ms. 2,114 tokens in, 96 out." in page
    assert "0.0031 USD" in page
    assert 'class="bar failed"' in page
    assert "The pale part of a bar" in page
    assert "1 masked" in page


def test_a_trace_without_steps_or_text(deployment: Deployment, admin: TestClient) -> None:
    deployment.reader.rows = [trace_row(1, question=None, answer=None, status="refused", error_code="auth.x", rung="")]
    deployment.reader.spans = []
    page = admin.get("/console/traces/01T00001").text
    assert "No step was recorded" in page
    assert "The text was not kept" in page
    assert "helpdesk refused the request, 192 ms after the question: auth.x." in page


@given(st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**8)), max_size=20), st.integers(0, 10**8))
def test_bars_stay_on_the_axis(spans: list[tuple[int, int]], duration_us: int) -> None:
    rows = [
        SpanRow(number, number - 1, "step", "app", start, length, "ok", {"first_token_ms": length / 500})
        for number, (start, length) in enumerate(spans)
    ]
    drawn = timeline(trace_row(1, duration_us=duration_us), rows)
    for bar in drawn.bars:
        left, width, wait = (float(value.rstrip("%")) for value in (bar.left, bar.width, bar.wait_width))
        assert 0 <= left <= 100
        assert wait <= width + 0.001
        assert left + width <= 100.31
    assert 1 <= len(drawn.ticks) <= 6


def test_steps_that_are_not_known_are_told_by_their_facts() -> None:
    span = SpanRow(0, -1, "mask", "guard", 0, 5, "ok", {"masked_values": 2, "note": "", "none": None})
    assert detail(span) == "Masked values 2."


def test_every_ending_has_its_sentence() -> None:
    for status in ("ok", "failed", "refused", "cancelled", "else"):
        for rung in ("full", "fallback", "local", "partial", "cached", "extractive", "refused", ""):
            assert outcome(trace_row(1, status=status, rung=rung), SPANS).endswith(".")
    assert timeline(trace_row(), SPANS).bars[2].wait_width == "20.312%"


def test_an_abstention_is_told_from_an_answer() -> None:
    nothing = SpanRow(0, -1, "extract", "app", 0, 5, "ok", {"sentences": 0, "confidence": 0.1})
    found = SpanRow(0, -1, "extract", "app", 0, 5, "ok", {"sentences": 2, "confidence": 0.9})
    row = trace_row(1, status="ok", rung="extractive")
    assert "said that the documents do not hold it" in outcome(row, [nothing])
    assert "by quoting documents" in outcome(row, [found])


def test_a_call_of_a_tool_is_no_question_without_an_answer(deployment: Deployment, admin: TestClient) -> None:
    deployment.reader.rows = [trace_row(1, app="_tools", rung="", question=""), trace_row(2, app="embed", question="")]
    page = admin.get("/console/traces").text
    assert "a tool was called" in page
    assert "text not kept" in page
    assert "no answer" not in page
    assert "_tools" not in page
