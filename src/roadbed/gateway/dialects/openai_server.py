"""OpenAI chat completions, spoken to our own callers: their requests to `ChatRequest`, events to chunks and whole
completions.

Strict about types and roles: an error names the field's path. Fields that nothing here knows stay in ``passthrough``,
for endpoints of the same dialect. Chunks follow the documented grammar: role, content, finish, usage where asked for,
``[DONE]``. The invariant: a stream that broke gets an error object, and no finish chunk and no ``[DONE]``.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import msgspec

from roadbed.gateway.dialects.openai_plain import MAX_TOKENS_MAX, MESSAGES_MAX, PlainChat, decode_plain
from roadbed.gateway.dialects.openai_turns import (
    PLAIN_TURN,
    ToolFields,
    TurnFields,
    tool_choice_of,
    tool_of,
    turn_of,
)
from roadbed.gateway.dialects.reading import check_bound, check_size, invalid, json_of
from roadbed.gateway.dialects.request_checks import check_depth, check_limits, check_tool_names
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import (
    Answer,
    ChatRequest,
    Event,
    FinishReason,
    JsonSchema,
    Message,
    ReasoningDelta,
    RefusalDelta,
    Role,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from roadbed.kernel.errors import RoadbedError, TooLarge

TOOLS_MAX = 512
STOP_MAX = 16
_ROLES = " or ".join(get_args(Role))
_OLD_TOOLS = "send tools and tool_choice, which have taken its place"


class _SchemaFormat(msgspec.Struct):
    name: str = "answer"
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _SchemaFormat | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Request(msgspec.Struct):
    model: str
    messages: list[TurnFields]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[ToolFields] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    response_format: _ResponseFormat | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


_KNOWN = frozenset(_Request.__struct_fields__) - {"n", "logprobs", "top_logprobs"}
_HANDLED = _KNOWN | {"n", "logprobs", "top_logprobs"}


class IncomingChat(msgspec.Struct, frozen=True):
    """A caller's request: the model it names, the request itself, and how it wants the answer.

    ``is_plain`` says that the body means to an endpoint of this dialect what ``request`` means to us, so that its
    bytes could be sent there: each turn is one text, and no field would be left out or written in another way.
    ``limit_field`` is the name under which the caller gave the limit of tokens.
    """

    model: str
    request: ChatRequest
    stream: bool = False
    include_usage: bool = False
    is_plain: bool = False
    limit_field: str = ""

    def question(self) -> str:
        """The last text of the user; empty where there is none."""
        return next((message.text() for message in reversed(self.request.messages) if message.role == "user"), "")


Incoming = IncomingChat | PlainChat


def decode_chat(body: bytes) -> Incoming:
    """The request in a body. Raises `InvalidChatRequest`, `UnsupportedFeature` or `TooLarge`, with the field's path."""
    check_size(body)
    plain = decode_plain(body)
    if plain is not None:
        return plain
    return chat_from_object(json_of(body))


def chat_from_object(raw: Any) -> IncomingChat:
    """The request in a decoded body."""
    if not isinstance(raw, dict):
        raise InvalidChatRequest("the body must be a JSON object")
    try:
        wire = msgspec.convert(raw, _Request)
    except msgspec.ValidationError as error:
        raise invalid(error, roles=_ROLES) from None
    _check_bounds(wire)
    _refuse_unsupported(wire, raw)
    _check_contradictions(wire, raw)
    given = raw["messages"]
    messages = tuple([turn_of(message, given[number], number) for number, message in enumerate(wire.messages)])
    limit = wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    tools = tuple([tool_of(tool, raw["tools"][number], number) for number, tool in enumerate(wire.tools or ())])
    choice, tools = tool_choice_of(wire.tool_choice, tools)
    request = ChatRequest(
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        max_tokens=limit,
        temperature=wire.temperature,
        top_p=wire.top_p,
        stop=stop,
        response_format=_response_format(wire.response_format),
        passthrough=_passthrough(raw),
    )
    include_usage = bool(wire.stream_options and wire.stream_options.include_usage)
    return IncomingChat(
        wire.model, request, bool(wire.stream), include_usage, _is_plain(wire, raw, messages), _limit_field(wire)
    )


def _is_plain(wire: _Request, raw: dict[str, Any], messages: tuple[Message, ...]) -> bool:
    """See `IncomingChat`. Fields that are null, or make no sense without another one, are not sent on otherwise."""
    if None in raw.values() or (wire.stream_options is not None and not wire.stream):
        return False
    if not wire.tools and (wire.tool_choice is not None or wire.parallel_tool_calls is not None):
        return False
    if isinstance(wire.tool_choice, dict) and wire.tool_choice.get("type") == "allowed_tools":
        return False
    for message, given in zip(messages, raw["messages"], strict=True):
        if type(message.content) is not str or not given.keys() <= PLAIN_TURN or None in given.values():
            return False
    return True


def _limit_field(wire: _Request) -> str:
    if wire.max_completion_tokens is not None:
        return "max_completion_tokens" if wire.max_tokens is None else "both"
    return "max_tokens" if wire.max_tokens is not None else ""


def _check_bounds(wire: _Request) -> None:
    if not wire.messages:
        raise InvalidChatRequest("messages: at least one is needed", param="messages")
    if len(wire.messages) > MESSAGES_MAX:
        raise TooLarge(f"messages: more than {MESSAGES_MAX}", param="messages")
    if len(wire.tools or ()) > TOOLS_MAX:
        raise TooLarge(f"tools: more than {TOOLS_MAX}", param="tools")
    check_bound("max_tokens", wire.max_tokens, 1, MAX_TOKENS_MAX)
    check_bound("max_completion_tokens", wire.max_completion_tokens, 1, MAX_TOKENS_MAX)
    check_bound("temperature", wire.temperature, 0, 2)
    check_bound("top_p", wire.top_p, 0, 1)
    if isinstance(wire.stop, list) and len(wire.stop) > STOP_MAX:
        raise InvalidChatRequest(f"stop: more than {STOP_MAX}", param="stop")


def _check_contradictions(wire: _Request, raw: dict[str, Any]) -> None:
    """What no endpoint should be asked, since each would refuse it in its own words, or none would notice."""
    limits = ("max_tokens", wire.max_tokens), ("max_completion_tokens", wire.max_completion_tokens)
    check_limits(*limits)
    tools = [(f"tools[{number}].function", tool.function) for number, tool in enumerate(wire.tools or ())]
    check_tool_names((f"{path}.name", function.name) for path, function in tools if function is not None)
    for path, function in tools:
        if function is not None:
            check_depth(f"{path}.parameters", function.parameters)
    for name, value in raw.items():
        if name not in _HANDLED or name == "response_format":
            check_depth(name, value)


def _refuse_unsupported(wire: _Request, raw: dict[str, Any]) -> None:
    if wire.n is not None and wire.n != 1:
        raise UnsupportedFeature("n: only one choice is given", hint="ask again for another answer", param="n")
    if wire.logprobs or wire.top_logprobs:
        raise UnsupportedFeature("logprobs: they are not passed on", hint="leave it out", param="logprobs")
    modalities = raw.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise UnsupportedFeature("modalities: no sound is passed on", hint="ask for text", param="modalities")
    for name, hint in (("audio", "ask for text"), ("functions", _OLD_TOOLS), ("function_call", _OLD_TOOLS)):
        if raw.get(name):
            raise UnsupportedFeature(f"{name}: what answers it is not passed on", hint=hint, param=name)


def _passthrough(raw: dict[str, Any]) -> dict[str, Any]:
    """What has no place in `ChatRequest`, and what ``stream_options`` says beside what is ours."""
    kept = {name: value for name, value in raw.items() if name not in _HANDLED and value is not None}
    given = raw.get("stream_options") or {}
    options = {name: value for name, value in given.items() if name != "include_usage" and value}
    return kept | ({"stream_options": options} if options else {})


def _response_format(wire: _ResponseFormat | None) -> JsonSchema | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return JsonSchema()
    if wire.json_schema is None or wire.json_schema.schema is None:
        path = "response_format.json_schema.schema"
        raise InvalidChatRequest(f"{path}: it is missing", param=path)
    wanted = wire.json_schema
    return JsonSchema(wanted.schema, wanted.name, wanted.strict, wanted.description or "")


_encode = msgspec.json.encode


class ChatChunks:
    """Writes one answer as server-sent chunks. ``head`` first, then ``event`` per event, ``finish``, then ``done``."""

    __slots__ = ("_include_usage", "_prefix", "_suffix")

    def __init__(self, id: str, created_s: int, model: str, *, include_usage: bool = False) -> None:
        head = {"id": id, "object": "chat.completion.chunk", "created": created_s, "model": model}
        self._prefix = b"data: " + _encode(head)[:-1]
        self._include_usage = include_usage
        self._suffix = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def head(self) -> bytes:
        """The first chunk, which names the role."""
        return self._chunk(b'{"role":"assistant","content":""}')

    def event(self, event: Event) -> bytes:
        """The chunk of a delta; nothing for events that are written at the end."""
        match event:
            case TextDelta(text):
                return self._chunk(b'{"content":' + _encode(text) + b"}")
            case ToolCallDelta(index, id, name, arguments):
                call: dict[str, Any] = {"index": index}
                if id or name:
                    call |= {"id": id, "type": "function"}
                call["function"] = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
                return self._chunk(_encode({"tool_calls": [call]}))
            case RefusalDelta(text):
                return self._chunk(_encode({"refusal": text}))
            case ReasoningDelta(text):
                return self._chunk(_encode({"reasoning_content": text}))
            case _:
                return b""

    def text_frame(self) -> tuple[bytes, bytes]:
        """What stands before and after the text, as JSON without its quotes, in the chunk of a `TextDelta`."""
        before, _, after = self._chunk(b'{"content":"\0"}').partition(b"\0")
        return before, after

    def finish(
        self,
        reason: FinishReason,
        *,
        annotations: list[dict[str, Any]] | None = None,
        roadbed: Any = None,
    ) -> bytes:
        """The last chunk of the answer, with what Roadbed says about it."""
        delta = _encode({"annotations": annotations}) if annotations else b"{}"
        extra = b',"roadbed":' + _encode(roadbed) if roadbed is not None else b""
        return self._chunk(delta, _encode(reason), extra)

    def done(self, usage: Usage | None = None) -> bytes:
        """The usage chunk where it was asked for, and ``[DONE]``."""
        if not self._include_usage:
            return b"data: [DONE]\n\n"
        counts = _encode(usage_object(usage or Usage()))
        return self._prefix + b',"choices":[],"usage":' + counts + b"}\n\ndata: [DONE]\n\n"

    def error(self, error: RoadbedError) -> bytes:
        """The end of an answer that broke: no finish chunk and no ``[DONE]`` may follow."""
        return b"data: " + _encode(error_object(error)) + b"\n\n"

    def _chunk(self, delta: bytes, reason: bytes = b"null", extra: bytes = b"") -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]%b%b' % (
            self._prefix,
            delta,
            reason,
            extra,
            self._suffix,
        )


def completion_object(
    id: str,
    created_s: int,
    model: str,
    answer: Answer,
    *,
    annotations: list[dict[str, Any]] | None = None,
    roadbed: Any = None,
) -> dict[str, Any]:
    """A whole completion, for callers that do not stream."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text if answer.text or not (answer.tool_calls or answer.refusal) else None,
        "refusal": answer.refusal or None,
        "annotations": annotations or [],
    }
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in answer.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
    body: dict[str, Any] = {
        "id": id,
        "object": "chat.completion",
        "created": created_s,
        "model": model,
        "choices": [choice],
        "usage": usage_object(answer.usage or Usage()),
    }
    if roadbed is not None:
        body["roadbed"] = roadbed
    return body


def text_completion(
    trace_id: str, created_s: int, model: str, text: str, reason: FinishReason, usage: Usage, roadbed: Any
) -> bytes:
    """`completion_object` of an answer that is one text, encoded without building it first. ``trace_id`` is plain."""
    return (
        b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":{"role":'
        b'"assistant","content":%b,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"%b"}],"usage":%b,'
        b'"roadbed":%b}'
    ) % (
        trace_id.encode("ascii"),
        created_s,
        _encode(model),
        _encode(text),
        reason.encode("ascii"),
        _usage_bytes(usage),
        _encode(roadbed),
    )


def completion_bytes(
    id: str,
    created_s: int,
    model: str,
    answer: Answer,
    *,
    annotations: list[dict[str, Any]] | None = None,
    roadbed: Any = None,
) -> bytes:
    """`completion_object`, encoded."""
    return _encode(completion_object(id, created_s, model, answer, annotations=annotations, roadbed=roadbed))


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage as chat completions show it: prompt tokens include the cached ones."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": usage.output_reasoning},
    }


def _usage_bytes(usage: Usage) -> bytes:
    given, made = usage.input_tokens, usage.output_tokens
    return (
        b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d},'
        b'"completion_tokens_details":{"reasoning_tokens":%d}}'
    ) % (given, made, given + made, usage.cache_read, usage.output_reasoning)


_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_object(error: RoadbedError) -> dict[str, Any]:
    """The dialect's own error shape."""
    status = error.http_status
    kind = _ERROR_TYPES.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    message = f"{error.message} ({error.hint})" if error.hint else error.message
    return {"error": {"message": message, "type": kind, "param": getattr(error, "param", None), "code": error.code}}
