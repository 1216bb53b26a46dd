"""Keys of teams and apps over real HTTP: what they may call, from where, until when; and two keys in one request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .serving import ADMIN_KEY, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """
name: keys
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: m}
models:
  fast: {ladder: [lab], deadline: 2s}
  slow: {ladder: [lab], deadline: 2s}
"""
CHAT = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "keys", {"roadbed.yaml": MANIFEST})
        with serving(workspace, folder / "state", "--behind-proxy") as running:
            yield running


def made(server: Server, *words: str) -> dict[str, Any]:
    done = server.cli("keys", *words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def code_of(response: Any) -> str:
    body = response.json()
    return str(body["error"]["code"] if "error" in body else body["code"])


def test_a_key_is_bound_to_models_and_addresses(server: Server) -> None:
    key = made(server, "create", "--team", "sales", "--models", "fast,other", "--expires", "30d", "--ip", "10.0.0.0/8")
    assert (key["models"], key["ip"]) == (["fast", "other"], ["10.0.0.0/8"])
    assert next(k for k in server.get("/api/keys") if k["id"] == key["id"])["ip"] == ["10.0.0.0/8"]
    with server.client(key["key"]) as client:
        for _ in range(3):  # one connection, whose head is remembered
            inside = client.post("/v1/chat/completions", json=CHAT, headers={"x-forwarded-for": "1.2.3.4, 10.9.9.9"})
            assert code_of(inside) == "gateway.endpoints_failed"
        for spoofed in ("10.9.9.9, 1.2.3.4", "1.2.3.4"):
            outside = client.post("/v1/chat/completions", json=CHAT, headers={"x-forwarded-for": spoofed})
            assert (outside.status_code, code_of(outside)) == (403, "auth.address_not_allowed")
        assert client.get("/v1/models", headers={"x-forwarded-for": "10.0.0.1"}).status_code == 200
        assert client.get("/v1/models", headers={"x-forwarded-for": "11.0.0.1"}).status_code == 403
        assert client.get("/v1/models").status_code == 403
        other = client.post(
            "/v1/chat/completions", json={**CHAT, "model": "slow"}, headers={"x-forwarded-for": "10.0.0.1"}
        )
        assert (other.status_code, code_of(other)) == (403, "auth.app_not_allowed")


def test_a_rotated_key_has_two_values_for_a_while(server: Server) -> None:
    key = made(server, "create", "--team", "sales")
    with server.client(key["key"]) as client:
        assert client.get("/v1/models").status_code == 200
        rotated = made(server, "rotate", key["id"], "--overlap", "1h")
        assert rotated["id"] == key["id"]
        assert client.get("/v1/models").status_code == 200
        again = made(server, "rotate", key["id"])
        assert client.get("/v1/models").status_code == 401
    for value, status in ((rotated["key"], 401), (again["key"], 200)):
        with server.client(value) as client:
            assert client.get("/v1/models").status_code == status


def test_two_keys_in_one_request_are_refused(server: Server) -> None:
    with server.client() as client:
        for call in (
            client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": "rbk_another"}),
            client.get("/api/keys", headers={"x-api-key": "rbk_another"}),
        ):
            assert (call.status_code, code_of(call)) == (400, "auth.two_keys")


def state_files_with(server: Server, secret: bytes) -> list[str]:
    """The server's files in which a text stands, the log included; not the database's, which holds digests."""
    roots = [server.log, *(path for path in server.state.rglob("*") if path.is_file() and "postgres" not in path.parts)]
    return [path.name for path in roots if secret in path.read_bytes()]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/chat/completions?key={}"),
        ("POST", "/v1/messages?beta=true&x={}"),
        ("GET", "/v1/models?api_key={}"),
        ("GET", "/api/usage?access_token={}"),
        ("GET", "/console/overview?q={}"),
        ("DELETE", "/api/keys/{}"),
        ("POST", "/mcp?access_token={}"),
        ("GET", "/nowhere/{}"),
    ],
)
def test_a_key_in_an_address_is_refused_and_burnt(server: Server, method: str, target: str) -> None:
    key = made(server, "create", "--team", "sales")
    with server.client(key["key"]) as client:
        eventually(lambda: client.get("/v1/models").status_code == 200, what="the key")
        address = target.format(key["key"])
        headers = {} if "/v1/" in target else {"authorization": ""}
        refused = client.request(method, address, json=CHAT if method == "POST" else None, headers=headers)
        assert (refused.status_code, code_of(refused)) == (400, "auth.key_in_address")
        if "/v1/messages" in target:
            assert refused.json()["type"] == "error"
        assert key["key"] not in refused.text
        assert client.get("/v1/models").status_code == 401
    recorded = eventually(
        lambda: [
            record
            for record in server.get("/api/audit", action="keys.exposed")["records"]
            if record["resource"] == key["id"]
        ],
        what="the audit's record",
    )
    assert recorded
    revoked = eventually(
        lambda: [one for one in server.get("/api/keys") if one["id"] == key["id"] and one["state"] == "revoked"],
        what="the end",
    )
    assert revoked
    assert state_files_with(server, key["key"].encode()) == []


def test_an_unknown_key_in_an_address_gets_the_same_answer(server: Server) -> None:
    with server.client(None) as client:
        answers = {client.get(f"/v1/models?key={'rbk_aaaaaaaaaa_' + sign * 43}").text for sign in "ab"}
        genuine = made(server, "create", "--team", "sales")["key"]
        answers.add(client.get(f"/v1/models?key={genuine}").text)
    assert len(answers) == 1


def test_a_value_before_the_rotation_is_burnt_alone(server: Server) -> None:
    key = made(server, "create", "--team", "sales")
    newer = made(server, "rotate", key["id"], "--overlap", "1h")
    with server.client(newer["key"]) as client:
        assert client.get(f"/v1/models?key={key['key']}").status_code == 400
        assert client.get("/v1/models").status_code == 200
    with server.client(key["key"]) as client:
        assert client.get("/v1/models").status_code == 401


def test_the_sign_in_link_goes_on_working(server: Server) -> None:
    token = server.output.partition("/console/sign-in?token=")[2].split()[0]
    with server.client(None) as client:
        shown = client.get(f"/console/sign-in?token={token}")
        assert shown.status_code == 200
        assert token in shown.text
        done = client.post("/console/sign-in", data={"token": token})
        assert (done.status_code, done.headers["location"]) == (303, "/console")


def test_after_the_last_admin_key_was_burnt_the_next_start_makes_another() -> None:
    with temporary_folder() as folder:
        workspace = write_files(folder / "keys", {"roadbed.yaml": "name: last\n"})
        with serving(workspace, folder / "state") as first, first.client() as client:
            assert client.get(f"/api/keys?key={ADMIN_KEY}").status_code == 400
            assert client.get("/api/keys").status_code == 401
            eventually(lambda: "keys.exposed" in first.cli("audit", "query", "--acts").stdout, what="the record")
        assert ADMIN_KEY not in first.output
        with serving(workspace, folder / "state") as second:  # the environment still holds the old one
            assert "stood in an address" in second.output
            made = second.output.partition("admin key ")[2].split()[0]
            for key, status in ((ADMIN_KEY, 401), (made, 200)):
                with second.client(key) as client:
                    assert client.get("/api/keys").status_code == status
