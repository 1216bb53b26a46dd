"""Credentials that callers store: sealed, each for one owner and source, found by erasure, and never one of ours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.guard.credentials import (
    CREDENTIALS_OF_ONE_MAX,
    HELD_MAX,
    HELD_S,
    ID_TOKEN,
    CredentialInvalid,
    Credentials,
    CredentialsFull,
    CredentialUnreadable,
)
from roadbed.guard.erased import WordFinder
from roadbed.guard.identity import Identity
from roadbed.guard.people import Claims, token_caller_id
from roadbed.guard.sealing import SealBroken, Sealer
from roadbed.guard.token_manifest import SignInConfig
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.store.database import Database

ISSUER = "https://issuer.example"
SIGN_IN = SignInConfig(issuer=ISSUER, client_id="rb", team="staff")
ADMIN = Principal("boss", "admin")


class Place(NamedTuple):
    """A deployment with the vault of its state folder."""

    state: Path
    database: Database
    identity: Identity
    vault: Credentials


@pytest.fixture
async def place(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    async with Identity(database) as identity:
        identity.people.take(SIGN_IN, frozenset({ISSUER}))
        yield Place(tmp_path, database, identity, Credentials.open(tmp_path, database, identity))


async def a_key(place: Place, person: str = "", name: str = "") -> Principal:
    record, _ = await place.identity.create_key(team="staff", person=person, name=name)
    return record.principal()


async def a_person(place: Place, subject: str = "anna") -> Principal:
    claims = Claims(ISSUER, subject, f"{subject}@office.example", f"{subject.title()} Larsen", "", "", frozenset())
    person = await place.identity.people.sign_in(claims, provisioned_only=False)
    await place.identity.people.read()
    return place.identity.principal_of(person)


async def value_of(place: Place, principal: Principal, source: str = "crm") -> str | None:
    found = await place.vault.credential(principal, source)
    return found.reveal() if found is not None else None


# -- sealing -----------------------------------------------------------------------------------------------------------


@given(st.text(), st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_what_is_sealed_opens_for_its_own_purpose_alone(value: str, bound: list[str], other: list[str]) -> None:
    sealer = Sealer(b"k" * 32)
    try:
        sealed = sealer.seal(value, *bound)
    except UnicodeEncodeError:
        return
    assert sealer.opened(sealed, *bound) == value
    assert sealed != sealer.seal(value, *bound)
    if other != bound:
        with pytest.raises(SealBroken):
            sealer.opened(sealed, *other)


def test_a_changed_value_and_another_key_open_nothing(tmp_path: Path) -> None:
    sealer = Sealer.open(tmp_path)
    sealed = sealer.seal("value", "a")
    for at in range(len(sealed)):
        with pytest.raises(SealBroken):
            sealer.opened(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], "a")
    for cut in (b"", sealed[:12], sealed[:13]):
        with pytest.raises(SealBroken):
            sealer.opened(cut, "a")
    assert Sealer.open(tmp_path).opened(sealed, "a") == "value"
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "vault.key").write_text("short")
    with pytest.raises(ConfigError):
        Sealer.open(tmp_path)


# -- owners ------------------------------------------------------------------------------------------------------------


async def test_a_credential_is_its_owners_for_one_source(place: Place) -> None:
    anna, bert = await a_key(place), await a_key(place)
    await place.vault.store(anna, "crm", " first \n", actor=anna)
    await place.vault.store(anna, "crm", "second", actor=anna)
    assert await value_of(place, anna) == "second"
    assert await value_of(place, anna, "erp") is None
    assert await value_of(place, bert) is None
    await place.vault.store(bert, "crm", "of bert", actor=ADMIN)
    assert [(one.source, one.is_by_owner) for one in await place.vault.listed(bert)] == [("crm", False)]
    assert await place.vault.remove(anna, "crm")
    assert not await place.vault.remove(anna, "crm")
    assert await value_of(place, anna) is None
    assert await value_of(place, bert) == "of bert"


async def test_a_person_is_one_owner_by_key_session_and_token(place: Place) -> None:
    person = await a_person(place)
    key = await a_key(place, person.id)
    token = Principal(token_caller_id(ISSUER, "anna"), "staff")
    await place.vault.store(key, "crm", "hers", actor=key)
    assert [await value_of(place, one) for one in (person, key, token)] == ["hers"] * 3
    assert await value_of(place, await a_person(place, "bert")) is None
    await place.vault.store(token, "crm", "newer", actor=token)
    assert [await value_of(place, one) for one in (person, key, token)] == ["newer"] * 3
    assert await place.database.fetchval("SELECT count(*) FROM caller_credential") == 1


async def test_a_token_may_name_its_caller_as_it_likes(place: Place) -> None:
    odd = Principal("token-x", "staff", name="An\0na \ud800 Larsen")
    await place.vault.store(odd, "crm", "value", actor=odd)
    assert await place.vault.erase(WordFinder("Anna"), is_dry_run=False) == {"caller_credential": 1}


async def test_nothing_readable_is_in_the_table_and_a_row_that_is_moved_opens_nothing(place: Place) -> None:
    anna, bert = await a_key(place), await a_key(place)
    await place.vault.store(anna, "crm", "PLANTED-7731", actor=anna)
    row = await place.database.fetchrow("SELECT * FROM caller_credential")
    assert row is not None
    assert "PLANTED" not in str(dict(row))
    await place.database.execute("UPDATE caller_credential SET owner = $1", bert.id)
    with pytest.raises(CredentialUnreadable):
        await place.vault.credential(bert, "crm")
    other = Credentials.open(place.state / "other", place.database, place.identity)
    await place.database.execute("UPDATE caller_credential SET owner = $1", anna.id)
    with pytest.raises(CredentialUnreadable):
        await other.credential(anna, "crm")


async def test_keys_of_this_deployment_and_what_no_request_can_carry_are_refused(place: Place) -> None:
    anna = await a_key(place)
    _, ours = await place.identity.create_key(team="staff")
    await place.identity.ensure_admin_key("an-admin-key-that-looks-like-nothing")
    for wrong in ("", " ", "x" * 5_000, "a\r\nx: y", "blå", ours, "an-admin-key-that-looks-like-nothing", "rbk_gone_x"):
        with pytest.raises(CredentialInvalid):
            await place.vault.store(anna, "crm", wrong, actor=anna)
    for number in range(CREDENTIALS_OF_ONE_MAX):
        await place.vault.store(anna, f"s{number}", "value", actor=anna)
    with pytest.raises(CredentialsFull):
        await place.vault.store(anna, "one-more", "value", actor=anna)
    await place.vault.store(anna, "s0", "in its place", actor=anna)


# -- tokens ------------------------------------------------------------------------------------------------------------


async def test_the_token_that_came_with_the_call_is_what_may_be_exchanged(place: Place) -> None:
    caller = Principal("token-x", "staff", shown=Secret("a.b.c"))
    found = await place.vault.subject(caller)
    assert found is not None
    assert (found.owner, found.token.reveal()) == ("token-x", "a.b.c")
    assert await place.vault.subject(replace(caller, shown=None)) is None
    assert "a.b.c" not in repr(caller)


async def test_the_token_of_a_sign_in_counts_until_it_ends_or_the_issuer_ends_it(place: Place) -> None:
    person, now = await a_person(place), time.time()
    key = await a_key(place, person.id)
    await place.vault.keep_sign_in(person.id, "id.to.ken", now + 60)
    found = await place.vault.subject(person)
    assert found is not None
    assert (found.token.reveal(), found.kind) == ("id.to.ken", ID_TOKEN)
    assert await place.vault.subject(key) is None  # a key lasts longer than a sign-in
    await place.vault.keep_sign_in(person.id, "id.to.ken", now - 1)
    assert await place.vault.subject(person) is None
    await place.vault.keep_sign_in(person.id, "newer", now + 60)
    await place.vault.forget_sign_in(ISSUER, "anna")
    assert await place.vault.subject(person) is None


# -- what waits for a person -------------------------------------------------------------------------------------------


async def test_what_is_held_for_a_waiting_call_is_found_by_every_process_until_it_ends(place: Place) -> None:
    anna, bert = Principal(token_caller_id(ISSUER, "anna"), "staff", name="Anna Larsen"), await a_key(place)
    other = Credentials.open(place.state, place.database, place.identity)
    for token in ("first", "PLANTED-7731"):
        await place.vault.hold(anna, "crm", "declared", Secret(token))
    found = await other.held(anna, "crm", "declared")
    assert found is not None
    assert found.equals("PLANTED-7731")
    assert await other.held(anna, "crm", "declared otherwise") is None
    assert await other.held(anna, "erp", "declared") is None
    assert await other.held(bert, "crm", "declared") is None
    assert "PLANTED" not in str(await place.database.fetch("SELECT * FROM caller_credential"))
    # It is no credential that was stored, and stands in the way of none.
    assert await place.vault.listed(anna) == []
    assert await value_of(place, anna) is None
    await place.vault.store(anna, "crm", "stored", actor=anna)
    assert await place.vault.remove(anna, "crm")
    assert await other.held(anna, "crm", "declared") is not None
    await place.database.execute("UPDATE caller_credential SET owner = $1", bert.id)
    assert await other.held(bert, "crm", "declared") is None  # a row that is moved opens nothing
    await place.database.execute("UPDATE caller_credential SET owner = $1", anna.id)
    await place.database.execute("UPDATE caller_credential SET created = now() - make_interval(secs => $1)", HELD_S)
    assert await other.held(anna, "crm", "declared") is None
    await place.vault.hold(bert, "crm", "declared", Secret("his"))
    assert await place.database.fetchval("SELECT count(*) FROM caller_credential") == 1
    await place.vault.store(anna, "crm", "stored", actor=anna)
    await Credentials.forget_ended(place.database)
    assert await place.vault.held(bert, "crm", "declared") is not None
    await place.database.execute("UPDATE caller_credential SET created = now() - make_interval(secs => $1)", HELD_S)
    await Credentials.forget_ended(place.database)
    assert await place.database.fetchval("SELECT string_agg(owner, ',') FROM caller_credential") == anna.id
    await place.vault.hold(bert, "crm", "declared", Secret("his"))
    await other.let_go("crm")
    assert await place.vault.held(bert, "crm", "declared") is None


async def test_the_oldest_that_is_held_makes_room(place: Place) -> None:
    await place.database.execute(
        "INSERT INTO caller_credential (owner, source, sealed, actor, created)"
        " SELECT 'owner-' || n, 'held:crm', '', '', now() - make_interval(secs => n * 0.1)"
        " FROM generate_series(1, $1::int) n",
        HELD_MAX,
    )
    await place.vault.hold(ADMIN, "crm", "declared", Secret("token"))
    assert await place.database.fetchval("SELECT count(*) FROM caller_credential") == HELD_MAX
    last = f"owner-{HELD_MAX}"
    assert await place.database.fetchval("SELECT count(*) FROM caller_credential WHERE owner = $1", last) == 0


# -- erasing -----------------------------------------------------------------------------------------------------------


async def test_erasing_a_person_takes_what_they_stored(place: Place) -> None:
    anna, bert, key = await a_person(place), await a_person(place, "bert"), await a_key(place, name="Anna Larsen's")
    for one in (anna, bert, key):
        await place.vault.store(one, "crm", "value", actor=one)
        await place.vault.store(one, "erp", f"{one.id}:anna@office.example" if one is bert else "v", actor=one)
    await place.vault.keep_sign_in(anna.id, "h.e30.s", time.time() + 60)
    await place.vault.hold(anna, "crm", "declared", Secret("of-anna"))
    await place.vault.hold(bert, "crm", "declared", Secret("h.eyJhIjoiQW5uYSBMYXJzZW4ifQ.s"))  # its claims name her
    assert await place.vault.erase(WordFinder("Anna Larsen"), is_dry_run=True) == {
        "caller_credential": 6,
        "sign_in_identity": 1,
    }
    assert await value_of(place, anna) == "value"
    await place.vault.erase(WordFinder("Anna Larsen"), is_dry_run=False)
    assert (await value_of(place, anna), await value_of(place, key)) == (None, None)
    assert await place.vault.subject(anna) is None
    assert await place.vault.erase(WordFinder("anna@office.example"), is_dry_run=False) == {"caller_credential": 1}
    assert await value_of(place, bert) == "value"
