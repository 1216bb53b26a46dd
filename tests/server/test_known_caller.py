"""Callers on one connection: what a head let in before is let in again only while its key is what it was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from roadbed.guard.gate import Guard
from roadbed.guard.identity import Identity
from roadbed.store.database import Database
from roadbed.testing.scripted_model import ScriptedModel
from roadbed.testing.scripted_reply import Reply

from .test_chat_hot import WORDS, Site, chat, endpoint, site_of

PATIENCE_S = 20.0


class HandClock:
    """A clock whose time of day is set by the test."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def monotonic_s(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.now


class Caller:
    """One connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, key: str, text: str = "Say something", more: str = "") -> tuple[int, Any]:
        body = json.dumps(chat(text)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n{more}"
        self._writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(PATIENCE_S):
            got = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(got.split("content-length: ")[1].split("\r\n")[0])
            return int(got.split()[1]), json.loads(await self._reader.readexactly(length))


@pytest.fixture
async def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def identity(database: Database, clock: HandClock) -> AsyncIterator[Identity]:
    async with Identity(database, clock=clock) as made:
        yield made


@pytest.fixture
async def site(guard: Guard, identity: Identity) -> AsyncIterator[Site]:
    async with ScriptedModel(default=Reply(text=WORDS)) as model, site_of(guard) as made:
        made.chat.identity = identity
        made.serve(endpoint("first", model.url))
        yield made


@pytest.fixture
async def caller(site: Site) -> Caller:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    site.writers.append(writer)
    return Caller(reader, writer)


async def test_a_key_that_is_revoked_is_refused_on_the_connection_that_used_it(
    identity: Identity, caller: Caller
) -> None:
    record, key = await identity.create_key(team="support")
    assert [(await caller.ask(key))[0] for _ in range(3)] == [200] * 3
    await identity.revoke_key(record.id)
    assert [(await caller.ask(key))[0] for _ in range(2)] == [401] * 2
    _, other = await identity.create_key(team="support")
    assert [(await caller.ask(other))[0], (await caller.ask(key))[0]] == [200, 401]


async def test_a_key_that_expires_is_refused_on_the_connection_that_used_it(
    identity: Identity, caller: Caller, clock: HandClock
) -> None:
    _, key = await identity.create_key(team="support", expires=clock.now + timedelta(hours=1))
    assert [(await caller.ask(key))[0] for _ in range(3)] == [200] * 3
    clock.now += timedelta(hours=2)
    assert [(await caller.ask(key))[0] for _ in range(2)] == [401] * 2


async def test_each_request_of_a_connection_is_its_own_callers(identity: Identity, site: Site, caller: Caller) -> None:
    keys = {}
    for team in ("support", "legal"):
        record, keys[team] = await identity.create_key(team=team, apps=None if team == "support" else ["other"])
        keys[record.id] = team
    teams = ["support", "support", "legal", "legal", "support", "support", "legal"]
    assert [(await caller.ask(keys[team]))[0] for team in teams] == [200, 200, 403, 403, 200, 200, 403]
    assert {keys[trace.principal.id] for trace in site.ledger.traces} == {"support"}
    assert {trace.principal.team for trace in site.ledger.traces} == {"support"}


async def test_what_a_team_may_call_is_asked_each_time(identity: Identity, site: Site, caller: Caller) -> None:
    _, key = await identity.create_key(team="support")
    assert [(await caller.ask(key))[0] for _ in range(3)] == [200] * 3
    site.chat.teams._apps = {"support": frozenset({"other"})}
    assert (await caller.ask(key))[0] == 403


async def test_a_deadline_belongs_to_its_head(identity: Identity, caller: Caller) -> None:
    _, key = await identity.create_key(team="support")
    bad = "x-roadbed-deadline-ms: soon\r\n"
    assert [(await caller.ask(key, more=more))[0] for more in ("", "", bad, bad, "")] == [200, 200, 400, 400, 200]


async def test_a_known_head_hides_no_finding(identity: Identity, site: Site, caller: Caller) -> None:
    """The second request's body is looked at as the first one's was."""
    _, key = await identity.create_key(team="support")
    for text in ("nothing here", "nothing again", "write to anna.berg@example.com", "AKIAQ3EGVBN7ZK5MW2XH", "nothing"):
        assert (await caller.ask(key, text))[0] == 200
    asked = [trace.question.text if trace.question is not None else "" for trace in site.ledger.traces]
    assert asked[:2] == ["nothing here", "nothing again"]
    assert "anna.berg" not in asked[2]
    assert "AKIA" not in asked[3]
