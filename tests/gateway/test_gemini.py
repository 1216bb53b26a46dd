"""The Gemini API spoken to model servers: golden requests and streams from the documented format."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.gemini import Gemini
from roadbed.gateway.errors import EndpointsThrottled, InvalidChatRequest, UnsupportedFeature, UpstreamError
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
    Part,
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
from roadbed.kernel.secrets import Secret
from roadbed.wire.sse import SseEvent, SseParser

from .conftest import MakeGateway, ask, call, endpoint
from .raw_server import Raw, RawServer

DIALECT = Gemini()


def encode(*messages: Message, model: str = "gemini-2.5-flash", **values: Any) -> dict[str, Any]:
    server = endpoint("g", "http://127.0.0.1:1/v1beta", dialect="gemini", model=model)
    body: dict[str, Any] = json.loads(DIALECT.encode(ChatRequest(messages, **values), server).body)
    return body


def user() -> Message:
    return Message("user", "x")


def stream(*chunks: dict[str, Any]) -> bytes:
    return b"".join(f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks)


def chunk(*parts: dict[str, Any], finish: str = "", **values: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "gemini-2.5-flash", "responseId": "r-1", **values}


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    parser, decoder, events = SseParser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for sse in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(sse)
    decoder.finish()
    return events


def as_turn(events: list[Event]) -> Message:
    """An answer as the turn of a conversation."""
    answer = Answer()
    for event in events:
        answer.add(event)
    text: tuple[Part, ...] = (TextPart(answer.text),) if answer.text else ()
    return Message("assistant", (*answer.sealed, *text), tool_calls=tuple(answer.tool_calls))


def test_a_conversation_with_tools() -> None:
    server = endpoint("g", "http://127.0.0.1:1/v1beta", dialect="gemini", model="gemini-2.5-flash", key=Secret("k-1"))
    encoded = DIALECT.encode(
        ChatRequest(
            messages=(
                Message("system", "Be brief."),
                Message("developer", "Be kind."),
                Message(
                    "user",
                    (
                        TextPart("Look"),
                        ImagePart("data:image/png;base64,QUJD", "high"),
                        ImagePart("https://x.example/a.jpg?w=1"),
                    ),
                    name="ann",
                ),
                Message("assistant", "Now", tool_calls=(ToolCall("t1", "look", '{"a":1}'), ToolCall("t2", "look", ""))),
                Message("tool", "second", tool_call_id="t2"),
                Message("tool", "first", tool_call_id="t1"),
                Message("user", "Go on"),
            ),
            tools=(Tool("look", "Looks", {"type": "object"}), Tool("see")),
            tool_choice=NamedTool("see"),
            max_tokens=100,
            temperature=1.5,
            top_p=0.5,
            stop=("END",),
            response_format=JsonSchema({"type": "object"}),
            passthrough={"seed": 7, "user": "u", "reasoning_effort": "low"},
        ),
        server,
    )
    assert encoded.path == "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert dict(encoded.headers) == {b"content-type": b"application/json", b"x-goog-api-key": b"k-1"}
    assert encoded.dropped == ("messages[].name", "image_url.detail", "user")
    assert json.loads(encoded.body) == {
        "systemInstruction": {"parts": [{"text": "Be brief.\n\nBe kind."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look"},
                    {"inlineData": {"mimeType": "image/png", "data": "QUJD"}},
                    {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.example/a.jpg?w=1"}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "Now"},
                    {"functionCall": {"id": "t1", "name": "look", "args": {"a": 1}}},
                    {"functionCall": {"id": "t2", "name": "look", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "t1", "name": "look", "response": {"output": "first"}}},
                    {"functionResponse": {"id": "t2", "name": "look", "response": {"output": "second"}}},
                    {"text": "Go on"},
                ],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "look", "description": "Looks", "parametersJsonSchema": {"type": "object"}},
                    {"name": "see", "parametersJsonSchema": {"type": "object", "properties": {}}},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["see"]}},
        "generationConfig": {
            "maxOutputTokens": 100,
            "temperature": 1.5,
            "topP": 0.5,
            "stopSequences": ["END"],
            "seed": 7,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
            "thinkingConfig": {"thinkingBudget": 50, "includeThoughts": True},
        },
    }


def test_paths_and_plain_json_mode() -> None:
    tuned = endpoint("g", "http://x", dialect="gemini", model="tunedModels/a b")
    request = ChatRequest((user(),), response_format=JsonSchema())
    encoded = DIALECT.encode(request, tuned, stream=False)
    assert encoded.path == "/tunedModels/a%20b:generateContent"
    assert json.loads(encoded.body)["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("choice", "strict", "expected"),
    [
        (None, None, None),
        ("auto", None, {"mode": "AUTO"}),
        ("none", None, {"mode": "NONE"}),
        ("required", True, {"mode": "ANY"}),
        (None, True, {"mode": "VALIDATED"}),
    ],
)
def test_tool_choices(choice: Any, strict: bool | None, expected: dict[str, Any] | None) -> None:
    body = encode(user(), tools=(Tool("see", strict=strict),), tool_choice=choice)
    assert body.get("toolConfig", {}).get("functionCallingConfig") == expected


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0, "includeThoughts": False}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128, "includeThoughts": False}),
        ("gemini-2.5-pro", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-3-pro-preview", "medium", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-3.1-pro", "medium", {"thinkingLevel": "medium", "includeThoughts": True}),
        ("gemini-3-pro-preview", "minimal", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3-flash-preview", "minimal", {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3-flash-preview", "xhigh", {"thinkingLevel": "high", "includeThoughts": True}),
        ("gemini-2.0-flash", "high", None),
        ("gemini-2.5-flash", "huge", None),
        ("gemini-2.5-flash", {"a": 1}, None),
    ],
)
def test_how_much_to_think(model: str, effort: Any, expected: dict[str, Any] | None) -> None:
    server = endpoint("g", "http://x", dialect="gemini", model=model)
    encoded = DIALECT.encode(ChatRequest((user(),), passthrough={"reasoning_effort": effort}), server)
    assert json.loads(encoded.body).get("generationConfig", {}).get("thinkingConfig") == expected
    assert encoded.dropped == (() if expected else ("reasoning_effort",))


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"passthrough": {"web_search_options": {"x": 1}}}, "web_search_options"),
        ({"passthrough": {"modalities": ["text", "audio"]}}, "modalities"),
        ({"tools": (Tool("a"),), "parallel_tool_calls": False}, "parallel_tool_calls"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(values: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        encode(user(), **values)
    assert raised.value.param == param


def test_parts_that_the_dialect_cannot_say_are_refused_by_their_place() -> None:
    calls = Message("assistant", "", tool_calls=(ToolCall("t", "a", "{}"),))
    for messages, param in (
        ((Message("user", (OtherPart("openai", {"type": "input_audio"}),)),), "messages[0].content[0]"),
        (
            (calls, Message("tool", (ImagePart("data:image/png;base64,QQ=="),), tool_call_id="t")),
            "messages[1].content[0]",
        ),
    ):
        with pytest.raises(UnsupportedFeature) as refused:
            encode(*messages)
        assert refused.value.param == param


@pytest.mark.parametrize(
    ("messages", "values", "param"),
    [
        ((Message("system", "only"),), {}, "messages"),
        ((Message("assistant", "", tool_calls=(ToolCall("t", "a", "[1]"),)),), {},
         "messages[0].tool_calls[0].function.arguments"),
        ((user(), Message("tool", "r", tool_call_id="nobody")), {}, "messages[1].tool_call_id"),
        ((Message("user", (ImagePart("data:image/png,abc"),)),), {}, "messages[0].content[0]"),
        ((user(),), {"passthrough": {"seed": "seven"}}, "seed"),
    ],
)  # fmt: skip
def test_requests_that_are_wrong(messages: tuple[Message, ...], values: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidChatRequest) as raised:
        encode(*messages, **values)
    assert raised.value.param == param


GOLDEN = stream(
    chunk({"text": "Hm. ", "thought": True}, usageMetadata={"promptTokenCount": 10, "totalTokenCount": 10}),
    chunk({"text": "Yes.", "thought": True, "thoughtSignature": "c2ln"}),
    chunk({"text": "Grü"}),
    chunk({"text": "ße"}),
    chunk({"functionCall": {"name": "look", "args": {"a": 1}}, "thoughtSignature": "c2lnMg=="}),
    chunk({"functionCall": {"name": "see", "id": "own-1"}}),
    chunk(
        {"text": "", "thoughtSignature": "c2lnMw=="},
        finish="STOP",
        usageMetadata={
            "promptTokenCount": 10,
            "cachedContentTokenCount": 4,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 30,
            "toolUsePromptTokenCount": 2,
            "totalTokenCount": 62,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
        },
    ),
)


@pytest.mark.parametrize("cut_into", [1, 5, 1 << 20])
def test_a_documented_stream_however_it_is_cut(cut_into: int) -> None:
    def sealed(text: str, **seal: Any) -> ReasoningSealed:
        full = {"sig": "", "on": "thought", "start": 0, "end": 0} | seal
        return ReasoningSealed(ReasoningPart("gemini", text, json.dumps(full, separators=(",", ":"))))

    assert read(GOLDEN, cut_into) == [
        ReasoningDelta("Hm. "),
        UsageReported(Usage(input_uncached=10)),
        ReasoningDelta("Yes."),
        sealed("Hm. Yes.", sig="c2ln"),
        TextDelta("Grü"),
        TextDelta("ße"),
        sealed("", sig="c2lnMg==", on="call"),
        ToolCallDelta(0, "gemini_call_0_r-1", "look", '{"a":1}'),
        ToolCallDelta(1, "own-1", "see", "{}"),
        sealed("", sig="c2lnMw==", on="text", start=5, end=5),
        Finished("tool_calls"),
        UsageReported(Usage(input_uncached=8, cache_read=4, output_visible=20, output_reasoning=30)),
    ]


def test_signatures_go_back_on_their_own_parts() -> None:
    turn = as_turn(read(GOLDEN))
    results = (
        Message("tool", "second", tool_call_id="own-1"),
        Message("tool", "first", tool_call_id="gemini_call_0_r-1"),
    )
    contents = encode(user(), turn, *results, model="gemini-3-pro")["contents"]
    assert contents[1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "Hm. Yes.", "thought": True, "thoughtSignature": "c2ln"},
                {"text": "Grüße"},
                {"text": "", "thoughtSignature": "c2lnMw=="},
                {"functionCall": {"name": "look", "args": {"a": 1}}, "thoughtSignature": "c2lnMg=="},
                {"functionCall": {"name": "see", "args": {}, "id": "own-1"}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "look", "response": {"output": "first"}}},
                {"functionResponse": {"name": "see", "response": {"output": "second"}, "id": "own-1"}},
            ],
        },
    ]


def test_a_signature_in_the_midst_of_a_text_covers_what_it_covered() -> None:
    parts = [{"text": "One. "}, {"text": "Two.", "thoughtSignature": "QQ=="}, {"text": " Three."}]
    turn = as_turn(read(stream(chunk(*parts), chunk(finish="STOP"))))
    assert encode(user(), turn)["contents"][1]["parts"] == parts
    shorter = Message(
        "assistant", (*[part for part in turn.content if isinstance(part, ReasoningPart)], TextPart("On"))
    )
    changed = encode(user(), shorter)["contents"][1]["parts"]
    assert changed == [{"text": "On"}, {"text": "", "thoughtSignature": "QQ=="}], "the text is as the caller gave it"


@pytest.mark.parametrize(
    ("seals", "expected"),
    [
        ([(0, 4)], [("abc", None), ("", "a")]),
        ([(1, 3), (2, 3)], [("a", None), ("bc", "a"), ("", "b")]),
        ([(2, 9)], [("abc", None), ("", "a")]),
    ],
)
def test_seals_that_do_not_fit_sign_an_empty_part(
    seals: list[tuple[int, int]], expected: list[tuple[str, str | None]]
) -> None:
    sealed = [
        ReasoningPart("gemini", "", json.dumps({"sig": sig, "on": "text", "start": start, "end": end}))
        for sig, (start, end) in zip("ab", seals, strict=False)
    ]
    parts = encode(Message("user", (TextPart(""), TextPart("x"))), Message("assistant", (*sealed, TextPart("abc"))))
    assert parts["contents"][0]["parts"] == [{"text": "x"}]
    found = [(part["text"], part.get("thoughtSignature")) for part in parts["contents"][1]["parts"]]
    assert found == expected


def test_seals_of_others_are_left_out_and_calls_of_others_are_marked_for_new_models() -> None:
    foreign = (ReasoningPart("anthropic", "Hm", "sig"), ReasoningPart("gemini", "", "no json"))
    turn = Message("assistant", foreign, tool_calls=(ToolCall("t1", "a", "{}"), ToolCall("t2", "b", "{}")))
    old = encode(user(), turn)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in old] == [None, None]
    new = encode(user(), turn, model="gemini-3-flash-preview")["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in new] == ["skip_thought_signature_validator", None]


TEXTS = st.lists(st.tuples(st.text(max_size=6), st.sampled_from(["", "QQ==", "Qg=="])), max_size=5)


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_any_signed_texts_come_back_whole_and_in_order(pieces: list[tuple[str, str]]) -> None:
    parts = [{"text": text, "thoughtSignature": sig} if sig else {"text": text} for text, sig in pieces]
    turn = as_turn(read(stream(chunk(*parts), chunk(finish="STOP"))))
    if not turn.content:
        return
    back = encode(user(), turn)["contents"][1]["parts"]
    assert "".join(part["text"] for part in back) == "".join(text for text, _ in pieces)
    signed = [(part["text"], part["thoughtSignature"]) for part in back if "thoughtSignature" in part]
    assert signed == [(text, sig) for text, sig in pieces if sig]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
    ],
)
def test_finish_reasons(word: str, reason: str) -> None:
    assert read(stream(chunk(finish=word))) == [Finished(reason)]  # type: ignore[arg-type]


def test_a_blocked_prompt_is_filtered() -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}
    expected = [Finished("content_filter"), UsageReported(Usage(input_uncached=3))]
    assert read(stream(blocked)) == expected
    assert DIALECT.decode_body(json.dumps(blocked).encode()) == expected


def test_an_answer_is_over_with_its_last_counts() -> None:
    decoder = DIALECT.decoder()
    decoder.feed(SseEvent(json.dumps(chunk({"text": "a"}, usageMetadata={"promptTokenCount": 1})).encode()))
    assert not decoder.is_over
    decoder.feed(SseEvent(json.dumps(chunk(finish="STOP", usageMetadata={"promptTokenCount": 1})).encode()))
    assert decoder.is_over


@pytest.mark.parametrize(
    ("chunks", "failure"),
    [
        ([chunk({"text": "half"})], "fault"),
        ([chunk({"text": "a"}, finish="MALFORMED_FUNCTION_CALL")], "fault"),
        ([chunk(finish="UNEXPECTED_TOOL_CALL")], "fault"),
        ([chunk(finish="TOO_MANY_TOOL_CALLS")], "fault"),
        ([chunk(finish="OTHER")], "fault"),
        ([chunk({"functionCall": {"args": {}}})], "fault"),
        ([chunk({"functionCall": {"name": "a", "args": [1]}})], "fault"),
        ([chunk({"inlineData": {"data": "QQ=="}})], "fault"),
        ([chunk(*[{"functionCall": {"name": "a"}}] * 129)], "fault"),
        ([chunk({"text": "a"}), {"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}], "overload"),
        ([{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}], "rate"),
        ([{"candidates": 7}], "fault"),
    ],
)
def test_an_answer_that_its_server_did_not_end_never_looks_complete(chunks: list[Any], failure: str) -> None:
    with pytest.raises(UpstreamError) as raised:
        read(stream(*chunks))
    assert raised.value.failure == failure


def test_a_second_candidate_and_counts_told_twice_give_nothing() -> None:
    counts = {"promptTokenCount": 3}
    other = {"content": {"parts": [{"text": "other"}]}, "index": 1, "finishReason": "STOP"}
    first = chunk({"text": "a"}, usageMetadata=counts)
    first["candidates"].append(other)
    assert read(stream(first, chunk({"text": "b"}, usageMetadata=counts), chunk(finish="STOP"))) == [
        TextDelta("a"),
        UsageReported(Usage(input_uncached=3)),
        TextDelta("b"),
        Finished("stop"),
    ]


def test_a_whole_answer() -> None:
    body = chunk({"text": "Hi"}, finish="STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2})
    assert DIALECT.decode_body(json.dumps(body).encode()) == [
        TextDelta("Hi"),
        Finished("stop"),
        UsageReported(Usage(input_uncached=3, output_visible=2)),
    ]
    with pytest.raises(UpstreamError) as raised:
        DIALECT.decode_body(b'[{"error": {"code": 500, "status": "INTERNAL", "message": "x"}}]')
    assert raised.value.status == 500


NAMES = [
    "candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "name", "args", "id",
    "finishReason", "promptFeedback", "blockReason", "usageMetadata", "promptTokenCount", "error", "index", "status",
    "details", "violations", "quotaId", "reason", "retryDelay",
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 300) | st.text(max_size=8) | st.sampled_from(["STOP", "UNAVAILABLE"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
CANDIDATES = st.fixed_dictionaries({"candidates": st.lists(st.fixed_dictionaries({"content": JSON}), max_size=2)})


@given(st.lists((JSON | CANDIDATES).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_events_or_a_typed_error(events: list[bytes]) -> None:
    decoder = DIALECT.decoder()
    try:
        for data in events:
            decoder.feed(SseEvent(data))
    except UpstreamError:
        pass
    for data in events:
        with contextlib.suppress(UpstreamError):
            DIALECT.decode_body(data)


@given(st.text(max_size=40) | JSON.map(json.dumps))
@settings(max_examples=100, deadline=None)
def test_any_seal_of_a_caller_is_read_or_left_out(seal: str) -> None:
    turn = Message("assistant", (ReasoningPart("gemini", "t", seal), TextPart("Hi")))
    assert (
        "".join(part["text"] for part in encode(user(), turn)["contents"][1]["parts"] if "thought" not in part) == "Hi"
    )


async def test_an_answer_comes_through_the_gateway(gateway_of: MakeGateway) -> None:
    async with RawServer([Raw(GOLDEN, "text/event-stream; charset=UTF-8")]) as server:
        target = endpoint("g", f"{server.root}/v1beta", dialect="gemini", model="gemini-2.5-flash", key=Secret("k-1"))
        answer, outcome = await gateway_of(target).complete("smart", ask(), call())
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Grüße", "Hm. Yes.", "tool_calls")
    assert [tool.name for tool in answer.tool_calls] == ["look", "see"]
    assert len(answer.sealed) == 3
    assert outcome.usage == Usage(input_uncached=8, cache_read=4, output_visible=20, output_reasoning=30)
    asked = server.requests[0]
    assert asked.target == "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
    assert asked.headers["x-goog-api-key"] == "k-1"
    assert asked.body["contents"] == [{"role": "user", "parts": [{"text": "Say something"}]}]


async def test_a_malformed_call_is_tried_again_and_a_spent_minute_is_told(gateway_of: MakeGateway) -> None:
    kind = "text/event-stream"
    broken = Raw(stream(chunk(finish="MALFORMED_FUNCTION_CALL")), kind)
    async with RawServer([broken, Raw(stream(chunk({"text": "Hi"}, finish="STOP")), kind)]) as server:
        target = endpoint("g", server.root, dialect="gemini", model="m")
        answer, outcome = await gateway_of(target).complete("smart", ask(), call())
    assert (answer.text, [attempt.failure for attempt in outcome.attempts]) == ("Hi", ["fault", ""])
    error = {
        "code": 429,
        "message": "You exceeded your current quota, please check your plan and billing details.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22.5s"},
        ],
    }
    async with RawServer([Raw(json.dumps({"error": error}).encode(), status=429)]) as server:
        target = endpoint("g", server.root, dialect="gemini", model="m")
        with pytest.raises(EndpointsThrottled) as raised:
            await gateway_of(target).complete("smart", ask(), call())
    assert raised.value.retry_after_s == pytest.approx(22.5, abs=5)
