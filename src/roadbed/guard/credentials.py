"""`Credentials`: what callers leave here for sources that want to know who asks, and the tokens that show who they are.

A credential is stored by its owner, or for them by an admin, and read again for a call to its source alone. The owner
is a person, whichever way they come in, or a key or token that belongs to none. What a call that waits for a person
needs is held beside them. Kept sealed (`sealing.py`). The
invariant: no value leaves but for a call of its own owner, and none is one that opens this deployment.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from roadbed.guard.erased import WordFinder
from roadbed.guard.identity import Identity
from roadbed.guard.keys import KEY_PREFIX
from roadbed.guard.people import PERSON_PREFIX
from roadbed.guard.sealing import SealBroken, Sealer
from roadbed.kernel.errors import Conflict, InvalidRequest, RoadbedError, Unavailable
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.store.database import Database

log = logging.getLogger("roadbed.guard")

FOLDER: Final = "credentials"
CREDENTIAL_CHARACTERS_MAX: Final = 4_096
CREDENTIALS_OF_ONE_MAX: Final = 100
CREDENTIALS_MAX: Final = 100_000
TOKEN_CHARACTERS_MAX: Final = 16 * 1024
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the kind's name
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - the kind's name
HELD_MAX: Final = 1_000
HELD_S: Final = 900.0
"""An approval is good for ten minutes; what its run needs is held a little longer."""
_HELD: Final = "held:"
"""Before the source of a row that is held; no source's name has a colon."""
_SIGN_IN: Final = "sign-in"
_STORED: Final = "stored"
_PRINTABLE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class CredentialInvalid(InvalidRequest):
    """The value can be no credential of a source: empty, too long, not printable, or one that opens this deployment."""

    code = "credentials.invalid"
    hint = "give the key or token that the source's own system gave you, on one line"


class CredentialsFull(Conflict):
    """The bound of stored credentials is reached."""

    code = "credentials.full"
    hint = "remove those that are not used: roadbed source credential list, remove NAME"


class CredentialUnreadable(Unavailable):
    """A stored credential does not open: the key of the state folder is not the one that it was sealed with."""

    code = "credentials.unreadable"
    retryable = False
    hint = "store it again, or bring back credentials/vault.key of the state folder from a backup"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose token may be exchanged: the caller's id, the token, and its kind (an URI of RFC 8693, section 3)."""

    owner: str
    token: Secret
    kind: str = ACCESS_TOKEN


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A credential as lists show it: everything but its value."""

    source: str
    created: datetime
    is_by_owner: bool


class Credentials:
    """One per process, over the database that all share."""

    def __init__(self, database: Database, sealer: Sealer, identity: Identity) -> None:
        self._database = database
        self._sealer = sealer
        self._identity = identity

    @classmethod
    def open(cls, state: Path, database: Database, identity: Identity) -> Self:
        """With the key of the state folder. `ConfigError`, `StateUnusable`."""
        return cls(database, Sealer.open(state / FOLDER), identity)

    # -- for calls ----------------------------------------------------------------------------------------------------

    async def credential(self, principal: Principal, source: str) -> Secret | None:
        """What a caller stored for a source. `StoreUnavailable`, `CredentialUnreadable`."""
        owners = self._identity.owners_of(principal)
        rows = await self._database.fetch(
            "SELECT owner, sealed FROM caller_credential WHERE source = $1 AND owner = ANY($2)", source, list(owners)
        )
        if not rows:
            return None
        row = min(rows, key=lambda row: owners.index(row["owner"]))
        try:
            return Secret(self._sealer.opened(bytes(row["sealed"]), _STORED, row["owner"], source))
        except SealBroken:
            raise CredentialUnreadable(f"the credential that is stored for {source} cannot be opened") from None

    async def subject(self, principal: Principal) -> Subject | None:
        """The token that shows who calls: the one that came with this call, or that of a person's sign-in, until it
        ends. `StoreUnavailable`.
        """
        if principal.shown is not None:
            return Subject(principal.id, principal.shown)
        if not principal.id.startswith(PERSON_PREFIX):
            return None
        sealed = await self._database.fetchval(
            "SELECT sealed FROM sign_in_identity WHERE person = $1 AND expires > now()", principal.id
        )
        if sealed is None:
            return None
        try:
            return Subject(principal.id, Secret(self._sealer.opened(bytes(sealed), _SIGN_IN, principal.id)), ID_TOKEN)
        except SealBroken:
            return None

    # -- for calls that a person has yet to approve -------------------------------------------------------------------

    async def hold(self, principal: Principal, source: str, exchange: str, token: Secret) -> None:
        """Keep a source's token until the call that needs it is decided, whichever process runs it then, in place of
        the caller's one before. ``exchange`` tells how it was got. `StoreUnavailable`.
        """
        place = _HELD + source
        sealed = self._sealer.seal(f"{exchange}\n{token.reveal()}", _HELD, principal.id, source)
        async with self._database.transaction() as connection:
            await connection.execute(
                "DELETE FROM caller_credential WHERE starts_with(source, $1)"
                " AND (created <= now() - make_interval(secs => $2) OR (owner, source) IN"
                " (SELECT owner, source FROM caller_credential WHERE starts_with(source, $1)"
                " ORDER BY created DESC OFFSET $3))",
                *(_HELD, HELD_S, HELD_MAX - 1),
            )
            await connection.execute(
                "INSERT INTO caller_credential (owner, source, sealed, name, actor) VALUES ($1, $2, $3, $4, $1)"
                " ON CONFLICT (owner, source) DO UPDATE SET sealed = $3, name = $4, created = now()",
                *(principal.id, place, sealed, self._names(principal)),
            )

    async def held(self, principal: Principal, source: str, exchange: str) -> Secret | None:
        """The token that is held for a caller and was got by this exchange. `StoreUnavailable`."""
        sealed = await self._database.fetchval(
            "SELECT sealed FROM caller_credential WHERE owner = $1 AND source = $2"
            " AND created > now() - make_interval(secs => $3)",
            *(principal.id, _HELD + source, HELD_S),
        )
        got_by, _, token = self._read(bytes(sealed or b""), _HELD, principal.id, source).partition("\n")
        return Secret(token) if token and got_by == exchange else None

    async def let_go(self, source: str) -> None:
        """Hold nothing for a source any longer. `StoreUnavailable`."""
        await self._database.execute("DELETE FROM caller_credential WHERE source = $1", _HELD + source)

    @staticmethod
    async def forget_ended(database: Database) -> None:
        """Delete what is held for longer than it can be used. `StoreUnavailable`."""
        await database.execute("DELETE FROM sign_in_identity WHERE expires <= now()")
        await database.execute(
            "DELETE FROM caller_credential WHERE starts_with(source, $1)"
            " AND created <= now() - make_interval(secs => $2)",
            *(_HELD, HELD_S),
        )

    # -- by their owners ----------------------------------------------------------------------------------------------

    async def store(self, owner: Principal, source: str, value: str, *, actor: Principal) -> None:
        """Keep a credential, in place of the one before. `CredentialInvalid`, `CredentialsFull`, `StoreUnavailable`."""
        value = value.strip()
        if len(value) > CREDENTIAL_CHARACTERS_MAX or not _PRINTABLE.fullmatch(value):
            raise CredentialInvalid(
                f"a credential has 1 to {CREDENTIAL_CHARACTERS_MAX} printable ASCII characters", param="credential"
            )
        if self._opens_this(value):
            raise CredentialInvalid("this is a key or token of this deployment, which goes to no source")
        owners = self._identity.owners_of(owner)
        sealed = self._sealer.seal(value, _STORED, owners[0], source)
        async with self._database.transaction() as connection:
            counts = await connection.fetchrow(
                "SELECT count(*) AS all, count(*) FILTER (WHERE owner = $1) AS own FROM caller_credential"
                " WHERE NOT (owner = ANY($3) AND source = $2) AND NOT starts_with(source, $4)",
                *(owners[0], source, list(owners), _HELD),
            )
            if counts["all"] >= CREDENTIALS_MAX or counts["own"] >= CREDENTIALS_OF_ONE_MAX:
                raise CredentialsFull("no more credentials are stored")
            await connection.execute(
                "DELETE FROM caller_credential WHERE source = $1 AND owner = ANY($2)", source, list(owners)
            )
            await connection.execute(
                "INSERT INTO caller_credential (owner, source, sealed, name, actor) VALUES ($1, $2, $3, $4, $5)",
                *(owners[0], source, sealed, self._names(owner), actor.id),
            )

    async def remove(self, owner: Principal, source: str) -> bool:
        """Forget a credential; whether there was one. `StoreUnavailable`."""
        gone = await self._database.fetch(
            "DELETE FROM caller_credential WHERE source = $1 AND owner = ANY($2) RETURNING owner",
            *(source, list(self._identity.owners_of(owner))),
        )
        return bool(gone)

    async def listed(self, owner: Principal) -> Sequence[StoredCredential]:
        """What a caller stored, by source. `StoreUnavailable`."""
        rows = await self._database.fetch(
            "SELECT source, created, actor FROM caller_credential"
            " WHERE owner = ANY($1) AND NOT starts_with(source, $3) ORDER BY source LIMIT $2",
            *(list(self._identity.owners_of(owner)), CREDENTIALS_OF_ONE_MAX, _HELD),
        )
        return [StoredCredential(row["source"], row["created"], row["actor"] == owner.id) for row in rows]

    def _names(self, owner: Principal) -> str:
        """What an erasure finds a row by. An issuer's token may name its caller with characters that no table takes."""
        return "\n".join(self._identity.names_of(owner)).encode("utf-8", "replace").decode().replace("\0", "")

    def _opens_this(self, value: str) -> bool:
        if value.startswith(KEY_PREFIX):
            return True
        try:
            self._identity.authenticate(value)
        except RoadbedError:
            return False
        return True

    # -- of people who sign in ----------------------------------------------------------------------------------------

    async def keep_sign_in(self, person: str, token: str, expires: float) -> None:
        """Keep the ID token of a person's sign-in until it ends. `StoreUnavailable`."""
        if len(token) > TOKEN_CHARACTERS_MAX:
            return
        await self._database.execute("DELETE FROM sign_in_identity WHERE expires <= now()")
        await self._database.execute(
            "INSERT INTO sign_in_identity (person, sealed, expires) VALUES ($1, $2, $3)"
            " ON CONFLICT (person) DO UPDATE SET sealed = $2, expires = $3",
            *(person, self._sealer.seal(token, _SIGN_IN, person), datetime.fromtimestamp(expires, UTC)),
        )

    async def forget_sign_in(self, issuer: str, subject: str) -> None:
        """Keep nothing of a person's sign-in: the issuer has ended it. `StoreUnavailable`."""
        await self._database.execute(
            "DELETE FROM sign_in_identity USING person WHERE person.id = person AND issuer = $1 AND subject = $2",
            *(issuer, subject),
        )

    # -- erasing ------------------------------------------------------------------------------------------------------

    async def erase(self, finder: WordFinder, *, is_dry_run: bool) -> dict[str, int]:
        """Delete what is kept of the person that a value names, and whatever holds the value; how many rows."""
        stored = [
            (row["owner"], row["source"])
            for row in await self._database.fetch("SELECT owner, source, sealed, name FROM caller_credential")
            if finder.spans(row["name"]) or finder.spans(self._text(row["owner"], row["source"], bytes(row["sealed"])))
        ]
        kept = [
            row["person"]
            for row in await self._database.fetch(
                "SELECT person, sealed, concat_ws(chr(10), user_name, display_name, external_id, subject) AS names"
                " FROM sign_in_identity JOIN person ON person.id = person"
            )
            if finder.spans(row["names"])
            or finder.spans(_claims(self._read(bytes(row["sealed"]), _SIGN_IN, row["person"])))
        ]
        if not is_dry_run:
            for owner, source in stored:
                await self._database.execute(
                    "DELETE FROM caller_credential WHERE owner = $1 AND source = $2", owner, source
                )
            await self._database.execute("DELETE FROM sign_in_identity WHERE person = ANY($1)", kept)
        return {
            name: count
            for name, count in (("caller_credential", len(stored)), ("sign_in_identity", len(kept)))
            if count
        }

    def _text(self, owner: str, source: str, sealed: bytes) -> str:
        """What a row says, for whoever looks for a value in it: of a token that is held also its claims."""
        if not source.startswith(_HELD):
            return self._read(sealed, _STORED, owner, source)
        token = self._read(sealed, _HELD, owner, source.removeprefix(_HELD)).partition("\n")[2]
        return f"{token}\n{_claims(token)}"

    def _read(self, sealed: bytes, *bound: str) -> str:
        try:
            return self._sealer.opened(sealed, *bound)
        except SealBroken:
            return ""


def _claims(token: str) -> str:
    """The claims of a signed token as text, for whoever looks for a value in them."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
