"""Canonical JSON (RFC 8785): one text for one value, so that a digest of it binds exactly that value. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

DEPTH_MAX = 64


def canonical_json(value: Any) -> bytes:
    """The canonical bytes. `ValueError` for what is not JSON. Integers over 2^53 are written whole, not rounded."""
    return _written(value, 0).encode("utf-8", "surrogatepass")


def _written(value: Any, depth: int) -> str:
    if depth > DEPTH_MAX:
        raise ValueError("nested too deeply")
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _number(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Mapping():
            names = sorted(value, key=lambda name: str(name).encode("utf-16-be", "surrogatepass"))
            inner = (f"{json.dumps(str(n), ensure_ascii=False)}:{_written(value[n], depth + 1)}" for n in names)
            return "{" + ",".join(inner) + "}"
        case list() | tuple():
            return "[" + ",".join(_written(item, depth + 1) for item in value) + "]"
        case _:
            raise ValueError(f"{type(value).__name__} is not JSON")


def _number(value: float) -> str:
    """As ECMAScript writes it: the shortest digits, plain from 1e-6 to 1e21."""
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    if value == 0:
        return "0"
    text = repr(value)
    if 1e-6 <= abs(value) < 1e21:
        plain = format(Decimal(text), "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    digits, _, exponent = text.partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}"
