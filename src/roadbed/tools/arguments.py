"""Arguments of a tool call: checked against the tool's schema, and their digest. Pure.

The checker is made once for a tool. The invariant: a message names the field and what it allows, never the value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import msgspec

from roadbed.kernel.config import nearest
from roadbed.tools.errors import ArgumentsInvalid

VALUES_SHOWN_MAX = 8
ERRORS_LOOKED_AT_MAX = 8
ARGUMENTS_BYTES_MAX = 64 * 1024

Checker = Callable[[Mapping[str, Any]], None]


def checker_of(schema: Mapping[str, Any]) -> Checker:
    """What raises `ArgumentsInvalid` for arguments that do not fit. `ValueError` when the schema is not valid."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(dict(schema))
    except SchemaError as error:
        raise ValueError(f"not a JSON Schema: {error.message[:200]}") from None
    validator = Draft202012Validator(dict(schema), registry=Registry())  # which fetches nothing
    surely_fits = _quick_check(schema)

    def check(arguments: Mapping[str, Any]) -> None:
        if surely_fits is not None and surely_fits(arguments):
            return
        if errors := list(islice(validator.iter_errors(arguments), ERRORS_LOOKED_AT_MAX)):
            # A wrong name explains the one that is missing, so it is told first.
            errors.sort(key=lambda error: error.validator != "additionalProperties")
            raise _described(errors[0])

    return check


def _quick_check(schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool] | None:
    """For the flat schemas that most tools have: whether arguments fit for sure, in a few microseconds.

    None for other schemas. A False says nothing: the validator, which costs fifty times as much, then decides.
    """
    if not set(schema) <= _FLAT or schema.get("type") != "object":
        return None
    properties: Mapping[str, Any] = schema.get("properties", {})
    if any(not isinstance(inner, Mapping) or not set(inner) <= _SIMPLE for inner in properties.values()):
        return None
    required = frozenset(schema.get("required", ()))
    kinds = {name: _PYTHON_TYPES.get(str(inner.get("type"))) for name, inner in properties.items()}

    def fits(arguments: Mapping[str, Any]) -> bool:
        if not required <= arguments.keys():
            return False
        for name, value in arguments.items():
            kind = kinds.get(name)
            if kind is None or type(value) not in kind:
                return False
            rules = properties[name]
            if value < rules.get("minimum", value) or value > rules.get("maximum", value):
                return False
            if type(value) is str and len(value) > rules.get("maxLength", len(value)):
                return False
        return True

    return fits


_FLAT = frozenset({"type", "properties", "required", "additionalProperties", "title", "description", "$schema"})
_SIMPLE = frozenset({"type", "description", "title", "default", "minimum", "maximum", "maxLength", "format"})
_PYTHON_TYPES = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def digest_of(arguments: Mapping[str, Any]) -> bytes:
    """SHA-256 over the arguments as JSON with sorted keys. `ArgumentsInvalid` when they are not JSON or too large."""
    try:
        body = msgspec.json.encode(arguments, order="sorted")
    except (TypeError, ValueError, RecursionError):
        raise ArgumentsInvalid("the arguments are not JSON", hint="send one JSON object") from None
    if len(body) > ARGUMENTS_BYTES_MAX:
        raise ArgumentsInvalid(f"the arguments are over {ARGUMENTS_BYTES_MAX} bytes", hint="send less in one call")
    return hashlib.sha256(body).digest()


def _described(error: Any) -> ArgumentsInvalid:
    """An error of the validator in words for a model: the field, what is wrong, what is allowed."""
    where = ".".join(str(part) for part in error.absolute_path)
    rule, wanted = error.validator, error.validator_value
    known = list(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else []
    match rule:
        case "required":
            given = error.instance if isinstance(error.instance, Mapping) else {}
            name = next((name for name in wanted if name not in given), "")
            field = f"{where}.{name}" if where else name
            what, hint = f"the argument {field} is missing", _example(error.schema, name)
        case "additionalProperties":
            given = error.instance if isinstance(error.instance, Mapping) else {}
            name = next((str(name)[:64] for name in given if name not in known), "")
            field = f"{where}.{name}" if where else name
            what = f"there is no argument {field}"
            hint = nearest(name, known) or f"arguments: {', '.join(known[:VALUES_SHOWN_MAX]) or 'none'}"
        case "enum":
            field, what = where, f"{where or 'the arguments'} is not one of the allowed values"
            shown = ", ".join(str(value) for value in wanted[:VALUES_SHOWN_MAX])
            hint = f"allowed: {shown}{', …' if len(wanted) > VALUES_SHOWN_MAX else ''}"
        case "type":
            kind = wanted if isinstance(wanted, str) else " or ".join(wanted)
            field, what = where, f"{where or 'the arguments'} must be of type {kind}"
            described = _described_type(error.schema)
            hint = described if described != kind else ""
        case _:
            field, what = where, f"{where or 'the arguments'} does not fit {rule} {str(wanted)[:100]}"
            hint = _described_type(error.schema)
    return ArgumentsInvalid(what, hint=hint, param=field or None)


def _example(schema: Any, name: str) -> str:
    inner = schema.get("properties", {}).get(name) if isinstance(schema, Mapping) else None
    return f"{name}: {_described_type(inner)}" if isinstance(inner, Mapping) else f"give {name}"


def _described_type(schema: Any) -> str:
    if not isinstance(schema, Mapping):
        return "see the tool's schema"
    words = [str(schema.get("type", "any value"))]
    for key in ("minimum", "maximum", "minLength", "maxLength", "pattern", "format"):
        if key in schema:
            words.append(f"{key} {schema[key]}")
    if "enum" in schema:
        words.append("one of " + ", ".join(str(value) for value in schema["enum"][:VALUES_SHOWN_MAX]))
    return ", ".join(words)
