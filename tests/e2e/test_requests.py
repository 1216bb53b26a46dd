"""What callers send: keys, bodies of the wrong shape or size, slow and half-sent requests. Each gets a typed answer."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest
from tests.stopwatch import Stopwatch

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .conftest import Desk
from .serving import ADMIN_KEY, eventually

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

CHAT = "/v1/chat/completions"
HALF_SENT_S = 15.0


def good(**more: Any) -> dict[str, Any]:
    return {"model": "modelless", "messages": [{"role": "user", "content": "What does a rush order cost?"}], **more}


@contextmanager
def connected(desk: Desk) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", desk.server.port), timeout=60) as raw:
        yield raw


def read_all(raw: socket.socket) -> bytes:
    received = b""
    try:
        while data := raw.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def test_the_api_says_what_is_wrong_in_plain_words(desk: Desk) -> None:
    said = {
        path: desk.server.post(path, body).json()["detail"]
        for path, body in {"/api/search": {"query": "x", "k": "y"}, "/api/guard/scan": {"text": 3}}.items()
    }
    assert "k: expected a whole number, got text" in said["/api/search"]
    assert "text: expected text, got a whole number" in said["/api/guard/scan"]


def test_unknown_model_lists_only_what_the_key_may_call(desk: Desk) -> None:
    key = desk.server.new_key("guests")["key"]
    for path, asked in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/messages", {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"input": "x"}),
    ):
        response = desk.server.post(path, {"model": "zzz", **asked}, key=key)
        assert response.status_code == 404
        assert "known models: search)" in response.text, response.text


def test_unknown_model_lists_the_known(desk: Desk) -> None:
    response = desk.server.post(CHAT, good(model="gpt-17"))
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "request.unknown_model", "model")
    for known in ("helpdesk", "search", "smart"):
        assert known in error["message"], error
    near = desk.server.post(CHAT, good(model="helpdsk")).json()["error"]
    assert "helpdesk" in near["message"]


@pytest.mark.parametrize("key", [None, "", "rbk_nonsense", "x" * 5000, "rbk_aaaaaaaaaa_" + "b" * 43])
def test_missing_and_wrong_keys(desk: Desk, key: str | None) -> None:
    with desk.server.client(key) as client:
        for path in (CHAT, "/v1/embeddings", "/api/search"):
            response = client.post(path, json=good())
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.get("/v1/models").status_code == 401
        assert client.get("/api/status").status_code == 401


def test_revoked_key_is_refused_within_a_second(desk: Desk) -> None:
    made = desk.server.new_key("staff")
    assert desk.server.post(CHAT, good(), key=made["key"]).status_code == 200
    with desk.server.client() as client:
        assert client.delete(f"/api/keys/{made['id']}").status_code == 204
    eventually(
        lambda: desk.server.post(CHAT, good(), key=made["key"]).status_code == 401, within_s=1.0, what="the refusal"
    )
    states = {key["id"]: key["state"] for key in desk.server.get("/api/keys")}
    assert states[made["id"]] == "revoked"


def test_roles_and_apps_bound_what_a_key_may_do(desk: Desk) -> None:
    member, guest = desk.server.new_key("staff")["key"], desk.server.new_key("guests")["key"]
    auditor = desk.server.new_key("staff", "member", "auditor")["key"]
    with desk.server.client(member) as client:
        assert client.get("/api/traces").status_code == 403
        assert client.post("/api/keys", json={"team": "x"}).status_code == 403
        assert client.post("/api/ingest", json={}).status_code == 403
    with desk.server.client(auditor) as client:
        assert client.get("/api/traces").status_code == 200
        assert client.post("/api/ingest", json={}).status_code == 403
    with desk.server.client(guest) as client:
        assert client.post(CHAT, json=good()).json()["error"]["code"] == "auth.app_not_allowed"
        assert [row["id"] for row in client.get("/v1/models").json()["data"]] == ["search"]
        assert client.post(CHAT, json=good(model="search")).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 5000, None),
        (b"[]", None),
        (b'{"model": "helpdesk"}', "messages"),
        (b'{"model": 3, "messages": []}', "model"),
        (b'{"model": "helpdesk", "messages": "hello"}', "messages"),
        (b'{"model": "helpdesk", "messages": [{"role": "user", "content": 7}]}', "messages[0].content"),
        (b'{"model": "helpdesk", "messages": [{"role": "wizard", "content": "x"}]}', "messages[0].role"),
        (b'{"model": "helpdesk", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}', "stream"),
        (b'{"model": "helpdesk", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', "temperature"),
        (b'{"model": "helpdesk", "messages": []}', "messages"),
    ],
)
def test_bodies_of_the_wrong_shape(desk: Desk, body: bytes, param: str | None) -> None:
    with desk.server.client() as client:
        response = client.post(CHAT, content=body, headers={"content-type": "application/json"})
    error = response.json()["error"]
    assert response.status_code == 400, response.text
    assert error["type"] == "invalid_request_error"
    if param is not None:
        assert (error["param"] or "").replace(".[", "[") == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/api/search", {"query": 3}, "query"),
        ("/api/search", {"query": "x", "k": 1000}, "k"),
        ("/api/search", {"query": "x", "unknown": 1}, ""),
        ("/api/search", {"query": "x", "collections": ["nope"]}, ""),
        ("/api/keys", {"team": ""}, "team"),
        ("/api/keys", {"team": "staff", "roles": ["king"]}, "roles[...]"),
        ("/api/keys", {"team": "staff", "expires": "soon"}, "expires"),
        ("/api/ingest", {"source": "nope"}, ""),
        ("/api/releases/nope/rollback", {}, ""),
    ],
)
def test_wrong_fields_of_the_admin_api_are_problem_details(desk: Desk, path: str, body: Any, param: str) -> None:
    response = desk.server.post(path, body)
    problem = response.json()
    assert response.status_code in (400, 404), response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    assert problem["code"]
    assert problem["detail"]


def test_a_body_of_fifty_megabytes_is_refused_while_it_is_sent(desk: Desk) -> None:
    for path, header in ((CHAT, "content-length: 52428800"), ("/api/search", "transfer-encoding: chunked")):
        with connected(desk) as raw:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n{header}\r\n\r\n"
            raw.sendall(head.encode())
            piece = b"x" * 65536
            chunk = b"10000\r\n" + piece + b"\r\n" if "chunked" in header else piece
            sent = 0
            try:
                while sent < 50 * 1024 * 1024:
                    raw.sendall(chunk)
                    sent += len(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert sent < 50 * 1024 * 1024, path
            status = read_all(raw).split(b" ")
        assert len(status) < 2 or status[1] == b"413", path


SHAPED = {
    CHAT: "openai",
    "/v1/responses": "openai",
    "/v1/embeddings": "openai",
    "/v1/rerank": "openai",
    "/v1/messages": "anthropic",
    "/v1/messages/count_tokens": "anthropic",
    "/api/search": "problem",
    "/mcp": "problem",
}
REFUSED = {
    "framing": ("content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", 400, "wire.malformed_request"),
    "head": ("x: 1\r\n" * 70 + "\r\n", 431, "wire.head_too_large"),
    "expectation": ("expect: tea\r\n\r\n", 417, "wire.expectation_failed"),
    "length": ("content-length: 524288000\r\n\r\n", 413, "wire.body_too_large"),
}


def refusal_shape(answer: bytes) -> tuple[int, str, str, str]:
    """Status, shape, code, and the type that the shape tells, of a refusal as it stands on the wire."""
    head, _, raw = answer.partition(b"\r\n\r\n")
    body = json.loads(raw)
    is_problem = b"content-type: application/problem+json" in head.lower()
    if body.get("type") == "error":
        assert set(body) == {"type", "error", "request_id"}
        shape, said = "anthropic", body["error"]
    elif "error" in body:
        assert set(body) == {"error"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        shape, said = "openai", body["error"]
    else:
        assert body["detail"]
        shape, said = "problem", body
    assert is_problem == (shape == "problem")
    return int(head.split(b" ")[1]), shape, said["code"], said["type"]


@pytest.mark.parametrize("fault", REFUSED)
@pytest.mark.parametrize("path", SHAPED)
def test_what_the_wire_refuses_has_the_shape_of_the_address_that_was_asked(desk: Desk, path: str, fault: str) -> None:
    lines, status, code = REFUSED[fault]
    with connected(desk) as raw:
        raw.sendall(f"POST {path}?beta=true HTTP/1.1\r\nhost: x\r\n{lines}".encode())
        raw.shutdown(socket.SHUT_WR)
        told = refusal_shape(read_all(raw))
    assert told[:3] == (status, SHAPED[path], code)
    if SHAPED[path] == "anthropic":
        assert told[3] == ("request_too_large" if status == 413 else "invalid_request_error")


@pytest.mark.parametrize("path", [path for path in SHAPED if path.startswith("/v1")])
def test_a_wrong_key_and_a_body_that_grows_are_refused_in_the_same_shape(desk: Desk, path: str) -> None:
    with connected(desk) as raw:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer rbk_no\r\ncontent-length: 2\r\n"
        raw.sendall(f"{head}connection: close\r\n\r\n{{}}".encode())
        told = refusal_shape(read_all(raw))
    assert told[:2] == (401, SHAPED[path])
    with connected(desk) as raw:
        raw.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n".encode())
        told = refusal_shape(read_all(raw))
    assert told[:3] == (400, SHAPED[path], "wire.malformed_request")


def test_a_refusal_goes_by_its_own_request_and_not_by_the_one_before(desk: Desk) -> None:
    """The same head again is not parsed again, and what was parsed last may have been for another address."""
    body = json.dumps(good(max_tokens=5)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\ncontent-length: "
    with connected(desk) as raw:
        reader = raw.makefile("rb")

        def status() -> int:
            line, length = reader.readline(), 0
            while (header := reader.readline()) not in (b"\r\n", b""):
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            reader.read(length)
            return int(line.split(b" ")[1])

        raw.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
        assert status() == 200
        raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status() == 200
        raw.sendall(f"{head}5000\r\n\r\n{{".encode())
        told = refusal_shape(reader.read())
    assert told == (408, "anthropic", "wire.slow_request", "invalid_request_error")


def test_a_request_whose_target_is_not_read_is_told_in_both_shapes(desk: Desk) -> None:
    with connected(desk) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_all(raw)
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body["error"]["code"] == body["code"] == "wire.malformed_request"


def test_half_sent_and_slow_requests_end_and_others_are_served_meanwhile(desk: Desk) -> None:
    with connected(desk) as head, connected(desk) as body, connected(desk) as left:
        head.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nx-half".encode())
        body.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{{".encode())
        left.sendall(f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{{".encode())
        left.close()
        watch = Stopwatch()
        assert desk.server.post(CHAT, good()).status_code == 200
        assert read_all(body).startswith(b"HTTP/1.1 408 ")
        assert read_all(head).startswith(b"HTTP/1.1 408 ")
        assert watch.elapsed_s() < HALF_SENT_S
    assert desk.server.post(CHAT, good()).status_code == 200


def test_deadlines_that_are_no_numbers_and_those_that_pass(desk: Desk) -> None:
    desk.first.script(Rule("rush", Reply(hang=True)))
    with desk.server.client() as client:
        wrong = client.post(CHAT, json=good(), headers={"x-roadbed-deadline-ms": "soon"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "x-roadbed-deadline-ms")
        late = client.post(CHAT, json=good(model="smart"), headers={"x-roadbed-deadline-ms": "300"})
        assert late.status_code == 504
        rescued = client.post(CHAT, json=good(model="helpdesk"), headers={"x-roadbed-deadline-ms": "2500"})
    assert rescued.status_code == 200
    assert rescued.json()["roadbed"]["rung"] == "extractive"


def test_addresses_and_methods_that_are_not_there(desk: Desk) -> None:
    with desk.server.client() as client:
        assert client.get("/v1/nothing").json()["error"]["code"] == "request.unknown_address"
        assert client.get("/api/nothing").json()["code"] == "request.unknown_address"
        # What a client whose base URL lacks /v1 shows is the message in the shape that it knows.
        with (
            openai.OpenAI(base_url=desk.server.url, api_key=ADMIN_KEY, max_retries=0) as lost,
            pytest.raises(openai.NotFoundError, match=r"did you mean /v1/chat/completions\?"),
        ):
            lost.chat.completions.create(**good())
        for path, allowed in {CHAT: "POST", "/api/keys": "GET, HEAD, POST", "/console/ask": "GET, HEAD, POST"}.items():
            refused = client.put(path)
            assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
        assert client.get("/healthz", headers={"authorization": ""}).text == "ok\n"
        for path in ("/api/status/", "/v1/models/", f"{CHAT}/", "/healthz/"):  # no way on to the Host that was named
            answer = client.post(path, json={}, headers={"host": "elsewhere.example"})
            assert answer.status_code in (404, 405), path
            assert "elsewhere" not in str(answer.headers), path


def test_no_protocol_but_ours_reads_a_connection(desk: Desk) -> None:
    ask = (
        "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
    with connected(desk) as raw:
        raw.sendall(ask.encode())
        assert read_all(raw).startswith(b"HTTP/1.1 200 OK")


def test_a_field_that_is_not_known_tells_those_that_are(desk: Desk) -> None:
    with desk.server.client() as client:
        near = client.post("/api/search", json={"query": "index", "collection": ["company"]}).json()
        assert (near["detail"], near["hint"]) == (
            "object contains unknown field `collection`",
            "did you mean `collections`?",
        )
        far = client.post("/api/search", json={"zzz": 1}).json()
        assert "it may hold query, " in far["hint"]


def test_a_filter_that_is_not_applied_is_not_passed_over(desk: Desk) -> None:
    path, asked = "/v1/vector_stores/company/search", {"query": "rush order"}
    wanted = {"type": "eq", "key": "source", "value": "board"}
    refused = desk.server.post(path, {**asked, "filters": wanted})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "filters")
    assert desk.server.post(path, {**asked, "filters": None}).status_code == 200


def test_errors_as_the_sdk_raises_them(desk: Desk) -> None:
    with httpx2.Client(trust_env=False) as transport:

        def sdk(key: str) -> openai.OpenAI:
            return openai.OpenAI(base_url=desk.server.ready["api"], api_key=key, http_client=transport, max_retries=0)

        with pytest.raises(openai.AuthenticationError):
            sdk("rbk_nonsense").models.list()
        with pytest.raises(openai.NotFoundError, match="helpdesk"):
            sdk(ADMIN_KEY).chat.completions.create(**good(model="nothing"))
        with pytest.raises(openai.BadRequestError) as wrong:
            sdk(ADMIN_KEY).chat.completions.create(**good(messages=[{"role": "user", "content": 5}]))
        assert wrong.value.param == "messages[0].content"
        with pytest.raises(openai.PermissionDeniedError):
            sdk(desk.server.new_key("guests")["key"]).chat.completions.create(**good())
