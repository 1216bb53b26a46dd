"""MCP clients against a running deployment: the official Python client in both eras, the bridge, and tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from .conftest import Desk
from .serving import ADMIN_KEY, ROOT, environment

ERAS = ("legacy", "2026-07-28")


def key_of(desk: Desk, team: str) -> str:
    with desk.server.client() as client:
        return str(client.post("/api/keys", json={"team": team, "name": "mcp test"}).json()["key"])


@asynccontextmanager
async def connected(desk: Desk, mode: str, key: str = ADMIN_KEY) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as http,
        Client(streamable_http_client(f"{desk.server.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", ERAS)
async def test_the_official_client_reads_documents_and_prompts(desk: Desk, mode: str) -> None:
    async with connected(desk, mode) as client:
        found = {found.title: found for found in (await client.list_resources()).resources}
        assert {"Fees", "Gifts", "Retention"} <= found.keys()
        contents: Any = (await client.read_resource(str(found["Fees"].uri))).contents
        assert "35 % extra" in contents[0].text
        templates = (await client.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == ["roadbed://documents/{id}"]
        assert (await client.list_prompts()).prompts == []
        await client.list_tools()


@pytest.mark.parametrize("mode", ERAS)
async def test_documents_are_those_that_the_caller_may_read(desk: Desk, mode: str) -> None:
    async with connected(desk, mode, key_of(desk, "board")) as client:
        mine = {found.title: str(found.uri) for found in (await client.list_resources()).resources}
    async with connected(desk, mode, key_of(desk, "staff")) as client:
        theirs = [found.title for found in (await client.list_resources()).resources]
        assert "Merger" in mine
        assert "Merger" not in theirs
        with pytest.raises(Exception, match="no such document"):
            await client.read_resource(mine["Merger"])


def test_the_bridge_speaks_for_programs(desk: Desk) -> None:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    lines: list[Any] = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "resources/list"},
        {"jsonrpc": "2.0", "id": 3, "method": "resources/read", "params": {"uri": "roadbed://documents/none"}},
    ]
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    lines.append({"jsonrpc": "2.0", "id": 4, "method": "server/discover", "params": {"_meta": meta}})
    sent = "".join(json.dumps(line) + "\n" for line in lines) + "no json\n"
    command = [sys.executable, "-m", "roadbed.cli.main", "mcp", "--stdio", "--state", str(desk.server.state)]
    variables = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, input=sent.encode(), capture_output=True, timeout=60, env=environment(desk.server.home, variables)
    )
    assert done.returncode == 0, done.stderr
    answers = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert answers[1]["result"]["protocolVersion"] == "2025-11-25"
    assert {found["title"] for found in answers[2]["result"]["resources"]} >= {"Fees"}
    assert answers[3]["error"]["code"] == -32602
    assert "2025-06-18" in answers[4]["result"]["supportedVersions"]
    assert answers[None]["error"]["code"] == -32700


def test_configurations_hold_no_key(desk: Desk) -> None:
    command = [sys.executable, "-m", "roadbed.cli.main", "mcp", "config", "--state", str(desk.server.state), "--json"]
    variables = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment(desk.server.home, variables))
    shown = json.loads(done.stdout)
    assert set(shown) == {"claude-desktop", "claude-code", "cursor", "vscode", "generic"}
    assert shown["cursor"]["mcpServers"]["roadbed"]["url"] == f"{desk.server.url}/mcp"
    assert shown["claude-desktop"]["mcpServers"]["roadbed"]["args"][:2] == ["mcp", "--stdio"]
    assert "rbk_" not in done.stdout.decode()


def test_without_a_key_there_is_401_and_a_token_in_the_address_is_refused(desk: Desk) -> None:
    with desk.server.client(None) as client:
        assert client.post("/mcp", json={}).status_code == 401
        refused = client.post("/mcp?access_token=eyJhbGciOi.x.y", json={})
        assert refused.json()["code"] == "auth.token_in_query"
        assert client.get("/.well-known/oauth-protected-resource/mcp").status_code == 404
