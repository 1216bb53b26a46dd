"""``roadbed source add`` for folders, APIs, buckets and MCP servers: what is asked for, what a first look tells."""

from __future__ import annotations

import json
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.tools.little_servers import STDIO

from roadbed.cli.main import EXIT_CONFIG, EXIT_OK, main
from roadbed.releases.workspace import load_workspace

OK = {"200": {"description": "ok"}}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "paths": {
        "/tickets": {"get": {"operationId": "listTickets", "responses": OK}},
        "/tickets/{id}": {"get": {"operationId": "getTicket", "parameters": [ID], "responses": OK}},
    },
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "leave.md").write_text("# Leave\n")
    (tmp_path / "roadbed.yaml").write_text("name: w\n")
    (tmp_path / "desk.json").write_text(json.dumps(OPENAPI))
    return tmp_path


def added(workspace: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], Any]:
    """What the command printed, and the source as the manifest has it now."""
    name = words[words.index("--name") + 1]
    assert main(["source", "add", "--yes", "--json", "--workspace", str(workspace), *words]) == EXIT_OK
    return json.loads(capsys.readouterr().out), load_workspace(workspace).manifest.sources[name]


def test_a_folder(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, source = added(
        workspace, capsys, "--type", "files", "--name", "handbook", "--path", "docs", "--explore", "--teams", "staff"
    )
    assert (said["is_reachable"], said["names"]) == (True, ["leave.md"])
    assert (source.path, source.explore, source.visible_to) == ("docs", True, ["staff"])
    words = ["source", "add", "--yes", "--type", "files", "--name", "gone", "--path", "nowhere"]
    assert main([*words, "--workspace", str(workspace)]) == EXIT_CONFIG
    assert "the folder nowhere does not exist" in capsys.readouterr().err


def test_a_bucket(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, source = added(
        workspace, capsys, "--type", "objects", "--name", "archive", "--url", f"file://{workspace}/docs/"
    )
    assert (said["is_reachable"], said["names"], source.url) == (True, ["leave.md"], f"file://{workspace}/docs/")
    words = ["--type", "objects", "--name", "far", "--url", "s3://bucket/prefix/", "--endpoint", "http://127.0.0.1:9"]
    said, source = added(workspace, capsys, *words, "--key", "env:NO_ID", "--secret", "env:NO")
    assert not said["is_reachable"]
    assert (source.key, source.secret, source.endpoint) == ("env:NO_ID", "env:NO", "http://127.0.0.1:9")


def test_an_api(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        words = ["--type", "http", "--url", url, "--openapi", "desk.json", "--operations", "getTicket,noSuch"]
        said, source = added(workspace, capsys, *words, "--name", "desk", "--key", "env:DESK", "--private")
        assert (said["tools"], said["operations"]) == (["desk_getTicket"], ["listTickets"])
        assert said["left_out"] == ["noSuch: the document has no such operationId"]
        assert (source.auth.bearer, source.private) == ("env:DESK", True)
        said, _ = added(workspace, capsys, *words, "--name", "closed")
        assert "not public" in said["problem"]
    said, _ = added(workspace, capsys, *words, "--name", "away", "--private")
    assert "takes no connection" in said["problem"]


def test_an_mcp_server(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "notes.py").write_text(STDIO)
    command = shlex.join([sys.executable, "-S", "-E", str(workspace / "notes.py")])
    said, source = added(workspace, capsys, "--type", "mcp", "--name", "notes", "--command", command)
    assert said["is_reachable"], said
    assert "echo" in said["tools"]
    assert "roadbed tools lock --accept notes" in said["next"]
    assert source.command[0] == sys.executable
    said, source = added(workspace, capsys, "--type", "mcp", "--name", "far", "--url", "http://127.0.0.1:9/mcp")
    assert (said["is_reachable"], source.url) == (False, "http://127.0.0.1:9/mcp")


def test_what_is_missing_is_named_for_each_kind(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind, flag in {"files": "--path", "http": "--url", "objects": "--url", "mcp": "--url"}.items():
        words = ["source", "add", "--type", kind, "--name", "x", "--yes", "--workspace", str(workspace)]
        assert main(words) == EXIT_CONFIG
        assert f"{flag} is missing" in capsys.readouterr().err
    assert (workspace / "roadbed.yaml").read_text() == "name: w\n"
