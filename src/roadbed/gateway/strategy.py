"""Which endpoint of a route is asked first, and in which order the others: pure functions of request, route and load.

Rules choose the endpoints, labels leave out what the data may not reach, the strategy orders the rest. Load and chance
are given by the caller. The invariant: what comes out is a subset of what the label allows, and every endpoint of the
ladder is either a candidate or named once with its reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.policy import Asked, Policy
from roadbed.gateway.route import Candidate, Plan, Route, may_take, plan, why_not
from roadbed.gateway.types import ChatRequest

OUTPUT_TOKENS_SUPPOSED = 512
"""The answer's length that prices are compared for where the caller set no limit."""

WEIGHED = frozenset({"weighted", "least-loaded", "sticky"})
EQUALS = WEIGHED | {"cheapest"}
"""Strategies to which the ladder is a set: the one that is asked first is the full rung."""

PREFIX_CHARACTERS_MAX = 16 * 1024


class Choice(msgspec.Struct, frozen=True):
    """The plan, and the route in the order that the plan gives it, by which rungs are named."""

    plan: Plan
    route: Route
    rule: int | None = None


def choose(
    route: Route,
    asked: Asked,
    why_unavailable: Callable[[Endpoint], str],
    load: Callable[[Endpoint], float],
    chance: Callable[[], float],
) -> Choice:
    """The candidates of a request in the order of the route's strategy.

    ``load`` is the seconds that a token would take at an endpoint now; ``chance`` gives numbers in [0, 1). Raises
    `NoCandidate` as `plan` does, and where a strategy's own conditions leave nobody.
    """
    policy = route.policy
    number = next((number for number, rule in enumerate(policy.rules) if rule.applies(asked)), None)
    pool = route.ladder if number is None else policy.rules[number].use
    ruled = replace(route, ladder=pool)
    allowed = plan(ruled, asked.label, lambda endpoint: "")
    skipped = [*allowed.skipped]
    skipped += [_left_out_by_rule(endpoint, asked, number) for endpoint in route.ladder if endpoint not in pool]
    available: list[Candidate] = []
    unfit = []
    for candidate in allowed.candidates:
        reason = why_unfit(policy, candidate.endpoint, asked)
        if reason:
            unfit.append(f"{candidate.endpoint.name}: {reason}")
            continue
        reason = why_unavailable(candidate.endpoint)
        if reason:
            skipped.append(f"{candidate.endpoint.name}: {reason}")
        else:
            available.append(candidate)
    skipped += unfit
    if len(unfit) == len(allowed.candidates):
        message = f"no endpoint of the route {route.name!r} qualifies: {'; '.join(skipped)}"
        raise NoCandidate(message, hint="declare the missing prices, windows or weights; the request was sent nowhere")
    if policy.strategy not in EQUALS:
        return Choice(Plan(tuple(available), tuple(skipped)), ruled, number)
    ordered = _ordered(policy, [candidate.endpoint for candidate in available], asked, load, chance)
    rest = [endpoint for endpoint in pool if endpoint not in ordered]
    candidates = tuple(Candidate(endpoint, position) for position, endpoint in enumerate(ordered))
    return Choice(Plan(candidates, tuple(skipped)), replace(route, ladder=(*ordered, *rest)), number)


def why_unfit(policy: Policy, endpoint: Endpoint, asked: Asked) -> str:
    """Why the strategy itself leaves an endpoint out; empty when it does not."""
    if policy.strategy in WEIGHED and not policy.weights.get(endpoint.name, 1.0):
        return "its weight is 0"
    if policy.strategy == "cheapest":
        window = endpoint.context_tokens
        if endpoint.price is None:
            return "its price is not known"
        if window is not None and asked.tokens + (asked.output_tokens or 0) > window:
            return f"its window of {window} tokens is too small for about {asked.tokens}"
    return ""


def prefix_of(request: ChatRequest) -> bytes:
    """A hash of the turns up to the first one of the user: the part of a prompt that its later turns repeat."""
    digest = hashlib.blake2b(digest_size=16)
    left = PREFIX_CHARACTERS_MAX
    for message in request.messages:
        text = message.text()[:left]
        left -= len(text)
        digest.update(f"{message.role}:{len(text)}:".encode() + text.encode("utf-8", "replace"))
        if message.role == "user" or left <= 0:
            break
    return digest.digest()


def _left_out_by_rule(endpoint: Endpoint, asked: Asked, number: int | None) -> str:
    if endpoint.fault:
        return f"{endpoint.name}: {endpoint.fault}"
    if not may_take(endpoint, asked.label):
        return f"{endpoint.name}: {why_not(endpoint, asked.label)}"
    return f"{endpoint.name}: not used by rule {(number or 0) + 1}, which applies"


def _ordered(
    policy: Policy,
    endpoints: Sequence[Endpoint],
    asked: Asked,
    load: Callable[[Endpoint], float],
    chance: Callable[[], float],
) -> list[Endpoint]:
    weights = {endpoint.name: policy.weights.get(endpoint.name, 1.0) for endpoint in endpoints}
    match policy.strategy:
        case "cheapest":
            return cheapest(endpoints, asked)
        case "weighted":
            return weighted(endpoints, weights, chance)
        case "sticky":
            return sticky(endpoints, weights, asked.prefix)
        case _:
            return least_loaded(endpoints, lambda endpoint: load(endpoint) / weights[endpoint.name], chance)


def weighted(endpoints: Sequence[Endpoint], weights: dict[str, float], chance: Callable[[], float]) -> list[Endpoint]:
    """A random order in which each place goes by weight among those that are left (Efraimidis and Spirakis, 2006)."""

    def key(endpoint: Endpoint) -> float:
        return -math.log(max(1.0 - chance(), 1e-300)) / weights[endpoint.name]

    return sorted(endpoints, key=key)


def least_loaded(
    endpoints: Sequence[Endpoint], load: Callable[[Endpoint], float], chance: Callable[[], float]
) -> list[Endpoint]:
    """Two at random, the less loaded one first; then the others by load. Two choices do not herd (Mitzenmacher,
    2001).
    """
    if len(endpoints) < 2:
        return list(endpoints)
    rest = list(endpoints)
    pair = [rest.pop(int(chance() * len(rest))) for _ in range(2)]
    pair.sort(key=load)
    return [pair[0], *sorted([pair[1], *rest], key=load)]


def cheapest(endpoints: Sequence[Endpoint], asked: Asked) -> list[Endpoint]:
    """By what the request would cost, equals in the ladder's order; one whose price is not known comes last."""
    output_tokens = OUTPUT_TOKENS_SUPPOSED if asked.output_tokens is None else asked.output_tokens

    def cost(endpoint: Endpoint) -> float:
        price = endpoint.price
        return asked.tokens * price.input_uncached + output_tokens * price.output if price is not None else math.inf

    return sorted(endpoints, key=cost)


def sticky(endpoints: Sequence[Endpoint], weights: dict[str, float], prefix: bytes) -> list[Endpoint]:
    """By weighted rendezvous hashing: the same prefix finds the same endpoint, and one that leaves moves only its own
    (Thaler and Ravishankar, 1998).
    """

    def score(endpoint: Endpoint) -> float:
        digest = hashlib.blake2b(endpoint.name.encode(), key=prefix[:64], digest_size=8).digest()
        share = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
        return weights[endpoint.name] / -math.log(share)

    return sorted(endpoints, key=score, reverse=True)
