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
from roadbed.gateway.types import ChatRequest

Carried = tuple[dict[str, Any], list[str]]

MEANING: dict[str, frozenset[str]] = {
    "openai": frozenset({"modalities", "audio", "web_search_options", "functions", "function_call", "store"}),
    "anthropic": frozenset({"container", "inference_geo", "mcp_servers", "output_format"}),
    "responses": frozenset({"prompt", "moderation", "context_management"}),
}
"""By the caller's dialect: fields that change the answer, or where it is made, and that no other dialect has."""

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
    lost = {*request.passthrough, *request.hint_names()}
    if any(message.is_error for message in request.messages):
        lost.add(IS_ERROR)
    return sorted(lost.difference(carried))


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
