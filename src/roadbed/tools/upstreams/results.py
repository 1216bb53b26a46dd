"""The result of another server's tool as an outcome of ours. Pure.

Structured content is checked against the output schema that was pinned, text is kept as text, and what is neither
(images, audio) is named and left out; links are never followed. The invariant: no result over
`types.RESULT_BYTES_MAX` and none that its pinned schema does not allow becomes an `Ok`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from roadbed.kernel.label import Label
from roadbed.tools.types import RESULT_BYTES_MAX, Failed, Ok, Outcome, Provenance, Refused

BLOCKS_MAX = 200
ERROR_CHARACTERS_MAX = 2_000

Fits = Callable[[Any], bool]


def fits_of(schema: Mapping[str, Any] | None) -> Fits | None:
    """What says whether a value fits a schema, which was found valid when it was pinned; None without a schema."""
    if schema is None:
        return None
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = Draft202012Validator(dict(schema), registry=Registry())  # which fetches nothing

    def fits(value: Any) -> bool:
        try:
            return bool(validator.is_valid(value))
        except (Unresolvable, RecursionError, re.error):  # leads nowhere, runs in circles, or is no expression
            return False

    return fits


def outcome_of(source: str, tool: str, result: Mapping[str, Any], fits: Fits | None, label: Label) -> Outcome:
    """What a call came to."""
    kind = result.get("resultType", "complete")
    blocks = result.get("content", [])
    if kind == "input_required":
        return Refused(
            "tools.upstream_asks",
            f"{tool} of {source} wants to ask a person something, which is not passed on",
            hint="give all that it needs in its arguments",
        )
    if kind != "complete" or not isinstance(blocks, list) or len(blocks) > BLOCKS_MAX:
        return _misbehaved(source, tool, "a result of a kind that is not known here")
    shown = [_block(block) for block in blocks if isinstance(block, Mapping)]
    if result.get("isError") is True:
        text = "\n".join(block["text"] for block in shown if "text" in block)
        return Refused("tools.upstream_refused", text[:ERROR_CHARACTERS_MAX] or f"{tool} of {source} failed")
    structured = result.get("structuredContent")
    if fits is not None and not fits(structured):
        return _misbehaved(source, tool, "a result that its approved schema does not allow")
    data = structured if structured is not None else {"content": shown}
    try:
        size = len(msgspec.json.encode(data))
    except (TypeError, ValueError, RecursionError):
        return _misbehaved(source, tool, "a result that is not JSON")
    if size > RESULT_BYTES_MAX:
        return Refused(
            "tools.result_too_large",
            f"the result of {tool} of {source} holds {size} bytes, and the bound is {RESULT_BYTES_MAX}",
            hint="ask the tool for less",
        )
    return Ok(data, (Provenance(source, tool, time.time()),), label)


def _block(block: Mapping[str, Any]) -> dict[str, str]:
    kind = str(block.get("type", ""))[:32]
    if kind == "text":
        return {"type": "text", "text": str(block.get("text", ""))}
    if kind == "resource_link":
        return {"type": kind, "uri": str(block.get("uri", "")), "name": str(block.get("name", ""))}
    resource = block.get("resource")
    if kind == "resource" and isinstance(resource, Mapping) and isinstance(resource.get("text"), str):
        return {"type": kind, "uri": str(resource.get("uri", "")), "text": resource["text"]}
    return {"type": kind, "left_out": "not text"}


def _misbehaved(source: str, tool: str, what: str) -> Failed:
    return Failed(
        "tools.upstream_result_invalid",
        f"{tool} of {source} gave {what}",
        source,
        False,
        hint="the server is at fault; what it sent was thrown away",
    )
