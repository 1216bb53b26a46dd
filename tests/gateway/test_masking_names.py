"""What leaves in a request: no value that the guard finds stands anywhere in it, not in names, keys or ids either."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadbed.gateway.dialects.openai_server import chat_from_object
from roadbed.gateway.errors import InvalidChatRequest
from roadbed.gateway.masking import GuardedRequest, guard_request
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC

MAIL = "anna.berg@example.com"
SECRET = "AKIAQ3EGVBN7ZK5MW2XH"


def guarded(guard: Guard, *, is_local: bool = False, **fields: Any) -> GuardedRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return guard_request(guard, chat_from_object(body).request, PUBLIC, is_local=is_local, vault=Vault())


def tool(name: str, value: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {value: {"type": "string", "description": value}}, "required": [value]}
    return {"type": "function", "function": {"name": name, "description": value, "parameters": schema}}


def answered(value: str) -> list[dict[str, Any]]:
    call = {"id": value, "type": "function", "function": {"name": "look", "arguments": json.dumps({value: value})}}
    return [
        {"role": "user", "content": value, "name": value},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": value, "content": value},
    ]


@pytest.mark.parametrize("value", [MAIL, SECRET])
@pytest.mark.parametrize("is_local", [True, False])
def test_no_value_leaves_in_any_field(guard: Guard, value: str, is_local: bool) -> None:
    sent = guarded(
        guard,
        is_local=is_local,
        messages=answered(value),
        tools=[tool("look", value)],
        stop=[value],
        user=value,
        metadata={value: value, "deep": [{value: [value]}]},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"title": value, value: 1}}},
    )
    if value == MAIL and is_local:  # a local model may see it
        assert MAIL in repr(sent.request)
        return
    assert value not in repr(sent.request)
    _, asked, told = sent.request.messages
    assert asked.tool_calls[0].id == told.tool_call_id != ""
    parameters = sent.request.tools[0].parameters
    assert parameters is not None
    assert list(parameters["properties"]) == parameters["required"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [tool(SECRET, "x")]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": SECRET, "schema": {}}}},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": SECRET, "arguments": "{}"}}],
                }
            ]
        },
    ],
)
def test_a_name_with_a_finding_is_refused(guard: Guard, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidChatRequest, match="name") as refused:
        guarded(guard, **fields)
    assert SECRET not in refused.value.message
