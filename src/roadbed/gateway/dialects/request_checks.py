"""What is wrong with a caller's request beyond its types: nesting, half characters, limits and tools that contradict.

Pure, and without recursion over what callers send. Callers' dialects use it before anything is sent; each error names
the field by its path. The invariant: no message holds a value of the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from roadbed.gateway.errors import InvalidChatRequest

DEPTH_MAX = 63
"""Containers inside each other in one field; the guard reads as many and one more around them."""

SURROGATE_BODY_BYTES_MAX = 1024 * 1024
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def check_depth(path: str, value: Any) -> None:
    """Refuse JSON that is nested deeper than `DEPTH_MAX`."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidChatRequest(f"{path}: it is nested deeper than {DEPTH_MAX}", param=path)


def check_tool_names(names: Iterable[tuple[str, str]]) -> None:
    """Refuse tools, as (path, name), whose names no model takes, or that two of them share."""
    seen = set()
    for path, name in names:
        if TOOL_NAME.fullmatch(name) is None:
            message = f"{path}: a tool's name is 1 to 128 letters, digits, dots, dashes and underscores"
            raise InvalidChatRequest(message, param=path)
        if name in seen:
            raise InvalidChatRequest(f"{path}: another tool has this name", param=path)
        seen.add(name)


def check_limits(first: tuple[str, int | None], second: tuple[str, int | None]) -> None:
    """Refuse two names of one limit with two values."""
    if first[1] is not None and second[1] is not None and first[1] != second[1]:
        raise InvalidChatRequest(f"{second[0]}: it contradicts {first[0]}", hint="send one of them", param=second[0])


def half_character(body: bytes) -> str | None:
    """The path of the first text with a lone surrogate in a body that is no JSON for this reason; None for others.

    Such a body cannot be decoded as text at all; it is read once more, slowly, to say where.
    """
    if len(body) > SURROGATE_BODY_BYTES_MAX or _ESCAPED_SURROGATE.search(body) is None:
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            if not _is_text(value):
                return path or "the body"
        elif isinstance(value, dict):
            for name, inner in reversed(value.items()):
                if not _is_text(name):
                    return path or "the body"
                waiting.append((f"{path}.{name}" if path else name, inner))
        elif isinstance(value, list):
            waiting += [(f"{path}[{number}]", inner) for number, inner in reversed(list(enumerate(value)))]
    return None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
