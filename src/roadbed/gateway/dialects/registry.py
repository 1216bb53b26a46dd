"""The dialects by name, and the codecs of the other tasks: the one place that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.azure import AzureOpenAI
from roadbed.gateway.dialects.base import Dialect, EncodedRequest
from roadbed.gateway.dialects.bedrock import BedrockConverse
from roadbed.gateway.dialects.embeddings import EMBEDDERS
from roadbed.gateway.dialects.foreign import in_words_of
from roadbed.gateway.dialects.gemini import Gemini
from roadbed.gateway.dialects.ollama import Ollama
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.rerank import RERANKERS
from roadbed.gateway.dialects.responses import Responses
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.manifest import Task
from roadbed.gateway.types import ChatRequest

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OpenAIChat(),
        AnthropicMessages(),
        Responses(),
        AzureOpenAI(),
        Gemini(),
        Ollama(),
        BedrockConverse(),
    )
}
BY_TASK: dict[Task, Mapping[str, Any]] = {"chat": DIALECTS, "embeddings": EMBEDDERS, "rerank": RERANKERS}
"""What each task can be asked in, by the endpoint's type."""


def encoded_for(request: ChatRequest, endpoint: Endpoint) -> EncodedRequest:
    """The request for an endpoint. Raises as `Dialect.encode`, with the names that fields have for the caller."""
    try:
        return DIALECTS[endpoint.dialect].encode(request, endpoint)
    except UnsupportedFeature as error:
        raise in_words_of(request.passthrough_dialect, error) from None
