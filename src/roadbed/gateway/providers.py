"""The providers that a ladder can name as ``provider/model``: base address, the usual name of the key, dialect.

A key in the environment is reported by `describe_environment` and used only once the manifest names the provider:
private files do not go to a cloud because a variable was set. It makes no call and reads no key's value but to see
whether there is one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Provider:
    """A known provider of models."""

    name: str
    url: str
    key_name: str
    dialect: Literal["openai", "anthropic", "gemini"] = "openai"
    title: str = ""
    example_model: str = ""


PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "openai", "OpenAI", "gpt-5-mini"),
        Provider(
            "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", "Anthropic", "claude-haiku-4-5"
        ),
        Provider(
            "google",
            "https://generativelanguage.googleapis.com/v1beta",
            "GEMINI_API_KEY",
            "gemini",
            "Google Gemini",
            "gemini-2.5-flash",
        ),
        Provider("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "openai", "Mistral", ""),
        Provider("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", "openai", "Groq", "llama-3.3-70b-versatile"),
        Provider(
            "together",
            "https://api.together.xyz/v1",
            "TOGETHER_API_KEY",
            "openai",
            "Together",
            "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        ),
        Provider("deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "openai", "DeepSeek", "deepseek-chat"),
        Provider("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openai", "OpenRouter", ""),
    )
}


def host_of(url: str) -> str:
    """The lower-case host of a URL; empty when there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


KEYS_BY_HOST: dict[str, Provider] = {host_of(provider.url): provider for provider in PROVIDERS.values()}


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A provider's key variable that is set: its name alone, never its value."""

    provider: str
    variable: str
    hint: str


def describe_environment(environment: Mapping[str, str] | None = None) -> list[FoundKey]:
    """Which providers have a key in the environment, and what would put them to use."""
    environment = os.environ if environment is None else environment
    return [
        FoundKey(
            provider.name,
            provider.key_name,
            f"{provider.key_name} is set and not used; to use it: roadbed models add {provider.name}",
        )
        for provider in PROVIDERS.values()
        if environment.get(provider.key_name)
    ]
