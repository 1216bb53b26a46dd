"""Which endpoint a route would ask for a request like this one now, and why not the others: the choice, in words.

Reads routes and health, changes nothing and asks nobody. The invariant: it calls the very function that chooses for
requests, so that it cannot say something else; where chance decides, it says so.
"""

from __future__ import annotations

from typing import Any

from roadbed.gateway.ensemble import MEMBERS_MAX
from roadbed.gateway.errors import NoCandidate
from roadbed.gateway.health import HealthBoard
from roadbed.gateway.policy import ENSEMBLES, Asked
from roadbed.gateway.route import Route
from roadbed.gateway.strategy import choose

BY_CHANCE = frozenset({"weighted", "least-loaded"})
MIDDLE = 0.5


def explain_choice(route: Route, asked: Asked, health: HealthBoard) -> dict[str, Any]:
    """The endpoints in the order in which they would be asked, and those left out, each with its reason.

    ``would_ask`` is None where the request would be refused or nobody is there; ``refused`` says why then.
    ``together`` names those that an ensemble asks at once.
    """
    policy = route.policy
    facts: dict[str, Any] = {
        "route": route.name,
        "label": asked.label.words(),
        "tokens": asked.tokens,
        "strategy": policy.strategy,
        "by_chance": policy.strategy in BY_CHANCE,
        "on_cut": policy.on_cut,
        "rule": None,
        "would_ask": None,
        "together": [],
        "order": [],
        "left_out": [],
        "refused": "",
    }
    try:
        choice = choose(route, asked, health.why_unavailable, health.load, lambda: MIDDLE)
    except NoCandidate as error:
        facts["refused"] = error.message
        return facts
    facts["rule"] = None if choice.rule is None else choice.rule + 1
    facts["order"] = [
        {
            "endpoint": candidate.endpoint.name,
            "rung": choice.route.rung(candidate.position),
            "weight": policy.weights.get(candidate.endpoint.name, 1.0),
            "in_flight": state.in_flight,
            "seconds_per_token": state.pace.seconds_per_token,
            "failed_last": state.failed_last,
            "continues": bool(candidate.endpoint.continues),
        }
        for candidate in choice.plan.candidates
        for state in (health.of(candidate.endpoint.name),)
    ]
    facts["left_out"] = list(choice.plan.skipped)
    if facts["order"]:
        facts["would_ask"] = facts["order"][0]["endpoint"]
    if policy.strategy in ENSEMBLES:
        facts["together"] = [row["endpoint"] for row in facts["order"][:MEMBERS_MAX]]
    return facts
