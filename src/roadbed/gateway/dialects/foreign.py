"""Fields that a caller gave in one dialect, on their way to an endpoint of another: what is carried over, what is
left out and named, what is refused.

Only `ChatRequest.passthrough` is at issue: everything else has a name of its own there. Pure. The invariant: a field
whose loss would change what the answer means is refused by name, and nothing else is left out without being named.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from roadbed.gateway.dialects.effort import effort_of, openai_level
from roadbed.gateway.errors import UnsupportedFeature
from roadbed.gateway.types import ChatRequest, ImagePart, Message, ReasoningPart

Carried = tuple[dict[str, Any], list[str]]

MEANING: dict[str, frozenset[str]] = {
    "openai": frozenset({"modalities", "audio", "web_search_options", "functions", "function_call", "store"}),
    "anthropic": frozenset({"container", "inference_geo", "mcp_servers", "output_format"}),
    "responses": frozenset({"prompt", "moderation", "context_management"}),
}
"""By the caller's dialect: fields that change the answer, or where it is made, and that no other dialect has."""

MEANING_OF_TURNS: dict[str, frozenset[str]] = {"openai": frozenset({"audio", "function_call"})}
"""The like of a turn: what was said in it, in a form that no other dialect has."""

REASONING = "messages[].reasoning"
"""The name under which blocks of reasoning are named that the endpoint cannot read."""

IS_ERROR = "is_error"
"""The name under which a dropped mark of a failed tool is named."""

_OF_BOTH = ("user", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier")
"""Fields that chat completions and Responses share."""


def left_out(request: ChatRequest, endpoint_dialect: str, carried: Collection[str] = ()) -> list[str]:
    """The names of the fields, hints and marks that are not carried. Raises `UnsupportedFeature` where one of them has
    a meaning, and for a tool that only a provider of the caller's dialect knows.
    """
    for number, tool in enumerate(request.tools):
        if tool.is_native:
            param = f"tools[{number}].type"
            raise UnsupportedFeature(f"{param}: the {endpoint_dialect} dialect does not know this tool", param=param)
    meaning = MEANING.get(request.passthrough_dialect, frozenset())
    for name, value in request.passthrough.items():
        if name == "modalities" and value == ["text"]:
            continue
        if name in meaning and value and name not in carried:
            hint = f"leave it out, or use a route to an endpoint of type {request.passthrough_dialect}"
            raise UnsupportedFeature(f"{name}: the {endpoint_dialect} dialect cannot carry it", hint=hint, param=name)
    hints = request.hint_names()
    said = MEANING_OF_TURNS.get(request.passthrough_dialect, frozenset())
    for name in sorted(said.intersection(hints).difference(carried)):
        param = f"messages[].{name}"
        raise UnsupportedFeature(f"{param}: the {endpoint_dialect} dialect cannot carry it", param=param)
    lost = {*request.passthrough, *hints}
    if any(message.is_error for message in request.messages):
        lost.add(IS_ERROR)
    return sorted(lost.difference(carried))


CALLED: dict[str, dict[str, str]] = {
    "anthropic": {
        "stop": "stop_sequences",
        "response_format": "output_config.format",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    },
    "responses": {"response_format": "text.format"},
}
"""What callers' dialects call the fields of `ChatRequest`, where that is not what chat completions call them."""


def in_words_of(dialect: str, error: UnsupportedFeature) -> UnsupportedFeature:
    """A refusal with the name that its field has for callers of a dialect."""
    param = error.param or ""
    name = CALLED.get(dialect, {}).get(param, param)
    if dialect != "openai":
        name = name.replace(".function.", ".")
    if name == param:
        return error
    message = error.message.replace(f"{param}:", f"{name}:", 1)
    return UnsupportedFeature(message, hint=error.hint, param=name, retry_after_s=error.retry_after_s)


def lost_reasoning(request: ChatRequest, dialect: str, *, is_sealed: bool = True) -> list[str]:
    """`REASONING` where some turn holds a block of reasoning that an endpoint of this dialect cannot read: another
    dialect's, or one without a seal where it wants one. The empty dialect reads none.
    """
    is_lost = any(
        isinstance(part, ReasoningPart) and (part.dialect != dialect or (is_sealed and not part.seal))
        for message in request.messages
        if not isinstance(message.content, str)
        for part in message.content
    )
    return [REASONING] if is_lost else []


def lost_detail(message: Message) -> list[str]:
    """The name of how closely a picture is to be looked at, where a turn says that."""
    if isinstance(message.content, str):
        return []
    is_asked = any(isinstance(part, ImagePart) and part.detail not in ("", "auto") for part in message.content)
    return ["image_url.detail"] if is_asked else []


def lost_description(request: ChatRequest) -> list[str]:
    """The name of what is said of the answer's schema, for dialects that take the schema alone."""
    wanted = request.response_format
    return ["response_format.description"] if wanted is not None and wanted.description else []


def chat_fields(request: ChatRequest, model: str) -> Carried:
    """What an endpoint that speaks chat completions gets, and the names of what it does not.

    ``metadata`` is not for it: without ``store`` it is refused there.
    """
    given = request.passthrough
    if request.passthrough_dialect != "responses":
        effort = effort_of(request)
        level = openai_level(effort, model)
        if not level:
            return {}, left_out(request, "openai")
        return {"reasoning_effort": level}, [*left_out(request, "openai", effort.told), *effort.rest]
    carried = {name: given[name] for name in _OF_BOTH if name in given}
    dropped = left_out(request, "openai", (*_OF_BOTH, "reasoning", "text"))
    for group, name, target in (("reasoning", "effort", "reasoning_effort"), ("text", "verbosity", "verbosity")):
        fields = given.get(group) or {}
        if name in fields:
            carried[target] = fields[name]
        dropped += [f"{group}.{other}" for other in fields if other != name]
    return carried, dropped


def responses_fields(request: ChatRequest, model: str) -> Carried:
    """What an endpoint that speaks Responses gets, and the names of what it does not."""
    given = request.passthrough
    if request.passthrough_dialect != "openai":
        effort = effort_of(request)
        level = openai_level(effort, model)
        if not level:
            return {}, left_out(request, "responses")
        return {"reasoning": {"effort": level}}, [*left_out(request, "responses", effort.told), *effort.rest]
    carried = {name: given[name] for name in (*_OF_BOTH, "metadata") if name in given}
    if "reasoning_effort" in given:
        carried["reasoning"] = {"effort": given["reasoning_effort"]}
    if "verbosity" in given:
        carried["text"] = {"verbosity": given["verbosity"]}
    return carried, left_out(request, "responses", (*_OF_BOTH, "metadata", "reasoning_effort", "verbosity"))
