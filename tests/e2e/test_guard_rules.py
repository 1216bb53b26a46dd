"""The manifest's rules of the guard and callers' labels, over a real server: refused, kept local, told, and said."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .serving import ModelThread, Server, eventually, serving, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

CARD = "4111 1111 1111 1111"
MAIL = "bob@example.com"
MANIFEST = """\
name: office
endpoints:
  far: {{type: openai, url: "{far}", model: alpha, local: false}}
  near: {{type: openai, url: "{near}", model: beta, local: true, labels: [confidential, "region:eu"]}}
models:
  smart: {{ladder: [far, near]}}
  cloud: {{ladder: [far]}}
guard:
  alerts: "file:hook"
  rules:
    - {{find: [iban], sink: [caller], direction: in, do: block}}
    - {{find: [card], sink: [remote_model], do: alert}}
    - {{find: [card], sink: [remote_model], do: route_local}}
    - {{find: [phone], sink: [caller], direction: out, do: mask}}
    - {{label: restricted, sink: [caller], do: block}}
"""


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that keeps what is posted to it."""
    bodies: list[dict[str, Any]] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *values: Any) -> None:
            return

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def chat(server: Server, text: str, model: str = "smart", **headers: str) -> Any:
    """The response to one message."""
    with server.client() as client:
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post("/v1/chat/completions", json=body, headers=names)


def test_rules_and_labels_of_a_running_server(scratch: Path) -> None:
    far, near = ModelThread(), ModelThread()
    try:
        with webhook() as (address, told):
            manifest = MANIFEST.format(far=far.url, near=near.url)
            workspace = write_files(scratch / "w", {"roadbed.yaml": manifest, "hook": address})
            with serving(workspace, scratch / "state") as server:
                _check(server, far, near, told)
    finally:
        far.stop()
        near.stop()


def _check(server: Server, far: ModelThread, near: ModelThread, told: list[dict[str, Any]]) -> None:
    plain = chat(server, "hello")
    assert plain.status_code == 200
    assert plain.json()["roadbed"]["endpoint"] == "far"
    assert "labels" not in plain.json()["roadbed"]
    assert "x-roadbed-label" not in plain.headers

    refused = chat(server, "pay to GB29 NWBK 6016 1331 9268 19")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "guard.blocked")
    assert "guard.rules[0]" in refused.text
    assert "NWBK" not in refused.text

    kept = chat(server, f"I paid with {CARD}")
    assert kept.status_code == 200, kept.text
    assert kept.json()["roadbed"]["endpoint"] == "near"
    assert kept.json()["roadbed"]["labels"] == ["public", "local-only", "personal"]
    assert kept.headers["x-roadbed-label"] == "public,local-only,personal"
    assert CARD in str(near.model.requests)
    assert CARD not in str(far.model.requests)
    nowhere = chat(server, f"I paid with {CARD}", "cloud")
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (403, "gateway.no_candidate")

    said = eventually(lambda: [body for body in told if body["type"] == "card"], what="the alert")
    assert said[0] | {"count": 1} == {
        "event": "guard", "workspace": "office", "rule": "guard.rules[1]", "do": "alert", "type": "card",
        "sink": "remote_model", "team": said[0]["team"], "count": 1,
    }  # fmt: skip
    with server.client() as client:
        assert (
            'roadbed_guard_rules_total{rule="guard.rules[0]",do="block",sink="caller"} 1' in client.get("/metrics").text
        )

    masked = chat(server, "call +47 22 33 44 55 please")
    assert "+47 22 33 44 55" not in masked.text
    assert "[PHONE]" in masked.text

    raised = chat(server, "hello", x_roadbed_label="confidential,region:eu")
    assert raised.json()["roadbed"]["endpoint"] == "near"
    assert raised.headers["x-roadbed-label"] == "confidential,region:eu"
    crossing = chat(server, "hello", x_roadbed_label="region:us")
    assert (crossing.status_code, crossing.json()["error"]["code"]) == (403, "gateway.no_candidate")
    assert "must stay in us" in crossing.text
    unheard = chat(server, "hello", x_roadbed_label="restricted")
    assert (unheard.status_code, unheard.json()["error"]["code"]) == (403, "guard.blocked")
    assert "guard.rules[4] does not let data labelled restricted go to the sink caller" in unheard.text
    assert chat(server, "hello", x_roadbed_label="nonsense label!").status_code == 400

    assert "would be asked first" in server.cli("explain-route", "smart").stdout
    words = ("routes", "explain", "smart", "--label", "confidential,region:eu", "--json")
    found = json.loads(server.cli(*words).stdout)
    assert found["would_ask"] == "near"
    assert found["left_out"] == ["far: not cleared for confidential; "
                                 "it is in outside, and this must stay in eu"]  # fmt: skip
