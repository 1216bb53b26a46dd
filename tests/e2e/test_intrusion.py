"""What an intruder, or a careless insider, tries on a running server: nothing is told, nothing breaks, nothing is
logged."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest
from tests.stopwatch import Stopwatch

from .conftest import Desk
from .serving import eventually

pytestmark = pytest.mark.services  # a server, and long

SIGN_IN = "/console/sign-in"
NUL = "%00"


@contextmanager
def signed_in(desk: Desk, key: str) -> Iterator[httpx2.Client]:
    """A browser's client with a session of this key."""
    with desk.server.client(None) as client:
        assert client.post(SIGN_IN, data={"key": key}).status_code == 303
        yield client


def test_another_team_s_sources_apps_and_machines_are_not_told(desk: Desk) -> None:
    """Names and counts of what others have are as telling as the documents; so are addresses of machines."""
    guest = desk.server.new_key("guests")["key"]
    with desk.server.client(guest) as client:
        status = client.get("/api/status").json()
        assert {source["name"] for source in status["sources"]} == {"open", "vault", "inbox"}
        assert "board" not in client.get("/api/sources").text
        assert [app["name"] for app in status["apps"]] == ["search"]
        assert status["models"] == []
    with signed_in(desk, guest) as client:
        for address in ("/console", "/console/overview.json", "/console/documents", "/console/documents.json"):
            page = client.get(address).text
            assert not re.search(r"\bboard\b", page), address
            assert "127.0.0.1" not in page.replace(desk.server.url, ""), address
            assert "stand-in" not in page, address
    with desk.server.client(desk.server.new_key("board")["key"]) as client:
        assert "board" in {source["name"] for source in client.get("/api/sources").json()}


def test_why_a_manifest_is_refused_is_told_to_operators_alone(desk: Desk) -> None:
    manifest = desk.server.workspace / "roadbed.yaml"
    before = manifest.read_text()
    manifest.write_text(before + "codename-falcon: 1\n")
    try:
        eventually(lambda: "falcon" in str(desk.server.get("/api/status")["problem"]), what="the problem")
        with desk.server.client(None) as client:
            assert client.get("/readyz").json()["parts"]["workspace"] != "ok"
            assert "falcon" not in client.get("/readyz").text + client.get("/metrics").text
        staff = desk.server.new_key("staff")["key"]
        with desk.server.client(staff) as client:
            assert "falcon" not in client.get("/api/status").text
        with signed_in(desk, staff) as client:
            assert "falcon" not in client.get("/console").text + client.get("/console/overview.json").text
    finally:
        manifest.write_text(before)
        eventually(lambda: desk.server.get("/api/status")["problem"] is None, what="the recovery")


@pytest.mark.parametrize(
    "path",
    [
        f"/api/documents?source=open&after={NUL}",
        f"/api/documents/{NUL}",
        f"/api/documents/{NUL}/text",
        f"/api/traces?app={NUL}",
        f"/api/traces/{NUL}",
        "/api/traces?limit=%C2%B2",
        "/api/traces?limit=" + "9" * 5000,
        "/api/traces?within=99999999999999999d",
    ],
)
def test_values_that_nothing_can_keep_are_the_caller_s_fault(desk: Desk, path: str) -> None:
    with desk.server.client() as client:
        for _ in range(2):  # on one connection, which a failure would end
            assert client.get(path).status_code in (400, 404), path


def test_bodies_that_nothing_can_keep_are_the_caller_s_fault(desk: Desk) -> None:
    server = desk.server
    with server.client() as client:
        assert client.post("/api/keys", json={"team": "x", "apps": ["\0"]}).status_code == 400
        assert client.post("/api/keys", json={"team": "x", "expires": "99999999999999d"}).status_code == 400
        document = {"name": "a\0b.md", "text": "x", "media_type": "text/\0"}  # made plain, and kept so
        assert client.post("/api/collections/inbox/documents", json=document).status_code == 202
        assert client.post("/api/collections/inbox/documents", json={**document, "name": "\0"}).status_code == 400
        form = {"content-type": "multipart/form-data"}
        answer = client.post("/api/collections/inbox/documents", content=b"x", headers=form)
        assert (answer.status_code, answer.json()["code"]) == (400, "request.invalid")
        late = {"x-roadbed-deadline-ms": "9" * 5000}
        assert client.post("/api/search", json={"query": "x"}, headers=late).status_code == 400


def test_one_hostile_question_does_not_end_the_record_of_others(desk: Desk) -> None:
    server = desk.server
    for question in ("What does a rush\0order cost?", "What does a rush order cost?"):
        trace = server.ask(question, "modelless")["roadbed"]["trace"]

        def is_kept(trace: str = trace) -> bool:
            with server.client() as client:
                return client.get(f"/api/traces/{trace}").status_code == 200

        eventually(is_kept, what="the trace")


def test_a_request_cannot_write_lines_into_the_log(desk: Desk) -> None:
    server = desk.server
    with server.client() as client:
        client.get("/api/documents?source=open%00secret-word-in-a-query&after=%00")
        client.get("/console/%0a2026-01-01%20ERROR%20forged")
        client.get("/api/documents/%00%0aforged-line%1b[31m")
    assert "\nforged" not in server.output
    assert "ERROR forged" not in server.output
    assert "secret-word-in-a-query" not in server.output
    assert "Traceback" not in server.output


def test_a_body_that_is_slow_to_look_through_stops_nobody_else(desk: Desk) -> None:
    """One megabyte of beginnings of keys and addresses once held up every other request for half a minute."""
    worst_s, done = 0.0, threading.Event()

    def send() -> None:
        body = {"model": "nobody", "messages": [{"role": "user", "content": "a@b. 1: ghp_" * 90_000}]}
        desk.server.post("/v1/chat/completions", body)
        done.set()

    sender = threading.Thread(target=send)
    sender.start()
    with desk.server.client() as client:
        while not done.wait(0.02):
            watch = Stopwatch()
            assert client.get("/healthz").status_code == 200
            worst_s = max(worst_s, watch.elapsed_s())
    sender.join()
    assert worst_s < 3.0


def test_a_conversation_that_no_app_reads_is_refused_at_once(desk: Desk) -> None:
    body = {"model": "helpdesk", "messages": [{"role": "user", "content": "ghp_" * 500_000}]}
    answer = desk.server.post("/v1/chat/completions", body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "apps.conversation_too_long")
