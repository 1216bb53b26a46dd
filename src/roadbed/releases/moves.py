"""Which aliases move, decided without a database: pure functions from what aliases are to the steps to take.

The rules (design: an app's `live` follows saves only with ``auto_promote``, and never while a rollback holds it)
stand here alone, so that they can be tested over any history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LIVE = "live"
CANDIDATE = "candidate"

SAVE = "save"
PROMOTE = "promote"
ROLLBACK = "rollback"
RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Alias:
    """Where an alias points, and whether a rollback holds it there."""

    digest: str
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One move of one alias; ``digest`` None takes the alias away."""

    app: str
    name: str
    digest: str | None
    action: str
    is_held: bool = False


Aliases = Mapping[tuple[str, str], Alias]


def plan_save(
    aliases: Aliases,
    compiled: Mapping[str, str],
    *,
    auto_promote: bool,
    holds_new: bool = False,
    goes_first: str = "",
) -> list[Step]:
    """The steps after a workspace compiled to ``compiled`` (app -> digest). With ``holds_new`` an app that serves
    nothing yet waits as well, but for ``goes_first``: taking an app out and in again must be no way round a second
    person.
    """
    steps: list[Step] = []
    for app, digest in compiled.items():
        live, candidate = aliases.get((app, LIVE)), aliases.get((app, CANDIDATE))
        stays_candidate = False
        if (live is None and (not holds_new or app == goes_first)) or (
            live is not None and live.digest != digest and auto_promote and not live.is_held
        ):
            steps.append(Step(app, LIVE, digest, SAVE))
        elif live is None or live.digest != digest:
            stays_candidate = True
            if candidate is None or candidate.digest != digest:
                steps.append(Step(app, CANDIDATE, digest, SAVE))
        if candidate is not None and not stays_candidate:
            steps.append(Step(app, CANDIDATE, None, RETIRE))
    steps += [Step(app, name, None, RETIRE) for app, name in aliases if app not in compiled]
    return steps


def plan_promote(aliases: Aliases, app: str, digest: str) -> list[Step]:
    """The steps that make ``digest`` live and end a hold."""
    steps = [Step(app, LIVE, digest, PROMOTE)]
    candidate = aliases.get((app, CANDIDATE))
    if candidate is not None and candidate.digest == digest:
        steps.append(Step(app, CANDIDATE, None, RETIRE))
    return steps


def plan_rollback(aliases: Aliases, app: str, digest: str) -> list[Step]:
    """The steps that move ``live`` back and hold it. What served waits as the candidate, as it would after a restart,
    where none waits already: a promotion without more ends the hold.
    """
    steps = [Step(app, LIVE, digest, ROLLBACK, is_held=True)]
    live = aliases.get((app, LIVE))
    if live is not None and live.digest != digest and (app, CANDIDATE) not in aliases:
        steps.append(Step(app, CANDIDATE, live.digest, ROLLBACK))
    return steps
