"""Bodies that are no MCP request: each fault in our words, with the protocol's number and the field it is about."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.server.mcp_bodies import BodyFault, Head, read_body

from .mcp_serving import mcp_serving, modern

ONE = {"jsonrpc": "2.0", "id": 7}


def rpc(method: Any, params: Any) -> dict[str, Any]:
    return {**ONE, "method": method, "params": params}


def read(body: Any, *, is_legacy: bool = True) -> Head | BodyFault:
    return read_body(body if isinstance(body, bytes) else json.dumps(body).encode(), is_legacy=is_legacy)


@pytest.mark.parametrize(
    ("body", "number", "said"),
    [
        (b"", -32700, "empty"),
        (b"{", -32700, "not JSON"),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"} x', -32700, "not JSON"),
        (b"\xff\xfe{}", -32700, "not JSON"),
        (b"NaN", -32700, "not JSON"),
        (b"[" * 100_000, -32700, ""),
        (b'{"jsonrpc":' * 50_000, -32700, ""),
        (b"null", -32600, "no JSON object"),
        ([], -32600, "batch"),
        ([rpc("ping", {}), rpc("ping", {})], -32600, "batch"),
        ({**ONE, "jsonrpc": "1.0", "method": "ping"}, -32600, "jsonrpc"),
        ({"id": 7, "method": "ping"}, -32600, "jsonrpc"),
        (ONE, -32600, "method is missing"),
        ({**ONE, "method": 5}, -32600, "method must be a string"),
        ({**ONE, "id": None, "method": "ping"}, -32600, "id must be"),
        ({**ONE, "id": True, "method": "ping"}, -32600, "id must be"),
        ({**ONE, "id": 1.5, "method": "ping"}, -32600, "id must be"),
        ({**ONE, "id": [1], "method": "ping"}, -32600, "id must be"),
        ({**ONE, "result": {}}, -32600, "question"),
        (rpc("ping", [1]), -32600, "params must be an object"),
        (rpc("ping", {"_meta": 5}), -32602, "params._meta must be an object"),
        ({**ONE, "method": "tools/call"}, -32602, "params.name is missing"),
        (rpc("tools/call", {"name": ["x"]}), -32602, "params.name must be a string"),
        (rpc("tools/call", {"name": "x", "arguments": [1]}), -32602, "params.arguments must be an object"),
        (rpc("tools/list", {"cursor": 5}), -32602, "params.cursor must be a string"),
        (rpc("resources/read", {"uri": {}}), -32602, "params.uri must be a string"),
        (rpc("prompts/get", {"name": "x", "arguments": {"a": 1}}), -32602, "params.arguments.a must be a string"),
        (rpc("completion/complete", {"ref": {"type": "x"}}), -32602, "params.ref.type must be one of ref/prompt"),
        (rpc("completion/complete", {"ref": {"type": "ref/prompt"}}), -32602, "params.ref.name is missing"),
        (
            rpc("completion/complete", {"ref": {"type": "ref/resource", "uri": "u"}, "argument": {"name": "a"}}),
            -32602,
            "params.argument.value is missing",
        ),
        (rpc("logging/setLevel", {"level": "loud"}), -32602, "params.level must be one of debug"),
        (rpc("initialize", {"protocolVersion": "1"}), -32602, "params.capabilities is missing"),
        (
            rpc("initialize", {"protocolVersion": "1", "capabilities": {}, "clientInfo": {"name": "x"}}),
            -32602,
            "params.clientInfo.version is missing",
        ),
    ],
)
def test_a_fault_is_named_with_its_field(body: Any, number: int, said: str) -> None:
    fault = read(body)
    assert isinstance(fault, BodyFault), fault
    assert fault.number == number
    assert said in fault.message
    assert fault.is_params == (number == -32602)
    assert "pydantic" not in fault.message
    assert "JSONRPC" not in fault.message


@pytest.mark.parametrize(
    "body",
    [
        {**ONE, "method": "ping"},
        {**ONE, "id": "a", "method": "ping", "params": None},
        {"jsonrpc": "2.0", "method": "notifications/anything", "params": {"name": 5}},
        rpc("tools/call", {"name": "x", "arguments": None}),
        rpc("tools/list", {"cursor": None}),
        rpc("prompts/get", {"name": "x", "arguments": {"a": "1"}}),
        rpc("something/else", {"name": 5}),
        {"jsonrpc": "2.0", "id": "q1", "result": {}},
    ],
)
def test_what_is_right_passes(body: Any) -> None:
    assert isinstance(read(body), Head)


def test_methods_of_the_other_era_are_left_to_be_not_found() -> None:
    assert isinstance(read(rpc("initialize", {}), is_legacy=False), Head)
    assert isinstance(read(rpc("subscriptions/listen", {}), is_legacy=True), Head)
    assert isinstance(read(rpc("subscriptions/listen", {}), is_legacy=False), BodyFault)


WORDS = ["jsonrpc", "id", "method", "params", "name", "arguments", "uri", "ref", "type", "argument", "_meta", "result"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=12,
)
METHODS = st.sampled_from(["tools/call", "prompts/get", "resources/read", "completion/complete", "initialize", "x"])


@given(st.one_of(JSON, st.builds(rpc, METHODS, JSON)), st.booleans())
def test_any_json_is_a_head_or_a_fault(body: Any, is_legacy: bool) -> None:
    found = read(body, is_legacy=is_legacy)
    assert isinstance(found, BodyFault) or (isinstance(body, dict) and body["jsonrpc"] == "2.0")


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25", "2026-07-28"])
async def test_faults_are_answered_in_every_era_without_the_inside(version: str) -> None:
    is_modern = version == "2026-07-28"
    async with mcp_serving() as server:
        batch = await server.post([rpc("ping", {})], mcp_protocol_version=version, mcp_method="ping")
        assert (batch.status_code, batch.json()["error"]["code"], batch.json()["id"]) == (400, -32600, None)
        body, headers = modern("tools/call", {"name": "one", "arguments": "SECRET"}, {}, {})
        wrong = await server.post(body, **({**headers} if is_modern else {"mcp_protocol_version": version}))
        assert wrong.status_code == (400 if is_modern else 200)
        assert wrong.json() == {
            "jsonrpc": "2.0",
            "id": 7,
            "error": {"code": -32602, "message": "params.arguments must be an object"},
        }
        answer = await server.post({**ONE, "id": "q", "result": {}}, mcp_protocol_version=version)
        assert answer.json()["error"]["code"] == -32600
        assert server.calls.arguments == []
