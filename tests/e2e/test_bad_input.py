"""What is wrong is refused with its place and reaches nobody; and no described address answers anything with a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roadbed.server.openapi import OPERATIONS
from roadbed.server.openapi_document import openapi_json

from .serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # whole servers: too long for `make test`

MANIFEST = """
name: bad
endpoints:
  lab: {type: openai, url: "%s", model: m}
  cla: {type: anthropic, url: "%s", model: c}
models:
  fast: {ladder: [lab]}
  claude: {ladder: [cla]}
sources:
  handbook: {type: files, path: ./handbook}
collections:
  company: {sources: [handbook]}
apps:
  find: {kind: search, knowledge: [company]}
"""
SECRET = "zebra-quagga"
TURN = {"role": "user", "content": SECRET}


@pytest.fixture(scope="module")
def model() -> Iterator[ModelThread]:
    made = ModelThread()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def server(model: ModelThread) -> Iterator[Server]:
    with temporary_folder() as folder:
        manifest = MANIFEST % (model.url, model.model.root)
        files = {"roadbed.yaml": manifest, "handbook/a.md": "# A\n\nText.\n"}
        with serving(write_files(folder / "bad", files), folder / "state") as running:
            yield running
            assert SECRET not in running.output
            assert "Traceback" not in running.output


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def turn(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **fields}]}


WRONG: list[tuple[str | None, int, dict[str, Any]]] = [
    ("messages", 413, {"messages": [TURN] * 10_000}),
    ("messages", 400, {"messages": SECRET}),
    ("messages", 400, {"messages": []}),
    ("messages[0].role", 400, {"messages": [{"role": SECRET, "content": "x"}]}),
    ("messages[0].content", 400, turn(5)),
    ("messages[0].content", 400, turn([])),
    ("messages[0].content[0].type", 400, turn([{"text": SECRET}])),
    ("messages[0].content[0].image_url.url", 400, turn([{"type": "image_url", "image_url": {"url": "file:///etc"}}])),
    ("messages[0].tool_call_id", 400, {"messages": [{"role": "tool", "content": SECRET}]}),
    ("messages[0].tool_calls", 400, turn("x", tool_calls=[{"id": "1", "function": {"name": "f", "arguments": ""}}])),
    ("temperature", 400, {"temperature": "hot"}),
    ("temperature", 400, {"temperature": 3}),
    ("max_tokens", 400, {"max_tokens": 10**30}),
    ("max_completion_tokens", 400, {"max_tokens": 5, "max_completion_tokens": 6}),
    ("stop[0]", 400, {"stop": [1]}),
    ("stream", 400, {"stream": "yes"}),
    ("n", 400, {"n": 2}),
    ("tool_choice", 400, {"tool_choice": "auto"}),
    ("tool_choice", 400, {"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
    ("tools[0].function.name", 400, {"tools": [function("no good")]}),
    ("tools[1].function.name", 400, {"tools": [function("f"), function("f")]}),
    ("tools[0].function.parameters", 400, {"tools": [function("f", parameters=nested(90))]}),
    ("tools[0]", 400, {"tools": [{"type": "web_search"}]}),
    ("response_format.json_schema.schema", 400, {"response_format": {"type": "json_schema"}}),
    ("response_format", 400, {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(90)}}}),
    ("metadata", 400, {"metadata": nested(70)}),
    ("model", 400, {"model": 5}),
    ("model", 404, {"model": SECRET[:5]}),
]


@pytest.mark.parametrize("route", ["fast", "claude"])
@pytest.mark.parametrize(("path", "status", "fields"), WRONG, ids=lambda value: None)
def test_what_is_wrong_is_named_and_goes_nowhere(
    server: Server, model: ModelThread, route: str, path: str | None, status: int, fields: dict[str, Any]
) -> None:
    model.script()
    answer = server.post("/v1/chat/completions", {"model": route, "messages": [TURN], **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (status, path), error
    assert set(error) == {"message", "type", "param", "code"}
    assert SECRET not in answer.text
    assert not model.model.chats


RAW: list[tuple[str | None, bytes]] = [
    (None, b""),
    (None, b"[]"),
    (None, b'{"model":"fast"'),
    (None, b'{"model":"fast","messages":[{"role":"user","content":"\xff"}]}'),
    (None, b'{"model":"fast","messages":[{"role":"user","content":"x"}],"temperature":NaN}'),
    (None, b'{"model":"fast","messages":[{"role":"user","content":"x"}],"seed":1e999}'),
    (None, b'{"model":"fast","messages":' + b"[" * 100_000),
    (None, b'{"model":"fast","messages":[{"role":"user","content":"x"}],"x":' + b'{"a":' * 9000 + b"1" + b"}" * 9001),
    ("messages[0].content", rb'{"model":"fast","messages":[{"role":"user","content":"zebra-quagga \ud800"}]}'),
    ("user", rb'{"model":"fast","messages":[{"role":"user","content":"x"}],"user":"\udc00"}'),
]


@pytest.mark.parametrize(("path", "body"), RAW, ids=lambda value: None)
def test_what_is_no_json_is_refused(server: Server, model: ModelThread, path: str | None, body: bytes) -> None:
    model.script()
    with server.client() as client:
        answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, path)
    assert SECRET not in answer.text
    assert not model.model.chats


def asked(path: str, route: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A good request of a dialect, with some fields in place of its own."""
    if path == "/v1/responses":
        return {"model": route, "input": SECRET, **fields}
    return {"model": route, "max_tokens": 50, "messages": [TURN], **fields}


def said(content: Any, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]


WRONG_ELSEWHERE: list[tuple[str, str, int, dict[str, Any]]] = [
    ("/v1/messages", "messages", 413, {"messages": [TURN] * 10_000}),
    ("/v1/messages", "messages", 400, {"messages": SECRET}),
    ("/v1/messages", "messages[0].role", 400, {"messages": said("x", SECRET)}),
    ("/v1/messages", "messages[0].content", 400, {"messages": said(5)}),
    ("/v1/messages", "messages[0].content[0].type", 400, {"messages": said([{"text": SECRET}])}),
    ("/v1/messages", "max_tokens", 400, {"max_tokens": None}),
    ("/v1/messages", "max_tokens", 400, {"max_tokens": 10**30}),
    ("/v1/messages", "temperature", 400, {"temperature": "hot"}),
    ("/v1/messages", "tools[0].input_schema", 400, {"tools": [{"name": "f", "input_schema": nested(90)}]}),
    ("/v1/messages", "tool_choice", 400, {"tool_choice": {"type": "tool", "name": "g"}}),
    ("/v1/messages", "model", 404, {"model": SECRET[:5]}),
    ("/v1/responses", "input", 413, {"input": said("x") * 10_000}),
    ("/v1/responses", "input", 400, {"input": 5}),
    ("/v1/responses", "input[0].role", 400, {"input": said("x", SECRET)}),
    ("/v1/responses", "input[0].content", 400, {"input": said(5)}),
    ("/v1/responses", "previous_response_id", 400, {"previous_response_id": SECRET}),
    ("/v1/responses", "store", 400, {"store": True}),
    ("/v1/responses", "temperature", 400, {"temperature": "hot"}),
    ("/v1/responses", "max_output_tokens", 400, {"max_output_tokens": -1}),
    (
        "/v1/responses",
        "tools[0].parameters",
        400,
        {"tools": [{"type": "function", "name": "f", "parameters": nested(90)}]},
    ),
    ("/v1/responses", "tool_choice", 400, {"tool_choice": {"type": "function", "name": "g"}}),
    ("/v1/responses", "model", 404, {"model": SECRET[:5]}),
]


@pytest.mark.parametrize("route", ["fast", "claude"])
@pytest.mark.parametrize(("path", "param", "status", "fields"), WRONG_ELSEWHERE, ids=lambda value: None)
def test_what_is_wrong_is_named_in_the_other_dialects_too(
    server: Server, model: ModelThread, route: str, path: str, param: str, status: int, fields: dict[str, Any]
) -> None:
    model.script()
    answer = server.post(path, asked(path, route, fields))
    body = answer.json()
    assert answer.status_code == status, body
    if path == "/v1/messages":
        assert (body["type"], set(body["error"]) >= {"type", "message"}) == ("error", True)
        assert param in body["error"]["message"] or status == 404
    else:
        assert body["error"]["param"] == param
    assert SECRET not in answer.text
    assert not model.model.chats


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_surrogates_and_two_keys_are_refused_in_each_dialect(server: Server, model: ModelThread, path: str) -> None:
    model.script()
    good = json.dumps(asked(path, "fast", {}))
    with server.client() as client:
        odd = client.post(path, content=good.replace(SECRET, SECRET + "\\ud800"))
        two = client.post(path, content=good, headers={"x-api-key": "rbk_another_0123456789abcdef0123"})
    assert (odd.status_code, two.status_code) == (400, 400), (odd.text, two.text)
    for answer in (odd, two):
        assert answer.json()["error"]["message"]
        assert SECRET not in answer.text
    assert not model.model.chats


def test_a_picture_of_50_mb_is_refused_before_it_is_read(server: Server, model: ModelThread) -> None:
    model.script()
    url = "data:image/png;base64," + "A" * (50 * 1024 * 1024)
    with server.client() as client:
        body = {"model": "fast", **turn([{"type": "image_url", "image_url": {"url": url}}])}
        try:
            answer = client.post("/v1/chat/completions", json=body)
        except httpx2.TransportError:  # the server closes while the rest is on its way
            return
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "wire.body_too_large")
    assert not model.model.chats


@pytest.mark.parametrize("route", ["fast", "claude"])
def test_what_only_looks_odd_is_answered(server: Server, model: ModelThread, route: str) -> None:
    model.script()
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}, "other": {"$ref": "#/properties/child"}}}
    fields = {"tools": [function("f", parameters=schema)], "max_tokens": 5, "max_completion_tokens": 5}
    answer = server.post("/v1/chat/completions", {"model": route, "messages": [TURN], **fields})
    assert answer.status_code == 200, answer.text


# -- every address, at random -----------------------------------------------------------------------------------------

DOCUMENT = json.loads(openapi_json())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["fast", "claude", "find", "company", "handbook", "user", "24h", "1", "0", "full", "_routes"])


def values_of(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that a schema describes, more or less, and some that it does not."""
    if "$ref" in schema:
        return values_of(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]], depth)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return st.one_of([values_of(option, depth) for option in schema[union]])
    kind = schema.get("type")
    if kind == "object" and depth < 4:
        fields = {name: values_of(inner, depth + 1) for name, inner in schema.get("properties", {}).items()}
        needed = {name: value for name, value in fields.items() if name in schema.get("required", ())}
        return st.fixed_dictionaries(needed, optional={n: v for n, v in fields.items() if n not in needed})
    if kind == "array" and depth < 4:
        return st.lists(values_of(schema.get("items", {}), depth + 1), max_size=3)
    simple = {"string": WORDS | st.text(max_size=20), "integer": st.integers(), "boolean": st.booleans()}
    return simple.get(str(kind), JSON)


@st.composite
def requests(
    draw: st.DrawFn, path: str, described: dict[str, Any]
) -> tuple[str, dict[str, str], dict[str, str], bytes]:
    """An address filled in, its query, headers, and a body that is described, JSON, or anything."""
    query: dict[str, str] = {}
    headers: dict[str, str] = {"authorization": f"Bearer {ADMIN_KEY}"}
    for parameter in described.get("parameters", []):
        text = draw(WORDS | st.text(max_size=12))
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quote(text or "x", safe="", errors="replace"))
        elif draw(st.booleans()):
            if parameter["in"] == "query":
                query[parameter["name"]] = text.encode("utf-8", "replace").decode()
            else:
                headers[parameter["name"]] = draw(st.sampled_from(["50", "5000", "0", "x", "-1", "9" * 30]))
    body = b""
    if "requestBody" in described:
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        like_it = values_of(schema).map(lambda value: json.dumps(value).encode())
        body = draw(like_it | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=40))
        headers["content-type"] = draw(st.sampled_from(["application/json", "text/plain", "multipart/form-data"]))
    return path, query, headers, body


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_no_described_address_answers_with_a_500(server: Server, model: ModelThread, operation: Any) -> None:
    model.script()
    method, path = operation.method, operation.path
    described = DOCUMENT["paths"][path][method.lower()]
    with httpx2.Client(base_url=server.url, timeout=30, trust_env=False) as client:

        @settings(max_examples=25, database=None, suppress_health_check=list(HealthCheck))
        @given(requests(path, described))
        def ask(request: tuple[str, dict[str, str], dict[str, str], bytes]) -> None:
            where, query, headers, body = request
            answer = client.request(method, where, params=query, headers=headers, content=body)
            assert answer.status_code not in (500, 501), (method, where, query, body, answer.text)
            # MCP and SCIM have errors of their own, which their own tests look at.
            if answer.status_code >= 400 and answer.status_code != 405 and not path.startswith(("/mcp", "/scim/")):
                shown = answer.json()
                assert "error" in shown or "code" in shown

        ask()
