"""Schemas of an OpenAPI document as small JSON Schemas 2020-12 for tools. Pure.

References become ``$defs`` and are never put in place, so that a schema that contains itself stays finite. 3.0 is
brought to 2020-12 (``nullable``, ``exclusiveMinimum: true``). In what a tool takes, ``readOnly`` fields do not exist;
``pattern`` is left out, since a hostile expression could hold a checker up for ever, and the API checks it anyway. The
invariant: every ``$ref`` of a result points into its own ``$defs``, and the result is within the bounds below.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from roadbed.tools.openapi.document import BadPart, OpenApiDocument
from roadbed.tools.outside_text import cleaned, why_suspicious

SCHEMA_BYTES_MAX: Final = 32 * 1024
SCHEMA_PARTS_MAX: Final = 1_500
DEFINITIONS_MAX: Final = 60
DEPTH_MAX: Final = 40
ENUM_MAX: Final = 200
NOTE_CHARACTERS_MAX: Final = 240
HIDDEN_MARK: Final = "x-hidden"
"""In a schema of answers: the fields that are to be taken out of them."""
_LEAN_BYTES: Final = 12 * 1024

_VALUES = ("format", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties",
           "maxProperties", "multipleOf", "minimum", "maximum")  # fmt: skip
_COMBINATIONS = ("allOf", "anyOf", "oneOf")
_TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))
_SCALARS = (str, int, float, bool, type(None))
_NAME = re.compile(r"[^A-Za-z0-9_]+")


class SchemaMaker:
    """Makes the schemas of one operation. ``is_input`` leaves ``readOnly`` out, else ``writeOnly`` is."""

    def __init__(self, document: OpenApiDocument, *, is_input: bool) -> None:
        self._document = document
        self._is_30 = document.version == "3.0"
        self._hidden = "readOnly" if is_input else "writeOnly"
        self._is_input = is_input
        self._names: dict[tuple[str, bool], str] = {}
        self._parts = 0
        self.definitions: dict[str, Any] = {}

    def schema(self, raw: Any) -> dict[str, Any]:
        """One schema; what it refers to is in `definitions` afterwards. Raises `BadPart`."""
        return self._made(raw, 0, is_open=False)

    def _made(self, raw: Any, depth: int, *, is_open: bool) -> dict[str, Any]:
        """``is_open``: part of an ``allOf``, where ``additionalProperties: false`` could never match."""
        self._parts += 1
        if self._parts > SCHEMA_PARTS_MAX or depth > DEPTH_MAX:
            raise BadPart("a schema has too many parts or is nested too deeply")
        if raw is True or raw == {}:
            return {}
        if not isinstance(raw, Mapping):
            raise BadPart("a schema is no object")
        if "$ref" in raw:
            found = {"$ref": f"#/$defs/{self._definition(raw['$ref'], depth, is_open=is_open)}"}
            note = self._note(raw) if not self._is_30 else ""
            return {**found, "description": note} if note else found
        if any(key in raw for key in ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")):
            raise BadPart("a schema refers to itself in a way that is not read")
        made: dict[str, Any] = {}
        self._take_values(raw, made)
        for key in _COMBINATIONS:
            if isinstance(parts := raw.get(key), list) and parts:
                inner_open = is_open or key == "allOf"
                made[key] = [self._made(part, depth + 1, is_open=inner_open) for part in parts]
        if "not" in raw:
            made["not"] = self._made(raw["not"], depth + 1, is_open=True)
        self._take_object(raw, made, depth, is_open=is_open or "allOf" in made)
        if isinstance(items := raw.get("items"), Mapping):
            made["items"] = self._made(items, depth + 1, is_open=False)
        if self._is_30 and raw.get("nullable") is True:
            _allow_null(made)
        return made

    def _definition(self, reference: Any, depth: int, *, is_open: bool) -> str:
        raw = self._document.at(reference)
        known = self._names.get((reference, is_open))
        if known is not None:
            return known  # also while it is being made: this is what ends a cycle
        if len(self._names) >= DEFINITIONS_MAX:
            raise BadPart("a schema refers to too many others")
        base = _NAME.sub("_", reference.rpartition("/")[2])[:48] or "part"
        name, number = base, 2
        while name in self._names.values():
            name, number = f"{base}_{number}", number + 1
        self._names[reference, is_open] = name
        self.definitions[name] = {}
        self.definitions[name] = self._made(raw, depth + 1, is_open=is_open)
        return name

    def _take_values(self, raw: Mapping[str, Any], made: dict[str, Any]) -> None:
        kind = raw.get("type")
        kinds = kind if isinstance(kind, list) else [kind] if kind is not None else []
        if any(name not in _TYPES for name in kinds):
            raise BadPart("a schema has a type that does not exist")
        if kinds:
            made["type"] = list(kinds) if isinstance(kind, list) else kind
        if raw.get("format") == "binary" or raw.get("contentMediaType") or raw.get("contentEncoding"):
            raise BadPart("it takes or gives a file")
        for key in _VALUES:
            if isinstance(value := raw.get(key), str | int | float):
                made[key] = value
        for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            value = raw.get(key)
            if value is True and bound in made:
                made[key] = made.pop(bound)
            elif isinstance(value, int | float) and not isinstance(value, bool):
                made[key] = value
        if isinstance(values := raw.get("enum"), list):
            if len(values) > ENUM_MAX or not all(isinstance(value, _SCALARS) for value in values):
                raise BadPart("a list of allowed values is too long or holds more than plain values")
            made["enum"] = [self._checked(value) for value in values]
        for key in ("const", "default"):
            if key in raw and isinstance(raw[key], _SCALARS):
                made[key] = self._checked(raw[key])
        if note := self._note(raw):
            made["description"] = note

    def _take_object(self, raw: Mapping[str, Any], made: dict[str, Any], depth: int, *, is_open: bool) -> None:
        properties = raw.get("properties")
        hidden = set()
        if isinstance(properties, Mapping):
            shown = {}
            for name, inner in properties.items():
                if self._is_hidden(inner):
                    hidden.add(name)
                else:
                    shown[self._checked(str(name))] = self._made(inner, depth + 1, is_open=False)
            made["properties"] = shown
            if hidden and not self._is_input:
                made[HIDDEN_MARK] = sorted(hidden)
        if isinstance(required := raw.get("required"), list):
            wanted = [name for name in required if isinstance(name, str) and name not in hidden]
            if wanted:
                made["required"] = wanted
        extra = raw.get("additionalProperties")
        if extra is False and not is_open:
            made["additionalProperties"] = False
        elif isinstance(extra, Mapping) and extra:
            made["additionalProperties"] = self._made(extra, depth + 1, is_open=False)

    def _is_hidden(self, inner: Any) -> bool:
        resolved = self._document.resolve(inner)
        return isinstance(resolved, Mapping) and (
            resolved.get(self._hidden) is True or (isinstance(inner, Mapping) and inner.get(self._hidden) is True)
        )

    def _note(self, raw: Mapping[str, Any]) -> str:
        text = raw.get("description") or raw.get("title")
        return cleaned(self._checked(text), NOTE_CHARACTERS_MAX) if isinstance(text, str) else ""

    def _checked(self, value: Any) -> Any:
        if isinstance(value, str) and (reason := why_suspicious(value)):
            raise BadPart(f"a text in its schema is refused: {reason}")
        return value


def fitted(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's schema within its bound, descriptions of inner parts given up first. Raises `BadPart`."""
    if len(msgspec.json.encode(schema)) > _LEAN_BYTES and "$defs" in schema:
        schema = {**schema, "$defs": _bare(schema["$defs"])}
    if len(msgspec.json.encode(schema)) > SCHEMA_BYTES_MAX:
        raise BadPart(f"its schema is over {SCHEMA_BYTES_MAX} bytes")
    return schema


def _bare(part: Any) -> Any:
    """A part without descriptions; a property of that name stays, as it is no text."""
    if isinstance(part, dict):
        return {
            key: _bare(value) for key, value in part.items() if not (key == "description" and isinstance(value, str))
        }
    return [_bare(value) for value in part] if isinstance(part, list) else part


def _allow_null(made: dict[str, Any]) -> None:
    if isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "enum" in made and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    if "anyOf" in made:
        made["anyOf"] = [*made["anyOf"], {"type": "null"}]
    elif "type" not in made:
        for key in ("allOf", "oneOf"):
            if key in made:
                made["anyOf"] = [{key: made.pop(key)}, {"type": "null"}]
                return
