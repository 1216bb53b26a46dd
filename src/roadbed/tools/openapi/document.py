"""An OpenAPI document: read from a file of the workspace, its local references followed, nothing ever fetched.

OpenAPI 3.0 and 3.1 (JSON or YAML). What stands in it decides neither address nor credentials: ``servers`` is not looked
at. The invariant: `OpenApiDocument.resolve` ends for every document, and returns something of this document alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from roadbed.kernel.config import FILE_BYTES_MAX, parse_yaml
from roadbed.kernel.errors import ConfigError

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
REFERENCES_MAX = 20
DEPTH_MAX = 200

Version = Literal["3.0", "3.1"]


class BadPart(Exception):
    """Something in the document that cannot be used; the operation that needs it is left out and named."""


class OpenApiDocument:
    """A parsed document. Make it by `read_document` or `parse_document`."""

    def __init__(self, root: Mapping[str, Any], version: Version) -> None:
        self.root = root
        self.version = version

    def resolve(self, part: Any) -> Any:
        """What a part is, references followed. Raises `BadPart`."""
        for _ in range(REFERENCES_MAX):
            if not isinstance(part, Mapping) or "$ref" not in part:
                return part
            part = self.at(part["$ref"])
        raise BadPart("references lead to each other")

    def at(self, reference: Any) -> Any:
        """What a local reference such as ``#/components/schemas/Pet`` names. Raises `BadPart`."""
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise BadPart("it refers to another document")
        found: Any = self.root
        for raw in reference[2:].split("/"):
            key = unquote(raw).replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdigit() and len(key) < 9 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise BadPart(f"the reference {reference[:100]} leads nowhere")
        return found

    def operations(self) -> Iterator[tuple[str, str, Mapping[str, Any], Mapping[str, Any]]]:
        """(path, method, path item, operation) of each operation in the document."""
        paths = self.root.get("paths")
        for path, raw in paths.items() if isinstance(paths, Mapping) else ():
            try:
                item = self.resolve(raw)
            except BadPart:
                continue
            if not isinstance(item, Mapping):
                continue
            for method in METHODS:
                if isinstance(operation := item.get(method), Mapping):
                    yield str(path), method, item, operation


def read_document(path: Path, *, shown_as: str) -> OpenApiDocument:
    """Read a document of the workspace. Raises `ConfigError`."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"the document is over {FILE_BYTES_MAX} bytes", file=shown_as)
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConfigError("the document is not UTF-8 text", file=shown_as) from None
    except OSError as error:
        raise ConfigError(f"the document cannot be read: {error.strerror}", file=shown_as) from None
    return parse_document(text, shown_as=shown_as)


def parse_document(text: str, *, shown_as: str = "openapi.yaml") -> OpenApiDocument:
    """Parse a document. Raises `ConfigError` when it is no OpenAPI 3.0 or 3.1."""
    if text.lstrip().startswith("{"):
        try:
            root = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError):
            raise ConfigError("the document is not valid JSON", file=shown_as) from None
    else:
        root = parse_yaml(text, file=shown_as).value
    written = str(root.get("openapi", "")) if isinstance(root, Mapping) else ""
    versions: tuple[Version, ...] = ("3.0", "3.1")
    for version in versions:
        if written == version or written.startswith(f"{version}."):
            return OpenApiDocument(root, version)
    raise ConfigError("the document is no OpenAPI 3.0 or 3.1", hint="it begins with openapi: 3.1.0", file=shown_as)
