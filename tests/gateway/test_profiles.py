"""Profiles: what each server's row changes in a request, which row an endpoint gets, and Azure's addresses."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from roadbed.gateway.dialects.azure import AzureOpenAI
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.endpoints import Endpoint, endpoint_from_config, endpoint_from_provider
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.local_engines import FoundEngine, engine_endpoint
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.profiles import OPENAI_PROFILE, PLAIN_PROFILE, PROFILES, ProfileName, azure_profile
from roadbed.gateway.splice import outgoing
from roadbed.gateway.types import ChatRequest, JsonSchema, Message, NamedTool, OtherPart, ReasoningPart, Tool, ToolCall
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret

from .conftest import MakeGateway, ask, call, endpoint
from .raw_server import Raw, RawServer

PRICES = shipped_prices()
TOOLS = (Tool("a"), Tool("b"))


def server(profile: str) -> Endpoint:
    return endpoint("p", "http://x/v1", profile=PROFILES[profile])


def encode(profile: str, *messages: Message, **values: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    encoded = OpenAIChat().encode(ChatRequest(messages or (Message("user", "x"),), **values), server(profile))
    return json.loads(encoded.body), encoded.dropped


def built(type: str = "openai", **values: Any) -> Endpoint:
    return endpoint_from_config("a", EndpointConfig(type, "m", **values), prices=PRICES)  # type: ignore[arg-type]


def test_every_row_has_a_reason_and_can_be_named() -> None:
    assert set(PROFILES) == set(get_args(ProfileName))
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert len(profile.why) > 20
    assert PLAIN_PROFILE.is_faithful
    assert {name for name, profile in PROFILES.items() if not profile.is_faithful} == {
        "mistral", "groq", "deepseek", "llama.cpp", "lmstudio",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.together.xyz/v1", "together"),
        ("https://api.deepseek.com/v1", "deepseek"),
        ("http://10.0.0.5:8000/v1", "plain"),
        ("https://api.mistral.ai.example.com/v1", "plain"),
    ],
)
def test_a_known_host_has_its_profile_and_the_manifest_may_name_another(url: str, name: str) -> None:
    assert built(url=url).profile.name == name
    assert built(url=url, profile="vllm").profile.name == "vllm"


def test_providers_and_found_engines_have_theirs() -> None:
    assert endpoint_from_provider("deepseek/m", prices=PRICES).profile.name == "deepseek"
    assert endpoint_from_provider("openai/m", prices=PRICES).profile == OPENAI_PROFILE
    assert engine_endpoint(FoundEngine("lmstudio", "http://127.0.0.1:1234", ("m",)), "m").profile.name == "lmstudio"
    assert engine_endpoint(FoundEngine("ollama", "http://127.0.0.1:11434", ("m",)), "m").profile.name == "plain"
    google = endpoint_from_provider("google/gemini-2.5-flash", prices=PRICES)
    assert (google.dialect, google.url) == ("gemini", "https://generativelanguage.googleapis.com/v1beta")
    assert "GEMINI_API_KEY" in google.fault
    assert built("gemini").url == google.url
    assert "GEMINI_API_KEY" in built("gemini").fault


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"type": "azure"}, "endpoints.a.url"),
        ({"type": "gemini", "profile": "groq"}, "endpoints.a.profile"),
        ({"type": "openai", "api_version": "2024-10-21"}, "endpoints.a.api_version"),
        ({"type": "openai", "context_tokens": 1}, "endpoints.a.context_tokens"),
    ],
)
def test_settings_of_other_types_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        built(**values)


def test_mistral_takes_no_field_that_it_does_not_know() -> None:
    body, dropped = encode(
        "mistral",
        Message("developer", "s"),
        Message("user", "x", name="ann"),
        max_tokens=9,
        passthrough={"seed": 7, "logit_bias": {"1": 2}, "user": "u", "presence_penalty": 0.5},
    )
    assert body == {
        "model": "p-model",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x"}],
        "max_tokens": 9,
        "random_seed": 7,
        "presence_penalty": 0.5,
        "stream": True,
    }
    assert dropped == ("logit_bias", "user", "messages[].name")
    with pytest.raises(UnsupportedFeature) as raised:
        encode("mistral", passthrough={"web_search_options": {"a": 1}})
    assert raised.value.param == "web_search_options"


def test_groq_takes_no_bias_and_no_names() -> None:
    body, dropped = encode("groq", Message("user", "x", name="ann"), passthrough={"logit_bias": {}, "seed": 7})
    assert body["seed"] == 7
    assert body["messages"] == [{"role": "user", "content": "x"}]
    assert body["stream_options"] == {"include_usage": True}
    assert dropped == ("logit_bias", "messages[].name")


def test_deepseek_takes_json_but_no_schema() -> None:
    body, _ = encode("deepseek", Message("developer", "s"), response_format=JsonSchema())
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["role"] == "system"
    with pytest.raises(UnsupportedFeature) as raised:
        encode("deepseek", response_format=JsonSchema({"type": "object"}))
    assert raised.value.param == "response_format"


def test_lm_studio_takes_a_schema_but_no_plain_json() -> None:
    body, _ = encode("lmstudio", response_format=JsonSchema())
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


@pytest.mark.parametrize("profile", ["llama.cpp", "lmstudio"])
def test_where_no_tool_can_be_named_it_is_offered_alone(profile: str) -> None:
    body, _ = encode(profile, tools=TOOLS, tool_choice=NamedTool("b"))
    assert body["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["b"]
    plain, _ = encode("plain", tools=TOOLS, tool_choice=NamedTool("b"))
    assert plain["tool_choice"] == {"type": "function", "function": {"name": "b"}}
    assert len(plain["tools"]) == 2


def test_a_plain_profile_passes_on_what_it_does_not_know() -> None:
    body, dropped = encode("plain", Message("user", "x", name="ann"), passthrough={"seed": 7, "anything": [1]})
    assert (body["seed"], body["anything"], body["messages"][0]["name"], dropped) == (7, [1], "ann", ())


def test_a_turn_of_nothing_but_reasoning_has_no_empty_list() -> None:
    turn = Message("assistant", (ReasoningPart("gemini", "", "s"),), tool_calls=(ToolCall("t", "a", "{}"),))
    assert encode("plain", turn)[0]["messages"][0]["content"] is None


SIMPLE = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
WITH_SEED = b'{"model":"m","messages":[{"role":"user","content":"x"}],"seed":7}'


def test_a_callers_bytes_are_sent_only_where_no_row_would_change_them() -> None:
    for profile in PROFILES:
        assert outgoing(SIMPLE, decode_chat(SIMPLE), server(profile), stream=True) is not None, profile
        body = outgoing(WITH_SEED, decode_chat(WITH_SEED), server(profile), stream=True)
        assert (body is not None) == PROFILES[profile].is_faithful, profile


AZURE = "https://acme.openai.azure.com"


@pytest.mark.parametrize(
    ("url", "version", "path", "limit", "has_usage"),
    [
        (AZURE, "", "/openai/v1/chat/completions", "max_completion_tokens", True),
        (f"{AZURE}/openai/v1", "", "/chat/completions", "max_completion_tokens", True),
        (AZURE, "2024-10-21", "/openai/deployments/m%201/chat/completions?api-version=2024-10-21", "max_tokens", True),
        (AZURE, "2024-02-01", "/openai/deployments/m%201/chat/completions?api-version=2024-02-01", "max_tokens", False),
        (
            AZURE,
            "2025-01-01-preview",
            "/openai/deployments/m%201/chat/completions?api-version=2025-01-01-preview",
            "max_completion_tokens",
            True,
        ),
    ],
)
def test_addresses_of_azure(url: str, version: str, path: str, limit: str, has_usage: bool) -> None:
    target = endpoint(
        "a", url, dialect="azure", model="m 1", key=Secret("k-1"), profile=azure_profile(version), is_local=False
    )
    request = ChatRequest((Message("developer", "x"),), max_tokens=5, passthrough={"seed": 7})
    encoded = AzureOpenAI().encode(request, target)
    assert encoded.path == path
    assert dict(encoded.headers) == {b"content-type": b"application/json", b"api-key": b"k-1"}
    body = json.loads(encoded.body)
    assert (body["model"], body[limit], body["seed"], "stream_options" in body) == ("m 1", 5, 7, has_usage)
    assert body["messages"][0]["role"] == ("developer" if limit == "max_completion_tokens" else "system")


def test_azure_carries_what_openai_does_and_refuses_what_a_dated_api_lacks() -> None:
    part = OtherPart("openai", {"type": "input_audio"})
    old = endpoint("a", AZURE, dialect="azure", profile=azure_profile("2024-10-21"))
    body = json.loads(AzureOpenAI().encode(ChatRequest((Message("user", (part,)),)), old).body)
    assert body["messages"][0]["content"] == [{"type": "input_audio"}]
    with pytest.raises(UnsupportedFeature) as raised:
        AzureOpenAI().encode(ChatRequest((Message("user", "x"),), tools=TOOLS, parallel_tool_calls=False), old)
    assert raised.value.param == "parallel_tool_calls"
    fine = ChatRequest((Message("user", "x"),), tools=TOOLS, parallel_tool_calls=True)
    assert "parallel_tool_calls" not in json.loads(AzureOpenAI().encode(fine, old).body)


async def test_an_answer_of_azure_comes_through_the_gateway(gateway_of: MakeGateway) -> None:
    filters = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    text = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with RawServer([Raw(filters + text + end, "text/event-stream")]) as raw:
        target = endpoint("a", raw.root, dialect="azure", key=Secret("k-1"), profile=azure_profile("2024-10-21"))
        answer, _ = await gateway_of(target).complete("smart", ask(), call())
    assert answer.text == "Hi"
    assert raw.requests[0].target == "/openai/deployments/a-model/chat/completions?api-version=2024-10-21"
    assert raw.requests[0].headers["api-key"] == "k-1"
    assert "authorization" not in raw.requests[0].headers
