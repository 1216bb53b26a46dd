"""The manifest's ``caller_auth`` of a source: how whoever calls is known to the system behind it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.kernel.errors import ConfigError
from roadbed.sources.errors import EgressRefused
from roadbed.sources.outbound_url import parse_outbound
from roadbed.wire.address import Url

StoredWay = Literal["", "bearer", "basic", "header", "query"]


class TokenExchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and as what a caller's token is exchanged for one of the source (RFC 8693)."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s@?#]+$", description="token endpoint of the issuer")]
    client_id: Annotated[str, Meta(max_length=200, description="this deployment's client at the issuer")] = ""
    client_secret: Annotated[str, Meta(description="reference to its secret: env:NAME or file:PATH")] = ""
    client_auth: Annotated[
        Literal["basic", "post"], Meta(description="where the client's name and secret stand: a header or the form")
    ] = "basic"
    audience: Annotated[str, Meta(max_length=500, description="whom the token is for, as the issuer names it")] = ""
    resource: Annotated[
        str, Meta(pattern=r"^$|^https?://[^\s#]+$", description="address that the token is for (RFC 8707)")
    ] = ""
    scopes: Annotated[
        list[Annotated[str, Meta(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]],
        Meta(max_length=20, description="scopes that are asked for"),
    ] = []
    private: Annotated[bool, Meta(description="whether the issuer may have addresses of private networks")] = False


class CallerAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two: tokens are exchanged, or callers store a credential of their own."""

    exchange: Annotated[TokenExchange | None, Meta(description="exchange the caller's token for one of the source")] = (
        None
    )
    stored: Annotated[StoredWay, Meta(description="how a credential that a caller stored is sent")] = ""
    name: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="header or query parameter of a stored credential")
    ] = ""


def check_caller_auth(source: str, auth: CallerAuth, *, ways: tuple[str, ...] = ("bearer", "basic", "header")) -> None:
    """Refuse what cannot be. Raises `ConfigError`. ``ways`` are those in which the source can be sent a credential."""
    where = f"sources.{source}.caller_auth"
    if (auth.exchange is None) == (not auth.stored):
        raise ConfigError(f"{where} needs exactly one of exchange, stored")
    if auth.exchange is not None:
        if not (auth.exchange.audience or auth.exchange.resource):
            raise ConfigError(f"{where}.exchange needs audience or resource", hint="a token for anybody is not asked")
        exchange_url(source, auth.exchange)
        return
    if auth.stored not in ways:
        raise ConfigError(f"{where}.stored: {auth.stored} cannot be used here", hint=f"one of {', '.join(ways)}")
    if (auth.stored in ("header", "query")) != bool(auth.name):
        raise ConfigError(f"{where}: name goes with stored: header or query, and with nothing else")


def exchange_url(source: str, exchange: TokenExchange) -> Url:
    """The parsed address of a token endpoint. Raises `ConfigError`."""
    port = exchange.url.removeprefix("http://").removeprefix("https://").partition("/")[0].rpartition(":")
    number = int(port[2]) if port[1] and port[2].isdigit() else 443
    try:
        url = parse_outbound(exchange.url, ports=(number,))
    except EgressRefused as error:
        raise ConfigError(f"sources.{source}.caller_auth.exchange.url: {error.message}") from None
    if not url.origin.is_tls and not exchange.private:
        raise ConfigError(
            f"sources.{source}.caller_auth.exchange.url must begin with https://",
            hint="only an issuer in a network of your own (`private: true`) may be asked without TLS",
        )
    return url
