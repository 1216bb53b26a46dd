"""Policies over callers, actions and resources: what is remembered is what is decided, and what fails is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.guard.access import ACTIONS, Access, AccessDecision, Resource
from roadbed.guard.access_files import check_policies, schema_text
from roadbed.kernel.label import Level
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal

OWN = """
@id("no-guests") forbid (principal in Team::"guests", action == Action::"app.use", resource)
  when { resource.kind == "copilot" };
@id("no-writes") forbid (principal, action == Action::"tool.call", resource)
  when { resource.effect != "read" && principal.clearance < 2 };
@id("abroad") forbid (principal, action in Action::"use", resource)
  when { principal.region == "us" } unless { principal in Group::"travellers" };
@id("leads-promote") permit (principal in Group::"leads", action == Action::"release.promote", resource == App::"desk");
"""
TEXTS = {"own.cedar": OWN}
DEPLOYMENT = Resource("Deployment", "acme")

callers = st.builds(
    Principal,
    id=st.sampled_from(["k1", "k2"]),
    team=st.sampled_from(["guests", "staff"]),
    roles=st.sets(st.sampled_from([MEMBER, AUDITOR, ADMIN])).map(frozenset),
    region=st.sampled_from(["local", "us"]),
    clearance=st.sampled_from(list(Level)),
    member_of=st.sets(st.sampled_from(["leads", "travellers"])).map(frozenset),
)
resources = {
    "App": st.builds(
        lambda name, kind: Resource("App", name, (("kind", kind),)),
        st.sampled_from(["desk", "find"]),
        st.sampled_from(["copilot", "search"]),
    ),
    "Tool": st.builds(
        lambda effect: Resource("Tool", "crm", (("source", "crm"), ("effect", effect), ("level", 1))),
        st.sampled_from(["read", "write"]),
    ),
    "Route": st.just(Resource("Route", "smart")),
    "Endpoint": st.just(Resource("Endpoint", "lab")),
    "Deployment": st.just(DEPLOYMENT),
}
acts = st.sampled_from(sorted(ACTIONS)).flatmap(lambda name: st.tuples(st.just(name), resources[ACTIONS[name][1]]))


def expected(principal: Principal, action: str, resource: Resource) -> bool:
    """The policies above and the shipped ones, said in Python."""
    attributes = dict(resource.attributes)
    if action == "app.use" and principal.team == "guests" and attributes["kind"] == "copilot":
        return False
    if action == "tool.call" and attributes["effect"] != "read" and principal.clearance < 2:
        return False
    group = ACTIONS[action][0]
    if group == "use":
        return principal.region != "us" or "travellers" in principal.member_of
    if action == "release.promote" and resource.id == "desk" and "leads" in principal.member_of:
        return True
    return ADMIN in principal.roles or (group != "manage" and AUDITOR in principal.roles)


def made(texts: dict[str, str]) -> Access:
    access = Access()
    access.take(texts)
    return access


OWN_ACCESS = made(TEXTS)


@settings(max_examples=400)
@given(callers, acts)
def test_what_is_remembered_is_what_is_decided(principal: Principal, act: tuple[str, Resource]) -> None:
    decided = OWN_ACCESS.decide(principal, *act)
    assert not decided.errors
    assert OWN_ACCESS.allows(principal, *act) is OWN_ACCESS.allows(principal, *act) is decided.is_allowed
    assert decided.is_allowed is expected(principal, *act)


def test_a_caller_that_is_known_is_decided_by_what_it_is_now() -> None:
    access, tool = made(TEXTS), Resource("Tool", "crm", (("source", "crm"), ("effect", "write"), ("level", 1)))
    low, high = (Principal("k1", "staff", clearance=level) for level in (Level.INTERNAL, Level.RESTRICTED))
    for _ in range(2):
        assert not access.decide(low, "tool.call", tool).is_allowed
        assert access.decide(high, "tool.call", tool).is_allowed
        assert access.decide(
            low, "tool.call", Resource("Tool", "crm", (*tool.attributes[:1], ("effect", "read"), ("level", 1)))
        ).is_allowed


def test_a_policy_that_fails_refuses_where_cedar_would_allow() -> None:
    """Cedar skips a `forbid` that fails, here by an overflow."""
    access = made({"own.cedar": "forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };"})
    decided = access.decide(Principal("k", "staff"), "route.use", Resource("Route", "smart"))
    assert (decided.is_allowed, len(decided.errors)) == (False, 1)
    assert not access.allows(Principal("k", "staff"), "route.use", Resource("Route", "smart"))


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("app.use", Resource("Route", "smart")),
        ("tool.call", Resource("Tool", "crm")),
        ("no.such", DEPLOYMENT),
    ],
)
def test_what_the_schema_does_not_know_is_refused(action: str, resource: Resource) -> None:
    admin = Principal("k", "staff", frozenset({ADMIN}))
    assert not made(TEXTS).decide(admin, action, resource).is_allowed


def test_a_changed_policy_ends_what_was_remembered() -> None:
    access, guest, desk = made(TEXTS), Principal("k", "guests"), Resource("App", "desk", (("kind", "copilot"),))
    assert not access.allows(guest, "app.use", desk)
    access.take({"own.cedar": '@id("x") permit (principal, action, resource);'})
    assert access.allows(guest, "app.use", desk)
    access.take({})
    assert not access.is_own


def test_a_file_named_default_takes_the_place_of_the_shipped_set() -> None:
    access = made({"default.cedar": '@id("only") permit (principal, action == Action::"route.use", resource);'})
    assert access.allows(Principal("k", "t"), "route.use", Resource("Route", "smart"))
    assert not access.allows(Principal("k", "t", frozenset({ADMIN})), "keys.manage", DEPLOYMENT)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permit(", "not valid Cedar"),
        ('@id("typo") permit (principal, action, resource) when { principal.tem == "x" };', "policy typo"),
        ('permit (principal, action == Action::"app.us", resource);', "app.us"),
        ("permit (principal == ?principal, action, resource);", "templates"),
    ],
)
def test_a_policy_with_an_error_is_refused_with_its_file(text: str, says: str) -> None:
    found = list(check_policies({"own.cedar": text}))
    assert found
    assert found[0].file == "policies/own.cedar"
    assert says in found[0].message


def test_a_refusal_says_what_would_permit() -> None:
    access, staff = made(TEXTS), Principal("k", "staff")
    desk = Resource("App", "desk", (("kind", "copilot"),))
    assert access.explain(staff, "release.promote", desk).could == ("admins-manage", "leads-promote")
    assert access.explain(Principal("k", "guests"), "app.use", desk) == AccessDecision(False, ("no-guests",))
    assert access.text_of("leads-promote").startswith('@id("leads-promote")')


def test_the_table_of_actions_is_the_schema() -> None:
    found = re.findall(
        r'action "([\w.]+)"(?: in \["(\w+)"\])? appliesTo \{principal: Caller, resource: (\w+)\}', schema_text()
    )
    assert {name: (group, kind) for name, group, kind in found} == dict(ACTIONS)
