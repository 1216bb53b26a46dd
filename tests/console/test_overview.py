"""The first page: what runs, whether it is well, what to do next."""

from __future__ import annotations

from starlette.testclient import TestClient

from .conftest import Deployment, served, source


def test_it_says_what_serves_and_what_waits(admin: TestClient) -> None:
    page = admin.get("/console").text
    assert "2 documents are indexed and 2 apps serve without a model" in page
    assert "1 document of handbook could not be read." in page
    assert "/console/documents?source=handbook&amp;state=failed" in page
    assert "roadbed models add" in page
    assert "Ask your first question." not in page  # helpdesk was asked seven times today
    assert "data-live" not in page


def test_a_part_that_is_unwell_leads_the_page(deployment: Deployment, admin: TestClient) -> None:
    deployment.parts["database"] = "away; what needs it is refused or spooled"
    deployment.problem = "roadbed.yaml:7: unknown key 'sorces' (did you mean 'sources'?)"
    page = admin.get("/console").text
    assert "Needs attention: database." in page
    assert "roadbed.yaml:7" in page
    deployment.parts["jobs"] = "the disk of the database is full"
    assert "Free some disk space: the disk of the database is full." in admin.get("/console").text
    assert "The manifest on disk is not served" in page


def test_models_show_why_an_endpoint_rests(deployment: Deployment, admin: TestClient) -> None:
    deployment.gateway.routes = {"default": object()}
    page = admin.get("/console").text
    assert "api.openai.com" in page
    assert "resting after failures" in page
    assert "None is configured" not in page


def test_an_empty_source_is_not_called_well(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.sources = [source("inbox", kind="uploads", listed=0, indexed=0, failed=0)]
    for path in ("/console", "/console/documents"):
        page = admin.get(path).text
        assert ">empty</span>" in page.replace("</span>empty", "</span>>empty")
        assert "up to date" not in page


def test_empty_states_say_what_to_do_next(deployment: Deployment, admin: TestClient) -> None:
    deployment.apps.clear()
    deployment.knowledge.sources = []
    page = admin.get("/console").text
    assert page.count("roadbed init") >= 2
    assert "/console/ask" not in page


def test_work_that_moves_makes_the_page_live(deployment: Deployment, admin: TestClient) -> None:
    deployment.knowledge.sources = [source(state="indexing", pending=5, listed=8, rate_per_s=2.5, eta_s=2.0)]
    assert "data-live" in admin.get("/console").text
    page = admin.get("/console/documents").text
    assert "data-live" in page
    assert "3 of 8, 2.5/s, about 2.00 s left" in page


def test_names_of_documents_are_for_admins(admin: TestClient, member: TestClient) -> None:
    for path in ("/console", "/console/overview.json", "/console/documents", "/console/documents.json"):
        assert "secret" not in member.get(path).text, path
    assert "huge-secret.iso" in admin.get("/console/documents").text


def test_a_member_sees_only_the_apps_that_the_key_may_use(member: TestClient) -> None:
    page = member.get("/console").text
    assert "helpdesk" in page
    assert 'app=search"' not in page


def test_an_analytics_app_leads_to_its_own_page(deployment: Deployment, admin: TestClient) -> None:
    deployment.apps = {"figures": served("figures", "analytics")}
    page = admin.get("/console").text
    assert 'href="/console/analytics?app=figures"' in page
    assert "declared questions" in page
