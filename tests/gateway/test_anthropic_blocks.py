"""Citations, blocks of tools that the provider runs, pauses and refusals: read as documented, given on as they came."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadbed.gateway.cache import keepable
from roadbed.gateway.dialects.anthropic import AnthropicMessages
from roadbed.gateway.dialects.anthropic_answers import AnthropicDecoder
from roadbed.gateway.dialects.anthropic_incoming import decode_messages
from roadbed.gateway.dialects.anthropic_writer import MessageWriter
from roadbed.gateway.dialects.openai_caller import ChatWriter
from roadbed.gateway.dialects.openai_chat import OpenAIChat
from roadbed.gateway.dialects.openai_server import decode_chat
from roadbed.gateway.dialects.responses_incoming import decode_response_request
from roadbed.gateway.dialects.responses_writer import ResponseWriter
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UnsupportedFeature, UpstreamError
from roadbed.gateway.types import (
    Answer,
    Cited,
    Event,
    Finished,
    Outcome,
    ProviderBlock,
    TextDelta,
    TextEnded,
    UsageReported,
)
from roadbed.wire.sse import SseParser

WEB = {
    "type": "web_search_result_location",
    "url": "https://example.com/rates",
    "title": "Rates",
    "encrypted_index": "Eo8B",
    "cited_text": "The rate is 4.5 %",
}
PAGE = {
    "type": "page_location",
    "document_index": 0,
    "document_title": "Terms",
    "start_page_number": 2,
    "end_page_number": 3,
    "cited_text": "five years",
}
CALL = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "rate 2026"}}
RESULT = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://example.com/rates",
            "title": "Rates",
            "encrypted_content": "EqgfC",
        }
    ],
}
CONTENT: list[dict[str, Any]] = [
    {"type": "text", "text": "I shall look."},
    CALL,
    RESULT,
    {"type": "text", "text": "It is "},
    {"type": "text", "text": "4.5 %", "citations": [WEB]},
    {"type": "text", "text": ", for "},
    {"type": "text", "text": "five years – always", "citations": [PAGE, WEB]},
]
EVENTS: list[Event] = [
    TextDelta("I shall look."),
    ProviderBlock("anthropic", CALL),
    ProviderBlock("anthropic", RESULT),
    TextDelta("It is "),
    TextEnded(),
    TextDelta("4.5 %"),
    Cited("anthropic", WEB),
    TextEnded(),
    TextDelta(", for "),
    TextEnded(),
    TextDelta("five years – always"),
    Cited("anthropic", PAGE),
    Cited("anthropic", WEB),
]
DETAILS = {"type": "refusal", "category": "cyber", "explanation": None}
SERVER = Endpoint("cloud", "https://api.anthropic.com", "claude", dialect="anthropic")


def recording(word: str = "pause_turn", details: dict[str, Any] | None = None) -> bytes:
    """The stream of `CONTENT` as the dialect's documentation writes it."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"type": "message", "content": []}}]
    for index, block in enumerate(CONTENT):
        begun = {**block}
        deltas: list[dict[str, Any]] = []
        if block["type"] == "text":
            begun = {"type": "text", "text": "", **({"citations": []} if "citations" in block else {})}
            half = len(block["text"]) // 2
            deltas = [{"type": "text_delta", "text": part} for part in (block["text"][:half], block["text"][half:])]
            deltas += [{"type": "citations_delta", "citation": found} for found in block.get("citations", [])]
        elif "input" in block:
            begun["input"] = {}
            text = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", text[:5], text[5:])]
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    said = {"stop_reason": word, **({"stop_details": details} if details else {})}
    events += [{"type": "message_delta", "delta": said}, {"type": "message_stop"}]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


def read(body: bytes, cuts: list[int]) -> list[Event]:
    parser, decoder, found = SseParser(), AnthropicDecoder(), list[Event]()
    places = [0, *sorted(cut % len(body) for cut in cuts), len(body)]
    for begin, end in pairwise(places):
        for event in parser.feed(body[begin:end]):
            found += decoder.feed(event)
    decoder.finish()
    return found


def joined(events: list[Event]) -> list[Event]:
    """The same with the pieces of a text in one."""
    found: list[Event] = []
    for event in events:
        if found and isinstance(event, TextDelta) and isinstance(found[-1], TextDelta):
            found[-1] = TextDelta(found[-1].text + event.text)
        else:
            found.append(event)
    return found


def answer_of(events: list[Event]) -> Answer:
    answer = Answer()
    for event in events:
        answer.add(event)
    return answer


@given(st.lists(st.integers(0, 1 << 16), max_size=12))
def test_a_documented_stream_however_it_is_cut(cuts: list[int]) -> None:
    assert joined(read(recording(), cuts)) == [*EVENTS, Finished("length", "", "pause_turn")]


def test_a_whole_answer_gives_the_same() -> None:
    body = {"type": "message", "content": CONTENT, "stop_reason": "pause_turn"}
    assert AnthropicDecoder().whole(json.dumps(body).encode()) == [*EVENTS, Finished("length", "", "pause_turn")]


def test_an_answer_goes_on_to_callers_of_the_dialect_as_it_came() -> None:
    events = read(recording(), [])
    writer = MessageWriter("t1", "claude")
    written = writer.head() + b"".join(writer.events([event]) for event in events)
    answer = answer_of(events)
    written += writer.end(answer, annotations=[], roadbed={})
    assert joined([event for event in read(written, []) if not isinstance(event, UsageReported)]) == joined(events)
    whole = json.loads(MessageWriter("t1", "claude").whole(answer, annotations=[], roadbed={}))
    assert whole["content"] == CONTENT
    assert whole["stop_reason"] == "pause_turn"


@pytest.mark.parametrize(
    ("word", "reason", "own"),
    [
        ("refusal", "content_filter", ""),
        ("model_context_window_exceeded", "length", "model_context_window_exceeded"),
        ("end_turn", "stop", ""),
    ],
)
def test_why_it_stopped_is_given_on_with_its_details(word: str, reason: Any, own: str) -> None:
    (finished,) = [event for event in read(recording(word, DETAILS), []) if isinstance(event, Finished)]
    assert finished == Finished(reason, "", own, DETAILS)
    answer = answer_of([TextDelta("x"), finished])
    whole = json.loads(MessageWriter("t1", "claude").whole(answer, annotations=[], roadbed={}))
    assert (whole["stop_reason"], whole["stop_details"]) == (word, DETAILS)
    end = MessageWriter("t1", "claude").end(answer, annotations=[], roadbed={}).decode()
    said = json.loads(end.split("data: ")[1].split("\n")[0])["delta"]
    assert (said["stop_reason"], said["stop_details"]) == (word, DETAILS)


def test_citations_of_addresses_are_annotations_for_others_and_a_pause_is_no_end() -> None:
    answer = answer_of(read(recording(), []))
    text = "".join(block.get("text", "") for block in CONTENT)
    asked = decode_chat(b'{"model":"m","messages":[{"role":"user","content":"x"}]}')
    whole = json.loads(ChatWriter("t1", 0, asked).whole(answer, annotations=[], roadbed={}))
    (choice,) = whole["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", text)
    found = [item["url_citation"] for item in choice["message"]["annotations"]]
    assert [text[item["start_index"] : item["end_index"]] for item in found] == ["4.5 %", "five years – always"]
    assert {(item["url"], item["title"]) for item in found} == {("https://example.com/rates", "Rates")}
    writer = ChatWriter("t1", 0, asked)
    streamed = (writer.head() + writer.events([*EVENTS]) + writer.end(answer, annotations=[], roadbed={})).decode()
    assert streamed.count('"url_citation":{') == 2
    response = decode_response_request(b'{"model":"m","input":"x"}')
    shown = json.loads(ResponseWriter("t1", 0, response).whole(answer, annotations=[], roadbed={}))
    assert (shown["status"], shown["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    (part,) = shown["output"][0]["content"]
    assert [item["type"] for item in part["annotations"]] == ["url_citation"] * 2


def test_what_cites_is_kept_in_no_cache() -> None:
    outcome = Outcome(is_complete=True)
    plain = answer_of([TextDelta("x"), Finished("stop")])
    assert keepable(plain, outcome, 0.0) is not None
    assert keepable(answer_of([*EVENTS, Finished("stop")]), outcome, 0.0) is None


ASKED: dict[str, Any] = {
    "model": "m",
    "max_tokens": 5,
    "tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
    "messages": [
        {"role": "user", "content": "What is the rate?"},
        {"role": "assistant", "content": CONTENT},
    ],
}


def test_a_turn_that_paused_goes_back_as_it_came_to_endpoints_that_may_run_tools() -> None:
    request = decode_messages(json.dumps(ASKED).encode()).request
    may = Endpoint("cloud", "https://api.anthropic.com", "claude", dialect="anthropic", has_provider_tools=True)
    sent = json.loads(AnthropicMessages().encode(request, may).body)
    assert sent["tools"] == ASKED["tools"]
    assert sent["messages"][1]["content"] == CONTENT


@pytest.mark.parametrize("endpoint", [SERVER, Endpoint("gpt", "https://api.openai.com/v1", "gpt")])
def test_tools_that_a_provider_runs_are_refused_elsewhere(endpoint: Endpoint) -> None:
    request = decode_messages(json.dumps(ASKED).encode()).request
    dialect = AnthropicMessages() if endpoint is SERVER else OpenAIChat()
    with pytest.raises(UnsupportedFeature) as raised:
        dialect.encode(request, endpoint)
    assert raised.value.param == "tools[0].type"


def test_a_provider_call_whose_input_is_no_json_is_a_fault() -> None:
    body = recording().replace(b'{\\"que', b"{que")
    assert body != recording()
    with pytest.raises(UpstreamError):
        read(body, [])
