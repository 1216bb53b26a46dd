"""What the decoders of our callers' bodies share: JSON with a bounded depth, typed fields, and errors that name a path.

Pure. It knows no dialect. The invariant: whatever bytes come in, only a `RoadbedError` comes out, and its message
holds names and bounds, never a value of the caller's.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from roadbed.gateway.errors import InvalidChatRequest
from roadbed.kernel.errors import TooLarge

REQUEST_BYTES_MAX = 64 * 1024 * 1024
DEPTH_MAX = 100

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.S)
_ENUM = re.compile(r"Invalid enum value .*", re.S)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `TooLarge` or `InvalidChatRequest`."""
    if len(body) > REQUEST_BYTES_MAX:
        raise TooLarge(f"the body is larger than {REQUEST_BYTES_MAX} bytes")
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidChatRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidChatRequest("the body is not valid JSON") from None
    if not isinstance(raw, dict):
        raise InvalidChatRequest("the body must be a JSON object")
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:  # else it cannot be deeper
        for name, value in raw.items():
            if _is_deeper(value, DEPTH_MAX):
                raise InvalidChatRequest(f"{name}: it is nested deeper than {DEPTH_MAX}", param=name)
    return raw


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    while level and depth:
        depth -= 1
        level = [
            inner
            for item in level
            for inner in (item.values() if type(item) is dict else item)
            if type(inner) is dict or type(inner) is list
        ]
    return bool(level)


def invalid(error: msgspec.ValidationError) -> InvalidChatRequest:
    """A typed error for a value that is not of the shape asked for, with the field's path."""
    match = _AT.match(str(error))
    what = match["what"] if match else "it has a wrong type"
    path = (match["path"] if match else None) or None
    what = _ENUM.sub("not one of the values allowed here", what)
    what = what[:1].lower() + what[1:]
    return InvalidChatRequest(f"{path or 'the body'}: {what}", param=path)


def wrong(path: str, what: str) -> InvalidChatRequest:
    """The error for the field at ``path``."""
    return InvalidChatRequest(f"{path}: {what}", param=path)


def string_of(fields: dict[str, Any], name: str, where: str) -> str:
    """A field that must be a string."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "it must be a string")
    return value


def object_of(fields: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A field that must be an object."""
    value = fields.get(name)
    if not isinstance(value, dict):
        raise wrong(f"{where}.{name}", "it must be an object")
    return value


def check_bound(name: str, value: float | None, low: float, high: float) -> None:
    """Refuse a number outside its bounds."""
    if value is not None and not low <= value <= high:
        raise wrong(name, f"it must be between {low:g} and {high:g}")
