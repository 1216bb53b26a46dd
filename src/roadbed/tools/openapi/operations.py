"""Operations of an OpenAPI document as plain values: which arguments they take and how those become a request.

Pure. What cannot be offered safely or faithfully (files, XML, cookies, poisoned or over-large descriptions) is a
`Skipped` with its reason, and never stops the other operations. Parameters that carry credentials are ours and not
shown. The invariant: an argument has one name, whatever the parameters and the body of an operation are called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from roadbed.tools.openapi.document import BadPart, OpenApiDocument
from roadbed.tools.openapi.schemas import SchemaMaker, fitted
from roadbed.tools.outside_text import DESCRIPTION_CHARACTERS_MAX, cleaned, why_suspicious

PARAMETERS_MAX = 60
BODY = "body"

Place = Literal["path", "query", "header"]
Encoding = Literal["json", "form"]

_STYLES: dict[str, frozenset[str]] = {
    "path": frozenset(("simple", "label", "matrix")),
    "query": frozenset(("form", "spaceDelimited", "pipeDelimited", "deepObject")),
    "header": frozenset(("simple",)),
}
_USUAL_STYLE = {"path": "simple", "query": "form", "header": "simple"}
_HIDDEN_NAMES = frozenset(
    [
        "authorization",
        "proxy-authorization",
        "cookie",
        "api-key",
        "apikey",
        "api_key",
        "x-api-key",
        "x-api-token",
        "x-auth-token",
        "access_token",
        "access-token",
        "x-access-token",
        "auth_token",
        "x-amz-security-token",
        "x-csrf-token",
        "client_secret",
    ]
)
_HIDDEN_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "accept",
        "accept-encoding",
        "te",
        "upgrade",
        "trailer",
        "expect",
        "keep-alive",
        "via",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
        "idempotency-key",
        "x-http-method-override",
        "x-original-url",
        "x-rewrite-url",
        "origin",
        "referer",
    ]
)
_PLACES = re.compile(r"\{([^{}/]+)\}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_PLAIN_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}|\{[^{}/]+\})*)+")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: ``argument`` is its name for callers, ``name`` the API's. ``keys`` are an object's known ones."""

    argument: str
    name: str
    place: Place
    style: str
    explode: bool
    is_required: bool
    is_json: bool
    keys: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a tool needs to know to make a request and to read its answer."""

    operation_id: str
    method: str
    path: str
    description: str
    parameters: tuple[Parameter, ...]
    body: Encoding | None
    body_argument: str
    is_body_required: bool
    input_schema: dict[str, Any]
    answer_schema: dict[str, Any] | None = None
    query_names: frozenset[str] = frozenset()
    hidden_names: frozenset[str] = field(default=frozenset(), repr=False)


@dataclass(frozen=True, slots=True)
class Skipped:
    """An operation that was listed and is not offered, with the reason."""

    operation_id: str
    reason: str


def read_operations(
    document: OpenApiDocument, wanted: Collection[str], hidden: Collection[str] = ()
) -> tuple[list[Operation], list[Skipped]]:
    """The wanted operations by id, and those that are not offered. ``hidden`` are names of parameters that are ours."""
    found: dict[str, list[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]] = {}
    for path, method, item, operation in document.operations():
        if isinstance(name := operation.get("operationId"), str):
            found.setdefault(name, []).append((path, method, item, operation))
    operations, skipped = [], []
    hidden_names = {name.lower() for name in (*hidden, *_auth_names(document))} | _HIDDEN_NAMES
    for name in dict.fromkeys(wanted):
        places = found.get(name, [])
        if len(places) != 1:
            reason = "the document names it twice" if places else "the document has no such operationId"
            skipped.append(Skipped(name, reason))
            continue
        path, method, item, operation = places[0]
        try:
            operations.append(_Reader(document, name, hidden_names).read(path, method, item, operation))
        except BadPart as error:
            skipped.append(Skipped(name, str(error)))
        except RecursionError:
            skipped.append(Skipped(name, "it is nested too deeply"))
    return operations, skipped


def _auth_names(document: OpenApiDocument) -> Iterator[str]:
    """Names of the parameters in which the document wants API keys."""
    components = document.root.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, Mapping) else None
    for raw in schemes.values() if isinstance(schemes, Mapping) else ():
        try:
            scheme = document.resolve(raw)
        except BadPart:
            continue
        if isinstance(scheme, Mapping) and scheme.get("type") == "apiKey" and isinstance(scheme.get("name"), str):
            yield scheme["name"]


class _Reader:
    """Reads one operation."""

    def __init__(self, document: OpenApiDocument, operation_id: str, hidden: Collection[str]) -> None:
        self._document = document
        self._id = operation_id
        self._hidden = hidden
        self._maker = SchemaMaker(document, is_input=True)
        self._properties: dict[str, Any] = {}
        self._required: list[str] = []

    def read(self, path: str, method: str, item: Mapping[str, Any], operation: Mapping[str, Any]) -> Operation:
        if not _PLAIN_PATH.fullmatch(path) or any(part in (".", "..") for part in path.split("/")):
            raise BadPart("its path is not a plain one")
        raw_parameters = self._collected(item, operation)
        body, body_schema, is_body_required = self._body(operation, method)
        counts = Counter(name for name, _, _ in raw_parameters)
        if body is not None:
            counts[BODY] += 1
        parameters = []
        for name, place, raw in raw_parameters:
            parameter = self._parameter(name, place, raw, f"{place}_{name}" if counts[name] > 1 else name)
            if parameter is not None:
                parameters.append(parameter)
        body_argument = f"{BODY}_content" if counts[BODY] > 1 else BODY
        if body is not None:
            self._add(body_argument, body_schema, is_required=is_body_required)
        given = {parameter.name for parameter in parameters if parameter.place == "path"}
        if given != set(_PLACES.findall(path)):
            raise BadPart("its path and its path parameters do not agree")
        return Operation(
            self._id,
            method.upper(),
            path,
            self._description(operation),
            tuple(parameters),
            body,
            body_argument,
            is_body_required,
            self._input_schema(),
            self._answer(operation),
            frozenset(parameter.name for parameter in parameters if parameter.place == "query"),
            frozenset(self._hidden),
        )

    def _collected(
        self, item: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> list[tuple[str, str, Mapping[str, Any]]]:
        """Parameters of the path and of the operation, which come before those of the path."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for listed in (item.get("parameters"), operation.get("parameters")):
            for raw in listed if isinstance(listed, list) else ():
                parameter = self._document.resolve(raw)
                if not isinstance(parameter, Mapping) or not isinstance(parameter.get("name"), str):
                    raise BadPart("a parameter has no name")
                found[parameter["name"], str(parameter.get("in"))] = parameter
        if len(found) > PARAMETERS_MAX:
            raise BadPart(f"it has more than {PARAMETERS_MAX} parameters")
        return [(name, place, parameter) for (name, place), parameter in found.items()]

    def _parameter(self, name: str, place: str, raw: Mapping[str, Any], argument: str) -> Parameter | None:
        is_required = raw.get("required") is True or place == "path"
        if place != "path" and name.lower() in self._hidden:
            return None
        if place == "cookie":
            if is_required:
                raise BadPart("it needs a cookie")
            return None
        if place == "header" and (name.lower() in _HIDDEN_HEADERS or not _HEADER_NAME.fullmatch(name)):
            return None
        if place not in _STYLES:
            raise BadPart("a parameter stands in no known place")
        if reason := why_suspicious(name):
            raise BadPart(f"the name of a parameter is refused: {reason}")
        schema, is_json = self._parameter_schema(raw)
        style = raw.get("style", _USUAL_STYLE[place])
        if style not in _STYLES[place]:
            raise BadPart(f"a parameter in its {place} has a style that is not known")
        explode = raw.get("explode")
        made = self._maker.schema(schema)
        if isinstance(note := raw.get("description"), str):
            if reason := why_suspicious(note):
                raise BadPart(f"the description of a parameter is refused: {reason}")
            made = {**made, "description": cleaned(note, 240)}
        self._add(argument, made, is_required=is_required)
        is_exploded = explode if isinstance(explode, bool) else style in ("form", "deepObject")
        keys = self._keys(schema)
        # The last check: an object's keys become names of the query, where ours must not be among them.
        if keys & set(self._hidden):
            raise BadPart("a parameter's fields are named like credentials")
        return Parameter(argument, name, place, style, is_exploded, is_required, is_json, keys)  # type: ignore[arg-type]

    def _parameter_schema(self, raw: Mapping[str, Any]) -> tuple[Any, bool]:
        content = raw.get("content")
        if isinstance(content, Mapping) and content:
            media_type, inner = next(iter(content.items()))
            if not is_json(str(media_type)):
                raise BadPart("a parameter is neither plain nor JSON")
            return (inner.get("schema", {}) if isinstance(inner, Mapping) else {}), True
        return raw.get("schema", {}), False

    def _keys(self, schema: Any) -> frozenset[str]:
        resolved = self._document.resolve(schema)
        properties = resolved.get("properties") if isinstance(resolved, Mapping) else None
        return frozenset(str(key).lower() for key in properties) if isinstance(properties, Mapping) else frozenset()

    def _body(self, operation: Mapping[str, Any], method: str) -> tuple[Encoding | None, dict[str, Any], bool]:
        raw = self._document.resolve(operation.get("requestBody"))
        if not isinstance(raw, Mapping) or method in ("get", "head", "options"):
            return None, {}, False
        is_required = raw.get("required") is True
        content = raw.get("content")
        for media_type, inner in content.items() if isinstance(content, Mapping) else ():
            schema = inner.get("schema", {}) if isinstance(inner, Mapping) else {}
            if is_json(str(media_type)):
                return "json", self._maker.schema(schema), is_required
            if str(media_type).partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
                return "form", self._maker.schema(schema), is_required
        if is_required:
            raise BadPart("it takes a body that is neither JSON nor a form")
        return None, {}, False

    def _add(self, argument: str, schema: dict[str, Any], *, is_required: bool) -> None:
        if argument in self._properties:
            raise BadPart("two of its arguments would have one name")
        self._properties[argument] = schema
        if is_required:
            self._required.append(argument)

    def _input_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": self._properties,
            "required": self._required,
            "additionalProperties": False,
        }
        if self._maker.definitions:
            schema["$defs"] = self._maker.definitions
        return fitted(schema)

    def _description(self, operation: Mapping[str, Any]) -> str:
        texts = [operation.get("summary"), operation.get("description")]
        text = "\n".join(part.strip() for part in texts if isinstance(part, str) and part.strip())
        if reason := why_suspicious(text):
            raise BadPart(f"its description is refused: {reason}")
        return cleaned(text, DESCRIPTION_CHARACTERS_MAX) or self._id

    def _answer(self, operation: Mapping[str, Any]) -> dict[str, Any] | None:
        """The schema of a good answer, for checking; None where none is written, or it cannot be read."""
        responses = operation.get("responses")
        if not isinstance(responses, Mapping):
            return None
        good = next((key for key in responses if str(key).startswith("2")), "default")
        try:
            raw = self._document.resolve(responses.get(good))
            content = raw.get("content") if isinstance(raw, Mapping) else None
            for media_type, inner in content.items() if isinstance(content, Mapping) else ():
                if is_json(str(media_type)) and isinstance(inner, Mapping) and "schema" in inner:
                    maker = SchemaMaker(self._document, is_input=False)
                    return {**maker.schema(inner["schema"]), "$defs": maker.definitions}
        except BadPart:
            return None  # the answer goes unchecked; what is sent is not touched by it
        return None


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON: ``application/json``, ``application/problem+json`` and the like."""
    name = media_type.partition(";")[0].strip().lower()
    return name in ("application/json", "text/json") or (name.startswith("application/") and name.endswith("+json"))
