"""People in three processes' memories: what a directory switches off is refused in each of them within a second."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
from tests.stopwatch import comes_true

from roadbed.guard.directory import Directory
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KeyRefused
from roadbed.guard.people import Claims, PersonRefused, token_caller_id
from roadbed.guard.sessions import SessionRefused, Sessions
from roadbed.guard.token_manifest import SignInConfig
from roadbed.kernel.principal import Principal
from roadbed.store.database import Database

ISSUER = "https://issuer.example"
CONFIG = SignInConfig(issuer=ISSUER, client_id="x", team="staff", teams={"board": "board"}, roles={"ops": "admin"})


def claims(subject: str = "s1", *, external: str = "", groups: frozenset[str] = frozenset()) -> Claims:
    return Claims(ISSUER, subject, subject, "", external, "", groups)


@pytest.fixture
async def three(database: Database) -> AsyncIterator[list[Identity]]:
    """The poll is far away, so only notifications can bring anything."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(Identity(database, poll_s=3600)) for _ in range(3)]
        for identity in made:
            identity.people.take(CONFIG, frozenset({ISSUER}))
        yield made


async def everywhere(three: list[Identity], holds: Callable[[Identity], bool]) -> None:
    """Each of the three comes to this within a second."""
    await comes_true(lambda: all(holds(identity) for identity in three), within_s=1)


def known(identity: Identity, person: str) -> Principal | None:
    try:
        return identity.principal_of(person)
    except KeyRefused:
        return None


def takes(identity: Identity, key: str) -> bool:
    try:
        identity.authenticate(key)
    except KeyRefused:
        return False
    return True


async def test_what_is_switched_off_is_refused_everywhere_within_a_second(
    database: Database, three: list[Identity]
) -> None:
    directory, sessions = Directory(database), [await Sessions.open(database, identity) for identity in three]
    entry = await directory.create_user({"userName": "Anna@example.com", "externalId": "e1"})
    person = await three[0].people.sign_in(claims(external="e1"), provisioned_only=True)
    assert person == entry.id
    await everywhere(three, lambda identity: known(identity, person) is not None)
    _, key = await three[1].create_key(team="staff", person=person)
    await everywhere(three, lambda identity: takes(identity, key))
    cookie = sessions[2].start(three[2].principal_of(person))
    token = token_caller_id(ISSUER, "s1")
    assert not any(identity.people.refuses_token(token) for identity in three)

    await directory.change_user(person, {**entry.said, "active": False})
    await everywhere(three, lambda identity: known(identity, person) is None and not takes(identity, key))
    assert all(identity.people.refuses_token(token) for identity in three)
    assert all(identity.people.refuses_token(token_caller_id(ISSUER, "e1")) for identity in three)
    for one in sessions:
        with pytest.raises(SessionRefused):
            one.principal_of(cookie)
    with pytest.raises(PersonRefused):
        await three[0].people.sign_in(claims(external="e1"), provisioned_only=False)

    await directory.change_user(person, {**entry.said, "active": True})
    await everywhere(three, lambda identity: takes(identity, key))
    with pytest.raises(SessionRefused):  # a session from before stays over
        sessions[0].principal_of(cookie)


async def test_a_deleted_user_is_nobody_and_may_come_back(database: Database, three: list[Identity]) -> None:
    directory = Directory(database)
    entry = await directory.create_user({"userName": "b", "externalId": "e2", "title": "Boss"})
    await three[0].people.sign_in(claims("s2", external="e2"), provisioned_only=True)
    await directory.delete_user(entry.id)
    await everywhere(three, lambda identity: identity.people.refuses_token(token_caller_id(ISSUER, "s2")))
    with pytest.raises(PersonRefused):
        await three[0].people.sign_in(claims("s2"), provisioned_only=False)
    assert "Boss" not in str(await database.fetch("SELECT * FROM person"))
    again = await directory.create_user({"userName": "b2", "externalId": "e2"})
    assert again.id == entry.id
    await everywhere(three, lambda identity: known(identity, again.id) is not None)


async def test_groups_give_teams_and_roles(database: Database, three: list[Identity]) -> None:
    directory = Directory(database)
    entry = await directory.create_user({"userName": "c", "externalId": "e3"})
    group = await directory.write_group(None, {"displayName": "ops", "members": [entry.id]})
    await directory.write_group(None, {"displayName": "board", "members": [entry.id]})

    def is_admin(identity: Identity) -> bool:
        found = known(identity, entry.id)
        return found is not None and found.is_admin and found.team == "board"

    await everywhere(three, is_admin)
    assert "group:ops" in three[0].principal_of(entry.id).groups
    await directory.write_group(group.id, {"displayName": "ops", "members": []})
    await everywhere(three, lambda identity: not is_admin(identity))


async def test_provisioned_only_lets_nobody_else_in(three: list[Identity]) -> None:
    with pytest.raises(PersonRefused):
        await three[0].people.sign_in(claims("stranger"), provisioned_only=True)
    first = await three[0].people.sign_in(claims("stranger"), provisioned_only=False)
    assert await three[1].people.sign_in(claims("stranger"), provisioned_only=False) == first
    other = Claims("https://other.example", "stranger", "stranger", "", "", "", frozenset())
    assert await three[1].people.sign_in(other, provisioned_only=False) != first
