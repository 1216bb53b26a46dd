"""Anthropic Messages as our own callers send them, to `ChatRequest`.

Strict about types, roles and the place of each block: an error names the field's path. A turn's tool results become
turns of role ``tool``; fields and blocks that nothing here knows are kept for endpoints of the same dialect, whose
encoder is ``anthropic.py``. Answers are written by ``anthropic_writer.py``. The invariant: whatever bytes come in, only
a `RoadbedError` comes out, and nothing that the caller said is lost without being named.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from roadbed.gateway.dialects.anthropic_answers import DIALECT, RUN_BY_A_PROVIDER
from roadbed.gateway.dialects.openai_plain import MAX_TOKENS_MAX, MESSAGES_MAX
from roadbed.gateway.dialects.reading import check_bound, check_depth, invalid, json_object, object_of, string_of, wrong
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import (
    ChatRequest,
    Hints,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
)
from roadbed.kernel.errors import TooLarge

BLOCKS_MAX = 65_536
TOOLS_MAX = 512
STOP_MAX = 64

_Content = str | list[dict[str, Any]]


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant", "system"]
    content: _Content


class _ToolChoice(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Read(msgspec.Struct):
    """Fields that become fields of `ChatRequest`."""

    model: str
    messages: list[_Turn]
    max_tokens: int | None = None
    system: _Content | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: _ToolChoice | None = None
    output_config: dict[str, Any] | None = None


class _Request(_Read):
    """The others that are known: their types are held, and they are passed on as they came."""

    top_k: int | None = None
    thinking: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    cache_control: dict[str, Any] | None = None


_READ = frozenset(_Read.__struct_fields__)


class IncomingMessages(msgspec.Struct, frozen=True):
    """A caller's request: the model it names, the request itself, and whether the answer is to come as a stream."""

    model: str
    request: ChatRequest
    stream: bool = False

    def question(self) -> str:
        """The last text of the user; empty where there is none."""
        return next((message.text() for message in reversed(self.request.messages) if message.role == "user"), "")


def decode_messages(body: bytes) -> IncomingMessages:
    """The request in a body of ``/v1/messages``. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with
    the field's path.
    """
    return _decode(body, is_limit_needed=True)


def decode_count(body: bytes) -> IncomingMessages:
    """The request in a body of ``/v1/messages/count_tokens``: the same, without a limit of tokens."""
    return _decode(body, is_limit_needed=False)


def _decode(body: bytes, *, is_limit_needed: bool) -> IncomingMessages:
    raw = json_object(body)
    try:
        wire = msgspec.convert(raw, _Request)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    if is_limit_needed and wire.max_tokens is None:
        raise wrong("max_tokens", "it is missing")
    _check_bounds(wire)
    messages = _system(wire.system)
    for number, turn in enumerate(wire.messages):
        _add_turn(turn, f"messages[{number}]", messages)
    tools = tuple([_tool(tool, f"tools[{number}]") for number, tool in enumerate(wire.tools or ())])
    names = {tool.name for tool in tools}
    if len(names) < len(tools):
        raise wrong("tools", "two of them have the same name")
    passthrough = {name: value for name, value in raw.items() if name not in _READ and value is not None}
    for name, value in passthrough.items():
        check_depth(name, value)
    choice, parallel = _tool_choice(wire.tool_choice, names)
    request = ChatRequest(
        messages=tuple(messages),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        stop=tuple(wire.stop_sequences or ()),
        response_format=_take_format(wire.output_config, passthrough),
        passthrough=passthrough,
        passthrough_dialect=DIALECT,
    )
    return IncomingMessages(wire.model, request, bool(wire.stream))


def _check_bounds(wire: _Request) -> None:
    if not wire.messages:
        raise wrong("messages", "at least one is needed")
    if len(wire.messages) > MESSAGES_MAX:
        raise TooLarge(f"messages: more than {MESSAGES_MAX}", param="messages")
    if sum(len(turn.content) for turn in wire.messages if isinstance(turn.content, list)) > BLOCKS_MAX:
        raise TooLarge(f"messages: more than {BLOCKS_MAX} blocks", param="messages")
    if len(wire.tools or ()) > TOOLS_MAX:
        raise TooLarge(f"tools: more than {TOOLS_MAX}", param="tools")
    check_bound("max_tokens", wire.max_tokens, 1, MAX_TOKENS_MAX)
    check_bound("temperature", wire.temperature, 0, 1)
    check_bound("top_p", wire.top_p, 0, 1)
    if len(wire.stop_sequences or ()) > STOP_MAX:
        raise wrong("stop_sequences", f"more than {STOP_MAX}")
    user = (wire.metadata or {}).get("user_id")
    if not (user is None or isinstance(user, str)):
        raise wrong("metadata.user_id", "it must be a string")


def _system(system: _Content | None) -> list[Message]:
    if not system:
        return []
    return [Message("system", system if isinstance(system, str) else _texts(system, "system"))]


def _texts(blocks: list[dict[str, Any]], where: str) -> str | tuple[Part, ...]:
    """The blocks of a system turn: only texts."""
    for number, block in enumerate(blocks):
        if block.get("type") != "text":
            raise wrong(f"{where}[{number}].type", "only text blocks may stand here")
    return _content([_part(block, f"{where}[{number}]") for number, block in enumerate(blocks)])


def _content(parts: list[Part]) -> str | tuple[Part, ...]:
    """One plain text is a string, as the API itself takes it."""
    if not parts:
        return ""
    if len(parts) == 1 and isinstance(parts[0], TextPart) and parts[0].hints is None:
        return parts[0].text
    return tuple(parts)


def _add_turn(turn: _Turn, where: str, messages: list[Message]) -> None:
    """The turn as ours: one message, or several where it holds tool results, or words after calls."""
    if isinstance(turn.content, str):
        messages.append(Message(turn.role, turn.content))
    elif turn.role == "system":
        messages.append(Message("system", _texts(turn.content, f"{where}.content")))
    elif turn.role == "user":
        _add_user(turn.content, f"{where}.content", messages)
    else:
        _add_assistant(turn.content, f"{where}.content", messages)


def _add_user(blocks: list[dict[str, Any]], where: str, messages: list[Message]) -> None:
    """Results of tools come first, whatever their place: every dialect wants them right after their calls."""
    parts: list[Part] = []
    results = len(messages)
    for number, block in enumerate(blocks):
        at = f"{where}[{number}]"
        kind = string_of(block, "type", at)
        if kind == "tool_result":
            messages.append(_tool_result(block, at))
        elif kind in _ASSISTANT_ONLY:
            raise wrong(f"{at}.type", f"only an assistant's turn may hold {kind} blocks")
        else:
            parts.append(_part(block, at))
    if parts or len(messages) == results:
        messages.append(Message("user", _content(parts)))


def _add_assistant(blocks: list[dict[str, Any]], where: str, messages: list[Message]) -> None:
    """A block after a call begins another message, so that the order is kept."""
    parts: list[Part] = []
    calls: list[ToolCall] = []
    for number, block in enumerate(blocks):
        at = f"{where}[{number}]"
        kind = string_of(block, "type", at)
        if kind == "tool_use":
            arguments = msgspec.json.encode(object_of(block, "input", at)).decode()
            hints = _rest(block, _TOOL_USE)
            calls.append(ToolCall(string_of(block, "id", at), string_of(block, "name", at), arguments, hints))
            continue
        if kind == "tool_result":
            raise wrong(f"{at}.type", "only a user's turn may hold tool_result blocks")
        if calls:
            messages.append(Message("assistant", _content(parts), tool_calls=tuple(calls)))
            parts, calls = [], []
        parts.append(_part(block, at))
    messages.append(Message("assistant", _content(parts), tool_calls=tuple(calls)))


_ASSISTANT_ONLY = frozenset({"tool_use", "thinking", "redacted_thinking"})
_TEXT = frozenset({"type", "text"})
_IMAGE = frozenset({"type", "source"})
_TOOL_USE = frozenset({"type", "id", "name", "input"})
_TOOL_RESULT = frozenset({"type", "tool_use_id", "content", "is_error"})
_TOOL = frozenset({"type", "name", "description", "input_schema", "strict"})


def _rest(fields: dict[str, Any], known: frozenset[str]) -> Hints:
    """The fields that nothing here knows; None where there are none."""
    if fields.keys() <= known:
        return None
    return {name: value for name, value in fields.items() if name not in known and value is not None} or None


def _part(block: dict[str, Any], where: str) -> Part:
    match block.get("type"):
        case "text":
            return TextPart(string_of(block, "text", where), _rest(block, _TEXT))
        case "image":
            return _image(block, where)
        case "thinking":
            signature = block.get("signature", "")
            if not isinstance(signature, str):
                raise wrong(f"{where}.signature", "it must be a string")
            return ReasoningPart(DIALECT, string_of(block, "thinking", where), signature)
        case "redacted_thinking":
            return ReasoningPart(DIALECT, "", string_of(block, "data", where), is_redacted=True)
        case _:
            return OtherPart(DIALECT, block)


def _image(block: dict[str, Any], where: str) -> Part:
    source = object_of(block, "source", where)
    at = f"{where}.source"
    match source.get("type"):
        case "base64":
            kind, data = string_of(source, "media_type", at), string_of(source, "data", at)
            if not _MEDIA_TYPE.fullmatch(kind):
                raise wrong(f"{at}.media_type", "it must be a media type such as image/png")
            return ImagePart(f"data:{kind};base64,{data}", hints=_rest(block, _IMAGE))
        case "url":
            url = string_of(source, "url", at)
            if not url.startswith(("https://", "http://")):
                raise wrong(f"{at}.url", "it must be an http or https address")
            return ImagePart(url, hints=_rest(block, _IMAGE))
        case str():
            return OtherPart(DIALECT, block)
        case _:
            raise wrong(f"{at}.type", "it must be a string")


_MEDIA_TYPE = re.compile(r"[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}")


def _tool_result(block: dict[str, Any], where: str) -> Message:
    content, is_error = block.get("content"), block.get("is_error")
    if not (is_error is None or isinstance(is_error, bool)):
        raise wrong(f"{where}.is_error", "it must be true or false")
    shown: str | tuple[Part, ...]
    if content is None or isinstance(content, str):
        shown = content or ""
    elif isinstance(content, list):
        shown = _content([_inner_part(part, f"{where}.content[{number}]") for number, part in enumerate(content)])
    else:
        raise wrong(f"{where}.content", "it must be a string or a list of blocks")
    call_id = string_of(block, "tool_use_id", where)
    return Message("tool", shown, tool_call_id=call_id, is_error=bool(is_error), hints=_rest(block, _TOOL_RESULT))


def _inner_part(part: Any, where: str) -> Part:
    if not isinstance(part, dict):
        raise wrong(where, "it must be an object")
    kind = string_of(part, "type", where)
    if kind == "tool_result" or kind in _ASSISTANT_ONLY:
        raise wrong(f"{where}.type", "such a block may not stand in a tool's result")
    return _part(part, where)


_RUN_BY_THE_CALLER = re.compile(r"(?:bash|computer|memory|text_editor)_\d{8}")


def _tool(tool: dict[str, Any], where: str) -> Tool:
    """A tool. One that Anthropic defines keeps its type, whether the caller runs it or Anthropic: `AnthropicMessages`
    asks whether an endpoint may run any.
    """
    name = string_of(tool, "name", where)
    if not name:
        raise wrong(f"{where}.name", "it is empty")
    kind = tool.get("type")
    if kind is None or kind == "custom":
        description, strict = tool.get("description"), tool.get("strict")
        if not (description is None or isinstance(description, str)):
            raise wrong(f"{where}.description", "it must be a string")
        if not (strict is None or isinstance(strict, bool)):
            raise wrong(f"{where}.strict", "it must be true or false")
        return Tool(name, description or "", object_of(tool, "input_schema", where), strict, _rest(tool, _TOOL))
    if not isinstance(kind, str):
        raise wrong(f"{where}.type", "it must be a string")
    if not (_RUN_BY_THE_CALLER.fullmatch(kind) or RUN_BY_A_PROVIDER.fullmatch(kind)):
        message = f"{where}.type: this kind of tool is not known"
        raise UnsupportedFeature(message, hint="send tools that you run yourself", param=f"{where}.type")
    return Tool(name, hints={key: value for key, value in tool.items() if key != "name"})


def _tool_choice(wire: _ToolChoice | None, names: set[str]) -> tuple[ToolChoice | None, bool | None]:
    """The choice, and whether calls may come side by side (None where nothing is said)."""
    if wire is None:
        return None, None
    if wire.type != "none" and not names:
        raise wrong("tool_choice", "there are no tools to choose from")
    if (wire.name is not None) != (wire.type == "tool"):
        raise wrong("tool_choice.name", "it belongs to the type tool, and to no other")
    if wire.name is not None and wire.name not in names:
        raise wrong("tool_choice.name", "it names a tool that is not in tools")
    if wire.type == "none" and wire.disable_parallel_tool_use is not None:
        raise wrong("tool_choice.disable_parallel_tool_use", "it makes no sense with the type none")
    parallel = False if wire.disable_parallel_tool_use else None
    match wire.type:
        case "tool":
            return NamedTool(wire.name or ""), parallel
        case "any":
            return "required", parallel
        case other:
            return other, parallel


def _take_format(config: dict[str, Any] | None, passthrough: dict[str, Any]) -> JsonSchema | None:
    """The format of the answer in ``output_config``; the rest of it goes to ``passthrough``."""
    if config is None:
        return None
    rest = {name: value for name, value in config.items() if name != "format" and value is not None}
    if rest:
        passthrough["output_config"] = rest
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict):
        raise wrong("output_config.format", "it must be an object")
    if "output_format" in passthrough:
        raise wrong("output_format", "it says again what output_config.format says")
    if wanted.get("type") != "json_schema":
        raise wrong("output_config.format.type", "it must be json_schema")
    unknown = sorted(wanted.keys() - {"type", "schema"})
    if unknown:
        raise InvalidChatRequest("output_config.format: it holds an unknown field", param="output_config.format")
    return JsonSchema(object_of(wanted, "schema", "output_config.format"))
