"""A data system that is away: told to those who run the deployment, whichever process they ask; all else goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from roadbed.testing.flaky_endpoint import refused_port

from .serving import Server, eventually, launch, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """\
name: systems
sources:
  docs: {type: files, path: docs}
  ghost:
    type: postgres
    dsn: env:GHOST_DSN
    tables: {orders: {title: "Order {id}", text: "{id}"}}
collections:
  company: {sources: [docs, ghost.orders]}
apps:
  search: {kind: search, knowledge: [company]}
"""


def is_told_away(server: Server) -> bool:
    (found,) = server.get("/api/status")["connections"]
    return found["pool"] is not None and not found["well"]


def test_a_source_that_is_away_is_told_and_holds_nothing_up(scratch: Path) -> None:
    workspace = write_files(scratch / "systems", {"docs/fees.md": "# Fees\n\nA rush order costs 35 % extra.\n"})
    (workspace / "roadbed.yaml").write_text(MANIFEST)
    dsn = f"postgresql://reader:not-shown@127.0.0.1:{refused_port()}/shop"
    server = launch(workspace, scratch / "state", "--workers", "2", wait=False, variables={"GHOST_DSN": dsn})
    try:
        found = scratch / "state" / "run" / "cli.json"
        eventually(found.exists, within_s=60, what="the server")
        server.ready = json.loads(found.read_text())
        for _ in range(2):  # a few failures in a row open the breaker
            server.post("/api/ingest", {"source": "ghost.orders"})
        eventually(lambda: is_told_away(server), within_s=30, what="the breaker")
        rows = {row["name"]: row for row in server.get("/api/sources")}
        assert rows["ghost.orders"]["connection"]["pool"]["breaker"] in ("open", "half_open")
        assert rows["docs"]["connection"] is None
        assert server.get("/readyz")["ready"]
        member = server.new_key("office")["key"]
        with server.client(member) as client:
            assert client.get("/api/status").json()["connections"] == []
            assert "ghost" not in json.dumps([row["connection"] for row in client.get("/api/sources").json()])
        doctor = server.cli("doctor", str(workspace), "--port", "0")
        assert "source: ghost" in doctor.stdout, doctor.stdout
        assert "it is away" in doctor.stdout
        assert "not-shown" not in doctor.stdout + server.output
    finally:
        assert server.stop() == 0, server.output
