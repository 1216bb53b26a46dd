"""The dialects by name: the one place that lists them."""

from __future__ import annotations

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.azure import AzureOpenAI
from roadbed.gateway.dialects.base import Dialect
from roadbed.gateway.dialects.gemini import Gemini
from roadbed.gateway.dialects.ollama import Ollama
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.responses import Responses

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (OpenAIChat(), AnthropicMessages(), Responses(), AzureOpenAI(), Gemini(), Ollama())
}
