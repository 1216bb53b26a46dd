"""`CallerAuths`: what a source is shown of whoever calls: a token exchanged for it, or a credential that they stored.

Asked by `http` and by the connections to MCP servers for each call. Whose token it is and what was stored is the
`CallerVault`'s to say, which the server hands in. The invariant: what is shown belongs to the caller of this very call,
and is never the token or key that the caller came with.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from roadbed.guard.credentials import Subject
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.sources.caller_errors import CallerCredentialMissing, CallerCredentialRefused, CallerNotExchangeable
from roadbed.sources.caller_manifest import CallerAuth, TokenExchange
from roadbed.sources.token_exchange import Exchanger
from roadbed.wire.resolver import Lookup, system_lookup
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

HELD_MAX: Final = 1_000
HELD_S: Final = 900.0
"""An approval is good for ten minutes; what it needs is held a little longer."""

Headers = tuple[tuple[bytes, bytes], ...]


class CallerVault(Protocol):
    """What callers left here for sources, and the tokens that they came with."""

    async def credential(self, principal: Principal, source: str) -> Secret | None:
        """The credential that a caller stored for a source."""
        ...

    async def subject(self, principal: Principal) -> Subject | None:
        """The token of a caller that may be exchanged."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """What one request shows: headers and a piece of its query; ``secret`` is what no answer may repeat."""

    headers: Headers = field(default=(), repr=False)
    query: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    subject: Subject | None = None


def shown_as(way: str, name: str, value: str) -> Shown:
    """A credential in one of the ways of the manifest: bearer, basic, or the header or query parameter ``name``."""
    match way:
        case "bearer":
            return Shown(((b"authorization", f"Bearer {value}".encode()),), "", value)
        case "basic":
            return Shown(((b"authorization", b"Basic " + base64.b64encode(value.encode())),), "", value)
        case "header":
            return Shown(((name.lower().encode(), value.encode()),), "", value)
        case _:
            return Shown((), f"{quote(name, safe='')}={quote(value, safe='')}", value)


class CallerAuths:
    """The ways of all sources. Made inside a running loop."""

    def __init__(
        self, folder: Path, vault: CallerVault, *, lookup: Lookup = system_lookup, trust: TrustDomain = DEFAULT_TRUST
    ) -> None:
        self._folder = folder
        self._vault = vault
        self._lookup = lookup
        self._trust = trust
        self._exchangers: dict[str, tuple[TokenExchange, Exchanger]] = {}
        self._held: OrderedDict[tuple[str, str], tuple[float, Shown]] = OrderedDict()

    async def use(self, declared: Mapping[str, CallerAuth | None]) -> None:
        """Go by these from now on; tokens of an exchange that is declared otherwise or no more are forgotten."""
        for source, (config, exchanger) in list(self._exchangers.items()):
            auth = declared.get(source)
            if auth is None or auth.exchange != config:
                del self._exchangers[source]
                for held in [key for key in self._held if key[1] == source]:
                    del self._held[held]
                await exchanger.close()

    async def shown(self, source: str, auth: CallerAuth, principal: Principal, deadline: Deadline) -> Shown:
        """What a request of this caller shows. `CallerNotTaken`, `ExchangeAway`, `StoreUnavailable`, `ConfigError`."""
        if auth.exchange is None:
            return await self._stored(source, auth, principal)
        subject = await self._vault.subject(principal)
        if subject is None:
            held = self._held.get((principal.id, source))
            if held is None or asyncio.get_running_loop().time() >= held[0]:
                raise CallerNotExchangeable(f"{source} is asked with the caller's own identity, and no token shows it")
            return held[1]
        token = await self._exchanger(source, auth.exchange).token(subject, deadline)
        return replace(shown_as("bearer", "", token.reveal()), subject=subject)

    async def hold(self, source: str, auth: CallerAuth, principal: Principal, deadline: Deadline) -> None:
        """As `shown`, kept for the run of a call that a person has yet to approve, when its caller is not there."""
        shown = await self.shown(source, auth, principal, deadline)
        if shown.subject is None:
            return
        while len(self._held) >= HELD_MAX:
            self._held.popitem(last=False)
        self._held.pop((principal.id, source), None)
        self._held[principal.id, source] = (asyncio.get_running_loop().time() + HELD_S, shown)

    def refused(self, source: str, auth: CallerAuth, shown: Shown) -> CallerCredentialRefused:
        """The error for a credential that the source did not take; an exchanged token is not used again."""
        if auth.exchange is None:
            return CallerCredentialRefused(
                f"{source} refuses the credential that you stored", hint=f"store a new one: {_command(source)}"
            )
        if shown.subject is not None and source in self._exchangers:
            self._exchangers[source][1].forget(shown.subject, Secret(shown.secret))
        return CallerCredentialRefused(
            f"{source} refuses the token that its issuer gave for you", hint="ask again; if it stays so, sign in anew"
        )

    async def close(self) -> None:
        """Forget everything and close every connection."""
        self._held.clear()
        exchangers = [exchanger for _, exchanger in self._exchangers.values()]
        self._exchangers.clear()
        await asyncio.gather(*(exchanger.close() for exchanger in exchangers))

    async def _stored(self, source: str, auth: CallerAuth, principal: Principal) -> Shown:
        secret = await self._vault.credential(principal, source)
        if secret is None:
            raise CallerCredentialMissing(
                f"{source} is asked with each caller's own credential, and you stored none",
                hint=f"store yours on the console's page Tools, or with {_command(source)}",
            )
        value = secret.reveal()
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"the credential that is stored for {source} holds characters that no request can carry")
        return shown_as(auth.stored, auth.name, value)

    def _exchanger(self, source: str, config: TokenExchange) -> Exchanger:
        known = self._exchangers.get(source)
        if known is None or known[0] != config:
            made = Exchanger(source, config, self._folder, lookup=self._lookup, trust=self._trust)
            known = self._exchangers[source] = (config, made)
        return known[1]


def _command(source: str) -> str:
    return f"roadbed source credential set {source}"
