"""`People`: persons as `Identity` knows them: who signs in through an issuer, and whom a directory switched off.

A snapshot in memory, read with the keys and on the same notice, so that what a directory takes away is gone in every
process within a second. Writing is here for sign-ins, and in ``directory.py`` for directories. The invariant: a person
is (issuer, subject), never an e-mail address, and one who is not active is nobody.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from roadbed.guard.keys import KeyRefused
from roadbed.guard.token_manifest import SignInConfig
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.kernel.errors import Unauthorized
from roadbed.kernel.principal import MEMBER, Principal
from roadbed.store.database import Database

CHANNEL: Final = "roadbed_key"
PERSON_PREFIX: Final = "u_"
TOKEN_PREFIX: Final = "token-"  # noqa: S105 - the visible beginning of a caller's id
PEOPLE_MAX: Final = 200_000
GROUPS_MAX: Final = 1_000
_TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class PersonRefused(Unauthorized):
    """The issuer knows this person, and the deployment does not let them in."""

    code = "auth.person_refused"
    hint = "ask whoever runs the deployment: the account is switched off, not provisioned, or in no team"

    def __init__(self) -> None:
        super().__init__("this account may not sign in here")


@dataclass(frozen=True, slots=True)
class Person:
    """One person. ``groups`` are the directory's and the claims' together."""

    id: str
    issuer: str
    subject: str
    user_name: str
    external_id: str
    display_name: str
    team: str
    groups: frozenset[str]
    is_active: bool
    sessions_from: datetime | None


@dataclass(frozen=True, slots=True)
class Claims:
    """What an issuer says of a person who signs in. ``external_id`` is the claim that links to a directory."""

    issuer: str
    subject: str
    user_name: str
    display_name: str
    external_id: str
    team: str
    groups: frozenset[str]


class People:
    """The persons of a deployment, in one process. `read` is `Identity`'s business."""

    def __init__(self, database: Database, clock: Clock = SYSTEM_CLOCK) -> None:
        self._database = database
        self._clock = clock
        self._config: SignInConfig | None = None
        self._issuers: frozenset[str] = frozenset()
        self._by_id: dict[str, Person] = {}
        self._refused: frozenset[str] = frozenset()

    def take(self, config: SignInConfig | None, issuers: frozenset[str]) -> None:
        """Go by these teams and roles of groups; ``issuers`` are those whose tokens are taken."""
        self._config, self._issuers = config, issuers
        self._refused = self._refused_tokens()

    async def read(self) -> None:
        """Take a fresh snapshot. `StoreUnavailable`."""
        rows = await self._database.fetch(
            "SELECT person.*, array(SELECT display_name FROM person_group_member JOIN person_group"
            " ON person_group.id = group_id WHERE person_id = person.id LIMIT $1) AS groups FROM person LIMIT $2",
            *(GROUPS_MAX, PEOPLE_MAX),
        )
        self._by_id = {row["id"]: _person(row) for row in rows}
        self._refused = self._refused_tokens()

    # -- the request path ---------------------------------------------------------------------------------------------

    def principal_of(self, person_id: str, since: float | None = None) -> Principal:
        """The caller that a person is, in a session begun at ``since``. `KeyRefused`."""
        person = self._by_id.get(person_id)
        if person is None or not person.is_active:
            raise KeyRefused
        if since is not None and person.sessions_from is not None and since < person.sessions_from.timestamp():
            raise KeyRefused
        principal = person_principal(person, self._config)
        if principal is None:
            raise KeyRefused
        return principal

    def owners_of(self, caller_id: str) -> tuple[str, ...]:
        """The ids under which things may belong to a caller: for a person who has signed in first the one that the
        issuer's tokens have, so that it is one owner whichever way they come.
        """
        person = self._by_id.get(caller_id)
        if person is None or not person.issuer:
            return (caller_id,)
        return token_caller_id(person.issuer, person.subject), caller_id

    def names_of(self, person_id: str) -> tuple[str, ...]:
        """What the issuer and the directory call a person."""
        person = self._by_id.get(person_id)
        if person is None:
            return ()
        return person.display_name, person.user_name, person.external_id, person.subject

    def is_active(self, person_id: str) -> bool:
        """Whether there is such a person, whom no directory switched off."""
        person = self._by_id.get(person_id)
        return person is not None and person.is_active

    def refuses_token(self, principal_id: str) -> bool:
        """Whether a token's caller is a person whom a directory switched off."""
        return principal_id in self._refused

    def person_of_token(self, principal_id: str) -> str:
        """The person whose token's caller this is; empty when it is none."""
        if not principal_id.startswith(TOKEN_PREFIX):
            return ""
        return next((person.id for person in self._by_id.values() if principal_id in self._token_ids(person)), "")

    def all(self) -> list[Person]:
        """Everyone who is known, by name; who is switched off too."""
        return sorted(self._by_id.values(), key=lambda person: (person.display_name or person.user_name, person.id))

    def principals(self) -> list[Principal]:
        """Everyone who may come in."""
        active = (person_principal(person, self._config) for person in self._by_id.values() if person.is_active)
        return [principal for principal in active if principal is not None]

    def _refused_tokens(self) -> frozenset[str]:
        refused: set[str] = set()
        for person in self._by_id.values():
            if not person.is_active:
                refused |= self._token_ids(person)
        return frozenset(refused)

    def _token_ids(self, person: Person) -> set[str]:
        """The callers that tokens of a person are."""
        found = {token_caller_id(person.issuer, person.subject)} if person.issuer else set()
        if person.external_id:
            found.update(token_caller_id(issuer, person.external_id) for issuer in self._issuers)
        return found

    # -- signing in ---------------------------------------------------------------------------------------------------

    async def sign_in(self, claims: Claims, *, provisioned_only: bool) -> str:
        """Know a person by an issuer's word: their id. `PersonRefused`, `StoreUnavailable`."""
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                "SELECT id, active, provisioned FROM person WHERE issuer = $1 AND subject = $2 FOR UPDATE",
                *(claims.issuer, claims.subject),
            )
            if row is None and claims.external_id:
                row = await connection.fetchrow(
                    "SELECT id, active, provisioned FROM person WHERE external_id = $1 AND issuer IS NULL"
                    " AND provisioned FOR UPDATE",
                    claims.external_id,
                )
            if row is not None and not row["active"]:
                raise PersonRefused
            if provisioned_only and (row is None or not row["provisioned"]):
                raise PersonRefused
            person_id = row["id"] if row is not None else new_id(PERSON_PREFIX)
            await connection.execute(
                "INSERT INTO person (id, issuer, subject, user_name, display_name, team, claimed, signed_in)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, now()) ON CONFLICT (id) DO UPDATE SET issuer = $2, subject = $3,"
                " display_name = CASE WHEN person.provisioned THEN person.display_name ELSE $5 END,"
                " user_name = CASE WHEN person.provisioned THEN person.user_name ELSE $4 END,"
                " team = $6, claimed = $7, signed_in = now()",
                *(person_id, claims.issuer, claims.subject, claims.user_name, claims.display_name),
                *(claims.team, sorted(claims.groups)[:GROUPS_MAX]),
            )
            await self._database.notify(CHANNEL, person_id, connection=connection)
        return str(person_id)

    async def end_sessions(self, issuer: str, subject: str) -> bool:
        """End every session of a person; whether there is such a person."""
        async with self._database.transaction() as connection:
            person_id = await connection.fetchval(
                "UPDATE person SET sessions_from = $3 WHERE issuer = $1 AND subject = $2 RETURNING id",
                *(issuer, subject, self._clock.wall()),
            )
            if person_id is not None:
                await self._database.notify(CHANNEL, person_id, connection=connection)
        return person_id is not None


def person_principal(person: Person, config: SignInConfig | None) -> Principal | None:
    """The caller that a person is, by the groups' teams and roles; None for one without a team."""
    if config is None:
        return None
    team = next((config.teams[group] for group in sorted(person.groups) if group in config.teams), "")
    team = person.team or team or config.team
    if _TEAM.fullmatch(team) is None:
        return None
    roles = {config.roles[group] for group in person.groups if group in config.roles}
    return Principal(
        id=person.id,
        team=team,
        roles=frozenset({MEMBER, *roles}),
        name=person.display_name or person.user_name,
        member_of=person.groups,
    )


def token_caller_id(issuer: str, subject: str) -> str:
    """The id of a token's caller: one that cannot be mistaken for a key's, and that no issuer can choose."""
    digest = hashlib.sha256(f"{issuer}\0{subject}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{TOKEN_PREFIX}{digest[:24]}"


def new_id(prefix: str) -> str:
    """A fresh id of a person or group."""
    return prefix + secrets.token_hex(10)


def _person(row: Mapping[str, Any]) -> Person:
    return Person(
        id=row["id"],
        issuer=row["issuer"] or "",
        subject=row["subject"] or "",
        user_name=row["user_name"],
        external_id=row["external_id"] or "",
        display_name=row["display_name"],
        team=row["team"],
        groups=frozenset(row["groups"]) | frozenset(row["claimed"]),
        is_active=row["active"],
        sessions_from=row["sessions_from"],
    )
