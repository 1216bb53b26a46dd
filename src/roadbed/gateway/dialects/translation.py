"""What dialects share when they carry a request that was made for another one: the forms that each of them writes in
its own way. Which fields may be left out is said in `foreign`.

Pure functions over one request, called by encoders. It writes nothing itself. The invariant: what a dialect has no
place for is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from roadbed.gateway.errors import InvalidChatRequest, UnsupportedFeature
from roadbed.gateway.types import Message, NamedTool, OtherPart, Part, TextPart, Tool, ToolCall, ToolChoice

_MEDIA_TYPE = re.compile(r"[a-z]+/[A-Za-z0-9.+-]{1,80}")


def unsupported(param: str, dialect: str, hint: str = "leave it out, or use another route") -> UnsupportedFeature:
    """The refusal of a field that a dialect has no place for."""
    return UnsupportedFeature(f"{param}: the {dialect} dialect cannot carry it", hint=hint, param=param)


def check_system(message: Message, where: str, dialect: str) -> None:
    """Refuse what is no text in a turn that becomes the system's words."""
    for number, part in enumerate(parts_of(message)):
        if not isinstance(part, TextPart):
            raise unsupported(f"{where}.content[{number}]", dialect, "send it in a turn of the user")


def call_arguments(call: ToolCall, where: str) -> dict[str, Any]:
    """A call's arguments as the object that its JSON text holds."""
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        arguments = None
    if not isinstance(arguments, dict):
        param = f"{where}.function.arguments"
        raise InvalidChatRequest(f"{param}: it must be a JSON object", param=param)
    return arguments


def data_uri(url: str, where: str) -> tuple[str, str] | None:
    """Media type and base64 text of a ``data:`` URI; None for another address."""
    if not url.startswith("data:"):
        return None
    kind, comma, data = url.removeprefix("data:").partition(",")
    media_type = kind.removesuffix(";base64").partition(";")[0]
    if not comma or not kind.endswith(";base64") or not _MEDIA_TYPE.fullmatch(media_type):
        raise InvalidChatRequest(f"{where}: a data: URI must be base64 with a media type", param=where)
    return media_type, data


def parts_of(message: Message) -> tuple[Part, ...]:
    """A turn's content as parts."""
    return (TextPart(message.content),) if isinstance(message.content, str) else message.content


def foreign_part(part: OtherPart, where: str, dialect: str) -> UnsupportedFeature:
    """The refusal of a part that only another dialect knows."""
    return UnsupportedFeature(f"{where}: this part cannot be sent in the {dialect} dialect", param=where)


def schema_of(tool: Tool) -> dict[str, Any]:
    """A tool's JSON schema; one without parameters takes none."""
    return tool.parameters or {"type": "object", "properties": {}}


def is_one_at_a_time(parallel_tool_calls: bool | None, tools: Iterable[Tool], choice: ToolChoice | None) -> bool:
    """Whether the caller could be given calls and wants one at a time."""
    return parallel_tool_calls is False and any(True for _ in tools) and choice != "none"


def forced_name(choice: ToolChoice | None) -> str:
    """The function that a tool choice forces; empty where it forces none."""
    return choice.name if isinstance(choice, NamedTool) else ""
