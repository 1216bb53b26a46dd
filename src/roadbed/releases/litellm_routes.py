"""How a LiteLLM router shares requests between deployments, as a route's ladder, strategy and weights.

Pure, for `litellm.py` alone. LiteLLM picks by weight among the deployments of the lowest `order`, then among the next,
and then goes on to the fallbacks' groups; a route has one ladder. The invariant: whoever LiteLLM asks only after others
stands behind them in the ladder, and where shares decide has a share that is too small to come first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEHIND = 1e-6
"""The share of those that are asked only when the others cannot be: one request of a million comes to them first."""

TIERS_MAX = 40
SHARED_BY_CHANCE = ("", "simple-shuffle")
BY_LOAD = ("least-busy", "latency-based-routing", "usage-based-routing", "usage-based-routing-v2")
BY_COST = "cost-based-routing"
ROUTING_STRATEGIES = frozenset({*SHARED_BY_CHANCE, *BY_LOAD, BY_COST})


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of a model group. ``shares`` are what LiteLLM would weigh it by: weight, else rpm, else tpm."""

    name: str
    order: int | None = None
    shares: tuple[float | None, float | None, float | None] = (None, None, None)
    is_priced: bool = False
    task: str = "chat"
    model: str = ""


@dataclass(frozen=True, slots=True)
class Shape:
    """A route's ladder, strategy and weights, and what of the wish is not met by them."""

    ladder: list[str]
    fields: dict[str, Any]
    left: tuple[str, ...] = ()


def number_of(value: Any) -> float | None:
    """A share; None for what is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1e12 else None


def task_of(model: str) -> str:
    """The mode of a model that says none, by its name, as LiteLLM leaves it to the caller."""
    name = model.lower()
    return "rerank" if "rerank" in name else "embedding" if "embed" in name else "chat"


def why_apart(first: Deployment, task: str, model: str) -> str:
    """Why a deployment cannot stand in one ladder with another; empty when it can."""
    if first.task != task:
        return f"it is for {task}, where the group's first deployment is for {first.task}"
    if task == "embeddings" and first.model.rpartition("/")[2].lower() != model.rpartition("/")[2].lower():
        return f"vectors of {model} cannot be compared with those of {first.model}"
    return ""


def tiers_of(deployments: Iterable[Deployment]) -> list[list[Deployment]]:
    """Those that are asked before others, by `order`; without one, after all that have one."""
    found: dict[tuple[bool, int], list[Deployment]] = {}
    for deployment in deployments:
        found.setdefault((deployment.order is None, deployment.order or 0), []).append(deployment)
    return [found[key] for key in sorted(found)]


def shape_of(own: Sequence[Deployment], fallbacks: Sequence[Sequence[Deployment]], routing: str) -> Shape:
    """The route of a group with its own deployments and those of its fallbacks' groups, in their order."""
    seen: set[str] = set()
    tiers = []
    for group in (own, *fallbacks):
        for tier in tiers_of(group):
            fresh = [deployment for deployment in tier if deployment.name not in seen]
            seen.update(deployment.name for deployment in fresh)
            if fresh:
                tiers.append(fresh)
    ladder = [deployment.name for tier in tiers for deployment in tier]
    if all(len(tier) == 1 for tier in tiers):
        return Shape(ladder, {})
    left: list[str] = []
    if routing == BY_COST:
        if len(tiers) == 1 and all(deployment.is_priced for deployment in tiers[0]):
            return Shape(ladder, {"strategy": "cheapest"})
        left.append(
            f"{routing}: only a route whose every endpoint has a price and that has no fallbacks; shared evenly"
        )
    elif routing in BY_LOAD:
        if len(tiers) == 1:
            note = (
                f"{routing}: least-loaded stands for it, which goes by requests in flight and learned seconds per token"
            )
            weights, lacks = _weights(tiers)
            fields: dict[str, Any] = {"strategy": "least-loaded", **({"weights": weights} if weights else {})}
            return Shape(ladder, fields, (note, *lacks))
        left.append(f"{routing}: only a route without fallbacks and orders can go by load; shared by weight")
    elif routing not in SHARED_BY_CHANCE:
        left.append(f"{routing}: no strategy of this name; shared by weight")
    weights, lacks = _weights(tiers)
    fields = {"strategy": "weighted", **({"weights": weights} if weights else {})}
    return Shape(ladder, fields, (*left, *lacks))


def _weights(tiers: Sequence[Sequence[Deployment]]) -> tuple[dict[str, float], list[str]]:
    """Shares within a tier as LiteLLM takes them, each tier too far behind the one before it to be asked first."""
    weights: dict[str, float] = {}
    left: list[str] = []
    for number, tier in enumerate(tiers):
        shares, lacks = _shares(tier)
        left += lacks
        behind = BEHIND ** min(number, TIERS_MAX)
        largest = max(shares.values())
        for name, share in shares.items():
            weights[name] = share if number == 0 else share / (largest or 1.0) * behind
    return ({} if all(weight == 1.0 for weight in weights.values()) else weights), left


def _shares(tier: Sequence[Deployment]) -> tuple[dict[str, float], list[str]]:
    for position, word in enumerate(("weight", "rpm", "tpm")):
        given = {deployment.name: deployment.shares[position] for deployment in tier}
        known = [share for share in given.values() if share]
        if not known:
            continue
        lacking = sorted(name for name, share in given.items() if share is None)
        if not lacking:
            return {name: share or 0.0 for name, share in given.items()}, []
        if word == "weight":
            behind = min(known) * BEHIND
            why = f"{', '.join(lacking)}: no weight beside others that have one; asked after them"
            return {name: behind if share is None else share for name, share in given.items()}, [why]
        return dict.fromkeys(given, 1.0), [f"{word} stands at some of its deployments alone: shares are even"]
    return dict.fromkeys((deployment.name for deployment in tier), 1.0), []


def target_of(
    group: str, listed: Mapping[str, list[str]], groups: Mapping[str, Sequence[Deployment]]
) -> tuple[str, str]:
    """The endpoint that a fallback for one outcome leads to, and what of it is not met. A route goes on to one."""
    others = [other for other in listed.get(group, ()) if other in groups and other != group]
    if not others:
        return "", "no route of this name carried over" if group in listed else ""
    chosen = tiers_of(groups[others[0]])[0][0].name
    lost = len(others) > 1 or len(groups[others[0]]) > 1
    return chosen, f"only {chosen}: a route goes on to one endpoint after an outcome" if lost else ""
