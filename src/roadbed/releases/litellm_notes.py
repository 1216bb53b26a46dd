"""What is known of a LiteLLM configuration's providers and settings, and why some have no counterpart.

Tables for `litellm.py` alone. A setting that is missing here is reported too, in general words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TASKS: Final = {
    "chat": "chat",
    "completion": "chat",
    "responses": "chat",
    "embedding": "embeddings",
    "rerank": "rerank",
}
"""A route's task by a model's mode. Other modes have no counterpart."""


@dataclass(frozen=True, slots=True)
class Left:
    """A setting that did not carry over as it was: where it stands, why, and what to do."""

    path: str
    why: str


OPENAI_HOSTS: Final = {
    "together_ai": ("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "fireworks_ai": ("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "xai": ("https://api.x.ai/v1", "XAI_API_KEY"),
    "perplexity": ("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "cerebras": ("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": ("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "jina_ai": ("https://api.jina.ai/v1", "JINA_AI_API_KEY"),
    "nvidia_nim": ("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
}
"""Providers that speak OpenAI's dialect: address, and the variable of the key."""

CHAT_HOSTS: Final = {"cohere": "https://api.cohere.ai/compatibility/v1"}
"""Where a provider speaks OpenAI's dialect beside its own, for chats."""

EMPTY_KEYS: Final = frozenset({"", "none", "null", "dummy", "fake", "no-key", "empty", "ollama"})
"""What stands for a key where a server wants none."""

SERVERS: Final = {
    "ollama": "http://localhost:11434",
    "ollama_chat": "http://localhost:11434",
    "hosted_vllm": "",
    "vllm": "",
    "lm_studio": "",
    "llamafile": "http://localhost:8080/v1",
    "litellm_proxy": "",
    "openai_like": "",
    "custom_openai": "",
}
"""Servers of one's own that speak OpenAI's dialect, with their usual address if there is one."""

UNSUPPORTED: Final = {
    "azure_ai": "write its OpenAI-compatible address as an endpoint of type openai",
    "azure_text": "legacy completions are not asked for: write the deployment of a chat model as azure/NAME",
    "vertex_ai": "no endpoint type for it: the Gemini API (gemini/MODEL) is spoken",
    "vertex_ai_beta": "no endpoint type for it: the Gemini API (gemini/MODEL) is spoken",
    "sagemaker": "no endpoint type for it",
    "huggingface": "write the server's OpenAI-compatible address as an endpoint of type openai",
    "replicate": "no endpoint type for it",
}

ELSEWHERE: Final = (
    "virtual keys, users, teams and budgets made by its API are not in this file: list teams under `teams`, "
    "make keys with `roadbed keys create`"
)

_OWN_BREAKER = "not set: each endpoint has a breaker, and asks to wait are honoured"
_OWN_LOGS = "not sent: traces are kept here, metrics at /metrics"
_NO_REDIS = "not needed: processes share PostgreSQL"
_NO_ENTRA = "tokens of Microsoft Entra are not fetched: an endpoint of type azure has a key"
_NO_ROLES = "roles and profiles are not taken on: give the endpoint keys, or a Bedrock API key"
_PAIR = "an access key's id and its secret are named together, in place of api_key"
_DEFAULT = "not set for callers: it is theirs to send"

SETTINGS: Final = {
    "rpm": "a rate is a whole number",
    "tpm": "a rate is a whole number",
    "routing_strategy_args": "strategies have no settings but weights",
    "num_retries": "not set: an attempt is repeated once where that helps, then the next endpoint is asked",
    "max_retries": "not set: an attempt is repeated once where that helps, then the next endpoint is asked",
    "retry_policy": _OWN_BREAKER,
    "retry_after": _OWN_BREAKER,
    "allowed_fails": _OWN_BREAKER,
    "allowed_fails_policy": _OWN_BREAKER,
    "cooldown_time": _OWN_BREAKER,
    "disable_cooldowns": _OWN_BREAKER,
    "enable_pre_call_checks": "always done: labels, keys and limits are checked before an endpoint is asked",
    "redis_host": _NO_REDIS,
    "redis_port": _NO_REDIS,
    "redis_password": _NO_REDIS,
    "redis_url": _NO_REDIS,
    "drop_params": "always: what only changes quality is dropped and named, what changes meaning is refused",
    "modify_params": "always: what only changes quality is dropped and named, what changes meaning is refused",
    "set_verbose": "logs hold no prompt and no key; see `roadbed traces`",
    "json_logs": "logs hold no prompt and no key; see `roadbed traces`",
    "callbacks": _OWN_LOGS,
    "success_callback": _OWN_LOGS,
    "failure_callback": _OWN_LOGS,
    "service_callback": _OWN_LOGS,
    "turn_off_message_logging": "set `traces: {content: off}`",
    "master_key": "set ROADBED_ADMIN_KEY for the server",
    "database_url": "set --database for the server; it begins with an empty schema",
    "store_model_in_db": "the manifest in the workspace is the only desired state",
    "max_budget": "budgets belong to teams: `teams: {NAME: {budget: ...}}`",
    "budget_duration": "budgets belong to teams: `teams: {NAME: {budget: ...}}`",
    "max_input_tokens": "set `context` of the endpoint to the model's whole window",
    "max_output_tokens": "not set for callers: it is theirs to send",
    "model_group_retry_policy": _OWN_BREAKER,
    "max_parallel_requests": "set max_connections of each endpoint",
    "alerting": "see /metrics",
    "guardrails": "the guard is always on: secrets are replaced, personal data is tokenised for endpoints outside",
    "environment_variables": "set them where `roadbed up` runs",
    "azure_ad_token": _NO_ENTRA,
    "tenant_id": _NO_ENTRA,
    "client_id": _NO_ENTRA,
    "client_secret": _NO_ENTRA,
    "aws_role_name": _NO_ROLES,
    "aws_session_name": _NO_ROLES,
    "aws_profile_name": _NO_ROLES,
    "aws_web_identity_token": _NO_ROLES,
    "aws_sts_endpoint": _NO_ROLES,
    "aws_access_key_id": _PAIR,
    "aws_secret_access_key": _PAIR,
    "aws_session_token": _PAIR,
    "temperature": _DEFAULT,
    "top_p": _DEFAULT,
    "max_tokens": _DEFAULT,
    "seed": _DEFAULT,
    "extra_headers": "no counterpart",
    "organization": "no counterpart; a key belongs to one",
}
