"""The manifest's rules on answers reach what is cited and what a provider found, as they reach the text beside it."""

from __future__ import annotations

import pytest

from roadbed.gateway.answer_rules import RuledUnmasker, answer_filter
from roadbed.gateway.types import Cited, Event, Finished, ProviderBlock, TextDelta, TextEnded, ToolCallDelta
from roadbed.guard.gate import Guard
from roadbed.guard.manifest import GuardConfig
from roadbed.guard.rules import GuardBlocked, GuardRule
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC

from .conftest import CALLER

MAIL = "bob@example.com"
KEY = "AKIAIOSFODNN7ABCDEFG"


def ruled(guard: Guard, rule: GuardRule) -> RuledUnmasker:
    made = answer_filter(guard.with_config(GuardConfig(rules=[rule]), {}), Vault(), CALLER, PUBLIC)
    assert isinstance(made, RuledUnmasker)
    return made


def test_what_is_cited_and_what_a_provider_found_is_ruled_and_keeps_its_place(guard: Guard) -> None:
    passer = ruled(guard, GuardRule("mask", ["email"], sink=["caller"], direction="out"))
    given: list[Event] = [
        TextDelta(f"Ask {MAIL[:5]}"),
        TextDelta(MAIL[5:]),
        Cited("anthropic", {"type": "char_location", "cited_text": f"by {MAIL}", "document_index": 0}),
        TextEnded(),
        TextDelta("Found "),
        ProviderBlock("anthropic", {"type": "web_search_tool_result", "content": [{"title": f"Of {MAIL}"}]}),
        TextDelta("."),
        Finished("stop"),
    ]
    shown = [event for item in given for event in passer.feed(item)]
    ended, block = shown.index(TextEnded()), next(e for e in shown if isinstance(e, ProviderBlock))
    assert "".join(event.text for event in shown[:ended] if isinstance(event, TextDelta)) == "Ask [EMAIL]"
    between = shown[ended : shown.index(block)]
    assert "".join(event.text for event in between if isinstance(event, TextDelta)) == "Found "
    assert block.fields["content"] == [{"title": "Of [EMAIL]"}]
    assert [event.fields["cited_text"] for event in shown if isinstance(event, Cited)] == ["by [EMAIL]"]


def test_a_rule_that_blocks_ends_an_answer_that_cites_it(guard: Guard) -> None:
    passer = ruled(guard, GuardRule("block", ["secret"], sink=["caller"], direction="out"))
    with pytest.raises(GuardBlocked):
        passer.feed(Cited("anthropic", {"cited_text": f"the key is {KEY} and more of it"}))


def test_a_secret_goes_from_the_id_and_the_name_of_a_call(guard: Guard) -> None:
    passer = ruled(guard, GuardRule("mask", ["email"], sink=["caller"], direction="out"))
    shown = passer.feed(ToolCallDelta(0, KEY, f"look_{KEY}", "{}")) + passer.feed(Finished("tool_calls"))
    calls = [event for event in shown if isinstance(event, ToolCallDelta)]
    assert (calls[0].id, KEY in calls[0].name) == ("[SECRET]", False)
