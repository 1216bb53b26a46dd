"""Separation of duties: whether one caller may decide what another asked for. Pure; this is the one place that decides.

A caller is all that it may stand for: its own id, the person that its key belongs to, and everyone who has ever seen
the key's value (who made it, or rotated it, and so on up the line). Two callers are two persons only where neither
stands in the other's line. The invariant: with a duty in force nobody decides alone, whatever keys they hold.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from roadbed.guard.access_manifest import AccessConfig
from roadbed.kernel.errors import Forbidden

Duty = Literal["promotions", "approvals", "models", "duties"]
PROMOTIONS: Final = "promotions"
APPROVALS: Final = "approvals"
MODELS: Final = "models"
DUTIES: Final = "duties"  # to drop one of the others
PERSONS_ONLY: Final = "persons_only"
AS_TEAM_MARK: Final = ":as:"


class OwnRequest(Forbidden):
    """Nobody approves what they asked for themselves, by whichever of their keys."""

    code = "access.own_request"
    hint = (
        "let another person approve it; a key counts as everyone who made or rotated it, so give each person a key of "
        "their own (`roadbed keys create --role admin --name WHO`), or let people sign in"
    )


class NotAPerson(Forbidden):
    """The workspace lets only people decide this, and the key belongs to nobody."""

    code = "access.not_a_person"
    hint = "sign in to the console, or use a key that `roadbed keys create --person ID` made"


class Verdict(enum.Enum):
    """What becomes of a caller's wish."""

    GO = "go"
    WAIT = "wait"
    OWN = "own"
    NOT_A_PERSON = "not a person"


@dataclass(frozen=True, slots=True)
class Actor:
    """A caller as `judge` sees it. ``names`` are its own: its id and its person; ``line`` holds everyone who may be
    behind it, ``names`` too. ``breaks_glass`` while an emergency is declared, which somebody else reviews afterwards.
    """

    id: str
    name: str
    names: frozenset[str]
    line: frozenset[str]
    is_person: bool = False
    breaks_glass: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What is in force. `DUTIES` is never listed: it goes with any of the others."""

    two_persons: frozenset[str] = frozenset()
    persons_only: bool = False

    def needs_two(self, duty: Duty) -> bool:
        """Whether two persons have to agree."""
        return bool(self.two_persons) if duty == DUTIES else duty in self.two_persons

    @property
    def names(self) -> frozenset[str]:
        """All that is switched on, by name."""
        return self.two_persons | {PERSONS_ONLY} if self.persons_only else self.two_persons


def rules_of(config: AccessConfig, kept: Iterable[str] = ()) -> Rules:
    """The manifest's rules with those that two persons have not dropped yet."""
    names = frozenset(config.two_persons) | frozenset(kept)
    return Rules(names - {PERSONS_ONLY}, config.persons_only or PERSONS_ONLY in names)


def is_same_person(one: Actor, other: Actor) -> bool:
    """Whether the two may be one person."""
    return not (one.names.isdisjoint(other.line) and other.names.isdisjoint(one.line))


def judge(duty: Duty, rules: Rules, actor: Actor, asker: Actor | None) -> Verdict:
    """Whether ``actor`` may do what ``asker`` asked for; without an asker, or with one who does not count, it waits in
    the actor's name. An emergency is for acts, not for dropping the rule.
    """
    if not rules.needs_two(duty) or (actor.breaks_glass and duty != DUTIES):
        return Verdict.GO
    if rules.persons_only and not actor.is_person:
        return Verdict.NOT_A_PERSON
    if asker is None or (rules.persons_only and duty != APPROVALS and not asker.is_person):
        return Verdict.WAIT
    return Verdict.OWN if is_same_person(actor, asker) else Verdict.GO


def require_second_for_call(rules: Rules, actor: Actor, asker: Actor, what: str, *, is_final: bool) -> None:
    """Refuse an actor who may not let a tool's call run. What is ``is_final``, as it cannot be undone, its own asker
    approves under no rules and in no emergency. `OwnRequest`, `NotAPerson`.
    """
    verdict = judge(APPROVALS, rules, actor, asker)
    if verdict is Verdict.OWN or (is_final and not actor.names.isdisjoint(asker.names)):
        raise OwnRequest(f"{what} is not approved by who asks for it")
    if verdict is Verdict.NOT_A_PERSON:
        raise NotAPerson(f"{what} is approved by people, and this key belongs to none")


def require_other(actor: Actor, other: Actor, what: str) -> None:
    """Refuse who may be the same person, under any rules. `OwnRequest`."""
    if is_same_person(actor, other):
        raise OwnRequest(f"{what} by who did it")


def line_of(
    principal_id: str, keys: Mapping[str, tuple[str, str, tuple[str, ...]]], person: str = ""
) -> tuple[frozenset[str], frozenset[str]]:
    """A caller's names and line. ``keys`` gives person, key that it acts as, and makers of each key of the line."""
    own_id = principal_id.partition(AS_TEAM_MARK)[0]
    owner, acts_as, _ = keys.get(own_id, ("", "", ()))
    names = frozenset(name for name in (principal_id, own_id, owner, acts_as, person) if name)
    line, waiting = set(names), list(names)
    while waiting:
        found = keys.get(waiting.pop())
        if found is not None:
            more = {name for name in (found[0], found[1], *found[2]) if name} - line
            line |= more
            waiting += more
    return names, frozenset(line)
