"""Models: what is known of each endpoint, who reads it, and what an admin may tell an endpoint."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from roadbed.console.models import EndpointLine, summary
from roadbed.console.pills import health_pill
from roadbed.gateway.policy import Policy
from roadbed.gateway.route import Route
from roadbed.kernel.errors import Unavailable

from .conftest import Deployment, form_token, view


@pytest.fixture(autouse=True)
def _smart(deployment: Deployment) -> None:
    deployment.gateway.routes = {"smart": Route("smart", ())}
    deployment.gateway.views = [view()]


def test_a_route_says_how_its_strategy_asks(deployment: Deployment, auditor: TestClient) -> None:
    deployment.gateway.routes = {"smart": Route("smart", (), policy=Policy("best-of"))}
    assert "All are asked at once; a judge chooses." in auditor.get("/console/models").text


def test_an_endpoint_is_told_with_its_figures_and_last_failures(auditor: TestClient) -> None:
    page = auditor.get("/console/models").text
    figures = ("390 / 800 / 1,212", "3 of 64", "1.25")
    for text in ("gpt-5-mini", *figures, "it fell silent in its answer", "answering", "Route smart"):
        assert text in page, text
    assert "Asked in this order" in page
    assert "resting after failures" in page, "what the ladder says of it now"
    data = auditor.get("/console/models.json").json()
    assert data["endpoints"][0]["view"]["recent_failures"][0]["failure"] == "timeout"


def test_figures_of_one_process_of_several_say_so(deployment: Deployment, auditor: TestClient) -> None:
    assert "process 1 of" not in auditor.get("/console/models").text
    deployment.process = (2, 4)
    assert "process 2 of 4" in auditor.get("/console/models").text


def test_the_page_stands_without_the_database(deployment: Deployment, auditor: TestClient) -> None:
    deployment.reader.error = Unavailable("away")
    assert "390 / 800" in auditor.get("/console/models").text


def test_members_see_neither_page_nor_menu(member: TestClient, auditor: TestClient) -> None:
    assert member.get("/console/models").status_code == 403
    assert "/console/models" not in member.get("/console").text
    assert 'href="/console/models"' in auditor.get("/console").text


@pytest.mark.parametrize(
    ("changes", "buttons"),
    [
        ({}, {"drain", "open"}),
        ({"is_drained": True, "unavailable": "drained by hand"}, {"resume", "open"}),
        ({"breaker": "open", "unavailable": "resting after failures", "open_for_s": 42.0}, {"drain", "close"}),
    ],
)
def test_an_admin_has_the_buttons_that_change_something(
    deployment: Deployment, admin: TestClient, auditor: TestClient, changes: dict[str, Any], buttons: set[str]
) -> None:
    deployment.gateway.views = [view(**changes)]
    page = admin.get("/console/models").text
    assert {name for name in ("drain", "resume", "open", "close") if f'value="{name}"' in page} == buttons
    assert 'name="order"' not in auditor.get("/console/models").text


def test_an_order_is_given_once_with_who_gave_it(deployment: Deployment, admin: TestClient) -> None:
    data = {"form_token": form_token(admin), "endpoint": "openai", "order": "drain"}
    answer = admin.post("/console/models", data=data)
    assert answer.status_code == 303
    assert deployment.orders == [("openai", "drain", "the boss")]
    assert "takes no new requests" in admin.get(answer.headers["location"]).text
    assert admin.post("/console/models", data={**data, "order": "explode"}).status_code == 400
    assert admin.post("/console/models", data={**data, "form_token": "forged"}).status_code == 403
    assert len(deployment.orders) == 1


def test_an_auditor_gives_no_orders(deployment: Deployment, auditor: TestClient) -> None:
    data = {"form_token": form_token(auditor), "endpoint": "openai", "order": "drain"}
    assert auditor.post("/console/models", data=data).status_code == 403
    assert not deployment.orders


def test_an_endpoint_that_failed_last_is_not_shown_as_answering(deployment: Deployment, auditor: TestClient) -> None:
    reason = "127.0.0.1:8080 refuses connections"
    deployment.gateway.views = [view(failed_last=reason)]
    page = auditor.get("/console/models").text
    assert "failed last" in page
    assert reason in page
    assert "answering" not in page


def test_a_breaker_that_was_closed_by_hand_makes_nobody_answer(deployment: Deployment, auditor: TestClient) -> None:
    deployment.gateway.views = [view(is_unproven=True)]
    page = auditor.get("/console/models").text
    assert "closed by hand, not known yet" in page
    assert "answering" not in page


def test_the_summary_says_who_cannot_be_asked() -> None:
    def lines(*views: Any) -> list[EndpointLine]:
        return [EndpointLine(found, health_pill(found), 0) for found in views]

    assert "No model" in summary([], {})
    ready, away = {"unavailable": ""}, {"unavailable": "resting"}
    assert "1 of 2 endpoints cannot be asked now: b" in summary(
        lines(view("a"), view("b", unavailable="resting")), {"smart": [away, ready]}
    )
    failed = summary(lines(view("a", failed_last="refused"), view("b")), {"smart": [ready]})
    assert failed == "Every route can be answered; 2 endpoints can be asked; the latest attempt at a failed."
    assert summary(lines(view("b", unavailable="x")), {"smart": [away]}) == "Nobody can be asked now for smart."
