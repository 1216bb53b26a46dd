"""Anthropic Messages, spoken to model servers: requests to bytes, streamed and whole answers to events.

System turns go to the top-level ``system``, tool results become user turns, turns of one role are joined. What
OpenAI's fields mean and Messages cannot say is refused by name when the answer's meaning would change, and named in
``dropped`` when only its quality would. The invariant of ``base.py`` holds: no finish that the server did not send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.dialects.anthropic_answers import DIALECT, RUN_BY_A_PROVIDER, AnthropicDecoder
from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect
from roadbed.gateway.dialects.effort import claude_budget, effort_of, takes_budget
from roadbed.gateway.dialects.foreign import IS_ERROR, left_out, lost_description, lost_detail, lost_reasoning
from roadbed.gateway.dialects.translation import check_system
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import (
    ChatRequest,
    Event,
    Hints,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
)

VERSION = b"2023-06-01"
TEMPERATURE_MAX = 1.0
EFFORTS = frozenset({"low", "medium", "high"})
"""Levels of thought that mean the same in ``output_config.effort``."""


class AnthropicMessages(ServerSentDialect):
    """The dialect ``anthropic``."""

    name = DIALECT

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /v1/messages``."""
        dropped: list[str] = []
        is_own = request.passthrough_dialect == self.name
        limit = endpoint.profile.output_tokens_default if request.max_tokens is None else request.max_tokens
        body: dict[str, Any] = {}
        if is_own:
            body.update(request.passthrough)
        else:
            _translate(request, endpoint.model, limit, body, dropped)
        dropped += lost_reasoning(request, DIALECT)
        system, turns = _turns(request.messages, dropped, is_own=is_own)
        if not turns:
            raise InvalidChatRequest("messages: at least one turn must not be of role system", param="messages")
        body["max_tokens"] = limit
        body["model"] = endpoint.model
        body["messages"] = turns
        if system:
            body["system"] = system
        if request.temperature is not None:
            body["temperature"] = min(request.temperature, TEMPERATURE_MAX)
            if request.temperature > TEMPERATURE_MAX:
                dropped.append("temperature above 1")
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if request.tools:
            body["tools"] = _tools(request, endpoint, is_own=is_own)
            body.update(_tool_choice(request))
        if request.response_format is not None:
            body["output_config"] = (body.get("output_config") or {}) | {"format": _format(request.response_format)}
            dropped += lost_description(request)
        if stream:
            body["stream"] = True
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json"), (b"anthropic-version", VERSION)]
        if endpoint.key is not None:
            headers.append((b"x-api-key", endpoint.key.reveal().encode()))
        path = "/messages" if endpoint.url.endswith("/v1") else "/v1/messages"
        return EncodedRequest(path, tuple(headers), msgspec.json.encode(body), tuple(dict.fromkeys(dropped)))

    def decoder(self) -> AnthropicDecoder:
        """A decoder for one streamed answer."""
        return AnthropicDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        return AnthropicDecoder().whole(body)


def _translate(request: ChatRequest, model: str, limit: int, body: dict[str, Any], dropped: list[str]) -> None:
    """Fields of another dialect: carried where Messages has the like, else named in ``dropped``; raises for those whose
    loss would change the answer.
    """
    effort = effort_of(request)
    if takes_budget(model):
        budget = claude_budget(effort, request, DIALECT, limit)
        is_carried = budget > 0 or effort.level == "none"  # they do not think unasked
        if budget:
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        is_carried = effort.level in EFFORTS
        if is_carried:
            body["output_config"] = {"effort": effort.level}
    dropped += left_out(request, DIALECT, (IS_ERROR, *effort.told) if is_carried else (IS_ERROR,))
    if is_carried:
        dropped += effort.rest


def _turns(
    messages: Iterable[Message], dropped: list[str], *, is_own: bool
) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """The system text, or its blocks where they carry more than text, and the turns."""
    system: list[tuple[str, Message]] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.name:
            dropped.append("messages[].name")
        dropped += lost_detail(message)
        if message.role in ("system", "developer"):
            check_system(message, where, DIALECT)
            system.append((where, message))
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, where, is_own=is_own)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # Results of tools must come first in their turn, or the request is refused.
        if turn["role"] == "user" and len(turn["content"]) > 1:
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    if is_own and any(not isinstance(message.content, str) for _, message in system):
        return [block for where, message in system for block in _blocks(message, where, is_own=True)], turns
    return "\n\n".join(text for _, message in system if (text := message.text())), turns


def _blocks(message: Message, where: str, *, is_own: bool) -> list[dict[str, Any]]:
    parts: tuple[Part, ...] = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    blocks = [
        _block(part, f"{where}.content[{number}]", is_own=is_own)
        for number, part in enumerate(parts)
        if not (isinstance(part, TextPart) and not part.text)
        and not (isinstance(part, ReasoningPart) and not (part.dialect == DIALECT and part.seal))
    ]
    if message.role == "tool":
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": blocks}
        if message.is_error:
            result["is_error"] = True
        return [_hinted(result, message.hints, is_own=is_own)]
    for number, call in enumerate(message.tool_calls):
        try:
            arguments = msgspec.json.decode(call.arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            param = f"{where}.tool_calls[{number}].function.arguments"
            raise InvalidChatRequest(f"{param}: it must be a JSON object", param=param)
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}
        blocks.append(_hinted(block, call.hints, is_own=is_own))
    return blocks


def _hinted(block: dict[str, Any], hints: Hints, *, is_own: bool) -> dict[str, Any]:
    return {**hints, **block} if hints and is_own else block


def _block(part: Part, where: str, *, is_own: bool) -> dict[str, Any]:
    match part:
        case TextPart(text, hints):
            return _hinted({"type": "text", "text": text}, hints, is_own=is_own)
        case ImagePart(url, _, hints):
            return _hinted({"type": "image", "source": _image_source(url, where)}, hints, is_own=is_own)
        case ReasoningPart(_, _, seal, True):
            return {"type": "redacted_thinking", "data": seal}
        case ReasoningPart(_, text, seal):
            return {"type": "thinking", "thinking": text, "signature": seal}
        case OtherPart(dialect, fields):
            if dialect != DIALECT:
                raise UnsupportedFeature(f"{where}: this part cannot be sent in the anthropic dialect", param=where)
            return fields


def _image_source(url: str, where: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, comma, data = url.removeprefix("data:").partition(",")
    if not comma or not kind.endswith(";base64"):
        raise InvalidChatRequest(f"{where}: a data: URI must be base64", param=where)
    return {"type": "base64", "media_type": kind.removesuffix(";base64"), "data": data}


def _format(wanted: JsonSchema) -> dict[str, Any]:
    if wanted.schema is None:
        message = "response_format: plain JSON mode does not exist in the anthropic dialect"
        raise UnsupportedFeature(message, hint="send a json_schema", param="response_format")
    return {"type": "json_schema", "schema": wanted.schema}


def _tools(request: ChatRequest, endpoint: Endpoint, *, is_own: bool) -> list[dict[str, Any]]:
    tools = []
    for number, tool in enumerate(request.tools):
        if tool.is_native:
            if not is_own:
                param = f"tools[{number}].type"
                raise UnsupportedFeature(f"{param}: the anthropic dialect does not know this tool", param=param)
            hints = tool.hints or {}
            if RUN_BY_A_PROVIDER.fullmatch(str(hints.get("type"))) and not endpoint.has_provider_tools:
                param = f"tools[{number}].type"
                hint = "leave out tools that the provider runs, or set `provider_tools` of the endpoint"
                raise UnsupportedFeature(f"{param}: {endpoint.name} may run no tools", hint=hint, param=param)
            tools.append({**hints, "name": tool.name})
            continue
        schema = tool.parameters or {"type": "object", "properties": {}}
        body: dict[str, Any] = {"name": tool.name, "input_schema": schema}
        if tool.description:
            body["description"] = tool.description
        if tool.strict is not None:
            body["strict"] = tool.strict
        tools.append(_hinted(body, tool.hints, is_own=is_own))
    return tools


def _tool_choice(request: ChatRequest) -> dict[str, Any]:
    choice: dict[str, Any]
    match request.tool_choice:
        case NamedTool(name):
            choice = {"type": "tool", "name": name}
        case "none":
            return {"tool_choice": {"type": "none"}}
        case "required":
            choice = {"type": "any"}
        case _:
            if request.tool_choice is None and request.parallel_tool_calls is not False:
                return {}
            choice = {"type": "auto"}
    if request.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return {"tool_choice": choice}
