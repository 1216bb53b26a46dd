"""What directories send, as Entra ID and Okta send it, applied to users and groups; and what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.scim import ENTERPRISE, PATCH, Filter, ScimInvalid, checked, parse_filter, patched, texts_of

USER: dict[str, Any] = {
    "userName": "anna@example.com",
    "active": True,
    "name": {"givenName": "Anna", "familyName": "Berg"},
    "emails": [{"type": "work", "value": "anna@example.com", "primary": True}],
}
GROUP: dict[str, Any] = {"displayName": "ops", "members": ["u_1", "u_2"]}
KNOWN = {"username": "userName", "externalid": "externalId"}


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


@pytest.mark.parametrize(
    ("operation", "attribute", "expected"),
    [
        ({"op": "Replace", "path": "active", "value": "False"}, "active", False),
        ({"op": "replace", "path": "active", "value": False}, "active", False),
        ({"op": "replace", "value": {"active": False}}, "active", False),
        ({"op": "Replace", "value": {"Active": "true"}}, "active", True),
        ({"op": "Add", "path": "displayName", "value": "Anna B"}, "displayName", "Anna B"),
        (
            {"op": "Replace", "path": "name.givenName", "value": "Ann"},
            "name",
            {"givenName": "Ann", "familyName": "Berg"},
        ),
        ({"op": "replace", "value": {"name.familyName": "By"}}, "name", {"givenName": "Anna", "familyName": "By"}),
        (
            {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "a@b.example"},
            "emails",
            [{"type": "work", "value": "a@b.example", "primary": True}],
        ),
        (
            {"op": "Add", "path": 'emails[type eq "home"].value', "value": "h@b.example"},
            "emails",
            [USER["emails"][0], {"type": "home", "value": "h@b.example"}],
        ),
        ({"op": "Remove", "path": 'emails[type eq "work"]'}, "emails", []),
        ({"op": "Add", "path": f"{ENTERPRISE}:department", "value": "Sales"}, ENTERPRISE, {"department": "Sales"}),
        ({"op": "replace", "value": {f"{ENTERPRISE}:department": "Sales"}}, ENTERPRISE, {"department": "Sales"}),
        ({"op": "replace", "value": {"id": "u_other", "userName": "b"}}, "userName", "b"),
    ],
)
def test_patches_of_users(operation: dict[str, Any], attribute: str, expected: Any) -> None:
    found = patched(USER, patch(operation))
    assert found[attribute] == expected
    assert "id" not in found
    assert USER["active"] is True


@pytest.mark.parametrize(
    ("operation", "members"),
    [
        ({"op": "Add", "path": "members", "value": [{"value": "u_3"}, {"value": "u_1"}]}, ["u_1", "u_2", "u_3"]),
        ({"op": "Remove", "path": "members", "value": [{"value": "u_1"}]}, ["u_2"]),
        ({"op": "remove", "path": 'members[value eq "u_2"]'}, ["u_1"]),
        ({"op": "remove", "path": "members"}, []),
        ({"op": "replace", "path": "members", "value": [{"value": "u_9", "display": "nine"}]}, ["u_9"]),
        ({"op": "replace", "value": {"displayName": "ops", "members": [{"value": "u_4"}]}}, ["u_4"]),
    ],
)
def test_patches_of_groups(operation: dict[str, Any], members: list[str]) -> None:
    assert patched(GROUP, patch(operation))["members"] == members


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({}, "invalidSyntax"),
        ({"Operations": []}, "invalidSyntax"),
        (patch({"op": "move", "path": "active", "value": True}), "invalidSyntax"),
        (patch({"op": "remove"}), "noTarget"),
        (patch({"op": "replace", "value": "x"}), "noTarget"),
        (patch({"op": "replace", "path": "active", "value": "maybe"}), "invalidValue"),
        (patch({"op": "replace", "path": "emails[type gt 1]", "value": 1}), "invalidPath"),
        (patch({"op": "add", "path": "members", "value": [{"name": "x"}]}), "invalidValue"),
        (patch({"op": "replace", "path": "displayName", "value": "x"}, {"op": "x"}), "invalidSyntax"),
    ],
)
def test_what_cannot_be_understood_is_refused_whole(body: Any, kind: str) -> None:
    group = {**GROUP, "members": list(GROUP["members"])}
    with pytest.raises(ScimInvalid) as caught:
        patched(group, body)
    assert caught.value.kind == kind
    assert group == GROUP


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["op", "path", "value", "Operations", "members", "active"]), inner)
        ),
    )
)
def test_any_body_is_applied_or_refused(body: Any) -> None:
    for resource, given_body in ((USER, body), (GROUP, patch({"op": "add", "path": "members", "value": body}))):
        with contextlib.suppress(ScimInvalid):
            patched(resource, given_body)


def test_filters() -> None:
    assert parse_filter('userName eq "Anna \\"A\\" Berg"', KNOWN) == Filter("userName", 'Anna "A" Berg')
    assert parse_filter('USERNAME Eq "a"', KNOWN) == Filter("userName", "a")
    assert parse_filter('urn:ietf:params:scim:schemas:core:2.0:User:externalId eq "7"', KNOWN).value == "7"
    for wrong in ('userName sw "a"', 'password eq "a"', "userName eq a", 'userName eq "a" or 1=1', ""):
        with pytest.raises(ScimInvalid):
            parse_filter(wrong, KNOWN)


def test_what_is_not_the_directorys_to_say_is_dropped() -> None:
    found = checked(
        {"UserName": "a", "password": "x", "id": "u_1", "meta": {}, "groups": [], "active": "False"}, is_user=True
    )
    assert found == {"userName": "a", "active": False}
    with pytest.raises(ScimInvalid):
        checked({"displayName": "a"}, is_user=True)


def test_only_what_names_links_and_switches_a_person_is_kept() -> None:
    sent = {
        **USER,
        "externalId": "00u1",
        "name": {"givenName": "Anna", "FamilyName": "Berg", "honorificPrefix": "Dr."},
        "emails": [{"value": "anna@example.com", "type": "work", "primary": True, "display": "home: 12 Elm Street"}],
        "phoneNumbers": [{"value": "+47 22 12 34 56"}],
        "addresses": [{"streetAddress": "12 Elm Street"}],
        "title": "Head of layoffs",
        "x509Certificates": [{"value": "MIID"}],
        "roles": [{"value": "approver"}],
        ENTERPRISE: {"employeeNumber": "701", "manager": {"value": "26118915"}},
        "urn:example:own:2.0:User": {"salary": 70_000},
    }
    assert checked(sent, is_user=True) == {
        **USER,
        "externalId": "00u1",
        "name": {"givenName": "Anna", "familyName": "Berg"},
        "emails": [{"value": "anna@example.com", "type": "work", "primary": True}],
    }
    assert sorted(texts_of({"userName": "a", "active": True, "emails": [{"value": "b"}], "members": ["c"]})) == [
        "True", "a", "b", "c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong", [{"name": "Anna", "emails": "a@b"}, {"name": [], "emails": [1, None, {"value": [1]}]}]
)
def test_shapes_that_are_none_are_dropped(wrong: dict[str, Any]) -> None:
    assert checked({"userName": "a", **wrong}, is_user=True) == {"userName": "a"}
