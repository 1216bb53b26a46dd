"""`Principal`: who calls. Made by `guard.identity` from a key, a session or a token, and carried through every call."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from roadbed.kernel.label import Level
from roadbed.kernel.secrets import Secret

ADMIN = "admin"
MEMBER = "member"
AUDITOR = "auditor"
EVERYONE = "everyone"

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: ``id`` is the key's or person's id, ``team`` the team whose budget and documents apply.

    ``scopes`` are the uses that its key was made for; None means all that the roles allow.
    ``networks`` are the addresses that its key may be used from; none means all of them. ``budget`` is a spending cap
    of the key alone. ``groups`` are the names that document permissions are written in: ``everyone``, ``team:NAME``,
    ``key:ID``, and ``group:NAME`` for each group of the directory that a person is a ``member_of``. ``shown`` is the
    access token that the caller came with: it is exchanged for others (RFC 8693) and goes to no source itself.
    ``break_glass`` names the use of break-glass that raised the roles, if one did.
    """

    id: str
    team: str
    roles: frozenset[str] = frozenset({MEMBER})
    apps: frozenset[str] | None = None
    region: str = "local"
    clearance: Level = Level.RESTRICTED
    name: str = ""
    networks: tuple[Network, ...] = ()
    budget: str = ""
    member_of: frozenset[str] = frozenset()
    scopes: frozenset[str] | None = None
    break_glass: str = ""
    shown: Secret | None = field(default=None, repr=False, compare=False)

    @property
    def is_admin(self) -> bool:
        """Whether the caller may change the deployment (keys, releases, ingest)."""
        return ADMIN in self.roles

    @property
    def groups(self) -> frozenset[str]:
        """The names under which documents may be visible to this caller."""
        own = {EVERYONE, f"team:{self.team}", f"key:{self.id}"}
        return frozenset(own.union(f"group:{name}" for name in self.member_of) if self.member_of else own)

    def may_use(self, app: str) -> bool:
        """Whether the key is allowed to call this app or route."""
        return self.apps is None or app in self.apps


SYSTEM = Principal(id="system", team="system", roles=frozenset({ADMIN}), name="roadbed itself")
