"""`Operation` and `Query`: one address and its parameters, as ``openapi.py`` and the reference page describe them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from roadbed.server.http import MESSAGES, dialect_of

ANYONE: Final = "anyone"


@dataclass(frozen=True, slots=True)
class Query:
    """One parameter of the query string."""

    name: str
    description: str
    type: str = "string"
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one address. ``request`` is a struct, or a JSON Schema; ``answer`` says the shape in words. What
    does nothing (a dry run) may be answered with another status, ``idle_status``.
    """

    method: str
    path: str
    role: str
    tag: str
    summary: str
    answer: str
    request: type[msgspec.Struct] | Mapping[str, Any] | None = None
    query: tuple[Query, ...] = ()
    status: int = 200
    idle_status: int | None = None
    media_type: str = "application/json"
    takes_files: bool = False

    @property
    def id(self) -> str:
        """A name for generated clients: ``get_api_documents_id_text``."""
        words = self.path.replace("{", "").replace("}", "").replace("-", "_").replace(".", "_").strip("/")
        return f"{self.method.lower()}_{words.replace('/', '_')}"

    @property
    def error_schema(self) -> str:
        """The name of the schema that its errors have."""
        dialect = dialect_of(self.path)
        return "Problem" if dialect is None else "AnthropicError" if dialect is MESSAGES else "OpenAIError"

    @property
    def path_parameters(self) -> list[str]:
        """The names between braces."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]
