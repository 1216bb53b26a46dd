"""Real-looking personal data and secrets are planted wherever text comes in; then every byte that was kept is searched.

What a source's stored text may hold by its policy, the personal data of a document, is the only thing left.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Prompt, Reply, failing

from .serving import ModelThread, Server, eventually, serving, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

PLACES = (
    "prompt", "streamed", "nickname", "arguments", "result", "messages", "responses", "app", "searched", "tool",
    "toolrow", "toolerror", "mcp", "filename", "header", "query", "path", "echoed", "cut", "answered", "upload",
    "embedded", "bad", "acted", "keyname", "approver",
)  # fmt: skip
MANIFEST = """\
name: office
endpoints:
  far: {{type: openai, url: "{far}", model: alpha, local: false}}
  near: {{type: openai, url: "{near}", model: beta, local: true}}
models:
  smart: {{ladder: [far]}}
  house: {{ladder: [near]}}
  kept: {{ladder: [far], cache: {{exact: 1h, any_temperature: true}}}}
sources:
  notes: {{type: files, path: notes}}
  inbox: {{type: uploads}}
  crm: {{type: sqlite, path: crm.sqlite, explore: true}}
collections:
  company: {{sources: [notes, inbox]}}
apps:
  helpdesk: {{kind: copilot, knowledge: [company], model: house}}
"""


def mail(place: str) -> str:
    """A person's address, of one place only."""
    return f"{place}.quistgaard@hjemmepost.no"


def secret(place: str) -> str:
    """A key with the right form, of one place only."""
    letters = base64.b32encode(f"{place:-<10}".encode()[:10]).decode()
    return f"AKIA{letters[:16]}"


def both(place: str) -> str:
    """Both in a sentence."""
    return f"I am {mail(place)}, and my key is {secret(place)}."


def forms(value: str) -> Iterator[bytes]:
    """The ways in which a value may lie in a file."""
    raw = value.encode()
    yield from (raw.lower(), value.lower().encode("utf-16-le"), raw.replace(b"@", b"%40").lower())
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        yield encoded[4 if shift else 0 : -4].lower()


def found_in(data: bytes, where: str) -> list[str]:
    """What of all that was planted is in some bytes."""
    low = data.lower()
    hits = []
    for place in PLACES:
        for kind, value in (("mail", mail(place)), ("secret", secret(place))):
            if (kind, place) == ("mail", "filename"):
                continue  # a document's name is part of its stored text
            for form in forms(value):
                if form in low:
                    place_of = low.index(form)
                    around = data[max(0, place_of - 100) : place_of + 100]
                    hits.append(f"{where}: the {kind} of {place}: {around!r}")
                    break
    return hits


def test_nothing_planted_is_left_anywhere(scratch: Path) -> None:
    far, near = ModelThread(), ModelThread()
    workspace = write_files(
        scratch / "w",
        {
            "roadbed.yaml": MANIFEST.format(far=far.url, near=near.url),
            "notes/fees.md": f"# Fees\n\nRush costs 35 %. Ask kept.person@hjemmepost.no. Key {secret('embedded')}.\n",
        },
    )
    with sqlite3.connect(workspace / "crm.sqlite") as database:
        database.execute("CREATE TABLE people (id integer PRIMARY KEY, note text)")
        database.execute("INSERT INTO people VALUES (1, ?)", (both("toolrow"),))
    try:
        with serving(workspace, scratch / "state", "--log-level", "debug") as server:
            _plant(server, far, near)
            eventually(lambda: len(server.get("/api/traces")["traces"]) >= 12 or None, what="the traces")
            traces = server.get("/api/traces", limit="100")["traces"]
            shown = json.dumps([server.get(f"/api/traces/{trace['id']}") for trace in traces])
            with server.client() as client:
                shown += client.get("/metrics").text
    finally:
        far.stop()
        near.stop()
    hits = found_in(shown.encode(), "the API") + found_in(server.output.encode(), "the log")
    seen: set[bytes] = set()  # PostgreSQL's templates are copies of each other
    is_kept = False
    for path in sorted(server.state.rglob("*")):
        data = path.read_bytes().rstrip(b"\0") if path.is_file() and not path.is_symlink() else b""
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            is_kept = is_kept or b"kept.person@hjemmepost.no" in data
            hits += found_in(data, str(path.relative_to(server.state)))
    assert not hits, "\n".join(hits)
    assert is_kept, "the search of the bytes finds what is there"


def _plant(server: Server, far: ModelThread, near: ModelThread) -> None:
    def chat(content: str, model: str = "smart", **more: Any) -> Any:
        return server.post("/v1/chat/completions", {"model": model, "messages": [user(content)], **more})

    def user(content: str) -> dict[str, str]:
        return {"role": "user", "content": content}

    assert chat(both("prompt")).status_code == 200
    assert chat(both("prompt"), "kept").status_code == 200
    assert chat(both("prompt"), "house").status_code == 200
    assert chat(both("streamed"), stream=True).status_code == 200
    called = {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"q": both("arguments")})},
    }
    turns = [
        {**user("hello"), "name": mail("nickname")},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "c1", "content": both("result")},
    ]
    assert server.post("/v1/chat/completions", {"model": "smart", "messages": turns}).status_code == 200
    sent = {"model": "smart", "max_tokens": 50, "messages": [user(both("messages"))]}
    assert server.post("/v1/messages", sent).status_code == 200
    assert server.post("/v1/responses", {"model": "smart", "input": both("responses")}).status_code == 200
    assert chat(f"What is the rush fee? {both('app')}", "helpdesk").status_code == 200
    assert server.post("/api/search", {"query": f"rush fee {both('searched')}"}).status_code == 200
    _tools(server)
    with server.client() as client:
        headers = {"x-customer": both("header"), "user-agent": mail("header"), "x-roadbed-label": mail("header")}
        body = {"model": "smart", "messages": [user("hello")]}
        client.post("/v1/chat/completions", json=body, headers=headers)
        del headers["x-roadbed-label"]
        assert client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
        client.get("/api/traces", params={"app": both("query")})
        client.get(f"/api/documents/{mail('path')}/{secret('path')}")
        client.post("/v1/chat/completions", json={"model": both("bad"), "messages": []})
        client.post("/v1/chat/completions", content=json.dumps({"model": "smart", "x": both("bad")})[:-2])
        client.delete(f"/api/documents/{mail('acted')} {secret('acted')}")
        client.delete(f"/api/keys/{mail('acted')}-{secret('acted')}")
        client.post(f"/api/releases/{mail('acted')} {secret('acted')}/promote")
    for order in ({"team": secret("keyname")}, {"team": "support", "name": f"key {secret('keyname')}"}):
        assert server.post("/api/keys", order).json()["code"] == "auth.key_request_invalid"
    approved = {"by": f"Jane, {secret('approver')}", "note": both("approver")}
    assert server.post("/api/governance/models/smart/approve", approved).status_code == 400
    approved["by"] = "Jane"
    assert server.post("/api/governance/models/smart/approve", approved).status_code == 201
    name = f"{mail('filename')} {secret('filename')}.md"
    refused = server.post("/api/collections/company/documents", {"name": name, "text": "x"})
    assert (refused.status_code, refused.json()["code"]) == (400, "knowledge.secret_in_name")
    text = f"# Note\n\nThe parking fee is 5 kroner. Key {secret('upload')}\n"
    document = {"name": f"{mail('filename')}.md", "text": text}
    assert server.post("/api/collections/company/documents", document).status_code == 202
    eventually(lambda: "parking fee" in server.post("/api/search", {"query": "parking fee"}).text or None, what="it")
    _errors(server, far, near)


def _errors(server: Server, far: ModelThread, near: ModelThread) -> None:
    """Providers that say the prompt again in their errors, before and in the answer, and one that answers with it."""

    def asked(model: str, text: str, *, stream: bool) -> None:
        body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
        server.post("/v1/chat/completions", body)

    for status in (400, 401, 429, 500):
        near.script(Rule(".", partial(_echo, status)))
        far.script(Rule(".", failing(status, both("echoed"), both("echoed"))))
        for model in ("house", "smart"):
            asked(model, both("echoed"), stream=status == 500)
    far.script(Rule(".", Reply(both("cut") + " and more words of it", cut_after=9)))
    asked("smart", "hello", stream=True)
    far.script(Rule(".", Reply(both("cut"), garbage_after=3)))
    asked("smart", "hello", stream=True)
    far.script(Rule(".", Reply(status=502, body=f"<html>{both('echoed')}</html>".encode())))
    asked("smart", "hello", stream=False)
    near.script(Rule(".", Reply(both("answered"))))
    far.script(Rule(".", Reply(both("answered"))))
    for model in ("house", "smart"):
        for stream in (True, False):
            asked(model, "who are you?", stream=stream)
    near.script()
    far.script()


def _echo(status: int, prompt: Prompt) -> Reply:
    return failing(status, message=f"refused: {prompt.everything}")


def _tools(server: Server) -> None:
    """A tool's arguments, rows and errors, by the API and by MCP."""

    def called(sql: str) -> Any:
        return server.post("/api/tools/crm_query/call", {"arguments": {"sql": sql}})

    rows = called("SELECT note FROM people")
    assert rows.status_code == 200, rows.text
    assert secret("toolrow") not in rows.text
    called(f"SELECT id FROM people WHERE note = '{both('tool')}'")
    called(f"SELECT nothing_{secret('toolerror')} FROM people WHERE note = '{mail('toolerror')}' AND")
    called(f'SELECT "{both("toolerror")}" FROM people')
    server.post("/api/tools/crm_query/call", {"arguments": {both("tool"): 1}})
    server.post(f"/api/tools/{secret('tool')}/call", {"arguments": {}})
    for method, params in (
        ("tools/call", {"name": "crm_query", "arguments": {"sql": f"SELECT '{both('mcp')}' AS x"}}),
        ("tools/call", {"name": secret("mcp"), "arguments": {}}),
        ("resources/read", {"uri": f"roadbed://documents/{mail('mcp')}"}),
        (secret("mcp"), {}),
    ):
        with server.client() as client:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            client.post("/mcp", json=body, headers={"accept": "application/json, text/event-stream"})
