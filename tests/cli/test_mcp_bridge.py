"""The bridge between standard streams and a server, without one."""

from __future__ import annotations

import io

from roadbed.cli.connection import Server
from roadbed.cli.mcp import Bridge


def test_nothing_is_written_once_standard_input_has_ended() -> None:
    sink = io.BytesIO()
    bridge = Bridge(Server("http://127.0.0.1:1", "key"), io.BytesIO(b"[]\n"), sink)
    bridge.run()
    assert b"one JSON object" in sink.getvalue()
    assert bridge._writing.locked()  # a thread of its own that still listens waits here, and the interpreter may end
