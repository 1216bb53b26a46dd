"""The OpenAPI 3.1 document, made of the table of addresses and the structs that request bodies are decoded into.

`server/app.py` serves it at ``GET /openapi.json``. Pure; made once. The invariant: it says nothing that is not in
`OPERATIONS` or in a struct.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from roadbed import __version__
from roadbed.server.openapi import OPERATIONS
from roadbed.server.operations import ANYONE, Operation
from roadbed.server.request_schemas import ANTHROPIC_ERROR, OPENAI_ERROR, PROBLEM

_REFERENCE = "#/components/schemas/{name}"
_TEXT: Final[dict[str, Any]] = {"type": "string"}


def request_structs() -> list[type[msgspec.Struct]]:
    """Every struct that a request body is decoded into."""
    found = (operation.request for operation in OPERATIONS)
    return list(dict.fromkeys(request for request in found if isinstance(request, type)))


def build_openapi() -> dict[str, Any]:
    """The whole document."""
    structs = request_structs()
    refs, components = msgspec.json.schema_components(structs, ref_template=_REFERENCE)
    schemas = dict(zip(structs, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Roadbed",
            "version": __version__,
            "description": "/v1 speaks OpenAI's dialects and Anthropic's, /api is Roadbed's own. "
            "Errors: docs/reference/errors.md.",
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {
                **components,
                "Problem": PROBLEM,
                "OpenAIError": OPENAI_ERROR,
                "AnthropicError": ANTHROPIC_ERROR,
            },
        },
    }


@cache
def openapi_json() -> bytes:
    """The document as it is served; made once."""
    return msgspec.json.encode(build_openapi())


def _operation(operation: Operation, schemas: Mapping[type[msgspec.Struct], dict[str, Any]]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in operation.path_parameters
    ]
    parameters += [
        {
            "name": query.name,
            "in": "query",
            "required": query.is_required,
            "description": query.description,
            "schema": {"type": query.type},
        }
        for query in operation.query
    ]
    if operation.role != ANYONE:
        parameters.append(
            {
                "name": "x-roadbed-deadline-ms",
                "in": "header",
                "required": False,
                "description": "longest time for the answer, milliseconds",
                "schema": {"type": "integer", "minimum": 50},
            }
        )
    body: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": f"Role: {operation.role}.",
        "parameters": parameters,
        "responses": {str(operation.status): _answer(operation), "default": _failure(operation)},
    }
    if operation.idle_status is not None:
        body["responses"][str(operation.idle_status)] = _answer(operation)
    if operation.role == ANYONE:
        body["security"] = []
    if operation.request is not None:
        schema = schemas[operation.request] if isinstance(operation.request, type) else dict(operation.request)
        content: dict[str, Any] = {"application/json": {"schema": schema}}
        if operation.takes_files:
            content["multipart/form-data"] = {"schema": {"type": "object"}}
        body["requestBody"] = {"required": True, "content": content}
    return body


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.status == 204:
        return {"description": operation.answer}
    schema: dict[str, Any] = {} if operation.media_type == "application/json" else _TEXT
    return {"description": operation.answer, "content": {operation.media_type: {"schema": schema}}}


def _failure(operation: Operation) -> dict[str, Any]:
    name = operation.error_schema
    media_type = "application/problem+json" if name == "Problem" else "application/json"
    content = {media_type: {"schema": {"$ref": _REFERENCE.format(name=name)}}}
    return {"description": "an error", "content": content}
