"""API keys: their form ``rbk_<id>_<secret>``, their digest, and the record of one. Pure; storage is `guard.identity`.

A key holds 256 random bits, so a plain SHA-256 of it is enough to store: there is nothing to guess offline. The
plaintext exists once, where `new_key` returns it. The invariant: no record, repr or message holds a plaintext.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from typing import Final

from roadbed.kernel.errors import ConfigError, Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized, Unavailable
from roadbed.kernel.principal import ADMIN, AUDITOR, MEMBER, Principal

KEY_PREFIX: Final = "rbk_"
KEY_BYTES_MAX: Final = 512
ADMIN_KEY_CHARACTERS_MIN: Final = 24
ADMIN_KEY_ID: Final = "admin"
NAME_CHARACTERS_MAX: Final = 200
OWN_KEY_NAME: Final = "command line of this state folder"
"""The admin key of a running server for commands on its machine: it ends with the server, so it is nobody's last."""

ROLES: Final = frozenset({ADMIN, MEMBER, AUDITOR})
CHAT_SCOPE: Final = "chat"
SEARCH_SCOPE: Final = "search"
INGEST_SCOPE: Final = "ingest"
ADMIN_SCOPE: Final = "admin"
AUDIT_SCOPE: Final = "audit"
SCIM_SCOPE: Final = "scim"
MCP_SCOPE: Final = "mcp"
SCOPES: Final = frozenset({CHAT_SCOPE, SEARCH_SCOPE, INGEST_SCOPE, ADMIN_SCOPE, AUDIT_SCOPE, SCIM_SCOPE, MCP_SCOPE})
_ID_CHARACTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH, _SECRET_LENGTH = 10, 43


class KeyMissing(Unauthorized):
    """The request carries no key."""

    code = "auth.key_missing"
    hint = (
        "send the header `Authorization: Bearer rbk_...`, with the word Bearer, or `x-api-key`; "
        "`roadbed keys create` makes a key"
    )


class KeyRefused(Unauthorized):
    """The key is unknown, expired or revoked; which of these is not told."""

    code = "auth.key_refused"
    hint = (
        "check that the key is whole, is one of this server and not the name of a variable; "
        "`roadbed keys list` shows which are live"
    )

    def __init__(self) -> None:
        super().__init__("this key is not valid")


class IdentityNotReady(Unavailable):
    """The keys have not been read from the database since the start, so nobody can be recognised yet."""

    code = "auth.not_ready"
    hint = "try again in a moment; /readyz says which part is not ready"


class KeyNotFound(NotFound):
    """There is no such key, or it was revoked already."""

    code = "auth.key_not_found"
    hint = "`roadbed keys list` shows the ids"


class LastAdminKey(Conflict):
    """The last live admin key cannot be revoked: nobody could make another."""

    code = "auth.last_admin_key"
    hint = "create another admin key first: roadbed keys create --role admin"


class KeyRequestInvalid(InvalidRequest):
    """A key was asked for with a role, team, name or expiry that cannot be."""

    code = "auth.key_request_invalid"


class KeyScopeMissing(Forbidden):
    """The key was made for other uses than this call."""

    code = "auth.scope_missing"
    hint = "use a key with the scope that the message names; `roadbed keys create --scope chat` makes one"


class AdminKeyWeak(ConfigError):
    """ROADBED_ADMIN_KEY is too short or has characters that a header cannot carry."""

    code = "auth.admin_key_weak"
    hint = f"use at least {ADMIN_KEY_CHARACTERS_MIN} printable ASCII characters, e.g. from `openssl rand -hex 24`"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as lists show it: everything but its secret.

    ``apps`` and ``models`` name what it may call: their union; all apps and routes when both are None. ``networks`` are
    IP ranges, none for all. Until ``previous_until`` the value before the last rotation is good too.
    """

    id: str
    name: str
    team: str
    roles: frozenset[str]
    apps: frozenset[str] | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None
    models: frozenset[str] | None = None
    networks: tuple[str, ...] = ()
    previous_until: datetime | None = None
    rotated: datetime | None = None
    budget: str = ""
    scopes: frozenset[str] | None = None
    person: str = ""

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything at ``now``."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    @property
    def callable_names(self) -> frozenset[str] | None:
        """The apps and routes that it may call; None for all."""
        if self.apps is None and self.models is None:
            return None
        return (self.apps or frozenset()) | (self.models or frozenset())

    def principal(self) -> Principal:
        """The caller that presents this key."""
        return Principal(
            id=self.id,
            team=self.team,
            roles=self.roles,
            apps=self.callable_names,
            name=self.name,
            networks=tuple(ip_network(network) for network in self.networks),
            budget=self.budget,
            scopes=self.scopes,
        )


def require_scope(principal: Principal, scope: str, *, is_own: bool = False) -> None:
    """Refuse a caller whose key was made for other uses; with ``is_own`` also one whose key was made for all of them.
    Raises `KeyScopeMissing`.
    """
    scopes = principal.scopes
    if (scopes is None and is_own) or (scopes is not None and scope not in scopes):
        raise KeyScopeMissing(f"this call needs a key with the scope {scope}")


def new_key() -> tuple[str, str]:
    """A fresh ``(id, plaintext)``."""
    key_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    return key_id, new_value(key_id)


def new_value(key_id: str) -> str:
    """A fresh plaintext for the key of this id."""
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    return f"{KEY_PREFIX}{key_id}_{secret}"


def digest_of(presented: bytes) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(presented).digest()


def check_admin_key(value: str) -> str:
    """``value`` stripped, when it can be an admin key; `AdminKeyWeak`."""
    value = value.strip()
    if len(value) < ADMIN_KEY_CHARACTERS_MIN or not value.isascii() or not value.isprintable():
        raise AdminKeyWeak("ROADBED_ADMIN_KEY cannot be used as a key")
    if len(value) > KEY_BYTES_MAX:
        raise AdminKeyWeak(f"ROADBED_ADMIN_KEY is longer than {KEY_BYTES_MAX} characters")
    return value


def check_key_request(
    team: str, roles: frozenset[str], name: str, names: Iterable[str] = (), scopes: frozenset[str] | None = None
) -> None:
    """`KeyRequestInvalid` for a key that cannot be."""
    if scopes is not None and not (scopes and scopes <= SCOPES):
        hint = f"scopes are {', '.join(sorted(SCOPES))}"
        raise KeyRequestInvalid(f"scopes: {', '.join(sorted(scopes - SCOPES)) or 'none'}", hint=hint, param="scopes")
    if not roles or not roles <= ROLES:
        wrong = ", ".join(sorted(roles - ROLES)) or "none"
        raise KeyRequestInvalid(f"roles: {wrong}", hint=f"roles are {', '.join(sorted(ROLES))}", param="roles")
    if not team or len(team) > NAME_CHARACTERS_MAX or not team.isprintable():
        raise KeyRequestInvalid("a key belongs to a team, whose name is printable", param="team")
    if len(name) > NAME_CHARACTERS_MAX or not (name.isprintable() or not name):
        raise KeyRequestInvalid(f"name: at most {NAME_CHARACTERS_MAX} printable characters", param="name")
    if any(not 0 < len(called) <= NAME_CHARACTERS_MAX or not called.isprintable() for called in names):
        raise KeyRequestInvalid("apps and models are names", hint="`roadbed models list` shows them", param="apps")
