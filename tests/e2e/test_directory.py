"""A directory over real HTTP: payloads as Entra ID and Okta send them, two serving processes, keys made for one use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx2
import pytest

from roadbed.guard.scim import PATCH, USER

from .serving import Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: directory
sources:
  open: {type: files, path: open}
collections:
  all: {sources: [open]}
apps:
  find: {kind: search, knowledge: [all]}
identity:
  sign_in: {issuer: "http://127.0.0.1:9", client_id: x, team: staff, roles: {ops: auditor}}
"""
OKTA_USER = {
    "schemas": [USER],
    "userName": "okta@example.com",
    "name": {"givenName": "O", "familyName": "K"},
    "emails": [{"primary": True, "value": "okta@example.com", "type": "work"}],
    "displayName": "O K",
    "locale": "en-US",
    "externalId": "00u1",
    "groups": [],
    "password": "1mz050nq",
    "active": True,
}
SECRET = "ghp_" + "Zq3vX9mT2kR8wL5nB7cJ4hF6dS1gP0aYuE4i"
ENTRA_USER = {
    "schemas": [USER, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],
    "externalId": "0a21f0f2",
    "userName": "Entra@example.com",
    "active": True,
    "meta": {"resourceType": "User"},
    "roles": [],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "d", {"roadbed.yaml": MANIFEST, "open/a.md": "# A\n\nApples.\n"})
        with serving(workspace, folder / "state", "--workers", "2") as running:
            yield running


@pytest.fixture
def scim(server: Server) -> Iterator[httpx2.Client]:
    made = json.loads(server.cli("keys", "create", "--scope", "scim", "--name", "IdP", "--json").stdout)
    with server.client(made["key"]) as client:
        client.base_url = f"{server.url}/scim/v2"
        eventually(lambda: client.get("/Users").status_code == 200, what="the key")
        yield client


def test_users_as_okta_keeps_them(scim: httpx2.Client) -> None:
    assert scim.get("/Users", params={"filter": 'userName eq "okta@example.com"'}).json()["totalResults"] == 0
    made = scim.post("/Users", json=OKTA_USER)
    assert (made.status_code, made.headers["content-type"]) == (201, "application/scim+json")
    user = made.json()
    assert "password" not in user
    assert user["meta"]["location"].endswith(f"/scim/v2/Users/{user['id']}")
    taken = scim.post("/Users", json={**OKTA_USER, "userName": "OKTA@example.com"})
    assert (taken.status_code, taken.json()["scimType"], taken.json()["status"]) == (409, "uniqueness", "409")
    found = scim.get("/Users", params={"filter": 'userName eq "OKTA@EXAMPLE.COM"', "startIndex": 1, "count": 1}).json()
    assert (found["totalResults"], found["Resources"][0]["id"]) == (1, user["id"])
    put = scim.put(f"/Users/{user['id']}", json={**OKTA_USER, "displayName": "New"}).json()
    assert (put["displayName"], put["active"]) == ("New", True)
    off = scim.patch(
        f"/Users/{user['id']}", json={"schemas": [PATCH], "Operations": [{"op": "replace", "value": {"active": False}}]}
    )
    assert (off.status_code, off.json()["active"]) == (200, False)
    assert scim.delete(f"/Users/{user['id']}").status_code == 204
    assert scim.get(f"/Users/{user['id']}").status_code == 404


def test_nothing_more_than_is_needed_is_kept_of_a_person(server: Server, scim: httpx2.Client) -> None:
    sent = {
        **OKTA_USER,
        "userName": "least@example.com",
        "externalId": "00u9",
        "title": "Quillwright of the ninth ledger",
        "phoneNumbers": [{"value": "+4722999123", "type": "work"}],
        "addresses": [{"streetAddress": "77 Marram Lane", "locality": "Dunfell"}],
        "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User": {"department": "Brackenworks"},
    }
    made = scim.post("/Users", json=sent)
    assert made.status_code == 201
    add = [{"op": "Add", "path": "nickName", "value": "Tussock"}, {"op": "Add", "path": "title", "value": "Sedgewick"}]
    patched = scim.patch(f"/Users/{made.json()['id']}", json={"schemas": [PATCH], "Operations": add})
    assert patched.status_code == 200
    words = ("Quillwright", "22999123", "Marram", "Dunfell", "Brackenworks", "Tussock", "Sedgewick")
    assert not [word for word in words if word in made.text + patched.text]
    rows = asyncio.run(people_rows(server))
    assert "least@example.com" in rows
    assert not [word for word in words if word in rows]
    for name in ("userName", "displayName"):
        refused = scim.post("/Users", json={**sent, "externalId": "00u8", "userName": "o@x.example", name: SECRET})
        assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidValue")
        assert SECRET not in refused.text


async def people_rows(server: Server) -> str:
    """All that the database holds of people."""
    connection = await asyncpg.connect(server.database_dsn())
    try:
        schema = await connection.fetchval("SELECT schemaname FROM pg_tables WHERE tablename = 'person'")
        rows = await connection.fetch(f'SELECT t::text AS said FROM "{schema}".person t')
    finally:
        await connection.close()
    return "\n".join(row["said"] for row in rows)


def test_what_entra_switches_off_is_over_in_every_process(server: Server, scim: httpx2.Client) -> None:
    user = scim.post("/Users", json=ENTRA_USER).json()
    add = [{"op": "Add", "path": "members", "value": [{"value": user["id"]}]}]
    group = scim.post("/Groups", json={"displayName": "ops", "externalId": "g1", "members": []}).json()
    assert scim.patch(f"/Groups/{group['id']}", json={"schemas": [PATCH], "Operations": add}).status_code == 204
    shown = scim.get("/Groups", params={"excludedAttributes": "members", "filter": 'displayName eq "OPS"'}).json()
    assert "members" not in shown["Resources"][0]
    assert scim.get(f"/Groups/{group['id']}").json()["members"][0]["value"] == user["id"]

    def of_the_person() -> dict[str, Any] | None:
        answer = server.post("/api/keys", {"team": "staff", "person": user["id"]})
        return dict(answer.json()) if answer.status_code == 201 else None

    key = eventually(of_the_person, what="the person's key")["key"]
    clients = [server.client(key) for _ in range(6)]  # connections that fall to both processes
    try:
        eventually(lambda: all(client.get("/v1/models").status_code == 200 for client in clients), what="the key")
        off = [{"op": "Replace", "path": "active", "value": "False"}]
        assert (
            scim.patch(f"/Users/{user['id']}", json={"schemas": [PATCH], "Operations": off}).json()["active"] is False
        )
        eventually(
            lambda: all(client.get("/v1/models").status_code == 401 for client in clients),
            within_s=1.0,
            what="the end of the key",
        )
    finally:
        for client in clients:
            client.close()
    acts = {record["action"] for record in server.get("/api/audit", action="people.*")["records"]}
    assert {"people.users.post", "people.users.patch", "people.groups.patch"} <= acts


def test_errors_have_the_shape_of_scim(server: Server, scim: httpx2.Client) -> None:
    for path, status, kind in (
        ("/Users?filter=title%20sw%20%22x%22", 400, "invalidFilter"),
        ("/Users?startIndex=x", 400, "invalidValue"),
        ("/Users/u_none", 404, None),
    ):
        answer = scim.get(path)
        assert (answer.status_code, answer.json().get("scimType")) == (status, kind)
    assert scim.post("/Users", content=b"{").status_code == 400
    unknown = scim.post("/Groups", json={"displayName": "x", "members": [{"value": "u_none"}]})
    assert (unknown.status_code, unknown.json()["scimType"]) == (400, "invalidValue")
    assert scim.get("/Groups", params={"filter": 'displayName eq "x"'}).json()["totalResults"] == 0
    assert {one["id"] for one in scim.get("/ResourceTypes").json()["Resources"]} == {"User", "Group"}
    with server.client() as admin:
        refused = admin.get("/scim/v2/Users")
        assert (refused.status_code, refused.json()["schemas"]) == (
            403,
            ["urn:ietf:params:scim:api:messages:2.0:Error"],
        )


def test_a_key_made_for_one_use_has_no_other(server: Server, scim: httpx2.Client) -> None:
    key = scim.headers["authorization"].partition(" ")[2]
    question = {"model": "find", "messages": [{"role": "user", "content": "apples"}]}
    assert server.post("/v1/chat/completions", question, key=key).status_code == 403
    assert server.post("/api/search", {"query": "apples"}, key=key).json()["code"] == "auth.scope_missing"
    assert server.post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, key=key).status_code == 403
    with server.client(None) as browser:
        assert browser.post("/console/sign-in", data={"key": key}).status_code == 403
    chat = json.loads(server.cli("keys", "create", "--scope", "chat", "--role", "admin", "--json").stdout)
    assert chat["expires"] is not None
    eventually(lambda: server.post("/v1/chat/completions", question, key=chat["key"]).status_code == 200, what="chat")
    assert server.post("/api/ingest", {}, key=chat["key"]).json()["code"] == "auth.scope_missing"
    assert json.loads(server.cli("keys", "create", "--expires", "never", "--json").stdout)["expires"] is None
