"""As `test_no_trace_of_values.py`, in the parts of requests and answers that are no plain text: names and values of
schemas, ids, addresses of pictures, reasoning, calls, refusals, probabilities and citations, whole and in pieces.

Beside every byte that was kept, what the model outside received and what callers were given is searched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roadbed.testing.scripted_model import Rule
from roadbed.testing.scripted_reply import Reply

from .serving import ModelThread, Server, eventually, serving, write_files

pytestmark = pytest.mark.services  # a server of its own, and long

MANIFEST = """\
name: office
endpoints:
  far: {{type: openai, url: "{far}", model: alpha, local: false}}
  claude: {{type: anthropic, url: "{claude}", model: gamma, local: false}}
models:
  smart: {{ladder: [far]}}
  kept: {{ladder: [far], cache: {{exact: 1h, any_temperature: true}}}}
  wise: {{ladder: [claude]}}
"""
ASKED = (
    "enum", "default", "const", "example", "pattern", "property", "toolname", "choice", "formatname", "metadatakey",
    "extra", "prediction", "callid", "pictureuser", "picturekey", "location", "partone", "escaped", "argkey", "agentid",
    "logitkey", "bodykey",
)  # fmt: skip
SAID = (
    "thought", "thoughtpiece", "argpiece", "argescaped", "callname", "saidid", "refusal", "logprob", "citedurl",
    "citedtitle", "textpiece", "thinking", "signature", "inputjson", "anthropiccite", "unknownfield",
    "audio",
)  # fmt: skip


def key(place: str) -> str:
    """A secret of one place only, of letters and digits alone, so that it may stand wherever a name may."""
    digest = hashlib.sha256(f"answers {place}".encode()).hexdigest()
    return "ghp_" + "".join(c.upper() if i % 3 else c for i, c in enumerate(digest[:36]))


def found_in(data: bytes, places: tuple[str, ...], where: str) -> Iterator[str]:
    """Which of the values stand in some bytes, plain or with each character escaped."""
    for place in places:
        value = key(place).encode()
        for form in (value, value.lower(), "".join(f"\\u{ord(c):04x}" for c in key(place)).encode()):
            at = data.find(form)
            if at >= 0:
                yield f"{where}: {place}: {data[max(0, at - 90) : at + 60]!r}"
                break


def test_no_secret_is_left_of_what_is_no_plain_text(scratch: Path) -> None:
    far, claude = ModelThread(), ModelThread()
    manifest = MANIFEST.format(far=far.url, claude=claude.url.removesuffix("/v1"))
    workspace = write_files(scratch / "w", {"roadbed.yaml": manifest})
    hits: list[str] = []
    try:
        with serving(workspace, scratch / "state", "--log-level", "debug") as server:
            _ask(server)
            for model in (far, claude):
                received = b"".join(bytes(r.body) for r in model.model.requests)
                hits += found_in(received, ASKED, "the model outside")
            given = _answers(server, far, claude)
            hits += [hit for way, body in given for hit in found_in(body, SAID, f"the caller by {way}")]
            traces = eventually(lambda: server.get("/api/traces", limit="100")["traces"][:12] or None, what="traces")
            shown = json.dumps([server.get(f"/api/traces/{trace['id']}") for trace in traces])
            hits += found_in(shown.encode(), (*ASKED, *SAID), "the API")
            hits += found_in(server.output.encode(), (*ASKED, *SAID), "the log")
    finally:
        far.stop()
        claude.stop()
    for path in sorted(server.state.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"ghp_" in data.lower() or b"\\u0067\\u0068" in data:
                hits += found_in(data, (*ASKED, *SAID), str(path.relative_to(server.state)))
    assert not hits, "\n".join(dict.fromkeys(hits))
    assert sum(b"[SECRET]" in body for _, body in given) > len(given) // 2, "the answers came with their values"


def _ask(server: Server) -> None:
    """Requests with values in names, schemas, ids and addresses."""
    schema = {
        "type": "object",
        "properties": {
            key("property"): {"type": "string"},
            "q": {
                "enum": [key("enum"), "b"], "default": key("default"), "const": key("const"),
                "examples": [key("example")], "pattern": f"^{key('pattern')}$",
            },
        },
    }  # fmt: skip
    tools = [{"type": "function", "function": {"name": key("toolname"), "parameters": schema}}]
    call = {"name": "f", "arguments": json.dumps({key("argkey"): 1})}
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "tool_calls": [{"id": key("callid"), "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": key("callid"), "content": "done"},
        {"role": "user", "content": [{"type": "text", "text": "key " + key("partone")[:20]},
                                     {"type": "text", "text": key("partone")[20:]}]},
    ]  # fmt: skip
    base: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
    pictures = [
        {"type": "image_url", "image_url": {"url": f"https://bob:{key('pictureuser')}@pictures.example.org/a.png"}},
        {"type": "image_url", "image_url": {"url": f"https://pictures.example.org/a.png?token={key('picturekey')}"}},
    ]
    ways: list[dict[str, Any]] = [
        {**base, "tools": tools},
        {**base, "tools": tools, "tool_choice": {"type": "function", "function": {"name": key("choice")}}},
        {**base, "response_format": {"type": "json_schema", "json_schema": {"name": key("formatname"), "schema": {}}}},
        {**base, "metadata": {key("metadatakey"): "1"}},
        {**base, "prediction": {"type": "content", "content": key("prediction")}},
        {**base, "extra_body": {"deep": [{"deeper": key("extra")}]}},
        {**base, key("bodykey"): 1},
        {**base, "logit_bias": {key("logitkey"): 1}},
        {**base, "web_search_options": {"user_location": {"approximate": {"city": key("location")}}}},
        {**base, "safety_identifier": key("agentid"), "prompt_cache_key": key("agentid")},
        {"messages": turns},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, *pictures]}]},
    ]
    with server.client() as client:
        for way in ways:
            for model in ("smart", "kept"):
                client.post("/v1/chat/completions", json={**way, "model": model})
            client.post("/v1/chat/completions", json={**way, "model": "smart", "stream": True})
        escaped = "".join(f"\\u{ord(c):04x}" for c in key("escaped"))
        body = f'{{"model": "smart", "messages": [{{"role": "user", "content": "is {escaped}"}}]}}'
        client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
        use = {"type": "tool_use", "id": key("callid"), "name": key("toolname"), "input": {key("argkey"): 1}}
        answered = {"type": "tool_result", "tool_use_id": key("callid"), "content": "x"}
        messages = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [answered]},
        ]
        tool = {"name": key("toolname"), "input_schema": schema}
        for model in ("smart", "wise"):
            sent = {"model": model, "max_tokens": 50, "messages": messages, "tools": [tool]}
            client.post("/v1/messages", json={**sent, "metadata": {"user_id": key("agentid")}})
        items = [{"type": "function_call", "call_id": key("callid"), "name": "f", "arguments": "{}"}]
        asked = {"model": "smart", "input": [*items, {"role": "user", "content": "hello"}]}
        client.post("/v1/responses", json={**asked, "metadata": {key("metadatakey"): "x"}})


def _answers(server: Server, far: ModelThread, claude: ModelThread) -> list[tuple[str, bytes]]:
    """Answers with values in every part, whole and in small pieces; what callers of each dialect were given."""
    given: list[tuple[str, bytes]] = []
    with server.client() as client:
        for model, replies in (("smart", _of_openai()), ("kept", _of_openai()), ("wise", _of_anthropic())):
            for streamed, reply in replies:
                (claude if model == "wise" else far).script(Rule(".", reply))
                turns = [{"role": "user", "content": f"hello {len(given)}"}]
                chat = {"model": model, "messages": turns, "stream": streamed}
                for path, body in (
                    ("/v1/chat/completions", chat),
                    ("/v1/messages", {**chat, "max_tokens": 90}),
                    ("/v1/responses", {"model": model, "input": turns[0]["content"], "stream": streamed}),
                ):
                    answer = client.post(path, json=body)
                    given.append((f"{path} of {model}{', streamed' if streamed else ''}", answer.content))
    return given


def _pieces(text: str, size: int) -> list[str]:
    return [text[place : place + size] for place in range(0, len(text), size)]


def _events(events: list[Any], *, has_names: bool = False, end: str = "") -> Reply:
    lines = "".join(
        (f"event: {event['type']}\n" if has_names else "") + f"data: {json.dumps(event)}\n\n" for event in events
    )
    return Reply(body=(lines + end).encode(), headers={"content-type": "text/event-stream"})


def _of_openai() -> list[tuple[bool, Reply]]:
    call = {
        "id": key("saidid"),
        "type": "function",
        "function": {"name": key("callname"), "arguments": json.dumps({"q": key("argpiece"), key("argpiece"): 1})},
    }
    probabilities = {
        "content": [
            {
                "token": key("logprob"),
                "logprob": -1,
                "bytes": [],
                "top_logprobs": [{"token": key("logprob"), "logprob": -1}],
            }
        ]
    }
    cited = [
        {
            "type": "url_citation",
            "url_citation": {
                "url": f"https://a.example.org/?token={key('citedurl')}",
                "title": key("citedtitle"),
                "start_index": 0,
                "end_index": 4,
            },
        }
    ]
    message = {
        "role": "assistant",
        "content": f"It is {key('textpiece')}.",
        "reasoning_content": key("thought"),
        "refusal": key("refusal"),
        "tool_calls": [call],
        "annotations": cited,
        "odd": key("unknownfield"),
        "audio": {"id": "a", "transcript": key("audio"), "data": ""},
    }
    whole = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "alpha",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message, "logprobs": probabilities}],
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(f"think {key('thoughtpiece')} so", 3)]
    deltas += [{"content": piece} for piece in _pieces(f"It is {key('textpiece')}.", 1)]
    deltas += [{"refusal": piece} for piece in _pieces(f"no {key('refusal')}", 5)]
    deltas += [{"annotations": cited}]
    first = {
        "index": 0,
        "id": key("saidid"),
        "type": "function",
        "function": {"name": key("callname"), "arguments": ""},
    }
    escaped = "".join(f"\\u{ord(c):04x}" for c in key("argescaped"))
    deltas += [{"tool_calls": [first]}]
    deltas += [
        {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        for piece in _pieces(f'{{"q": "{key("argpiece")}", "r": "{escaped}"}}', 4)
    ]
    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "alpha"}
    events = [{**chunk, "choices": [{"index": 0, "delta": delta, "logprobs": probabilities}]} for delta in deltas]
    events.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    cut = _events(events, end="data: [DONE]\n\n")
    return [
        (False, Reply(body=json.dumps(whole).encode(), headers={"content-type": "application/json"})),
        (False, Reply(f"It is {key('textpiece')}.")),
        (True, cut),
        (True, Reply(parts=tuple(_pieces(f"It is {key('textpiece')}.", 2)))),
    ]  # fmt: skip


def _of_anthropic() -> list[tuple[bool, Reply]]:
    cited = [
        {
            "type": "web_search_result_location",
            "url": f"https://a.example.org/?token={key('citedurl')}",
            "title": key("citedtitle"),
            "cited_text": key("anthropiccite"),
            "encrypted_index": "x",
        }
    ]
    content = [
        {"type": "thinking", "thinking": f"so {key('thinking')}", "signature": key("signature")},
        {"type": "text", "text": f"It is {key('textpiece')}.", "citations": cited},
        {"type": "tool_use", "id": key("saidid"), "name": key("callname"), "input": {"q": key("inputjson")}},
    ]
    head = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "gamma",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    whole = {**head, "stop_reason": "tool_use", "content": content}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**head, "content": [], "stop_reason": None}}]
    kinds = (
        ("thinking", "thinking_delta", "thinking", f"so {key('thinking')}"),
        ("text", "text_delta", "text", f"It is {key('textpiece')}."),
    )
    for index, (kind, delta, field, text) in enumerate(kinds):
        events.append({"type": "content_block_start", "index": index, "content_block": {"type": kind, field: ""}})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": delta, field: piece}}
            for piece in _pieces(text, 3)
        ]
        if kind == "text":
            events.append(
                {
                    "type": "content_block_delta",
                    "index": index,
                    "delta": {"type": "citations_delta", "citation": cited[0]},
                }
            )
        events.append({"type": "content_block_stop", "index": index})
    block = {"type": "tool_use", "id": key("saidid"), "name": key("callname"), "input": {}}
    events.append({"type": "content_block_start", "index": 2, "content_block": block})
    events += [
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": piece}}
        for piece in _pieces(json.dumps({"q": key("inputjson")}), 4)
    ]
    events.append({"type": "content_block_stop", "index": 2})
    stopped = {"stop_reason": "tool_use", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": stopped, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return [
        (False, Reply(body=json.dumps(whole).encode(), headers={"content-type": "application/json"})),
        (True, _events(events, has_names=True)),
    ]  # fmt: skip
