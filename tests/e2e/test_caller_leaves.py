"""A caller who leaves stops the endpoint within a second, whatever its dialect, and what was used is settled.

Over a real server and real sockets. Each endpoint has begun its answer and then fallen silent; one of each has not
begun at all.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from roadbed.testing.scripted_model import LoggedRequest, Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ADMIN_KEY, ModelThread, Server, eventually, serving, temporary_folder, write_files
from .test_any_to_any import frame, sse

pytestmark = pytest.mark.services  # a server of its own

ENDPOINTS = ("openai", "responses", "anthropic", "gemini", "bedrock", "ollama")
BEGUN = "Hi, here is what was found in "
SEEN = "Hi, here"
MANIFEST = """\
name: leaving
endpoints:
  at-openai: {{type: openai, url: "{root}/v1", model: m, {rest}}}
  at-responses: {{type: responses, url: "{root}/v1", model: m, {rest}}}
  at-anthropic: {{type: anthropic, url: "{root}", model: m, {rest}}}
  at-gemini: {{type: gemini, url: "{root}/v1beta", model: gemini-2.5-flash, key: env:K, {rest}}}
  at-bedrock: {{type: bedrock, url: "{root}", region: eu-central-1, key: env:K, model: "eu.x:0", {rest}}}
  at-ollama: {{type: ollama, url: "{root}", model: m, {rest}}}
models:
"""
REST = "price_input: 1000, price_output: 4000, first_event: 20s, stall: 20s"
PATHS = {
    "at-responses": "/v1/responses",
    "at-gemini": "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    "at-bedrock": "/model/eu.x%3A0/converse-stream",
    "at-ollama": "/api/chat",
}
SCRIPTED_PATHS = ("/v1/chat/completions", "/v1/messages")
CLOSED_WITHIN_S = 1.0
CASES = [(route, way, "/v1/chat/completions") for route in ENDPOINTS for way in ("streamed", "whole", "not begun")]
CASES += [(route, "streamed", path) for route in ("openai", "gemini") for path in ("/v1/responses", "/v1/messages")]


def beginnings() -> dict[str, Reply]:
    """By endpoint: the events up to the first words."""
    responses = sse(
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message"}},
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": BEGUN},
    )
    gemini = sse({"candidates": [{"content": {"role": "model", "parts": [{"text": BEGUN}]}}]})
    frames = frame("messageStart", {"role": "assistant"})
    frames += frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": BEGUN}})
    ollama = json.dumps({"message": {"role": "assistant", "content": BEGUN}, "done": False}).encode() + b"\n"
    bodies: dict[str, tuple[str, bytes | None]] = {
        "at-responses": ("text/event-stream", responses.body),
        "at-gemini": ("text/event-stream", gemini.body),
        "at-bedrock": ("application/vnd.amazon.eventstream", frames),
        "at-ollama": ("application/x-ndjson", ollama),
    }
    return {
        name: Reply(headers={"content-type": kind}, body=body, stall_after=0) for name, (kind, body) in bodies.items()
    }


@dataclass
class Site:
    """The server and the one upstream that speaks all dialects."""

    server: Server
    model: ModelThread

    def answer(self, way: str) -> None:
        """How answers begin before they fall silent, for requests that are sent on in this way."""
        self.model.script(Rule("", Reply(parts=(BEGUN, "three places"), text=BEGUN, stall_after=2)))
        posts = self.model.model.posts
        posts.clear()
        if way == "not begun":
            posts.update(dict.fromkeys((*PATHS.values(), *SCRIPTED_PATHS), Reply(hang=True)))
            return
        posts.update({PATHS[name]: reply for name, reply in beginnings().items()})
        if way == "whole":  # the dialects of the scripted model are asked for the whole then
            half = Reply(headers={"content-type": "application/json"}, body=b'{"id": "1", ', stall_after=0)
            posts.update(dict.fromkeys(SCRIPTED_PATHS, half))

    def call(self, endpoint: str) -> LoggedRequest | None:
        """The one request that came upstream, once it is there."""
        assert len(self.model.model.chats) < 2, endpoint
        return self.model.model.chats[0] if self.model.model.chats else None

    def calls_of(self, endpoint: str) -> dict[str, Any]:
        """What usage says of an endpoint."""
        rows = self.server.get("/api/usage", by="endpoint")["rows"]
        return next((row for row in rows if row["endpoint"] == endpoint), {"calls": 0, "cost_microusd": 0})


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    model = ModelThread()
    routes = "".join(f"  {name}: {{ladder: [at-{name}]}}\n" for name in ENDPOINTS)
    try:
        with temporary_folder() as folder:
            manifest = MANIFEST.format(root=model.model.root, rest=REST) + routes
            workspace = write_files(folder / "leaving", {"roadbed.yaml": manifest})
            with serving(workspace, folder / "state", variables={"K": "a-key"}) as running:
                yield Site(running, model)
    finally:
        model.stop()


def send(server: Server, path: str, body: dict[str, Any]) -> socket.socket:
    """A request on a connection of its own, of which nothing was read yet."""
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: {len(raw)}\r\n"
    made = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    made.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + raw)
    return made


def read_until(connection: socket.socket, text: str) -> None:
    seen = b""
    while text.encode() not in seen:
        piece = connection.recv(65_536)
        assert piece, seen
        seen += piece


@pytest.mark.parametrize(("route", "way", "path"), CASES)
def test_the_endpoint_is_left_within_a_second_and_its_usage_is_settled(
    site: Site, route: str, way: str, path: str
) -> None:
    endpoint = f"at-{route}"
    site.answer(way)
    before = site.calls_of(endpoint)
    asked: dict[str, Any] = {"model": route, "stream": way == "streamed"}
    asked |= {"input": "Hello"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "Hello"}]}
    if path == "/v1/messages":
        asked["max_tokens"] = 50
    with send(site.server, path, asked) as connection:
        upstream = eventually(lambda: site.call(endpoint), what="the request upstream")
        if way == "streamed":
            read_until(connection, SEEN)
        assert not upstream.closed.is_set()
    eventually(upstream.closed.is_set, within_s=CLOSED_WITHIN_S, what="the end of the upstream connection")
    eventually(lambda: not in_flight(site.server, endpoint), what="the place given back")
    after = eventually(
        lambda: found if (found := site.calls_of(endpoint))["calls"] > before["calls"] else None, what="usage"
    )
    assert after["calls"] == before["calls"] + 1
    assert after["cost_microusd"] > before["cost_microusd"], "what went in is paid at least"
    last = site.server.get("/api/traces", app=route)["traces"][0]
    assert (last["status"], last["error_code"]) == ("cancelled", "client_left")


def in_flight(server: Server, endpoint: str) -> int:
    found = server.get("/api/models")["endpoints"]
    return int(next(row["in_flight"] for row in found if row["endpoint"] == endpoint))
