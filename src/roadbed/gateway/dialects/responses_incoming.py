"""Requests to ``/v1/responses`` from our own callers: bodies to `ChatRequest`, and what an answer repeats of them.

Nothing is kept between requests: ``store`` means false when it is left out, and whatever needs an earlier response is
refused with what to send instead. Fields that nothing here names stay in ``passthrough``, for endpoints of the same
dialect. Strict about types; an error names the field's path. The invariant: only `InvalidChatRequest`,
`UnsupportedFeature` or `TooLarge` leaves `decode_response_request`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from roadbed.gateway.dialects.openai_plain import MAX_TOKENS_MAX, MESSAGES_MAX
from roadbed.gateway.dialects.openai_server import TOOLS_MAX
from roadbed.gateway.dialects.reading import check_bound, check_depth, convert, json_object, word_of, wrong
from roadbed.gateway.dialects.responses_items import DIALECT, turns_from_input
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import ChatRequest, JsonSchema, Message, NamedTool, Tool, ToolChoice
from roadbed.kernel.errors import TooLarge

INCLUDE_MAX = 32
METADATA_MAX = 16
METADATA_KEY_MAX = 64
METADATA_VALUE_MAX = 512


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class _Function(msgspec.Struct):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Request(msgspec.Struct):
    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    include: list[str] | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    truncation: Literal["auto", "disabled"] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    top_logprobs: int | None = None


_KNOWN = frozenset(_Request.__struct_fields__)


class IncomingResponse(msgspec.Struct, frozen=True):
    """A caller's request: the model it names, the request itself, how it wants the answer, and ``echo``: the fields
    of the response object that repeat the request.
    """

    model: str
    request: ChatRequest
    stream: bool = False
    echo: dict[str, Any] = {}

    def question(self) -> str:
        """The last text of the user; empty where there is none."""
        return next((message.text() for message in reversed(self.request.messages) if message.role == "user"), "")


def decode_response_request(body: bytes) -> IncomingResponse:
    """The request in a body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with the field's path."""
    raw = json_object(body)
    wire = convert(raw, _Request)
    _check_bounds(wire)
    _refuse_state(wire)
    _refuse_unsupported(wire)
    messages = turns_from_input(wire.input)
    if wire.instructions:
        messages.insert(0, Message("system", wire.instructions))
    functions = [_function(tool, f"tools[{number}]") for number, tool in enumerate(wire.tools or ())]
    names = [function.name for function in functions]
    choice, allowed = _tool_choice(wire.tool_choice, names)
    request = ChatRequest(
        messages=tuple(messages),
        tools=tuple(
            Tool(function.name, function.description or "", function.parameters, function.strict)
            for function in functions
            if allowed is None or function.name in allowed
        ),
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        max_tokens=wire.max_output_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        response_format=_response_format(wire.text.format if wire.text else None),
        passthrough=_passthrough(wire, raw),
        passthrough_dialect=DIALECT,
    )
    return IncomingResponse(wire.model, request, bool(wire.stream), _echo(wire, raw, functions))


def _check_bounds(wire: _Request) -> None:
    if isinstance(wire.input, list):
        if not wire.input:
            raise wrong("input", "at least one item is needed")
        if len(wire.input) > MESSAGES_MAX:
            raise TooLarge(f"input: more than {MESSAGES_MAX} items", param="input")
    if len(wire.tools or ()) > TOOLS_MAX:
        raise TooLarge(f"tools: more than {TOOLS_MAX}", param="tools")
    if len(wire.include or ()) > INCLUDE_MAX:
        raise TooLarge(f"include: more than {INCLUDE_MAX}", param="include")
    check_bound("max_output_tokens", wire.max_output_tokens, 1, MAX_TOKENS_MAX)
    check_bound("temperature", wire.temperature, 0, 2)
    check_bound("top_p", wire.top_p, 0, 1)
    metadata = wire.metadata or {}
    if len(metadata) > METADATA_MAX:
        raise TooLarge(f"metadata: more than {METADATA_MAX} pairs", param="metadata")
    if any(len(key) > METADATA_KEY_MAX or len(value) > METADATA_VALUE_MAX for key, value in metadata.items()):
        what = f"keys have at most {METADATA_KEY_MAX} characters and values {METADATA_VALUE_MAX}"
        raise wrong("metadata", what)


def _refuse_state(wire: _Request) -> None:
    """What needs a server that remembers responses. Said before anything else: such a request lacks its history."""
    history = "send the whole conversation as input items, reasoning items with their encrypted_content"
    for name, is_asked, hint in (
        ("previous_response_id", wire.previous_response_id is not None, history),
        ("conversation", wire.conversation is not None, history),
        ("store", wire.store is True, "send store: false, or leave it out: it means false here"),
        ("background", wire.background is True, "leave it out, and stream the answer"),
    ):
        if is_asked:
            raise UnsupportedFeature(f"{name}: no response is kept here", hint=hint, param=name)


def _refuse_unsupported(wire: _Request) -> None:
    if wire.top_logprobs or "message.output_text.logprobs" in (wire.include or ()):
        name = "top_logprobs" if wire.top_logprobs else "include"
        raise UnsupportedFeature(f"{name}: logprobs are not passed on", hint="leave it out", param=name)
    if wire.stream_options is not None and not wire.stream:
        raise wrong("stream_options", "it goes with stream: true only")


def _function(tool: dict[str, Any], where: str) -> _Function:
    kind = tool.get("type")
    if isinstance(kind, str) and kind != "function":
        raise UnsupportedFeature(
            f"{where}.type: tools of type {word_of(kind)} are not passed on",
            hint="describe it as a tool of type function, and run it yourself",
            param=f"{where}.type",
        )
    if "function" in tool and "name" not in tool:
        raise wrong(f"{where}.name", "it is missing", hint="name and parameters stand beside type, not in function")
    function = convert(tool, _Function, where)
    if not function.name:
        raise wrong(f"{where}.name", "it is empty")
    check_depth(f"{where}.parameters", function.parameters)
    for name, value in tool.items():
        is_plain = value in (None, False) or (name == "allowed_callers" and value == ["direct"])
        if name not in _Function.__struct_fields__ and not is_plain:
            raise UnsupportedFeature(
                f"{where}: one of its fields is not passed on",
                hint=f"send {', '.join(_Function.__struct_fields__)}",
                param=where,
            )
    return function


def _tool_choice(given: str | dict[str, Any] | None, names: list[str]) -> tuple[ToolChoice | None, set[str] | None]:
    """The choice, and the names of the tools that are left to it; None leaves all."""
    if given is None:
        return None, None
    if given == "none":
        return "none", None
    if not names:
        raise wrong("tool_choice", "there are no tools to choose from")
    if given == "auto":
        return "auto", None
    if given == "required":
        return "required", None
    if isinstance(given, str):
        raise wrong("tool_choice", "it must be none, auto, required or an object")
    kind = given.get("type")
    if kind == "function":
        return NamedTool(_named(given, names, "tool_choice")), None
    if kind != "allowed_tools":
        message = f"tool_choice.type: {word_of(kind)} cannot be chosen"
        raise UnsupportedFeature(message, hint="use function or allowed_tools", param="tool_choice.type")
    mode, tools = given.get("mode"), given.get("tools")
    if not isinstance(tools, list) or not tools:
        raise wrong("tool_choice.tools", "it must be an array of at least one tool")
    allowed = {_named(tool, names, f"tool_choice.tools[{number}]") for number, tool in enumerate(tools)}
    if mode == "auto":
        return "auto", allowed
    if mode == "required":
        return "required", allowed
    raise wrong("tool_choice.mode", "it must be auto or required")


def _named(tool: Any, names: list[str], where: str) -> str:
    name = tool.get("name") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(name, str):
        raise wrong(where, "it must be a function with its name")
    if name not in names:
        raise wrong(f"{where}.name", "it names a tool that is not in tools")
    return name


def _response_format(wire: _Format | None) -> JsonSchema | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return JsonSchema()
    for name in ("name", "schema"):
        if getattr(wire, name) is None:
            raise wrong(f"text.format.{name}", "it is missing")
    return JsonSchema(wire.schema, wire.name or "", wire.strict, wire.description or "")


def _passthrough(wire: _Request, raw: dict[str, Any]) -> dict[str, Any]:
    """What has no place in `ChatRequest`: known fields in a tidy form, unknown ones as they came."""
    kept = {name: value for name, value in raw.items() if name not in _KNOWN and value is not None}
    for name in ("include", "metadata", "user"):
        if getattr(wire, name):
            kept[name] = getattr(wire, name)
    if wire.truncation == "auto":
        kept["truncation"] = "auto"
    reasoning = {name: value for name, value in (raw.get("reasoning") or {}).items() if value is not None}
    if reasoning:
        kept["reasoning"] = reasoning
    text = {name: value for name, value in (raw.get("text") or {}).items() if name != "format" and value is not None}
    if text:
        kept["text"] = text
    options = {name: value for name, value in (wire.stream_options or {}).items() if value}
    if options:
        kept["stream_options"] = options
    for name, value in (*kept.items(), ("text", raw.get("text")), ("tool_choice", wire.tool_choice)):
        check_depth(name, value)
    return kept


def _echo(wire: _Request, raw: dict[str, Any], functions: list[_Function]) -> dict[str, Any]:
    """The fields of the response object that repeat the request, with the defaults that hold here."""
    format = (raw.get("text") or {}).get("format") or {"type": "text"}
    echo: dict[str, Any] = {
        "instructions": wire.instructions,
        "max_output_tokens": wire.max_output_tokens,
        "max_tool_calls": None,
        "metadata": wire.metadata or {},
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None} | (raw.get("reasoning") or {}),
        "store": False,
        "temperature": wire.temperature,
        "text": (raw.get("text") or {}) | {"format": format},
        "tool_choice": wire.tool_choice or "auto",
        "tools": [msgspec.structs.asdict(function) for function in functions],
        "top_logprobs": 0,
        "top_p": wire.top_p,
        "truncation": wire.truncation or "disabled",
        "user": wire.user,
    }
    for name in ("max_tool_calls", "prompt_cache_key", "safety_identifier", "service_tier"):
        if raw.get(name) is not None and not isinstance(raw[name], dict | list):
            echo[name] = raw[name]
    return echo
