"""Any dialect of callers to an endpoint of any other, over a real server and through the official SDKs: a picture and a
tool go out, words and two parallel calls come back, whole and streamed.

What the endpoints send are recordings made from the documented formats; those of OpenAI's and Anthropic's dialects
come from the scripted model.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply, ScriptedCall

from .serving import ADMIN_KEY, ModelThread, Server, serving, temporary_folder, write_files

pytestmark = pytest.mark.services  # a server of its own

MANIFEST = """\
name: types
endpoints:
  at-openai: {{type: openai, url: "{root}/v1", model: m, labels: [unscanned]}}
  at-anthropic: {{type: anthropic, url: "{root}", model: m, labels: [unscanned]}}
  at-responses: {{type: responses, url: "{root}/v1", model: m, labels: [unscanned]}}
  at-gemini: {{type: gemini, url: "{root}/v1beta", model: gemini-2.5-flash, key: env:K, labels: [unscanned]}}
  at-ollama: {{type: ollama, url: "{root}", model: m, labels: [unscanned]}}
  at-bedrock: {{type: bedrock, url: "{root}", region: eu-central-1, key: env:K, model: "eu.x:0", labels: [unscanned]}}
models:
"""
ENDPOINTS = ("openai", "anthropic", "responses", "gemini", "ollama", "bedrock")
CALLS = (("c1", '{"a":"x"}'), ("c2", '{"a":"y"}'))
SAID = ("Hi.", [("c1", {"a": "x"}), ("c2", {"a": "y"})])
PIXEL = "iVBORw0KGgo="
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
Said = tuple[str, list[tuple[str, Any]], str, bool]
"""The text, the calls by id, how it ended, and whether tokens were counted."""


def sse(*events: dict[str, Any]) -> Reply:
    lines = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
    body = "".join(line + f"data: {json.dumps(event)}\n\n" for line, event in zip(lines, events, strict=True))
    return Reply(headers={"content-type": "text/event-stream"}, body=body.encode())


def of_responses() -> Reply:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_item.added", "output_index": 0, "item": {"id": "m", "type": "message"}},
        {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "Hi."},
    ]
    for number, (id, arguments) in enumerate(CALLS, 1):
        item = {"id": f"fc{number}", "type": "function_call", "call_id": id, "name": "f", "arguments": ""}
        events.append({"type": "response.output_item.added", "output_index": number, "item": item})
        for piece in (arguments[:4], arguments[4:]):
            place = {"item_id": f"fc{number}", "output_index": number, "delta": piece}
            events.append({"type": "response.function_call_arguments.delta", **place})
        done = item | {"arguments": arguments}
        events.append({"type": "response.output_item.done", "output_index": number, "item": done})
    usage = {"input_tokens": 3, "output_tokens": 4}
    response = {"id": "r", "status": "completed", "output": [], "usage": usage}
    return sse(*events, {"type": "response.completed", "response": response})


def of_gemini() -> Reply:
    parts = [{"functionCall": {"id": id, "name": "f", "args": json.loads(arguments)}} for id, arguments in CALLS]
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
    return sse(
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi."}]}}]},
        {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": usage},
    )


def of_ollama() -> Reply:
    calls = [{"id": id, "function": {"name": "f", "arguments": json.loads(arguments)}} for id, arguments in CALLS]
    lines = [
        {"message": {"role": "assistant", "content": "Hi."}, "done": False},
        {"message": {"role": "assistant", "content": "", "tool_calls": calls}, "done": False},
        {"message": {}, "done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 4},
    ]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return Reply(headers={"content-type": "application/x-ndjson"}, body=body)


def of_bedrock() -> Reply:
    frames = [frame("messageStart", {"role": "assistant"})]
    frames.append(frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi."}}))
    frames.append(frame("contentBlockStop", {"contentBlockIndex": 0}))
    for number, (id, arguments) in enumerate(CALLS, 1):
        place = {"contentBlockIndex": number}
        frames.append(frame("contentBlockStart", place | {"start": {"toolUse": {"toolUseId": id, "name": "f"}}}))
        for piece in (arguments[:4], arguments[4:]):
            frames.append(frame("contentBlockDelta", place | {"delta": {"toolUse": {"input": piece}}}))
        frames.append(frame("contentBlockStop", place))
    frames.append(frame("messageStop", {"stopReason": "tool_use"}))
    frames.append(frame("metadata", {"usage": {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7}}))
    return Reply(headers={"content-type": "application/vnd.amazon.eventstream"}, body=b"".join(frames))


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """One frame of an AWS event stream."""
    headers = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in ((":message-type", "event"), (":event-type", kind), (":content-type", "application/json"))
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    start = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return start + struct.pack(">I", zlib.crc32(start))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    model = ModelThread()
    calls = tuple(ScriptedCall("f", arguments, id) for id, arguments in CALLS)
    model.script(Rule("", Reply(text="Hi.", calls=calls)))
    model.model.posts.update(
        {
            "/v1/responses": of_responses(),
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent": of_gemini(),
            "/api/chat": of_ollama(),
            "/model/eu.x%3A0/converse-stream": of_bedrock(),
        }
    )
    routes = "".join(f"  {name}: {{ladder: [at-{name}]}}\n" for name in ENDPOINTS)
    try:
        with temporary_folder() as folder:
            manifest = MANIFEST.format(root=model.model.root) + routes
            workspace = write_files(folder / "types", {"roadbed.yaml": manifest})
            with serving(workspace, folder / "state", variables={"K": "a-key"}) as running:
                yield running
    finally:
        model.stop()


def through_chat(gpt: openai.OpenAI, route: str, *, is_stream: bool) -> Said:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]
    found: Any
    if is_stream:
        options: Any = {"include_usage": True}
        with gpt.chat.completions.stream(model=route, messages=asked, tools=tools, stream_options=options) as stream:
            found = stream.get_final_completion()
    else:
        found = gpt.chat.completions.create(model=route, messages=asked, tools=tools)
    message = found.choices[0].message
    calls = [(call.id, json.loads(call.function.arguments)) for call in message.tool_calls]
    return message.content, calls, found.choices[0].finish_reason, found.usage.completion_tokens > 0


def through_responses(gpt: openai.OpenAI, route: str, *, is_stream: bool) -> Said:
    picture = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, picture]}]
    tools: Any = [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": False}]
    found: Any
    if is_stream:
        with gpt.responses.stream(model=route, input=asked, tools=tools) as stream:
            found = stream.until_done().get_final_response()
    else:
        found = gpt.responses.create(model=route, input=asked, tools=tools)
    calls = [(item.call_id, json.loads(item.arguments)) for item in found.output if item.type == "function_call"]
    return found.output_text, calls, found.status, found.usage.output_tokens > 0


def through_messages(claude: anthropic.Anthropic, route: str, *, is_stream: bool) -> Said:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, picture]}]
    tools: Any = [{"name": "f", "input_schema": SCHEMA}]
    found: Any
    if is_stream:
        with claude.messages.stream(model=route, max_tokens=99, messages=asked, tools=tools) as stream:
            found = stream.get_final_message()
    else:
        found = claude.messages.create(model=route, max_tokens=99, messages=asked, tools=tools)
    text = "".join(block.text for block in found.content if block.type == "text")
    calls = [(block.id, block.input) for block in found.content if block.type == "tool_use"]
    return text, calls, found.stop_reason, found.usage.output_tokens > 0


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("route", ENDPOINTS)
def test_a_picture_and_parallel_calls_pass_between_any_two_dialects(
    server: Server, route: str, *, is_stream: bool
) -> None:
    with httpx2.Client(trust_env=False) as transport:
        shared: dict[str, Any] = {"api_key": ADMIN_KEY, "http_client": transport, "max_retries": 0}
        gpt = openai.OpenAI(base_url=f"{server.url}/v1", **shared)
        claude = anthropic.Anthropic(base_url=server.url, **shared)
        ways: list[tuple[Callable[..., Said], Any, str]] = [
            (through_chat, gpt, "tool_calls"),
            (through_responses, gpt, "completed"),
            (through_messages, claude, "tool_use"),
        ]
        for through, client, finish in ways:
            assert through(client, route, is_stream=is_stream) == (*SAID, finish, True), through.__name__
