"""What holds for every page: headers, no inline script or style, JSON twins, rights, errors, few queries."""

from __future__ import annotations

import re

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from roadbed.console.csp import POLICY
from roadbed.console.pages import NoSuchPage
from roadbed.console.rendering import HERE, StaticFiles

from .conftest import Deployment, form_token

PAGES = [
    "/console",
    "/console/ask",
    "/console/documents",
    "/console/documents?source=handbook&state=failed",
    "/console/documents/d1?start=9&end=20",
    "/console/traces",
    "/console/traces?rung=full&status=ok&within=7d",
    "/console/traces/01T00001",
    "/console/releases",
    "/console/releases/helpdesk",
    "/console/releases/helpdesk/move?move=rollback",
    "/console/releases/helpdesk/move?move=promote",
    "/console/keys",
    "/console/keys/k-member/revoke",
    "/console/nothing-here",
]
ADMIN_PAGES = [path for path in PAGES if "/move" in path or "/revoke" in path]
AUDITOR_PAGES = [path for path in PAGES if any(noun in path for noun in ("traces", "releases", "keys"))]
_INLINE = re.compile(r"""<style|\sstyle\s*=|\son[a-z]+\s*=\s*["']|javascript:|<script(?![^>]*\ssrc=)""", re.IGNORECASE)
_LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)="([^"]*)\"""")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_the_policy_and_nothing_inline(admin: TestClient, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == (404 if "nothing" in path else 200), answer.text
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert not _INLINE.search(answer.text)
    loaded = _LOADED.findall(answer.text)
    assert loaded
    assert all(address.startswith("/console/static/") for address in loaded)
    assert len(answer.content) < 150_000


def test_the_type_of_a_problem_leads_to_its_explanation(stranger: TestClient) -> None:
    problem = NoSuchPage("there is no page at /console/x").problem()
    answer = stranger.get(problem["type"])
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    assert f'id="{problem["type"].partition("#")[2]}"' in answer.text
    assert "The console has no page at this address." in answer.text
    assert 'id="internal"' in answer.text
    assert not _INLINE.search(answer.text)


def test_a_slash_at_the_end_leads_to_the_overview(admin: TestClient) -> None:
    answer = admin.get("/console/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


def test_the_policy_is_the_agreed_one() -> None:
    assert POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def test_static_files_are_kept_for_ever_under_their_digest(stranger: TestClient) -> None:
    static = StaticFiles()
    answer = stranger.get(static.address("console.css"))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/css")
    assert answer.content == (HERE / "static" / "console.css").read_bytes()
    assert stranger.get("/console/static/0000/console.css").headers["cache-control"] == "no-cache"
    assert stranger.get(static.address("pages.py")).status_code == 404


def test_scripts_stay_small() -> None:
    assert sum(path.stat().st_size for path in (HERE / "static").glob("*.js")) < 15_000


@pytest.mark.parametrize("path", [path for path in PAGES if "nothing" not in path])
def test_a_page_has_a_twin_in_json(admin: TestClient, path: str) -> None:
    name, _, query = path.partition("?")
    answer = admin.get(f"{'/console/overview' if name == '/console' else name}.json?{query}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    answer.json()


@pytest.mark.parametrize("path", PAGES)
def test_what_a_role_may_open(auditor: TestClient, member: TestClient, path: str) -> None:
    expected = 404 if "nothing" in path else 200
    assert auditor.get(path).status_code == (403 if path in ADMIN_PAGES else expected)
    assert member.get(path).status_code == (403 if path in AUDITOR_PAGES else expected)


def test_every_form_needs_the_token_of_its_session(deployment: Deployment, admin: TestClient) -> None:
    posts = [
        route.path.replace("{id}", "x").replace("{app}", "helpdesk")
        for route in deployment.app.routes
        if isinstance(route, Route)
        and "POST" in (route.methods or ())
        and not route.path.startswith("/console/sign-in")
    ]
    assert len(posts) > 8
    with deployment.client("auditor-key") as other:
        foreign = form_token(other)
    for path in posts:
        for data in ({}, {"form_token": "x"}, {"form_token": foreign}):
            answer = admin.post(path, data=data)
            assert answer.status_code == 403, path
            assert "auth.form_token_refused" in answer.text
        assert admin.post(path, headers={"origin": "https://evil.example"}).status_code == 403, path
    assert not deployment.ask.asked
    assert not deployment.keys.made
    assert not deployment.keys.revoked
    assert not deployment.releases.moves


@pytest.mark.parametrize(
    "body",
    [b"", b"--x", b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"\xff" * 100, b"--x\r\n" * 200],
)
def test_a_body_that_is_no_form_is_refused_with_a_page(deployment: Deployment, admin: TestClient, body: bytes) -> None:
    for path in ("/console/ask", "/console/documents", "/console/sign-in"):
        answer = admin.post(path, content=body, headers={"content-type": "multipart/form-data; boundary=x"})
        assert 400 <= answer.status_code < 500, path
        assert answer.headers["content-security-policy"] == POLICY
    assert not deployment.ask.asked


def test_a_form_with_too_many_fields_is_refused(admin: TestClient) -> None:
    answer = admin.post("/console/ask", data={f"field{number}": "x" for number in range(500)})
    assert answer.status_code == 400
    assert "console.form_invalid" in answer.text


def test_changes_are_for_admins(deployment: Deployment, member: TestClient) -> None:
    token = form_token(member)
    for path in ("/console/keys", "/console/documents", "/console/documents/sync", "/console/releases/helpdesk/move"):
        answer = member.post(path, data={"form_token": token, "move": "rollback", "team": "x"})
        assert answer.status_code == 403, path
        assert "console.page_forbidden" in answer.text
    assert not deployment.keys.made
    assert not deployment.releases.moves


def test_the_menu_holds_what_has_something_to_show(deployment: Deployment) -> None:
    deployment.reader.rows = []
    deployment.knowledge.sources = []
    with deployment.client() as admin:
        bare = admin.get("/console").text
    deployment.reader.rows = [*Deployment().reader.rows]
    deployment.knowledge.sources = [*Deployment().knowledge.sources]
    with deployment.client() as admin, deployment.client("member-key") as member:
        full, limited = admin.get("/console").text, member.get("/console").text
    assert 'href="/console/traces"' not in bare
    assert 'href="/console/documents" data-go' not in bare
    for noun in ("ask", "documents", "releases", "traces", "keys"):
        assert f'href="/console/{noun}" data-go' in full
    assert 'href="/console/ask" data-go' in limited
    for noun in ("releases", "traces", "keys"):
        assert f'href="/console/{noun}" data-go' not in limited


def test_an_error_says_what_and_what_to_do(admin: TestClient) -> None:
    answer = admin.get("/console/traces/unknown")
    assert answer.status_code == 404
    assert "No trace unknown is kept" in answer.text
    assert "ledger.trace_not_found" in answer.text


def test_a_dependency_that_is_away_is_a_page_too(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.is_away = True
    answer = admin.get("/console/documents")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert "Try again" in answer.text
    overview = admin.get("/console")
    assert overview.status_code == 200
    assert "the sources cannot be counted" in overview.text


def test_a_page_asks_few_questions(deployment: Deployment, admin: TestClient) -> None:
    admin.get("/console")
    for path in PAGES:
        deployment.knowledge.calls.clear()
        deployment.reader.asked.clear()
        admin.get(path)
        assert len(deployment.knowledge.calls) + len(deployment.reader.asked) <= 3, path
