"""What a route says of its choice is what it would do."""

from __future__ import annotations

import pytest

from roadbed.gateway.policy import Asked, Condition, Policy
from roadbed.kernel.label import Label, Level
from roadbed.testing.scripted_model import Rule, ScriptedModel
from roadbed.testing.scripted_reply import failing

from .conftest import MakeGateway, ask, call, endpoint


async def test_the_explained_choice_is_the_one_that_is_made(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    big = endpoint("big", second.url)
    cloud = endpoint("cloud", second.url, is_local=False)
    policy = Policy(rules=(Condition((big, cloud), tokens_over=1000),), reserve=(big,))
    gateway = gateway_of(endpoint("a", first.url), cloud, policy=policy)
    short = gateway.explain_choice("smart", Asked(tokens=10))
    assert (short["would_ask"], short["rule"], short["refused"]) == ("a", None, "")
    assert [row["endpoint"] for row in short["order"]] == ["a", "cloud"]
    long = gateway.explain_choice("smart", Asked(Label(Level.CONFIDENTIAL), tokens=2000))
    assert (long["would_ask"], long["rule"]) == ("big", 1)
    assert long["left_out"] == [
        "cloud: not cleared for confidential",
        "a: not used by rule 1, which applies",
    ]
    async with gateway.stream("smart", ask("word " * 2000), call(label=Label(Level.CONFIDENTIAL))) as stream:
        await stream.answer()
    assert stream.outcome.endpoint == "big"
    assert stream.outcome.skipped == long["left_out"]


async def test_who_failed_last_is_named_until_it_answers(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    gateway = gateway_of(endpoint("a", first.url), chance=0.5)
    first.script(Rule("", failing(500), times=2))
    with pytest.raises(Exception, match="smart"):
        await gateway.complete("smart", ask(), call())

    def told() -> set[str]:
        shown = gateway.explain("smart")[0], gateway.explain_choice("smart", Asked())["order"][0]
        return {*(str(row["failed_last"]) for row in shown), gateway.endpoints()[0].failed_last}

    (reason,) = told()
    assert "500" in reason
    await gateway.complete("smart", ask(), call())
    assert told() == {""}


async def test_a_refusal_is_explained_and_chance_is_named(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    cloud = endpoint("cloud", first.url, is_local=False)
    refused = gateway_of(cloud).explain_choice("smart", Asked(Label(Level.RESTRICTED)))
    assert refused["would_ask"] is None
    assert "not cleared for restricted" in refused["refused"]
    assert refused["together"] == []
    both = gateway_of(cloud, endpoint("a", first.url), policy=Policy("majority")).explain_choice("smart", Asked())
    assert both["together"] == ["cloud", "a"]
    weighted = gateway_of(cloud, policy=Policy("weighted")).explain_choice("smart", Asked())
    assert weighted["by_chance"]
    assert not first.chats
    rows = gateway_of(cloud).explain("smart")
    assert (rows[0]["in_flight"], rows[0]["first_token_ms"]) == (0, {})
