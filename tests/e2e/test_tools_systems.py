"""Tools on four kinds of systems through a real server: exact values, cancels, views that turn in circles, states."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import pytest

from .serving import Server, eventually, launch, run_cli, shut, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

CANCELLED_S = 1.0
LONG_ROWS = "SELECT count(*) FROM n a, n b, n c, n d, n e WHERE a.i + b.i + c.i + d.i + e.i = -1"
LONG_SUM = "SELECT sum(sin(a.i) * cos(b.i) + c.i) FROM n a, n b, n c"
MANIFEST = f"""\
name: systems
sources:
  pg: {{type: postgres, dsn: embedded:town, write_dsn: embedded:town, seed: pg.sql, explore: true}}
  lite: {{type: sqlite, path: lite.sqlite, explore: true}}
  duck: {{type: duckdb, path: duck.duckdb, explore: true, connections_max: 1}}
  api: {{type: http, url: "http://127.0.0.1:9/v1", private: true, openapi: api.json, operations: [getOne, upload]}}
  peer: {{type: mcp, url: "http://127.0.0.1:9/mcp"}}
tools:
  exact_pg: {{source: pg, description: d, sql: "SELECT * FROM exact"}}
  exact_lite: {{source: lite, description: d, sql: "SELECT * FROM exact"}}
  exact_duck: {{source: duck, description: d, sql: "SELECT * FROM exact"}}
  slow_pg: {{source: pg, description: d, sql: "SELECT pg_sleep(29)", timeout: 60s}}
  slow_lite: {{source: lite, description: d, sql: "{LONG_ROWS}", timeout: 60s}}
  slow_duck: {{source: duck, description: d, sql: "{LONG_SUM}", timeout: 60s}}
  running_pg:
    source: pg
    description: d
    sql: >-
      SELECT count(*) FROM pg_stat_activity
      WHERE query LIKE '%pg_sleep(29)%' AND pid <> pg_backend_pid() AND state = 'active'
  seldom: {{source: lite, description: d, sql: "SELECT 1", rate: 1/hour}}
  erase: {{source: pg, description: d, effect: irreversible, sql: "DELETE FROM exact"}}
"""
PG = """
CREATE TABLE exact AS SELECT 12345678901234567890.123456789::numeric AS d, '2026-03-29 02:30:00+01'::timestamptz AS t,
  '2026-10-25'::date AS day, '\\x00ff'::bytea AS raw, repeat('ø', 9000) AS huge, 9007199254740993::bigint AS i;
CREATE VIEW a AS SELECT 1 AS x; CREATE VIEW b AS SELECT x FROM a; CREATE OR REPLACE VIEW a AS SELECT x FROM b;
"""
LITE = f"""
CREATE TABLE exact (d text, t text, day text, raw blob, huge text, i integer);
INSERT INTO exact VALUES ('12345678901234567890.123456789', '2026-03-29T02:30:00+01:00', '2026-10-25', x'00ff',
  '{"ø" * 9000}', 9007199254740993);
CREATE TABLE n (i integer); CREATE VIEW a AS SELECT x FROM b; CREATE VIEW b AS SELECT x FROM a;
"""
DUCK = (
    "CREATE TABLE exact AS SELECT CAST('12345678901234567890.123456789' AS DECIMAL(38, 9)) AS d, "
    "TIMESTAMPTZ '2026-03-29 02:30:00+01' AS t, DATE '2026-10-25' AS day, '\\x00\\xff'::BLOB AS raw, "
    "repeat('ø', 9000) AS huge, 9007199254740993::BIGINT AS i",
    "CREATE TABLE n AS SELECT range AS i FROM range(2000)",
)
API = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "paths": {
        "/one": {"get": {"operationId": "getOne", "responses": {"200": {"description": "ok"}}}},
        "/up": {
            "post": {
                "operationId": "upload",
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {"type": "object"}}}},
                "responses": {"200": {"description": "ok"}},
            }
        },
    },
}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with temporary_folder() as folder:
        files = {"roadbed.yaml": MANIFEST, "pg.sql": PG, "api.json": json.dumps(API)}
        workspace = write_files(folder / "systems", files)
        with closing(sqlite3.connect(workspace / "lite.sqlite")) as connection, connection:
            connection.executescript(LITE)
            connection.executemany("INSERT INTO n VALUES (?)", [(number,) for number in range(2000)])
        with duckdb.connect(str(workspace / "duck.duckdb")) as other:
            for sql in DUCK:
                other.execute(sql)
        running = launch(workspace, folder / "state")
        try:
            yield running
        finally:
            assert running.stop() == 0, running.output


def by_api(client: httpx2.Client, tool: str, timeout: float = 20.0, **arguments: Any) -> Any:
    response = client.post(f"/api/tools/{tool}/call", json={"arguments": arguments}, timeout=timeout)
    found = response.json()
    assert found.get("outcome") or response.status_code != 503, found
    return found


def by_mcp(client: httpx2.Client, tool: str, timeout: float = 20.0, **arguments: Any) -> Any:
    params = {"name": tool, "arguments": arguments, "_meta": META}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": tool,
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return client.post("/mcp", json=body, headers=headers, timeout=timeout).json()["result"]


@pytest.mark.parametrize("kind", ["pg", "lite", "duck"])
def test_values_lose_nothing_on_their_way_to_any_client(server: Server, kind: str) -> None:
    with server.client() as client:
        found = by_api(client, f"exact_{kind}")
        assert found["outcome"] == "ok", found
        plain = found["data"]
        over_mcp = by_mcp(client, f"exact_{kind}")
    assert over_mcp["structuredContent"] == plain == json.loads(over_mcp["content"][0]["text"])
    d, t, day, raw, huge, i = plain["rows"][0]
    instant = "2026-03-29T02:30:00+01:00" if kind == "lite" else "2026-03-29T01:30:00+00:00"
    assert (d, t, day, i) == ("12345678901234567890.123456789", instant, "2026-10-25", "9007199254740993")
    assert raw == "(2 bytes, sha256 06eb7d6a69ee19e5)"
    assert huge.startswith("ø" * 8192)
    assert huge.endswith("[cut: 9000 characters in all]")


@pytest.mark.parametrize("way", [by_api, by_mcp])
@pytest.mark.parametrize("kind", ["pg", "lite", "duck"])
def test_who_leaves_ends_the_statement_in_the_system(server: Server, kind: str, way: Any) -> None:
    with server.client() as client, server.client() as leaving:
        assert by_api(client, f"exact_{kind}")["outcome"] == "ok"
        failed: list[type[Exception]] = []

        def leave() -> None:
            try:
                way(leaving, f"slow_{kind}", 60.0)
            except httpx2.TransportError as error:
                failed.append(type(error))

        thread = threading.Thread(target=leave)
        thread.start()
        eventually(lambda: runs(client, kind), what="the statement")
        shut(leaving)
        thread.join()
        assert failed
        eventually(lambda: not runs(client, kind), within_s=CANCELLED_S, what="the end of the statement")
        assert by_api(client, f"exact_{kind}")["outcome"] == "ok"


def runs(client: httpx2.Client, kind: str) -> bool:
    """Whether the statement runs: as PostgreSQL itself says; else whether a thread or a worker is still at it."""
    if kind == "pg":
        return bool(by_api(client, "running_pg")["data"]["rows"][0][0])
    states = {found["name"]: found["pool"] for found in client.get("/api/status").json()["connections"]}
    return states[kind] is not None and bool(states[kind]["in_use"])


def test_views_in_a_circle_are_refused_and_their_source_goes_on(server: Server) -> None:
    with server.client() as client:
        for kind in ("pg", "lite"):
            assert by_api(client, f"{kind}_tables")["outcome"] == "ok"
            refused = by_api(client, f"{kind}_query", sql="SELECT x FROM a")
            assert (refused["status"], refused["outcome"]) == (400, "refused"), refused
            assert by_api(client, f"{kind}_query", sql="SELECT count(*) AS n FROM exact")["data"]["rows"] == [[1]]


def test_every_kind_of_system_shows_how_it_is_reached(server: Server) -> None:
    with server.client() as client:
        for _ in range(4):
            away = by_api(client, "api_getOne")
        assert (away["outcome"], away["source"]) == ("failed", "api"), away
        told = {found["source"]: found for found in by_api(client, "platform_status")["data"]["sources"]}
        assert set(told) == {"pg", "lite", "duck", "api", "peer"}
        assert not told["api"]["is_well"]
        assert told["api"]["last_failure"]
        assert "upload is no tool" in told["api"]["notes"][0]
        assert "none of its tools is approved" in told["peer"]["notes"][0]
        rows = {row["name"]: row for row in client.get("/api/sources").json()}
        assert (rows["api"]["state"], rows["api"]["connection"]["well"]) == ("tools", False)
        assert rows["api"]["problem"]
        parts = client.get("/readyz").json()["parts"]
        assert parts["sources"] == "1 of 5 not answering; 2 with tools held back or left out"
    assert "upload is no tool" in run_cli("check", str(server.workspace), home=server.home).stdout
    doctor = server.cli("doctor", "--json")
    assert "source: api" in doctor.stdout, doctor.stderr
    assert server.cli("ingest").returncode == 0  # sources without documents are not waited for


def test_a_spent_rate_says_when_to_call_again(server: Server) -> None:
    with server.client(server.new_key("others")["key"]) as client:
        assert by_api(client, "seldom")["outcome"] == "ok"
        refused = client.post("/api/tools/seldom/call", json={})
        assert (refused.status_code, refused.json()["code"]) == (429, "limits.rate_limited")
        assert 3500 < int(refused.headers["retry-after"]) <= 3600


def test_approvals_are_decided_on_the_command_line(server: Server) -> None:
    with server.client(server.new_key("others")["key"]) as client:
        asked = by_api(client, "erase")
        listed = server.cli("tools", "approvals", "list")
        assert asked["approval_id"] in listed.stdout, listed.stderr
        assert "1 row of pg" in listed.stdout
        assert server.cli("tools", "approvals", "deny", asked["approval_id"], "--reason", "no").returncode == 0
        again = by_api(client, "erase")
        assert again["outcome"] in ("refused", "needs_approval")
        assert by_api(client, "exact_pg")["data"]["rows"]
        assert asked["approval_id"] in server.cli("tools", "approvals", "list", "--all", "--json").stdout


def test_two_sources_with_one_name_are_told_with_their_line(server: Server, tmp_path: Path) -> None:
    twice = "name: x\nsources:\n  a: {type: sqlite, path: a.sqlite}\n  a: {type: sqlite, path: b.sqlite}\n"
    folder = write_files(tmp_path / "twice", {"roadbed.yaml": twice})
    checked = run_cli("check", str(folder), "--json", home=server.home)
    assert checked.returncode == 3, checked.stdout
    assert any(error["line"] == 4 for error in json.loads(checked.stdout)["errors"]), checked.stdout
