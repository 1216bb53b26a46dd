"""Signing in and out: cookies, one-time links that previews do not spend, and where one goes afterwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from roadbed.console.sign_in import safe_next

from .conftest import Deployment, form_token


def test_a_stranger_is_sent_to_sign_in_and_back(stranger: TestClient) -> None:
    answer = stranger.get("/console/traces?app=helpdesk")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=%2Fconsole%2Ftraces%3Fapp%3Dhelpdesk"
    page = stranger.get(answer.headers["location"])
    assert 'name="next" value="/console/traces?app=helpdesk"' in page.text
    back = stranger.post("/console/sign-in", data={"key": "admin-key", "next": "/console/traces?app=helpdesk"})
    assert back.headers["location"] == "/console/traces?app=helpdesk"
    assert stranger.get(back.headers["location"]).status_code == 200


def test_the_cookie_is_for_the_console_alone(stranger: TestClient) -> None:
    cookie = stranger.post("/console/sign-in", data={"key": "admin-key"}).headers["set-cookie"]
    assert cookie.startswith("roadbed_session=")
    assert {"HttpOnly", "Path=/console", "SameSite=lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_over_tls_the_cookie_is_secure() -> None:
    with Deployment("https://acme.example").client(None) as client:
        cookie = client.post("/console/sign-in", data={"key": "admin-key"}).headers["set-cookie"]
    assert cookie.startswith("__Secure-roadbed_session=")
    assert "Secure" in cookie.split("; ")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [({}, True), ({"x-forwarded-proto": "https"}, True), ({"x-forwarded-proto": "https, http"}, False)],
)
def test_behind_a_proxy_the_cookie_is_secure_unless_it_took_plain_http(
    forwarded: dict[str, str], expected: bool
) -> None:
    with Deployment(behind_proxy=True).client(None) as client:
        answer = client.post("/console/sign-in", data={"key": "admin-key"}, headers=forwarded)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Secure-") is expected
    assert ("Secure" in cookie.split("; ")) is expected


def test_a_wrong_key_gets_a_page_that_says_so_and_does_not_repeat_it(stranger: TestClient) -> None:
    answer = stranger.post("/console/sign-in", data={"key": "rbk_wrong_key"})
    assert answer.status_code == 401
    assert "This key is not valid" in answer.text
    assert "rbk_wrong_key" not in answer.text
    assert "set-cookie" not in answer.headers


def test_a_link_is_spent_by_the_button_and_only_once(deployment: Deployment, stranger: TestClient) -> None:
    for _ in range(3):
        page = stranger.get("/console/sign-in?token=rbs_abc")
        assert page.status_code == 200
        assert 'name="token" value="rbs_abc"' in page.text
    assert deployment.tokens.redeemed == 0
    assert stranger.post("/console/sign-in", data={"token": "rbs_abc"}).status_code == 303
    assert "What to do next" in stranger.get("/console").text
    again = stranger.post("/console/sign-in", data={"token": "rbs_abc"})
    assert again.status_code == 401
    assert "not valid any more" in again.text


def test_signing_out_ends_the_session(admin: TestClient) -> None:
    token, copied = form_token(admin), dict(admin.cookies)
    answer = admin.post("/console/sign-out", data={"form_token": token})
    assert answer.headers["location"] == "/console/sign-in"
    assert admin.get("/console").status_code == 303
    cookie = "; ".join(f"{name}={value}" for name, value in copied.items())
    assert (
        admin.get("/console/overview.json", headers={"cookie": cookie}).status_code == 401
    )  # a copy is good for nothing


def test_a_revoked_key_ends_its_sessions(deployment: Deployment, admin: TestClient) -> None:
    assert admin.get("/console").status_code == 200
    deployment.keys.revoked.append("k-admin")
    assert admin.get("/console").status_code == 303
    twin = admin.get("/console/overview.json")
    assert twin.status_code == 401
    assert twin.json()["code"] == "auth.session_refused"


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example",
        "//evil.example",
        "/console//evil\r\nx: y",
        "/consolevil",
        "/console/\\evil",
        "/console/../evil",
        "/console/%2E%2e/evil",
        "",
        "/console/sign-in",
    ],
)
def test_only_pages_of_the_console_are_gone_to(address: str) -> None:
    assert safe_next(address) == "/console"


@given(st.text())
def test_whatever_is_asked_for_stays_in_the_console(address: str) -> None:
    assert safe_next(address).startswith("/console")


def test_a_form_of_another_site_is_refused(stranger: TestClient) -> None:
    for headers in (
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        answer = stranger.post("/console/sign-in", data={"key": "admin-key"}, headers=headers)
        assert answer.status_code == 403, headers
        assert "set-cookie" not in answer.headers
    for headers in ({"origin": "http://testserver"}, {"origin": "null", "sec-fetch-site": "same-origin"}):
        assert stranger.post("/console/sign-in", data={"key": "admin-key"}, headers=headers).status_code == 303
