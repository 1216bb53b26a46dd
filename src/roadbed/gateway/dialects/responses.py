"""OpenAI's Responses API, spoken to model servers: requests to bytes. `responses_decoder` reads the answers.

Nothing is kept at the provider: every request holds its whole history and says ``store: false``, and reasoning is asked
for sealed, so that the next turn can bring it back. The side that our own callers speak to is `responses_server`. The
invariant: what the dialect cannot carry is refused by name, or named in ``dropped``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect
from roadbed.gateway.dialects.foreign import lost_reasoning, responses_fields
from roadbed.gateway.dialects.responses_decoder import ResponsesDecoder, events_of_body
from roadbed.gateway.dialects.responses_reasoning import DIALECT, item_from_part
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import (
    ChatRequest,
    Event,
    ImagePart,
    JsonSchema,
    Message,
    NamedTool,
    OtherPart,
    Part,
    ReasoningPart,
    TextPart,
    Tool,
)

SEALED_REASONING = "reasoning.encrypted_content"
_OWN_FIELDS = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "store", "background", "previous_response_id",
        "conversation", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature", "top_p",
    }
)  # fmt: skip


class Responses(ServerSentDialect):
    """The dialect ``responses``."""

    name = DIALECT

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /responses``."""
        if request.stop:
            hint = "leave it out, or use a route to an endpoint of another type"
            raise UnsupportedFeature("stop: the responses dialect has no stop sequences", hint=hint, param="stop")
        is_own = request.passthrough_dialect == self.name
        carried, dropped = (request.passthrough, []) if is_own else responses_fields(request, endpoint.model)
        body = {name: value for name, value in carried.items() if name not in _OWN_FIELDS}
        dropped += [f"stream_options.{name}" for name in carried.get("stream_options") or ()]
        dropped += lost_reasoning(request, DIALECT)
        items: list[dict[str, Any]] = []
        for number, message in enumerate(request.messages):
            if message.name:
                dropped.append("messages[].name")
            items += _items(message, f"messages[{number}]", is_own=is_own)
        body |= {"model": endpoint.model, "input": items, "store": False}
        if "reasoning" in body or any(item.get("type") == "reasoning" for item in items):
            # Not asked for always: models that do not reason refuse it.
            body["include"] = list(dict.fromkeys([*(body.get("include") or ()), SEALED_REASONING]))
        if request.tools:
            body["tools"] = [_tool(tool, is_own=is_own) for tool in request.tools]
            if request.parallel_tool_calls is not None:
                body["parallel_tool_calls"] = request.parallel_tool_calls
            if isinstance(request.tool_choice, NamedTool):
                body["tool_choice"] = {"type": "function", "name": request.tool_choice.name}
            elif request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
        if request.max_tokens is not None:
            body["max_output_tokens"] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.response_format is not None:
            body["text"] = (body.get("text") or {}) | {"format": _format(request.response_format)}
        if stream:
            body["stream"] = True
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        if endpoint.key is not None:
            headers.append((b"authorization", b"Bearer " + endpoint.key.reveal().encode()))
        names = tuple(dict.fromkeys(dropped))
        return EncodedRequest("/responses", tuple(headers), msgspec.json.encode(body), names)

    def decoder(self) -> ResponsesDecoder:
        """A decoder for one streamed answer."""
        return ResponsesDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        return events_of_body(body)


def _items(message: Message, where: str, *, is_own: bool) -> list[dict[str, Any]]:
    if message.role == "assistant":
        return _assistant_items(message, where, message.hints or {} if is_own else {})
    content: str | list[dict[str, Any]]
    if isinstance(message.content, str):
        content = message.content
    else:
        content = [
            _input_part(part, f"{where}.content[{number}]")
            for number, part in enumerate(message.content)
            if not isinstance(part, ReasoningPart)
        ]
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": content}]
    return [{"role": message.role, "content": content}]


def _assistant_items(message: Message, where: str, hints: dict[str, Any]) -> list[dict[str, Any]]:
    """Reasoning, what was said, the calls: in the order in which a model gives them. ``hints`` are of what was said."""
    items: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for number, part in enumerate(message.content if not isinstance(message.content, str) else ()):
        if isinstance(part, ReasoningPart):
            item = item_from_part(part)
            items += [item] if item is not None else []
        elif isinstance(part, TextPart):
            said.append({"type": "output_text", "text": part.text})
        else:
            where = f"{where}.content[{number}]"
            raise UnsupportedFeature(f"{where}: an assistant's turn holds text alone in this dialect", param=where)
    if said:
        items.append({**hints, "role": "assistant", "content": said})
    elif isinstance(message.content, str) and (message.content or not message.tool_calls):
        items.append({**hints, "role": "assistant", "content": message.content})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in message.tool_calls
    ]
    return items


def _input_part(part: Part, where: str) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"type": "input_text", "text": text}
        case ImagePart(url, detail):
            return {"type": "input_image", "image_url": url} | ({"detail": detail} if detail else {})
        case OtherPart(dialect, fields) if dialect == DIALECT:
            return fields
        case _:
            raise UnsupportedFeature(f"{where}: this part cannot be sent in the responses dialect", param=where)


def _tool(tool: Tool, *, is_own: bool) -> dict[str, Any]:
    """A function. Left out, ``strict`` means true here and false in every other dialect."""
    strict = tool.strict if is_own or tool.strict is not None else False
    body: dict[str, Any] = {"type": "function", "name": tool.name, "parameters": tool.parameters, "strict": strict}
    return body | ({"description": tool.description} if tool.description else {})


def _format(wanted: JsonSchema) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    body: dict[str, Any] = {"type": "json_schema", "name": wanted.name, "schema": wanted.schema}
    if wanted.description:
        body["description"] = wanted.description
    return body | ({} if wanted.strict is None else {"strict": wanted.strict})
