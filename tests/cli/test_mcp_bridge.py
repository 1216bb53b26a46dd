"""The bridge between standard streams and a server, without one."""

from __future__ import annotations

import io

import pytest

from roadbed.cli.connection import Server
from roadbed.cli.main import EXIT_USAGE, main
from roadbed.cli.mcp import Bridge


def test_nothing_is_written_once_standard_input_has_ended() -> None:
    sink = io.BytesIO()
    bridge = Bridge(Server("http://127.0.0.1:1", "key"), io.BytesIO(b"[]\n"), sink)
    bridge.run()
    assert b"one JSON object" in sink.getvalue()
    assert bridge._writing.locked()  # a thread of its own that still listens waits here, and the interpreter may end


def test_without_a_verb_the_help_is_shown_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp"]) == EXIT_USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "roadbed mcp config" in said.err
    assert said.err.rstrip().endswith("roadbed mcp: say config or --stdio")
