"""`Directory`: users and groups as a SCIM client keeps them, in PostgreSQL.

Every change notifies all processes, whose `People` and keys follow within a second. A user who is deleted stays as one
who is switched off, less what was said of them, so that no key or token of theirs works again. The invariant: whoever
is not active has no sessions from before, whatever becomes of them later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from roadbed.guard.people import CHANNEL, new_id
from roadbed.guard.scim import Filter, ScimInvalid, ScimTaken
from roadbed.kernel.errors import NotFound
from roadbed.store.database import Connection, Database

USER_COLUMNS: Final[Mapping[str, str]] = {
    "userName": "lower(user_name) = lower($1)",
    "externalId": "external_id = $1",
    "id": "id = $1",
    "displayName": "lower(display_name) = lower($1)",
    "active": "active = ($1 = 'true')",
}
GROUP_COLUMNS: Final[Mapping[str, str]] = {
    "displayName": "lower(display_name) = lower($1)",
    "externalId": "external_id = $1",
    "id": "id = $1",
}


class NoSuchResource(NotFound):
    """No user or group has this id."""

    code = "scim.not_found"
    hint = "list them, or find one with a filter"


@dataclass(frozen=True, slots=True)
class Entry:
    """A user or a group: what the directory said, and what is added to it. ``linked`` are (id, name) of its groups or
    members.
    """

    id: str
    said: dict[str, Any]
    created: datetime
    changed: datetime
    linked: tuple[tuple[str, str], ...]


class Directory:
    """The users and groups of a deployment."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- users --------------------------------------------------------------------------------------------------------

    async def users(self, wanted: Filter | None, start: int, count: int) -> tuple[list[Entry], int]:
        """A page of users, from ``start`` (from 1), and how many there are."""
        where, values = _where(wanted, USER_COLUMNS)
        rows = await self._database.fetch(
            f"SELECT *, count(*) OVER () AS total FROM person WHERE provisioned AND {where}"  # noqa: S608 - constants
            f" ORDER BY created, id OFFSET ${len(values) + 1} LIMIT ${len(values) + 2}",
            *(*values, start - 1, count),
        )
        if not rows:
            total = await self._database.fetchval(
                f"SELECT count(*) FROM person WHERE provisioned AND {where}",  # noqa: S608 - constants
                *values,
            )
            return [], total
        linked = await self._groups_of([row["id"] for row in rows])
        return [_user(row, linked.get(row["id"], ())) for row in rows], rows[0]["total"]

    async def user(self, user_id: str) -> Entry:
        """One user. `NoSuchResource`."""
        row = await self._database.fetchrow("SELECT * FROM person WHERE id = $1 AND provisioned", user_id)
        if row is None:
            raise NoSuchResource("there is no such user")
        return _user(row, (await self._groups_of([user_id])).get(user_id, ()))

    async def create_user(self, said: dict[str, Any]) -> Entry:
        """Take a user in; one who was deleted before, by the same ids, comes back. `ScimTaken`."""
        async with self._database.transaction() as connection:
            if await connection.fetchval(
                "SELECT true FROM person WHERE provisioned AND lower(user_name) = lower($1)", said["userName"]
            ):
                raise ScimTaken("another user has this userName")
            known = await connection.fetchval(
                "SELECT id FROM person WHERE NOT provisioned AND ((external_id IS NOT NULL AND external_id = $1)"
                " OR (issuer IS NULL AND lower(user_name) = lower($2))) ORDER BY changed DESC LIMIT 1 FOR UPDATE",
                *(said.get("externalId"), said["userName"]),
            )
            user_id = known or new_id("u_")
            await self._write_user(connection, user_id, said)
        return await self.user(user_id)

    async def change_user(self, user_id: str, said: dict[str, Any]) -> Entry:
        """Put what a directory says now in the place of what it said. `NoSuchResource`, `ScimTaken`."""
        async with self._database.transaction() as connection:
            found = await connection.fetchval(
                "SELECT true FROM person WHERE id = $1 AND provisioned FOR UPDATE", user_id
            )
            if not found:
                raise NoSuchResource("there is no such user")
            await self._write_user(connection, user_id, said)
        return await self.user(user_id)

    async def delete_user(self, user_id: str) -> None:
        """Switch a user off for good, and forget what was said of them. `NoSuchResource`."""
        async with self._database.transaction() as connection:
            found = await connection.fetchval(
                "UPDATE person SET provisioned = false, active = false, sessions_from = now(), changed = now(),"
                " profile = '{}', display_name = '', user_name = id WHERE id = $1 AND provisioned RETURNING id",
                user_id,
            )
            if found is None:
                raise NoSuchResource("there is no such user")
            await connection.execute("DELETE FROM person_group_member WHERE person_id = $1", user_id)
            await self._database.notify(CHANNEL, user_id, connection=connection)

    async def _write_user(self, connection: Connection, user_id: str, said: dict[str, Any]) -> None:
        try:
            await connection.execute(
                "INSERT INTO person (id, user_name, external_id, display_name, profile, active, provisioned)"
                " VALUES ($1, $2, $3, $4, $5, $6, true) ON CONFLICT (id) DO UPDATE SET user_name = $2,"
                " external_id = $3, display_name = $4, profile = $5, active = $6, provisioned = true,"
                " changed = now(), sessions_from = CASE WHEN $6 THEN person.sessions_from ELSE now() END",
                *(user_id, said["userName"], said.get("externalId"), str(said.get("displayName", ""))),
                *(said, said.get("active", True)),
            )
        except asyncpg.UniqueViolationError:
            raise ScimTaken("another user has this userName") from None
        await self._database.notify(CHANNEL, user_id, connection=connection)

    async def _groups_of(self, user_ids: list[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        rows = await self._database.fetch(
            "SELECT person_id, id, display_name FROM person_group_member JOIN person_group ON id = group_id"
            " WHERE person_id = ANY($1) ORDER BY display_name",
            user_ids,
        )
        return _linked(rows, "person_id", "id")

    # -- groups -------------------------------------------------------------------------------------------------------

    async def groups(self, wanted: Filter | None, start: int, count: int) -> tuple[list[Entry], int]:
        """A page of groups, as `users`."""
        where, values = _where(wanted, GROUP_COLUMNS)
        rows = await self._database.fetch(
            f"SELECT * FROM person_group WHERE {where}"  # noqa: S608 - constants
            f" ORDER BY created, id OFFSET ${len(values) + 1} LIMIT ${len(values) + 2}",
            *(*values, start - 1, count),
        )
        total = await self._database.fetchval(
            f"SELECT count(*) FROM person_group WHERE {where}",  # noqa: S608 - constants
            *values,
        )
        linked = await self._members_of([row["id"] for row in rows])
        return [_group(row, linked.get(row["id"], ())) for row in rows], total

    async def group(self, group_id: str) -> Entry:
        """One group. `NoSuchResource`."""
        row = await self._database.fetchrow("SELECT * FROM person_group WHERE id = $1", group_id)
        if row is None:
            raise NoSuchResource("there is no such group")
        return _group(row, (await self._members_of([group_id])).get(group_id, ()))

    async def write_group(self, group_id: str | None, said: dict[str, Any]) -> Entry:
        """Make a group, or change one. `NoSuchResource`, `ScimTaken`, `ScimInvalid` for members who are nobody."""
        name, members = said["displayName"], said["members"]
        chosen = group_id or new_id("g_")
        async with self._database.transaction() as connection:
            if group_id is not None and not await connection.fetchval(
                "SELECT true FROM person_group WHERE id = $1 FOR UPDATE", group_id
            ):
                raise NoSuchResource("there is no such group")
            try:
                await connection.execute(
                    "INSERT INTO person_group (id, display_name, external_id) VALUES ($1, $2, $3)"
                    " ON CONFLICT (id) DO UPDATE SET display_name = $2, external_id = $3, changed = now()",
                    *(chosen, name, said.get("externalId")),
                )
            except asyncpg.UniqueViolationError:
                raise ScimTaken("another group has this displayName") from None
            await connection.execute(
                "DELETE FROM person_group_member WHERE group_id = $1 AND NOT person_id = ANY($2)", chosen, members
            )
            added = await connection.fetchval(
                "WITH known AS (SELECT id FROM person WHERE id = ANY($2) AND provisioned), made AS"
                " (INSERT INTO person_group_member SELECT $1, id FROM known ON CONFLICT DO NOTHING)"
                " SELECT count(*) FROM known",
                *(chosen, members),
            )
            if added != len(members):
                raise ScimInvalid("a member is no user here", "invalidValue")
            await self._database.notify(CHANNEL, chosen, connection=connection)
        return await self.group(chosen)

    async def delete_group(self, group_id: str) -> None:
        """Remove a group; its members stay. `NoSuchResource`."""
        async with self._database.transaction() as connection:
            if await connection.fetchval("DELETE FROM person_group WHERE id = $1 RETURNING id", group_id) is None:
                raise NoSuchResource("there is no such group")
            await self._database.notify(CHANNEL, group_id, connection=connection)

    async def _members_of(self, group_ids: list[str]) -> dict[str, tuple[tuple[str, str], ...]]:
        rows = await self._database.fetch(
            "SELECT group_id, person_id, user_name AS display_name FROM person_group_member"
            " JOIN person ON id = person_id WHERE group_id = ANY($1) ORDER BY person_id",
            group_ids,
        )
        return _linked(rows, "group_id", "person_id")


def _where(wanted: Filter | None, columns: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    return ("true", ()) if wanted is None else (columns[wanted.attribute], (wanted.value,))


def _linked(rows: Any, by: str, of: str) -> dict[str, tuple[tuple[str, str], ...]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        found.setdefault(row[by], []).append((row[of], row["display_name"]))
    return {key: tuple(pairs) for key, pairs in found.items()}


def _user(row: Any, linked: tuple[tuple[str, str], ...]) -> Entry:
    said = {**row["profile"], "userName": row["user_name"], "active": row["active"]}
    return Entry(row["id"], said, row["created"], row["changed"], linked)


def _group(row: Any, linked: tuple[tuple[str, str], ...]) -> Entry:
    said: dict[str, Any] = {"displayName": row["display_name"], "members": [member for member, _ in linked]}
    if row["external_id"] is not None:
        said["externalId"] = row["external_id"]
    return Entry(row["id"], said, row["created"], row["changed"], linked)
