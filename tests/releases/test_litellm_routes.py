"""How requests are shared: realistic configurations become routes that ask whom LiteLLM would; the rest is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.policy import Asked
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.route import Route, build_routes
from roadbed.gateway.strategy import choose
from roadbed.kernel.config import parse_yaml
from roadbed.releases.litellm import Imported, import_litellm
from roadbed.releases.litellm_routes import BEHIND, Deployment, shape_of, tiers_of
from roadbed.releases.workspace import load_workspace

DRAWS = 2000

CANARY = """
model_list:
  - {model_name: gpt, litellm_params: {model: hosted_vllm/old, api_base: "http://10.0.0.1/v1", weight: 9}}
  - {model_name: gpt, litellm_params: {model: hosted_vllm/new, api_base: "http://10.0.0.2/v1", weight: 1}}
"""

QUOTAS = """
model_list:
  - {model_name: gpt, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/A, rpm: 900, tpm: 100000}}
  - {model_name: gpt, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/B, rpm: 300, tpm: 100000}}
router_settings: {routing_strategy: simple-shuffle}
"""

TIERED = """
model_list:
  - {model_name: chat, litellm_params: {model: hosted_vllm/a, api_base: "http://10.0.0.1/v1", order: 1, weight: 3}}
  - {model_name: chat, litellm_params: {model: hosted_vllm/a, api_base: "http://10.0.0.2/v1", order: 1, weight: 1}}
  - {model_name: chat, litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/K, order: 2}}
  - {model_name: chat, litellm_params: {model: groq/llama, api_key: os.environ/G}}
  - {model_name: big, litellm_params: {model: anthropic/claude-sonnet-5, api_key: os.environ/C}}
  - {model_name: big, litellm_params: {model: anthropic/claude-sonnet-5, api_key: os.environ/D}}
router_settings:
  routing_strategy: usage-based-routing-v2
  fallbacks: [{chat: [big]}]
  context_window_fallbacks: [{chat: [big]}]
  model_group_alias: {fast: chat}
litellm_settings:
  content_policy_fallbacks: [{big: [chat, nowhere]}]
  default_team_settings: [{team_id: t, tpm_limit: 50000, rpm_limit: 0}]
"""


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The providers' keys that the configurations name."""
    for name in "ABCDGK":
        monkeypatch.setenv(name, "sk-test")


def imported(text: str) -> Imported:
    made = import_litellm(parse_yaml(text).value, "acme")
    load_workspace(Path(__file__).parent, yaml.safe_dump(made.manifest, sort_keys=False))
    return made


def routes_of(made: Imported) -> dict[str, Route]:
    """The routes that serve, of a manifest that is written out and read again."""
    text = yaml.safe_dump(made.manifest, sort_keys=False)
    manifest = load_workspace(Path(__file__).parent, text).manifest
    return build_routes(manifest.endpoints, manifest.models, prices=shipped_prices())


def firsts(route: Route, down: frozenset[str] = frozenset()) -> Counter[str]:
    """Who is asked first, over many requests."""
    chance = Random(7).random
    found: Counter[str] = Counter()
    for _ in range(DRAWS):
        chosen = choose(
            route, Asked(tokens=100), lambda endpoint: "down" * (endpoint.name in down), lambda endpoint: 1.0, chance
        )
        found[chosen.plan.candidates[0].endpoint.name] += 1
    return found


def test_weights_are_shares() -> None:
    made = imported(CANARY)
    assert made.left == []
    assert made.manifest["models"] == {
        "gpt": {"ladder": ["gpt-1", "gpt-2"], "strategy": "weighted", "weights": {"gpt-1": 9.0, "gpt-2": 1.0}}
    }
    asked = firsts(routes_of(made)["gpt"])
    assert 0.87 <= asked["gpt-1"] / DRAWS <= 0.93


def test_limits_are_weights_where_nothing_else_says() -> None:
    made = imported(QUOTAS)
    assert made.left == []
    assert made.manifest["models"]["gpt"]["weights"] == {"gpt-1": 900.0, "gpt-2": 300.0}
    assert made.manifest["endpoints"]["gpt-1"]["rate"] == "900/min"


def test_orders_and_fallbacks_stand_behind() -> None:
    made = imported(TIERED)
    chat = made.manifest["models"]["chat"]
    assert chat["ladder"] == ["chat-1", "chat-2", "chat-3", "chat-4", "big-1", "big-2"]
    assert chat["strategy"] == "weighted"
    assert chat["on"] == {"context_length": "big-1"}
    assert made.manifest["models"]["fast"] == chat
    assert made.manifest["models"]["big"] == {
        "ladder": ["big-1", "big-2"], "strategy": "least-loaded", "on": {"content_filter": "chat-1"}
    }  # fmt: skip
    assert made.manifest["teams"] == {"t": {"tokens": "50000/min"}}
    route = routes_of(made)["chat"]
    asked = firsts(route)
    assert set(asked) == {"chat-1", "chat-2"}
    assert 0.7 <= asked["chat-1"] / DRAWS <= 0.8
    assert set(firsts(route, frozenset({"chat-1", "chat-2"}))) == {"chat-3"}
    assert set(firsts(route, frozenset({"chat-1", "chat-2", "chat-3"}))) == {"chat-4"}
    behind = firsts(route, frozenset({"chat-1", "chat-2", "chat-3", "chat-4"}))
    assert set(behind) == {"big-1", "big-2"}
    assert 0.45 <= behind["big-1"] / DRAWS <= 0.55


def test_what_is_not_met_is_in_the_report() -> None:
    left = {item.path: item.why for item in imported(TIERED).left}
    assert set(left) == {
        "router_settings.routing_strategy (chat)",
        "router_settings.routing_strategy (big)",
        "context_window_fallbacks.chat",
        "content_policy_fallbacks.big",
        "litellm_settings.default_team_settings[0].rpm_limit",
    }
    assert "shared by weight" in left["router_settings.routing_strategy (chat)"]
    assert "least-loaded stands for it" in left["router_settings.routing_strategy (big)"]
    assert "only big-1" in left["context_window_fallbacks.chat"]


@pytest.mark.parametrize(
    ("params", "routing", "fields", "left"),
    [
        ("weight: 2", "", {"strategy": "weighted", "weights": {"a-1": 2.0, "a-2": 2 * BEHIND}}, "no weight beside"),
        ("weight: much", "", {"strategy": "weighted"}, "a weight is a number"),
        ("order: first", "", {"strategy": "weighted"}, "an order is a whole number"),
        ("rpm: 5", "", {"strategy": "weighted"}, "rpm stands at some"),
        ("max_tokens: 9", "least-busy", {"strategy": "least-loaded"}, "least-loaded stands for it"),
        ("max_tokens: 9", "cost-based-routing", {"strategy": "weighted"}, "whose every endpoint has a price"),
        ("max_tokens: 9", "my-own", {"strategy": "weighted"}, "no strategy of this name"),
    ],
)
def test_each_wish_that_cannot_be_met_is_named(params: str, routing: str, fields: dict[str, Any], left: str) -> None:
    made = imported(
        "model_list:\n"
        f"  - {{model_name: a, litellm_params: {{model: groq/x, api_key: os.environ/K, {params}}}}}\n"
        "  - {model_name: a, litellm_params: {model: groq/y, api_key: os.environ/K}}\n"
        + (f"router_settings: {{routing_strategy: {routing}}}" if routing else "")
    )
    assert made.manifest["models"] == {"a": {"ladder": ["a-1", "a-2"], **fields}}
    assert [item for item in made.left if left in item.why]


def test_the_cheapest_is_asked_where_every_price_is_known() -> None:
    priced = "{model_name: a, litellm_params: {model: groq/x, api_key: os.environ/K, input_cost_per_token: %s, "
    priced += "output_cost_per_token: 0.000001}}"
    lines = "".join(f"  - {priced % cost}\n" for cost in ("0.000002", "0.000001"))
    made = imported(f"model_list:\n{lines}router_settings: {{routing_strategy: cost-based-routing}}")
    assert made.left == []
    assert made.manifest["models"] == {"a": {"ladder": ["a-1", "a-2"], "strategy": "cheapest"}}
    assert set(firsts(routes_of(made)["a"])) == {"a-2"}


SHARES = st.none() | st.integers(0, 50).map(float)
DEPLOYMENTS = st.lists(
    st.tuples(st.none() | st.integers(1, 3), st.tuples(SHARES, SHARES, SHARES)), min_size=1, max_size=5
)


@given(DEPLOYMENTS, st.lists(DEPLOYMENTS, max_size=3), st.sampled_from(["", "least-busy", "cost-based-routing", "x"]))
def test_who_stands_behind_has_a_share_that_is_too_small_to_come_first(own: Any, others: Any, routing: str) -> None:
    groups = [
        [Deployment(f"e{number}-{place}", order, shares) for place, (order, shares) in enumerate(group)]
        for number, group in enumerate([own, *others])
    ]
    shape = shape_of(groups[0], groups[1:], routing)
    assert sorted(shape.ladder) == sorted(deployment.name for group in groups for deployment in group)
    first = {deployment.name for deployment in tiers_of(groups[0])[0]}
    assert set(shape.ladder[: len(first)]) == first
    weights = shape.fields.get("weights", {})
    assert set(weights) <= set(shape.ladder)
    if shape.fields.get("strategy") == "weighted" and weights:
        ahead = max(weights[name] for name in first)
        assert ahead > 0
        assert all(weights[name] <= ahead * BEHIND * 1.01 for name in shape.ladder if name not in first)
