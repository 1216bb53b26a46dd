"""Endpoints as they run: one model at one server, with its dialect, key, clearance, limits and quirks.

Made from the manifest, from a known provider's entry or from a found local engine; read by routes, dialects and
attempts. It does no I/O but resolving the key's reference. The invariant: an endpoint is local only when its address
is of this house (or the manifest says so) and the engine does not pass requests on; only a local endpoint sees
personal data in clear.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from roadbed.gateway.credentials import AwsCredentials, aws_credentials, bedrock_region
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import Price, PriceTable, price_from_usd
from roadbed.gateway.profiles import PLAIN_PROFILE, PROFILES, Profile, azure_profile, profile_of_host
from roadbed.gateway.providers import KEYS_BY_HOST, PROVIDERS, host_of
from roadbed.guard.policy import sink_for_endpoint
from roadbed.kernel.config import parse_duration_s
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.label import Level, Sink, parse_label
from roadbed.kernel.secrets import Secret, resolve_secret

DialectName = Literal["openai", "anthropic", "responses", "azure", "gemini", "ollama", "bedrock", "cohere", "tei"]
LOCAL_SUFFIXES = (".local", ".internal", ".localhost", ".lan", ".home.arpa")
REMOTE_SUFFIXES = ("-cloud", ":cloud")
"""How the models end that a local Ollama passes on to its maker's cloud."""

OUTSIDE = "outside"
NO_SINK = Sink("endpoint", Level.PUBLIC, frozenset(), OUTSIDE)

DEFAULT_URLS: dict[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "responses": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "ollama": "http://127.0.0.1:11434",
    "bedrock": "https://bedrock-runtime.{region}.amazonaws.com",
    "cohere": "https://api.cohere.com",
}
FIRST_EVENT_S = 20.0
LOADING_S = 120.0
"""How long Ollama may take to the first token: its first call loads the model, which is no outage."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model at one server. ``url`` is the base address; ``price`` is None when nobody knows it.

    ``context_tokens`` is its window, None when not declared; ``continues`` says whether and how it goes on from a
    prefix of its answer, ``has_provider_tools`` whether callers may use tools that its provider runs. ``fault`` says
    why it cannot be used at all (its key is not set); empty when it can. ``key`` is its key; ``keys`` is filled where
    it has several, of which ``key`` is the first.
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
    context_tokens: int | None = None
    continues: bool | Literal["vllm"] = False
    has_provider_tools: bool = False
    ca_file: str = ""
    client_cert: str = ""
    fault: str = ""
    aws: AwsCredentials | None = None
    region: str = ""
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
    is_bedrock = config.type == "bedrock"
    region = bedrock_region(name, config.region, config.url) if is_bedrock else ""
    url = (config.url or DEFAULT_URLS.get(config.type, "").format(region=region)).rstrip("/")
    if not url:
        hint = "for example https://NAME.openai.azure.com" if config.type == "azure" else ""
        raise ConfigError(f"endpoints.{name}.url: an endpoint of type {config.type} needs it", hint=hint)
    if urlsplit(url).scheme not in ("http", "https") or not host_of(url):
        raise ConfigError(f"endpoints.{name}.url: {url!r} is not an http or https address")
    is_local = config.local
    if is_local is None:
        is_local = is_local_address(url) and not config.model.endswith(REMOTE_SUFFIXES)
    keys, fault = _keys(name, config.key_references, base)
    key = keys[0] if keys else None
    aws: AwsCredentials | None = None
    if is_bedrock and not config.key:
        aws, fault = aws_credentials(name, config, base)
    elif config.access_key or config.secret_key or config.session_token:
        raise ConfigError(f"endpoints.{name}: access_key is for type bedrock, in place of key")
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
        profile=_profile(name, config, url),
        price=price,
        first_event_s=_first_event_s(config),
        stall_s=parse_duration_s(config.stall),
        max_connections=config.max_connections,
        context_tokens=config.context,
        continues=config.continues,
        has_provider_tools=config.provider_tools,
        ca_file=_file(config.ca_file, base),
        client_cert=_file(config.client_cert, base),
        fault=fault,
        aws=aws,
        region=region,
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
        profile=profile_of_host(host_of(provider.url)),
        price=prices.find(provider.name, model),
        fault="" if value else f"no key: the environment variable {provider.key_name} is not set, or is no key",
    )


def _profile(name: str, config: EndpointConfig, url: str) -> Profile:
    """The quirks that the manifest names, or those of a known host."""
    for setting, value, dialects in (
        ("profile", config.profile, ("openai",)),
        ("api_version", config.api_version, ("azure",)),
        ("context_tokens", config.context_tokens, ("ollama",)),
    ):
        if value and config.type not in dialects:
            where = f"endpoints.{name}.{setting}"
            raise ConfigError(f"{where}: only an endpoint of type {' or '.join(dialects)} has it")
    match config.type:
        case "openai":
            return PROFILES[config.profile] if config.profile else profile_of_host(host_of(url))
        case "azure":
            return azure_profile(config.api_version)
        case _:
            return replace(PLAIN_PROFILE, context_tokens=config.context_tokens)


def _first_event_s(config: EndpointConfig) -> float:
    if config.first_event is not None:
        return parse_duration_s(config.first_event)
    return LOADING_S if config.type == "ollama" else FIRST_EVENT_S


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
