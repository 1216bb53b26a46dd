"""What a scripted model answers: replies and their rendering as OpenAI chat completions or Anthropic messages.

Pure: a prompt and a reply in, pieces of a response body out. `quote_passages` is the rule for prompts that nothing
else matches: it answers with sentences of the passages marked in the prompt, each with its ``[n]``, so that a copilot
can be tried end to end. It shares no code with the gateway's dialects, so that a mistake there is not mirrored here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

NOT_FOUND = "I could not find this in the documents."
_TAGGED = re.compile(
    r"<(passage|source|document|excerpt|doc)\b[^>]*?\b(?:n|id|index|number)\s*=\s*[\"']?(\d+)[\"']?[^>]*>(.*?)</\1>",
    re.S | re.I,
)
_NUMBERED = re.compile(r"^\[(\d+)\][ \t]*(.*?)(?=^\[\d+\]|^(?:Question|User|Answer)\s*:|\Z)", re.S | re.M)
_SENTENCE = re.compile(r"[^.!?\n]*[^\s.!?][^.!?\n]*(?:\.(?=\d)[^.!?\n]*)*[.!?]?")
_WORD = re.compile(r"\w+")
_STOP_TEXT = """a an and are as at be by can do does for from has have how i in is it its may must my of on or our that
the their they this to was we what when where which who whom why will with you your"""
_STOP_WORDS = frozenset(_STOP_TEXT.split())
SENTENCES_MAX = 3


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """A tool call in a reply. ``arguments`` is JSON text, or anything that is to be sent as it is."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, well-behaved by default.

    ``first_delay_s`` and ``gap_s`` slow it down. ``hang`` sends nothing at all; ``stall_after`` falls silent,
    ``cut_after`` ends the connection and ``end_after`` the response (cleanly, without a finish) after so many pieces;
    ``garbage_after`` sends what is no JSON. ``body`` with a ``status`` is sent as it is. ``pings`` SSE comments come
    before the first piece. ``parts`` are sent in place of the text's words, after a chunk without text, as engines do.
    """

    text: str = ""
    parts: tuple[str, ...] = ()
    calls: tuple[ScriptedCall, ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    first_delay_s: float = 0.0
    gap_s: float = 0.0
    pings: int = 0
    hang: bool = False
    stall_after: int | None = None
    cut_after: int | None = None
    end_after: int | None = None
    garbage_after: int | None = None
    error_after: int | None = None
    has_usage: bool = True
    finish: str = ""

    def pieces(self) -> list[str]:
        """The text word by word, blanks kept."""
        if self.parts:
            return list(self.parts)
        return re.findall(r"\s*\S+\s*$|\s*\S+", self.text) if self.text else []


def continuing(script: Reply | Callable[[Prompt], Reply]) -> Callable[[Prompt], Reply]:
    """A script that goes on from a last turn of the assistant, as vLLM and llama.cpp do, when its answer begins so."""

    def answer(prompt: Prompt) -> Reply:
        reply = script(prompt) if callable(script) else script
        role, prefix = prompt.texts[-1] if prompt.texts else ("", "")
        if role != "assistant" or not reply.text.startswith(prefix):
            return reply
        return replace(reply, text=reply.text[len(prefix) :], parts=())

    return answer


def throttled(retry_after_s: float = 1.0) -> Reply:
    """A 429 that asks to wait."""
    body = b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}'
    return Reply(status=429, headers={"retry-after": f"{retry_after_s:g}"}, body=body)


def failing(status: int = 500, code: str = "server_error", message: str = "scripted failure") -> Reply:
    """An error response in the shape that both dialects read."""
    error = {"message": message, "type": code, "param": None, "code": code}
    return Reply(status=status, body=json.dumps({"type": "error", "error": error}).encode())


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as the script sees it."""

    dialect: str
    model: str
    body: dict[str, Any]

    @property
    def is_stream(self) -> bool:
        """Whether the caller asked for a stream."""
        return self.body.get("stream") is True

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(role, text) of each turn, the system's first."""
        turns = [("system", _text(self.body["system"]))] if "system" in self.body else []
        return turns + [
            (str(turn.get("role")), _text(turn.get("content")))
            for turn in self.body.get("messages") or []
            if isinstance(turn, dict)
        ]

    @property
    def everything(self) -> str:
        """All texts, one after the other."""
        return "\n".join(text for _, text in self.texts)

    @property
    def last_user_text(self) -> str:
        """The last text of the user."""
        return next((text for role, text in reversed(self.texts) if role == "user"), "")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [part for part in content if isinstance(part, dict)]
    return "\n".join(str(part.get("text") or _text(part.get("content"))) for part in parts)


def find_passages(text: str) -> dict[int, str]:
    """The passages marked in a prompt: ``<passage n="1">...</passage>``, or blocks that begin with ``[1]``."""
    tagged = {int(number): body.strip() for _, number, body in _TAGGED.findall(text)}
    if tagged:
        return tagged
    return {int(number): body.strip() for number, body in _NUMBERED.findall(text) if body.strip()}


def quote_passages(prompt: Prompt) -> Reply:
    """Sentences of the marked passages that share words with the question, best first, each with its number."""
    passages = find_passages(prompt.everything)
    question = _TAGGED.sub("", prompt.last_user_text)
    if "question:" in question.lower():
        question = question[question.lower().rindex("question:") + len("question:") :]
    elif not passages:
        return Reply(text=f"You said: {question.strip()[:200]}" if question.strip() else "Hello.")
    wanted = _words(question)
    scored = [
        (len(wanted & _words(sentence)), -number, sentence.strip())
        for number, body in passages.items()
        for sentence in _SENTENCE.findall(body)
        if wanted & _words(sentence)
    ]
    if not scored:
        return Reply(text=NOT_FOUND)
    scored.sort(key=lambda item: (-item[0], -item[1]))
    best = scored[0][0]
    chosen = [item for item in scored if 2 * item[0] >= best][:SENTENCES_MAX]
    return Reply(text=" ".join(f"{sentence.rstrip('.!?')} [{-number}]." for _, number, sentence in chosen))


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in _WORD.findall(text.lower())} - _STOP_WORDS


def _event(data: dict[str, Any], event: str = "") -> bytes:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _counts(prompt: Prompt, reply: Reply) -> tuple[int, int]:
    written = len(reply.pieces()) + sum(1 + len(call.arguments) // 4 for call in reply.calls)
    return len(_WORD.findall(prompt.everything)), written


def stream_openai(prompt: Prompt, reply: Reply) -> Iterator[bytes]:
    """The server-sent chunks of a chat completion: one piece at a time; the last yield holds finish, usage, DONE."""
    head = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": prompt.model}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    first = chunk({"role": "assistant", "content": ""})
    if reply.parts:
        yield first
        first = b""
    for piece in reply.pieces():
        yield first + chunk({"content": piece})
        first = b""
    for index, call in enumerate(reply.calls):
        half = len(call.arguments) // 2
        function = {"name": call.name, "arguments": ""}
        opening = {"index": index, "id": call.id or f"call_{index}", "type": "function", "function": function}
        yield first + chunk({"tool_calls": [opening]})
        first = b""
        for part in (call.arguments[:half], call.arguments[half:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    end = first + chunk({}, reply.finish or ("tool_calls" if reply.calls else "stop"))
    options = prompt.body.get("stream_options") or {}
    if reply.has_usage and options.get("include_usage"):
        read, written = _counts(prompt, reply)
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        end += _event({**head, "choices": [], "usage": usage})
    yield end + b"data: [DONE]\n\n"


def stream_anthropic(prompt: Prompt, reply: Reply) -> Iterator[bytes]:
    """The server-sent events of a message: one piece at a time; the last yield holds the end."""
    read, written = _counts(prompt, reply)
    message: dict[str, Any] = {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": read, "output_tokens": 1},
    }
    opening = _event({"type": "message_start", "message": message}, "message_start") + _event({"type": "ping"}, "ping")
    index = 0
    if reply.text:
        opening += _block_start(index, {"type": "text", "text": ""})
        for piece in reply.pieces():
            yield opening + _block_delta(index, {"type": "text_delta", "text": piece})
            opening = b""
        opening = _block_stop(index)
        index += 1
    for number, call in enumerate(reply.calls):
        block = {"type": "tool_use", "id": call.id or f"toolu_{number}", "name": call.name, "input": {}}
        yield opening + _block_start(index, block)
        opening = b""
        if call.arguments != "{}":
            half = len(call.arguments) // 2
            for part in (call.arguments[:half], call.arguments[half:]):
                yield _block_delta(index, {"type": "input_json_delta", "partial_json": part})
        opening = _block_stop(index)
        index += 1
    stop = reply.finish or ("tool_use" if reply.calls else "end_turn")
    delta: dict[str, Any] = {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}}
    if reply.has_usage:
        delta["usage"] = {"output_tokens": written}
    yield opening + _event(delta, "message_delta") + _event({"type": "message_stop"}, "message_stop")


def _block_start(index: int, block: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start")


def _block_delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")


def _block_stop(index: int) -> bytes:
    return _event({"type": "content_block_stop", "index": index}, "content_block_stop")


def whole_openai(prompt: Prompt, reply: Reply) -> bytes:
    """A chat completion that is not streamed."""
    read, written = _counts(prompt, reply)
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(reply.calls)
        ]
    finish = reply.finish or ("tool_calls" if reply.calls else "stop")
    body: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1,
        "model": prompt.model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    if reply.has_usage:
        body["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return json.dumps(body).encode()


def whole_anthropic(prompt: Prompt, reply: Reply) -> bytes:
    """A message that is not streamed."""
    read, written = _counts(prompt, reply)
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}] if reply.text else []
    for index, call in enumerate(reply.calls):
        arguments = json.loads(call.arguments)
        content.append({"type": "tool_use", "id": call.id or f"toolu_{index}", "name": call.name, "input": arguments})
    body = {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "content": content,
        "stop_reason": reply.finish or ("tool_use" if reply.calls else "end_turn"),
        "usage": {"input_tokens": read, "output_tokens": written},
    }
    return json.dumps(body).encode()
