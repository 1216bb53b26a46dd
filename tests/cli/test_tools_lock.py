"""``roadbed tools lock`` against a real little server: accept, check, a change, what cannot be approved."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.tools.little_servers import ADD, ECHO, little_server

from roadbed.cli.main import main
from roadbed.kernel.errors import ConfigError
from roadbed.releases.workspace import load_workspace
from roadbed.tools.upstreams.lock import read_lock


async def ask(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = await asyncio.to_thread(main, ["tools", "lock", "--workspace", str(folder), *words])
    output = capsys.readouterr()
    return status, output.out + output.err


async def test_tools_are_accepted_checked_and_reviewed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with little_server() as server:
        (tmp_path / "roadbed.yaml").write_text(f"name: t\nsources:\n  crm: {{type: mcp, url: '{server.url}'}}\n")
        assert (await ask(tmp_path, capsys, "--check"))[0] == 1  # nothing is approved
        status, said = await ask(tmp_path, capsys, "--accept", "crm", "--effect", "echo=read", "--by", "anna")
        assert status == 0
        assert "crm_add (write)" in said
        assert "crm_echo (read)" in said
        assert '+  "description": "Says what it is told.",' in said
        assert read_lock(tmp_path).sources["crm"].approved_by == "anna"
        assert await ask(tmp_path, capsys) == (0, "crm: as it was approved\n")

        hidden: dict[str, Any] = {**ECHO, "name": "sneak", "description": "Says\u200b it."}
        server.tools = [{**ECHO, "description": "Says more."}, ADD, hidden]
        status, said = await ask(tmp_path, capsys, "--check")
        assert status == 1
        assert '-  "description": "Says what it is told.",\n+  "description": "Says more.",' in said
        assert "'sneak' is not approved" in said
        status, said = await ask(tmp_path, capsys, "--accept", "crm", "--json")
        assert (status, json.loads(said)["accepted"]) == (1, {"crm_add": "write", "crm_echo": "read"})
        assert "invisible" in json.loads(said)["left_out"]["sneak"][0]
        assert server.count("tools/call") == 0


async def test_what_does_not_exist_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "roadbed.yaml").write_text("name: t\nsources:\n  crm: {type: mcp, url: 'http://127.0.0.1:1/mcp'}\n")
    status, said = await ask(tmp_path, capsys, "--accept", "erp")
    assert status != 0
    assert "mcp sources: crm" in said
    status, said = await ask(tmp_path, capsys, "--check")
    assert status == 1
    assert "crm: not asked" in said


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{type: mcp}", "either `url` or `command`"),
        ("{type: mcp, url: 'http://x/mcp', command: [x]}", "either `url` or `command`"),
        ("{type: mcp, url: 'ftp://x'}", "http or https"),
        ("{type: mcp, url: 'http://x/mcp', key: abc}", "must be a reference"),
        ("{type: mcp, command: [x], environment: {A: secret}}", "must be a reference"),
        ("{type: mysql, dsn: 'mysql://a:b@c/d'}", "must be a reference"),
        ("{type: duckdb}", "either `path` or `files`"),
        ("{type: duckdb, path: gone.duckdb}", "does not exist"),
    ],
)
def test_a_source_that_cannot_work_is_told_with_its_line(tmp_path: Path, source: str, problem: str) -> None:
    (tmp_path / "roadbed.yaml").write_text(f"name: t\nsources:\n  s: {source}\n")
    with pytest.raises(ConfigError, match=problem) as error:
        load_workspace(tmp_path)
    assert error.value.line == 3


def test_a_broken_lock_is_a_problem_of_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "roadbed.yaml").write_text("name: t\nsources:\n  crm: {type: mcp, url: 'http://127.0.0.1:1/mcp'}\n")
    (tmp_path / "tools.lock").write_text("{")
    with pytest.raises(ConfigError, match=r"tools\.lock"):
        load_workspace(tmp_path)
