"""A response format together with tools: every dialect carries both."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.types import ChatRequest, JsonSchema, Message, Tool
from roadbed.kernel.secrets import Secret

from .conftest import endpoint

SCHEMA = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
PARAMETERS = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
BOTH = ChatRequest(
    (Message("user", "What does A-1 cost?"),),
    tools=(Tool("fee_of", "The fee of an order.", PARAMETERS),),
    response_format=JsonSchema(SCHEMA, "fee", True),
)
CREDENTIALS: dict[str, Any] = {"region": "eu-central-1", "key": Secret("k"), "keys": (Secret("k"),)}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_both_are_sent(dialect: str, stream: bool) -> None:
    server = endpoint("a", "http://a.test/v1", is_local=False, dialect=dialect, **CREDENTIALS)
    encoded = DIALECTS[dialect].encode(BOTH, server, stream=stream)
    body = json.dumps(json.loads(encoded.body))
    assert "fee_of" in body
    assert "amount" in body
    assert not {"tools", "response_format"} & set(encoded.dropped)
