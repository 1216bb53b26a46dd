"""As `test_no_trace_of_values.py`, by other ways in: names of files, mails and office files, headers of every kind,
fields that a dialect has beside the text, forms of the console, notes that people write, and what a provider says
around its answer.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, Server, eventually, serving, write_files
from .test_no_trace_of_values import MANIFEST, forms

pytestmark = pytest.mark.services  # a server of its own, and long

KINDS = {
    "mail": "{0}.vanderzwaag@postbus-thuis.nl",
    "key": "ghp_{1}",
    "card": "5105{2}",
}
PLACES = (
    "system", "user", "metadata", "tooldesc", "toolschema", "stop", "format", "name", "agent", "forwarded", "cookie",
    "deadline", "bearer", "accept", "clientinfo", "progress", "prompts", "signin", "page", "scanned", "glass", "note",
    "reason", "restore", "providerid", "providermodel", "providerheader", "fingerprint", "finish", "errorcode", "group",
    "analytics", "row", "runname", "vector", "rerank", "embed", "language", "feedback",
)  # fmt: skip
STORED = ("mailfile", "office", "html", "csv", "treename")
"""Documents: what is personal in them is kept by their sources' policy, and no secret is."""


def value(kind: str, place: str) -> str:
    """A value of one place only."""
    digest = hashlib.sha256(place.encode()).hexdigest()
    digits = str(int(digest, 16))
    if kind == "card":
        body = "5105" + digits[:11]
        return body + str(_check_digit(body))
    tail = "".join(c.upper() if i % 3 else c for i, c in enumerate(digest[:36]))
    return KINDS[kind].format(place, tail)


def _check_digit(body: str) -> int:
    doubled = [int(d) * 2 if i % 2 == 0 else int(d) for i, d in enumerate(reversed(body))]
    return -sum(d - 9 if d > 9 else d for d in doubled) % 10


def all_of(place: str) -> str:
    """All three in a sentence."""
    return f"Reach {value('mail', place)}, card {value('card', place)}, with the key {value('key', place)}."


def _cores() -> tuple[bytes, ...]:
    """What of every planted value lies in all files that hold one, in each form."""
    mails, keys = b"vanderzwaag@postbus-thuis.nl", b"ghp_"
    plain = [mails, mails.decode().encode("utf-16-le"), mails.replace(b"@", b"%40"), keys, b"g\0h\0p\0_\0", b"5105"]
    packed = [form for word in (mails[:14],) for form in base64_forms(word)]
    return (*plain, *packed, *(form for form in base64_forms(b"ghp_")))


def base64_forms(word: bytes) -> list[bytes]:
    """What surely stands in the base64 of anything with a word in it."""
    return [
        base64.b64encode(b"\0" * shift + word)[(0, 2, 3)[shift] : (shift + len(word)) * 8 // 6].lower()
        for shift in range(3)
    ]


CORES = _cores()


def found_in(data: bytes, where: str) -> Iterator[str]:
    """What of all that was planted is in some bytes."""
    low = data.lower()
    if not any(core in low for core in CORES):
        return
    for place in (*PLACES, *STORED):
        for kind in KINDS:
            if place in STORED and kind != "key":
                continue
            for form in forms(value(kind, place)):
                if form in low:
                    at = low.index(form)
                    yield f"{where}: the {kind} of {place}: {data[max(0, at - 80) : at + 90]!r}"
                    break


def test_nothing_planted_by_other_ways_is_left_anywhere(scratch: Path) -> None:
    far, near = ModelThread(), ModelThread()
    manifest = MANIFEST.format(far=far.url, near=near.url)
    manifest += "  ledger: {kind: analytics, model: house, sources: [crm]}\n"
    workspace = write_files(scratch / "w", {"roadbed.yaml": manifest, "notes/fees.md": "# Fees\n\nRush costs 35 %.\n"})
    _documents(workspace / "notes")
    with sqlite3.connect(workspace / "crm.sqlite") as database:
        database.execute("CREATE TABLE people (id integer PRIMARY KEY, note text)")
        database.execute("INSERT INTO people VALUES (1, ?)", (all_of("row"),))
    try:
        with serving(workspace, scratch / "state", "--log-level", "debug") as server:
            _requests(server)
            _heads(server)
            _mcp(server)
            _console(server)
            _people(server)
            _providers(server, far)
            _analytics(server, near)
            eventually(lambda: len(server.get("/api/traces", limit="100")["traces"]) >= 8 or None, what="the traces")
            traces = server.get("/api/traces", limit="100")["traces"]
            shown = json.dumps([server.get(f"/api/traces/{trace['id']}") for trace in traces])
            shown += json.dumps([server.get("/api/audit", limit="500"), server.get("/api/documents", source="notes")])
            sources = json.dumps(server.get("/api/sources"))
            shown += sources
            with server.client() as client:
                shown += client.get("/metrics").text
    finally:
        far.stop()
        near.stop()
    hits = [*found_in(shown.encode(), "the API"), *found_in(server.output.encode(), "the log")]
    seen: set[bytes] = set()
    for path in sorted(server.state.rglob("*")):
        data = path.read_bytes().rstrip(b"\0") if path.is_file() and not path.is_symlink() else b""
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            hits += found_in(data, str(path.relative_to(server.state)))
    assert not hits, "\n".join(hits)
    assert "its name holds a secret, or what was erased" in sources


def _documents(folder: Path) -> None:
    """Files whose secrets stand where no paragraph is."""
    (folder / f"plan {value('key', 'treename')}.md").write_text("# Plan\n\nWe plan.\n")
    (folder / "mail.eml").write_text(
        f"From: Jan <{value('mail', 'mailfile')}>\r\nTo: b@example.org\r\nSubject: key {value('key', 'mailfile')}\r\n"
        f"X-Token: {value('key', 'mailfile')}\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\r\nThe letter.\r\n"
    )
    (folder / "page.html").write_text(
        f"<html><head><title>T {value('key', 'html')}</title><meta name=author content='{value('key', 'html')}'></head>"
        f"<body><p>Text <a href='https://files.example.org/?token={value('key', 'html')}'>here</a>"
        f"<img alt='{value('key', 'html')}' src=x.png></p></body></html>"
    )
    (folder / "list.csv").write_text(f"name,{value('key', 'csv')}\nJan,{value('key', 'csv')}\n")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml"'
            ' ContentType="application/xml"/><Override PartName="/word/document.xml" ContentType="application/vnd.'
            'openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        )
        packed.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1"'
            ' Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"'
            ' Target="word/document.xml"/></Relationships>',
        )
        body = f"<w:p><w:r><w:t>Key {value('key', 'office')} of the desk</w:t></w:r></w:p>"
        packed.writestr(
            "word/document.xml",
            f'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{body}'
            "</w:body></w:document>",
        )
    (folder / "desk.docx").write_bytes(buffer.getvalue())


def _requests(server: Server) -> None:
    """Fields beside the text of a request."""
    function = {
        "name": "f",
        "description": all_of("tooldesc"),
        "parameters": {"type": "object", "properties": {"q": {"type": "string", "description": all_of("toolschema")}}},
    }
    schema = {"name": "s", "schema": {"type": "object", "description": all_of("format")}}
    body: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": all_of("system")},
            {"role": "user", "name": value("key", "name"), "content": [{"type": "text", "text": "hello"}]},
        ],
        "user": all_of("user"),
        "metadata": {"who": all_of("metadata")},
        "tools": [{"type": "function", "function": function}],
        "stop": [all_of("stop")],
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
    for model in ("smart", "house", "kept"):
        for stream in (False, True):
            server.post("/v1/chat/completions", {**body, "model": model, "stream": stream})
    server.post("/v1/responses", {"model": "smart", "input": "hello", "instructions": all_of("system")})
    server.post("/v1/embeddings", {"model": "smart", "input": all_of("embed")})
    server.post("/v1/rerank", {"model": "smart", "query": all_of("rerank"), "documents": [all_of("rerank")]})
    server.post("/v1/vector_stores/company/search", {"query": all_of("vector")})
    server.post("/api/guard/scan", {"text": all_of("scanned")})


def _heads(server: Server) -> None:
    """Headers that some part of the server reads, or that no part does."""
    body = {"model": "smart", "messages": [{"role": "user", "content": "hello"}]}
    for name, place in (
        ("user-agent", "agent"), ("x-forwarded-for", "forwarded"), ("cookie", "cookie"), ("accept", "accept"),
        ("x-roadbed-deadline-ms", "deadline"), ("accept-language", "language"), ("x-request-id", "agent"),
        ("traceparent", "agent"), ("idempotency-key", "agent"), ("openai-organization", "agent"),
    ):  # fmt: skip
        with server.client() as client:
            client.post("/v1/chat/completions", json=body, headers={name: all_of(place)})
            client.get("/console", headers={name: all_of(place)})
    with httpx2.Client(base_url=server.url, trust_env=False) as client:
        client.get("/v1/models", headers={"authorization": f"Bearer {value('key', 'bearer')}"})
        client.get("/v1/models", headers={"authorization": f"Basic {all_of('bearer')}"})
        client.get(f"/{value('mail', 'page')}/{value('key', 'page')}")


def _mcp(server: Server) -> None:
    """What a client says of itself, and where it says more than it must."""
    information = {"name": all_of("clientinfo"), "version": value("key", "clientinfo"), "title": all_of("clientinfo")}
    for method, params in (
        ("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": information}),
        ("prompts/get", {"name": all_of("prompts"), "arguments": {"a": all_of("prompts")}}),
        ("notifications/progress", {"progressToken": all_of("progress"), "progress": 1, "message": all_of("progress")}),
        ("tools/list", {"cursor": all_of("progress")}),
    ):
        with server.client() as client:
            body = {"jsonrpc": "2.0", "id": value("key", "clientinfo"), "method": method, "params": params}
            client.post("/mcp", json=body, headers={"accept": "application/json, text/event-stream"})


def _console(server: Server) -> None:
    """Forms, before and after signing in."""
    with httpx2.Client(base_url=server.url, follow_redirects=True, trust_env=False) as browser:
        browser.post("/console/sign-in", data={"key": all_of("signin"), "token": value("key", "signin")})
        with server.client() as client:
            token = client.post("/api/sign-in-links").json()["path"].partition("token=")[2]
        browser.post("/console/sign-in", data={"token": token})
        for path in ("/console/search", "/console/documents", "/console/traces", "/console/audit", "/console/keys"):
            browser.get(path, params={"q": all_of("page"), "query": all_of("page"), "actor": all_of("page")})


def _people(server: Server) -> None:
    """What people write about what they do."""
    server.post("/api/break-glass", {"reason": all_of("glass"), "minutes": 1})
    server.post("/api/controls/notes", {"kind": "restore", "note": all_of("restore")})
    server.cli("controls", "note-restore", all_of("restore"))
    server.post("/api/releases/helpdesk/rollback", {"reason": all_of("reason")})
    server.post("/api/two-persons/none/decline", {"note": all_of("note")})
    server.post("/api/feedback", {"trace": "none", "comment": all_of("feedback")})
    with server.client() as client:
        files = {"file": ("a.md", b"# A\n\nThe canteen opens at nine.\n", all_of("group"))}
        client.post("/api/collections/company/documents", files=files, data={"groups": all_of("group")})


def _providers(server: Server, far: ModelThread) -> None:
    """What a provider says around its answer."""
    choice = {"index": 0, "finish_reason": all_of("finish"), "message": {"role": "assistant", "content": "Well."}}
    said = {
        "id": all_of("providerid"), "object": "chat.completion", "created": 0, "model": all_of("providermodel"),
        "system_fingerprint": all_of("fingerprint"), "choices": [choice],
    }  # fmt: skip
    headers = {"x-request-id": all_of("providerheader"), "retry-after": value("mail", "providerheader")}
    failed = {"error": {"message": "no", "code": all_of("errorcode"), "type": all_of("errorcode"), "param": "x"}}
    delta = {**said, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "Well."}}]}
    streamed = b"data: " + json.dumps(delta).encode() + b"\n\ndata: " + json.dumps(failed).encode() + b"\n\n"
    for reply in (
        Reply(status=200, body=json.dumps(said).encode(), headers=headers),
        Reply(status=400, body=json.dumps(failed).encode(), headers=headers),
        Reply(status=429, body=json.dumps(failed).encode(), headers=headers),
        Reply(status=200, body=streamed, headers={"content-type": "text/event-stream"}),
    ):
        far.script(Rule(".", reply))
        for stream in (False, True):
            body = {"model": "smart", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
            server.post("/v1/chat/completions", body)
    far.script()


def _analytics(server: Server, near: ModelThread) -> None:
    """A question on a database, its rows, and the name of a question."""
    query = {"name": "result", "source": "crm", "sql": "SELECT id, note FROM people"}
    near.script(Rule(".", Reply(json.dumps({"plan": {"title": "Notes", "queries": [query]}}))))
    answer = server.post("/api/analytics/ledger/ask", {"question": f"What was noted? {all_of('analytics')}"})
    assert answer.status_code == 200, answer.text
    assert value("key", "row") not in answer.text
    given = answer.json()["roadbed"]["analytics"]
    saved = {"name": "noted", "prepared": given["prepared"], "seal": given["seal"], "every": ""}
    assert server.post("/api/analytics/ledger/questions", saved).status_code == 201
    assert server.post("/api/analytics/ledger/run/noted", {}).status_code == 200
    with server.client() as client:
        client.post(f"/api/analytics/ledger/run/{value('mail', 'runname')}", json={})
        client.get(f"/api/analytics/ledger/export/{value('key', 'runname')}", params={"x": all_of("runname")})
    near.script()
