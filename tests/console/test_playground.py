"""Playground: several routes side by side, whole or streamed, and only those that the caller may use."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from .conftest import Deployment, form_token


@pytest.fixture(autouse=True)
def _routes(deployment: Deployment) -> None:
    deployment.gateway.routes = dict.fromkeys(("broken", "free", "helpdesk", "smart", "x"))


def test_without_scripts_all_answers_come_on_one_page(deployment: Deployment, admin: TestClient) -> None:
    data = {"form_token": form_token(admin), "prompt": " Say something ", "routes": ["smart", "free", "broken"]}
    page = admin.post("/console/playground", data=data).text
    assert sorted(deployment.tried) == [(name, "Say something", "k-admin") for name in ("broken", "free", "smart")]
    for text in (
        "smart says &lt;well&gt;",
        "250 ms",
        "1.50 s",
        "12, 34",
        "0.0056",
        "not known",
        "No endpoint answered",
    ):
        assert text in page, text
    assert page.count('class="try card"') == 3
    assert "/console/traces/01TRACE" in page


def test_one_route_streams_and_ends_with_its_figures(deployment: Deployment, admin: TestClient) -> None:
    data = {"form_token": form_token(admin), "prompt": "Say something", "routes": "smart"}
    answer = admin.post("/console/playground/stream", data=data)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.index("smart says") < answer.text.index("event: done")
    assert "250 ms" in answer.text
    assert "\\u003cwell" in answer.text or "&lt;well&gt;" in answer.text


@pytest.mark.parametrize(
    ("routes", "prompt"),
    [([], "x"), (["nothing"], "x"), (["smart"], "  "), (["smart", "free", "broken", "helpdesk", "x"], "x")],
)
def test_what_cannot_be_asked_is_said_on_the_form(
    deployment: Deployment, admin: TestClient, routes: list[str], prompt: str
) -> None:
    answer = admin.post(
        "/console/playground", data={"form_token": form_token(admin), "prompt": prompt, "routes": routes}
    )
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert not deployment.tried


def test_a_member_tries_only_what_the_key_may_use(deployment: Deployment, member: TestClient) -> None:
    page = member.get("/console/playground").text
    assert 'value="helpdesk"' in page
    assert 'value="smart"' not in page
    data = {"form_token": form_token(member), "prompt": "x", "routes": "smart"}
    assert member.post("/console/playground/stream", data=data).status_code == 400
    deployment.gateway.routes = {"smart": None}
    assert "/console/playground" not in member.get("/console").text
