"""The shape of a caller's JSON: bodies and parts of them to typed values, with the path of whatever is wrong.

For dialects that our own callers speak; it knows no dialect's fields. Messages name paths and types, never a value.
The invariant: whatever JSON comes, only `InvalidChatRequest` or `TooLarge` leaves these functions.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from roadbed.gateway.errors import InvalidChatRequest
from roadbed.kernel.errors import TooLarge

DEPTH_MAX = 64
"""As deep as the guard reads (`masking.DEPTH_MAX`)."""

T = TypeVar("T")

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.S)
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}")


def invalid(path: str, what: str, *, hint: str = "") -> InvalidChatRequest:
    """The error of the field at ``path``; an empty path means the body itself."""
    return InvalidChatRequest(f"{path or 'the body'}: {what}", hint=hint, param=path or None)


def json_object(body: bytes, body_bytes_max: int) -> dict[str, Any]:
    """The JSON object in a body."""
    if len(body) > body_bytes_max:
        raise TooLarge(f"the body is larger than {body_bytes_max} bytes")
    try:
        raw = msgspec.json.decode(body)
    except RecursionError:
        raise InvalidChatRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidChatRequest("the body is not valid JSON") from None
    if not isinstance(raw, dict):
        raise InvalidChatRequest("the body must be a JSON object")
    return raw


def convert(raw: Any, kind: type[T], where: str = "") -> T:
    """``raw`` as a ``kind``. ``where`` is the path that it stands at."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        match = _AT.match(str(error))
        what, path = (match["what"], match["path"] or "") if match else ("it has a wrong type", "")
    missing = _MISSING.fullmatch(what)
    if missing is not None:
        what, path = "it is missing", f"{path}.{missing['name']}".removeprefix(".")
    what = re.sub(r"Invalid enum value .*", "not one of the values allowed here", what, flags=re.S)
    joint = "." if where and path and not path.startswith("[") else ""
    raise invalid(f"{where}{joint}{path}", what[:1].lower() + what[1:]) from None


def check_bound(path: str, value: float | None, low: float, high: float) -> None:
    """Raises when there is a value outside its bounds."""
    if value is not None and not low <= value <= high:
        raise invalid(path, f"it must be between {low:g} and {high:g}")


def check_depth(path: str, value: Any) -> None:
    """Raises for plain JSON data nested deeper than `DEPTH_MAX`."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise invalid(path, f"it is nested deeper than {DEPTH_MAX}")


def word_of(value: Any) -> str:
    """A type name as a message may repeat it; ``this type`` for what is no short word."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "this type"
