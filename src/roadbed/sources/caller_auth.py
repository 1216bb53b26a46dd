"""`CallerAuths`: what a source is shown of whoever calls: a token exchanged for it, or a credential that they stored.

Asked by `http` and by the connections to MCP servers for each call. Whose token it is and what was stored is the
`CallerVault`'s to say, which the server hands in. The invariant: what is shown belongs to the caller of this very call,
and is never the token or key that the caller came with.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import msgspec

from roadbed.guard.credentials import Subject
from roadbed.kernel.deadline import Deadline
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.principal import Principal
from roadbed.kernel.secrets import Secret
from roadbed.sources.caller_errors import CallerCredentialMissing, CallerCredentialRefused, CallerNotExchangeable
from roadbed.sources.caller_manifest import CallerAuth, TokenExchange
from roadbed.sources.token_exchange import Exchanger
from roadbed.store.errors import StoreUnavailable
from roadbed.wire.resolver import Lookup, system_lookup
from roadbed.wire.tls import DEFAULT_TRUST, TrustDomain

Headers = tuple[tuple[bytes, bytes], ...]


class CallerVault(Protocol):
    """What callers left here for sources, and the tokens that they came with."""

    async def credential(self, principal: Principal, source: str) -> Secret | None:
        """The credential that a caller stored for a source."""
        ...

    async def subject(self, principal: Principal) -> Subject | None:
        """The token of a caller that may be exchanged."""
        ...

    async def hold(self, principal: Principal, source: str, exchange: str, token: Secret) -> None:
        """Keep a source's token for the run of a call that a person has yet to approve, for every process to find."""
        ...

    async def held(self, principal: Principal, source: str, exchange: str) -> Secret | None:
        """The token that was kept so, of an exchange that was declared like this."""
        ...

    async def let_go(self, source: str) -> None:
        """Keep none of a source's tokens any longer."""
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

    async def use(self, declared: Mapping[str, CallerAuth | None]) -> None:
        """Go by these from now on; tokens of an exchange that is declared otherwise or no more are forgotten."""
        for source, (config, exchanger) in list(self._exchangers.items()):
            auth = declared.get(source)
            if auth is None or auth.exchange != config:
                del self._exchangers[source]
                await exchanger.close()
                with contextlib.suppress(StoreUnavailable):  # it opens for the old declaration alone, and ends soon
                    await self._vault.let_go(source)

    async def shown(self, source: str, auth: CallerAuth, principal: Principal, deadline: Deadline) -> Shown:
        """What a request of this caller shows. `CallerNotTaken`, `ExchangeAway`, `StoreUnavailable`, `ConfigError`."""
        if auth.exchange is None:
            return await self._stored(source, auth, principal)
        subject = await self._vault.subject(principal)
        if subject is None:
            held = await self._vault.held(principal, source, _declared(auth.exchange))
            if held is None:
                raise CallerNotExchangeable(f"{source} is asked with the caller's own identity, and no token shows it")
            return shown_as("bearer", "", held.reveal())
        token = await self._exchanger(source, auth.exchange).token(subject, deadline)
        return replace(shown_as("bearer", "", token.reveal()), subject=subject)

    async def hold(self, source: str, auth: CallerAuth, principal: Principal, deadline: Deadline) -> None:
        """As `shown`, kept for the run of a call that a person has yet to approve, when its caller is not there."""
        shown = await self.shown(source, auth, principal, deadline)
        if auth.exchange is not None and shown.subject is not None:
            await self._vault.hold(principal, source, _declared(auth.exchange), Secret(shown.secret))

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


def _declared(exchange: TokenExchange) -> str:
    """What tells one declaration of an exchange from another."""
    return hashlib.sha256(msgspec.json.encode(exchange)).hexdigest()


def _command(source: str) -> str:
    return f"roadbed source credential set {source}"
