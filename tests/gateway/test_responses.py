"""OpenAI's Responses API spoken to model servers: golden requests and recordings from the documented format, and
peers that leave events out.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.registry import DIALECTS
from roadbed.gateway.dialects.responses import Responses
from roadbed.gateway.dialects.responses_reasoning import wrap
from roadbed.gateway.dialects.responses_server import ResponsesCaller
from roadbed.gateway.endpoints import endpoint_from_config
from roadbed.gateway.errors import FailureClass, UnsupportedFeature, UpstreamError
from roadbed.gateway.manifest import EndpointConfig
from roadbed.gateway.prices import shipped_prices
from roadbed.gateway.types import (
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
    RefusalDelta,
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

from .conftest import MakeGateway, ask, endpoint
from .conftest import call as new_call

DIALECT = Responses()
SERVER = endpoint("a", "http://127.0.0.1:1/v1", dialect="responses", key=Secret("sk-1"))
ITEM = {
    "type": "reasoning",
    "id": "rs_68af",
    "summary": [{"type": "summary_text", "text": "**Looking**"}, {"type": "summary_text", "text": "Then seeing."}],
    "encrypted_content": "gAAAAABo-r5eQ==",
}
SEALED = ReasoningPart("responses", "**Looking**\n\nThen seeing.", json.dumps(ITEM, separators=(",", ":")))


def encode(*messages: Message, **values: Any) -> dict[str, Any]:
    values = {"passthrough_dialect": "responses"} | values
    body: dict[str, Any] = json.loads(DIALECT.encode(ChatRequest(messages, **values), SERVER).body)
    return body


def recording(*events: dict[str, Any]) -> bytes:
    """A stream as the documentation shows it."""
    numbered = [{"sequence_number": number} | event for number, event in enumerate(events)]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in numbered)


def read(data: bytes, cut_into: int = 1 << 20) -> list[Event]:
    parser, decoder, events = SseParser(), DIALECT.decoder(), []
    for start in range(0, len(data), cut_into):
        for sse in parser.feed(data[start : start + cut_into]):
            events += decoder.feed(sse)
    for sse in parser.finish():
        events += decoder.feed(sse)
    decoder.finish()
    assert decoder.is_over
    return events


def response(status: str, output: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "error": None}
    return head | {"incomplete_details": None, "output": output, "usage": None} | values


def message(text: str, *, status: str = "completed") -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}


def call(number: int, arguments: str, /, **values: Any) -> dict[str, Any]:
    fields = {"id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": f"call_{number}"}
    return fields | {"name": "look", "arguments": arguments} | values


def event(name: str, output: int = 0, /, **values: Any) -> dict[str, Any]:
    return {"type": f"response.{name}", "output_index": output, "item_id": "x"} | values


CREATED = {"type": "response.created", "response": response("in_progress", [])}
IN_PROGRESS = {"type": "response.in_progress", "response": response("in_progress", [])}
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 15},
    "total_tokens": 120,
}
TEXT = (
    CREATED,
    IN_PROGRESS,
    event("output_item.added", item=message("") | {"content": []}),
    event("content_part.added", content_index=0, part={"type": "output_text", "text": "", "annotations": []}),
    event("output_text.delta", content_index=0, delta="Hel", logprobs=[]),
    event("output_text.delta", content_index=0, delta="lo æ", logprobs=[]),
    event("output_text.done", content_index=0, text="Hello æ", logprobs=[]),
    event("content_part.done", content_index=0, part={"type": "output_text", "text": "Hello æ", "annotations": []}),
    event("output_item.done", item=message("Hello æ")),
    {"type": "response.completed", "response": response("completed", [message("Hello æ")], usage=USAGE)},
)
TOOLS = (
    CREATED,
    event("output_item.added", 0, item=ITEM | {"summary": [], "encrypted_content": "gAA"}),
    event("reasoning_summary_part.added", 0, summary_index=0, part={"type": "summary_text", "text": ""}),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="**Loo"),
    event("reasoning_summary_text.delta", 0, summary_index=0, delta="king**"),
    event("reasoning_summary_text.done", 0, summary_index=0, text="**Looking**"),
    event("reasoning_summary_text.delta", 0, summary_index=1, delta="Then seeing."),
    event("output_item.done", 0, item=ITEM | {"status": None}),
    event("output_item.added", 1, item=call(1, "", status="in_progress")),
    event("function_call_arguments.delta", 1, delta='{"a":'),
    event("output_item.added", 2, item=call(2, "", name="see", status="in_progress")),
    event("function_call_arguments.delta", 2, delta="{}"),
    event("function_call_arguments.delta", 1, delta="1}"),
    event("function_call_arguments.done", 1, name="look", arguments='{"a":1}'),
    event("function_call_arguments.done", 2, name="see", arguments="{}"),
    event("output_item.done", 1, item=call(1, '{"a":1}')),
    event("output_item.done", 2, item=call(2, "{}", name="see")),
    {"type": "response.completed", "response": response("completed", [ITEM, call(1, '{"a":1}')], usage=USAGE)},
)
USED = UsageReported(Usage(30, 60, 10, 0, 5, 15))


# Requests.


def test_a_conversation_with_everything() -> None:
    request = ChatRequest(
        messages=(
            Message("system", "Be brief"),
            Message("user", (TextPart("What is this?"), ImagePart("https://x.example/a.png", "low"))),
            Message("assistant", (SEALED, TextPart("Let me see.")), tool_calls=(ToolCall("c1", "look", '{"a":1}'),)),
            Message("tool", "found", tool_call_id="c1"),
            Message("user", (OtherPart("responses", {"type": "input_file", "file_data": "data:,x"}),)),
        ),
        tools=(Tool("look", "Looks", {"type": "object"}, True), Tool("see")),
        tool_choice=NamedTool("look"),
        parallel_tool_calls=False,
        max_tokens=100,
        temperature=0.5,
        top_p=0.9,
        response_format=JsonSchema({"type": "object"}, "thing", True),
        passthrough={"text": {"verbosity": "low"}, "reasoning": {"effort": "low"}, "top_k": 3, "store": True},
        passthrough_dialect="responses",
    )
    encoded = DIALECT.encode(request, SERVER)
    assert (encoded.path, encoded.dropped) == ("/responses", ())
    assert dict(encoded.headers) == {b"content-type": b"application/json", b"authorization": b"Bearer sk-1"}
    assert json.loads(encoded.body) == {
        "model": "a-model",
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low"},
        "input": [
            {"role": "system", "content": "Be brief"},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "low"},
                ],
            },
            ITEM,
            {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "found"},
            {"role": "user", "content": [{"type": "input_file", "file_data": "data:,x"}]},
        ],
        "tools": [
            {
                "type": "function",
                "name": "look",
                "description": "Looks",
                "parameters": {"type": "object"},
                "strict": True,
            },
            {"type": "function", "name": "see", "parameters": None, "strict": None},
        ],
        "tool_choice": {"type": "function", "name": "look"},
        "parallel_tool_calls": False,
        "max_output_tokens": 100,
        "temperature": 0.5,
        "top_p": 0.9,
        "text": {
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "thing", "schema": {"type": "object"}, "strict": True},
        },
        "top_k": 3,
    }


def test_sealed_reasoning_is_asked_for_where_there_is_reasoning() -> None:
    asked = "reasoning.encrypted_content"
    assert "include" not in encode(Message("user", "x"))
    assert encode(Message("user", "x"), passthrough={"reasoning": {"effort": "low"}})["include"] == [asked]
    assert encode(Message("assistant", (SEALED,)), Message("user", "x"))["include"] == [asked]
    assert encode(Message("user", "x"), passthrough={"include": ["a", asked]})["include"] == ["a", asked]


def test_what_cannot_be_read_there_is_left_out() -> None:
    foreign = ReasoningPart("anthropic", "thought", "c2ln")
    unsealed = ReasoningPart("responses", "thought")
    body = encode(Message("assistant", (foreign, unsealed, TextPart("Hi"))), Message("user", "x"))
    assert body["input"][0] == {"role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ChatRequest((Message("user", "x"),), stop=("END",)), "stop"),
        (ChatRequest((Message("user", "x"),), passthrough={"audio": {"voice": "a"}}), "audio"),
        (ChatRequest((Message("user", (OtherPart("openai", {"type": "input_audio"}),)),)), "messages[0].content[0]"),
        (ChatRequest((Message("assistant", (ImagePart("data:,"),)),)), "messages[0].content[0]"),
    ],
)
def test_what_would_change_the_meaning_is_refused(request_: ChatRequest, param: str) -> None:
    with pytest.raises(UnsupportedFeature) as raised:
        DIALECT.encode(request_, SERVER)
    assert raised.value.param == param


def test_fields_of_chat_completions_are_carried_or_named() -> None:
    passthrough = {"reasoning_effort": "low", "verbosity": "high", "user": "u", "metadata": {"a": "b"}, "seed": 7}
    request = ChatRequest((Message("user", "x", "kari"),), (Tool("look"),), passthrough=passthrough)
    encoded = DIALECT.encode(request, SERVER, stream=False)
    body = json.loads(encoded.body)
    assert encoded.dropped == ("seed", "messages[].name")
    assert (body["reasoning"], body["text"], body["user"]) == ({"effort": "low"}, {"verbosity": "high"}, "u")
    assert body["metadata"] == {"a": "b"}
    assert body["tools"][0]["strict"] is False
    assert "stream" not in body


def test_fields_of_responses_are_carried_to_chat_completions_or_named() -> None:
    passthrough = {
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"verbosity": "high", "format": {"description": "d"}},
        "user": "u",
        "metadata": {"a": "b"},
        "truncation": "auto",
    }
    request = ChatRequest((Message("user", "x"),), passthrough=passthrough, passthrough_dialect="responses")
    encoded = OpenAIChat().encode(request, endpoint("b", "http://x/v1"))
    body = json.loads(encoded.body)
    assert (body["reasoning_effort"], body["verbosity"], body["user"]) == ("low", "high", "u")
    assert encoded.dropped == ("metadata", "truncation", "reasoning.summary", "text.format")
    with pytest.raises(UnsupportedFeature) as raised:
        OpenAIChat().encode(
            ChatRequest(request.messages, passthrough={"prompt": {"id": "p"}}, passthrough_dialect="responses"),
            endpoint("b", "http://x/v1"),
        )
    assert raised.value.param == "prompt"


def test_split_turns_of_responses_are_joined_for_chat_completions() -> None:
    first, second = ToolCall("c1", "look", "{}"), ToolCall("c2", "look", "{}")
    request = ChatRequest(
        (
            Message("user", "x"),
            Message("assistant", (SEALED,), tool_calls=(first,)),
            Message("assistant", (SEALED, TextPart("And")), tool_calls=(second,)),
            Message("tool", "1", tool_call_id="c1"),
            Message("tool", "2", tool_call_id="c2"),
            Message("assistant", (SEALED,)),
        ),
        passthrough_dialect="responses",
    )
    messages = json.loads(OpenAIChat().encode(request, endpoint("b", "http://x/v1")).body)["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant", "tool", "tool"]
    assert messages[1]["content"] == [{"type": "text", "text": "And"}]
    assert [made["id"] for made in messages[1]["tool_calls"]] == ["c1", "c2"]


def test_the_manifest_knows_the_type() -> None:
    made = endpoint_from_config("r", EndpointConfig("responses", "gpt-5"), prices=shipped_prices())
    assert (made.dialect, made.url) == ("responses", "https://api.openai.com/v1")
    assert DIALECTS[made.dialect].name == "responses"


WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,16}", fullmatch=True)
ITEMS = st.builds(
    lambda id, text, content, secret: {
        "type": "reasoning",
        "id": id,
        "summary": [{"type": "summary_text", "text": text}],
        **({"content": [{"type": "reasoning_text", "text": content}]} if content else {}),
        "encrypted_content": secret,
    },
    NAMES,
    WORDS,
    WORDS,
    NAMES,
)
INPUT_PARTS: st.SearchStrategy[tuple[Part, ...]] = st.lists(
    st.builds(TextPart, WORDS)
    | st.builds(ImagePart, st.just("https://x.example/a.png"), st.sampled_from(["", "low"]))
    | st.just(OtherPart("responses", {"type": "input_file", "file_url": "https://x.example/a.pdf"})),
    min_size=1,
    max_size=3,
).map(tuple)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Items in any order that a model may have given them, each call answered somewhere after it."""
    items: list[dict[str, Any]] = []
    open_calls: list[str] = []
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["user", "developer", "said", "parts", "reasoning", "call", "output"]))
        if kind in ("user", "developer"):
            items.append({"role": kind, "content": draw(WORDS)})
        elif kind == "said":
            items.append({"role": "assistant", "content": draw(WORDS.filter(bool))})
        elif kind == "parts":
            parts = [{"type": "output_text", "text": draw(WORDS)}]
            items.append({"role": "assistant", "content": parts})
        elif kind == "reasoning":
            items.append(draw(ITEMS))
        elif kind == "call":
            open_calls.append(f"c{number}")
            fields = {"name": draw(NAMES), "arguments": draw(WORDS)}
            items.append({"type": "function_call", "call_id": f"c{number}", **fields})
        elif open_calls:
            items.append({"type": "function_call_output", "call_id": open_calls.pop(), "output": draw(WORDS)})
    return items or [{"role": "user", "content": "x"}]


def normal(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A message's text alone: as a string or as one part it means the same."""
    return [
        item | {"content": item["content"][0]["text"]}
        if item.get("role") == "assistant" and isinstance(item["content"], list)
        else item
        for item in items
    ]


@given(conversations())
@settings(max_examples=150, deadline=None)
def test_items_come_through_in_their_order(items: list[dict[str, Any]]) -> None:
    body = json.dumps({"model": "m", "input": items}).encode()
    request = ResponsesCaller().decode(body).request
    again = json.loads(DIALECT.encode(request, SERVER).body)["input"]
    assert normal(again) == normal(items)


REQUESTS = st.builds(
    ChatRequest,
    st.lists(
        st.one_of(
            st.builds(Message, st.sampled_from(["system", "developer", "user"]), WORDS | INPUT_PARTS),
            st.builds(
                Message, st.just("assistant"), WORDS, tool_calls=st.just(()) | st.just((ToolCall("c", "a", "{}"),))
            ),
        ),
        min_size=1,
        max_size=1,
    ).map(lambda turns: (Message("user", "Hi"), *turns)),
    st.just((Tool("a", "d", {"type": "object"}, True), Tool("b"))),
    st.none() | st.sampled_from(["none", "auto", "required"]) | st.just(NamedTool("a")),
    st.none() | st.booleans(),
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0, 2),
    st.none() | st.floats(0, 1),
    st.just(()),
    st.none() | st.just(JsonSchema()) | st.just(JsonSchema({"type": "object"}, "n", True)),
    st.dictionaries(st.sampled_from(["user", "top_k", "service_tier"]), st.just("x"), max_size=2)
    | st.just({"text": {"verbosity": "low"}}),
    st.just("responses"),
)


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_a_request_survives_encoding_and_decoding(request: ChatRequest) -> None:
    assert ResponsesCaller().decode(DIALECT.encode(request, SERVER).body).request == request


# Answers.


def test_a_streamed_text() -> None:
    assert read(recording(*TEXT)) == [TextDelta("Hel"), TextDelta("lo æ"), Finished("stop"), USED]


def test_parallel_calls_after_sealed_reasoning() -> None:
    events = read(recording(*TOOLS))
    assert events == [
        ReasoningDelta("**Loo"),
        ReasoningDelta("king**"),
        ReasoningDelta("\n\nThen seeing."),
        ReasoningSealed(SEALED),
        ToolCallDelta(0, "call_1", "look"),
        ToolCallDelta(0, arguments='{"a":'),
        ToolCallDelta(1, "call_2", "see"),
        ToolCallDelta(1, arguments="{}"),
        ToolCallDelta(0, arguments="1}"),
        Finished("tool_calls"),
        USED,
    ]


def test_a_refusal() -> None:
    refusal = {"type": "refusal", "refusal": "I cannot."}
    item = message("") | {"content": [refusal]}
    events = read(
        recording(
            CREATED,
            event("content_part.added", content_index=0, part=refusal | {"refusal": ""}),
            event("refusal.delta", content_index=0, delta="I can"),
            event("refusal.delta", content_index=0, delta="not."),
            event("refusal.done", content_index=0, refusal="I cannot."),
            event("output_item.done", item=item),
            {"type": "response.completed", "response": response("completed", [item])},
        )
    )
    assert events == [RefusalDelta("I can"), RefusalDelta("not."), Finished("stop")]


@pytest.mark.parametrize(("word", "reason"), [("max_output_tokens", "length"), ("content_filter", "content_filter")])
def test_an_incomplete_answer_says_why(word: str, reason: Any) -> None:
    ended = response("incomplete", [message("Hel", status="incomplete")], incomplete_details={"reason": word})
    assert read(recording(*TEXT[:5], {"type": "response.incomplete", "response": ended})) == [
        TextDelta("Hel"),
        Finished(reason),
    ]
    assert DIALECT.decode_body(json.dumps(ended).encode()) == [TextDelta("Hel"), Finished(reason)]


def test_a_whole_answer() -> None:
    body = response("completed", [ITEM, message("Hi"), call(1, "{}")], usage=USAGE)
    assert DIALECT.decode_body(json.dumps(body).encode()) == [
        ReasoningDelta("**Looking**"),
        ReasoningDelta("\n\nThen seeing."),
        ReasoningSealed(SEALED),
        TextDelta("Hi"),
        ToolCallDelta(0, "call_1", "look"),
        ToolCallDelta(0, arguments="{}"),
        Finished("tool_calls"),
        USED,
    ]


@pytest.mark.parametrize(
    "left_out",
    [
        {"response.output_text.delta"},
        {"response.output_text.delta", "response.output_text.done"},
        {"response.output_text.delta", "response.output_text.done", "response.output_item.done"},
        {"response.output_item.added", "response.content_part.added", "response.in_progress"},
    ],
)
def test_text_is_taken_once_from_where_a_server_puts_it(left_out: set[str]) -> None:
    events = read(recording(*(item for item in TEXT if item["type"] not in left_out)))
    assert "".join(item.text for item in events if isinstance(item, TextDelta)) == "Hello æ"
    assert events[-2:] == [Finished("stop"), USED]


@pytest.mark.parametrize(
    "left_out",
    [{"response.function_call_arguments.delta"}, {"response.output_item.added"}, {"response.output_item.done"}],
)
def test_calls_are_taken_once_from_where_a_server_puts_them(left_out: set[str]) -> None:
    if "response.output_item.added" in left_out:
        left_out = left_out | {"response.function_call_arguments.delta", "response.function_call_arguments.done"}
    texts = {0: "", 1: ""}
    for item in read(recording(*(item for item in TOOLS if item["type"] not in left_out))):
        if isinstance(item, ToolCallDelta):
            texts[item.index] += item.arguments
    assert texts == {0: '{"a":1}', 1: "{}"}


def test_reasoning_in_clear_is_shown_and_returned() -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
    delta = event("reasoning_text.delta", content_index=0, delta="Hm.")
    events = read(recording(CREATED, delta, event("output_item.done", item=item), *TEXT[2:]))
    assert events[0] == ReasoningDelta("Hm.")
    assert isinstance(events[1], ReasoningSealed)
    part = events[1].part
    assert part.text == "Hm."
    assert encode(Message("assistant", (part,)), Message("user", "x"))["input"][0] == item


@given(st.integers(1, 60), st.sampled_from([TEXT, TOOLS]))
@settings(max_examples=60, deadline=None)
def test_any_split_gives_the_same_events(cut_into: int, events: tuple[dict[str, Any], ...]) -> None:
    assert read(recording(*events), cut_into) == read(recording(*events))


async def test_an_attempt_reads_it_over_http(gateway_of: MakeGateway) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        asked.append(head.partition(b"\r")[0] + b"\n" + await reader.readexactly(length))
        data = recording(*TOOLS)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(data))
        writer.write(data)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        gateway = gateway_of(endpoint("a", f"http://127.0.0.1:{port}/v1", dialect="responses"))
        async with gateway.stream("smart", ask(), new_call()) as events:
            whole = await events.answer()
    line, _, body = asked[0].partition(b"\n")
    assert line == b"POST /v1/responses HTTP/1.1"
    assert json.loads(body)["store"] is False
    assert [made.arguments for made in whole.tool_calls] == ['{"a":1}', "{}"]
    assert (whole.sealed, whole.finish_reason) == ([SEALED], "tool_calls")


# Failures.

FAILED = response("failed", [], error={"code": "rate_limit_exceeded", "message": "slow down"})


@pytest.mark.parametrize(
    ("last", "failure"),
    [
        ({"type": "response.failed", "response": FAILED}, "rate"),
        ({"type": "response.failed", "response": FAILED | {"error": {"code": "server_error"}}}, "fault"),
        ({"type": "response.failed", "response": FAILED | {"error": {"code": "invalid_prompt"}}}, "client"),
        ({"type": "response.failed", "response": FAILED | {"error": None}}, "fault"),
        ({"type": "error", "code": "server_error", "message": "m", "param": None}, "fault"),
        ({"type": "error", "code": "context_length_exceeded", "message": 3, "item": 4, "text": 5}, "context"),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "m"}}, "rate"),
        ({"error": {"code": "insufficient_quota", "message": "m"}, "type": ""}, "quota"),
        ({"type": "response.incomplete", "response": response("incomplete", [])}, "fault"),
        ({"type": "response.output_text.delta", "delta": 3}, "fault"),
        (event("function_call_arguments.delta", 7, delta="{}"), "fault"),
        (event("output_item.added", item={"type": "function_call", "call_id": "c"}), "fault"),
        (event("output_item.done", item={"type": "reasoning", "summary": 3}), "fault"),
    ],
)
def test_an_error_after_the_start_is_a_failure(last: dict[str, Any], failure: FailureClass) -> None:
    decoder = DIALECT.decoder()
    for sse in SseParser().feed(recording(CREATED, IN_PROGRESS)):
        assert decoder.feed(sse) == []
    with pytest.raises(UpstreamError) as raised:
        decoder.feed(SseEvent(json.dumps(last).encode()))
    assert raised.value.failure == failure
    assert "slow down" not in str(raised.value)


@pytest.mark.parametrize("count", range(len(TEXT)))
def test_a_stream_without_its_terminal_event_is_cut(count: int) -> None:
    with pytest.raises(UpstreamError, match="before it was finished"):
        read(recording(*TEXT[:count]) + b"data: [DONE]\n\n")


def test_an_answer_ends_once() -> None:
    with pytest.raises(UpstreamError, match="ended twice"):
        read(recording(*TEXT, TEXT[-1]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(response("in_progress", [])).encode(),
        json.dumps(response("queued", [message("Hi")])).encode(),
        json.dumps(FAILED).encode(),
        json.dumps({"error": {"code": "server_error"}}).encode(),
        json.dumps(response("completed", [call(n, "{}") for n in range(129)])).encode(),
        json.dumps(response("completed", [message("x") | {"content": [message("x")["content"][0]] * 5000}])).encode(),
    ],
)
def test_a_body_that_is_no_finished_answer(body: bytes) -> None:
    with pytest.raises(UpstreamError):
        DIALECT.decode_body(body)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "item", "output", "response", "delta", "text", "output_index", "content", "summary", "status"]
            ),
            inner
            | st.sampled_from(
                ["function_call", "message", "reasoning", "response.completed", "completed", "output_text"]
            ),
            max_size=4,
        )
    ),
    max_leaves=14,
).map(lambda value: json.dumps(value).encode())


@given(st.lists(JUNK | st.binary(max_size=40), max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_events_or_a_failure(pieces: list[bytes]) -> None:
    decoder = DIALECT.decoder()
    with contextlib.suppress(UpstreamError):
        for piece in pieces:
            decoder.feed(SseEvent(piece))
        decoder.finish()
    for piece in pieces:
        with contextlib.suppress(UpstreamError):
            DIALECT.decode_body(piece)


def test_a_wrapped_part_is_not_read_as_an_endpoints_own() -> None:
    """Reasoning that went through another Roadbed comes back through it, still wrapped."""
    item = ITEM | {"encrypted_content": wrap(SEALED)}
    done = event("output_item.done", item=item)
    sealed = next(item for item in read(recording(CREATED, done, *TEXT[2:])) if isinstance(item, ReasoningSealed))
    assert encode(Message("assistant", (sealed.part,)), Message("user", "x"))["input"][0] == item
