"""Endpoints as they run: one model at one server, with its dialect, key, clearance, limits and quirks.

Made from the manifest, from a known provider's entry or from a found local engine; read by routes, dialects and
attempts. It does no I/O but resolving the key's reference. The invariant: an endpoint is local only when its address
is of this house (or the manifest says so) and the engine does not pass requests on; only a local endpoint sees
personal data in clear.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import Price, PriceTable, price_from_usd
from roadbed.gateway.providers import KEYS_BY_HOST, PROVIDERS, Provider, host_of
from roadbed.guard.policy import sink_for_endpoint
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import Level, Sink, parse_label
from roadbed.kernel.secrets import Secret, resolve_secret

DialectName = Literal["openai", "anthropic"]
LOCAL_SUFFIXES = (".local", ".internal", ".localhost", ".lan", ".home.arpa")
OUTSIDE = "outside"
NO_SINK = Sink("endpoint", Level.PUBLIC, frozenset(), OUTSIDE)

DEFAULT_URLS: dict[str, str] = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True)
class Profile:
    """Quirks of a server that speaks a dialect almost as documented."""

    limit_field: str = "max_tokens"
    has_developer_role: bool = False
    has_stream_usage: bool = True
    output_tokens_default: int = 4096


PLAIN_PROFILE = Profile()
OPENAI_PROFILE = Profile(limit_field="max_completion_tokens", has_developer_role=True)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one server. ``url`` is the base address; ``price`` is None when nobody knows it.

    ``key`` is its key; ``keys`` is filled where it has several, of which ``key`` is the first.
    ``fault`` says why it cannot be used at all (its key is not set); empty when it can.
    """

    name: str
    url: str
    model: str
    dialect: DialectName = "openai"
    key: Secret | None = None
    is_local: bool = False
    sink: Sink = NO_SINK
    profile: Profile = PLAIN_PROFILE
    price: Price | None = None
    first_event_s: float = 20.0
    stall_s: float = 15.0
    max_connections: int = 64
    ca_file: str = ""
    client_cert: str = ""
    fault: str = ""
    keys: tuple[Secret, ...] = ()

    @property
    def address(self) -> str:
        """Scheme, host and port, for messages: never the path, never the key."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def is_local_address(url: str) -> bool:
    """Whether a URL's host is this machine or this house by its form: loopback, private or link-local, or a local name.

    A name with a public suffix is never local, wherever it resolves to: names can move.
    """
    host = host_of(url)
    if host == "localhost" or host.endswith(LOCAL_SUFFIXES):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host and bool(host)
    return address.is_loopback or address.is_private or address.is_link_local


def sink_of(name: str, is_local: bool, labels: list[str]) -> Sink:
    """What an endpoint may be sent: the guard's rule, in the region that ``labels`` name."""
    regions = parse_label(labels, where=f"endpoints.{name}.labels").regions
    region = min(regions) if regions else ("local" if is_local else OUTSIDE)
    return sink_for_endpoint(name, is_local=is_local, labels=labels, region=region)


def endpoint_from_config(
    name: str,
    config: EndpointConfig,
    *,
    prices: PriceTable,
    base: Path | None = None,
) -> Endpoint:
    """The endpoint that the manifest describes.

    A key that cannot be read becomes its ``fault``, so that the others still serve.
    """
    url = (config.url or DEFAULT_URLS[config.type]).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
        raise ConfigError(f"endpoints.{name}.url: {url!r} is not an http or https address")
    is_local = is_local_address(url) if config.local is None else config.local
    keys, fault = _keys(name, config.key_references, base)
    key = keys[0] if keys else None
    provider = KEYS_BY_HOST.get(host_of(url))
    if key is None and not fault and provider is not None:
        fault = f"no key: set endpoints.{name}.key, for example env:{provider.key_name}"
    price = prices.find(provider.name, config.model) if provider else None
    if config.price_input is not None or config.price_output is not None:
        price = price_from_usd(f"endpoints.{name}", config.price_input or 0.0, config.price_output or 0.0)
    elif is_local and price is None:
        price = price_from_usd("local", 0.0, 0.0)
    return Endpoint(
        name=name,
        url=url,
        model=config.model,
        dialect=config.type,
        key=key,
        is_local=is_local,
        sink=sink_of(name, is_local, config.labels),
        profile=OPENAI_PROFILE if provider is not None and provider.name == "openai" else PLAIN_PROFILE,
        price=price,
        first_event_s=parse_duration_s(config.first_event),
        stall_s=parse_duration_s(config.stall),
        max_connections=config.max_connections,
        ca_file=_file(config.ca_file, base),
        client_cert=_file(config.client_cert, base),
        fault=fault,
        keys=keys if len(keys) > 1 else (),
    )


def endpoint_from_provider(entry: str, *, prices: PriceTable) -> Endpoint:
    """The endpoint of a ladder entry ``provider/model``; its key comes from the provider's usual environment
    variable.
    """
    provider_name, _, model = entry.partition("/")
    provider = PROVIDERS.get(provider_name)
    if provider is None or not model:
        hint = f"write the name of an endpoint, or provider/model with one of: {', '.join(sorted(PROVIDERS))}"
        raise ConfigError(f"{entry!r} is neither an endpoint nor provider/model", hint=hint)
    value = os.environ.get(provider.key_name, "")
    value = value if is_sendable(value) else ""
    return Endpoint(
        name=entry,
        url=provider.url,
        model=model,
        dialect=provider.dialect,
        key=Secret(value) if value else None,
        sink=sink_of(entry, False, []),
        profile=profile_of(provider),
        price=prices.find(provider.name, model),
        fault="" if value else f"no key: the environment variable {provider.key_name} is not set, or is no key",
    )


def profile_of(provider: Provider) -> Profile:
    """The quirks of a known provider."""
    return OPENAI_PROFILE if provider.name == "openai" else PLAIN_PROFILE


def _keys(name: str, references: list[str], base: Path | None) -> tuple[tuple[Secret, ...], str]:
    """The keys that can be read. Where some can, the others are left out, and are no fault of the endpoint."""
    found: list[Secret] = []
    faults: list[str] = []
    for reference in references:
        key, fault = _key(name, reference, base)
        if key is not None and not any(key.equals(other.reveal()) for other in found):
            found.append(key)
        if fault:
            faults.append(fault)
    return tuple(found), "" if found else "; ".join(faults)


def _key(name: str, reference: str, base: Path | None) -> tuple[Secret | None, str]:
    if not reference:
        return None, ""
    try:
        key = resolve_secret(reference, base=base, where=f"endpoints.{name}.key")
    except ConfigError as error:
        return None, error.message
    if not is_sendable(key.reveal()):
        return None, f"endpoints.{name}.key: it holds characters that no key has"
    return key, ""


def is_sendable(key: str) -> bool:
    """Whether a key can stand in a header: printable ASCII without blanks."""
    return bool(key) and key.isascii() and key.isprintable() and " " not in key


def _file(path: str, base: Path | None) -> str:
    if not path:
        return ""
    resolved = Path(path).expanduser()
    return str(base / resolved if base is not None and not resolved.is_absolute() else resolved)
