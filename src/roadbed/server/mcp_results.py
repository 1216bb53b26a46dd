"""Outcomes of tool calls as results of the MCP wire. Pure.

What a model can mend is a result with ``isError``, never a protocol error: clients show results to their model. The
data stands twice, as ``structuredContent`` and as JSON text for clients that read text alone; where it came from and
whether there is more stands in ``_meta`` and, for the model, in a last line of text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from roadbed.kernel.wording import counted
from roadbed.server.mcp_types import META_PREFIX, Caller, Json
from roadbed.tools.types import Failed, NeedsApproval, Ok, Outcome, Refused, Tool

APPROVAL_KEY = "approval"
ERROR_KEY = f"{META_PREFIX}error"
STALE_KEY = "stale"


def tool_entry(tool: Tool) -> Json:
    """A tool as ``tools/list`` shows it."""
    entry: Json = {
        "name": tool.name,
        "description": tool.description,
        "inputSchema": dict(tool.input_schema),
        "annotations": {
            "readOnlyHint": tool.effect == "read",
            "destructiveHint": tool.effect == "irreversible",
            "openWorldHint": tool.effect == "send",
        },
    }
    if tool.title:
        entry["title"] = tool.title
    if tool.output_schema is not None and tool.output_schema.get("type") == "object":
        # The older eras know no other schemas, and a list does not depend on the era.
        entry["outputSchema"] = dict(tool.output_schema)
    return entry


def result_of(outcome: Outcome, tool: Tool, caller: Caller, console_url: str) -> Json:
    """What a client gets for an outcome."""
    match outcome:
        case Ok():
            return ok_result(outcome, tool)
        case Refused(code, message, hint, param, retry_after_s):
            return failed_result(code, message, hint, param=param, retry_after_s=retry_after_s)
        case Failed(code, message, source, is_retryable, hint, retry_after_s):
            return failed_result(
                code, message, hint, source=source, retryable=is_retryable, retry_after_s=retry_after_s
            )
        case NeedsApproval():
            return approval_result(outcome, tool, caller, console_url)


def ok_result(outcome: Ok, tool: Tool) -> Json:
    """Data, with where it came from. A kept result of a source that is away says its age in the data, and in words."""
    data = outcome.data
    stale = max((found.age_s for found in outcome.provenance), default=0.0)
    if stale > 0 and _may_hold(tool, data):
        data = {**(data if isinstance(data, dict) else {"result": data}), STALE_KEY: {"age_s": math.ceil(stale)}}
    text = msgspec.json.encode(data).decode()
    content = [{"type": "text", "text": text}]
    meta: Json = {}
    if outcome.provenance:
        meta[f"{META_PREFIX}provenance"] = [
            {"source": found.source, "resource": found.resource, "as_of": found.as_of, "age_s": found.age_s}
            for found in outcome.provenance
        ]
    if outcome.is_truncated:
        meta[f"{META_PREFIX}truncated"] = True
        more = "There is more than is shown"
        if outcome.cursor:
            meta[f"{META_PREFIX}cursor"] = outcome.cursor
            more += f'; to read on, call again with the argument "cursor": "{outcome.cursor}"'
        content.append({"type": "text", "text": more + "."})
    if stale > 0:
        meta[f"{META_PREFIX}stale"] = {"age_s": math.ceil(stale)}
        old = counted(math.ceil(stale), "second")
        content.append({"type": "text", "text": f"The source was away; this result is {old} old."})
    structured = data if isinstance(data, dict) else {"result": data}
    result: Json = {"content": content, "structuredContent": structured, "isError": False}
    return {**result, "_meta": meta} if meta else result


def _may_hold(tool: Tool, data: Any) -> bool:
    """Whether a member more keeps the data within the schema that the tool declared."""
    schema = tool.output_schema or {}
    is_open = schema.get("additionalProperties", True) is not False and "propertyNames" not in schema
    return is_open and not (isinstance(data, dict) and STALE_KEY in data)


def failed_result(code: str, message: str, hint: str = "", **facts: Any) -> Json:
    """An error that a model reads and can mend."""
    text = f"{message} ({hint})" if hint else message
    error = {"code": code, "message": message, "hint": hint, **facts}
    kept = {name: value for name, value in error.items() if value not in ("", None)}
    return {"content": [{"type": "text", "text": text}], "isError": True, "_meta": {ERROR_KEY: kept}}


def approval_result(outcome: NeedsApproval, tool: Tool, caller: Caller, console_url: str) -> Json:
    """Ask for an approval: the client's user is sent to the console, where people who may do so approve.

    A client that can ask its user retries the same call afterwards; one that cannot gets the address to show. The
    approval itself never comes over MCP, where a model could have made it up.
    """
    message, link = approval_message(outcome, tool, console_url)
    answer = caller.answers.get(APPROVAL_KEY)
    if isinstance(answer, Mapping) and answer.get("action") in ("decline", "cancel"):
        return failed_result("tools.approval_declined", f"{tool.name} was not approved", approval=link)
    for mode in ("url", "form"):
        if caller.can("elicitation", mode) and not caller.is_legacy:
            request = {"method": "elicitation/create", "params": approval_form(mode, message, link)}
            return {
                "resultType": "input_required",
                "inputRequests": {APPROVAL_KEY: request},
                "requestState": outcome.approval_id,
            }
    preview = msgspec.json.encode(dict(outcome.preview)).decode()
    result = failed_result(
        "tools.needs_approval",
        message,
        "ask the user to approve it there, then call again with the same arguments",
        approval=link,
        expires_at=outcome.expires_at,
    )
    result["content"].append({"type": "text", "text": f"What it would change: {preview}"})
    return result


def approval_message(outcome: NeedsApproval, tool: Tool, console_url: str) -> tuple[str, str]:
    """What a person is told of a call that waits, and the address in it."""
    link = f"{console_url}/tools#approval-{outcome.approval_id}"
    return f"{tool.name} needs a person's approval before it runs: {link}", link


def approval_form(mode: str, message: str, link: str) -> Json:
    """What the client's user is shown: the console's address, or a form to say that it was done there."""
    if mode == "url":
        return {"mode": "url", "message": message, "url": link}
    done = {"type": "boolean", "title": "It has been approved in the console", "default": False}
    schema = {"type": "object", "properties": {"approved": done}, "required": ["approved"]}
    return {"mode": "form", "message": message, "requestedSchema": schema}
