"""What a caller said and an endpoint's dialect cannot say: carried, named as dropped, or refused; nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from roadbed.gateway.dialects.anthropic_incoming import decode_messages
from roadbed.gateway.dialects.openai_chat import whole_text
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.dialects.registry import DIALECTS, encoded_for
from roadbed.gateway.dialects.responses_incoming import decode_response_request
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.masking import guard_request
from roadbed.gateway.profiles import OPENAI_PROFILE, PROFILES, Profile
from roadbed.gateway.types import ChatRequest, Cited, Finished, JsonSchema, TextDelta
from roadbed.guard.gate import Guard
from roadbed.guard.vault import Vault
from roadbed.kernel.errors import InvalidRequest
from roadbed.kernel.label import PUBLIC

from .conftest import endpoint

PICTURE = "data:image/png;base64,iVBORw0KGgo="
OTHERS = ("anthropic", "gemini", "bedrock", "ollama")
MODELS = {"gemini": "gemini-3-pro", "anthropic": "claude-opus-4-6", "bedrock": "anthropic.claude-opus-4-6"}


def chat(*turns: dict[str, Any], **fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": list(turns) or [{"role": "user", "content": "x"}]} | fields
    return decode_chat(json.dumps(body).encode()).request


def messages(*turns: dict[str, Any], **fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 9000, "messages": list(turns)} | fields
    return decode_messages(json.dumps(body).encode()).request


def responses(*items: dict[str, Any], **fields: Any) -> ChatRequest:
    body = {"model": "m", "input": list(items) or "x"} | fields
    return decode_response_request(json.dumps(body).encode()).request


def sent(request: ChatRequest, dialect: str, profile: Profile | None = None) -> tuple[dict[str, Any], tuple[str, ...]]:
    values: dict[str, Any] = {"model": MODELS.get(dialect, "gpt-5.2")} | ({"profile": profile} if profile else {})
    encoded = DIALECTS[dialect].encode(request, endpoint("e", "http://x/v1", **values))
    return json.loads(encoded.body), encoded.dropped


USER = {"role": "user", "content": "x"}


def test_fields_of_a_turn_that_nothing_here_knows_reach_their_own_dialect_and_are_named_elsewhere() -> None:
    turn = {"role": "assistant", "content": "y", "reasoning_content": "hm", "prefix": True}
    request = chat(USER, turn, USER)
    body, dropped = sent(request, "openai")
    assert body["messages"][1] == turn
    assert dropped == ()
    for dialect in (*OTHERS, "responses"):
        assert set(sent(request, dialect)[1]) >= {"reasoning_content", "prefix"}, dialect


def test_reasoning_goes_back_only_to_servers_that_take_it() -> None:
    request = chat(USER, {"role": "assistant", "content": "y", "reasoning_content": "hm", "annotations": [{"a": 1}]})
    for profile in (OPENAI_PROFILE, PROFILES["groq"], PROFILES["mistral"]):
        body, dropped = sent(request, "openai", profile)
        assert body["messages"][1] == {"role": "assistant", "content": "y"}, profile.name
        assert dropped == ("annotations", "reasoning_content"), profile.name
    body, dropped = sent(request, "openai", PROFILES["deepseek"])
    assert body["messages"][1]["reasoning_content"] == "hm"
    assert dropped == ("annotations",)


def test_what_a_sdk_gives_back_of_an_answer_with_nothing_in_it_is_not_passed_on() -> None:
    empty: dict[str, Any] = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
    body, dropped = sent(chat(USER, {"role": "assistant", "content": "y"} | empty), "openai")
    assert (body["messages"][1], dropped) == ({"role": "assistant", "content": "y"}, ())


@pytest.mark.parametrize("dialect", [*OTHERS, "openai", "responses"])
def test_a_refusal_of_an_earlier_turn_is_said_in_every_dialect(dialect: str) -> None:
    request = chat(USER, {"role": "assistant", "content": None, "refusal": "I will not."}, USER)
    assert "I will not." in json.dumps(sent(request, dialect)[0])


@pytest.mark.parametrize("field", [{"audio": {"id": "a1"}}, {"function_call": {"name": "f", "arguments": "{}"}}])
def test_what_was_said_in_a_form_that_no_other_dialect_has_is_refused_by_name(field: dict[str, Any]) -> None:
    request = chat(USER, {"role": "assistant", "content": "y"} | field, USER)
    assert sent(request, "openai")[0]["messages"][1] == {"role": "assistant", "content": "y"} | field
    for dialect in (*OTHERS, "responses"):
        with pytest.raises(UnsupportedFeature) as raised:
            sent(request, dialect)
        assert raised.value.param == f"messages[].{next(iter(field))}"
    with pytest.raises(UnsupportedFeature):
        sent(request, "openai", PROFILES["mistral"])


def test_fields_of_parts_calls_and_tools_reach_their_own_dialect_and_are_named_elsewhere() -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}} | extra
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "defer": True}} | cached
    text, picture = {"type": "text", "text": "x"} | cached, {"type": "image_url", "image_url": {"url": PICTURE}}
    request = chat(
        {"role": "user", "content": [text, picture | {"min_pixels": 4}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "y"},
        tools=[tool],
    )
    body, dropped = sent(request, "openai")
    assert body["messages"][0]["content"] == [text, picture | {"min_pixels": 4}]
    assert body["messages"][1]["tool_calls"] == [call]
    assert body["tools"] == [tool]
    assert dropped == ()
    for dialect in (*OTHERS, "responses"):
        named = set(sent(request, dialect)[1])
        assert named >= {"cache_control", "extra_content", "function.defer", "min_pixels"}, dialect


def test_the_guard_reads_what_is_passed_on(guard: Guard) -> None:
    request = chat({"role": "assistant", "content": "y", "reasoning_content": "ask kari@example.com"}, USER)
    request = request.__class__(
        request.messages, response_format=JsonSchema({"type": "object"}, "n", None, "of kari@example.com")
    )
    seen = guard_request(guard, request, PUBLIC, is_local=False, vault=Vault()).request
    assert "kari@" not in repr(seen)
    assert "ask " in repr(seen.messages[0].hints)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_what_would_be_answered_in_a_form_that_is_not_passed_on_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        chat(**fields)
    assert raised.value.param == param


def test_sources_that_a_chat_server_cites_are_passed_on() -> None:
    cited = {"url": "https://x.example/a", "title": "A", "start_index": 0, "end_index": 2}
    message = {
        "role": "assistant",
        "content": "It.",
        "annotations": [{"type": "url_citation", "url_citation": cited}, {"type": "odd"}, 3],
    }
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    assert whole_text(body) is None
    events = DIALECTS["openai"].decode_body(body)
    assert events == [TextDelta("It."), Cited("openai", cited), Finished("stop")]


def test_allowed_tools_of_chat_completions() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")]

    def choice(*names: str, mode: str = "required") -> dict[str, Any]:
        wanted = [{"type": "function", "function": {"name": name}} for name in names]
        return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": wanted}}

    request = chat(tools=tools, tool_choice=choice("a", "c"))
    assert ([tool.name for tool in request.tools], request.tool_choice) == (["a", "c"], "required")
    assert chat(tools=tools, tool_choice=choice("b", mode="auto")).tool_choice == "auto"
    body = {"model": "m", "messages": [USER], "tools": tools, "tool_choice": choice("a")}
    assert not decode_chat(json.dumps(body).encode()).is_plain
    for wrong in (choice("z"), choice(), choice("a", mode="none")):
        with pytest.raises(InvalidRequest) as raised:
            chat(tools=tools, tool_choice=wrong)
        assert str(getattr(raised.value, "param", "")).startswith("tool_choice")


def test_what_is_said_of_a_schema_is_carried_or_named() -> None:
    schema = {"name": "n", "schema": {"type": "object"}, "description": "of a town"}
    request = chat(response_format={"type": "json_schema", "json_schema": schema})
    assert sent(request, "openai")[0]["response_format"]["json_schema"] == schema
    assert sent(request, "responses")[0]["text"]["format"]["description"] == "of a town"
    inner = sent(request, "bedrock")[0]["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert inner["description"] == "of a town"
    for dialect in ("anthropic", "gemini", "ollama"):
        assert "response_format.description" in sent(request, dialect)[1], dialect
    flat = {"type": "json_schema"} | schema
    assert sent(responses(text={"format": flat}), "responses")[0]["text"]["format"] == flat
    assert sent(responses(text={"format": flat}), "openai")[0]["response_format"]["json_schema"] == schema


def test_options_of_a_stream_that_nothing_here_does_are_named() -> None:
    options = {"stream": True, "stream_options": {"include_obfuscation": True}}
    assert sent(chat(**options), "openai")[1] == ("stream_options.include_obfuscation",)
    assert sent(responses(**options), "responses")[1] == ("stream_options.include_obfuscation",)
    assert "stream_options" in sent(chat(**options), "gemini")[1]
    calm = {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert sent(chat(**calm), "openai")[1] == ()


@pytest.mark.parametrize("dialect", OTHERS)
def test_how_closely_a_picture_is_looked_at_is_named(dialect: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "high"}}
    assert "image_url.detail" in sent(chat({"role": "user", "content": [picture]}), dialect)[1]


@pytest.mark.parametrize("dialect", ["anthropic", "gemini", "bedrock"])
def test_a_picture_in_the_words_of_the_system_is_refused_where_they_are_text(dialect: str) -> None:
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    request = chat({"role": "system", "content": [{"type": "text", "text": "t"}, picture]}, USER)
    with pytest.raises(UnsupportedFeature) as raised:
        sent(request, dialect)
    assert raised.value.param == "messages[0].content[1]"


@pytest.mark.parametrize("dialect", ["openai", "responses", "gemini", "bedrock", "ollama"])
def test_reasoning_that_cannot_travel_is_named(dialect: str) -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    request = messages(USER, {"role": "assistant", "content": [thought, {"type": "text", "text": "y"}]}, USER)
    assert "messages[].reasoning" in sent(request, dialect)[1]
    assert sent(request, "anthropic")[1] == ()


def test_a_tool_that_failed_and_its_picture_reach_gemini() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    shown = [{"type": "text", "text": "no"}, {"type": "image", "source": source}]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": shown, "is_error": True}
    request = messages(
        USER,
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
        tools=[{"name": "f", "input_schema": {"type": "object"}}],
    )
    body, dropped = sent(request, "gemini")
    assert dropped == ()
    assert body["contents"][2]["parts"][0]["functionResponse"] == {
        "id": "t1",
        "name": "f",
        "response": {"error": "no"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}],
    }
    older = endpoint("e", "http://x/v1", model="gemini-2.5-flash")
    with pytest.raises(UnsupportedFeature) as raised:
        DIALECTS["gemini"].encode(request, older)
    assert raised.value.param == "messages[2].content[1]"


@pytest.mark.parametrize(
    ("request_", "dialect", "param"),
    [
        (messages(USER, stop_sequences=["END"]), "responses", "stop_sequences"),
        (responses(text={"format": {"type": "json_object"}}), "anthropic", "text.format"),
        (
            responses(tools=[{"type": "function", "name": "f", "parameters": {}, "strict": True}]),
            "ollama",
            "tools[0].strict",
        ),
        (chat(stop=["END"]), "responses", "stop"),
    ],
)
def test_a_refusal_has_the_name_that_the_field_has_for_the_caller(
    request_: ChatRequest, dialect: str, param: str
) -> None:
    values: dict[str, Any] = {"dialect": dialect, "model": MODELS.get(dialect, "m")}
    with pytest.raises(UnsupportedFeature) as raised:
        encoded_for(request_, endpoint("e", "http://x/v1", **values))
    assert raised.value.param == param
    assert raised.value.message.startswith(f"{param}:")


def test_the_phase_of_a_message_goes_back_to_its_own_dialect() -> None:
    said = {"type": "message", "role": "assistant", "content": "Looking.", "phase": "commentary"}
    request = responses({"role": "user", "content": "x"}, said, {"role": "user", "content": "y"})
    assert sent(request, "responses")[0]["input"][1] == {
        "role": "assistant",
        "content": "Looking.",
        "phase": "commentary",
    }
    assert "phase" in sent(request, "openai")[1]
