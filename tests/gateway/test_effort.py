"""How much to think, from every dialect of callers to every dialect of endpoints: carried, or left out by its name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.conftest import endpoint

from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.types import ChatRequest, Message, NamedTool, ReasoningPart, Tool, ToolCall

ASKED = (Message("user", "x"),)
CALLERS: dict[str, dict[str, Any]] = {
    "openai": {"reasoning_effort": "medium"},
    "responses": {"reasoning": {"effort": "medium", "summary": "auto"}},
    "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 3000, "display": "omitted"}},
}
NAMES = {"openai": "reasoning_effort", "responses": "reasoning", "anthropic": "thinking"}
RESTS = {"openai": (), "responses": ("reasoning.summary",), "anthropic": ("thinking.display",)}
BUDGETS = {"openai": 8192, "responses": 8192, "anthropic": 3000}
FIELDS = ("reasoning_effort", "reasoning", "thinking", "output_config", "outputConfig", "think",
          "additionalModelRequestFields")  # fmt: skip


def encoded(
    caller: str, to: str, model: str, passthrough: dict[str, Any], max_tokens: int | None = 20_000, **more: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    request = ChatRequest(
        more.pop("messages", ASKED),
        max_tokens=max_tokens,
        passthrough=passthrough,
        passthrough_dialect=caller,
        **more,
    )
    sent = DIALECTS[to].encode(request, endpoint("there", "http://x/v1", dialect=to, model=model))
    body = json.loads(sent.body)
    said = {name: body[name] for name in FIELDS if name in body}
    thinking = body.get("generationConfig", {}).get("thinkingConfig")
    return said | ({"thinkingConfig": thinking} if thinking else {}), sent.dropped


TAKES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("openai", "gpt-5.2", {"reasoning_effort": "medium"}),
    ("openai", "openai/gpt-oss-120b", {"reasoning_effort": "medium"}),
    ("responses", "o4-mini", {"reasoning": {"effort": "medium"}}),
    ("anthropic", "claude-sonnet-5", {"output_config": {"effort": "medium"}}),
    ("anthropic", "claude-opus-4-5-20251101", {"output_config": {"effort": "medium"}}),
    ("anthropic", "claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": ...}}),
    ("anthropic", "claude-sonnet-4-20250514", {"thinking": {"type": "enabled", "budget_tokens": ...}}),
    ("gemini", "gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": ..., "includeThoughts": True}}),
    ("gemini", "gemini-3.1-pro", {"thinkingConfig": {"thinkingLevel": "medium", "includeThoughts": True}}),
    ("bedrock", "anthropic.claude-opus-4-6-v1", {"outputConfig": {"effort": "medium"}}),
    (
        "bedrock",
        "eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": ...}}},
    ),
    ("ollama", "qwen3:8b", {"think": True}),
    ("ollama", "gpt-oss:20b", {"think": "medium"}),
)


@pytest.mark.parametrize(
    ("caller", "to", "model", "expected"), [(name, *case) for case in TAKES for name in CALLERS if name != case[0]]
)
def test_it_is_carried_where_the_model_takes_it(caller: str, to: str, model: str, expected: dict[str, Any]) -> None:
    said, dropped = encoded(caller, to, model, CALLERS[caller])
    wanted = json.loads(json.dumps(expected, default=lambda _: BUDGETS[caller]))
    assert said.pop("include", None) is None
    assert said == wanted
    assert dropped == RESTS[caller]


@pytest.mark.parametrize(
    ("caller", "to", "model"),
    [
        ("anthropic", "openai", "qwen3-32b"),
        ("anthropic", "openai", "gpt-4o"),
        ("anthropic", "openai", "gpt-5-chat-latest"),
        ("anthropic", "openai", "o1-mini"),
        ("anthropic", "responses", "gpt-4.1"),
        ("responses", "gemini", "gemini-2.0-flash"),
        ("anthropic", "gemini", "gemini-flash-latest"),
    ],
)
def test_a_model_that_is_not_known_to_take_it_is_sent_none(caller: str, to: str, model: str) -> None:
    assert encoded(caller, to, model, CALLERS[caller]) == ({}, (NAMES[caller],))


@pytest.mark.parametrize("to", ["openai", "responses", "gemini"])
def test_thought_without_a_measure_is_left_to_the_model_and_named(to: str) -> None:
    said, dropped = encoded("anthropic", to, "gpt-5.2", {"thinking": {"type": "adaptive"}})
    assert (said, dropped) == ({}, ("thinking",))
    said, dropped = encoded("anthropic", "openai", "gpt-5.2", {"thinking": {"type": "adaptive"}, "output_config": {}})
    assert (said, dropped) == ({}, ("output_config", "thinking"))


@pytest.mark.parametrize(
    ("to", "model", "expected"),
    [
        ("openai", "gpt-5.1", {"reasoning_effort": "none"}),
        ("openai", "gpt-5", {}),
        ("gemini", "gemini-2.5-flash", {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": False}}),
        ("ollama", "qwen3:8b", {"think": False}),
    ],
)
def test_no_thought_is_said_where_it_can_be_said(to: str, model: str, expected: dict[str, Any]) -> None:
    said, dropped = encoded("anthropic", to, model, {"thinking": {"type": "disabled"}})
    assert (said, dropped) == (expected, () if expected else ("thinking",))


def test_the_level_that_a_caller_names_goes_before_its_budget() -> None:
    fields = {"thinking": {"type": "enabled", "budget_tokens": 20_000}, "output_config": {"effort": "low"}}
    assert encoded("anthropic", "openai", "o3", fields) == ({"reasoning_effort": "low"}, ())
    assert encoded("anthropic", "responses", "o3", {"output_config": {"effort": "max"}}) == (
        {"reasoning": {"effort": "high"}},
        (),
    )


def test_thought_leaves_half_of_the_limit_for_the_answer() -> None:
    high = {"reasoning_effort": "high"}
    for to, model in (("anthropic", "claude-haiku-4-5"), ("bedrock", "anthropic.claude-sonnet-4-5-v1:0")):
        said, dropped = encoded("openai", to, model, high, 4000)
        assert dropped == ()
        assert '"budget_tokens": 2000' in json.dumps(said)
        assert encoded("openai", to, model, high, 2000) == ({}, ("reasoning_effort",))  # under what the model takes
        assert '"budget_tokens": 2048' in json.dumps(encoded("openai", to, model, high, None)[0])
    said, _ = encoded("openai", "gemini", "gemini-2.5-flash", high, 1000)
    assert said["thinkingConfig"]["thinkingBudget"] == 500
    said, _ = encoded("openai", "gemini", "gemini-2.5-flash-lite", high, 1000)
    assert said["thinkingConfig"]["thinkingBudget"] == 0  # under what the model takes
    said, _ = encoded("openai", "gemini", "gemini-2.5-pro", high, 100)
    assert said["thinkingConfig"]["thinkingBudget"] == 128


CALLED = (ToolCall("t", "a", "{}"),)
UNDER_WAY = (*ASKED, Message("assistant", "", tool_calls=CALLED), Message("tool", "1", tool_call_id="t"))
SEALED = Message("assistant", (ReasoningPart("anthropic", "Hm.", "s"),), tool_calls=CALLED)


@pytest.mark.parametrize(
    ("more", "is_carried"),
    [
        ({"tools": (Tool("a"),), "tool_choice": "required"}, False),
        ({"tools": (Tool("a"),), "tool_choice": NamedTool("a")}, False),
        ({"tools": (Tool("a"),), "tool_choice": "auto"}, True),
        ({"temperature": 0.0}, False),
        ({"temperature": 1.0}, True),
        ({"top_p": 0.9}, False),
        ({"top_p": 0.95}, True),
        ({"tools": (Tool("a"),), "messages": UNDER_WAY}, False),
        ({"tools": (Tool("a"),), "messages": (*UNDER_WAY, Message("user", "y"))}, True),
        ({"tools": (Tool("a"),), "messages": (ASKED[0], SEALED, UNDER_WAY[2])}, True),
    ],
)
def test_thought_is_not_asked_for_where_the_model_would_refuse_the_request(
    more: dict[str, Any], *, is_carried: bool
) -> None:
    said, dropped = encoded("openai", "anthropic", "claude-haiku-4-5", {"reasoning_effort": "high"}, **more)
    assert bool(said) is is_carried
    assert dropped == (() if is_carried else ("reasoning_effort",))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 100_000) | st.sampled_from(["low", "none", "max", "enabled", "x"]),
    lambda inner: st.dictionaries(st.sampled_from(["effort", "type", "budget_tokens", "summary", "x"]), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(list(CALLERS)),
    st.dictionaries(st.sampled_from(["reasoning_effort", "reasoning", "thinking", "output_config"]), ANYTHING),
    st.sampled_from(
        [
            ("openai", "gpt-5.2"),
            ("responses", "qwen3"),
            ("anthropic", "claude-haiku-4-5"),
            ("anthropic", "claude-opus-5"),
            ("gemini", "gemini-2.5-pro"),
            ("bedrock", "anthropic.claude-sonnet-4-5"),
            ("ollama", "qwen3:8b"),
        ]
    ),
    st.none() | st.integers(1, 100_000),
)
def test_nothing_is_lost_in_silence_and_no_budget_takes_all_of_the_answer(
    caller: str, passthrough: dict[str, Any], to: tuple[str, str], max_tokens: int | None
) -> None:
    if caller == to[0]:
        return
    said, dropped = encoded(caller, *to, passthrough, max_tokens)
    is_decoded = bool(passthrough.get("reasoning", True)) and isinstance(passthrough.get("reasoning", {}), dict)
    if not said and is_decoded and not any(word in repr(passthrough) for word in ("none", "disabled")):
        assert {name.partition(".")[0] for name in dropped} == set(passthrough)
    budget = (said.get("thinking") or said.get("additionalModelRequestFields", {}).get("thinking") or {}).get(
        "budget_tokens"
    )
    if budget is not None:
        assert 1024 <= budget <= (max_tokens or 4096) // 2
