"""Bedrock's Converse: golden requests and streams from the documented format, and the dialect behind the gateway."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.credentials import AwsCredentials
from roadbed.gateway.dialects.bedrock import BedrockConverse
from roadbed.gateway.dialects.sigv4 import SignedParts, sign
from roadbed.gateway.endpoints import Endpoint, endpoint_from_config
from roadbed.gateway.errors import (
    EndpointsFailed,
    EndpointsThrottled,
    InvalidChatRequest,
    RejectedByEndpoint,
    StreamCut,
    UnsupportedFeature,
    UpstreamError,
)
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    Event,
    Finished,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    TextPart,
    Tool,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.kernel.errors import ConfigError
from roadbed.kernel.secrets import Secret
from roadbed.testing.scripted_model import LoggedRequest, Rule, ScriptedModel
from roadbed.testing.scripted_reply import Reply
from roadbed.wire.sse import SseEvent

from .conftest import MakeGateway, MovableClock, ask, call, endpoint
from .event_frames import encode_event_frame

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
PATH = "/model/anthropic.claude-3-haiku-20240307-v1%3A0"
KEYS = AwsCredentials(Secret("AKIDEXAMPLE"), Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), Secret("token+/="))
DIALECT = BedrockConverse(MovableClock())
SERVER = endpoint("a", "http://127.0.0.1:1", dialect="bedrock", model=MODEL, key=Secret("k-1"))
LOOK = Tool("look", "Looks", {"type": "object"})


def encode(*messages: Message, **values: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(DIALECT.encode(ChatRequest(messages, **values), SERVER).body)
    return body


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    return b"".join(encode_event_frame(kind, json.dumps(body).encode()) for kind, body in events)


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    parser, decoder, events = DIALECT.parser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for frame in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(frame)
    decoder.finish()
    return events


def test_a_conversation_with_tools() -> None:
    encoded = DIALECT.encode(
        ChatRequest(
            messages=(
                Message("system", "Be brief."),
                Message("developer", (TextPart("Be kind."), OtherPart("bedrock", {"cachePoint": {"type": "default"}}))),
                Message("user", (TextPart("Look"), ImagePart("data:image/png;base64,QUJD"), TextPart(" \n"))),
                Message(
                    "assistant",
                    (
                        ReasoningPart("bedrock", "Hm.", "sig"),
                        ReasoningPart("bedrock", seal="redacted:QUJD"),
                        ReasoningPart("anthropic", "Foreign.", "other"),
                        TextPart("Now"),
                    ),
                    tool_calls=(ToolCall("t1", "look", '{"a":1}'), ToolCall("call/2", "see", "")),
                ),
                Message("tool", "found", tool_call_id="t1"),
                Message("user", "Go on"),
                Message("tool", "", tool_call_id="call/2", is_error=True),
            ),
            tools=(LOOK, Tool("see", strict=True)),
            tool_choice="required",
            parallel_tool_calls=False,
            stop=("END",),
            temperature=1.5,
            top_p=0.5,
            response_format=JsonSchema({"type": "object"}, name="thing"),
            passthrough={"seed": 7, "user": "u", "reasoning_effort": "low"},
        ),
        SERVER,
    )
    assert encoded.path == f"{PATH}/converse-stream"
    assert dict(encoded.headers) == {
        b"content-type": b"application/json",
        b"accept": b"application/vnd.amazon.eventstream",
        b"authorization": b"Bearer k-1",
    }
    assert encoded.dropped[0] == "messages[].reasoning"
    assert encoded.dropped[1:] == ("seed", "user", "temperature above 1", "parallel_tool_calls")
    other = "call_2_82bbcd87"
    schema = {"schema": '{"type":"object"}', "name": "thing"}
    assert json.loads(encoded.body) == {
        "system": [{"text": "Be brief."}, {"text": "Be kind."}, {"cachePoint": {"type": "default"}}],
        "inferenceConfig": {"maxTokens": 4096, "temperature": 1.0, "topP": 0.5, "stopSequences": ["END"]},
        "outputConfig": {
            "effort": "low",
            "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}},
        },
        "toolConfig": {
            "tools": [
                {"toolSpec": {"name": "look", "description": "Looks", "inputSchema": {"json": {"type": "object"}}}},
                {
                    "toolSpec": {
                        "name": "see",
                        "inputSchema": {"json": {"type": "object", "properties": {}}},
                        "strict": True,
                    }
                },
            ],
            "toolChoice": {"any": {}},
        },
        "messages": [
            {
                "role": "user",
                "content": [{"text": "Look"}, {"image": {"format": "png", "source": {"bytes": "QUJD"}}}],
            },
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
                    {"reasoningContent": {"redactedContent": "QUJD"}},
                    {"text": "Now"},
                    {"toolUse": {"toolUseId": "t1", "name": "look", "input": {"a": 1}}},
                    {"toolUse": {"toolUseId": other, "name": "see", "input": {}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "t1", "content": [{"text": "found"}]}},
                    {"toolResult": {"toolUseId": other, "content": [], "status": "error"}},
                    {"text": "Go on"},
                ],
            },
        ],
    }


def test_a_whole_answer_is_asked_for_at_its_own_address() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x"
    server = endpoint("a", "http://127.0.0.1:1", dialect="bedrock", model=arn)
    encoded = DIALECT.encode(ask(max_tokens=7), server, stream=False)
    assert encoded.path == ("/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x/converse")
    assert json.loads(encoded.body)["inferenceConfig"] == {"maxTokens": 7}
    assert b"authorization" not in dict(encoded.headers)


def test_a_request_is_signed_with_the_endpoints_credentials() -> None:
    url = "https://vpce.example:8443/bedrock"
    server = endpoint("a", url, dialect="bedrock", model=MODEL, aws=KEYS, region="eu-central-1")
    encoded = DIALECT.encode(ask(), server)
    parts = SignedParts(
        "POST",
        "vpce.example:8443",
        f"/bedrock{PATH}/converse-stream",
        headers=((b"content-type", b"application/json"),),
        body=encoded.body,
    )
    signed = sign(parts, KEYS, region="eu-central-1", service="bedrock", at=MovableClock().wall())
    assert encoded.headers[-3:] == signed
    assert dict(signed)[b"x-amz-date"] == b"20260101T000000Z"
    assert dict(signed)[b"x-amz-security-token"] == b"token+/="


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        (NamedTool("look"), {"tool": {"name": "look"}}),
    ],
)
def test_tool_choices(choice: Any, expected: dict[str, Any] | None) -> None:
    body = encode(Message("user", "x"), tools=(LOOK,), tool_choice=choice)
    assert body["toolConfig"].get("toolChoice") == expected


def test_no_tool_shall_be_called() -> None:
    encoded = DIALECT.encode(ask(tools=(LOOK,), tool_choice="none"), SERVER)
    assert "toolConfig" not in json.loads(encoded.body)
    assert encoded.dropped == ("tools",)


CALLED = (
    Message("user", "x"),
    Message("assistant", tool_calls=(ToolCall("t", "look", "{}"),)),
    Message("tool", "y", tool_call_id="t"),
)


@pytest.mark.parametrize(
    ("messages", "values", "param"),
    [
        (CALLED, {"tools": (LOOK,), "tool_choice": "none"}, "tool_choice"),
        (CALLED, {}, "tools"),
        ((Message("user", "x"),), {"tools": (Tool("a.b"),)}, "tools[0]"),
        ((Message("user", "x"),), {"tools": (Tool("a" * 65),)}, "tools[0]"),
        ((Message("user", "x"),), {"response_format": JsonSchema()}, "response_format"),
        ((Message("user", "x"),), {"passthrough": {"web_search_options": {"x": 1}}}, "web_search_options"),
        ((Message("user", "x"),), {"passthrough": {"modalities": ["text", "audio"]}}, "modalities"),
        ((Message("user", (ImagePart("https://x.example/a.png"),)),), {}, "messages[0].content[0]"),
        ((Message("user", (ImagePart("data:image/bmp;base64,QUJD"),)),), {}, "messages[0].content[0]"),
        ((Message("user", (OtherPart("openai", {"type": "file"}),)),), {}, "messages[0].content[0]"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(
    messages: tuple[Message, ...], values: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        encode(*messages, **values)
    assert raised.value.param == param


def test_requests_that_the_dialect_cannot_say() -> None:
    with pytest.raises(InvalidChatRequest):
        encode(Message("system", "only"))
    with pytest.raises(InvalidChatRequest) as raised:
        encode(Message("assistant", "", tool_calls=(ToolCall("t", "a", "[1]"),)), tools=(LOOK,))
    assert raised.value.param == "messages[0].tool_calls[0].function.arguments"
    with pytest.raises(InvalidChatRequest):
        encode(Message("user", (ImagePart("data:image/png,abc"),)))


def delta(index: int, **content: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": content}


def stop(index: int) -> tuple[str, dict[str, Any]]:
    return "contentBlockStop", {"contentBlockIndex": index}


def tool(index: int, id: str, name: str) -> tuple[str, dict[str, Any]]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": id, "name": name}}}


START = ("messageStart", {"role": "assistant"})
USAGE = {
    "inputTokens": 10,
    "outputTokens": 20,
    "totalTokens": 45,
    "cacheReadInputTokens": 5,
    "cacheWriteInputTokens": 10,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 4}, {"ttl": "5m", "inputTokens": 6}],
}
METADATA = ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 7}})
STREAM = (
    START,
    delta(0, reasoningContent={"text": "Hm."}),
    delta(0, reasoningContent={"signature": "abc"}),
    stop(0),
    delta(1, reasoningContent={"redactedContent": "QUI="}),
    delta(1, reasoningContent={"redactedContent": "Q0Q="}),
    stop(1),
    delta(2, text="Grüße"),
    stop(2),
    tool(3, "t1", "look"),
    delta(3, toolUse={"input": ""}),
    delta(3, toolUse={"input": '{"a":'}),
    delta(3, toolUse={"input": "1}"}),
    stop(3),
    tool(4, "t2", "see"),
    stop(4),
    ("brandNewEvent", {"anything": 1}),
    ("messageStop", {"stopReason": "tool_use"}),
    METADATA,
)
GOLDEN = frames(*STREAM)


@pytest.mark.parametrize("cut_into", [1, 5, 1 << 20])
def test_a_documented_stream_however_it_is_cut(cut_into: int) -> None:
    assert read(GOLDEN, cut_into) == [
        ReasoningDelta("Hm."),
        ReasoningSealed(ReasoningPart("bedrock", "Hm.", "abc")),
        ReasoningSealed(ReasoningPart("bedrock", seal="redacted:QUJDRA==")),
        TextDelta("Grüße"),
        ToolCallDelta(0, "t1", "look"),
        ToolCallDelta(0, arguments='{"a":'),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, "t2", "see"),
        ToolCallDelta(1, arguments="{}"),
        Finished("tool_calls"),
        UsageReported(Usage(10, 5, 6, 4, output_visible=20)),
    ]


def test_sealed_reasoning_goes_back_as_it_came() -> None:
    answer = Answer()
    for event in read(GOLDEN):
        answer.add(event)
    body = encode(Message("user", "x"), Message("assistant", tuple(answer.sealed)), Message("user", "y"))
    assert body["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}},
        {"reasoningContent": {"redactedContent": "QUJDRA=="}},
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, Usage(3, output_visible=2)),
        ({"inputTokens": 9, "outputTokens": 2, "totalTokens": 11, "cacheReadInputTokens": 5}, Usage(4, 5, 0, 0, 2)),
        ({"inputTokens": 3, "outputTokens": 2, "totalTokens": 5, "cacheReadInputTokens": 5}, Usage(3, 5, 0, 0, 2)),
        ({"inputTokens": 3, "outputTokens": 2}, Usage(3, output_visible=2)),
    ],
    ids=["no cache", "cached input is counted in", "it is not, nor in the total", "no total"],
)
def test_classes_of_tokens_are_disjoint(given: dict[str, int], expected: Usage) -> None:
    events = read(frames(("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": given})))
    assert events == [Finished("stop"), UsageReported(expected)]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("content_filtered", "content_filter"),
        ("guardrail_intervened", "content_filter"),
    ],
)
def test_stop_reasons(word: str, reason: str) -> None:
    assert read(frames(("messageStop", {"stopReason": word}), METADATA))[0] == Finished(reason)  # type: ignore[arg-type]


def exception(name: str, message: str = "x") -> tuple[str, dict[str, Any]]:
    return f"exception:{name}", {"message": message}


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([START, delta(0, text="half")], "fault"),
        ([START, delta(0, text="half"), ("messageStop", {"stopReason": "end_turn"})], "fault"),
        ([START, METADATA], "fault"),
        ([("messageStop", {"stopReason": "malformed_tool_use"}), METADATA], "fault"),
        ([("messageStop", {"stopReason": "malformed_model_output"}), METADATA], "fault"),
        ([START, exception("throttlingException")], "rate"),
        ([START, exception("modelStreamErrorException")], "fault"),
        ([START, exception("internalServerException")], "fault"),
        ([START, exception("serviceUnavailableException")], "overload"),
        ([START, exception("validationException")], "client"),
        ([START, exception("validationException", "Input is too long for requested model.")], "context"),
        ([delta(0, toolUse={"input": "{}"})], "fault"),
        ([tool(0, "t", "")], "fault"),
        ([delta(0, reasoningContent={"redactedContent": "!"})] * 2 + [stop(0)], "fault"),
    ],
)
def test_an_answer_that_its_server_did_not_end_never_looks_complete(events: list[Any], failure: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        read(frames(*events))
    assert raised.value.failure == failure


WHOLE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "abc"}}},
                {"text": "Hi"},
                {"toolUse": {"toolUseId": "t", "name": "a", "input": {"x": 1}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
}


def test_a_whole_answer() -> None:
    assert DIALECT.decode_body(json.dumps(WHOLE).encode()) == [
        ReasoningDelta("Hm."),
        ReasoningSealed(ReasoningPart("bedrock", "Hm.", "abc")),
        TextDelta("Hi"),
        ToolCallDelta(0, "t", "a"),
        ToolCallDelta(0, arguments='{"x":1}'),
        Finished("tool_calls"),
        UsageReported(Usage(input_uncached=3, output_visible=2)),
    ]


WORDS = [
    "contentBlockIndex", "delta", "start", "text", "toolUse", "input", "name", "toolUseId", "reasoningContent",
    "signature", "redactedContent", "stopReason", "usage", "inputTokens", "output", "message", "content",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=8) | st.just("end_turn"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(
    ["contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "exception:x", "ping"]
)


@given(st.lists(st.tuples(KINDS, JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))))
@settings(max_examples=200, deadline=None)
def test_any_events_give_events_or_a_typed_error(events: list[tuple[str, bytes]]) -> None:
    decoder = DIALECT.decoder()
    with contextlib.suppress(UpstreamError):
        for kind, data in events:
            decoder.feed(SseEvent(data, kind.encode()))
    for _, data in events:
        with contextlib.suppress(UpstreamError):
            DIALECT.decode_body(data)


# The manifest.


def built(base: Path | None = None, **values: Any) -> Endpoint:
    config = EndpointConfig("bedrock", MODEL, **values)
    return endpoint_from_config("b", config, prices=shipped_prices(), base=base)


def test_the_usual_variables_are_used_when_no_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert "AWS_ACCESS_KEY_ID" in built(region="eu-central-1").fault
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    found = built(region="eu-central-1")
    assert (found.url, found.fault) == ("https://bedrock-runtime.eu-central-1.amazonaws.com", "")
    assert found.aws is not None
    assert (found.aws.secret_key.reveal(), found.aws.session_token) == ("secret-1", None)
    assert "secret-1" not in repr(found)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-1")
    found = built(region="eu-central-1")
    assert found.aws is not None
    assert found.aws.session_token is not None
    with_key = built(region="eu-central-1", key="env:AWS_SECRET_ACCESS_KEY")
    assert with_key.aws is None, "a bearer key needs no signature"


def test_references_to_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "not this one")
    (tmp_path / "id").write_text("AKID\n")
    (tmp_path / "secret").write_text("secret-1\n")
    found = built(tmp_path, region="us-east-1", access_key="file:id", secret_key="file:secret")
    assert found.aws is not None
    assert (found.aws.access_key.reveal(), found.aws.session_token) == ("AKID", None)
    (tmp_path / "id").write_text("AK\r\nx-injected: 1")
    broken = built(tmp_path, region="us-east-1", access_key="file:id", secret_key="file:secret")
    assert "characters" in broken.fault


def test_the_region_is_declared_or_named_by_the_address() -> None:
    address = "https://bedrock-runtime.ap-southeast-2.amazonaws.com"
    assert built(url=address, key="env:HOME").region == "ap-southeast-2"
    assert built(url="https://vpce.example", region="us-gov-west-1", key="env:HOME").region == "us-gov-west-1"
    wrong: list[dict[str, Any]] = [{}, {"url": "https://vpce.example"}, {"region": "europe"}]
    for values in wrong:
        with pytest.raises(ConfigError, match="region"):
            built(**values)
    with pytest.raises(ConfigError, match="together"):
        built(region="us-east-1", access_key="env:HOME")
    config = EndpointConfig("openai", "m", access_key="env:HOME", secret_key="env:HOME")
    with pytest.raises(ConfigError, match="access_key"):
        endpoint_from_config("b", config, prices=shipped_prices())


# Behind the gateway, over real HTTP.


def bedrock(model: ScriptedModel, **values: Any) -> Endpoint:
    fields: dict[str, Any] = {"aws": KEYS, "region": "eu-central-1"} | values
    return endpoint("a", model.root, dialect="bedrock", model=MODEL, **fields)


def streamed(*events: tuple[str, dict[str, Any]]) -> Reply:
    return Reply(body=frames(*events), headers={"content-type": "application/vnd.amazon.eventstream"})


def failing(status: int, kind: str, message: str = "x") -> Reply:
    headers = {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/"}
    return Reply(status=status, headers=headers, body=json.dumps({"message": message}).encode())


async def test_an_answer_streams_through_the_gateway(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.posts = {f"{PATH}/converse-stream": streamed(*STREAM)}
    async with gateway_of(bedrock(first)).stream("smart", ask(tools=(LOOK,)), call()) as stream:
        answer = await stream.answer()
    assert (answer.text, answer.finish_reason) == ("Grüße", "tool_calls")
    assert answer.tool_calls == [ToolCall("t1", "look", '{"a":1}'), ToolCall("t2", "see", "{}")]
    assert stream.outcome.usage == Usage(10, 5, 6, 4, output_visible=20)
    sent = first.chats[0]
    assert sent.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert "/eu-central-1/bedrock/aws4_request" in sent.headers["authorization"]
    assert sent.headers["x-amz-security-token"] == "token+/="


async def test_a_server_that_answers_whole_is_understood(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    first.posts = {f"{PATH}/converse-stream": Reply(body=json.dumps(WHOLE).encode())}
    answer, _ = await gateway_of(bedrock(first)).complete("smart", ask(), call())
    assert (answer.text, answer.reasoning) == ("Hi", "Hm.")


@pytest.mark.parametrize(
    ("reply", "failure"),
    [
        (failing(429, "ThrottlingException"), "rate"),
        (failing(429, "ModelNotReadyException"), "overload"),
        (failing(403, "ExpiredTokenException"), "auth"),
        (failing(408, "ModelTimeoutException"), "timeout"),
        (failing(424, "ModelErrorException"), "fault"),
        (failing(400, "ServiceQuotaExceededException"), "quota"),
        (streamed(START, exception("serviceUnavailableException")), "overload"),
        (streamed(START), "fault"),
        (Reply(body=GOLDEN[:40] + b"!" + GOLDEN[41:], headers={"content-type": DIALECT.stream_type.decode()}), "fault"),
        (Reply(body=b"", headers={"content-type": DIALECT.stream_type.decode()}), "fault"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_fails_before_the_first_word_is_recovered_by_the_next(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel, reply: Reply, failure: str
) -> None:
    first.posts = {f"{PATH}/converse-stream": reply}
    second.script(Rule("", Reply(text="All is well.")))
    answer, outcome = await gateway_of(bedrock(first), endpoint("b", second.url)).complete("smart", ask(), call())
    assert answer.text == "All is well."
    assert outcome.attempts[0].failure == failure


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (failing(429, "ThrottlingException"), EndpointsThrottled),
        (failing(403, "AccessDeniedException"), EndpointsFailed),
        (failing(400, "ValidationException"), RejectedByEndpoint),
    ],
)
async def test_what_the_caller_is_told(
    gateway_of: MakeGateway, first: ScriptedModel, reply: Reply, error: type[Exception]
) -> None:
    first.posts = {f"{PATH}/converse-stream": reply}
    with pytest.raises(error):
        await gateway_of(bedrock(first)).complete("smart", ask(), call())


@pytest.mark.parametrize(
    "end", [[], [("messageStop", {"stopReason": "end_turn"})], [exception("modelStreamErrorException")]]
)
async def test_an_answer_that_breaks_off_is_a_cut(gateway_of: MakeGateway, first: ScriptedModel, end: Any) -> None:
    first.posts = {f"{PATH}/converse-stream": streamed(START, delta(0, text="half of it"), *end)}
    stream = gateway_of(bedrock(first)).stream("smart", ask(), call())
    with pytest.raises(StreamCut):
        await stream.answer()
    assert (stream.outcome.is_complete, stream.outcome.finish_reason) == (False, None)


async def test_broken_frames_at_the_very_end_are_a_failure_too(
    gateway_of: MakeGateway, first: ScriptedModel, second: ScriptedModel
) -> None:
    second.script(Rule("", Reply(text="All is well.")))
    broken = frames(START) + b"\0" * 16
    first.posts = {f"{PATH}/converse-stream": Reply(body=broken, headers=streamed().headers)}
    gateway = gateway_of(bedrock(first), endpoint("b", second.url))
    answer, outcome = await gateway.complete("smart", ask(), call())
    assert (answer.text, outcome.attempts[0].reason) == (
        "All is well.",
        "its answer is malformed: the checksum of a frame's lengths is wrong",
    )


async def test_a_cloud_sees_no_personal_data_and_the_caller_does(gateway_of: MakeGateway, first: ScriptedModel) -> None:
    def echo(request: LoggedRequest) -> Reply:
        text = request.json["messages"][0]["content"][0]["text"]
        return streamed(START, delta(0, text=text), ("messageStop", {"stopReason": "end_turn"}), METADATA)

    first.posts = {f"{PATH}/converse-stream": echo}
    gateway = gateway_of(bedrock(first, is_local=False))
    answer, _ = await gateway.complete("smart", ask("mail kari.nordmann@example.com"), call())
    assert answer.text == "mail kari.nordmann@example.com"
    assert b"kari.nordmann" not in first.chats[0].body
