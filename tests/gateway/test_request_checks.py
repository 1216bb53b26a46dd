"""Requests that are well typed and still wrong: each refused with its field's path, none by Python's own limits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.dialects.anthropic_incoming import decode_messages
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.dialects.request_checks import DEPTH_MAX, check_depth, half_character
from roadbed.gateway.dialects.responses_incoming import decode_response_request
from roadbed.gateway.errors import InvalidChatRequest

TURN = {"role": "user", "content": "hello"}


def nested(depth: int, *, is_list: bool = False) -> Any:
    value: Any = {} if not is_list else []
    for _ in range(depth - 1):
        value = [value] if is_list else {"a": value}
    return value


def refused(body: bytes | dict[str, Any]) -> str | None:
    """The path that an error names."""
    with pytest.raises(InvalidChatRequest) as raised:
        decode_chat(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert "zebra" not in str(raised.value)
    return raised.value.param


@pytest.mark.parametrize("is_list", [False, True])
def test_nesting_has_a_bound_that_is_not_python_s(is_list: bool) -> None:
    check_depth("x", nested(DEPTH_MAX, is_list=is_list))
    for depth in (DEPTH_MAX + 2, sys.getrecursionlimit() * 3):
        with pytest.raises(InvalidChatRequest):
            check_depth("x", nested(depth, is_list=is_list))


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("x", {"x": nested(70)}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": nested(70)}}}),
        (
            "tools[1].function.parameters",
            {
                "tools": [
                    {"type": "function", "function": {"name": "f"}},
                    {"type": "function", "function": {"name": "g", "parameters": nested(70)}},
                ]
            },
        ),
        ("messages[0].content[0]", {"messages": [{"role": "user", "content": [{"type": "zebra", "x": nested(70)}]}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": []}]}),
        ("max_completion_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
        ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "zebra name"}}]}),
        ("tools[1].function.name", {"tools": [{"type": "function", "function": {"name": "zebra"}}] * 2}),
        ("tool_choice", {"tool_choice": "required"}),
    ],
)
def test_each_error_names_the_field(path: str, fields: dict[str, Any]) -> None:
    assert refused({"model": "m", "messages": [TURN], **fields}) == path


def test_what_only_looks_odd_is_taken() -> None:
    schema = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    tools = [{"type": "function", "function": {"name": "f.g-h_1", "parameters": schema}}]
    fields = {"max_tokens": 5, "max_completion_tokens": 5, "tools": tools, "x": nested(DEPTH_MAX)}
    found = decode_chat(json.dumps({"model": "m", "messages": [TURN], **fields}).encode())
    assert found.request.tools[0].parameters == schema
    assert found.request.max_tokens == 5


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("messages[0].content", rb'{"model":"m","messages":[{"role":"user","content":"zebra \ud800"}]}'),
        ("messages[0].content[1].text", rb'{"messages":[{"content":[{"text":"a"},{"text":"\uDFFF"}]}]}'),
        ("user", rb'{"model":"m","messages":[{"role":"user","content":"zebra"}],"user":"\udc00\ud800"}'),
        ("metadata", rb'{"model":"m","messages":[{"role":"user","content":"a"}],"metadata":{"\ud800":1}}'),
        (None, rb'{"model":"m","messages":[{"role":"user","content":"\ud83d\ude00"}],}'),
    ],
)
def test_half_a_character_is_named_by_its_place(path: str | None, body: bytes) -> None:
    assert refused(body) == path


@pytest.mark.parametrize(
    ("decode", "path", "body"),
    [
        (
            decode_messages,
            "messages[0].content",
            rb'{"model":"m","messages":[{"role":"user","content":"zebra \ud800"}]}',
        ),
        (decode_response_request, "input", rb'{"model":"m","input":"zebra \udc00"}'),
    ],
)
def test_it_is_named_in_every_dialect(decode: Callable[[bytes], object], path: str, body: bytes) -> None:
    with pytest.raises(InvalidChatRequest) as caught:
        decode(body)
    assert caught.value.param == path
    assert "zebra" not in str(caught.value)


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: json.dumps({"a": [text]}).encode()))
def test_whole_characters_are_never_called_half(body: bytes) -> None:
    try:
        body.decode()
        is_text = "\\ud" not in body.decode().lower() or bool(json.loads(body)["a"][0].encode())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        is_text = False
    if is_text:
        assert half_character(body) is None
