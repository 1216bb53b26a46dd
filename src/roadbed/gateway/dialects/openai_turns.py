"""Turns and tools of chat completions as our callers send them, to `Message` and `Tool`.

Fields of a turn, part, call or tool that nothing here knows are kept as hints, for endpoints of the same dialect.
Called by ``openai_server.py``. Pure; an error names the field's path. The invariant: nothing that a caller said in a
turn is lost without being named.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from roadbed.gateway.dialects.reading import convert
from roadbed.gateway.dialects.request_checks import check_depth
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import (
    Hints,
    ImagePart,
    Message,
    NamedTool,
    OtherPart,
    Part,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)


class FunctionFields(msgspec.Struct):
    """What is known of a function."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolFields(msgspec.Struct):
    """What is known of a tool."""

    type: str
    function: FunctionFields | None = None


class _CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    id: str
    function: _CalledFunction
    type: str = "function"


class TurnFields(msgspec.Struct):
    """What is known of a turn; `PLAIN_TURN` are the names."""

    role: Role
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _NamedFunction(msgspec.Struct):
    name: str


class _NamedTool(msgspec.Struct):
    function: _NamedFunction
    type: Literal["function"] = "function"


class _Allowed(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[_NamedTool], msgspec.Meta(min_length=1)]


class _AllowedTools(msgspec.Struct):
    allowed_tools: _Allowed


PLAIN_TURN = frozenset(TurnFields.__struct_fields__)
_REFUSAL = "refusal"


def turn_of(message: TurnFields, given: dict[str, Any], number: int) -> Message:
    """The turn at ``number``; ``given`` is its object as it came."""
    is_known = given.keys() <= PLAIN_TURN
    if is_known and type(message.content) is str and message.tool_calls is None and message.role != "tool":
        return Message(message.role, message.content, message.name or "", (), message.tool_call_id or "")
    where = f"messages[{number}]"
    calls = tuple(
        ToolCall(call.id, call.function.name, call.function.arguments, rest_of(given["tool_calls"][n], _TOOL_CALL))
        for n, call in enumerate(message.tool_calls or ())
    )
    if calls and message.role != "assistant":
        raise InvalidChatRequest(f"{where}.tool_calls: only an assistant calls tools", param=f"{where}.tool_calls")
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidChatRequest(f"{where}.tool_call_id: a tool's answer needs it", param=f"{where}.tool_call_id")
    content: str | tuple[Part, ...]
    if message.content is None:
        if message.role != "assistant":
            raise InvalidChatRequest(f"{where}.content: it is missing", param=f"{where}.content")
        content = ""
    elif isinstance(message.content, str):
        content = message.content
    else:
        if not message.content and message.role != "assistant":
            raise InvalidChatRequest(f"{where}.content: it is empty", param=f"{where}.content")
        content = tuple(_part(part, f"{where}.content[{n}]") for n, part in enumerate(message.content))
    hints = None if is_known else rest_of(given, PLAIN_TURN)
    if hints is not None:
        check_depth(where, hints)
        content, hints = _with_refusal(content, hints, where)
    return Message(message.role, content, message.name or "", calls, message.tool_call_id or "", hints=hints)


def _with_refusal(content: str | tuple[Part, ...], hints: dict[str, Any], where: str) -> tuple[Any, Hints]:
    """What the model refused with in this turn is what it said; every dialect has a place for that."""
    refusal = hints.pop(_REFUSAL, None)
    if refusal is None:
        return content, hints or None
    if not isinstance(refusal, str):
        raise InvalidChatRequest(f"{where}.refusal: it must be a string", param=f"{where}.refusal")
    if content == "":
        return refusal, hints or None
    parts = (TextPart(content),) if isinstance(content, str) else content
    return (*parts, TextPart(refusal)), hints or None


_TOOL_CALL = frozenset({"id", "type", "function", "index"})
_TEXT = frozenset({"type", "text", "refusal"})
_IMAGE = frozenset({"type", "image_url"})
_TOOL = frozenset({"type", "function"})
_FUNCTION = frozenset(FunctionFields.__struct_fields__)


def rest_of(given: dict[str, Any], known: frozenset[str]) -> Hints:
    """The fields that nothing here knows and that say something; None where there are none."""
    if given.keys() <= known:
        return None
    return {name: value for name, value in given.items() if name not in known and value not in _SAY_NOTHING} or None


_SAY_NOTHING: tuple[Any, ...] = (None, [], {}, "")


def _part(part: dict[str, Any], where: str) -> Part:
    kind = part.get("type")
    if not isinstance(kind, str):
        raise InvalidChatRequest(f"{where}.type: it must be a string", param=f"{where}.type")
    if kind == "text" or kind == "refusal":
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidChatRequest(f"{where}.{kind}: it must be a string", param=f"{where}.{kind}")
        return TextPart(text, rest_of(part, _TEXT))
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        detail = image.get("detail") if isinstance(image, dict) else None
        if not isinstance(url, str) or not (detail is None or isinstance(detail, str)):
            raise InvalidChatRequest(f"{where}.image_url.url: it must be a string", param=f"{where}.image_url.url")
        if not url.startswith(("https://", "http://", "data:")):
            message = f"{where}.image_url.url: it must be an http, https or data: address"
            raise InvalidChatRequest(message, param=f"{where}.image_url.url")
        return ImagePart(url, detail or "", rest_of(part, _IMAGE))
    check_depth(where, part)
    return OtherPart("openai", part)


def tool_of(tool: ToolFields, given: dict[str, Any], number: int) -> Tool:
    """The tool at ``number``; ``given`` is its object as it came."""
    if tool.type != "function" or tool.function is None:
        message = f"tools[{number}].type: only tools of type function can be used"
        hint = "tools that a provider runs itself are not passed on"
        raise UnsupportedFeature(message, hint=hint, param=f"tools[{number}]")
    function = tool.function
    hints = dict(rest_of(given, _TOOL) or {})
    hints |= {f"{IN_FUNCTION}{name}": value for name, value in (rest_of(given["function"], _FUNCTION) or {}).items()}
    check_depth(f"tools[{number}]", hints)
    return Tool(function.name, function.description or "", function.parameters, function.strict, hints or None)


IN_FUNCTION = "function."
"""What the names of hints begin with that stand in a tool's ``function``, and not beside it."""


def tool_choice_of(
    given: Literal["none", "auto", "required"] | dict[str, Any] | None, tools: tuple[Tool, ...]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that are left to it."""
    if given is None or given == "none":
        return given, tools
    if not tools:
        raise InvalidChatRequest("tool_choice: there are no tools to choose from", param="tool_choice")
    if not isinstance(given, dict):
        return given, tools
    names = {tool.name for tool in tools}
    if given.get("type") != "allowed_tools":
        name = convert(given, _NamedTool, "tool_choice").function.name
        if name not in names:
            raise InvalidChatRequest("tool_choice: it names a tool that is not in tools", param="tool_choice")
        return NamedTool(name), tools
    allowed = convert(given, _AllowedTools, "tool_choice").allowed_tools
    wanted = {tool.function.name for tool in allowed.tools}
    if not wanted <= names:
        path = "tool_choice.allowed_tools.tools"
        raise InvalidChatRequest(f"{path}: it names a tool that is not in tools", param=path)
    return allowed.mode, tuple(tool for tool in tools if tool.name in wanted)
