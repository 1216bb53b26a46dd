"""A workspace's own policies over real HTTP: apps, routes, tools, acts; errors; tests and reasons."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from .serving import Server, eventually, run_cli, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: policed
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: m}
models:
  fast: {ladder: [lab], deadline: 2s}
  slow: {ladder: [lab], deadline: 2s}
sources:
  open: {type: files, path: open, explore: true}
  trips: {type: sqlite, path: trips.sqlite}
collections:
  all: {sources: [open]}
apps:
  desk: {kind: copilot, knowledge: [all]}
  figures:
    kind: analytics
    sources: [trips]
    questions: {by_town: {title: "How many trips?", source: trips, sql: "SELECT town, trips FROM trips"}}
teams:
  sales: {apps: [desk]}
"""
OWN = """
@id("guests-fast-only") forbid (principal in Team::"guests", action == Action::"route.use", resource)
  unless { resource == Route::"fast" };
@id("guests-no-figures") forbid (principal in Team::"guests", action == Action::"app.use", resource == App::"figures");
@id("guests-no-files") forbid (principal in Team::"guests", action == Action::"tool.call", resource)
  when { resource.source == "open" };
@id("ops-manage-keys") permit (principal in Team::"ops", action == Action::"keys.manage", resource);
@id("admins-promote-nothing") forbid (principal, action == Action::"release.promote", resource);
"""
CASES = """
cases:
  - {who: {team: guests}, what: route.use, on: slow, expect: deny}
  - {who: {team: staff}, what: route.use, on: slow, expect: allow}
  - {who: {team: staff, apps: [desk]}, what: route.use, on: slow, expect: deny}
  - {who: {team: guests}, what: tool.call, on: {tool: read, source: open}, expect: deny}
  - {who: {team: ops}, what: keys.manage, expect: allow}
"""
FILES = {"roadbed.yaml": MANIFEST, "open/a.md": "# A\n\nApples are red.\n", "policies/own.cedar": OWN}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "policed", {**FILES, "policies/tests.yaml": CASES})
        with closing(sqlite3.connect(workspace / "trips.sqlite")) as trips:
            trips.executescript("CREATE TABLE trips (town text, trips integer); INSERT INTO trips VALUES ('Oslo', 12);")
        with serving(workspace, folder / "state", "--workers", "2") as running:
            yield running


def test_policies_bound_routes_tools_and_acts(server: Server) -> None:
    guest, staff, ops = (server.new_key(team)["key"] for team in ("guests", "staff", "ops"))
    body = {"messages": [{"role": "user", "content": "hello"}]}
    refused = server.post("/v1/chat/completions", {**body, "model": "slow"}, key=guest)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "auth.not_permitted")
    assert server.post("/v1/chat/completions", {**body, "model": "fast"}, key=guest).status_code != 403
    assert server.post("/v1/chat/completions", {**body, "model": "slow"}, key=staff).status_code != 403
    with server.client(guest) as client:
        assert {model["id"] for model in client.get("/v1/models").json()["data"]} == {"fast", "desk"}
        assert not [tool for tool in client.get("/api/tools").json()["tools"] if tool["source"] == "open"]
    with server.client(staff) as client:
        assert [tool for tool in client.get("/api/tools").json()["tools"] if tool["source"] == "open"]
        assert client.get("/api/keys").status_code == 403
    with server.client(ops) as client:
        assert client.get("/api/keys").status_code == 200
        assert client.get("/api/traces").status_code == 403
    promoted = server.post("/api/releases/desk/promote", {})
    assert (promoted.status_code, promoted.json()["code"]) == (403, "auth.not_permitted")


def test_policies_bound_analytics_at_its_own_addresses(server: Server) -> None:
    guest, staff = (server.new_key(team)["key"] for team in ("guests", "staff"))
    run, ask = "/api/analytics/figures/run/by_town", "/api/analytics/figures/ask"
    assert server.post(run, {}, key=staff).status_code == 200
    for path, body in ((run, {}), (ask, {"question": "How many trips?"})):
        refused = server.post(path, body, key=guest)
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.not_permitted"), path
    with server.client(guest) as client:
        assert client.get("/api/analytics/figures/questions").status_code == 403


def test_an_unknown_name_tells_only_what_the_caller_may_call(server: Server) -> None:
    told = {"guests": {"desk", "fast"}, "sales": {"desk"}, "staff": {"desk", "fast", "slow", "figures"}}
    for team, names in told.items():
        key = server.new_key(team)["key"]
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/messages/count_tokens"):
            body = {"model": "nothing-like-it", "input": "x", "messages": [{"role": "user", "content": "x"}]}
            refused = server.post(path, body, key=key)
            assert refused.status_code == 404, refused.text
            said = refused.json()["error"]["message"].partition("known models: ")[2].rstrip(")")
            assert set(said.split(", ")) == names, (team, path)
        refused = server.post(
            "/v1/chat/completions", {"model": "figurez", "messages": [{"role": "user", "content": "x"}]}, key=key
        )
        assert ("figures" in refused.text) == ("figures" in names), team
        refused = server.post("/api/analytics/nothing-like-it/ask", {"question": "x"}, key=key)
        assert ("figures" in refused.text) == ("figures" in names), team


def test_a_refusal_is_explained(server: Server) -> None:
    done = server.cli("access", "explain", "team:guests", "route.use", "slow", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["allowed"]) == (5, False)
    assert [check["name"] for check in found["checks"] if not check["allows"]] == ["guests-fast-only"]
    assert "guests-fast-only" in found["needed"][0]
    assert server.cli("access", "explain", "team:guests", "route.use", "fast").returncode == 0
    assert server.cli("access", "explain", "team:staff/admin", "keys.manage").returncode == 0
    assert (
        "needed: what the policy ops-manage-keys" in server.cli("access", "explain", "team:staff", "keys.manage").stdout
    )


def test_an_error_keeps_the_old_set_and_a_mended_one_serves(server: Server) -> None:
    path, guest = server.workspace / "policies" / "own.cedar", server.new_key("guests")["key"]
    body = {"model": "slow", "messages": [{"role": "user", "content": "hello"}]}
    path.write_text(OWN.replace("resource.source", "resource.sauce"))
    problem = eventually(lambda: server.get("/api/status")["problem"], what="the problem")
    assert "policies/own.cedar" in problem
    assert "guests-no-files" in problem
    assert server.post("/v1/chat/completions", body, key=guest).status_code == 403
    (server.workspace / "policies" / "more.cedar").write_text("")
    path.write_text(
        OWN.replace('Team::"guests", action == Action::"route.use"', 'Team::"x", action == Action::"route.use"')
    )
    eventually(lambda: server.post("/v1/chat/completions", body, key=guest).status_code != 403, what="the new set")
    assert server.get("/api/status")["problem"] is None
    path.write_text(OWN)
    eventually(lambda: server.post("/v1/chat/completions", body, key=guest).status_code == 403, what="the old set")


def test_the_tests_of_a_workspace_run_without_a_server(tmp_path: Path) -> None:
    workspace = write_files(tmp_path / "w", {**FILES, "trips.sqlite": "", "policies/tests.yaml": CASES})
    done = run_cli("policy", "test", str(workspace), home=tmp_path)
    assert (done.returncode, done.stdout) == (0, "5 of 5 cases hold\n"), done.stderr
    (workspace / "policies" / "tests.yaml").write_text(
        CASES.replace("on: slow, expect: allow", "on: slow, expect: deny")
    )
    done = run_cli("policy", "test", str(workspace), home=tmp_path)
    assert done.returncode == 1
    assert "line 4: route.use is allowed by everyone-uses, expected deny" in done.stdout
    shutil.rmtree(workspace)
