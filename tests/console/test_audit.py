"""The console's page Audit, and that forms which change something are recorded before they act."""

from __future__ import annotations

from starlette.testclient import TestClient

from .conftest import Deployment, form_token


def test_auditors_see_the_record_and_how_far_it_is_proven(deployment: Deployment) -> None:
    with deployment.client("auditor-key") as auditor:
        page = auditor.get("/console/audit?action=keys.*&actor=k-admin&within=24h")
        assert page.status_code == 200
        assert "keys.rotate" in page.text
        assert "k-&lt;one&gt;" in page.text
        assert "1,234" in page.text or "1 234" in page.text or "1234" in page.text
        assert "/mnt/auditor" in page.text
        asked = deployment.audit.asked[-1]
        assert (asked["actor"], asked["action"], asked["acts_only"]) == ("p_k-admin", "keys.*", False)
        deployment.audit.fault = "record 7 was changed"
        assert "record 7 was changed" in auditor.get("/console/audit").text
    with deployment.client("member-key") as member:
        assert member.get("/console/audit").status_code == 403


def test_an_act_that_cannot_be_recorded_is_not_done(deployment: Deployment, admin: TestClient) -> None:
    token = form_token(admin)
    answer = admin.post("/console/keys/k-member/revoke", data={"form_token": token})
    assert answer.status_code == 303
    assert deployment.audit.acts[-1] == ("console.keys.revoke", "k-admin", "k-member")
    assert deployment.keys.revoked == ["k-member"]
    deployment.audit.is_full = True
    answer = admin.post("/console/keys/k-auditor/revoke", data={"form_token": token})
    assert answer.status_code == 503
    assert deployment.keys.revoked == ["k-member"]


def test_sign_ins_are_recorded_good_and_bad(deployment: Deployment) -> None:
    with deployment.client("admin-key") as client:
        assert deployment.audit.acts == [("console.sign_in", "k-admin", "")]
        client.post("/console/sign-in", data={"key": "wrong"})
    assert deployment.audit.noted[-1][0] == "console.sign_in"
    deployment.audit.is_full = True
    with deployment.client(None) as client:
        assert client.post("/console/sign-in", data={"key": "admin-key"}).status_code == 503


def test_the_playground_is_recorded(deployment: Deployment, admin: TestClient) -> None:
    admin.post("/console/playground", data={"form_token": form_token(admin), "prompt": "hello", "route": "smart"})
    assert ("console.playground", "k-admin", "") in deployment.audit.acts
