"""Profiles: where a server that speaks OpenAI's dialect departs from it, and what is done about each departure.

A row per server, each with its reason: what the server's documentation or its bug tracker says. `openai_chat` follows
them when it writes a request, `splice` when it sends a caller's own bytes. A field is written otherwise where that
keeps its meaning, left out and named where only quality changes, and refused where the answer would mean something
else. The invariant: ``plain`` changes nothing, and a row that changes what callers may send is not `is_faithful`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

ProfileName = Literal[
    "plain", "openai", "mistral", "groq", "together", "deepseek", "vllm", "llama.cpp", "lmstudio", "tgi"
]


REASONING_FIELDS = frozenset({"reasoning_content", "reasoning", "reasoning_details"})
"""Under what names servers give the text of their reasoning in a turn; our own answers use the first."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Quirks of a server that speaks a dialect almost as documented.

    ``limit_field`` is its name for the limit of tokens. ``fields`` are the only ones beyond our own that it takes, all
    where it is None; ``left_out`` are those that it refuses. ``renamed`` gives a field its name there. ``has_names``:
    it takes ``messages[].name``; ``has_reasoning_back``: a turn may bring its reasoning as text; ``has_named_tool``:
    ``tool_choice`` may name a function; ``has_json_mode`` and ``has_json_schema``: the response formats that it knows.
    ``context_tokens`` is the window that an Ollama model is loaded with, ``api_version`` the dated API of an Azure
    endpoint.
    """

    name: str = "plain"
    why: str = ""
    limit_field: str = "max_tokens"
    has_developer_role: bool = False
    has_stream_usage: bool = True
    has_parallel_switch: bool = True
    has_names: bool = True
    has_reasoning_back: bool = True
    has_named_tool: bool = True
    has_json_mode: bool = True
    has_json_schema: bool = True
    fields: frozenset[str] | None = None
    left_out: frozenset[str] = frozenset()
    renamed: tuple[tuple[str, str], ...] = ()
    output_tokens_default: int = 4096
    context_tokens: int | None = None
    api_version: str = ""

    @property
    def is_faithful(self) -> bool:
        """Whether every field of OpenAI's is sent as it came, but for those that `splice` looks at itself."""
        return (
            self.fields is None
            and not self.left_out
            and not self.renamed
            and self.has_names
            and self.has_named_tool
            and self.has_json_mode
            and self.has_json_schema
            and self.has_parallel_switch
        )

    def takes_hint(self, name: str) -> bool:
        """Whether it takes a field of a turn, part, call or tool that is not ours. What a turn cited labels it, and is
        for no server.
        """
        if self.fields is not None or name == "annotations":
            return False
        return self.has_reasoning_back or name not in REASONING_FIELDS

    def name_of(self, field: str) -> str:
        """A field's name at this server; empty where it is left out."""
        field = dict(self.renamed).get(field, field)
        if field in self.left_out or (self.fields is not None and field not in self.fields):
            return ""
        return field


PLAIN_PROFILE = Profile(why="OpenAI's chat completions as most servers take them")
OPENAI_PROFILE = Profile(
    "openai",
    "the API reference: max_tokens is deprecated and refused by reasoning models, system turns are role developer",
    limit_field="max_completion_tokens",
    has_developer_role=True,
    has_reasoning_back=False,
)

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        PLAIN_PROFILE,
        OPENAI_PROFILE,
        Profile(
            "mistral",
            "422 extra_forbidden for every field that its schema lacks: seen for max_completion_tokens, store, "
            "stream_options.include_usage (usage comes unasked) and messages[].name; its seed is random_seed",
            has_stream_usage=False,
            has_names=False,
            fields=frozenset({"random_seed", "presence_penalty", "frequency_penalty", "safe_prompt", "prediction"}),
            renamed=(("seed", "random_seed"),),
        ),
        Profile(
            "groq",
            "its page on OpenAI compatibility: 400 for logit_bias and messages[].name; a turn's reasoning is kept back",
            has_names=False,
            has_reasoning_back=False,
            left_out=frozenset({"logit_bias"}),
        ),
        Profile("together", "its API reference documents max_tokens; no refusal is known"),
        Profile(
            "deepseek",
            "400 for role developer and for response_format json_schema; it documents text and json_object alone",
            has_json_schema=False,
        ),
        Profile("vllm", "it takes unknown fields; whether a chat template knows role developer is up to the model"),
        Profile(
            "llama.cpp",
            "it reads tool_choice as a word, an object counts as auto; max_completion_tokens has no effect",
            has_named_tool=False,
        ),
        Profile(
            "lmstudio",
            "400 for a tool_choice that is an object, and for response_format json_object",
            has_named_tool=False,
            has_json_mode=False,
        ),
        Profile("tgi", "its Messages API documents max_tokens; the chat template decides which roles there are"),
    )
}

BY_HOST: dict[str, str] = {
    "api.openai.com": "openai",
    "api.mistral.ai": "mistral",
    "api.groq.com": "groq",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.deepseek.com": "deepseek",
}
"""Which profile an endpoint of type openai has when the manifest names none."""

AZURE_STREAM_USAGE_FROM = "2024-08-01"
"""The first dated API of Azure that takes ``stream_options``."""

AZURE_NEW_FIELDS_FROM = "2024-12-01"
"""The first dated API of Azure that the reasoning models ask for, with role developer and max_completion_tokens."""


def profile_of_host(host: str) -> Profile:
    """The profile of a known provider's host; ``plain`` for any other."""
    return PROFILES[BY_HOST.get(host, "plain")]


def azure_profile(api_version: str) -> Profile:
    """The profile of an Azure endpoint: OpenAI's for the undated ``v1`` API, less for older dated ones."""
    if not api_version:
        return replace(OPENAI_PROFILE, name="azure", why="the v1 API of Azure OpenAI is OpenAI's own")
    is_new = api_version[:10] >= AZURE_NEW_FIELDS_FROM
    return Profile(
        "azure",
        "dated APIs know the fields of their day; parallel_tool_calls was refused up to 2024-10-21",
        has_reasoning_back=False,
        limit_field="max_completion_tokens" if is_new else "max_tokens",
        has_developer_role=is_new,
        has_stream_usage=api_version[:10] >= AZURE_STREAM_USAGE_FROM,
        has_parallel_switch=is_new,
        api_version=api_version,
    )
