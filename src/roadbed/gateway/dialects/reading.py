"""What the decoders of our callers' bodies share: JSON with a bounded depth, typed fields, and errors that name a path.

Pure. It knows no dialect. The invariant: whatever bytes come in, only a `RoadbedError` comes out, and its message
holds names and bounds, never a value of the caller's.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from roadbed.gateway.dialects.request_checks import half_character
from roadbed.gateway.errors import InvalidChatRequest
from roadbed.kernel.errors import TooLarge
from roadbed.kernel.wording import types_in_words

REQUEST_BYTES_MAX = 32 * 1024 * 1024
DEPTH_MAX = 100
GUARDED_DEPTH_MAX = 63
"""Containers inside each other in one field: the guard reads one more around them (`masking.DEPTH_MAX`)."""

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$\.?(?P<path>.*)`)?$", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")
_ENUM = re.compile(r"Invalid enum value .*", re.S)


def check_size(body: bytes) -> None:
    """Raises `TooLarge` for a body over `REQUEST_BYTES_MAX`."""
    if len(body) > REQUEST_BYTES_MAX:
        raise TooLarge(f"the body is larger than {REQUEST_BYTES_MAX} bytes")


def json_of(body: bytes) -> Any:
    """The JSON value in a body, of any type. Raises `InvalidChatRequest`."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise InvalidChatRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        path = half_character(body)
        if path is not None:
            raise wrong(path, "it holds half of a character") from None
        raise not_json(body) from None


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `TooLarge` or `InvalidChatRequest`."""
    check_size(body)
    raw = json_of(body)
    if not isinstance(raw, dict):
        raise InvalidChatRequest("the body must be a JSON object")
    if body.count(b"{") + body.count(b"[") > DEPTH_MAX:  # else it cannot be deeper
        for name, value in raw.items():
            check_depth(name, value, DEPTH_MAX)
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


def not_json(body: bytes) -> InvalidChatRequest:
    """The error of a body that is none, or no JSON."""
    return InvalidChatRequest("the body is not valid JSON" if body.strip() else "the body is empty: send a JSON object")


def invalid(error: msgspec.ValidationError, where: str = "", roles: str = "") -> InvalidChatRequest:
    """A typed error for a value that is not of the shape asked for, with the field's path. ``where`` is the path that
    the value stands at, ``roles`` what a message's role can be.
    """
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else ("it has a wrong type", "")
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        what, path = "it is missing", f"{path}.{missing['name']}".removeprefix(".")
    known = f"expected {roles}" if roles and path.endswith(".role") else "not one of the values allowed here"
    what = types_in_words(_ENUM.sub(known, what), is_json=True)
    joint = "." if where and path and not path.startswith("[") else ""
    return wrong(f"{where}{joint}{path}", what[:1].lower() + what[1:])


def convert(raw: Any, kind: type[T], where: str = "") -> T:
    """``raw`` as a ``kind``. ``where`` is the path that it stands at."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise invalid(error, where) from None


def wrong(path: str, what: str, *, hint: str = "") -> InvalidChatRequest:
    """The error for the field at ``path``; an empty path means the body itself."""
    return InvalidChatRequest(f"{path or 'the body'}: {what}", hint=hint, param=path or None)


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
    check_depth(f"{where}.{name}", value)
    return value


def check_bound(name: str, value: float | None, low: float, high: float) -> None:
    """Refuse a number outside its bounds."""
    if value is not None and not low <= value <= high:
        raise wrong(name, f"it must be between {low:g} and {high:g}")


def check_depth(path: str, value: Any, depth: int = GUARDED_DEPTH_MAX) -> None:
    """Refuse plain JSON data that is nested deeper."""
    if _is_deeper(value, depth):
        raise wrong(path, f"it is nested deeper than {depth}")


def word_of(value: Any) -> str:
    """A type name as a message may repeat it; ``this type`` for what is no short word."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "this type"
