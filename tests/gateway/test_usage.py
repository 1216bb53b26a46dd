"""Tokens as they are believed and added up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.types import TOKENS_MAX, Usage
from roadbed.ledger.trace import Trace
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .conftest import CALLER, MakeGateway, ask, call, endpoint


@given(st.lists(st.integers(-(2**70), 2**70), min_size=6, max_size=6))
def test_no_usage_that_an_endpoint_says_is_more_than_a_database_holds(counts: list[int]) -> None:
    fresh, read, write_5m, write_1h, visible, reasoning = counts
    believed = Usage(fresh, read, write_5m, write_1h, visible, reasoning).clamped()
    assert 0 <= believed.input_tokens < 2**31
    assert 0 <= believed.output_tokens < 2**31
    assert believed.clamped() is believed


async def test_an_endpoint_that_says_too_much_is_not_believed(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    body = (
        b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],'
        b' "usage": {"prompt_tokens": 99999999999, "completion_tokens": 5}}'
    )
    first.script(Rule("", Reply(status=200, headers={"content-type": "application/json"}, body=body)))
    trace = Trace("smart", CALLER)
    answer, _ = await gateway_of(endpoint("a", first.url)).complete("smart", ask(), call(trace=trace))
    assert answer.text == "hi"
    assert [(usage.input_tokens, usage.output_tokens) for usage in trace.usage] == [(TOKENS_MAX, 5)]
