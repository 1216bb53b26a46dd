"""Costs: sums by group and day, budgets near their end, charts without a script."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from roadbed.console.charts import HEIGHT, TICKS, WIDTH, bar_chart, nice_top, share

from .conftest import Deployment


def test_the_page_shows_sums_bars_and_budgets(deployment: Deployment, auditor: TestClient) -> None:
    page = auditor.get("/console/costs?by=team&within=7d").text
    assert "5.00 USD for 8 model calls in the last 7 days. Near the end of their budget: team support." in page
    assert "&lt;b&gt;support&lt;/b&gt;" in page
    assert len(re.findall(r'<svg class="share"', page)) == 3
    assert '<rect width="25.0" height="8"/>' in page  # sales, beside support's whole
    assert "near its end" in page
    assert len(re.findall(r"<rect x=", page)) == 8
    assert "style=" not in page
    assert deployment.usage.asked == [("team",), ("day",)]


def test_unknown_groups_and_ranges_fall_back(deployment: Deployment, admin: TestClient) -> None:
    page = admin.get("/console/costs?by=password&within=9y").text
    assert "in the last 30 days" in page
    assert deployment.usage.asked == [("team",), ("day",)]
    assert admin.get("/console/costs?by=tag").status_code == 200
    assert deployment.usage.asked[-2] == ("tag",)


def test_nothing_spent_says_what_to_do(deployment: Deployment, admin: TestClient) -> None:
    deployment.usage.is_empty = True
    page = admin.get("/console/costs").text
    assert "No model was called in the last 30 days" in page
    assert "within=90d" in page
    assert "budget: 200 USD/month" in page


def test_it_is_for_auditors(member: TestClient, auditor: TestClient) -> None:
    assert member.get("/console/costs").status_code == 403
    assert 'href="/console/costs"' in auditor.get("/console").text


@given(st.lists(st.tuples(st.just("2026-11-27"), st.integers(0, 10**15)), max_size=100))
def test_bars_stay_inside_their_box(points: list[tuple[str, int]]) -> None:
    chart = bar_chart(points)
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.1
        assert 0 <= bar.y <= HEIGHT
        assert abs(bar.y + bar.height - HEIGHT) < 0.05
    assert all(0 <= tick.y < HEIGHT for tick in chart.ticks)


@given(st.integers(0, 10**18))
def test_the_top_of_a_scale_is_round_and_not_far_above(value: int) -> None:
    top = nice_top(value)
    assert max(value, TICKS) <= top <= max(TICKS, 3 * value)
    assert 0 <= share(value, top) <= 100


def test_calls_that_cost_nothing_are_listed_without_an_empty_chart(deployment: Deployment, admin: TestClient) -> None:
    deployment.usage.is_free = True
    page = admin.get("/console/costs").text
    assert "0.00 USD for 8 model calls" in page
    assert 'class="chart"' not in page
