"""Whether a JSON value fits a schema: the keywords that structured outputs use, checked without a library.

Pure. Types, values, objects, arrays, bounds, combinations and local references are checked; ``pattern`` and
``format`` are not, since a caller's regular expression could take for ever. The invariant: a value that is refused
breaks the schema; depth and steps are bounded.
"""

from __future__ import annotations

from typing import Any

import msgspec

DEPTH_MAX = 64
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


def why_unfit(text: str, schema: dict[str, Any] | None) -> str:
    """What is wrong with an answer that was to be JSON after a schema; empty when it fits. Names no value of it."""
    try:
        value = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return "it is no JSON"
    if schema is None:
        return "" if isinstance(value, dict) else "it is no JSON object"
    return "" if _fits(value, schema, schema, 0) else "it does not fit the JSON schema"


def _fits(value: Any, schema: Any, root: dict[str, Any], depth: int) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    if depth > DEPTH_MAX:
        return False
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = _referred(reference, root)
        if found is not None and not _fits(value, found, root, depth + 1):
            return False
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted
    if isinstance(names, list) and not any(_is_of(value, name) for name in names):
        return False
    if "enum" in schema and not any(_same(value, other) for other in schema["enum"]):
        return False
    if "const" in schema and not _same(value, schema["const"]):
        return False
    parts = (_fits_object, _fits_array, _fits_bounds, _fits_combination)
    return all(part(value, schema, root, depth + 1) for part in parts)


def _is_of(value: Any, name: Any) -> bool:
    if isinstance(value, bool):
        return bool(name == "boolean")
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(name, (object,)))


def _same(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _referred(reference: str, root: dict[str, Any]) -> Any:
    """The part of the schema at a local reference; None for what is elsewhere, which is not checked."""
    if not reference.startswith("#"):
        return None
    place: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(place, dict) or name not in place:
            return None
        place = place[name]
    return place


def _fits_object(value: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> bool:
    if not isinstance(value, dict):
        return True
    if any(name not in value for name in schema.get("required", ())):
        return False
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    return all(_fits(item, known.get(name, others), root, depth) for name, item in value.items())


def _fits_array(value: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> bool:
    if not isinstance(value, list):
        return True
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    first = schema.get("prefixItems", [])
    others = schema.get("items", True)
    return all(
        _fits(item, first[number] if number < len(first) else others, root, depth) for number, item in enumerate(value)
    )


def _fits_bounds(value: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> bool:
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return True
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        return False
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    return (over is None or value > over) and (under is None or value < under)


def _fits_combination(value: Any, schema: dict[str, Any], root: dict[str, Any], depth: int) -> bool:
    def count(keyword: str) -> int:
        return sum(_fits(value, part, root, depth) for part in schema[keyword])

    if "allOf" in schema and count("allOf") < len(schema["allOf"]):
        return False
    if "anyOf" in schema and not count("anyOf"):
        return False
    if "oneOf" in schema and count("oneOf") != 1:
        return False
    return "not" not in schema or not _fits(value, schema["not"], root, depth)
