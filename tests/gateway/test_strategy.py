"""Which endpoint a route asks: labels first, every endpoint named, and each strategy's own promise."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.manifest import ModelConfig, OnConfig, WhenConfig
from roadbed.gateway.policy import PLAIN, Asked, Condition, Policy, is_within, minutes_of
from roadbed.gateway.prices import price_from_usd, shipped_prices
from roadbed.gateway.route import Route, build_routes, may_take
from roadbed.gateway.strategy import Choice, choose, prefix_of
from roadbed.gateway.types import ChatRequest, Message
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import Label, Level

from .conftest import endpoint

URL = "http://127.0.0.1:9/v1"
STRATEGIES = ["ordered", "weighted", "least-loaded", "cheapest", "sticky"]
OWN = endpoint("own", URL, price=price_from_usd("own", 0, 0), context_tokens=1000)
CLOUD = endpoint("cloud", "https://x.example/v1", is_local=False, price=price_from_usd("cloud", 1, 5))
CLEARED = endpoint(
    "cleared", "https://y.example/v1", is_local=False, labels=("confidential",), price=price_from_usd("c", 0.5, 1)
)
UNPRICED = endpoint("unpriced", "https://z.example/v1", is_local=False)
KEYLESS = endpoint("keyless", "https://k.example/v1", is_local=False, fault="no key")
ALL = (OWN, CLOUD, CLEARED, UNPRICED, KEYLESS)


def pick(
    *ladder: Endpoint,
    asked: Asked | None = None,
    resting: frozenset[str] = frozenset(),
    loads: Any = None,
    **policy: Any,
) -> Choice:
    dice = random.Random(1)
    return choose(
        Route("r", ladder, policy=Policy(**policy)),
        asked or Asked(),
        lambda item: "resting" if item.name in resting else "",
        lambda item: (loads or {}).get(item.name, 1.0),
        dice.random,
    )


def names(choice: Choice) -> list[str]:
    return [candidate.endpoint.name for candidate in choice.plan.candidates]


ASKED = st.builds(
    Asked,
    label=st.sampled_from([Label(level) for level in Level]),
    team=st.sampled_from(["", "support"]),
    tokens=st.integers(0, 3000),
    output_tokens=st.none() | st.integers(1, 500),
    prefix=st.binary(max_size=8),
)
RULES = st.lists(
    st.builds(
        Condition,
        use=st.lists(st.sampled_from(ALL), min_size=1, max_size=3, unique=True).map(tuple),
        label=st.none() | st.just(Label(Level.INTERNAL)),
        team=st.sampled_from(["", "support"]),
        tokens_over=st.none() | st.integers(0, 2000),
    ),
    max_size=3,
).map(tuple)


@given(
    asked=ASKED,
    ladder=st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    strategy=st.sampled_from(STRATEGIES),
    weights=st.dictionaries(st.sampled_from(["own", "cloud", "cleared"]), st.sampled_from([0.0, 0.5, 3.0])),
    rules=RULES,
    resting=st.frozensets(st.sampled_from([item.name for item in ALL])),
    seed=st.integers(0, 9),
)
def test_no_strategy_widens_what_the_label_allows_and_everyone_left_out_is_named(
    asked: Asked,
    ladder: list[Endpoint],
    strategy: Any,
    weights: dict[str, float],
    rules: tuple[Condition, ...],
    resting: frozenset[str],
    seed: int,
) -> None:
    route = Route("r", tuple(ladder), policy=Policy(strategy, weights, rules))
    dice = random.Random(seed)
    try:
        choice = choose(
            route, asked, lambda item: "resting" if item.name in resting else "", lambda item: 1.0, dice.random
        )
    except NoCandidate:
        return
    chosen = names(choice)
    applying = next((rule for rule in rules if rule.applies(asked)), None)
    pool = ladder if applying is None else applying.use
    for candidate in choice.plan.candidates:
        assert may_take(candidate.endpoint, asked.label)
        assert not candidate.endpoint.fault
        assert candidate.endpoint in pool
        assert candidate.endpoint.name not in resting
        assert choice.route.ladder[candidate.position] == candidate.endpoint
    left_out = [reason.partition(": ")[0] for reason in choice.plan.skipped]
    assert len(set(chosen)) == len(chosen)
    assert Counter([*chosen, *left_out]) == Counter({item.name for item in (*ladder, *pool)})


def test_a_weighted_route_shares_by_weight_and_takes_out_what_weighs_nothing() -> None:
    dice = random.Random(7)
    route = Route("r", (OWN, CLOUD, CLEARED), policy=Policy("weighted", {"own": 3.0, "cleared": 0.0}))
    firsts: Counter[str] = Counter()
    for _ in range(4000):
        choice = choose(route, Asked(), lambda item: "", lambda item: 1.0, dice.random)
        firsts[names(choice)[0]] += 1
        assert choice.plan.skipped == ("cleared: its weight is 0",)
        assert choice.route.rung(0) == "full", "whoever is asked first among equals is the full rung"
    assert 0.7 < firsts["own"] / 4000 < 0.8


@given(loads=st.tuples(*[st.floats(0.01, 10)] * 3), seed=st.integers(0, 99))
def test_of_two_at_random_the_less_loaded_is_first_and_the_most_loaded_never(
    loads: tuple[float, float, float], seed: int
) -> None:
    by_name = dict(zip(("own", "cloud", "cleared"), loads, strict=True))
    route = Route("r", (OWN, CLOUD, CLEARED), policy=Policy("least-loaded"))
    chosen = names(choose(route, Asked(), lambda i: "", lambda i: by_name[i.name], random.Random(seed).random))
    assert sorted(chosen) == ["cleared", "cloud", "own"]
    assert by_name[chosen[0]] <= sorted(loads)[1], "the most loaded of three loses to either other"
    assert [by_name[name] for name in chosen[1:]] == sorted(by_name[name] for name in chosen[1:])


def test_cheapest_goes_by_what_the_request_costs_and_leaves_out_what_does_not_qualify() -> None:
    dear_in = endpoint("dear-in", URL, price=price_from_usd("a", 9, 1))
    dear_out = endpoint("dear-out", URL, price=price_from_usd("b", 1, 9))
    asked = Asked(tokens=5000, output_tokens=10)
    assert names(pick(dear_in, dear_out, asked=asked, strategy="cheapest")) == ["dear-out", "dear-in"]
    asked = Asked(tokens=10, output_tokens=5000)
    assert names(pick(dear_out, dear_in, asked=asked, strategy="cheapest")) == ["dear-in", "dear-out"]
    choice = pick(CLOUD, UNPRICED, OWN, asked=Asked(tokens=1200), strategy="cheapest")
    assert names(choice) == ["cloud"]
    assert choice.plan.skipped == (
        "unpriced: its price is not known",
        "own: its window of 1000 tokens is too small for about 1200",
    )
    with pytest.raises(NoCandidate, match="its price is not known"):
        pick(UNPRICED, strategy="cheapest")
    assert names(pick(OWN, UNPRICED, resting=frozenset({"own"}), strategy="cheapest")) == [], "rests, but qualifies"


@given(prefix=st.binary(min_size=16, max_size=16), gone=st.sampled_from(["own", "cloud", "cleared"]))
def test_a_prefix_stays_where_it_was_unless_its_endpoint_leaves(prefix: bytes, gone: str) -> None:
    asked = Asked(prefix=prefix)
    before = names(pick(OWN, CLOUD, CLEARED, asked=asked, strategy="sticky"))
    assert before == names(pick(CLEARED, OWN, CLOUD, asked=asked, strategy="sticky")), "the ladder's order is nothing"
    after = names(pick(OWN, CLOUD, CLEARED, asked=asked, resting=frozenset({gone}), strategy="sticky"))
    assert after == [name for name in before if name != gone]


def test_prefixes_are_spread_by_weight_and_do_not_change_with_later_turns() -> None:
    firsts = Counter(
        names(pick(OWN, CLOUD, asked=Asked(prefix=n.to_bytes(4, "big")), strategy="sticky", weights={"own": 3.0}))[0]
        for n in range(2000)
    )
    assert 0.7 < firsts["own"] / 2000 < 0.8
    first = (Message("system", "You help."), Message("user", "Hello"))
    later = (*first, Message("assistant", "Hi"), Message("user", "More"))
    assert prefix_of(ChatRequest(first)) == prefix_of(ChatRequest(later))
    assert prefix_of(ChatRequest(first)) != prefix_of(ChatRequest((first[0], Message("user", "Hello there"))))


RULE = Condition(
    (CLEARED,), Label(Level.CONFIDENTIAL), "support", 100, (("x-tier", "gold"),), minutes_of("22:00-06:00")
)
MEETS = Asked(Label(Level.RESTRICTED), "support", 101, None, {"x-tier": "gold"}, 23 * 60)


@pytest.mark.parametrize(
    ("asked", "applies"),
    [
        (MEETS, True),
        (Asked(Label(Level.INTERNAL), "support", 101, None, {"x-tier": "gold"}, 23 * 60), False),
        (Asked(Label(Level.RESTRICTED), "sales", 101, None, {"x-tier": "gold"}, 23 * 60), False),
        (Asked(Label(Level.RESTRICTED), "support", 100, None, {"x-tier": "gold"}, 23 * 60), False),
        (Asked(Label(Level.RESTRICTED), "support", 101, None, {}, 23 * 60), False),
        (Asked(Label(Level.RESTRICTED), "support", 101, None, {"x-tier": "gold"}, 12 * 60), False),
    ],
)
def test_a_rule_applies_when_every_condition_holds(asked: Asked, applies: bool) -> None:
    assert RULE.applies(asked) is applies


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 1439))
def test_a_span_and_the_rest_of_the_day_make_a_day(minute: int, start: int, end: int) -> None:
    if start != end:
        assert is_within(minute, start, end) != is_within(minute, end, start)


def test_the_first_rule_that_applies_replaces_the_ladder_and_names_the_others() -> None:
    rules = (Condition((CLEARED,), Label(Level.CONFIDENTIAL)), Condition((CLOUD, OWN), tokens_over=100))
    assert names(pick(OWN, rules=rules)) == ["own"]
    choice = pick(OWN, asked=Asked(Label(Level.CONFIDENTIAL), tokens=500), rules=rules)
    assert (names(choice), choice.rule) == (["cleared"], 0)
    assert choice.plan.skipped == ("own: not used by rule 1, which applies",)
    assert choice.route.rung(0) == "full"
    assert names(pick(OWN, asked=Asked(tokens=500), rules=rules)) == ["cloud", "own"]
    to_cloud = (Condition((CLOUD,), Label(Level.CONFIDENTIAL)),)
    with pytest.raises(NoCandidate, match="cloud: not cleared for confidential"):
        pick(OWN, asked=Asked(Label(Level.CONFIDENTIAL)), rules=to_cloud)


def built(**values: Any) -> Route:
    from roadbed.gateway.manifest import EndpointConfig

    endpoints = {
        name: EndpointConfig("openai", "m", f"http://127.0.0.1:{port}/v1") for port, name in enumerate("abc", 1)
    }
    models = {"r": ModelConfig(["a", "b"], **values), "j": ModelConfig(["c"])}
    return build_routes(endpoints, models, prices=shipped_prices())["r"]


def test_the_manifest_becomes_a_policy() -> None:
    assert built().policy is PLAIN, "a ladder without more goes its short way"
    route = built(
        strategy="weighted",
        weights={"a": 2.0},
        when=[WhenConfig(["c"], label="confidential", header={"X-Tier": "gold"}, hours="22:00-06:00")],
        on=OnConfig(context_length="c"),
    )
    policy = route.policy
    assert (policy.strategy, policy.weights, policy.target("context_length")) == ("weighted", {"a": 2.0}, "c")
    assert [item.name for item in route.endpoints] == ["a", "b", "c"]
    assert policy.header_names == {"x-tier"}
    assert policy.rules[0].hours == (22 * 60, 6 * 60)
    judged = built(strategy="best-of", judge="j").judge
    assert judged is not None
    assert judged.name == "j"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"weights": {"x": 1.0}}, "models.r.weights"),
        ({"when": [WhenConfig(["x"])]}, r"models.r.when\[0\].use"),
        ({"when": [WhenConfig(["a"], hours="25:00-26:00")]}, "hours"),
        ({"when": [WhenConfig(["a"], header={"x tier": "1"})]}, "header"),
        ({"on": OnConfig(stall="x")}, "models.r.on.stall"),
        ({"strategy": "best-of", "judge": "x"}, "models.r.judge"),
        ({"strategy": "majority", "on_cut": "continue"}, "models.r.on_cut"),
    ],
)
def test_a_policy_that_names_nothing_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        built(**values)
