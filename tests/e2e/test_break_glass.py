"""Break-glass over real HTTP and two processes: rights, records, alarm, banner, end, review, and the control."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx2
import pytest

from .serving import ADMIN_KEY, Server, eventually, launch, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """
name: glass
access: {two_persons: [promotions]}
audit: {webhook: env:ALARMS}
sources:
  open: {type: files, path: open}
collections:
  all: {sources: [open]}
apps:
  desk: {kind: search, knowledge: [all]}
"""
START = "/api/access/break-glass"
ORDER = {"reason": "the fees are wrong, call ada@example.com", "minutes": 30}


class Hook:
    """A webhook in a thread."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        told = self.told

        class Take(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *words: Any) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Take)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def server(hook: Hook) -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "g", {"roadbed.yaml": MANIFEST, "open/a.md": "# A\n\nApples.\n"})
        variables = {"ALARMS": f"http://127.0.0.1:{hook.server.server_port}/"}
        running = launch(workspace, folder / "state", "--workers", "2", variables=variables)
        try:
            yield running
        finally:
            running.stop()


def statuses(server: Server, key: str, path: str, times: int = 8) -> set[int]:
    """What fresh connections get, so that both processes answer."""
    found = set()
    for _ in range(times):
        with server.client(key) as client:
            found.add(client.get(path).status_code)
    return found


def standing(server: Server) -> str:
    [control] = [one for one in server.get("/api/controls")["controls"] if one["id"] == "break-glass"]
    return str(control["standing"])


def records(server: Server, glass: str) -> list[dict[str, Any]]:
    found = server.get("/api/audit", limit=200)["records"]
    return [record for record in found if record["detail"].get("break_glass") == glass or record["resource"] == glass]


def requests_under(server: Server, glass: str) -> list[dict[str, Any]]:
    found = server.cli("audit", "query", "--break-glass", glass, "--what", "request", "--json")
    assert found.returncode == 0, found.stderr
    return list(json.loads(found.stdout)["records"])


def test_rights_are_raised_recorded_ended_and_reviewed(server: Server, hook: Hook) -> None:
    auditor, other = (server.new_key("watch", "member", "auditor")["key"] for _ in range(2))
    member = server.new_key("staff")["key"]
    eventually(lambda: statuses(server, other, "/api/traces") == {200}, what="the key")
    assert server.post(START, ORDER, key=member).json()["code"] == "auth.not_permitted"
    assert statuses(server, auditor, "/api/keys") == {403}
    for wrong in ({"reason": "short", "minutes": 5}, {**ORDER, "minutes": 61}, {**ORDER, "minutes": 0}, {"minutes": 5}):
        assert server.post(START, wrong, key=auditor).status_code == 400, wrong

    made = server.post(START, ORDER, key=auditor)
    assert made.status_code == 201, made.text
    glass = made.json()
    assert "ada@example.com" not in made.text
    eventually(lambda: statuses(server, auditor, "/api/keys") == {200}, within_s=2, what="the rights")
    assert server.post(START, ORDER, key=auditor).json()["code"] == "access.break_glass_active"
    [told] = eventually(lambda: [one for one in hook.told if one["event"] == "break_glass"], what="the alarm")
    assert glass["id"] in told["message"]
    assert "ada@example.com" not in told["message"]

    # What is done under it: a change, a read, a promotion that nobody else agrees to, and a key that ends with it.
    key = server.post("/api/keys", {"team": "staff", "expires": "never"}, key=auditor).json()
    assert key["expires"] <= glass["ends"]
    (server.workspace / "roadbed.yaml").write_text(
        MANIFEST.replace("knowledge: [all]", "knowledge: [all], description: New")
    )
    eventually(lambda: server.get("/api/releases/desk")["candidate"], what="the candidate")
    assert server.post("/api/releases/desk/promote", {}).status_code == 202
    assert server.post("/api/releases/desk/promote", {}, key=auditor).status_code == 200
    [move, *_] = server.get("/api/releases/desk")["history"]
    assert "break-glass" in move["actor"]
    with httpx2.Client(base_url=server.url, timeout=30, trust_env=False, follow_redirects=True) as browser:
        browser.post("/console/sign-in", data={"key": ADMIN_KEY})
        for page in ("/console", "/console/keys", "/console/compliance"):
            assert "Break-glass" in browser.get(page).text, page
    eventually(lambda: standing(server) == "fail", what="the control")
    asked = {"model": "desk", "messages": [{"role": "user", "content": "Apples?"}]}
    assert server.post("/v1/chat/completions", asked, key=auditor).status_code == 200
    assert server.post("/v1/chat/completions", asked, key=other).status_code == 200

    reviewed = f"{START}/{glass['id']}/review"
    assert server.post(reviewed, {"note": "fine"}, key=other).json()["code"] == "access.break_glass_unknown"
    ended = server.post(f"{START}/{glass['id']}/end", {}, key=other)
    assert ended.status_code == 200, ended.text
    eventually(lambda: statuses(server, auditor, "/api/keys") == {403}, within_s=1.5, what="the end")
    own = server.post(reviewed, {"note": "fine"}, key=auditor)
    assert (own.status_code, own.json()["code"]) == (403, "access.own_request")
    assert standing(server) == "fail"
    listed = server.cli("access", "review")
    assert "waits for a review" in listed.stdout
    assert server.post(reviewed, {"note": "only what it was for"}, key=other).status_code == 200
    eventually(lambda: standing(server) == "pass", what="the control")

    def whole() -> bool:
        actions = [record["action"] for record in records(server, glass["id"])]
        wanted = {"breakglass.start", "keys.create", "breakglass.use", "releases.promote", "breakglass.end"}
        return wanted | {"breakglass.review"} <= set(actions)

    eventually(whole, what="the records")
    found = eventually(lambda: requests_under(server, glass["id"]), what="the record of the request")
    assert len(found) == 1, "and none of another caller"
    assert not any("ada@example.com" in json.dumps(record) for record in records(server, glass["id"]))


def test_a_use_ends_by_the_clock_and_its_end_is_recorded(server: Server) -> None:
    auditor = server.new_key("watch", "member", "auditor")["key"]
    eventually(lambda: statuses(server, auditor, "/api/traces") == {200}, what="the key")
    done = server.cli(
        *(
            "access",
            "break-glass",
            "--reason",
            "a drill of the runbook",
            "--minutes",
            "1",
            "--json",
            "--url",
            server.url,
        ),
        variables={"ROADBED_API_KEY": auditor},
    )
    glass = json.loads(done.stdout)
    eventually(lambda: statuses(server, auditor, "/api/keys") == {200}, within_s=2, what="the rights")
    import asyncio

    import asyncpg

    async def hurry() -> None:
        connection = await asyncpg.connect(server.database_dsn())
        try:
            schema = await connection.fetchval("SELECT schemaname FROM pg_tables WHERE tablename = 'break_glass'")
            await connection.execute(
                f"UPDATE \"{schema}\".break_glass SET started = started - interval '2 min', ends = now()"
                " + interval '1 second' WHERE id = $1",
                glass["id"],
            )
        finally:
            await connection.close()

    asyncio.run(hurry())
    eventually(lambda: statuses(server, auditor, "/api/keys") == {403}, within_s=15, what="the end by the clock")
    eventually(
        lambda: [one for one in records(server, glass["id"]) if one["outcome"] == "time"],
        within_s=20,
        what="the record of the end",
    )
