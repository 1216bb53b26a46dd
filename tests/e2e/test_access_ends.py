"""Streams of real servers end within a second of their key's or person's end, whichever process they are in."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import httpx2
import pytest
from tests.stopwatch import PATIENCE, Stopwatch

from roadbed.guard.scim import PATCH, USER
from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, Server, eventually, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own with two serving processes

WITHIN_S = 1.0
MANIFEST = """
name: ends
endpoints:
  house: {{type: openai, url: "{url}", model: gamma, local: true}}
models:
  smart: {{ladder: [house], deadline: 120s}}
sources:
  docs: {{type: files, path: docs}}
collections:
  company: {{sources: [docs]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [company], model: smart, prompt: prompts/helpdesk.md}}
identity:
  sign_in: {{issuer: "http://127.0.0.1:9", client_id: x, team: staff}}
"""
FILES = {
    "docs/fees.md": "# Fees\n\nA rush order costs 35 % extra.\n",
    "prompts/helpdesk.md": "You answer questions of the office.\n",
}
CHAT = {"model": "smart", "messages": [{"role": "user", "content": "Count up"}], "stream": True}
STREAMS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", CHAT, "[DONE]"),
    ("/v1/messages", {**CHAT, "max_tokens": 1000}, "message_stop"),
    ("/v1/responses", {"model": "smart", "input": "Count up", "stream": True}, "response.completed"),
]


class Reading:
    """A stream that is read in a thread, on a connection of its own."""

    def __init__(self, server: Server, key: str, path: str, body: dict[str, Any]) -> None:
        self.text = ""
        self.status = 0
        self.ended_s = 0.0
        self._ask = (server, key, path, body)
        self.thread = Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        server, key, path, body = self._ask
        with server.client(key) as client, client.stream("POST", path, json=body) as response:
            self.status = response.status_code
            for piece in response.iter_text():
                self.text += piece
        self.ended_s = time.monotonic()

    def wait_for_text(self) -> None:
        eventually(lambda: "number" in self.text, what="the first text")


@pytest.fixture(scope="module")
def model() -> Iterator[ModelThread]:
    thread = ModelThread()
    yield thread
    thread.stop()


@pytest.fixture(scope="module")
def server(model: ModelThread) -> Iterator[Server]:
    with temporary_folder() as folder:
        workspace = write_files(folder / "ends", {**FILES, "roadbed.yaml": MANIFEST.format(url=model.url)})
        with serving(workspace, folder / "state", "--workers", "2") as running:
            yield running


@pytest.fixture(autouse=True)
def slowly(model: ModelThread) -> None:
    """An answer of a minute and a half."""
    model.script(Rule(".", Reply(text="number " * 900, gap_s=0.1)))


def begun(server: Server, key: str, streams: list[tuple[str, dict[str, Any], str]]) -> list[Reading]:
    """Several of each, so that both processes have some."""
    readings = [Reading(server, key, path, body) for path, body, _ in streams for _ in range(3)]
    for reading in readings:
        reading.wait_for_text()
    return readings


@contextmanager
def ends(readings: list[Reading]) -> Iterator[None]:
    """What is done in the block ends all of them within a second."""
    watch, since_s = Stopwatch(), time.monotonic()
    yield
    for reading in readings:
        reading.thread.join(PATIENCE * WITHIN_S)
    assert watch.elapsed_s() < WITHIN_S
    for reading in readings:
        assert reading.status == 200
        assert reading.ended_s > since_s
        assert "auth.access_ended" in reading.text or "authentication_error" in reading.text
        assert not any(end in reading.text for _, _, end in STREAMS)


def live(server: Server, key: str) -> str:
    def is_known(client: httpx2.Client) -> bool:
        return client.get("/v1/models").status_code == 200

    for _ in range(6):
        with server.client(key) as client:
            eventually(lambda: is_known(client), what="the key")
    return key


def test_a_revoked_key_ends_its_streams_everywhere(server: Server, model: ModelThread) -> None:
    made = server.new_key("staff")
    key = live(server, made["key"])
    other = server.new_key("staff")
    readings, others = begun(server, key, STREAMS), begun(server, live(server, other["key"]), STREAMS[:1])
    with server.client() as admin, ends(readings):
        assert admin.delete(f"/api/keys/{made['id']}").status_code < 300
    cut = [asked for asked in model.model.requests if asked.path.endswith("completions")]
    eventually(lambda: sum(asked.closed.is_set() for asked in cut) == len(readings), what="the end of the calls")
    for reading in others:
        assert reading.thread.is_alive()
        assert "auth." not in reading.text

    def settled() -> list[Any]:
        found = [
            one for one in server.get("/api/traces", limit=100)["traces"] if one["error_code"] == "auth.access_ended"
        ]
        return found if len(found) >= len(readings) else []

    traces = eventually(settled, what="the traces")
    assert {one["status"] for one in traces} == {"refused"}
    assert all(one["output_tokens"] > 0 for one in traces)
    with server.client() as admin, ends(others):
        admin.delete(f"/api/keys/{other['id']}")


def test_a_person_whom_the_directory_switches_off(server: Server) -> None:
    directory = json.loads(server.cli("keys", "create", "--scope", "scim", "--json").stdout)["key"]
    with server.client(live_scim(server, directory)) as scim:
        person = scim.post("/scim/v2/Users", json={"schemas": [USER], "userName": "eve@example.com"}).json()

        def of_the_person() -> dict[str, Any] | None:
            answer = server.post("/api/keys", {"team": "staff", "person": person["id"]})
            return dict(answer.json()) if answer.status_code == 201 else None

        key = live(server, eventually(of_the_person, what="the person's key")["key"])
        readings = begun(server, key, STREAMS)
        off = {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "active", "value": False}]}
        with ends(readings):
            assert scim.patch(f"/scim/v2/Users/{person['id']}", json=off).status_code == 200


def live_scim(server: Server, key: str) -> str:
    with server.client(key) as client:
        eventually(lambda: client.get("/scim/v2/Users").status_code == 200, what="the directory's key")
    return key


def test_a_key_that_expires_in_the_middle(server: Server) -> None:
    rehearsed_s = time.monotonic()
    lasting = server.new_key("staff")
    others = begun(server, live(server, lasting["key"]), STREAMS)
    lives_s = max(4, math.ceil(3 * (time.monotonic() - rehearsed_s)))  # so that all have begun before its end
    made_s = time.monotonic()
    made = server.post("/api/keys", {"team": "staff", "roles": ["member"], "expires": f"{lives_s}s"})
    assert made.status_code == 201, made.text
    readings = begun(server, live(server, made.json()["key"]), STREAMS)
    readings[0].thread.join(made_s + lives_s - time.monotonic())
    with ends(readings):
        pass
    assert all(reading.thread.is_alive() for reading in others)
    with server.client() as admin, ends(others):
        admin.delete(f"/api/keys/{lasting['id']}")


def test_an_app_ends_too(server: Server, model: ModelThread) -> None:
    model.script(Rule(".", Reply(text="A rush order costs 35 % extra [1]. " * 150, gap_s=0.1)))
    made = server.new_key("staff")
    body = {
        "model": "helpdesk",
        "stream": True,
        "messages": [{"role": "user", "content": "What does a rush order cost?"}],
    }
    reading = Reading(server, live(server, made["key"]), "/v1/chat/completions", body)
    eventually(lambda: "rush" in reading.text, what="the first sentence")
    with server.client() as admin, ends([reading]):
        admin.delete(f"/api/keys/{made['id']}")
    found = eventually(
        lambda: [one for one in server.get("/api/traces", limit=5)["traces"] if one["app"] == "helpdesk"],
        what="the trace",
    )
    assert (found[0]["status"], found[0]["error_code"]) == ("refused", "auth.access_ended")
