"""How a route chooses and what it promises, as data: strategy, rules, outcomes that move on, the contract for cuts.

Made from the manifest by `route.build_routes`, read by `strategy.choose` and by the streams that follow a policy. It
decides nothing but whether a rule applies. The invariant: a policy only ever names endpoints; whether data may go to
one is the label's question, asked after every rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import SILENT, UpstreamError
from roadbed.gateway.manifest import OnCut, Strategy
from roadbed.kernel.label import PUBLIC, Label

HEARTBEAT_S = 10.0
"""How often a caller hears of an answer that is held back, where the route does not say: proxies give up after 30 or
60 s of silence.
"""

HEARTBEAT_S_MIN = 0.1

ENSEMBLES = frozenset({"first-valid", "majority", "best-of"})
MINUTES_A_DAY = 24 * 60
WhatHappened = Literal[
    "timeout", "stall", "rate_limit", "server_error", "content_filter", "context_length", "invalid_json", "rejected"
]


class Asked(msgspec.Struct, frozen=True):
    """What a strategy may know of a request: never its text. ``prefix`` is a hash of the prompt's first turns.

    ``minute`` is the minute of the day in UTC; ``output_tokens`` the limit that the caller set, if any.
    """

    label: Label = PUBLIC
    team: str = ""
    tokens: int = 0
    output_tokens: int | None = None
    headers: Mapping[str, str] = {}
    minute: int = 0
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule. What is left out always holds. ``hours`` are minutes of the day, the end not included."""

    use: tuple[Endpoint, ...]
    label: Label | None = None
    team: str = ""
    tokens_over: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    hours: tuple[int, int] | None = None

    def applies(self, asked: Asked) -> bool:
        """Whether the request meets every condition."""
        if self.label is not None and not covers(asked.label, self.label):
            return False
        if self.team and asked.team != self.team:
            return False
        if self.tokens_over is not None and asked.tokens <= self.tokens_over:
            return False
        if self.hours is not None and not is_within(asked.minute, *self.hours):
            return False
        return all(asked.headers.get(name) == value for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Policy:
    """Everything of a route but its ladder. ``queue`` is how many may wait for it, 0 for a route without admission;
    ``reserve`` are endpoints that only rules and outcomes lead to. A streaming caller who waits hears something every
    ``heartbeat_s``, 0 for never: from the beginning on where it ``is_heard_early``, else while an answer is held back.
    """

    strategy: Strategy = "ordered"
    weights: Mapping[str, float] = field(default_factory=dict)
    rules: tuple[Condition, ...] = ()
    on: Mapping[str, str] = field(default_factory=dict)
    on_cut: OnCut = "error"
    is_hedged: bool = False
    queue: int = 0
    is_batch: bool = False
    reserve: tuple[Endpoint, ...] = ()
    heartbeat_s: float = 0.0
    is_heard_early: bool = False

    @property
    def header_names(self) -> frozenset[str]:
        """The request headers that its rules read."""
        return frozenset(name for rule in self.rules for name, _ in rule.headers)

    def target(self, happened: WhatHappened) -> str:
        """Where a request goes on: ``next``, ``fail`` or an endpoint's name."""
        default = "fail" if happened in ("content_filter", "context_length", "invalid_json", "rejected") else "next"
        return self.on.get(happened, default)


PLAIN = Policy()
"""The ladder in its order, and nothing else; routes that ask for no more hold this very object."""


def what_happened(failure: UpstreamError) -> WhatHappened:
    """The outcome that a route's rules know a failed attempt by."""
    match failure.failure:
        case "timeout":
            return "stall" if failure.reason == SILENT else "timeout"
        case "rate" | "quota":
            return "rate_limit"
        case "context":
            return "context_length"
        case "filtered":
            return "content_filter"
        case "invalid":
            return "invalid_json"
        case "client":
            return "content_filter" if "content_filter" in failure.provider_code else "rejected"
        case _:
            return "server_error"


def covers(label: Label, wanted: Label) -> bool:
    """Whether a request's label is at least as strict as a rule's: its level, its categories and its regions."""
    if label.level < wanted.level or not wanted.categories <= label.categories:
        return False
    return wanted.regions is None or (label.regions is not None and label.regions <= wanted.regions)


def is_within(minute: int, start: int, end: int) -> bool:
    """Whether a minute of the day lies in a span that may pass midnight; a span of no length is the whole day."""
    if start == end:
        return True
    return start <= minute < end if start < end else minute >= start or minute < end


def minutes_of(hours: str) -> tuple[int, int]:
    """``22:00-06:00`` as two minutes of the day."""
    start, _, end = hours.partition("-")
    return _minute(start), _minute(end)


def _minute(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return (int(hour) * 60 + int(minute)) % MINUTES_A_DAY
