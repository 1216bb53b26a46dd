"""What is held back of an answer comes out where it belongs: before a seal, before another kind, at the end."""

from __future__ import annotations

from roadbed.gateway.answer_rules import RuledUnmasker
from roadbed.gateway.types import (
    Event,
    Finished,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from roadbed.guard.detect import Detector
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.label import PUBLIC
from roadbed.kernel.principal import SYSTEM

GUARD = Guard(Detector())
SECRET = "ghp_aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5"
SEAL = ReasoningSealed(ReasoningPart("anthropic", "Hm.", "sig=="))


def passed(*events: Event) -> list[Event]:
    """What comes of the events."""
    rules = RuledUnmasker(GUARD, Vault(), SYSTEM, PUBLIC)
    return [event for given in events for event in rules.feed(given)]


def test_reasoning_is_whole_before_its_seal() -> None:
    events = passed(ReasoningDelta("Hm."), SEAL, TextDelta("Yes."), Finished("stop"))
    assert events == [ReasoningDelta("Hm."), SEAL, TextDelta("Yes."), Finished("stop")]


def test_a_text_is_whole_before_another_kind_begins() -> None:
    events = passed(TextDelta("so it"), RefusalDelta("no"), ToolCallDelta(0, "c", "f", '{"a'), Finished("tool_calls"))
    assert events == [
        TextDelta("so "),
        TextDelta("it"),
        RefusalDelta("no"),
        ToolCallDelta(0, "c", "f"),
        ToolCallDelta(0, arguments='{"a'),
        Finished("tool_calls"),
    ]


def test_secrets_go_from_each_kind_and_from_calls_beside_each_other() -> None:
    half, rest = SECRET[:20], SECRET[20:]
    events = passed(
        ReasoningDelta(f"I think {half}"),
        ReasoningDelta(rest),
        ToolCallDelta(0, "a", "f", f'{{"key": "{half}'),
        ToolCallDelta(1, "b", "g", f'{{"key": "{half}'),
        ToolCallDelta(0, arguments=f'{rest}"}}'),
        ToolCallDelta(1, arguments=f'{rest}"}}'),
        Finished("tool_calls"),
    )
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    calls = ["", ""]
    for event in events:
        if isinstance(event, ToolCallDelta):
            calls[event.index] += event.arguments
    assert thought == "I think [SECRET]"
    assert calls == ['{"key": "[SECRET]"}'] * 2


def test_a_seal_around_a_secret_is_left_out() -> None:
    sealed = ReasoningSealed(ReasoningPart("anthropic", f"I think {SECRET}.", "sig=="))
    events = passed(ReasoningDelta(f"I think {SECRET}."), sealed, Finished("stop"))
    assert sealed not in events
    assert SECRET not in str(events)
