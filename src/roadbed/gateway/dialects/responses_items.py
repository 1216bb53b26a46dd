"""The input items of a Responses request as turns.

A model's own items (reasoning, its message, its calls) become one assistant turn as long as they stand in that order,
so that an endpoint of the same dialect gets them back in the order in which it gave them. Pure; an error names the
item's path. The invariant: an item that cannot be carried is refused, never left out, but for what only labels it
(ids, statuses).
"""

from __future__ import annotations

from typing import Any

from roadbed.gateway.dialects.reading import check_depth, convert, word_of, wrong
from roadbed.gateway.dialects.responses_reasoning import ReasoningItem, part_from_caller
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import Hints, ImagePart, Message, OtherPart, Part, ReasoningPart, Role, TextPart, ToolCall

DIALECT = "responses"
ROLES: tuple[Role, ...] = ("user", "assistant", "system", "developer")
_KEPT_AT_THE_PROVIDER = "send its content itself: nothing is kept between requests"


def turns_from_input(given: str | list[dict[str, Any]]) -> list[Message]:
    """The turns of ``input``."""
    if isinstance(given, str):
        return [Message("user", given)]
    turns = _Turns()
    for number, item in enumerate(given):
        turns.take(item, f"input[{number}]")
    turns.end_assistant()
    return turns.messages


class _Turns:
    """Takes items in order. An assistant's turn stays open while further items may belong to it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._call_ids: set[str] = set()
        self._reasoning: list[Part] = []
        self._content: str | tuple[Part, ...] | None = None
        self._hints: Hints = None
        self._calls: list[ToolCall] = []

    def take(self, item: dict[str, Any], where: str) -> None:
        kind = item.get("type")
        if kind is None and "role" in item:
            kind = "message"
        match kind:
            case "message":
                self._take_message(item, where)
            case "reasoning":
                if self._content is not None or self._calls:
                    self.end_assistant()
                self._reasoning.append(_reasoning(item, where))
            case "function_call":
                self._calls.append(_call(item, where))
                self._call_ids.add(self._calls[-1].id)
            case "function_call_output":
                self.end_assistant()
                self.messages.append(self._output(item, where))
            case "item_reference":
                raise UnsupportedFeature(
                    f"{where}: items cannot be referred to by id", hint=_KEPT_AT_THE_PROVIDER, param=where
                )
            case str():
                raise UnsupportedFeature(
                    f"{where}.type: items of type {word_of(kind)} are not passed on",
                    hint="send message, reasoning, function_call and function_call_output items",
                    param=f"{where}.type",
                )
            case _:
                raise wrong(f"{where}.type", "it is missing" if kind is None else "it must be a string")

    def end_assistant(self) -> None:
        """No further item belongs to the assistant's turn."""
        if self._content is None and not self._calls and not self._reasoning:
            return
        content: str | tuple[Part, ...] = self._content or ""
        if self._reasoning:
            told = ((TextPart(content),) if content else ()) if isinstance(content, str) else content
            content = (*self._reasoning, *told)
        self.messages.append(Message("assistant", content, tool_calls=tuple(self._calls), hints=self._hints))
        self._reasoning, self._content, self._calls, self._hints = [], None, [], None

    def _take_message(self, item: dict[str, Any], where: str) -> None:
        role = item.get("role")
        if role not in ROLES:
            hint = "the result of a tool is a function_call_output item" if role == "tool" else ""
            raise wrong(f"{where}.role", f"it must be one of {', '.join(ROLES)}", hint=hint)
        if item.get("tool_calls"):
            raise wrong(f"{where}.tool_calls", "it is not a field here", hint="send function_call items")
        content = item.get("content")
        if isinstance(content, list):
            content = tuple(_part(part, role, f"{where}.content[{n}]") for n, part in enumerate(content))
        elif not isinstance(content, str):
            raise wrong(f"{where}.content", "it is missing" if content is None else "it must be a string or an array")
        if role != "assistant":
            self.end_assistant()
            self.messages.append(Message(role, content))
            return
        if self._content is not None or self._calls:
            self.end_assistant()
        self._content = content
        phase = item.get("phase")
        self._hints = {"phase": phase} if isinstance(phase, str) else None

    def _output(self, item: dict[str, Any], where: str) -> Message:
        call_id = item.get("call_id")
        if not isinstance(call_id, str) or not call_id:
            raise wrong(f"{where}.call_id", "it must name the call that this answers")
        if call_id not in self._call_ids:
            raise wrong(
                f"{where}.call_id", "no function_call item before it has this call_id", hint=_KEPT_AT_THE_PROVIDER
            )
        output = item.get("output")
        if isinstance(output, list):
            parts = tuple(_part(part, "tool", f"{where}.output[{n}]") for n, part in enumerate(output))
            return Message("tool", parts, tool_call_id=call_id)
        if not isinstance(output, str):
            raise wrong(f"{where}.output", "it must be a string or an array of parts")
        return Message("tool", output, tool_call_id=call_id)


def _call(item: dict[str, Any], where: str) -> ToolCall:
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name), str) or (name != "arguments" and not item[name]):
            raise wrong(
                f"{where}.{name}", "it must be a string" + ("" if name == "arguments" else " that is not empty")
            )
    if item.get("namespace"):
        raise UnsupportedFeature(f"{where}.namespace: it is not passed on", param=f"{where}.namespace")
    return ToolCall(item["call_id"], item["name"], item["arguments"])


def _reasoning(item: dict[str, Any], where: str) -> ReasoningPart:
    wire = convert(item, ReasoningItem, where)
    sealed = wire.encrypted_content or ""
    part = part_from_caller(wire) if sealed.isascii() and " " not in sealed else None
    if part is None:
        raise wrong(f"{where}.encrypted_content", "it is not what an answer held", hint="return it unchanged")
    return part


_TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
_BY_ASSISTANT = ("output_text", "refusal")
_BY_OTHERS = ("input_text", "input_image", "input_file", "input_audio")


def _part(part: Any, role: str, where: str) -> Part:
    if not isinstance(part, dict):
        raise wrong(where, "it must be an object")
    kind = part.get("type")
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "it must be a string")
    allowed = _BY_ASSISTANT if role == "assistant" else _BY_OTHERS
    if kind not in allowed:
        raise wrong(f"{where}.type", f"a part of role {role} must be one of {', '.join(allowed)}")
    if kind in _TEXTS:
        text = part.get(_TEXTS[kind])
        if not isinstance(text, str):
            raise wrong(f"{where}.{_TEXTS[kind]}", "it must be a string")
        return TextPart(text)
    if part.get("file_id") is not None:
        message = f"{where}.file_id: files that a provider keeps are not passed on"
        raise UnsupportedFeature(message, hint=_KEPT_AT_THE_PROVIDER, param=f"{where}.file_id")
    if kind != "input_image":
        check_depth(where, part)
        return OtherPart(DIALECT, part)
    url, detail = part.get("image_url"), part.get("detail")
    if not isinstance(url, str) or not url.startswith(("https://", "http://", "data:")):
        raise wrong(f"{where}.image_url", "it must be an http, https or data: address")
    if not (detail is None or isinstance(detail, str)):
        raise wrong(f"{where}.detail", "it must be a string")
    return ImagePart(url, detail or "")
