"""A proxy configuration becomes a manifest; what does not carry over is named; keys in clear get nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from roadbed.cli.main import EXIT_CONFIG, EXIT_OK, EXIT_PARTLY, main
from roadbed.gateway.prices import PriceTable
from roadbed.gateway.route import build_routes
from roadbed.kernel.config import parse_yaml
from roadbed.kernel.errors import ConfigError
from roadbed.releases.litellm import Imported, import_litellm
from roadbed.releases.workspace import load_workspace

CONFIG = """
model_list:
  - model_name: chat-4.1
    litellm_params:
      model: openai/gpt-5-mini
      api_key: os.environ/TEAM_OPENAI_KEY
      rpm: 480
      tpm: 90000
      timeout: 45
      stream_timeout: 8
      order: 2
    model_info: {input_cost_per_token: 0.00000025, output_cost_per_token: 0.000002}
  - model_name: chat-4.1
    litellm_params:
      model: hosted_vllm/qwen/qwen3-32b
      api_base: http://10.0.0.5:8000/v1
      max_parallel_requests: 16
      order: 1
  - model_name: careful
    litellm_params: {model: anthropic/claude-sonnet-5, api_key: sk-ant-in-clear-0123456789, temperature: 0.2}
  - model_name: house
    litellm_params: {model: ollama_chat/llama3.1, api_base: os.environ/OLLAMA_BASE}
  - model_name: azured
    litellm_params: {model: sagemaker/jumpstart-llama, aws_region_name: eu-central-1}
  - model_name: vectors
    litellm_params: {model: openai/gpt-image-1}
    model_info: {mode: image_generation}
  - model_name: "anthropic/*"
    litellm_params: {model: "anthropic/*"}
router_settings:
  routing_strategy: latency-based-routing
  fallbacks: [{chat-4.1: [careful, azured]}, {careful: [house]}]
  model_group_alias: {fast: chat-4.1, hidden: {model: house, hidden: true}, lost: nothing}
  num_retries: 3
litellm_settings:
  request_timeout: 30
  drop_params: true
  cache: true
  cache_params: {type: redis, ttl: 600, host: cache.internal}
  context_window_fallbacks: [{house: [careful]}]
  default_team_settings:
    - {team_id: support, max_budget: 100.0, budget_duration: 30d, rpm_limit: 600, models: [chat-4.1], metadata: {a: 1}}
general_settings:
  master_key: sk-master-in-clear-0123456789
  database_url: os.environ/DATABASE_URL
environment_variables: {OLLAMA_BASE: "http://ollama.internal:11434/"}
"""


def imported(text: str = CONFIG) -> Imported:
    return import_litellm(parse_yaml(text).value, "acme")


def test_deployments_become_endpoints_and_groups_routes() -> None:
    made = imported().manifest
    assert made["endpoints"] == {
        "chat-4-1-1": {
            "type": "openai",
            "url": "https://api.openai.com/v1",
            "model": "gpt-5-mini",
            "key": "env:TEAM_OPENAI_KEY",
            "rate": "480/min",
            "tokens": "90000/min",
            "first_event": "8s",
            "price_input": 0.25,
            "price_output": 2.0,
        },
        "chat-4-1-2": {
            "type": "openai",
            "url": "http://10.0.0.5:8000/v1",
            "model": "qwen/qwen3-32b",
            "max_connections": 16,
        },
        "careful-1": {"type": "anthropic", "model": "claude-sonnet-5", "key": "env:ANTHROPIC_API_KEY"},
        "house-1": {"type": "openai", "url": "http://ollama.internal:11434/v1", "model": "llama3.1"},
    }
    cache = {"exact": "600s", "any_temperature": True}
    chat = {"ladder": ["chat-4-1-2", "chat-4-1-1", "careful-1"], "deadline": "45s", "cache": cache}
    house = {"ladder": ["house-1"], "on": {"context_length": "careful-1"}, "deadline": "30s", "cache": cache}
    assert made["models"] == {
        "chat-4-1": chat,
        "careful": {"ladder": ["careful-1", "house-1"], "deadline": "30s", "cache": cache},
        "house": house,
        "fast": chat,
        "hidden": house,
    }
    assert made["teams"] == {"support": {"budget": "100 USD/month", "rate": "600/min", "apps": ["chat-4-1"]}}


def test_what_does_not_carry_over_is_named_with_why() -> None:
    left = {item.path: item.why for item in imported().left}
    assert set(left) == {
        "model_list[2].litellm_params.api_key",
        "model_list[2].litellm_params.temperature",
        "model_list[4].litellm_params.model",
        "model_list[5].model_info.mode",
        "model_list[6]",
        "fallbacks.chat-4.1",
        "model_name chat-4.1",
        "router_settings.model_group_alias.lost",
        "router_settings.num_retries",
        "litellm_settings.drop_params",
        "litellm_settings.cache_params.host",
        "litellm_settings.default_team_settings[0].metadata",
        "general_settings.master_key",
        "general_settings.database_url",
        "environment_variables",
        "(its database)",
    }
    assert all(left.values())


def test_a_key_in_clear_gets_nowhere() -> None:
    assert "in-clear" in CONFIG
    assert "in-clear" not in repr(imported())


def test_what_carries_over_whole_leaves_nothing() -> None:
    made = imported("model_list: [{model_name: a, litellm_params: {model: groq/llama, api_key: os.environ/K}}]")
    assert made.left == []
    assert made.manifest["models"] == {"a": {"ladder": ["a-1"]}}


@pytest.mark.parametrize("text", ["[]", "model_list: 5", "name: acme"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        imported(text)


NAMES = st.sampled_from(["a", "b", "gpt-4.1", "9lives", "å", "*", "x" * 80]) | st.text(max_size=10)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
PLAIN_MODELS = ["openai/x", "anthropic/c", "ollama/l", "groq/g", "azure/z", "hosted_vllm/v", "gpt", "claude"]
OWN_MODELS = ["gemini/g", "gemini/embedding-1", "cohere/rerank-3", "cohere/embed-4", "bedrock/eu-west-1/m", "cohere/c"]
ODD_MODELS = ["azure/o_series/a", "bedrock/arn:aws:b/x", "bedrock/a/b", "bedrock/m", "azure/embed"]
MODELS = st.sampled_from([*PLAIN_MODELS, *OWN_MODELS, *ODD_MODELS])
PARAMS = st.fixed_dictionaries(
    {"model": MODELS | NAMES},
    optional={
        "api_base": st.sampled_from(["http://10.0.0.1/v1", "ftp://x", "http://user:pw@x/v1", "http://", "x"]) | VALUES,
        "api_key": st.sampled_from(["os.environ/K", "sk-in-clear"]) | VALUES,
        "api_version": st.sampled_from(["2024-10-21", "v1", "x"]) | VALUES,
        "aws_region_name": st.sampled_from(["eu-central-1", "nowhere", "os.environ/R"]) | VALUES,
        "aws_access_key_id": st.sampled_from(["os.environ/A", "sk-in-clear", ""]) | VALUES,
        "aws_secret_access_key": st.sampled_from(["os.environ/S", "sk-in-clear"]) | VALUES,
        "aws_session_token": VALUES,
        "timeout": VALUES | st.integers(1, 600),
        "max_parallel_requests": VALUES,
        "input_cost_per_token": VALUES,
        "order": VALUES | st.integers(1, 3),
        "weight": VALUES | st.integers(0, 9),
        "rpm": VALUES | st.integers(1, 900),
        "tpm": VALUES,
    },
)
ENTRIES = st.fixed_dictionaries({"model_name": NAMES, "litellm_params": PARAMS}) | VALUES
SECTION = st.fixed_dictionaries(
    {},
    optional={
        "fallbacks": st.lists(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=2), max_size=3) | VALUES,
        "default_fallbacks": st.lists(NAMES, max_size=2) | VALUES,
        "context_window_fallbacks": st.lists(st.dictionaries(NAMES, st.lists(NAMES, max_size=3), max_size=2)) | VALUES,
        "content_policy_fallbacks": VALUES,
        "routing_strategy": st.sampled_from(["simple-shuffle", "least-busy", "cost-based-routing"]) | VALUES,
        "model_group_alias": st.dictionaries(NAMES, NAMES, max_size=3) | VALUES,
        "request_timeout": VALUES,
        "timeout": VALUES,
        "cache": st.booleans(),
        "default_team_settings": st.lists(
            st.fixed_dictionaries({"team_id": NAMES}, optional={"max_budget": VALUES, "rpm_limit": VALUES}), max_size=2
        ),
    },
)


@given(st.lists(ENTRIES, max_size=5), SECTION, SECTION)
@settings(max_examples=40)
def test_whatever_is_imported_is_a_valid_manifest(entries: list[Any], router: Any, settings: Any) -> None:
    config = {"model_list": entries, "router_settings": router, "litellm_settings": settings}
    made = import_litellm(config, "acme")
    workspace = load_workspace(
        Path(__file__).parent, yaml.safe_dump(made.manifest, sort_keys=False, allow_unicode=True)
    )
    build_routes(workspace.manifest.endpoints, workspace.manifest.models, prices=PriceTable("", {}))
    for model in made.manifest.get("models", {}).values():
        assert set(model["ladder"]) <= set(made.manifest["endpoints"])
    assert "sk-in-clear" not in repr(made)


def test_the_command_writes_a_manifest_that_check_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "config.yaml", tmp_path / "acme" / "roadbed.yaml"
    out.parent.mkdir()
    source.write_text(CONFIG)
    assert main(["import", "litellm", str(source), "--name", "acme", "--out", str(out)]) == EXIT_PARTLY
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "4 endpoints, 5 models" in shown.err
    assert "model_list[4].litellm_params.model: sagemaker" in shown.err
    assert load_workspace(out.parent).manifest.models["careful"].ladder == ["careful-1", "house-1"]
    assert main(["import", "litellm", str(source), "--out", str(out)]) == EXIT_CONFIG, "nothing is written over"
    capsys.readouterr()

    source.write_text("model_list: [{model_name: a, litellm_params: {model: groq/llama, api_key: os.environ/K}}]")
    assert main(["import", "litellm", str(source), "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["left"] == []
