"""`Control`: a compliance check that runs all the time and can fail, and what one run of it found. Pure.

Facts and problems hold counts, bounds, names and paths, never a value that was looked for. The invariant: a control
that could not look has no other result than ``invalid``, and one that has not looked for two periods counts as failed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

import msgspec

Outcome = Literal["pass", "fail", "invalid"]
Standing = Literal["pass", "fail", "invalid", "stale", "waiting"]
Fact = str | int | float | bool
PROBLEMS_MAX = 50
PROBLEM_CHARACTERS_MAX = 300
STALE_PERIODS = 2
FAILED: frozenset[Standing] = frozenset({"fail", "invalid", "stale"})


class Result(msgspec.Struct, frozen=True):
    """What one run found. ``n`` is how many things were looked at; ``bound`` the share that may be wrong unseen.

    ``inputs`` are what the run was given, by name: their digest is part of the evidence.
    """

    outcome: Outcome
    summary: str
    n: int = 0
    bound: float | None = None
    problems: tuple[str, ...] = ()
    facts: dict[str, Fact] = {}
    inputs: dict[str, Fact] = {}


class Control(Protocol):
    """One check. ``id`` is stable: evidence and the map of frameworks name it."""

    @property
    def id(self) -> str:
        """Letters and dashes."""

    @property
    def title(self) -> str:
        """What holds when it passes, in a few words."""

    @property
    def period_s(self) -> float:
        """How often it runs."""

    async def run(self) -> Result:
        """Look. A `RoadbedError` makes the run invalid."""


def judged(problems: list[str], good: str, **rest: object) -> Result:
    """A pass with ``good`` as its summary, or a fail that names its problems."""
    shown = tuple(problem[:PROBLEM_CHARACTERS_MAX] for problem in problems[:PROBLEMS_MAX])
    if shown:
        return Result("fail", f"{len(problems)} problems: {shown[0]}", problems=shown, **rest)  # type: ignore[arg-type]
    return Result("pass", good, **rest)  # type: ignore[arg-type]


def standing(
    outcome: Outcome | None, at: datetime | None, period_s: float, now: datetime, known_since: datetime
) -> Standing:
    """How a control stands by its last run; one that never ran waits for two periods, then it is stale."""
    last = at if at is not None else known_since
    if (now - last).total_seconds() > STALE_PERIODS * period_s:
        return "stale"
    return outcome if outcome is not None else "waiting"
