"""The dialects by name: the one place that lists them."""

from __future__ import annotations

from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.base import Dialect
from roadbed.gateway.dialects.bedrock import BedrockConverse
from roadbed.gateway.dialects.openai_chat import OpenAIChat

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OpenAIChat(), AnthropicMessages(), BedrockConverse())
}
