"""Two persons over real HTTP and two processes: promotions, models, tool calls, and the rule itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from roadbed.guard.scim import USER

from .serving import Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: duties
access: {two_persons: [promotions, approvals, models]}
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: m}
models:
  smart: {ladder: [lab], deadline: 2s}
sources:
  open: {type: files, path: open}
  shop: {type: postgres, dsn: "embedded:shop", write_dsn: "embedded:shop", seed: shop.sql}
tools:
  cancel: {source: shop, description: Cancels., effect: write, sql: "DELETE FROM orders WHERE id = :id",
           parameters: {id: {type: integer}}}
collections:
  all: {sources: [open]}
apps:
  desk: {kind: copilot, knowledge: [all], prompt: desk.md}
identity:
  sign_in: {issuer: "http://127.0.0.1:9", client_id: x, team: staff}
"""
SEED = "CREATE TABLE orders (id integer PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 9);"
FILES = {"roadbed.yaml": MANIFEST, "desk.md": "Be brief.", "shop.sql": SEED, "open/a.md": "# A\n\nApples.\n"}
ADMIN = ("member", "admin")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "d", FILES)
        with serving(workspace, folder / "state", "--workers", "2") as running:
            yield running


@pytest.fixture(scope="module")
def people(server: Server) -> dict[str, str]:
    """Two people with two keys each, as their ids and the keys' values."""
    scim = json.loads(server.cli("keys", "create", "--scope", "scim", "--json").stdout)["key"]
    found: dict[str, str] = {}
    with server.client(scim) as client:
        eventually(lambda: client.get("/scim/v2/Users").status_code == 200, what="the key")
        for name in ("ada", "bob"):
            user = {"schemas": [USER], "userName": f"{name}@example.com", "displayName": name, "active": True}
            found[name] = client.post("/scim/v2/Users", json=user).json()["id"]
    for name in ("ada", "bob"):
        for number in (1, 2):
            body = {"team": "staff", "roles": ADMIN, "person": found[name], "name": f"{name} {number}"}
            made = eventually(lambda body=body: _made(server, body), what="a person's key")  # type: ignore[misc]
            found[f"{name}{number}"] = made["key"]
    for key in ("ada1", "ada2", "bob1", "bob2"):
        with server.client(found[key]) as client:
            eventually(lambda: client.get("/api/approvals").status_code == 200, what=key)
    return found


def _made(server: Server, body: dict[str, Any]) -> dict[str, Any] | None:
    response = server.post("/api/keys", body)
    return dict(response.json()) if response.status_code == 201 else None


def releases(server: Server) -> dict[str, Any]:
    return next(one for one in server.get("/api/releases") if one["app"] == "desk")


def waiting(server: Server, duty: str) -> list[dict[str, Any]]:
    return [one for one in server.get("/api/approvals")["approvals"] if one["duty"] == duty]


def test_a_saved_change_waits_and_its_promoter_is_not_its_approver(server: Server, people: dict[str, str]) -> None:
    before = releases(server)
    assert (before["live"] is not None, before["candidate"]) == (True, None), "the first release serves"
    (server.workspace / "desk.md").write_text("Be long.")
    eventually(lambda: releases(server)["candidate"], what="the candidate")
    [saved] = eventually(lambda: waiting(server, "promotions"), what="the request")
    assert (saved["asker"], saved["subject"]) == (None, "desk")
    promote = "/api/releases/desk/promote"

    asked = server.post(promote, {"reason": "evaluated"}, key=people["ada1"])
    assert (asked.status_code, asked.json()["asker_name"]) == (202, "ada 1")
    assert "roadbed approvals approve" in asked.json()["hint"]
    again = server.post(promote, {}, key=people["ada2"])
    assert (again.status_code, again.json()["id"]) == (202, asked.json()["id"]), "her second key is no second person"
    path = f"/api/approvals/{asked.json()['id']}"
    own = server.post(f"{path}/approve", {}, key=people["ada2"])
    assert (own.status_code, own.json()["code"]) == (403, "access.own_request")
    assert "keys create" in own.json()["hint"]
    made = server.post(f"{path}/approve", {})  # the admin's key, which made ada's and knows its value
    assert (made.status_code, made.json()["code"]) == (403, "access.own_request")
    assert releases(server)["live"] == before["live"]

    shown = server.cli("approvals", "list")
    assert "ada 1" in shown.stdout
    assert "evaluated" in shown.stdout
    done = server.post(f"{path}/approve", {}, key=people["bob1"])
    assert done.status_code == 200, done.text
    assert releases(server) == {**before, "live": saved["digest"], "candidate": None}
    [newest, *_] = server.get("/api/releases/desk")["history"]
    assert (newest["actor"], newest["reason"]) == ("ada 1, approved by bob 1", "evaluated")
    assert server.post(f"{path}/approve", {}, key=people["bob1"]).json()["code"] == "access.request_gone"
    acts = {record["action"] for record in server.get("/api/audit", action="two_persons.*")["records"]}
    assert {"two_persons.on", "two_persons.asked", "two_persons.approved"} <= acts

    # What served once is gone back to by one person; what never served is not.
    assert server.post("/api/releases/desk/rollback", {}, key=people["ada1"]).status_code == 200
    (server.workspace / "desk.md").write_text("Be evil.")
    new = eventually(lambda: next((w for w in waiting(server, "promotions") if w["digest"] != saved["digest"]), None))
    sideways = server.post("/api/releases/desk/rollback", {"digest": new["digest"]}, key=people["ada1"])
    assert (sideways.status_code, sideways.json()["code"]) == (403, "access.second_person_needed")
    # The second of two who promote the same agrees.
    assert server.post(promote, {}, key=people["bob1"]).status_code == 202
    assert server.post(promote, {}, key=people["ada1"]).status_code == 200


def test_an_app_that_comes_back_waits_too(server: Server, people: dict[str, str]) -> None:
    renamed = MANIFEST.replace("desk: {", "desk2: {")
    (server.workspace / "roadbed.yaml").write_text(renamed)
    eventually(lambda: [one for one in server.get("/api/releases") if one["app"] == "desk2"], what="the new app")
    (server.workspace / "roadbed.yaml").write_text(MANIFEST)
    back = eventually(lambda: next((one for one in server.get("/api/releases") if one["app"] == "desk"), None))
    assert (back["live"], back["candidate"] is not None) == (None, True)
    assert server.post("/api/releases/desk/promote", {}, key=people["ada1"]).status_code == 202
    assert server.post("/api/releases/desk/promote", {}, key=people["bob2"]).status_code == 200


def test_models_and_calls_of_tools_take_two(server: Server, people: dict[str, str]) -> None:
    path = "/api/governance/models/smart/approve"
    asked = server.post(path, {"by": "Ada"}, key=people["ada1"])
    assert asked.status_code == 202
    assert server.post(path, {"by": "Ada again"}, key=people["ada2"]).status_code == 202
    declined = server.post(f"/api/approvals/{asked.json()['id']}/decline", {"reason": "no"}, key=people["bob1"])
    assert (declined.json()["state"], declined.json()["note"]) == ("declined", "no")
    assert server.post(path, {"by": "Ada"}, key=people["ada1"]).status_code == 202
    assert server.post(path, {"by": "Bob"}, key=people["bob1"]).status_code == 201
    [model] = server.get("/api/governance")["register"]["models"]
    assert (model["is_approved"], model["approved_by"]) == (True, "Ada and Bob")

    call = server.post("/api/tools/cancel/call", {"arguments": {"id": 7}}, key=people["ada1"])
    assert call.status_code == 202, call.text
    approve = f"/api/tools/approvals/{call.json()['approval_id']}/approve"
    own = server.post(approve, {}, key=people["ada2"])
    assert (own.status_code, own.json()["code"]) == (403, "access.own_request")
    assert server.post(approve, {}, key=people["bob2"]).json()["data"] == {"rows_changed": 1}


def test_settings_of_no_app_wait_too_and_come_back(server: Server, people: dict[str, str]) -> None:
    def scanned() -> set[str]:
        found = server.post("/api/guard/scan", {"text": "zebra-7 and 4111 1111 1111 1111"}).json()
        return {one["type"] for one in found["findings"]}

    before = scanned()
    assert "custom" not in before
    loosened = MANIFEST + 'guard: {patterns: {zebra: {pattern: "zebra-[0-9]"}}, off: [card]}\n'
    (server.workspace / "roadbed.yaml").write_text(loosened)
    (server.workspace / "policies").mkdir(exist_ok=True)
    [asked] = eventually(
        lambda: [one for one in waiting(server, "promotions") if one["subject"] == "_settings"], what="the settings"
    )
    assert asked["reason"] == "a saved change of guard"
    assert scanned() == before
    assert server.post(f"/api/approvals/{asked['id']}/approve", {}, key=people["ada1"]).status_code == 202
    [mine] = [one for one in waiting(server, "promotions") if one["subject"] == "_settings"]
    assert server.post(f"/api/approvals/{mine['id']}/approve", {}, key=people["ada2"]).status_code == 403
    assert scanned() == before
    assert server.post(f"/api/approvals/{mine['id']}/approve", {}, key=people["bob1"]).status_code == 200
    eventually(lambda: scanned() == (before - {"card"}) | {"custom"}, what="the settings")
    assert server.post("/api/releases/_settings/rollback", {}, key=people["ada1"]).status_code == 200
    eventually(lambda: scanned() == before, what="the settings before")


def _both(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if len(found) == 2 else []


def test_a_saved_file_does_not_drop_the_rule(server: Server, people: dict[str, str]) -> None:
    (server.workspace / "roadbed.yaml").write_text(MANIFEST.replace("promotions, approvals, models", "approvals"))
    dropped = eventually(lambda: _both(waiting(server, "duties")), what="the requests")
    assert {one["subject"] for one in dropped} == {"promotions", "models"}
    assert server.get("/api/approvals")["two_persons"] == ["approvals", "models", "promotions"]
    [models] = [one for one in dropped if one["subject"] == "models"]
    asked = server.post(f"/api/approvals/{models['id']}/approve", {}, key=people["ada1"])
    assert asked.status_code == 202
    path = f"/api/approvals/{asked.json()['id']}/approve"
    assert server.post(path, {}, key=people["ada2"]).status_code == 403
    assert server.post(path, {}, key=people["bob1"]).status_code == 200
    assert server.get("/api/approvals")["two_persons"] == ["approvals", "promotions"]
