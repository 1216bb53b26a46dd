"""Answers of the Gemini API: chunks in, events out, and the seals that bring thought signatures back.

A function call comes whole, with or without an id; a turn that calls ends with STOP like any other. A signature sits
on a thought, on a text or on a call, and is worth nothing elsewhere: its `Seal` says on which part. The invariant: an
answer is finished only by a candidate's ``finishReason`` or by a blocked prompt.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from roadbed.gateway.dialects.base import cut, malformed
from roadbed.gateway.dialects.failures import failure_from_object
from roadbed.gateway.types import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    ReasoningPart,
    ReasoningSealed,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from roadbed.wire.sse import SseEvent

TOOL_CALLS_MAX = 128
MADE_UP_ID = "gemini_call_"
"""How the ids begin that we give to calls without one; they are not sent back."""

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "IMAGE_OTHER": "content_filter",
}
"""All others are faults of the endpoint: MALFORMED_FUNCTION_CALL, UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS, OTHER."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SEAL_CHARACTERS_MAX = 1024 * 1024


class Seal(msgspec.Struct, frozen=True, gc=False):
    """Where a signature belongs: a ``call`` by its number (``start``), a ``text`` by the characters of the turn's text
    that it covers, or the ``thought`` whose text the `ReasoningPart` holds.
    """

    sig: str
    on: Literal["thought", "text", "call"] = "thought"
    start: int = 0
    end: int = 0


_decode_seal = msgspec.json.Decoder(Seal).decode


def opened(part: ReasoningPart) -> Seal | None:
    """The seal of a part of this dialect; None for one of another, or one that we did not write."""
    if part.dialect != "gemini" or len(part.seal) > _SEAL_CHARACTERS_MAX:
        return None
    try:
        seal = _decode_seal(part.seal)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return seal if seal.start >= 0 and seal.end - seal.start * (seal.on == "text") >= 0 else None


class _Call(msgspec.Struct, gc=False):
    name: str | None = None
    args: Any = None
    id: str | None = None


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: Any = None
    file_data: Any = None


class _Content(msgspec.Struct, gc=False):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Usage(msgspec.Struct, gc=False, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    response_id: str | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class GeminiDecoder:
    """Chunks in, events out, for one answer: the first candidate's, as we ask for one."""

    __slots__ = ("_calls", "_characters", "_thought", "_usage", "is_finished", "is_over")

    def __init__(self) -> None:
        self.is_finished = False
        self.is_over = False
        self._calls = 0
        self._characters = 0
        self._thought = ""
        self._usage: Usage | None = None

    def feed(self, event: SseEvent) -> list[Event]:
        """The events of one chunk."""
        try:
            chunk = _decode_chunk(event.data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise _undecodable(event.data) from None
        if chunk.error is not None:
            raise failure_from_object({"error": chunk.error})
        events: list[Event] = []
        for candidate in chunk.candidates or ():
            if candidate.index or self.is_finished:
                continue
            for part in (candidate.content.parts if candidate.content else None) or ():
                self._take(part, chunk.response_id or "", events)
            if candidate.finish_reason is not None:
                events.append(self._finish(candidate.finish_reason))
        is_blocked = chunk.prompt_feedback is not None and bool(chunk.prompt_feedback.block_reason)
        if is_blocked and not chunk.candidates and not self.is_finished:
            self.is_finished = True
            events.append(Finished("content_filter"))
        if chunk.usage_metadata is not None:
            usage = _usage(chunk.usage_metadata)
            if usage != self._usage or self.is_finished:
                events.append(UsageReported(usage))
            self._usage = usage
            # Nothing comes after the last chunk, and it is the one with both.
            self.is_over = self.is_finished
        return events

    def finish(self) -> None:
        """The body has ended; raises when no candidate was finished."""
        if not self.is_finished:
            raise cut()

    def _take(self, part: _Part, response_id: str, events: list[Event]) -> None:
        signature = part.thought_signature
        if part.inline_data is not None or part.file_data is not None:
            raise malformed("it holds a file, which was not asked for")
        if part.thought:
            if part.text:
                self._thought += part.text
                events.append(ReasoningDelta(part.text))
            if signature:
                events.append(_sealed(Seal(signature), self._thought))
                self._thought = ""
            return
        if part.function_call is not None:
            if signature:
                events.append(_sealed(Seal(signature, "call", self._calls)))
            events.append(self._call(part.function_call, response_id))
            return
        start = self._characters
        if part.text:
            self._characters += len(part.text)
            events.append(TextDelta(part.text))
        if signature:
            events.append(_sealed(Seal(signature, "text", start, self._characters)))

    def _call(self, call: _Call, response_id: str) -> ToolCallDelta:
        number = self._calls
        if not call.name:
            raise malformed("a tool call has no name")
        if number >= TOOL_CALLS_MAX:
            raise malformed("it holds too many tool calls")
        arguments = {} if call.args is None else call.args
        if not isinstance(arguments, dict):
            raise malformed("a tool call's arguments are no object")
        self._calls += 1
        made_up = f"{MADE_UP_ID}{number}"
        if _ID.fullmatch(response_id):
            made_up += f"_{response_id}"  # so that no two turns of a conversation share an id
        return ToolCallDelta(number, call.id or made_up, call.name, msgspec.json.encode(arguments).decode())

    def _finish(self, word: str) -> Finished:
        reason = FINISH_REASONS.get(word)
        if reason is None:
            raise malformed("it ended without an answer, or with calls that cannot be read")
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        self.is_finished = True
        return Finished(reason)


def _sealed(seal: Seal, text: str = "") -> ReasoningSealed:
    return ReasoningSealed(ReasoningPart("gemini", text, msgspec.json.encode(seal).decode()))


def _undecodable(data: bytes) -> Exception:
    """A chunk of another shape: an error object, alone or in a list, or garbage."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return malformed("a chunk is not JSON")
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and value.get("error"):
        return failure_from_object(value)
    return malformed("a chunk is not of the dialect")


def _usage(counts: _Usage) -> Usage:
    """Thoughts are counted beside the candidates; what is cached, inside the prompt; prompts of tools, beside it."""
    prompt = max(counts.prompt_token_count or 0, 0)
    cached = min(max(counts.cached_content_token_count or 0, 0), prompt)
    return Usage(
        input_uncached=prompt - cached + max(counts.tool_use_prompt_token_count or 0, 0),
        cache_read=cached,
        output_visible=max(counts.candidates_token_count or 0, 0),
        output_reasoning=max(counts.thoughts_token_count or 0, 0),
    )
