"""From a LiteLLM deployment's provider, model and credentials to an endpoint: type, address, model and keys.

Pure, for `litellm.py` alone. The invariants: what has no counterpart stands in the report with its reason; a key that
is written in clear becomes the name of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roadbed.gateway.providers import PROVIDERS
from roadbed.releases.litellm_notes import CHAT_HOSTS, EMPTY_KEYS, OPENAI_HOSTS, SERVERS, UNSUPPORTED, Left

REGION = r"[a-z]{2}(?:-[a-z]+)+-\d"
_ENVIRONMENT = "os.environ/"
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/\S*)?$")
_IN_REGION = re.compile(rf"({REGION})/(.+)")
_DEPLOYMENT_PATH = re.compile(r"/openai/deployments/.*$|/openai/?$")
_BEDROCK_APIS = ("converse/", "converse_like/", "invoke/")
_AZURE_SERIES = ("o_series/", "gpt5_series/")
_UNDATED = frozenset({"", "v1", "latest", "preview"})
_API_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_TYPES: Mapping[str, frozenset[str]] = {
    "embeddings": frozenset({"openai", "gemini", "cohere"}),
    "rerank": frozenset({"openai", "cohere"}),
}
"""Which types of endpoints can be asked for what is no chat."""

Server = dict[str, Any]


@dataclass(slots=True)
class Given:
    """One deployment's ``litellm_params``; what is read is taken out of them.

    ``variables`` are those that the file itself sets, ``number`` tells the endpoints of the manifest apart.
    """

    params: dict[str, Any]
    path: str
    variables: Mapping[str, Any]
    number: int
    left: list[Left]

    def leave(self, key: str, why: str) -> None:
        """Put a setting into the report."""
        self.left.append(Left(f"{self.path}.litellm_params.{key}", why))

    def text(self, *keys: str) -> str | None:
        """The first text among these settings, looked up where it names a variable that the file itself sets."""
        value, named = None, ""
        for key in keys:
            found = self.params.pop(key, None)
            if value is None:
                value, named = found, key
        if not isinstance(value, str):
            return None
        if not value.startswith(_ENVIRONMENT):
            return value
        name = value.removeprefix(_ENVIRONMENT)
        found = self.variables.get(name)
        if isinstance(found, str):
            return found
        self.leave(named, f"it is read from {name}: write it in clear")
        return None

    def key(self, variable: str, name: str = "api_key") -> str:
        """A reference to a key. One in clear is not taken over: it belongs into a variable."""
        found = self.params.pop(name, None)
        if found is None:
            return f"env:{variable}" if variable else ""
        if isinstance(found, str) and found.startswith(_ENVIRONMENT):
            return f"env:{found.removeprefix(_ENVIRONMENT)}"
        if isinstance(found, str) and found.lower() in EMPTY_KEYS:
            return ""
        wanted = variable or f"ENDPOINT_{self.number}_{'KEY' if name == 'api_key' else name.upper()}"
        self.leave(name, f"a key in clear: put it into {wanted}")
        return f"env:{wanted}"


def server_of(given: Given, task: str) -> Server | None:
    """The endpoint; None, and a line in the report, where there is no counterpart."""
    provider, model = _provider(given)
    if not model:
        given.leave("model", "it names no model")
        return None
    had_base = any(isinstance(given.params.get(key), str) for key in ("api_base", "base_url"))
    base = given.text("api_base", "base_url")
    if had_base and (base is None or _ADDRESS.match(base) is None):
        if base is not None:
            given.leave("api_base", "it is no http or https address")
        return None
    maker = _MAKERS.get(provider, _openai)
    found = maker(given, provider, model, base, task)
    if found is not None and task != "chat" and found["type"] not in _TYPES[task]:
        given.leave("model", f"{provider}: an endpoint of type {found['type']} is not for {task}")
        return None
    return found


def _provider(given: Given) -> tuple[str, str]:
    """The provider's name and the model's at it."""
    prefix, slash, model = str(given.params.pop("model")).partition("/")
    provider = str(given.params.pop("custom_llm_provider", "") or (prefix if slash else ""))
    if not slash or prefix != provider:
        model = prefix + slash + model
    if not provider:
        provider = "anthropic" if model.startswith("claude") else "openai"
    return provider, model


def _anthropic(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    found = {"type": "anthropic", **({"url": base} if base else {}), "model": model}
    return _with_key(found, given.key("ANTHROPIC_API_KEY"))


def _gemini(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    found = {"type": "gemini", **({"url": base.rstrip("/")} if base else {}), "model": model}
    return _with_key(found, given.key("GEMINI_API_KEY"))


def _cohere(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    if task == "chat":
        if base is not None:
            given.leave("api_base", "cohere: chats go to its OpenAI-compatible address; write that as type openai")
            return None
        return _with_key({"type": "openai", "url": CHAT_HOSTS["cohere"], "model": model}, given.key("COHERE_API_KEY"))
    root = re.sub(r"/v[12](/(rerank|embed))?/?$", "", base) if base else ""
    found = {"type": "cohere", **({"url": root} if root else {}), "model": model}
    return _with_key(found, given.key("COHERE_API_KEY"))


def _azure(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    if base is None:
        given.leave("api_base", "azure: an endpoint needs its address in clear, such as https://NAME.openai.azure.com")
        return None
    for series in _AZURE_SERIES:
        model = model.removeprefix(series)
    if "/" in model:
        given.leave("model", f"azure: {model} names no deployment")
        return None
    version = given.text("api_version") or ""
    found = {"type": "azure", "url": _DEPLOYMENT_PATH.sub("", base).rstrip("/"), "model": model}
    if version not in _UNDATED:
        if not _API_VERSION.fullmatch(version):
            given.leave("api_version", "it is no date such as 2024-10-21: the v1 API is asked")
        else:
            found["api_version"] = version
    return _with_key(found, given.key("AZURE_API_KEY"))


def _bedrock(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    for api in _BEDROCK_APIS:
        model = model.removeprefix(api)
    in_path = _IN_REGION.fullmatch(model)
    region = given.text("aws_region_name") or (in_path[1] if in_path else "")
    model = in_path[2] if in_path else model
    if "/" in model and not model.startswith("arn:"):
        given.leave("model", f"bedrock: {model} is no model's id, inference profile's or ARN")
        return None
    if re.fullmatch(REGION, region) is None:
        given.leave("aws_region_name", "bedrock: an endpoint needs its region in clear, such as eu-central-1")
        return None
    url = given.text("aws_bedrock_runtime_endpoint") or base
    if url is not None and _ADDRESS.match(url) is None:
        given.leave("aws_bedrock_runtime_endpoint", "it is no http or https address")
        return None
    found = {"type": "bedrock", "region": region, **({"url": url} if url else {}), "model": model}
    bearer = given.key("") if given.params.get("api_key") is not None else ""
    pair = [name for name in ("aws_access_key_id", "aws_secret_access_key") if given.params.get(name) is not None]
    if bearer:
        return {**found, "key": bearer}
    if len(pair) == 2:
        found["access_key"], found["secret_key"] = (given.key("", name) for name in pair)
        if not (found["access_key"] and found["secret_key"]):
            given.leave("aws_access_key_id", "it is empty: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are read")
            del found["access_key"], found["secret_key"]
        elif given.params.get("aws_session_token") is not None:
            found["session_token"] = given.key("", "aws_session_token")
    return {key: value for key, value in found.items() if value}


def _openai(given: Given, provider: str, model: str, base: str | None, task: str) -> Server | None:
    """Whoever speaks OpenAI's dialect, at a known address or at one's own."""
    if provider in OPENAI_HOSTS or provider in PROVIDERS:
        known = PROVIDERS.get(provider)
        url, variable = (known.url, known.key_name) if known is not None else OPENAI_HOSTS[provider]
        return _with_key({"type": "openai", "url": base or url, "model": model}, given.key(variable))
    if provider not in SERVERS:
        why = UNSUPPORTED.get(provider, "its dialect is not spoken; a server that speaks OpenAI's is")
        given.leave("model", f"{provider}: {why}")
        return None
    if base is None and not SERVERS[provider]:
        given.leave("api_base", f"{provider}: an endpoint needs its address in clear")
        return None
    url = base or SERVERS[provider]
    is_ollama = provider.startswith("ollama") and not url.rstrip("/").endswith("/v1")
    found = {"type": "openai", "url": url.rstrip("/") + ("/v1" if is_ollama else ""), "model": model}
    return _with_key(found, given.key(""))


def _with_key(found: Server, key: str) -> Server:
    return {**found, "key": key} if key else found


_MAKERS = {
    "anthropic": _anthropic,
    "gemini": _gemini,
    "google": _gemini,
    "cohere": _cohere,
    "cohere_chat": _cohere,
    "azure": _azure,
    "bedrock": _bedrock,
    "bedrock_converse": _bedrock,
}
