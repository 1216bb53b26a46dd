"""Amazon Bedrock's Converse and ConverseStream, spoken to model servers: requests to signed bytes, streamed and whole
answers to events.

Requests carry a bearer key, or a signature made from the endpoint's AWS credentials. What Converse cannot say is
refused by name when the answer's meaning would change, and named in ``dropped`` when only its quality would. The
invariant of ``base.py`` holds: an answer is finished at its ``metadata`` event, not at its stop reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, malformed
from roadbed.gateway.dialects.bedrock_answer import NAME, REDACTED, BedrockDecoder, whole_events
from roadbed.gateway.dialects.effort import claude_budget, effort_of, takes_budget
from roadbed.gateway.dialects.event_stream import EventStreamParser
from roadbed.gateway.dialects.foreign import IS_ERROR, left_out, lost_detail, lost_reasoning
from roadbed.gateway.dialects.sigv4 import Header, SignedParts, sign
from roadbed.gateway.dialects.translation import parts_of, unsupported
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
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
)
from roadbed.kernel.clock import SYSTEM_CLOCK, Clock
from roadbed.wire.address import parse_url

SERVICE = "bedrock"
TEMPERATURE_MAX = 1.0
_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")


class BedrockConverse:
    """The dialect ``bedrock``. ``clock`` gives the time that signatures carry."""

    name = NAME
    stream_type = b"application/vnd.amazon.eventstream"

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock

    def parser(self) -> EventStreamParser:
        """A parser of AWS event stream frames."""
        return EventStreamParser()

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``POST /model/ID/converse-stream``, or ``/converse``, signed."""
        dropped = lost_reasoning(request, NAME, is_sealed=False)
        body = _body(request, endpoint, dropped)
        verb = "converse-stream" if stream else "converse"
        path = f"/model/{quote(endpoint.model, safe='')}/{verb}"
        data = msgspec.json.encode(body)
        headers = self._authorized(endpoint, path, data, stream=stream)
        return EncodedRequest(path, headers, data, tuple(dict.fromkeys(dropped)))

    def decoder(self) -> BedrockDecoder:
        """A decoder for one streamed answer."""
        return BedrockDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        try:
            return whole_events(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise malformed("it is not JSON of the dialect") from None

    def _authorized(self, endpoint: Endpoint, path: str, body: bytes, *, stream: bool) -> tuple[Header, ...]:
        accept = self.stream_type if stream else b"application/json"
        headers: tuple[Header, ...] = ((b"content-type", b"application/json"), (b"accept", accept))
        if endpoint.key is not None:
            return (*headers, (b"authorization", b"Bearer " + endpoint.key.reveal().encode()))
        if endpoint.aws is None:
            return headers
        host = parse_url(endpoint.url).origin.host_header.decode()
        # Only what names the content is signed: a proxy may add to the rest.
        parts = SignedParts("POST", host, urlsplit(endpoint.url).path + path, headers=headers[:1], body=body)
        added = sign(parts, endpoint.aws, region=endpoint.region, service=SERVICE, at=self._clock.wall())
        return (*headers, *added)


def _body(request: ChatRequest, endpoint: Endpoint, dropped: list[str]) -> dict[str, Any]:
    system, turns = _turns(request.messages, dropped)
    if not turns:
        raise InvalidChatRequest("messages: at least one turn must not be of role system", param="messages")
    body: dict[str, Any] = {}
    output: dict[str, Any] = {}
    if request.passthrough_dialect == NAME:
        body.update(request.passthrough)
        output.update(body.pop("outputConfig", None) or {})
    else:
        _translate(request, endpoint, body, output, dropped)
    body["messages"] = turns
    if system:
        body["system"] = system
    body["inferenceConfig"] = _inference(request, endpoint, dropped)
    if request.tools and request.tool_choice != "none":
        body["toolConfig"] = _tool_config(request)
        if request.parallel_tool_calls is False:
            dropped.append("parallel_tool_calls")
    elif _has_calls(request.messages):
        _refuse_calls_without_tools(request)
    elif request.tools:
        dropped.append("tools")  # the choice is none, which Converse says by naming no tool
    if request.response_format is not None:
        output["textFormat"] = _text_format(request.response_format)
    if output:
        body["outputConfig"] = output
    return body


def _translate(
    request: ChatRequest, endpoint: Endpoint, body: dict[str, Any], output: dict[str, Any], dropped: list[str]
) -> None:
    """Fields of another dialect: how much to think is carried, all else is named. Raises as `left_out`."""
    effort = effort_of(request)
    if takes_budget(endpoint.model):
        budget = claude_budget(effort, request, NAME, _limit(request, endpoint))
        is_carried = budget > 0 or effort.level == "none"  # they do not think unasked
        if budget:
            body["additionalModelRequestFields"] = {"thinking": {"type": "enabled", "budget_tokens": budget}}
    else:
        is_carried = effort.level in _EFFORTS
        if is_carried:
            output["effort"] = effort.level
    dropped += left_out(request, NAME, (IS_ERROR, *effort.told) if is_carried else (IS_ERROR,))
    if is_carried:
        dropped += effort.rest


def _limit(request: ChatRequest, endpoint: Endpoint) -> int:
    return endpoint.profile.output_tokens_default if request.max_tokens is None else request.max_tokens


def _inference(request: ChatRequest, endpoint: Endpoint, dropped: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {"maxTokens": _limit(request, endpoint)}
    if request.temperature is not None:
        config["temperature"] = min(request.temperature, TEMPERATURE_MAX)
        if request.temperature > TEMPERATURE_MAX:
            dropped.append("temperature above 1")
    if request.top_p is not None:
        config["topP"] = request.top_p
    if request.stop:
        config["stopSequences"] = list(request.stop)
    return config


def _text_format(wanted: JsonSchema) -> dict[str, Any]:
    if wanted.schema is None:
        message = "response_format: plain JSON mode does not exist in the bedrock dialect"
        raise UnsupportedFeature(message, hint="send a json_schema", param="response_format")
    schema = {"schema": msgspec.json.encode(wanted.schema).decode(), "name": wanted.name}
    if wanted.description:
        schema["description"] = wanted.description
    return {"type": "json_schema", "structure": {"jsonSchema": schema}}


def _has_calls(messages: Iterable[Message]) -> bool:
    return any(message.tool_calls or message.role == "tool" for message in messages)


def _refuse_calls_without_tools(request: ChatRequest) -> None:
    """Converse wants the definitions of tools that the history has called, and then has no way to forbid them."""
    if request.tools:
        message = "tool_choice: the bedrock dialect cannot say none while the messages hold tool calls"
        raise UnsupportedFeature(message, hint="use auto, or another endpoint", param="tool_choice")
    message = "tools: the bedrock dialect needs them when the messages hold tool calls"
    raise UnsupportedFeature(message, hint="send the definitions of the tools that were called", param="tools")


def _tool_config(request: ChatRequest) -> dict[str, Any]:
    tools = []
    for number, tool in enumerate(request.tools):
        schema = tool.parameters or {"type": "object", "properties": {}}
        spec: dict[str, Any] = {"name": _checked(tool.name, f"tools[{number}]"), "inputSchema": {"json": schema}}
        if tool.description:
            spec["description"] = tool.description
        if tool.strict is not None:
            spec["strict"] = tool.strict
        tools.append({"toolSpec": spec})
    config: dict[str, Any] = {"tools": tools}
    match request.tool_choice:
        case NamedTool(name):
            config["toolChoice"] = {"tool": {"name": name}}
        case "required":
            config["toolChoice"] = {"any": {}}
        case "auto":
            config["toolChoice"] = {"auto": {}}
    return config


def _checked(name: str, where: str) -> str:
    if not _NAME.fullmatch(name):
        message = f"{where}: the bedrock dialect takes names of 1 to 64 letters, digits, _ and -"
        raise UnsupportedFeature(message, hint="rename the tool", param=where)
    return name


def _id(given: str) -> str:
    """A call's id as Converse takes it. The same id gives the same one, so that results find their calls."""
    if _ID.fullmatch(given):
        return given
    return f"{_NOT_IN_ID.sub('_', given)[:55]}_{sha256(given.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _turns(messages: Iterable[Message], dropped: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.name:
            dropped.append("messages[].name")
        dropped += lost_detail(message)
        if message.role in ("system", "developer"):
            system += _blocks(message, where)
            for place, part in enumerate(parts_of(message)):
                if not isinstance(part, TextPart | OtherPart):
                    raise unsupported(f"{where}.content[{place}]", NAME, "send it in a turn of the user")
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, where)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        # Results of tools must come first in their turn, or the request is refused.
        turn["content"].sort(key=lambda block: "toolResult" not in block)
    return system, turns


def _blocks(message: Message, where: str) -> list[dict[str, Any]]:
    parts: tuple[Part, ...] = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    blocks = [
        _block(part, f"{where}.content[{number}]")
        for number, part in enumerate(parts)
        # A text of blanks alone is refused; reasoning of another provider cannot be read.
        if not (isinstance(part, TextPart) and not part.text.strip())
        and not (isinstance(part, ReasoningPart) and part.dialect != NAME)
    ]
    if message.role == "tool":
        result: dict[str, Any] = {"toolUseId": _id(message.tool_call_id), "content": blocks}
        if message.is_error:
            result["status"] = "error"
        return [{"toolResult": result}]
    for number, call in enumerate(message.tool_calls):
        param = f"{where}.tool_calls[{number}].function"
        try:
            arguments = msgspec.json.decode(call.arguments or "{}")
        except (msgspec.DecodeError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            raise InvalidChatRequest(f"{param}.arguments: it must be a JSON object", param=f"{param}.arguments")
        name = _checked(call.name, f"{param}.name")
        blocks.append({"toolUse": {"toolUseId": _id(call.id), "name": name, "input": arguments}})
    return blocks


def _block(part: Part, where: str) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"text": text}
        case ImagePart(url):
            return {"image": _image(url, where)}
        case ReasoningPart(_, text, seal):
            if seal.startswith(REDACTED):
                return {"reasoningContent": {"redactedContent": seal.removeprefix(REDACTED)}}
            sealed = {"signature": seal} if seal else {}
            return {"reasoningContent": {"reasoningText": {"text": text, **sealed}}}
        case OtherPart(dialect, fields):
            if dialect != NAME:
                raise UnsupportedFeature(f"{where}: this part cannot be sent in the bedrock dialect", param=where)
            return fields


def _image(url: str, where: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        message = f"{where}: the bedrock dialect takes no address of an image"
        raise UnsupportedFeature(message, hint="send it as a data: URI", param=where)
    kind, comma, data = url.removeprefix("data:").partition(",")
    if not comma or not kind.endswith(";base64"):
        raise InvalidChatRequest(f"{where}: a data: URI must be base64", param=where)
    form = _IMAGES.get(kind.removesuffix(";base64").lower())
    if form is None:
        message = f"{where}: the bedrock dialect takes images of type png, jpeg, gif and webp"
        raise UnsupportedFeature(message, param=where)
    return {"format": form, "source": {"bytes": data}}
