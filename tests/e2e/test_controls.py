"""The controls of a real server: all hold; a thing that is broken shows in the list, on every page, and by webhook."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from .serving import ROOT, Server, eventually, serving, write_files

pytestmark = pytest.mark.services  # whole servers, stopped and killed: too long for `make test`

MANIFEST = """\
name: office
endpoints:
  lab: {type: openai, url: "http://127.0.0.1:9/v1", model: m, local: true}
models:
  smart: {ladder: [lab]}
sources:
  notes: {type: files, path: notes}
  inbox: {type: uploads}
collections:
  company: {sources: [notes, inbox]}
apps:
  helpdesk: {kind: copilot, knowledge: [company], model: smart}
audit: {webhook: env:ALARMS}
"""
FILES = {"roadbed.yaml": MANIFEST, "notes/fees.md": "# Fees\n\nThe rush fee is 35 %.\n"}
MUTANTS = ("apps/copilot.py:answer:for_record", "gateway/masking.py", "server/chat.py:_route:scan_sent")


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that takes alarms, and those it took."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def execute(server: Server, sql: str, *arguments: Any) -> None:
    """One statement in the server's database."""

    async def run() -> None:
        connection = await asyncpg.connect(server.database_dsn())
        try:
            schema = await connection.fetchval("SELECT schemaname FROM pg_tables WHERE tablename = 'control_evidence'")
            await connection.execute(f'SET search_path TO "{schema}", public')
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    asyncio.run(run())


def shown(server: Server) -> list[Any]:
    """What a caller sees of sources, models and tools; less when a source was listed last."""
    sources = [
        {name: value for name, value in source.items() if name not in ("listed_at", "attempted_at")}
        for source in server.get("/api/sources")
    ]
    return [sources, server.get("/v1/models"), server.get("/api/tools")]


def page(server: Server, path: str) -> httpx2.Response:
    """A page of the console, signed in as admin."""
    with server.client() as client:
        client.get(client.post("/api/sign-in-links").json()["path"])
        token = client.post("/api/sign-in-links").json()["path"]
    with httpx2.Client(base_url=server.url, follow_redirects=True, trust_env=False) as browser:
        form = {"token": token.partition("token=")[2]}
        browser.post("/console/sign-in", data=form)
        return browser.get(path)


def test_all_controls_hold_and_a_broken_thing_shows_everywhere(scratch: Path) -> None:
    workspace = write_files(scratch / "workspace", FILES)
    with webhook() as (address, taken), serving(workspace, scratch / "state", variables={"ALARMS": address}) as server:
        before = shown(server)
        done = server.cli("controls", "run", "--json")
        records = json.loads(done.stdout)
        assert [(r["control"], r["outcome"], r["problems"]) for r in records if r["outcome"] != "pass"] == []
        assert done.returncode == 0
        assert len(records) == 14
        canary = records[0]
        assert canary["n"] == canary["facts"]["values"] > 60
        assert canary["facts"]["bytes_passed_over"] == 0

        # Nothing of it is left, and nobody sees it.
        assert shown(server) == before
        assert "_canary" not in json.dumps([server.get("/api/keys"), server.get("/api/traces")])
        assert server.post("/v1/chat/completions", {"model": "_canary-local", "messages": []}).status_code in (400, 404)
        assert "hold" in page(server, "/console/compliance").text
        assert 'class="alarm"' not in page(server, "/console").text

        # A person's address in a record, as a guard that was bypassed would leave it.
        execute(
            server,
            "INSERT INTO trace (id, started, app, status, duration_us, question)"
            " VALUES ('t1', now(), 'helpdesk', 'ok', 1, 'write to ada@lovelace.org')",
        )
        broken = server.cli("controls", "run", "stored-text")
        assert broken.returncode == 1
        assert "trace.question hold email" in broken.stdout
        assert "ada@" not in broken.stdout
        assert server.cli("controls", "list").returncode == 1
        for path in ("/console", "/console/keys", "/console/compliance"):
            assert 'class="alarm"' in page(server, path).text, path
        alarm = eventually(lambda: next(iter(taken), None), what="the alarm")
        assert alarm["event"] == "control_failed"
        assert alarm["message"].startswith("stored-text: fail")
        with server.client() as client:
            assert 'roadbed_control_failed{control="stored-text"} 1' in client.get("/metrics").text

        # The evidence is signed, in the audit, and exported the same each time.
        exports = []
        for name in ("one", "two"):
            assert server.cli("controls", "evidence", "--oscal", str(scratch / name)).returncode == 0
            exports.append((scratch / name).read_bytes())
        assert exports[0] == exports[1]
        acts = server.get("/api/audit", action="controls.result")["records"]
        assert len(acts) == 15
        assert server.cli("audit", "verify").returncode == 0


def test_an_app_is_made_ready_and_only_an_approved_model_is_promoted(scratch: Path) -> None:
    manifest = MANIFEST.replace("audit: {webhook: env:ALARMS}", "governance: {require_approval: true}")
    workspace = write_files(scratch / "workspace", {**FILES, "roadbed.yaml": manifest})
    with serving(workspace, scratch / "state") as server:
        lacking = server.cli("ready", "helpdesk", "--json")
        assert lacking.returncode == 1
        items = {item["name"]: item for item in json.loads(lacking.stdout)["items"]}
        assert items["owner"]["state"] == "missing"
        assert items["owner"]["fix"] == "apps.helpdesk.owner: team@example.com"
        assert items["evaluations"]["state"] == "unknown"
        changed = manifest.replace("model: smart}", "model: smart, passages: 5}")
        (workspace / "roadbed.yaml").write_text(changed)
        eventually(lambda: [one for one in server.get("/api/releases") if one["candidate"]], what="the candidate")
        refused = server.cli("promote", "helpdesk")
        assert refused.returncode == 1
        assert "nobody has approved smart" in refused.stderr
        approved = server.cli("models", "approve", "smart", "--by", "Ada")
        assert approved.returncode == 0, approved.stderr
        assert server.cli("promote", "helpdesk").returncode == 0
        assert server.cli("controls", "note-restore", "into a second machine").returncode == 0
        items = {item["name"]: item for item in json.loads(server.cli("ready", "helpdesk", "--json").stdout)["items"]}
        assert items["model approvals"]["state"] == items["backups"]["state"] == "ok"
        assert server.cli("cards", "--out", str(scratch / "cards")).returncode == 0
        assert "by Ada" in (scratch / "cards" / "model-smart.md").read_text()


@pytest.mark.timeout(180)
def test_a_removed_guard_is_seen() -> None:
    only = [word for name in MUTANTS for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "guard" / "mutants.py"), *only],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 mutants killed" in done.stdout
