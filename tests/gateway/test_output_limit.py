"""Limits of tokens that nobody asked for: told to a provider, kept here for an engine of this house."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.affording import bounded
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.meter import TokenEstimator
from roadbed.gateway.output_limit import kept_here, told
from roadbed.gateway.policy import PLAIN, Policy
from roadbed.gateway.prices import price_from_usd
from roadbed.gateway.splice import outgoing
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .conftest import MakeGateway, ask, call, endpoint

FREE, DEAR = price_from_usd("local", 0, 0), price_from_usd("test", 2.0, 10.0)
ENDLESS = Reply(text="on and on " * 2000, gap_s=0.001)
CLOSE_S_MAX = 60.0


@given(
    st.none() | st.integers(1, 10_000),
    st.none() | st.integers(1, 10_000),
    st.none() | st.integers(1, 20_000),
    st.sampled_from([None, FREE, DEAR]),
    st.booleans(),
)
def test_a_limit_of_ours_only_ever_lowers(
    asked: int | None, default: int | None, window: int | None, price: object, is_local: bool
) -> None:
    request = ask("Say something", max_tokens=asked, tokens_default=default)
    there = endpoint("e", "http://x/v1", is_local=is_local, context_tokens=window, price=price)
    sent, kept = told(request, there, TokenEstimator()).max_tokens, kept_here(request, there)
    if asked is not None:
        assert (sent, kept) == (asked, None)
    elif is_local and price is not DEAR:
        assert (sent, kept) == (None, default)
    else:
        assert kept is None
        assert sent is None if default is None else 1 <= sent <= default  # type: ignore[operator]
        if sent is not None and window is not None and window > 100:
            assert sent < window


@pytest.mark.parametrize("policy", [PLAIN, Policy(queue=9), Policy("majority")])
@pytest.mark.parametrize("is_whole", [True, False])
async def test_an_engine_that_is_not_told_is_left_at_the_limit(
    gateway_of: MakeGateway, first: ScriptedModel, policy: Policy, *, is_whole: bool
) -> None:
    first.script(Rule("", ENDLESS))
    gateway = gateway_of(endpoint("own", first.url, is_local=True), policy=policy)
    async with gateway.stream("smart", ask(tokens_default=30), call(), is_whole=is_whole) as stream:
        answer = await stream.answer()
    assert (answer.finish_reason, stream.outcome.is_complete) == ("length", True)
    assert 70 <= len(answer.text) <= 130
    assert stream.outcome.usage.output_tokens > 30
    await asyncio.wait_for(first.chats[0].closed.wait(), CLOSE_S_MAX)
    assert "max_tokens" not in first.chats[0].json
    assert gateway.health_of("own").in_flight == 0


async def test_the_engine_s_own_smaller_limit_holds(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.script(Rule("", Reply(text="one two", finish="length")))
    answer, _ = await gateway_of(endpoint("own", first.url)).complete("smart", ask(tokens_default=4096), call())
    assert (answer.text, answer.finish_reason) == ("one two", "length")


async def test_a_provider_is_told_within_its_window(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    outside = endpoint("cloud", first.url, is_local=False, context_tokens=1000)
    answer, _ = await gateway_of(outside).complete("smart", ask("word " * 200, tokens_default=4096), call())
    assert answer.finish_reason == "stop"
    assert 600 <= first.chats[0].json["max_tokens"] <= 700


def test_a_budget_does_not_raise_the_limit_of_a_free_engine() -> None:
    body = b'{"model":"smart","messages":[{"role":"user","content":"hi"}]}'
    incoming, own = decode_chat(body), endpoint("own", "http://127.0.0.1:9/v1", price=FREE)
    sent = outgoing(body, incoming, own, stream=False)
    assert sent is not None
    assert bounded(sent, incoming, own) == (sent, 0)
