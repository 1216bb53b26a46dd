"""Console sessions: signed, bound to a key, ended with it; links that sign in once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest

from roadbed.guard.ended_sessions import digest_of
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KeyRefused
from roadbed.guard.sessions import SESSION_S, FormTokenRefused, SessionRefused, Sessions, SignInTokenRefused
from roadbed.kernel.principal import Principal
from roadbed.store.database import Database


class HandClock:
    """A clock whose time of day is set by the test."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.now


class Place(NamedTuple):
    """A deployment with one key."""

    identity: Identity
    sessions: Sessions
    principal: Principal
    clock: HandClock


@pytest.fixture
async def place(database: Database) -> AsyncIterator[Place]:
    clock = HandClock()
    async with Identity(database, clock=clock) as identity:
        record, _ = await identity.create_key(team="a")
        yield Place(identity, await Sessions.open(database, identity, clock=clock), record.principal(), clock)


async def test_a_session_stands_for_its_key_in_every_process(place: Place, database: Database) -> None:
    cookie = place.sessions.start(place.principal)
    assert place.sessions.principal_of(cookie) == place.principal
    other = await Sessions.open(database, place.identity)
    assert other.principal_of(cookie) == place.principal


async def test_revoking_the_key_ends_the_session(place: Place) -> None:
    cookie = place.sessions.start(place.principal)
    await place.identity.revoke_key(place.principal.id)
    with pytest.raises(SessionRefused):
        place.sessions.principal_of(cookie)


async def test_sessions_end_after_twelve_hours(place: Place) -> None:
    cookie = place.sessions.start(place.principal)
    place.clock.now += timedelta(hours=11, minutes=59)
    assert place.sessions.principal_of(cookie) == place.principal
    place.clock.now += timedelta(minutes=2)
    with pytest.raises(SessionRefused):
        place.sessions.principal_of(cookie)


async def test_no_changed_cookie_is_believed(place: Place) -> None:
    cookie = place.sessions.start(place.principal)
    for index in range(len(cookie)):
        changed = cookie[:index] + ("A" if cookie[index] != "A" else "B") + cookie[index + 1 :]
        with pytest.raises(SessionRefused):
            place.sessions.principal_of(changed)
    for wrong in (None, "", "..", "1.a.b.c", "é" * 10, "x" * 5000):
        with pytest.raises(SessionRefused):
            place.sessions.principal_of(wrong)


async def test_a_link_signs_in_once(place: Place) -> None:
    token = await place.sessions.create_sign_in_token(place.principal.id)
    results = await asyncio.gather(*(place.sessions.redeem(token) for _ in range(4)), return_exceptions=True)
    cookies = [result for result in results if isinstance(result, str)]
    assert len(cookies) == 1
    assert all(isinstance(result, SignInTokenRefused) for result in results if not isinstance(result, str))
    assert place.sessions.principal_of(cookies[0]) == place.principal


async def test_a_link_is_good_for_fifteen_minutes_and_for_a_live_key(place: Place) -> None:
    late = await place.sessions.create_sign_in_token(place.principal.id)
    place.clock.now += timedelta(minutes=16)
    with pytest.raises(SignInTokenRefused):
        await place.sessions.redeem(late)
    orphan = await place.sessions.create_sign_in_token(place.principal.id)
    await place.identity.revoke_key(place.principal.id)
    with pytest.raises(SignInTokenRefused):
        await place.sessions.redeem(orphan)
    with pytest.raises(KeyRefused):
        await place.sessions.create_sign_in_token(place.principal.id)
    for wrong in ("", "rbs_unknown", "ü", "rbs_" + "x" * 5000):
        with pytest.raises(SignInTokenRefused):
            await place.sessions.redeem(wrong)


async def test_links_are_stored_as_digests(place: Place, database: Database) -> None:
    token = await place.sessions.create_sign_in_token(place.principal.id)
    rows = await database.fetch("SELECT * FROM sign_in_token")
    assert token[4:] not in repr([dict(row) for row in rows])


async def test_a_form_belongs_to_its_session(place: Place) -> None:
    mine, theirs = place.sessions.start(place.principal), place.sessions.start(place.principal)
    place.sessions.check_form_token(mine, place.sessions.form_token(mine))
    for wrong in (place.sessions.form_token(theirs), "", None, "ü"):
        with pytest.raises(FormTokenRefused):
            place.sessions.check_form_token(mine, wrong)


async def test_signing_out_ends_the_session_in_every_process_and_for_good(place: Place, database: Database) -> None:
    cookie, other = place.sessions.start(place.principal), place.sessions.start(place.principal)
    elsewhere = await Sessions.open(database, place.identity, clock=place.clock)
    assert elsewhere.principal_of(cookie) == place.principal
    await place.sessions.end(cookie)
    with pytest.raises(SessionRefused):
        place.sessions.principal_of(cookie)
    async with asyncio.timeout(60):
        while cookie not in elsewhere.ended:
            elsewhere.ended.changed.clear()
            await elsewhere.ended.changed.wait()
    with pytest.raises(SessionRefused):
        elsewhere.principal_of(cookie)
    later = await Sessions.open(database, place.identity, clock=place.clock)
    with pytest.raises(SessionRefused):
        later.principal_of(cookie)
    assert later.principal_of(other) == place.principal
    assert cookie not in repr([dict(row) for row in await database.fetch("SELECT * FROM sign_in_token")])


async def test_what_is_used_once_is_used_in_one_process(place: Place, database: Database) -> None:
    elsewhere = await Sessions.open(database, place.identity, clock=place.clock)
    until = int(place.clock.now.timestamp()) + 600
    spent = await asyncio.gather(*(each.ended.spend("a state", until) for each in (place.sessions, elsewhere) * 4))
    assert sorted(spent) == [False] * 7 + [True]
    assert await elsewhere.ended.spend("another", until)
    assert "a state" not in repr([dict(row) for row in await database.fetch("SELECT * FROM sign_in_token")])


async def test_what_is_used_once_is_used_once_where_there_is_no_key(place: Place, database: Database) -> None:
    elsewhere = await Sessions.open(database, place.identity, clock=place.clock)
    await database.execute("DELETE FROM sign_in_token")
    await database.execute("DELETE FROM api_key")
    elsewhere.ended.changed.clear()
    until = int(place.clock.now.timestamp()) + 600
    spent = await asyncio.gather(*(place.sessions.ended.spend("a state", until) for _ in range(4)))
    assert sorted(spent) == [False] * 3 + [True]
    await asyncio.wait_for(elsewhere.ended.changed.wait(), 10)
    assert not await elsewhere.ended.spend("a state", until)
    assert await elsewhere.ended.spend("another", until)


async def test_ended_sessions_are_forgotten_when_they_would_have_ended_anyway(place: Place) -> None:
    ended, until = place.sessions.ended, int(place.clock.now.timestamp()) + SESSION_S
    for number in range(3):
        ended.note(digest_of(f"session {number}"), until)
    assert "session 1" in ended
    place.clock.now += timedelta(seconds=SESSION_S + 1)
    ended.note(digest_of("session 4"), until + SESSION_S)
    assert len(ended) == 1
    assert "session 1" not in ended
