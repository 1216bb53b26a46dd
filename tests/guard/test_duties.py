"""Separation of duties over any history of keys: nobody decides alone, and two people are not taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.access_manifest import AccessConfig
from roadbed.guard.duties import (
    APPROVALS,
    DUTIES,
    PERSONS_ONLY,
    Actor,
    Duty,
    OwnRequest,
    Rules,
    Verdict,
    is_same_person,
    judge,
    line_of,
    require_second_for_call,
    rules_of,
)

KEYS = ("k0", "k1", "k2", "k3", "k4", "k5")
PEOPLE = ("u_ada", "u_bob")
ALL: list[Duty] = ["promotions", "approvals", "models", "duties"]
holders = st.sampled_from(["ada", "bob", "eve"])
duties = st.sampled_from(ALL)
some_rules = st.builds(Rules, st.frozensets(st.sampled_from(["promotions", "approvals", "models"])), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> tuple[dict[str, tuple[str, str, tuple[str, ...]]], dict[str, set[str]]]:
    """Keys that people made one after another, and who has seen each key's value."""
    keys: dict[str, tuple[str, str, tuple[str, ...]]] = {}
    seen: dict[str, set[str]] = {}
    for number, key in enumerate(KEYS):
        maker = draw(st.sampled_from(KEYS[:number])) if number > 1 and draw(st.booleans()) else None
        given_to = draw(holders)
        keys[key] = ("", "", (maker,) if maker is not None else ())
        seen[key] = {given_to} | (seen[maker] if maker is not None else set())
    return keys, seen


def actor(key: str, keys: dict[str, tuple[str, str, tuple[str, ...]]], person: str = "") -> Actor:
    names, line = line_of(key, keys, person)
    return Actor(key, key, names, line, is_person=any(name.startswith("u_") for name in names))


@given(histories(), st.sampled_from(KEYS), st.sampled_from(KEYS))
def test_a_key_is_never_a_second_person_for_one_that_made_it(
    history: tuple[dict[str, tuple[str, str, tuple[str, ...]]], dict[str, set[str]]], one: str, other: str
) -> None:
    keys, seen = history
    first, second = actor(one, keys), actor(other, keys)
    assert is_same_person(first, second) == is_same_person(second, first)
    chain, waiting = {other}, [other]
    while waiting:
        for maker in keys[waiting.pop()][2]:
            chain.add(maker)
            waiting.append(maker)
    if one in chain:
        assert is_same_person(first, second)
        assert seen[one] & seen[other]
    verdict = judge("promotions", Rules(frozenset({"promotions"})), second, first)
    assert verdict is (Verdict.OWN if is_same_person(first, second) else Verdict.GO)


@given(some_rules, duties, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_what_a_duty_lets_through(
    rules: Rules, duty: Duty, is_person: bool, asked_by_person: bool, has_asker: bool, breaks_glass: bool
) -> None:
    me = Actor("k1", "", frozenset({"k1"}), frozenset({"k1"}), is_person, breaks_glass)
    other = Actor("k2", "", frozenset({"k2"}), frozenset({"k2"}), asked_by_person)
    in_force = bool(rules.two_persons) if duty == DUTIES else duty in rules.two_persons
    breaks_glass = breaks_glass and duty != DUTIES
    found = judge(duty, rules, me, other if has_asker else None)
    if not in_force or breaks_glass:
        assert found is Verdict.GO
    elif rules.persons_only and not is_person:
        assert found is Verdict.NOT_A_PERSON
    elif not has_asker or (rules.persons_only and duty != APPROVALS and not asked_by_person):
        assert found is Verdict.WAIT
    else:
        assert found is Verdict.GO
    # Whoever asked is never the one who decides.
    own = judge(duty, rules, me, me)
    assert own is not Verdict.GO or not in_force or breaks_glass


def test_a_persons_keys_are_one_person() -> None:
    keys = {
        "admin": ("", "", ()), "cli": ("", "admin", ()), "ada1": ("u_ada", "", ("admin",)),
        "ada2": ("u_ada", "", ("admin",)), "bob": ("u_bob", "", ("admin",)), "own": ("u_bob", "", ("u_bob",)),
    }  # fmt: skip
    ada1, ada2, bob, own = (actor(key, keys) for key in ("ada1", "ada2", "bob", "own"))
    assert is_same_person(ada1, ada2)
    assert not is_same_person(ada1, bob)
    assert is_same_person(actor("u_ada", keys), ada1)
    assert is_same_person(actor("token-1", keys, "u_ada"), ada2)
    assert not is_same_person(actor("u_ada", keys), bob)
    assert is_same_person(actor("cli", keys), actor("admin", keys))
    assert is_same_person(actor("cli", keys), bob), "whoever made a key knows its value"
    assert not is_same_person(actor("cli", keys), own)
    assert is_same_person(actor("ada1:as:board", keys), ada2)


def test_keys_that_made_each_other_end_the_walk() -> None:
    keys: dict[str, tuple[str, str, tuple[str, ...]]] = {"a": ("", "", ("b",)), "b": ("", "", ("a",))}
    assert is_same_person(actor("a", keys), actor("b", keys))


def test_what_was_switched_on_stays_in_force() -> None:
    kept = rules_of(AccessConfig(), ["promotions", PERSONS_ONLY])
    assert (kept.needs_two("promotions"), kept.persons_only, kept.needs_two(DUTIES)) == (True, True, True)
    assert kept.names == {"promotions", PERSONS_ONLY}
    assert not rules_of(AccessConfig()).needs_two(DUTIES)
    assert rules_of(AccessConfig(two_persons=("models",))).needs_two("models")


@pytest.mark.parametrize("is_final", [True, False])
@pytest.mark.parametrize("breaks_glass", [True, False])
def test_a_call_that_cannot_be_undone_needs_another_under_any_rules(is_final: bool, breaks_glass: bool) -> None:
    me = Actor("k1", "", frozenset({"k1", "u_ada"}), frozenset({"k1", "u_ada"}), True, breaks_glass)
    second_key = Actor("k2", "", frozenset({"k2", "u_ada"}), frozenset({"k2", "u_ada"}), True)
    made = Actor("k3", "", frozenset({"k3"}), frozenset({"k3", "u_ada"}))

    def is_let(asker: Actor, rules: Rules) -> bool:
        try:
            require_second_for_call(rules, me, asker, "a call", is_final=is_final)
        except OwnRequest:
            return False
        return True

    assert is_let(second_key, Rules()) is not is_final
    assert is_let(made, Rules()), "by default the admin who made an app's key approves its calls"
    both = Rules(frozenset({APPROVALS}))
    assert is_let(made, both) is breaks_glass
    assert is_let(second_key, both) is (breaks_glass and not is_final)
