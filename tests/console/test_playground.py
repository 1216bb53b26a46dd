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
        "</span>broke off",
        "openai went on where another broke off: near: it is away",
    ):
        assert text in page, text
    assert page.count("near: it is away") == 1, "an error says by itself who broke off"
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


def test_made_up_data_is_offered_and_put_behind_the_prompt(deployment: Deployment, admin: TestClient) -> None:
    page = admin.get("/console/playground").text
    assert page.index("made-up data") < page.index('id="prompt"')
    assert "<option>crm</option>" in page
    data = {"form_token": form_token(admin), "prompt": "Count them:", "routes": ["smart", "free"], "source": "crm"}
    filled = admin.post("/console/playground/sample", data=data).text
    assert "Count them:\n\npeople:\nname,town\n&lt;Alda&gt;,Elderby</textarea>" in filled
    assert all(f'value="{name}" checked' in filled for name in ("smart", "free"))
    unknown = admin.post("/console/playground/sample", data={**data, "source": "nothing"})
    assert unknown.status_code == 400
    assert "Count them:</textarea>" in unknown.text
    assert not deployment.tried


def test_a_prompt_with_real_data_is_sent_when_that_is_said(deployment: Deployment, admin: TestClient) -> None:
    data = {"form_token": form_token(admin), "prompt": "Write to ann@firm.example", "routes": ["smart"]}
    warned = admin.post("/console/playground", data=data)
    assert warned.status_code == 422
    assert "This prompt holds 1 email. Nothing was sent." in warned.text
    assert 'formaction="/console/playground/replace"' in warned.text
    assert admin.post("/console/playground/stream", data=data).status_code == 422
    assert not deployment.tried
    assert admin.post("/console/playground", data={**data, "as_is": "1"}).status_code == 200
    assert deployment.tried == [("smart", "Write to ann@firm.example", "k-admin")]
    mended = admin.post("/console/playground/replace", data=data).text
    assert "Write to made-up@firm.example</textarea>" in mended


def test_what_was_made_up_is_sent_without_a_question_until_it_is_changed(
    deployment: Deployment, admin: TestClient
) -> None:
    token = form_token(admin)
    page = admin.post("/console/playground/replace", data={"form_token": token, "prompt": "To ann@ by post"}).text
    made = page.partition('name="made" value="')[2].partition('"')[0]
    form = {"form_token": token, "routes": ["smart"], "made": made}
    assert admin.post("/console/playground", data={**form, "prompt": "To made-up@ by post"}).status_code == 200
    assert admin.post("/console/playground", data={**form, "prompt": "To ann@ by post"}).status_code == 422


def test_without_a_model_it_says_how_to_name_one(deployment: Deployment, admin: TestClient) -> None:
    deployment.gateway.routes = {}
    page = admin.get("/console/playground").text
    assert "roadbed models add openai" in page
    assert 'id="prompt"' not in page
