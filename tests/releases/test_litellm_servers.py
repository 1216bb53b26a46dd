"""Deployments at Gemini, Bedrock, Azure and Cohere become endpoints of those types, embedders and rerankers routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from roadbed.gateway.prices import PriceTable
from roadbed.gateway.route import Route, build_routes
from roadbed.kernel.config import parse_yaml
from roadbed.releases.litellm import Imported, import_litellm
from roadbed.releases.workspace import load_workspace

CONFIG = """
model_list:
  - model_name: flash
    litellm_params: {model: gemini/gemini-2.5-flash, api_key: os.environ/G_KEY}
  - model_name: claude
    litellm_params:
      model: bedrock/converse/eu.anthropic.claude-haiku-4-5-20251001-v1:0
      aws_region_name: os.environ/AWS_REGION_NAME
      aws_access_key_id: os.environ/KEY_ID
      aws_secret_access_key: os.environ/KEY_SECRET
      aws_session_token: os.environ/KEY_TOKEN
  - model_name: claude
    litellm_params: {model: bedrock/us-east-1/anthropic.claude-v2, api_key: os.environ/BEDROCK_KEY}
  - model_name: gpt
    litellm_params:
      model: azure/gpt-5-eu
      api_base: https://acme.openai.azure.com/
      api_version: "2024-10-21"
      api_key: os.environ/AZURE_KEY
  - model_name: gpt
    litellm_params:
      model: azure/o_series/o4
      api_base: https://acme.openai.azure.com/openai/deployments/o4
      api_version: v1
  - model_name: command
    litellm_params: {model: cohere_chat/command-a-03-2025}
  - model_name: ranks
    litellm_params: {model: cohere/rerank-v3.5, api_key: os.environ/CO_KEY}
    model_info: {mode: rerank}
  - model_name: ranks
    litellm_params: {model: jina_ai/jina-reranker-v2-base-multilingual, api_base: "https://api.jina.ai/v1"}
  - model_name: vectors
    litellm_params: {model: gemini/gemini-embedding-001}
  - model_name: vectors-of-cohere
    litellm_params: {model: cohere/embed-v4.0, api_base: "https://co.acme.example/v1/embed"}
litellm_settings:
  cache: true
  fallbacks: [{gpt: [claude]}]
environment_variables: {AWS_REGION_NAME: eu-central-1}
"""
AZURE = {"type": "azure", "url": "https://acme.openai.azure.com"}
ENDPOINTS = {
    "flash-1": {"type": "gemini", "model": "gemini-2.5-flash", "key": "env:G_KEY"},
    "claude-1": {
        "type": "bedrock",
        "region": "eu-central-1",
        "model": "eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        "access_key": "env:KEY_ID",
        "secret_key": "env:KEY_SECRET",
        "session_token": "env:KEY_TOKEN",
    },
    "claude-2": {
        "type": "bedrock",
        "region": "us-east-1",
        "model": "anthropic.claude-v2",
        "key": "env:BEDROCK_KEY",
    },
    "gpt-1": {**AZURE, "model": "gpt-5-eu", "api_version": "2024-10-21", "key": "env:AZURE_KEY"},
    "gpt-2": {**AZURE, "model": "o4", "key": "env:AZURE_API_KEY"},
    "command-1": {
        "type": "openai",
        "url": "https://api.cohere.ai/compatibility/v1",
        "model": "command-a-03-2025",
        "key": "env:COHERE_API_KEY",
    },
    "ranks-1": {"type": "cohere", "model": "rerank-v3.5", "key": "env:CO_KEY"},
    "ranks-2": {
        "type": "openai",
        "url": "https://api.jina.ai/v1",
        "model": "jina-reranker-v2-base-multilingual",
        "key": "env:JINA_AI_API_KEY",
    },
    "vectors-1": {"type": "gemini", "model": "gemini-embedding-001", "key": "env:GEMINI_API_KEY"},
    "vectors-of-cohere-1": {
        "type": "cohere",
        "url": "https://co.acme.example",
        "model": "embed-v4.0",
        "key": "env:COHERE_API_KEY",
    },
}
TASKS = {
    "flash": "chat",
    "claude": "chat",
    "gpt": "chat",
    "command": "chat",
    "ranks": "rerank",
    "vectors": "embeddings",
    "vectors-of-cohere": "embeddings",
}


def imported(text: str) -> Imported:
    return import_litellm(parse_yaml(text).value, "acme")


def routes_of(made: Imported) -> dict[str, Route]:
    manifest = load_workspace(Path(__file__).parent, yaml.safe_dump(made.manifest, sort_keys=False)).manifest
    return build_routes(manifest.endpoints, manifest.models, prices=PriceTable("", {}))


def test_each_provider_s_deployment_becomes_its_endpoint() -> None:
    made = imported(CONFIG)
    assert made.manifest["endpoints"] == ENDPOINTS
    models = made.manifest["models"]
    assert {name: model.get("task", "chat") for name, model in models.items()} == TASKS
    assert models["gpt"]["ladder"] == ["gpt-1", "gpt-2", "claude-1", "claude-2"]
    assert "cache" in models["gpt"]
    assert "cache" not in models["ranks"], "rankings and vectors are not kept"
    assert [item.path for item in made.left] == ["environment_variables"]
    assert {name: route.task for name, route in routes_of(made).items()} == TASKS


LEFT = [
    ("model: azure/gpt", "api_base", "address"),
    ("model: azure/gpt, api_base: os.environ/AZURE_API_BASE", "api_base", "in clear"),
    ("model: azure/a/b, api_base: 'https://a.openai.azure.com'", "model", "no deployment"),
    ("model: azure/text-embedding-3-small, api_base: 'https://a.openai.azure.com'", "model", "not for embeddings"),
    ("model: bedrock/anthropic.claude", "aws_region_name", "region"),
    ("model: bedrock/anthropic.claude, aws_region_name: os.environ/R", "aws_region_name", "in clear"),
    ("model: bedrock/provisioned/x, aws_region_name: eu-central-1", "model", "ARN"),
    ("model: 'bedrock/amazon.titan-embed-text-v2:0', aws_region_name: eu-central-1", "model", "not for embeddings"),
    ("model: cohere/command-r, api_base: 'https://co.example'", "api_base", "OpenAI-compatible"),
    ("model: vertex_ai/gemini-2.5-pro, vertex_project: p", "model", "gemini/MODEL"),
    ("model: anthropic/rerank-1", "model", "not for rerank"),
]


@pytest.mark.parametrize(("params", "setting", "why"), LEFT)
def test_what_cannot_be_mapped_stays_in_the_report(params: str, setting: str, why: str) -> None:
    made = imported(f"model_list: [{{model_name: a, litellm_params: {{{params}}}}}]")
    assert made.manifest == {"name": "acme"}
    found = [item.why for item in made.left if item.path == f"model_list[0].litellm_params.{setting}"]
    assert any(why in text for text in found), made.left


AZURE_PARAMS = "model: azure/g, api_base: 'https://a.openai.azure.com'"
BEDROCK_PARAMS = "model: bedrock/m, aws_region_name: eu-west-1"
KEPT = [
    (f"{AZURE_PARAMS}, azure_ad_token: os.environ/T", "azure_ad_token", "Entra"),
    (f"{AZURE_PARAMS}, api_version: newest", "api_version", "v1 API"),
    (f"{BEDROCK_PARAMS}, aws_role_name: 'arn:aws:iam::1:role/r'", "aws_role_name", "roles"),
    (f"{BEDROCK_PARAMS}, aws_access_key_id: os.environ/A", "aws_access_key_id", "together"),
    ("model: gemini/g, vertex_project: p", "vertex_project", "no counterpart"),
]


@pytest.mark.parametrize(("params", "setting", "why"), KEPT)
def test_an_endpoint_whose_settings_do_not_all_carry_over_says_which(params: str, setting: str, why: str) -> None:
    made = imported(f"model_list: [{{model_name: a, litellm_params: {{{params}}}}}]")
    assert list(routes_of(made)) == ["a"]
    assert [(item.path, why in item.why) for item in made.left] == [(f"model_list[0].litellm_params.{setting}", True)]


def test_aws_keys_in_clear_become_names_of_variables() -> None:
    keys: dict[str, Any] = {"aws_access_key_id": "AKIA-in-clear", "aws_secret_access_key": "secret-in-clear"}
    params = {"model": "bedrock/m", "aws_region_name": "eu-west-1", **keys}
    made = import_litellm({"model_list": [{"model_name": "a", "litellm_params": params}]}, "acme")
    assert "in-clear" not in repr(made)
    endpoint = made.manifest["endpoints"]["a-1"]
    assert endpoint["access_key"] == "env:ENDPOINT_1_AWS_ACCESS_KEY_ID"
    assert endpoint["secret_key"] == "env:ENDPOINT_1_AWS_SECRET_ACCESS_KEY"
    assert len(made.left) == 2


def test_a_route_has_one_task_and_vectors_of_one_model() -> None:
    made = imported(
        """
model_list:
  - {model_name: v, litellm_params: {model: openai/text-embedding-3-small}}
  - {model_name: v, litellm_params: {model: cohere/embed-v4.0}}
  - {model_name: v, litellm_params: {model: openai/gpt-5-mini}}
  - {model_name: c, litellm_params: {model: openai/gpt-5-mini}}
router_settings: {fallbacks: [{c: [v]}], context_window_fallbacks: [{c: [v]}]}
"""
    )
    assert {name: model["ladder"] for name, model in made.manifest["models"].items()} == {"v": ["v-1"], "c": ["c-1"]}
    assert "on" not in made.manifest["models"]["c"]
    paths = {item.path for item in made.left}
    assert paths == {"model_list[1]", "model_list[2]", "fallbacks.c", "context_window_fallbacks.c"}
    routes_of(made)
