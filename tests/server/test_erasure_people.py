"""Erasing people of the directory: whole names switch an account off, and nothing of it is left in the table."""

from __future__ import annotations

from typing import Any

import pytest

from roadbed.guard.directory import Directory
from roadbed.guard.erased import WordFinder
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KeyRefused
from roadbed.guard.people import Claims
from roadbed.server.erasure_people import erase_people, is_subject
from roadbed.server.erasure_sweep import sweep_tables
from roadbed.store.database import Database

JANE = {
    "userName": "j.doe@example.org",
    "displayName": "Jane Doe",
    "externalId": "0a21",
    "name": {"givenName": "Jane", "familyName": "Doe"},
    "emails": [{"value": "jane@example.org", "primary": True}, {"value": "JD@home.example"}],
    "title": "Friend of Jim Doe",
    "active": True,
}


async def table(database: Database) -> str:
    rows = await database.fetch("SELECT p::text FROM person p UNION ALL SELECT g::text FROM person_group g")
    return "\n".join(row[0] for row in rows).lower()


@pytest.mark.parametrize("value", ["Jane Doe", "DOE, Jane", "jd@home.example", "j.doe@example.org", "Jane-Doe"])
async def test_who_is_named_by_the_value_is_gone_with_their_keys(database: Database, value: str) -> None:
    directory = Directory(database)
    async with Identity(database) as identity:
        user = await directory.create_user(JANE)
        other = await directory.create_user({"userName": "jim@example.org", "displayName": "Jim Doe", "active": True})
        await directory.write_group(None, {"displayName": "ops", "members": [user.id]})
        await identity.refresh()
        identity.people.take(None, frozenset())
        row = await database.fetchrow("SELECT id FROM api_key")
        assert row is None
        await database.execute(
            "INSERT INTO api_key (id, digest, name, team, roles, person) VALUES ('k', sha256('x'), '', 't', '{}', $1)",
            user.id,
        )
        await identity.refresh()
        assert identity.authenticate("x").id == "k"
        finder = WordFinder(value)
        assert await erase_people(database, finder, is_dry_run=True) == 1
        assert "jane" in await table(database)
        assert await erase_people(database, finder, is_dry_run=False) == 1
        await identity.refresh()
        with pytest.raises(KeyRefused):
            identity.authenticate("x")
    told = await table(database)
    assert "jane" not in told
    assert "jd@home" not in told
    assert "jim doe" in told
    assert await database.fetchval("SELECT count(*) FROM person_group_member") == 0
    assert await database.fetchval("SELECT active FROM person WHERE id = $1", other.id)
    assert await erase_people(database, finder, is_dry_run=False) == 0


async def test_the_issuers_id_stays_unless_it_is_the_value(database: Database) -> None:
    async with Identity(database) as identity:
        for subject in ("s-1", "eve@example.org"):
            claims = Claims("https://i", subject, "eve@example.org", "Eve", "", "staff", frozenset())
            await identity.people.sign_in(claims, provisioned_only=False)
        assert await erase_people(database, WordFinder("eve@example.org"), is_dry_run=False) == 2
        await identity.refresh()
        kept = [row["subject"] for row in await database.fetch("SELECT subject FROM person ORDER BY subject")]
        assert kept[0] == "s-1"
        assert kept[1].startswith("u_")
        assert "eve" not in await table(database)


async def test_others_are_redacted_where_they_hold_it_even_when_names_must_differ(database: Database) -> None:
    directory = Directory(database)
    for name in ("Jane Doe", "Jane-Doe"):  # two groups, redacted to the same
        await directory.write_group(None, {"displayName": name, "members": []})
    await directory.create_user({"userName": "x", "displayName": "X", "title": "deputy of Jane Doe", "active": True})
    finder = WordFinder("Jane Doe")
    assert await erase_people(database, finder, is_dry_run=False) == 0
    rows, _, _ = await sweep_tables(database, finder, is_dry_run=False)
    assert (rows["person"], rows["person_group"]) == (1, 2)
    told = await table(database)
    assert "jane" not in told
    assert "deputy of [erased]" in told


@pytest.mark.parametrize(
    ("value", "profile", "expected"),
    [
        ("Doe Jane", JANE, True),
        ("Jane", JANE, False),
        ("+47 22 33 44", {"phoneNumbers": [{"value": "+47-22-33-44"}]}, True),
        ("Jane Doe", {"name": "Jane Doe", "emails": "x", "phoneNumbers": [1]}, False),
        ("Jane Doe", {"name": {"formatted": "JANE DOE"}}, True),
    ],
)
def test_whom_a_value_names(value: str, profile: dict[str, Any], expected: bool) -> None:
    person = {"user_name": "u", "external_id": None, "subject": None, "display_name": "", "profile": profile}
    assert is_subject(WordFinder(value), person) is expected
