"""Which folder and which server commands work on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from roadbed.cli.main import EXIT_OK, main

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "acme"
    (folder / "docs").mkdir(parents=True)
    (folder / "roadbed.yaml").write_text(
        "name: acme\nsources:\n  handbook: {type: files, path: ./docs}\n"
        "collections:\n  company: {sources: [handbook]}\n"
        "apps:\n  helpdesk: {kind: copilot, knowledge: [company]}\n"
    )
    return folder


def served(state_home: Path, name: str, workspace: Path) -> None:
    """What a running server leaves for commands; this process stands for it."""
    folder = state_home / "roadbed" / name / "run"
    folder.mkdir(parents=True)
    known = {"url": "http://127.0.0.1:9", "key": "k", "pid": os.getpid(), "workspace": str(workspace)}
    (folder / "cli.json").write_text(json.dumps(known))


def test_commands_work_on_the_folder_that_is_served_where_this_one_is_no_workspace(
    workspace: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "states"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["check"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("elsewhere: no roadbed.yaml")

    served(tmp_path / "states", "one", workspace)
    assert main(["check"]) == EXIT_OK
    said = capsys.readouterr()
    assert said.out.startswith("acme: roadbed.yaml is valid")
    assert f"workspace: {workspace} (it is served" in said.err
    assert main(["models", "add", "openai"]) == EXIT_OK
    assert "openai/" in (workspace / "roadbed.yaml").read_text()
    assert not list(elsewhere.iterdir())
    capsys.readouterr()
    assert main(["check", "."]) == EXIT_OK  # who names this folder means it
    assert capsys.readouterr().out.startswith("elsewhere: ")

    served(tmp_path / "states", "two", workspace)
    assert main(["check"]) == EXIT_OK
    assert capsys.readouterr().out.startswith("elsewhere: ")
