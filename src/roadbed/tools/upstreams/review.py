"""What a tool's definition must not hold before a person may approve it. Pure.

Models read names, descriptions and schemas as if they were ours. So a definition is refused that hides characters,
that is long, that speaks of things outside of it, or that carries sentences where values belong. These rules find
what is cheap to find; the person who approves still reads the text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from roadbed.tools.outside_text import why_suspicious

TEXT_BYTES_MAX = 2 * 1024
SCHEMA_BYTES_MAX = 64 * 1024
SCHEMA_DEPTH_MAX = 32
VALUE_CHARACTERS_MAX = 120
PROBLEMS_MAX = 20

# Words by which a value or a description gives orders to whoever reads it.
_ORDERS = re.compile(
    r"(?i)\b(ignore|disregard|forget)\b.{0,40}\b(previous|prior|above|instruction|rule|other)"
    r"|\b(you must|you should always|do not tell|don't tell|without telling|never mention|system prompt)\b"
    r"|<\s*/?\s*(important|system|instructions?|secret)\s*>"
    r"|\b(before|after|instead of) (using|calling|any|every)\b.{0,30}\btools?\b"
)
_NESTED_QUANTIFIER = re.compile(r"[+*}]\)?[+*{]|\([^)]*[+*][^)]*\)[+*{]")
_ALIKE = str.maketrans("01i-./", "oll___")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


def problems_of(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """Why a definition cannot be approved; nothing when it can."""
    found: list[str] = []
    for problem in _problems(definition):
        if problem not in found:
            found.append(problem)
        if len(found) >= PROBLEMS_MAX:
            break
    return tuple(found)


def _problems(definition: Mapping[str, Any]) -> Iterator[str]:
    name = definition.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_.\-/]{1,128}", name):
        yield "its name is missing or holds more than letters, digits and _ . - /"
    for key in ("title", "description"):
        text = definition.get(key, "")
        if not isinstance(text, str):
            yield f"its {key} is no text"
        else:
            yield from _text_problems(key, text)
    for key in ("inputSchema", "outputSchema"):
        if key in definition or key == "inputSchema":
            yield from _schema_problems(key, definition.get(key))
    if not isinstance(definition.get("annotations", {}), Mapping):
        yield "its annotations are no object"
    else:
        yield from _inner_problems("annotations", definition.get("annotations", {}))


def _text_problems(where: str, text: str) -> Iterator[str]:
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX:
        yield f"{where} is longer than {TEXT_BYTES_MAX} bytes"
    if any(map(_is_invisible, text)):
        yield f"{where} holds invisible characters"
    elif reason := why_suspicious(text):
        yield f"{where} gives orders: {reason}"
    if _ORDERS.search(unicodedata.normalize("NFKC", text)):
        yield f"{where} gives orders"


def skeleton_of(name: str) -> str:
    """What a name looks like at a glance: case, separators, and letters that look alike make no difference."""
    return name.lower().translate(_ALIKE)


def _is_invisible(character: str) -> bool:
    """Tags, bidirectional controls, zero width, private use, surrogates and control characters but for line ends."""
    if character in "\n\t":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn") or character in "\u115f\u1160\u3164\uffa0"


def _schema_problems(key: str, schema: Any) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        yield f"its {key} is no object"
        return
    try:
        size = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError):
        yield f"its {key} is nested too deeply"
        return
    if size > SCHEMA_BYTES_MAX:
        yield f"its {key} is longer than {SCHEMA_BYTES_MAX} bytes"
        return
    if _depth(schema) > SCHEMA_DEPTH_MAX:
        yield f"its {key} is nested deeper than {SCHEMA_DEPTH_MAX}"
        return
    if key == "inputSchema" and schema.get("type") != "object":
        yield "its inputSchema is not of an object"
    yield from _inner_problems(key, schema)
    yield from _validity(key, schema)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, Mapping) else item if isinstance(item, list) else ())
        ]
    return depth


def _inner_problems(where: str, value: Any, key: str = "") -> Iterator[str]:
    """Texts of descriptions like any text; those of other places must be short and free of sentences."""
    match value:
        case str():
            yield from _text_problems(where, value)
            if key in ("$ref", "$dynamicRef") and not value.startswith("#"):
                yield f"{where} refers to something outside of it"
            if key == "pattern" and _NESTED_QUANTIFIER.search(value):
                yield f"{where} holds an expression that may take for ever"
            if key == "pattern" and not _is_expression(value):
                yield f"{where} holds an expression that is none"
            if key == "x-mcp-header" and not _HEADER_NAME.fullmatch(value):
                yield f"{where} names a header that is none"
            if key in ("default", "const", "enum", "examples") and len(value) > VALUE_CHARACTERS_MAX:
                yield f"{where} has a value longer than {VALUE_CHARACTERS_MAX} characters"
        case Mapping():
            for name, inner in value.items():
                yield from _text_problems(f"{where}: a name", str(name))
                inherits = key in ("default", "const", "enum", "examples")
                yield from _inner_problems(f"{where}.{str(name)[:40]}", inner, key if inherits else str(name))
        case list():
            for inner in value:
                yield from _inner_problems(where, inner, key)


def _is_expression(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _validity(key: str, schema: Mapping[str, Any]) -> Iterator[str]:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError:
        yield f"its {key} is no JSON Schema"
    except RecursionError:
        yield f"its {key} is nested too deeply"
