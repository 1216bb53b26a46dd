"""Releases and keys: moving after a question, making and ending keys."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from .conftest import DIGEST, KEYS, Deployment, form_token


def test_releases_show_aliases_and_hide_what_is_inner(admin: TestClient) -> None:
    page = admin.get("/console/releases").text
    assert DIGEST[:12] in page
    assert "c" * 12 in page
    assert "_routes" not in page
    assert "Promote" in page


def test_without_an_earlier_release_there_is_no_way_back(deployment: Deployment, admin: TestClient) -> None:
    assert "Roll back" in admin.get("/console/releases").text
    deployment.releases.has_earlier = False
    assert "Roll back" not in admin.get("/console/releases").text


def test_an_auditor_reads_and_moves_nothing(auditor: TestClient) -> None:
    page = auditor.get("/console/releases/helpdesk").text
    assert "Roll back" not in page
    assert "go back to it" not in page


def test_a_move_is_confirmed_and_remembered(deployment: Deployment, admin: TestClient) -> None:
    history = admin.get("/console/releases/helpdesk").text
    assert f"move=rollback&amp;digest={'e' * 64}" in history
    assert not deployment.releases.moves
    page = admin.get(f"/console/releases/helpdesk/move?move=rollback&digest={'e' * 64}").text
    assert "Roll back helpdesk?" in page
    data = {"form_token": form_token(admin), "move": "rollback", "digest": "e" * 64, "reason": " worse answers "}
    answer = admin.post("/console/releases/helpdesk/move", data=data)
    assert answer.headers["location"] == "/console/releases/helpdesk"
    data = {"form_token": form_token(admin), "move": "promote", "digest": ""}
    admin.post("/console/releases/helpdesk/move", data=data)
    assert deployment.releases.moves == [
        ("rollback", "helpdesk", "e" * 64, "the boss", "worse answers"),
        ("promote", "helpdesk", None, "the boss", ""),
    ]


def test_a_move_that_is_none_is_refused(deployment: Deployment, admin: TestClient) -> None:
    assert admin.get("/console/releases/helpdesk/move?move=delete").status_code == 400
    data = {"form_token": form_token(admin), "move": "delete"}
    assert admin.post("/console/releases/helpdesk/move", data=data).status_code == 400
    assert admin.get("/console/releases/unknown").status_code == 404
    assert not deployment.releases.moves


def test_a_key_is_made_and_shown_once(deployment: Deployment, admin: TestClient) -> None:
    data = {
        "form_token": form_token(admin),
        "team": "sales",
        "name": "crm",
        "role": "auditor",
        "expires": "90",
        "apps": ["helpdesk"],
    }
    answer = admin.post("/console/keys", data=data)
    assert answer.text.count("rbk_k-new_PLAINTEXT") >= 1
    assert answer.headers["cache-control"] == "no-store"
    order = deployment.keys.made[0]
    assert (order["team"], order["name"], order["roles"], order["apps"]) == (
        "sales",
        "crm",
        ["auditor", "member"],
        ["helpdesk"],
    )
    assert order["expires"] is not None
    assert "PLAINTEXT" not in admin.get("/console/keys").text


@pytest.mark.parametrize(
    ("order", "is_told"),
    [({"team": "suport"}, True), ({"team": "support"}, False), ({"team": "suport", "apps": "helpdesk"}, False)],
)
def test_a_team_that_is_not_declared_is_told_with_the_new_key(
    admin: TestClient, order: dict[str, str], is_told: bool
) -> None:
    page = admin.post("/console/keys", data={"form_token": form_token(admin), **order}).text
    assert ("The manifest declares no team suport" in page) == is_told
    assert '<option value="support">' in page


def test_a_key_without_apps_may_use_all(deployment: Deployment, admin: TestClient) -> None:
    admin.post("/console/keys", data={"form_token": form_token(admin), "team": "sales"})
    order = deployment.keys.made[0]
    assert order["apps"] is None
    assert order["roles"] == ["member"]
    assert order["expires"] is None


def test_revoking_is_confirmed(deployment: Deployment, admin: TestClient) -> None:
    page = admin.get("/console/keys/k-member/revoke").text
    assert "refused everywhere within a second" in page
    assert "signed out" not in page
    assert "signed out" in admin.get("/console/keys/k-admin/revoke").text
    assert not deployment.keys.revoked
    token = form_token(admin)
    assert admin.post("/console/keys/k-member/revoke", data={"form_token": token}).status_code == 303
    assert deployment.keys.revoked == ["k-member"]
    assert admin.get("/console/keys/k-member/revoke").status_code == 404
    page = admin.get("/console/keys").text
    assert "revoked" in page
    assert "1 ended key<" in page


def test_rotating_shows_the_new_value_once(deployment: Deployment, admin: TestClient) -> None:
    assert "The value before ends" in admin.get("/console/keys/k-member/rotate").text
    assert not deployment.keys.rotated
    answer = admin.post("/console/keys/k-member/rotate", data={"form_token": form_token(admin), "overlap": "24"})
    assert "rbk_rotated_PLAINTEXT" in answer.text
    assert deployment.keys.rotated == [("k-member", timedelta(hours=24))]
    assert "PLAINTEXT" not in admin.get("/console/keys").text


def test_a_key_can_be_bound_to_addresses(deployment: Deployment, admin: TestClient) -> None:
    admin.post("/console/keys", data={"form_token": form_token(admin), "team": "a", "ip": "10.0.0.0/8, 192.0.2.1"})
    assert deployment.keys.made[0]["networks"] == ["10.0.0.0/8", "192.0.2.1"]


def test_a_session_holds_only_where_its_key_does(monkeypatch: pytest.MonkeyPatch, admin: TestClient) -> None:
    assert admin.get("/console/keys").status_code == 200
    bound = dataclasses.replace(KEYS["admin-key"], networks=(ip_network("10.0.0.0/8"),))
    monkeypatch.setitem(KEYS, "admin-key", bound)
    assert admin.get("/console/keys").status_code == 403
