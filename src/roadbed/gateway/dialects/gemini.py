"""The Gemini API, spoken to model servers: requests to bytes, streamed and whole answers to events.

System turns go to ``systemInstruction``, results of tools become ``functionResponse`` parts in the order of their
calls. A ``thoughtSignature`` goes back on the part that it came with: the seal of a `ReasoningPart` says which one.
`gemini_answer.py` reads answers. The invariant of ``base.py`` holds there: no finish that the server did not send.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any
from urllib.parse import quote

import msgspec

from roadbed.gateway.dialects.base import EncodedRequest, ServerSentDialect
from roadbed.gateway.dialects.effort import BUDGETS, Effort, effort_of
from roadbed.gateway.dialects.foreign import IS_ERROR, left_out, lost_description, lost_detail, lost_reasoning
from roadbed.gateway.dialects.gemini_answer import MADE_UP_ID, TOOL_CALLS_MAX, GeminiDecoder, Seal, opened
from roadbed.gateway.dialects.translation import (
    call_arguments,
    check_system,
    data_uri,
    forced_name,
    foreign_part,
    is_one_at_a_time,
    parts_of,
    schema_of,
    unsupported,
)
from roadbed.gateway.endpoints import Endpoint
from roadbed.gateway.errors import InvalidChatRequest
from roadbed.gateway.types import ChatRequest, Event, ImagePart, Message, OtherPart, ReasoningPart, TextPart, Tool
from roadbed.wire.sse import SseEvent

NAME = "gemini"
_CARRIED = {"seed": "seed", "presence_penalty": "presencePenalty", "frequency_penalty": "frequencyPenalty"}
_VERSION = re.compile(r"gemini-(\d+)(?:\.(\d+))?")
_SMALLEST_BUDGET_OF_PRO = 128
_SMALLEST_BUDGET_OF_LITE = 512
_PLACE = "place"
_OUTCOME = {False: "output", True: "error"}
_UNSIGNED = "skip_thought_signature_validator"
"""What Google documents in place of the signature of a call that another model made: Gemini 3 refuses one without."""


class Gemini(ServerSentDialect):
    """The dialect ``gemini``."""

    name = NAME

    def encode(self, request: ChatRequest, endpoint: Endpoint, *, stream: bool = True) -> EncodedRequest:
        """The request's bytes for ``:generateContent`` or ``:streamGenerateContent``."""
        dropped: list[str] = [*lost_reasoning(request, NAME), *lost_description(request)]
        body: dict[str, Any] = {}
        system, contents = _Turns(endpoint.model, dropped).of(request.messages)
        if not contents:
            raise InvalidChatRequest("messages: at least one turn must not be of role system", param="messages")
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        body["contents"] = contents
        if request.tools:
            body["tools"] = [{"functionDeclarations": [_declaration(tool) for tool in request.tools]}]
            if is_one_at_a_time(request.parallel_tool_calls, request.tools, request.tool_choice):
                raise unsupported("parallel_tool_calls", NAME)
            body.update(_tool_config(request))
        settings = _generation_config(request, endpoint.model, dropped)
        if settings:
            body["generationConfig"] = settings
        headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        if endpoint.key is not None:
            headers.append((b"x-goog-api-key", endpoint.key.reveal().encode()))
        model = endpoint.model if "/" in endpoint.model else f"models/{endpoint.model}"
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        path = f"/{quote(model, safe='/')}:{verb}"
        return EncodedRequest(path, tuple(headers), msgspec.json.encode(body), tuple(dict.fromkeys(dropped)))

    def decoder(self) -> GeminiDecoder:
        """A decoder for one streamed answer."""
        return GeminiDecoder()

    def decode_body(self, body: bytes) -> list[Event]:
        """The events of an answer that was not streamed."""
        decoder = GeminiDecoder()
        events = decoder.feed(SseEvent(body))
        decoder.finish()
        return events


class _Turns:
    """Puts turns together, and remembers which call each result answers."""

    def __init__(self, model: str, dropped: list[str]) -> None:
        self._is_signed_model = _version(model) >= (3, 0)
        self._dropped = dropped
        self._names: dict[str, str] = {}
        self._order: dict[str, int] = {}

    def of(self, messages: tuple[Message, ...]) -> tuple[str, list[dict[str, Any]]]:
        """The text of the system turns, and the others as contents of the roles user and model, by turns."""
        system: list[str] = []
        contents: list[dict[str, Any]] = []
        for number, message in enumerate(messages):
            where = f"messages[{number}]"
            if message.name:
                self._dropped.append("messages[].name")
            self._dropped += lost_detail(message)
            if message.role in ("system", "developer"):
                check_system(message, where, NAME)
                system.append(message.text())
                continue
            role = "model" if message.role == "assistant" else "user"
            parts = self._parts(message, where)
            if not parts:
                continue
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        for turn in contents:
            # Results come first, in the order of their calls: without ids, only that tells two of one name apart.
            turn["parts"].sort(key=lambda part: part.get(_PLACE, TOOL_CALLS_MAX))
            for part in turn["parts"]:
                part.pop(_PLACE, None)
        return "\n\n".join(text for text in system if text), contents

    def _parts(self, message: Message, where: str) -> list[dict[str, Any]]:
        if message.role == "tool":
            return [self._result(message, where)]
        if message.role != "assistant":
            return [
                _part(part, f"{where}.content[{number}]")
                for number, part in enumerate(parts_of(message))
                if not isinstance(part, ReasoningPart) and not (isinstance(part, TextPart) and not part.text)
            ]
        return self._answer(message, where)

    def _answer(self, message: Message, where: str) -> list[dict[str, Any]]:
        """A turn of the model, with each signature on the part that it came with."""
        parts: list[dict[str, Any]] = []
        pieces: list[Seal] = []
        calls: dict[int, str] = {}
        others: list[dict[str, Any]] = []
        for number, part in enumerate(parts_of(message)):
            if isinstance(part, ReasoningPart):
                seal = opened(part)
                if seal is None:
                    continue
                if seal.on == "thought":
                    parts.append({"text": part.text, "thought": True, "thoughtSignature": seal.sig})
                elif seal.on == "call":
                    calls.setdefault(seal.start, seal.sig)
                else:
                    pieces.append(seal)
            elif not isinstance(part, TextPart):
                others.append(_part(part, f"{where}.content[{number}]"))
        parts += _signed_text(message.text(), pieces)
        parts += others
        for number, call in enumerate(message.tool_calls):
            arguments = call_arguments(call, f"{where}.tool_calls[{number}]")
            body: dict[str, Any] = {"functionCall": {"name": call.name, "args": arguments}}
            if not call.id.startswith(MADE_UP_ID):
                body["functionCall"]["id"] = call.id
            signature = calls.get(number)
            if signature is None and number == 0 and self._is_signed_model:
                signature = _UNSIGNED
            if signature is not None:
                body["thoughtSignature"] = signature
            parts.append(body)
            self._names[call.id] = call.name
            self._order[call.id] = number
        return parts

    def _result(self, message: Message, where: str) -> dict[str, Any]:
        name = self._names.get(message.tool_call_id)
        if name is None:
            param = f"{where}.tool_call_id"
            raise InvalidChatRequest(f"{param}: no call before it has this id", param=param)
        files = []
        for number, part in enumerate(parts_of(message)):
            if isinstance(part, TextPart):
                continue
            if not isinstance(part, ImagePart) or not self._is_signed_model:
                hint = "a tool's result must be text; from Gemini 3 on it may hold pictures"
                raise unsupported(f"{where}.content[{number}]", NAME, hint)
            files.append(_part(part, f"{where}.content[{number}]"))
        response: dict[str, Any] = {"name": name, "response": {_OUTCOME[message.is_error]: message.text()}}
        if files:
            response["parts"] = files
        if not message.tool_call_id.startswith(MADE_UP_ID):
            response["id"] = message.tool_call_id
        return {"functionResponse": response, _PLACE: self._order[message.tool_call_id]}


def _signed_text(text: str, seals: list[Seal]) -> list[dict[str, Any]]:
    """The text of a turn, cut where signed parts began and ended. A seal that no longer fits signs an empty part, which
    is how a stream brings most of them.
    """
    parts: list[dict[str, Any]] = []
    at = 0
    for seal in sorted(seals, key=lambda seal: (seal.start, seal.end)):
        start, end = min(seal.start, len(text)), min(seal.end, len(text))
        if start < at or end - start != seal.end - seal.start:
            start = end = max(at, end)
        if start > at:
            parts.append({"text": text[at:start]})
        parts.append({"text": text[start:end], "thoughtSignature": seal.sig})
        at = end
    if at < len(text):
        parts.append({"text": text[at:]})
    return parts


def _part(part: TextPart | ImagePart | OtherPart, where: str) -> dict[str, Any]:
    match part:
        case TextPart(text):
            return {"text": text}
        case ImagePart(url):
            inline = data_uri(url, where)
            if inline is not None:
                return {"inlineData": {"mimeType": inline[0], "data": inline[1]}}
            kind = mimetypes.guess_type(url.partition("?")[0])[0]
            return {"fileData": {"mimeType": kind, "fileUri": url} if kind else {"fileUri": url}}
        case OtherPart():
            raise foreign_part(part, where, NAME)


def _declaration(tool: Tool) -> dict[str, Any]:
    body: dict[str, Any] = {"name": tool.name, "parametersJsonSchema": schema_of(tool)}
    if tool.description:
        body["description"] = tool.description
    return body


def _tool_config(request: ChatRequest) -> dict[str, Any]:
    """The mode of calling. VALIDATED is AUTO held to the schemas, which is what a strict tool asks for."""
    config: dict[str, Any]
    name = forced_name(request.tool_choice)
    if name:
        config = {"mode": "ANY", "allowedFunctionNames": [name]}
    elif request.tool_choice == "required":
        config = {"mode": "ANY"}
    elif request.tool_choice == "none":
        config = {"mode": "NONE"}
    elif any(tool.strict for tool in request.tools):
        config = {"mode": "VALIDATED"}
    elif request.tool_choice == "auto":
        config = {"mode": "AUTO"}
    else:
        return {}
    return {"toolConfig": {"functionCallingConfig": config}}


def _generation_config(request: ChatRequest, model: str, dropped: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    carried = {*_CARRIED} if request.passthrough_dialect == "openai" else set[str]()
    effort = effort_of(request)
    thinking = _thinking(effort, model, request.max_tokens)
    dropped += left_out(request, NAME, {IS_ERROR, *carried, *(effort.told if thinking is not None else ())})
    if thinking is not None:
        config["thinkingConfig"] = thinking
        dropped += effort.rest
    for name in sorted(carried & request.passthrough.keys()):
        value = request.passthrough[name]
        if isinstance(value, int | float) and not isinstance(value, bool):
            config[_CARRIED[name]] = value
        else:
            raise InvalidChatRequest(f"{name}: it must be a number", param=name)
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.top_p is not None:
        config["topP"] = request.top_p
    if request.stop:
        config["stopSequences"] = list(request.stop)
    if request.response_format is not None:
        config["responseMimeType"] = "application/json"
        if request.response_format.schema is not None:
            config["responseJsonSchema"] = request.response_format.schema
    return config


def _thinking(wanted: Effort, model: str, output_tokens: int | None) -> dict[str, Any] | None:
    """How much a model is to think: levels from Gemini 3 on, tokens for 2.5; None where it cannot be told.

    Thoughts are asked for with it: while they come, the endpoint is not taken for silent.
    """
    version, effort = _version(model), wanted.level
    if not effort or version < (2, 5):
        return None
    if version >= (3, 0):
        is_pro = "pro" in model
        level = {"none": "minimal", "xhigh": "high", "max": "high"}.get(effort, effort)
        if level == "minimal" and is_pro:
            level = "low"
        if level == "medium" and is_pro and version == (3, 0):
            level = "high"
        return {"thinkingLevel": level, "includeThoughts": effort != "none"}
    budget = min(wanted.tokens(output_tokens), BUDGETS["max"])
    if "pro" in model:
        budget = max(budget, _SMALLEST_BUDGET_OF_PRO)
    elif "lite" in model and budget < _SMALLEST_BUDGET_OF_LITE:
        budget = 0
    return {"thinkingBudget": budget, "includeThoughts": effort != "none"}


def _version(model: str) -> tuple[int, int]:
    """The version in a model's name; (0, 0) where there is none, as in ``gemini-flash-latest``."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
