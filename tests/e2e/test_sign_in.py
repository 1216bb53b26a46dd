"""People who sign in to the console through a real issuer: what they may do, every way it is refused, and logout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from .issuer import CLIENT_ID, CLIENT_SECRET, Issuer
from .serving import Server, eventually, launch, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: people
sources:
  open: {{type: files, path: open}}
collections:
  all: {{sources: [open]}}
apps:
  find: {{kind: search, knowledge: [all]}}
identity:
  sign_in:
    issuer: {issuer}
    client_id: {client}
    client_secret: env:CLIENT_SECRET
    label: Acme
    team: staff
    teams: {{board: board}}
    roles: {{ops: admin}}
"""
EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(issuer: Issuer) -> Iterator[Server]:
    manifest = MANIFEST.format(issuer=issuer.url, client=CLIENT_ID)
    with temporary_folder() as folder:
        workspace = write_files(folder / "people", {"roadbed.yaml": manifest, "open/a.md": "# A\n\nApples.\n"})
        running = launch(workspace, folder / "state", "--workers", "2", variables={"CLIENT_SECRET": CLIENT_SECRET})
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(autouse=True)
def fresh(issuer: Issuer) -> None:
    issuer.claims, issuer.answers = {}, {}


def browser(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, timeout=30, trust_env=False, follow_redirects=False)


def come_back(client: httpx2.Client) -> httpx2.Response:
    """Leave for the issuer, and come back with its answer."""
    left = client.get("/console/sign-in/start", params={"next": "/console/keys"})
    assert left.status_code == 303, left.text
    answer = httpx2.get(left.headers["location"], trust_env=False, follow_redirects=False)
    return client.get(answer.headers["location"])


def test_a_person_signs_in_with_the_roles_of_their_groups(server: Server, issuer: Issuer) -> None:
    issuer.claims = {"name": "Boss", "groups": ["ops"], "sub": "boss"}
    with browser(server) as client:
        assert "Sign in with Acme" in client.get("/console/sign-in").text
        back = come_back(client)
        assert (back.status_code, back.headers["location"]) == (303, "/console/keys")
        eventually(lambda: client.get("/console/keys").status_code == 200, what="the page")
        assert "Make a key" in client.get("/console/keys").text
    issuer.claims = {"sub": "anna"}
    with browser(server) as client:
        assert come_back(client).status_code == 303
        eventually(lambda: client.get("/console").status_code == 200, what="the session")
        assert client.get("/console/keys").status_code == 403
    records = server.get("/api/audit", action="console.sign_in")["records"]
    assert {record["outcome"] for record in records} == {"begun"}


@pytest.mark.parametrize(
    ("claims", "answers"),
    [
        ({}, {"state": "another"}),
        ({}, {"iss": "https://evil.example"}),
        ({}, {"error": "access_denied"}),
        ({}, {"code": "guessed"}),
        ({"nonce": "another"}, {}),
        ({"nonce": None}, {}),
        ({"aud": "somebody-else"}, {}),
        ({"aud": [CLIENT_ID, "x"]}, {}),
        ({"azp": "somebody-else"}, {}),
        ({"iss": "https://evil.example"}, {}),
        ({"exp": 1}, {}),
        ({"sub": None}, {}),
    ],
)
def test_what_does_not_fit_is_refused(
    server: Server, issuer: Issuer, claims: dict[str, Any], answers: dict[str, str]
) -> None:
    if "nonce" in claims:
        signed = issuer.signed
        issuer.signed = lambda typ="JWT", **given: signed(typ, **{**given, **claims})  # type: ignore[method-assign]
    else:
        issuer.claims = claims
    issuer.answers = answers
    with browser(server) as client:
        try:
            back = come_back(client)
        finally:
            issuer.__dict__.pop("signed", None)
        assert back.status_code == 401, back.text
        assert client.get("/console").status_code == 303


def test_an_answer_counts_only_in_the_browser_that_left(server: Server) -> None:
    with browser(server) as victim, browser(server) as attacker:
        left = attacker.get("/console/sign-in/start")
        answer = httpx2.get(left.headers["location"], trust_env=False, follow_redirects=False).headers["location"]
        victim.get("/console/sign-in/start")
        assert victim.get(answer).status_code == 401
        assert attacker.get(answer).status_code == 303
        assert attacker.get(answer).status_code == 401


def test_an_answer_counts_once_though_the_issuer_takes_its_code_again(server: Server, issuer: Issuer) -> None:
    issuer.forgets_used = True
    try:
        with browser(server) as client, browser(server) as thief:
            left = client.get("/console/sign-in/start")
            cookies = left.headers["set-cookie"].partition(";")[0]
            answer = httpx2.get(left.headers["location"], trust_env=False, follow_redirects=False).headers["location"]
            assert client.get(answer).status_code == 303
            for _ in range(4):  # whichever process answers
                back = thief.get(answer, headers={"cookie": cookies})
                assert back.status_code == 401
    finally:
        issuer.forgets_used = False


def test_the_issuer_signs_a_person_out(server: Server, issuer: Issuer) -> None:
    issuer.claims = {"sub": "carl"}
    with browser(server) as client:
        come_back(client)
        eventually(lambda: client.get("/console").status_code == 200, what="the session")
        good: dict[str, Any] = {"sub": "carl", "events": {EVENT: {}}, "typ": "logout+jwt"}
        others: list[dict[str, Any]] = [{"events": {}}, {"nonce": "n"}, {"aud": "other"}, {"sub": None}, {"iat": 1}]
        for wrong in others:
            token = issuer.signed(**{**good, **wrong})
            assert client.post("/console/sign-in/logout", data={"logout_token": token}).status_code == 400
        assert client.get("/console").status_code == 200
        token = issuer.signed(**good)
        assert client.post("/console/sign-in/logout", data={"logout_token": token}).status_code == 200
        eventually(lambda: client.get("/console").status_code == 303, within_s=1.0, what="the end of the session")
