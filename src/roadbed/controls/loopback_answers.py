"""What the canary's own model server answers, by dialect: whole and in pieces. Pure.

Each answer repeats what was asked and adds what the run wants told, in every place of a dialect in which a model's text
can stand: answers, reasoning, citations, blocks of tools that a provider runs.
"""

from __future__ import annotations

import json
from typing import Any, Final

PIECE_CHARACTERS: Final = 7
_TOOL_RESULT: Final = "web_search_tool_result"


def answer_of(text: str, told: str) -> str:
    """A sentence of the passages that were shown, cited, or what was asked; and what the run wants told."""
    for line in text.splitlines():
        if "thistledown" in line and "fee" in line and "?" not in line:
            return f"{line.strip().rstrip('.')} [1]. {told}"
    return f"You wrote: {text} {told}"


def last_text(asked: dict[str, Any]) -> str:
    """All texts of the messages, the last one first."""
    texts = []
    for message in asked.get("messages", []):
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    return "\n".join(reversed(texts))


def events(answer: str, reasoning: str) -> bytes:
    """An answer of chat completions, streamed."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "canary"}
    deltas = [{"reasoning_content": piece} for piece in pieces(reasoning)]
    deltas += [{"content": piece} for piece in pieces(answer)]
    lines = [{**head, "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    lines.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + as_json(line) + b"\n\n" for line in lines) + b"data: [DONE]\n\n"


def as_json(value: Any) -> bytes:
    """As it is sent."""
    return json.dumps(value).encode()


def chat(answer: str, reasoning: str) -> bytes:
    """A whole answer of chat completions."""
    message = {"role": "assistant", "content": answer, **({"reasoning_content": reasoning} if reasoning else {})}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    head = {"id": "c", "object": "chat.completion", "created": 0, "model": "canary"}
    return as_json({**head, "choices": [choice], "usage": usage})


def _blocks(told: str) -> list[dict[str, Any]]:
    """Anthropic's blocks: reasoning with its seal, a search that the provider ran, and a text with a citation."""
    citation = {
        "type": "char_location", "cited_text": told, "document_index": 0, "document_title": "terms",
        "start_char_index": 0, "end_char_index": 9,
    }  # fmt: skip
    found = {"type": "web_search_result", "url": "https://example.com/", "title": told, "encrypted_content": "x"}
    return [
        {"type": "thinking", "thinking": f"I think of {told}", "signature": "c2VhbGVk"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": told}},
        {"type": _TOOL_RESULT, "tool_use_id": "srvtoolu_1", "content": [found]},
        {"type": "text", "text": f"It is said: {told}", "citations": [citation]},
    ]


def messages(told: str) -> bytes:
    """A whole answer of Anthropic's messages."""
    usage = {"input_tokens": 5, "output_tokens": 5}
    head = {"id": "m", "type": "message", "role": "assistant", "model": "canary", "stop_sequence": None}
    return as_json({**head, "content": _blocks(told), "stop_reason": "end_turn", "usage": usage})


def message_events(told: str) -> bytes:
    """The same, streamed: what has pieces comes in pieces."""
    head = {"id": "m", "type": "message", "role": "assistant", "model": "canary", "content": []}
    usage = {"input_tokens": 5, "output_tokens": 1}
    sent: list[dict[str, Any]] = [{"type": "message_start", "message": {**head, "usage": usage}}]
    for index, block in enumerate(_blocks(told)):
        start, deltas = _in_pieces(block)
        sent.append({"type": "content_block_start", "index": index, "content_block": start})
        sent += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        sent.append({"type": "content_block_stop", "index": index})
    sent.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}})
    sent.append({"type": "message_stop"})
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), as_json(one)) for one in sent)


def _in_pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    kind = block["type"]
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        return {**block, "thinking": "", "signature": ""}, [
            *deltas,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    if kind == "text":
        deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        cited = [{"type": "citations_delta", "citation": citation} for citation in block["citations"]]
        return {"type": "text", "text": ""}, [*deltas, *cited]
    if kind == "server_tool_use":
        given = [
            {"type": "input_json_delta", "partial_json": piece} for piece in pieces(as_json(block["input"]).decode())
        ]
        return {**block, "input": {}}, given
    return block, []


def pieces(text: str) -> list[str]:
    """A text in pieces that cut every value."""
    return [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)]
