"""The manifest sections that the gateway reads: ``endpoints`` and ``models``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from roadbed.gateway.profiles import ProfileName
from roadbed.kernel.config import DURATION_PATTERN

Duration = Annotated[str, Meta(pattern=DURATION_PATTERN)]
Price = Annotated[float, Meta(ge=0)]
Tokens = Annotated[int, Meta(ge=1)]
Task = Literal["chat", "embeddings", "rerank"]


class EndpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reachable model server."""

    type: Annotated[
        Literal["openai", "anthropic", "responses", "azure", "gemini", "ollama", "bedrock", "cohere", "tei"],
        Meta(description="the dialect that the server speaks"),
    ]
    model: Annotated[str, Meta(min_length=1, description="the model's name as the server knows it")]
    url: Annotated[str, Meta(description="base address, for example http://10.0.0.5:8000/v1")] = ""
    key: Annotated[str, Meta(description="reference to the key: env:NAME or file:PATH")] = ""
    region: Annotated[str, Meta(description="AWS region of an endpoint of type bedrock")] = ""
    access_key: Annotated[str, Meta(description="reference to an AWS access key's id, for type bedrock")] = ""
    secret_key: Annotated[str, Meta(description="reference to the AWS secret access key that goes with it")] = ""
    session_token: Annotated[str, Meta(description="reference to the AWS session token of a temporary key")] = ""
    local: Annotated[
        bool | None, Meta(description="whether it runs inside your house; by its address when left out")
    ] = None
    labels: Annotated[list[str], Meta(description="labels that it is cleared for beyond its default")] = []
    ca_file: Annotated[str, Meta(description="extra certificate authorities, a PEM file")] = ""
    client_cert: Annotated[str, Meta(description="client certificate and key, a PEM file")] = ""
    first_event: Annotated[
        Duration | None,
        Meta(description="longest wait for the first token; left out, 20s, and 120s for ollama, which loads models"),
    ] = None
    stall: Annotated[Duration, Meta(description="longest silence between two tokens")] = "15s"
    max_connections: Annotated[int, Meta(ge=1, le=1024, description="most connections to it at a time")] = 64
    profile: Annotated[
        ProfileName | None,
        Meta(description="for type openai: the server whose quirks it has; by its host when left out"),
    ] = None
    api_version: Annotated[
        str, Meta(description="for type azure: a dated API such as 2024-10-21; the v1 API when left out")
    ] = ""
    context_tokens: Annotated[
        Tokens | None, Meta(description="for type ollama: the window that the model is loaded with")
    ] = None
    price_input: Annotated[Price | None, Meta(description="USD per million input tokens")] = None
    price_output: Annotated[Price | None, Meta(description="USD per million output tokens")] = None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A route: a public model name with its ladder of endpoints."""

    ladder: Annotated[list[str], Meta(min_length=1, description="endpoints or provider/model, best first")]
    task: Annotated[Task, Meta(description="what its endpoints are asked for")] = "chat"
    deadline: Annotated[Duration, Meta(description="longest time for one answer")] = "60s"
    labels: Annotated[list[str], Meta(description="labels of what callers send to it directly")] = []
